"""A prefix of an object store."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from obstore.store import ObjectStore

from fanfold.errors import StorageError
from fanfold.job import Item
from fanfold.source.protocol import Changed, suffix_of, too_large
from fanfold.storage import errors_of, is_url, join, open_store, os_errors


@dataclass
class Bucket:
    """A prefix of an object store, or one object of it (`below` then names the object)."""

    root: str
    below: str = ""
    skip: str = ""
    """A prefix to pass over: the database, when it lies inside the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 32
    _store: ObjectStore | None = None

    @property
    def addresses(self) -> "list[str]":
        return [join(self.root, self.below)]

    @property
    def store(self) -> ObjectStore:
        if self._store is None:
            self._store = open_store(self.root)
        return self._store

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        found = False
        with errors_of(self.root):
            for chunk in self.store.list(self.below or None, chunk_size=1000):
                found = True
                for meta in chunk:
                    if item := self._item(meta, suffixes):
                        yield item
        if not found:
            yield self._single()

    def _single(self) -> Item:
        """Nothing is below this name: it may be the name of one object."""
        if not self.below:
            raise StorageError(f"There is nothing at {self.root}/.")
        with errors_of(f"{self.root}/{self.below}"):
            return _stored_item(self.store.head(self.below))

    def _item(self, meta: Any, suffixes: frozenset[str]) -> Item | None:
        path: str = meta["path"]
        name = path.rpartition("/")[2]
        if self.skip and f"{self.root}/{path}".startswith(f"{self.skip}/"):
            self.left_out["the database"] = 1
        elif any(part.startswith(".") for part in path.removeprefix(self.below).split("/")):
            self.left_out["hidden"] += 1
        elif suffixes and suffix_of(name) not in suffixes:
            self.left_out["other type"] += 1
        elif not meta["size"]:
            self.left_out["empty"] += 1
        else:
            return _stored_item(meta)
        return None

    def read(self, item: Item, limit: int) -> bytes:
        with os_errors(self.uri(item)):
            return fetch(self.store, item.path, item, limit)

    def uri(self, item: Item) -> str:
        return f"{self.root}/{item.path}"

    def within(self, root: str) -> "Bucket | None":
        here = f"{self.root}/{self.below}".rstrip("/")
        if not is_url(root) or not (here + "/").startswith(root + "/"):
            return None
        return Bucket(root, here.removeprefix(root).strip("/"), self.skip)


def _stored_item(meta: Any) -> Item:
    return Item(meta["path"], meta["size"], version_of(meta), meta["path"])


def version_of(meta: Any) -> str:
    tag = (meta["e_tag"] or "").strip('"')
    return tag or f"{meta['last_modified'].isoformat()}-{meta['size']:x}"


def fetch(store: ObjectStore, path: str, item: Item, limit: int) -> bytes:
    if item.size > limit:
        raise too_large(item.size, limit)
    answer = store.get(path)
    if answer.meta["size"] > limit:
        raise too_large(answer.meta["size"], limit)
    if version_of(answer.meta) != item.version:
        raise Changed("changed since it was listed; run again")
    return bytes(answer.bytes())
