"""A folder of this machine."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from urllib.parse import quote

from fanfold.job import Item
from fanfold.source.names import as_name, as_text
from fanfold.source.protocol import Changed, in_range, suffix_of, too_large
from fanfold.storage import errors_of, is_url, join

UNREADABLE, VANISHED, UNSUPPORTED = "unreadable folder", "vanished while listing", "unsupported reparse tag"
"""Reasons for leaving out items that may be there: those of a folder, and single ones."""


@dataclass
class Folder:
    """A folder of this machine, or one file of it (`below` then names the file)."""

    root: str
    below: str = ""
    skip: str = ""
    """A folder to leave out: the database, if it is inside the source."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 4

    @property
    def addresses(self) -> "list[str]":
        return [join(self.root, self.below)]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        start = os.path.join(self.root, self.below)  # noqa: PTH118 - Path cannot hold names that are not text
        if not os.path.isdir(start):  # noqa: PTH112
            with errors_of(start):  # it may be in a folder that cannot be entered
                only = self._stat(self.below)
            yield only
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
                self.left_out[UNREADABLE] += 1
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
            if suffixes and suffix_of(entry.name) in suffixes:
                self.left_out["folder named like a file"] += 1  # its content is listed all the same
            yield path

    def _stat(self, path: str) -> Item:
        return local_item(as_text(path), os.stat(os.path.join(self.root, path)))  # noqa: PTH116, PTH118

    def read(self, item: Item, limit: int) -> bytes:
        return read_file(self._path(item), item, limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        return read_range(self._path(item), item, offset, length)

    def uri(self, item: Item) -> str:
        return "file://" + quote(os.fsencode(self._path(item)))

    def _path(self, item: Item) -> str:
        return os.path.join(self.root, as_name(item.path))  # noqa: PTH118

    def within(self, root: str) -> "Folder | None":
        here = os.path.join(self.root, self.below) if self.below else self.root  # noqa: PTH118
        if not root or is_url(root) or not Path(here).is_relative_to(root):
            return None
        below = os.path.relpath(here, root)
        return Folder(root, "" if below == "." else below, self.skip)


def _look(entry: "os.DirEntry[str]", path: str, suffixes: frozenset[str]) -> Item | str:
    """The item for an entry, or the reason for leaving it out."""
    if entry.name.startswith("."):
        return "hidden"
    other = bool(suffixes) and suffix_of(entry.name) not in suffixes
    if other and not entry.is_symlink():
        return "other type"
    try:
        info = entry.stat()  # follows links
    except OSError:
        return _broken(entry.path) if entry.is_symlink() else VANISHED
    if stat.S_ISDIR(info.st_mode):
        return "link to a folder"
    if other:
        return "other type"
    if not stat.S_ISREG(info.st_mode):
        return "not a file"
    return local_item(as_text(path), info) if info.st_size else "empty"


def _broken(path: str) -> str:
    """Why a link leads nowhere. NTFS-3G shows files that it cannot read as links: those that CompactOS has packed."""
    with suppress(OSError):
        return UNSUPPORTED if Path(path).readlink().name.startswith(UNSUPPORTED) else "broken link"
    return VANISHED


def local_item(path: str, info: os.stat_result) -> Item:
    return Item(path, info.st_size, f"{info.st_mtime_ns:x}-{info.st_size:x}", path)


def read_file(path: str, item: Item, limit: int) -> bytes:
    if item.size > limit:
        raise too_large(item.size, limit)
    with _opened(path) as file:
        data = file.read(item.size + 1)  # one byte more than listed shows that it grew
    if len(data) != item.size:
        raise Changed(f"changed since it was listed ({item.size} bytes then); run again")
    return data


def read_range(path: str, item: Item, offset: int, length: int) -> bytes:
    """The part of a file that begins at `offset`; shorter than `length` at the file's end only."""
    left = in_range(item.size, offset, length)
    parts: list[bytes] = []
    with _opened(path) as file:
        while left and (part := os.pread(file.fileno(), left, offset)):  # 2 GiB at a time at most
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        # After the reading: what is written meanwhile changes the time of the file.
        if left or local_item(item.path, os.fstat(file.fileno())).version != item.version:
            raise Changed
    return b"".join(parts)


@contextmanager
def _opened(path: str) -> Iterator[FileIO]:
    """A file of this machine, open. Raises OSError, also for what is not a file."""
    with FileIO(path, opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would be waited for until someone writes to it
