"""A list of addresses."""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import quote

from fanfold.job import UNKNOWN, Item
from fanfold.source.bucket import fetch, fetch_range, version_of
from fanfold.source.folder import local_item, read_file, read_range
from fanfold.source.names import as_name, as_text
from fanfold.source.objects import Objects, read_url
from fanfold.source.protocol import Changed
from fanfold.storage import SCHEMES, errors_of, is_url, is_web, looking_ahead, os_errors, page_of, path_of, split_url

if TYPE_CHECKING:
    from fanfold.source.web import Web

_MARK = b"\xef\xbb\xbf"  # the byte order mark, at the start of texts from Windows
_AHEAD = 1024
"""Addresses to look up before they are needed, so that a dead server holds up only its own."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+(?=://)|data(?=:)", re.IGNORECASE)


def _web() -> "Web":
    from fanfold.source.web import Web  # late: the import takes a tenth of a second, and most commands read no list

    return Web()


@dataclass
class Listed:
    """Addresses listed in a text file, one per line: paths (relative to the file's folder) or URLs."""

    file: str
    only: str = ""
    """A single web address instead of a list file, because servers cannot list their pages."""
    root: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 16
    web: "Web" = field(default_factory=_web)
    _buckets: dict[str, Objects] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def addresses(self) -> "list[str]":
        return [self.only or self.file]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - asked for by name, so never left out
        # Addresses are looked up in parallel (a URL takes a round trip); items keep the file's order.
        yield from looking_ahead(self._item, self._addresses(), self.parallel_reads, _AHEAD)

    def _addresses(self) -> Iterator[str]:
        if self.only:
            yield self.only
            return
        address_of = self._remote if is_url(self.file) else self._local
        seen: set[bytes] = set()  # digests: of millions of addresses, a fraction of them
        for line in self._lines():
            if not (address := address_of(line)):
                continue
            digest = blake2b(os.fsencode(address), digest_size=16).digest()
            if digest in seen:
                self.left_out["listed twice"] += 1
                continue
            seen.add(digest)
            yield address

    def _lines(self) -> Iterator[str]:
        """The lines that are not empty. A list at a URL is read as a whole."""
        remote = is_url(self.file)
        with errors_of(self.file), BytesIO(read_url(self.file)) if remote else open(self.file, "rb") as file:  # noqa: PTH123
            for number, line in enumerate(file):
                if text := os.fsdecode(line if number else line.removeprefix(_MARK)).strip():
                    yield text

    def _local(self, line: str) -> str:
        """The address on a line of a local list; empty for a comment."""
        if address := _full(line) or path_of(line):
            return address
        path = os.path.normpath(os.path.join(os.path.dirname(self.file), line))  # noqa: PTH118, PTH120
        if line.startswith("#"):
            return path if _is_file(path) else ""
        scheme = scheme_of(line)
        return line if scheme and not (scheme == "data" and _is_file(path)) else path

    def _remote(self, line: str) -> str:
        """The address on a line of a list at a URL; empty for a comment."""
        if line.startswith("#"):
            return ""
        if address := _full(line) or (line if scheme_of(line) else ""):
            return address
        return beside(self.file, line) if is_web(self.file) else f"{self.file.rpartition('/')[0]}/{line}"

    def _item(self, address: str) -> Item:
        """The item at `address`. One that is out of reach is an item, too: its row stays, or reading it fails."""
        try:
            return self._look(address)
        except (OSError, ValueError):  # ValueError: a NUL in a path, as in a list that is UTF-16
            return Item(as_text(address), 0, UNKNOWN, as_text(address))

    def _look(self, address: str) -> Item:
        if is_web(address):
            page = self.web.look(address)
            return Item(address, page["size"], page["version"], address)
        if is_url(address):
            with os_errors(address):
                objects, key = self._object(address)
                meta = objects.head(key)
            return Item(address, meta["size"], version_of(meta), address)
        _check_scheme(address)
        return local_item(as_text(address), os.stat(address))  # noqa: PTH116

    def _object(self, url: str) -> tuple[Objects, str]:
        bucket, key = split_url(url)
        with self._lock:
            return self._buckets.setdefault(bucket, Objects(bucket)), key

    def read(self, item: Item, limit: int) -> bytes:
        if is_web(item.path):
            return self._page(item, limit)
        with os_errors(item.path):
            if is_url(item.path):
                return fetch(*self._object(item.path), item, limit)
            _check_scheme(item.path)
            return read_file(as_name(item.path), item, limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        if item.version == UNKNOWN:
            raise Changed("it was out of reach when it was listed; run again")
        if is_web(item.path):
            return self.web.read_at(item.path, offset, length, item.size, item.version)
        with os_errors(item.path):
            if is_url(item.path):
                return fetch_range(*self._object(item.path), item, offset, length)
            _check_scheme(item.path)
            return read_range(as_name(item.path), item, offset, length)

    def _page(self, item: Item, limit: int) -> bytes:
        """A page as it is now. If it has changed since it was listed, the next run sees another version."""
        if item.version == UNKNOWN:  # the listing has tried several times; one more gives the reason
            replace(self.web, tries=1).read(item.path, limit)
            raise Changed("it was out of reach when it was listed, and can be read now; run again")
        return self.web.read(item.path, limit)

    def uri(self, item: Item) -> str:
        is_path = not is_url(item.path) and not scheme_of(item.path)
        return "file://" + quote(os.fsencode(as_name(item.path))) if is_path else item.path

    def within(self, root: str) -> "Listed | None":
        return None if root else self


def beside(page: str, line: str) -> str:
    """The address of `line` relative to a page. Not by urljoin, which drops empty parts and takes `a:b` for a URL."""
    if line.startswith("//"):
        return page_of(f"{page.partition(':')[0]}:{line}")
    if line.startswith("/"):
        return page_of(split_url(page)[0] + line)
    return page_of(f"{page.partition('?')[0].rpartition('/')[0]}/{line}")


def _full(line: str) -> str:
    """The line, if it is a full address; empty for a path."""
    return page_of(line) if is_web(line) else line if is_url(line) else ""


def scheme_of(address: str) -> str:
    """The scheme of an address, `data:` included; empty for paths."""
    found = _SCHEME.match(address)
    return found[0].lower() if found else ""


def _check_scheme(address: str) -> None:
    """Raise OSError for an address whose scheme cannot be read here."""
    if scheme := scheme_of(address):
        known = ", ".join(f"{name}://" for name in SCHEMES)
        if scheme == "file":
            raise OSError("file:// addresses work only in a list on this machine")
        raise OSError(f"cannot read {scheme}: addresses; a list may have paths, file://, {known}")


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)  # noqa: PTH113
    except ValueError:  # a NUL
        return False
