r"""The event logs of an NTFS volume, those that were deleted included.

The master file table (MFT) has a record for every file that there is, and for many that there were. So it is read from
its start to its end, and each record that has a name ending in .evtx is a log. The content of a file is read by The
Sleuth Kit, which knows fragmented, sparse and compressed files.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import pytsk3

from fanfold.evidence.disk.library import asked
from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.mft import (
    ROOT,
    Name,
    Record,
    best_name,
    content_of,
    is_whole,
    record_of,
    record_size,
    without_fixups,
)

_STRIDE = 4 << 20
_LOG = re.compile(rb"\.\0[eE]\0[vV]\0[tT]\0[xX]\0")
_DEPTH = 256
_FILES = 8  # that are kept open
_PACKED = 16  # clusters that NTFS compresses as one
_CONTENTS = (pytsk3.TSK_FS_ATTR_TYPE_NTFS_DATA, pytsk3.TSK_FS_ATTR_TYPE_DEFAULT)  # the latter on FAT and exFAT
_STANDARD, _COMPRESSED = 0x10, 0x800
_REPARSE = 0xC0  # the attribute of a file whose content is elsewhere; it begins with the tag of what has it
_DEDUPLICATED = bytes.fromhex("13000080")
_ON_WINDOWS = "Attach the disk to a Windows machine, and scan the folder there."
_MIRRORED = 4  # records that $MFTMirr has, too


class FoundLog(NamedTuple):
    """An event log of a volume."""

    path: str
    """Below the volume's root, with forward slashes. What is lost of a deleted file's is `?`."""
    inode: int
    size: int
    is_deleted: bool
    unread: str = ""
    """What follows its name in a sentence, if its content cannot be read; see `FileSystem.why_unread`."""

    def key(self, volume: str) -> str:
        """What it is called in keys, after the volume. Of deleted ones, and of those without folders, several may lie
        in one place, so they are called by their numbers.
        """
        numbered = f"mft-{self.inode}/{self.path.rpartition('/')[2]}"
        if self.is_deleted:
            return f"{volume}!deleted/{numbered}"
        return f"{volume}/{numbered}" if self.path.startswith("?/") else f"{volume}/{self.path}"


class Extent(NamedTuple):
    """A part of a file that lies in one piece."""

    start: int
    """Bytes from the start of the file."""
    at: int
    """Bytes from the start of the disk."""
    length: int
    is_packed: bool
    """Whether it is compressed: `length` is then what it unpacks to, at least."""


class _Image(pytsk3.Img_Info):  # type: ignore[misc]
    """A medium for The Sleuth Kit."""

    def __init__(self, medium: Medium, copies: Mapping[int, bytes], missing: int = 0) -> None:
        """
        Args:
            medium: The bytes of a disk.
            copies: What is read at some places instead of what is there.
            missing: Bytes behind the end, which are read as zeros.
        """
        self.medium, self.copies, self.missing = medium, copies, missing
        self.failed: OSError | KeyboardInterrupt | None = None
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the medium. An error is kept, because The Sleuth Kit replaces it by its own."""
        try:
            data = self.medium.read_at(offset, size).ljust(min(size, max(0, self.get_size() - offset)), b"\0")
        except (OSError, KeyboardInterrupt) as error:
            self.failed = error
            raise
        for at, copy in self.copies.items():
            first, last = max(at, offset), min(at + len(copy), offset + len(data))
            if first < last:
                data = data[: first - offset] + copy[first - at : last - at] + data[last - offset :]
        return data

    def get_size(self) -> int:
        """Bytes."""
        return self.medium.size + self.missing


class FileSystem:
    """The file system of a volume."""

    def __init__(self, medium: Medium, start: int) -> None:
        """Raises Unreadable, and OSError if the medium cannot be read."""
        boot = medium.read_at(start, 512)
        self.record_size = record_size(boot)
        copies = _of_the_mirror(medium, start, boot, self.record_size)
        self.problems = ["the start of its file table is damaged; the copy of it ($MFTMirr) was used"] if copies else []
        """What is damaged and could be read all the same, in sentences."""
        self.image, self.start = _Image(medium, copies), start
        self.system = self._opened()
        info = self.system.info
        if missing := (info.last_block - info.last_block_act) * info.block_size:
            self.problems.append(f"its last {missing:,} bytes are not in the image, which was cut off")
            self.image = _Image(medium, copies, missing)  # files that lie there in part can be read then
            self.system = self._opened()
        self._file = lru_cache(_FILES)(self.system.open_meta)
        self._records: dict[int, Record | None] = {}
        self._candidates: dict[int, Record] = {}

    def _opened(self) -> Any:
        return self._asked(lambda: pytsk3.FS_Info(self.image, offset=self.start))

    @property
    def medium(self) -> Medium:
        """What it lies on."""
        return self.image.medium

    @property
    def has_damage(self) -> bool:
        """Whether anything of the medium was found damaged so far, or is missing at its end."""
        return self.medium.has_damage or self.image.missing > 0

    def is_damaged(self, offset: int, length: int) -> bool:
        """Whether something in these bytes of the medium, which were read, is damaged or missing."""
        return self.medium.is_damaged(offset, length) or offset + length > self.medium.size

    def logs(
        self, like: "FileSystem | None" = None, differing: Sequence[tuple[int, int]] = ()
    ) -> "Iterator[FoundLog | str]":
        """The event logs of an NTFS volume; in place of one that cannot be read, a sentence.

        Args:
            like: A file system whose logs were taken, and whose file table has the same bytes but for some.
            differing: Those bytes of the file table: the first and the last, for each range.

        Raises Unreadable if there is no file table, and OSError if the medium cannot be read.
        """
        for number, names in sorted(self._named_so(like, differing).items()):
            record = self._record(number)
            if not record or not (name := best_name(names)) or not name.text.lower().endswith(".evtx"):
                continue
            path = self._path(name)
            try:
                size = self.size_of(number)
            except Unreadable as error:
                yield f"{path} (number {number} of the file table) cannot be read: {error}"
                continue
            if not size and record.lacks_content:
                yield f"{path} (number {number} of the file table) is damaged: where it lies is not known."
            yield FoundLog(path, number, size, not record.is_used, self.why_unread(number))

    def find(self, path: str) -> int:
        """The number of a file by its path below the volume's root, whatever the case of its letters; 0 if none is."""
        try:
            return int(self._asked(lambda: self.system.open(f"/{path}")).info.meta.addr)
        except Unreadable:
            return 0

    def matching(self, pattern: str) -> Iterator[tuple[str, int]]:
        """The files whose paths are like a pattern, in which `*` stands for any text within a name; with their numbers.

        The case of letters does not matter. Files that were deleted are left out.
        """
        yield from self._matching("", pattern.split("/"))

    def _matching(self, folder: str, names: list[str]) -> Iterator[tuple[str, int]]:
        name, *rest = names
        found = self._names_in(folder, name) if "*" in name else [name]
        for path in (f"{folder}/{one}" if folder else one for one in found):
            if rest:
                yield from self._matching(path, rest)
            elif inode := self.find(path):
                yield path, inode

    def _names_in(self, folder: str, pattern: str) -> list[str]:
        """The names in a folder that match a pattern, sorted; empty if the folder does not exist."""
        try:
            entries = [entry.info.name for entry in self._asked(lambda: self.system.open_dir(f"/{folder}"))]
        except Unreadable:
            return []
        there = [one for one in entries if int(one.flags) & int(pytsk3.TSK_FS_NAME_FLAG_ALLOC)]
        names = {one.name.decode("utf-8", "replace") for one in there} - {".", ".."}
        return sorted(name for name in names if fnmatchcase(name.lower(), pattern.lower()))

    def folder(self, inode: int) -> list[tuple[str, Any]]:
        """The names in a folder, each with what The Sleuth Kit knows of the file; without names of no file."""
        return [
            (entry.info.name.name.decode("utf-8", "backslashreplace"), entry.info.meta)
            for entry in self._asked(lambda: self.system.open_dir(inode=inode))
            if entry.info.meta
        ]

    def size_of(self, inode: int) -> int:
        """Bytes of a file."""
        return int(self._asked(lambda: self._file(inode)).info.meta.size)

    def why_unread(self, inode: int) -> str:
        """Why a file's content cannot be read, though it has one, which would seem to be zeros or noise.

        What follows the file's name in a sentence, and what to do. Empty if it can be read. Raises OSError.
        """
        with suppress(Unreadable):
            return str(self._asked(lambda: _why(self.system.open_meta(inode))))
        return ""

    def is_packed(self, path: str) -> bool:
        """Whether NTFS compresses what is put into a folder; False if the folder does not exist. Raises OSError."""
        with suppress(Unreadable):
            return bool(self._asked(lambda: _is_packed(self.system.open(f"/{path}"))))
        return False

    def content(self, inode: int) -> bytes:
        """What a file's record says of its content: how much it is, and where it lies. Empty if other records say it.

        Two files of which this is equal have the same content, if the clusters have.
        """
        return content_of(self._raw(inode))

    def read_at(self, inode: int, offset: int, length: int) -> bytes:
        """A part of a file, fewer bytes at its end only. Raises Unreadable, and OSError."""
        return bytes(self._asked(lambda: self._file(inode).read_random(offset, length)))

    def extents(self, inode: int) -> list[Extent]:
        """Where a file lies on the disk, part by part. Parts that are in no cluster are left out.

        Raises Unreadable, and OSError.
        """
        found: list[Extent] = self._asked(lambda: self._extents(inode))
        return found

    def _extents(self, inode: int) -> list[Extent]:
        block = self.system.info.block_size
        found = []
        for attribute in self.system.open_meta(inode):
            if attribute.info.type not in _CONTENTS or attribute.info.name:
                continue
            is_packed = bool(int(attribute.info.flags) & int(pytsk3.TSK_FS_ATTR_COMP))
            for run in attribute:
                if not int(run.flags) & int(pytsk3.TSK_FS_ATTR_RUN_FLAG_SPARSE):
                    length = max(run.len * block, _PACKED * block * is_packed)
                    found.append(Extent(run.offset * block, self.start + run.addr * block, length, is_packed))
        return found

    def _asked(self, ask: Callable[[], Any]) -> Any:
        return asked(ask, self.image)

    def _named_so(self, like: "FileSystem | None", differing: Sequence[tuple[int, int]]) -> dict[int, list[Name]]:
        """The numbers of the records that may be event logs, with the names of each."""
        size, end = self.record_size, min(self.size_of(0), self.medium.end)
        ranges = [(0, end)]
        if like:
            ranges = [(first // size * size, min(end, (last // size + 1) * size)) for first, last in differing]
            self._candidates = dict(like._candidates)
        for start, stop in ranges:
            for number in range(start // size, -(-stop // size) if like else 0):
                self._candidates.pop(number, None)
            for at in range(start, stop, _STRIDE):
                self._scan(at, min(_STRIDE, stop - at))
        found: dict[int, list[Name]] = {}
        for number, record in sorted(self._candidates.items()):
            found.setdefault(record.base or number, []).extend(record.names)
        return found

    def _scan(self, at: int, length: int) -> None:
        """Look for candidates in a part of the file table."""
        size = self.record_size
        data = without_fixups(self.read_at(0, at, length), size)
        for begin in sorted({match.start() // size * size for match in _LOG.finditer(data)}):
            number = (at + begin) // size
            if record := record_of(number, data[begin : begin + size]):
                self._candidates[number] = record

    def _record(self, number: int) -> Record | None:
        """A record of the MFT; None if there is none."""
        if number not in self._records:
            self._records[number] = record_of(number, self._raw(number))
        return self._records[number]

    def _raw(self, number: int) -> bytes:
        """The bytes of a record of the MFT, without its fixups."""
        return without_fixups(self.read_at(0, number * self.record_size, self.record_size), self.record_size)

    def _path(self, name: Name) -> str:
        """The path of a file below the volume's root."""
        parts = [name.text]
        for _ in range(_DEPTH):
            if name.parent == ROOT:
                break
            folder = self._record(name.parent)
            above = best_name(folder.names) if folder else None
            # A deleted folder's record counts one use more than when the file was put into it.
            if not folder or not above or folder.use - (not folder.is_used) != name.parent_use:
                parts.append("?")
                break
            parts.append(above.text)
            name = above
        return "/".join(reversed(parts))


def _why(file: Any) -> str:
    """See `FileSystem.why_unread`."""
    for attribute in file:
        kind, name = attribute.info.type, attribute.info.name
        is_encrypted = kind in _CONTENTS and int(attribute.info.flags) & int(pytsk3.TSK_FS_ATTR_ENC)
        if name == b"$EFS" or (is_encrypted and not name):
            return ("is encrypted by Windows (EFS), and cannot be read. On a Windows machine that has the user's key, "
                    "copy it to another disk, and scan the copy.")  # fmt: skip
        if name == b"WofCompressedData":
            return f"is compressed by CompactOS, which cannot be read. {_ON_WINDOWS}"
        if int(kind) == _REPARSE and file.read_random(0, 4, kind, attribute.info.id) == _DEDUPLICATED:
            return f"is kept by Data Deduplication, which cannot be read. {_ON_WINDOWS}"
    return ""


def _is_packed(folder: Any) -> bool:
    """See `FileSystem.is_packed`: it is one of the flags in the folder's standard information."""
    for attribute in folder:
        kind = attribute.info.type
        if int(kind) == _STANDARD:
            flags = folder.read_random(32, 4, kind, attribute.info.id)
            return bool(int.from_bytes(flags, "little") & _COMPRESSED)
    return False


def _of_the_mirror(medium: Medium, start: int, boot: bytes, size: int) -> dict[int, bytes]:
    """The first records of the file table that are damaged and have a whole copy: the copy of each, by its place."""
    if boot[3:7] != b"NTFS":
        return {}
    sector, clusters = struct.unpack_from("<HB", boot, 11)
    cluster = sector * (clusters if clusters <= 128 else 1 << (256 - clusters))
    table, mirror = (start + number * cluster for number in struct.unpack_from("<QQ", boot, 48))
    found = {}
    for at in range(0, _MIRRORED * size, size):
        if not is_whole(medium.read_at(table + at, size), size) and is_whole(
            copy := medium.read_at(mirror + at, size), size
        ):
            found[table + at] = copy
    return found
