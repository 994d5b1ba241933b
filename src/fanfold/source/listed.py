"""A list of addresses."""

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from typing import Any
from urllib.parse import quote

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from fanfold.job import UNKNOWN, Item
from fanfold.source.bucket import fetch, version_of
from fanfold.source.folder import local_item, read_file
from fanfold.source.names import as_name, as_text
from fanfold.storage import errors_of, is_url, open_url, os_errors, read_url, side_by_side, split_url

_MARK = b"\xef\xbb\xbf"  # with which Windows begins texts


@dataclass
class Listed:
    """Addresses listed in a text file, one a line: paths (relative to the file's folder) or URLs."""

    file: str
    only: str = ""
    """A web address that is its own list: servers cannot be asked what else they have."""
    root: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 16
    _stores: dict[str, ObjectStore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def addresses(self) -> "list[str]":
        return [self.only or self.file]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - asked for by name, so never left out
        # Addresses are looked up side by side (a URL takes a round trip) and given in the file's order.
        addresses = self._addresses()
        while some := list_of(islice(addresses, 256)):
            yield from side_by_side(self._item, some, self.parallel_reads)

    def _addresses(self) -> Iterator[str]:
        if self.only:
            yield self.only
            return
        remote = is_url(self.file)
        folder = self.file.rpartition("/")[0]
        seen: set[bytes] = set()  # digests: of millions of addresses, a fraction of them
        for line in self._lines(remote):
            address = line if is_url(line) else f"{folder}/{line}" if remote else _below(folder, line)
            digest = blake2b(os.fsencode(address), digest_size=16).digest()
            if digest in seen:
                self.left_out["listed twice"] += 1
                continue
            seen.add(digest)
            yield address

    def _lines(self, remote: bool) -> Iterator[str]:
        """The lines that are not empty and no comment, read as they are wanted."""
        with errors_of(self.file), BytesIO(read_url(self.file)) if remote else open(self.file, "rb") as file:  # noqa: PTH123
            for number, line in enumerate(file):
                text = os.fsdecode(line if number else line.removeprefix(_MARK)).strip()
                if text and not text.startswith("#"):
                    yield text

    def _item(self, address: str) -> Item:
        """What is at `address`. What cannot be looked at is an item, too: a row that it has stays, or it will fail."""
        try:
            if not is_url(address):
                return local_item(as_text(address), os.stat(address))  # noqa: PTH116
            with os_errors(address):
                store, path = self._open(address)
                meta = _meta(store, path)
            return Item(address, meta["size"], version_of(meta), address)
        except (OSError, ValueError):  # ValueError: a NUL in a path, as in a list that is UTF-16
            return Item(as_text(address), 0, UNKNOWN, as_text(address))

    def _open(self, url: str) -> tuple[ObjectStore, str]:
        base, path = split_url(url)
        if not path:
            return open_url(base), path  # a store of its own, not worth keeping
        with self._lock:
            if base not in self._stores:
                self._stores[base] = open_url(base)
            return self._stores[base], path

    def read(self, item: Item, limit: int) -> bytes:
        if not is_url(item.path):
            with os_errors(item.path):
                return read_file(as_name(item.path), item, limit)
        with os_errors(item.path):
            store, path = self._open(item.path)
            return fetch(store, path, item, limit)

    def uri(self, item: Item) -> str:
        return item.path if is_url(item.path) else "file://" + quote(os.fsencode(as_name(item.path)))

    def within(self, root: str) -> "Listed | None":
        return None if root else self


def _below(folder: str, line: str) -> str:
    return os.path.normpath(os.path.join(folder, line))  # noqa: PTH118


def list_of(some: Iterable[str]) -> "list[str]":
    """`list(some)`, for classes whose own method is called `list`."""
    return [*some]


def _meta(store: ObjectStore, path: str) -> Any:
    """What is known of an object without its content. Some web servers answer that only when asked for both."""
    try:
        return store.head(path)
    except FileNotFoundError:
        raise
    except BaseError:
        return store.get(path).meta
