"""Collections: where items come from. A source lists items, reads one, and says what it left out and why.

    photos/                    a folder, walked                    key: the path below the folder
    photos/cat.jpg             one file                            key: its name
    s3://bucket/photos         an object store's prefix            key: the path below the prefix
    pictures.txt               a list, one path or URL a line      key: the line
    [s3://b/cats, s3://b/dogs] several of them                     key: the path below what they share

A key must be unique in its table, so a table remembers the root its keys are relative to. A source below
that root keeps the root (its keys gain a prefix); any other source is refused (see `within`).
"""

import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol
from urllib.parse import quote

from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from fanfold.errors import StorageError, UsageError
from fanfold.job import Item
from fanfold.storage import (
    absolute,
    errors_of,
    is_url,
    join,
    open_store,
    open_url,
    os_errors,
    read_url,
    side_by_side,
    split_url,
)

Ids = Literal["key", "stem"]

LISTS = frozenset({".txt", ".list", ".lst"})
"""Endings of files that list items rather than being one."""


class TooLarge(OSError):
    """The item is larger than the job cares to read."""


class Changed(OSError):
    """The item is not what was listed any more; the next run lists it anew."""


class Source(Protocol):
    """A collection that can be listed, and read item by item."""

    root: str
    """What keys are relative to: an absolute path or a URL; empty when keys are whole addresses."""
    left_out: Counter[str]
    """What listing passed over, by reason. Complete once the listing is."""
    parallel_reads: int

    @property
    def addresses(self) -> "list[str]":
        """What `open_source` needs to open it again."""
        ...

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        """Yield the items whose name ends in one of `suffixes` (all, if empty), as they are found."""
        ...

    def read(self, item: Item, limit: int) -> bytes: ...

    def uri(self, item: Item) -> str: ...

    def within(self, root: str) -> "Source | None":
        """The same items with keys relative to `root`, or None if they are not all inside it."""
        ...


@dataclass
class Folder:
    """A folder of this machine, or one file of it (`below` then names the file)."""

    root: str
    below: str = ""
    skip: str = ""
    """A folder not to walk into: the database, when it lies inside the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 4

    @property
    def addresses(self) -> "list[str]":
        return [join(self.root, self.below)]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        start = os.path.join(self.root, self.below)  # noqa: PTH118 - names may be no text; Path is no help
        if not os.path.isdir(start):  # noqa: PTH112
            yield self._stat(self.below)
            return
        with errors_of(start):
            os.scandir(start).close()
        # Streamed, in the file system's order: a folder of a million files gives its first items at once.
        pending = [self.below]
        while pending:
            below = pending.pop()
            try:
                entries = os.scandir(os.path.join(self.root, below))  # noqa: PTH118
            except OSError:
                self.left_out["unreadable folder"] += 1
                continue
            with entries:
                for entry in entries:
                    path = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        pending.extend(self._enter(entry, path, suffixes))
                    elif isinstance(found := _look(entry, path, suffixes), Item):
                        yield found
                    else:
                        self.left_out[found] += 1

    def _enter(self, entry: "os.DirEntry[str]", path: str, suffixes: frozenset[str]) -> Iterator[str]:
        if entry.path == self.skip:
            self.left_out["the database"] += 1
        elif entry.name.startswith("."):
            self.left_out["hidden"] += 1
        else:
            if suffixes and _suffix(entry.name) in suffixes:
                self.left_out["folder named like a file"] += 1  # its content is listed all the same
            yield path

    def _stat(self, path: str) -> Item:
        return _local_item(_as_text(path), os.stat(os.path.join(self.root, path)))  # noqa: PTH116, PTH118

    def read(self, item: Item, limit: int) -> bytes:
        return _read_file(os.path.join(self.root, _as_name(item.path)), item, limit)  # noqa: PTH118

    def uri(self, item: Item) -> str:
        return "file://" + quote(os.fsencode(os.path.join(self.root, _as_name(item.path))))  # noqa: PTH118

    def within(self, root: str) -> "Folder | None":
        here = os.path.join(self.root, self.below) if self.below else self.root  # noqa: PTH118
        if not root or is_url(root) or not Path(here).is_relative_to(root):
            return None
        below = os.path.relpath(here, root)
        return Folder(root, "" if below == "." else below, self.skip)


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
        elif name.startswith("."):
            self.left_out["hidden"] += 1
        elif suffixes and _suffix(name) not in suffixes:
            self.left_out["other type"] += 1
        elif not meta["size"]:
            self.left_out["empty"] += 1
        else:
            return _stored_item(meta)
        return None

    def read(self, item: Item, limit: int) -> bytes:
        with os_errors(self.uri(item)):
            return _fetch(self.store, item.path, item, limit)

    def uri(self, item: Item) -> str:
        return f"{self.root}/{item.path}"

    def within(self, root: str) -> "Bucket | None":
        here = f"{self.root}/{self.below}".rstrip("/")
        if not is_url(root) or not (here + "/").startswith(root + "/"):
            return None
        return Bucket(root, here.removeprefix(root).strip("/"), self.skip)


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
        with errors_of(self.file):
            text = read_url(self.file) if remote else Path(self.file).read_bytes()
        folder = self.file.rpartition("/")[0]
        seen: set[str] = set()
        for line in os.fsdecode(text.removeprefix(b"\xef\xbb\xbf")).split("\n"):  # Windows begins with a mark
            if not (line := line.strip()) or line.startswith("#"):
                continue
            address = line if is_url(line) else f"{folder}/{line}" if remote else _below(folder, line)
            if address in seen:
                self.left_out["listed twice"] += 1
                continue
            seen.add(address)
            yield address

    def _item(self, address: str) -> Item:
        """What is at `address`. What cannot be found is an item all the same, and will fail when read."""
        try:
            if not is_url(address):
                return _local_item(_as_text(address), os.stat(address))  # noqa: PTH116
            with os_errors(address):
                store, path = self._open(address)
                meta = _meta(store, path)
            return Item(address, meta["size"], _version(meta), address)
        except (OSError, ValueError):  # ValueError: a NUL in a path, as in a list that is UTF-16
            return Item(_as_text(address), 0, "not found", _as_text(address))

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
                return _read_file(_as_name(item.path), item, limit)
        with os_errors(item.path):
            store, path = self._open(item.path)
            return _fetch(store, path, item, limit)

    def uri(self, item: Item) -> str:
        return item.path if is_url(item.path) else "file://" + quote(os.fsencode(_as_name(item.path)))

    def within(self, root: str) -> "Listed | None":
        return None if root else self


@dataclass
class Several:
    """Several folders, or prefixes of one bucket, as one source."""

    root: str
    parts: "list[Source]"
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 0

    @classmethod
    def of(cls, sources: "list[Source]") -> "Source":
        """One source of them all; what lies inside another is listed once.

        Raises UsageError where keys would collide: for lists of addresses, and for buckets that differ.
        """
        if not sources:
            raise UsageError("There is no source.")
        if len(sources) == 1:
            return sources[0]
        root = _shared(sources)
        parts = [part for source in sources if (part := source.within(root))]
        if not root or len(parts) < len(sources):
            told = ", ".join(address for source in sources for address in source.addresses)
            raise UsageError(f"{told}: only folders of this machine, or prefixes of one bucket, can be one source.")
        return cls(root, _outermost(parts))

    def __post_init__(self) -> None:
        self.parallel_reads = self.parts[0].parallel_reads
        for part in self.parts:
            part.left_out = self.left_out

    @property
    def addresses(self) -> "list[str]":
        return [address for part in self.parts for address in part.addresses]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        for part in self.parts:
            yield from part.list(suffixes)

    def read(self, item: Item, limit: int) -> bytes:
        return self.parts[0].read(item, limit)

    def uri(self, item: Item) -> str:
        return self.parts[0].uri(item)

    def within(self, root: str) -> "Source | None":
        parts = [part.within(root) for part in self.parts]
        return None if None in parts else Several(root, [part for part in parts if part])


def _shared(sources: "list[Source]") -> str:
    """What several sources have in common: a folder, or a bucket; nothing if there is no such thing."""
    roots = {source.root for source in sources}
    if any(map(is_url, roots)) or "" in roots:
        buckets = {split_url(root)[0] if is_url(root) else "" for root in roots}
        return buckets.pop() if len(buckets) == 1 else ""
    return os.path.commonpath(roots)


def _outermost(parts: "list[Source]") -> "list[Source]":
    """The sources that lie in no other one of them, each once."""
    kept: list[Source] = []
    for part in sorted(parts, key=lambda part: len(part.addresses[0])):
        if not any(f"{part.addresses[0]}/".startswith(f"{other.addresses[0]}/") for other in kept):
            kept.append(part)
    return kept


def _below(folder: str, line: str) -> str:
    return os.path.normpath(os.path.join(folder, line))  # noqa: PTH118


def list_of(some: Iterable[str]) -> "list[str]":
    """`list(some)`, for classes whose own method is called `list`."""
    return [*some]


def open_source(address: str) -> Source:
    """The collection at `address`: a folder, a file, a list of addresses, or a URL.

    Raises UsageError when there is nothing there.
    """
    where = absolute(address)
    suffix = _suffix(where.rsplit("/", 1)[-1])
    if suffix in LISTS and (is_url(where) or Path(where).is_file()):
        return Listed(where)
    if is_url(where):
        scheme, _, rest = where.partition("://")
        if scheme.startswith("http") and "/" not in rest:
            raise UsageError(f"{where} cannot be listed. Name one file, or a .txt list of addresses.")
        if scheme.startswith("http"):
            return Listed("", only=where)
        if suffix and "/" in rest:
            folder, _, name = where.rpartition("/")
            return Bucket(folder, name)
        return Bucket(where)
    if not Path(where).exists():
        raise UsageError(f"There is no file or folder {address}.")
    return Folder(where) if Path(where).is_dir() else Folder(str(Path(where).parent), Path(where).name)


def reader(root: str) -> Source:
    """A source that can read items listed elsewhere, given the root their paths are relative to."""
    if not root:
        return Listed("")
    return Bucket(root) if is_url(root) else Folder(root)


def by_stem(items: Iterable[Item]) -> Iterator[Item]:
    """Give every item its file name without folder and ending as key, as the article did.

    Lists everything first, since names that collide must be known before any work is done.
    Raises UsageError naming the colliding paths.
    """
    found: dict[str, Item] = {}
    collisions: dict[str, list[str]] = {}
    for item in items:
        stem = PurePosixPath(item.path).stem
        if stem in found:
            collisions.setdefault(stem, [found[stem].path]).append(item.path)
        else:
            found[stem] = Item(stem, item.size, item.version, item.path)
    if collisions:
        shown = "\n".join(f"  {stem}: {', '.join(paths[:4])}" for stem, paths in islice(collisions.items(), 10))
        raise UsageError(f"{len(collisions)} stems are shared by several items. Use --id key.\n{shown}")
    yield from found.values()


def _look(entry: "os.DirEntry[str]", path: str, suffixes: frozenset[str]) -> Item | str:
    """The item an entry is, or the reason for leaving it out."""
    if entry.name.startswith("."):
        return "hidden"
    other = bool(suffixes) and _suffix(entry.name) not in suffixes
    if other and not entry.is_symlink():
        return "other type"
    try:
        info = entry.stat()  # follows links
    except OSError:
        return "broken link" if entry.is_symlink() else "vanished while listing"
    if stat.S_ISDIR(info.st_mode):
        return "link to a folder"
    if other:
        return "other type"
    if not stat.S_ISREG(info.st_mode):
        return "not a file"
    return _local_item(_as_text(path), info) if info.st_size else "empty"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast as pathlib; listing is a hot path


def _local_item(path: str, info: os.stat_result) -> Item:
    return Item(path, info.st_size, f"{info.st_mtime_ns:x}-{info.st_size:x}", path)


def _stored_item(meta: Any) -> Item:
    return Item(meta["path"], meta["size"], _version(meta), meta["path"])


def _version(meta: Any) -> str:
    tag = (meta["e_tag"] or "").strip('"')
    return tag or f"{meta['last_modified'].isoformat()}-{meta['size']:x}"


def _read_file(path: str, item: Item, limit: int) -> bytes:
    if item.size > limit:
        raise _too_large(item.size, limit)
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        data = file.read(item.size + 1)  # one byte more than listed shows that it grew
    if len(data) != item.size:
        raise Changed(f"changed since it was listed ({item.size} bytes then); run again")
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would be waited for until someone writes to it


def _fetch(store: ObjectStore, path: str, item: Item, limit: int) -> bytes:
    if item.size > limit:
        raise _too_large(item.size, limit)
    answer = store.get(path)
    if answer.meta["size"] > limit:
        raise _too_large(answer.meta["size"], limit)
    if _version(answer.meta) != item.version:
        raise Changed("changed since it was listed; run again")
    return bytes(answer.bytes())


def _meta(store: ObjectStore, path: str) -> Any:
    """What is known of an object without its content. Some web servers answer that only when asked for both."""
    try:
        return store.head(path)
    except FileNotFoundError:
        raise
    except BaseError:
        return store.get(path).meta


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"{size:,} bytes, over the limit of {limit:,} bytes")


# Names on disk are bytes; keys are text. A byte that is no UTF-8 is written \xHH in the key. So that no two
# names share a key, a backslash before an x is itself written that way (\x5C).


def _as_text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.replace("\\x", "\\x5Cx")
        return re.sub("[\udc80-\udcff]", lambda m: f"\\x{ord(m[0]) - 0xDC00:02X}", name)
    return name.replace("\\x", "\\x5Cx") if "\\x" in name else name


def _as_name(path: str) -> str:
    if "\\x" not in path:
        return path
    return re.sub(r"\\x([0-9A-F]{2})", lambda m: os.fsdecode(bytes([int(m[1], 16)])), path)
