"""A prefix of an object store."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from obstore.exceptions import BaseError

from fanfold.errors import StorageError
from fanfold.job import Item
from fanfold.source.objects import Meta, Objects
from fanfold.source.protocol import Changed, in_range, suffix_of, too_large
from fanfold.storage import errors_of, is_url, os_errors, split_url

FOLDER = "named like a folder"
"""Reason for leaving out an object whose key ends in a slash."""


@dataclass
class Bucket:
    """A prefix of an object store, or one object of it (`below` then names the object).

    The key of an object is its root's, a slash, and its path, whatever slashes those have: `s3://b/p//x` is `/x` of
    the root `s3://b/p`, and `//x` of the root `s3://b`.
    """

    root: str
    below: str = ""
    skip: str = ""
    """A prefix to leave out: the database, if it is inside the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 32
    _objects: Objects | None = field(default=None, compare=False)

    @property
    def addresses(self) -> "list[str]":
        return [f"{self.root}/{self.below}" if self.below else self.root]

    @property
    def objects(self) -> Objects:
        if self._objects is None:
            self._objects = Objects(split_url(self.root)[0])
        return self._objects

    def _key(self, path: str) -> str:
        """The key in the bucket for a `path` below the root."""
        return split_url(f"{self.root}/{path}")[1]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        prefix, root = self._key(f"{self.below}/" if self.below else ""), len(self._key(""))
        has_marker = has_more = False
        with errors_of(self.root):
            for meta in self.objects.list(prefix):
                if meta["path"].rstrip("/") == prefix.rstrip("/"):  # as consoles make for a new folder
                    has_marker = True
                    self.left_out[FOLDER] += 1
                    continue
                has_more = True
                if item := self._item(meta["path"][root:], meta, suffixes):
                    yield item
        if not has_more:
            yield from self._single(has_marker)

    def _single(self, has_marker: bool) -> Iterator[Item]:
        """Nothing is below this name: it may be the name of one object."""
        if not self.below and not has_marker:
            raise StorageError(f"There is nothing at {self.root}/.")
        if self.below:
            with errors_of(f"{self.root}/{self.below}"):
                try:
                    yield _item_of(self.below, self.objects.head(self._key(self.below)))
                except FileNotFoundError:
                    if not has_marker:
                        raise

    def _item(self, path: str, meta: Meta, suffixes: frozenset[str]) -> Item | None:
        if self.skip and f"{self.root}/{path}".startswith(f"{self.skip}/"):
            self.left_out["the database"] = 1
        elif path.endswith("/"):
            self.left_out[FOLDER] += 1
        elif any(part.startswith(".") for part in path.removeprefix(self.below).split("/")):
            self.left_out["hidden"] += 1
        elif suffixes and suffix_of(path.rpartition("/")[2]) not in suffixes:
            self.left_out["other type"] += 1
        elif not meta["size"]:
            self.left_out["empty"] += 1
        else:
            return _item_of(path, meta)
        return None

    def read(self, item: Item, limit: int) -> bytes:
        with os_errors(self.uri(item)):
            return fetch(self.objects, self._key(item.path), item, limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        with os_errors(self.uri(item)):
            return fetch_range(self.objects, self._key(item.path), item, offset, length)

    def uri(self, item: Item) -> str:
        return f"{self.root}/{item.path}"

    def within(self, root: str) -> "Bucket | None":
        here = self.addresses[0]
        if not is_url(root) or not f"{here}/".startswith(f"{root}/"):
            return None
        return Bucket(root, here[len(root) + 1 :], self.skip)


def _item_of(path: str, meta: Meta) -> Item:
    return Item(path, meta["size"], version_of(meta), path)


def version_of(meta: Meta) -> str:
    tag = (meta["e_tag"] or "").strip('"')
    return tag or f"{meta['last_modified'].isoformat()}-{meta['size']:x}"


def fetch(objects: Objects, key: str, item: Item, limit: int) -> bytes:
    if item.size > limit:
        raise too_large(item.size, limit)
    answer = objects.get(key)
    if answer.meta["size"] > limit:
        raise too_large(answer.meta["size"], limit)
    _check(answer.meta, item)
    return answer.content()


def fetch_range(objects: Objects, key: str, item: Item, offset: int, length: int) -> bytes:
    """The part of an object that begins at `offset`; shorter than `length` at the object's end only."""
    if not (wanted := in_range(item.size, offset, length)):
        _check(objects.head(key), item)
        return b""
    try:
        answer = objects.get(key, (offset, offset + wanted))
    except (BaseError, OSError):  # perhaps since the object has become too short
        _check(objects.head(key), item)
        raise
    _check(answer.meta, item)  # this describes the very object that is read
    data = answer.content()
    if len(data) != wanted:
        raise Changed
    return data


def _check(meta: Meta, item: Item) -> None:
    if version_of(meta) != item.version:
        raise Changed
