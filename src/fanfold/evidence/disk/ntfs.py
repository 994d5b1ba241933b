r"""The event logs of an NTFS volume, those that were deleted included.

The master file table (MFT) has a record for every file that there is, and for many that there were. So it is read from
its start to its end, and each record that has a name ending in .evtx is a log. The content of a file is read by The
Sleuth Kit, which knows fragmented, sparse and compressed files.

Format: libyal's "New Technologies File System (NTFS)", sections 5 and 6.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytsk3

from fanfold.evidence.disk.library import asked
from fanfold.evidence.disk.medium import Medium, Unreadable

_ROOT = 5  # the record of the volume's root
_STRIDE = 4 << 20
_FILE = b"FILE"
_ATTRIBUTE = struct.Struct("<LLBBHHH")
_FILE_NAME, _DATA, _END = 0x30, 0x80, 0xFFFFFFFF
_DOS = 2  # the namespace of a name such as SECURI~1.EVT
_LOG = re.compile(rb"\.\0[eE]\0[vV]\0[tT]\0[xX]\0")
_DEPTH = 256
_PACKED = 16  # clusters that NTFS compresses as one
_CONTENTS = (pytsk3.TSK_FS_ATTR_TYPE_NTFS_DATA, pytsk3.TSK_FS_ATTR_TYPE_DEFAULT)  # the latter on FAT and exFAT
_MIRRORED = 4  # records that $MFTMirr has, too


class _Name(NamedTuple):
    parent: int
    """The number of the folder's record."""
    parent_use: int
    """How often that record was used when the file was put there: another number is another folder."""
    text: str
    namespace: int


@dataclass(frozen=True)
class Record:
    """What a record of the MFT says of a file, as far as it matters here."""

    number: int
    use: int
    """How often the record was used. Deleting a file counts as the next use."""
    is_used: bool
    names: list[_Name] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    """The names of its streams of data; empty for the content."""
    base: int = 0
    """The number of the record that this one continues; 0 for none."""

    @property
    def lacks_content(self) -> bool:
        """Whether it does not say where the file's content lies, as every whole record does, or one that it names."""
        return not self.streams


class FoundLog(NamedTuple):
    """An event log of a volume."""

    path: str
    """Below the volume's root, with forward slashes. What is lost of a deleted file's is `?`."""
    inode: int
    size: int
    is_deleted: bool
    is_packed: bool
    """Whether it is compressed in the way of CompactOS, which cannot be read."""


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

    def __init__(self, medium: Medium, copies: Mapping[int, bytes]) -> None:
        """`copies`: what is read at some places of the medium instead of what is there."""
        self.medium, self.copies = medium, copies
        self.failed: OSError | None = None
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the medium. An error is kept, because The Sleuth Kit replaces it by its own."""
        try:
            data = self.medium.read_at(offset, size)
        except OSError as error:
            self.failed = error
            raise
        for at, copy in self.copies.items():
            first, last = max(at, offset), min(at + len(copy), offset + len(data))
            if first < last:
                data = data[: first - offset] + copy[first - at : last - at] + data[last - offset :]
        return data

    def get_size(self) -> int:
        """Bytes."""
        return self.medium.size


class FileSystem:
    """The file system of a volume."""

    def __init__(self, medium: Medium, start: int) -> None:
        """Raises Unreadable, and OSError if the medium cannot be read."""
        boot = medium.read_at(start, 512)
        self.record_size = _record_size(boot)
        copies = _of_the_mirror(medium, start, boot, self.record_size)
        self.problems = ["the start of its file table is damaged; the copy of it ($MFTMirr) was used"] if copies else []
        """What is damaged and could be read all the same, in sentences."""
        self.image, self.start = _Image(medium, copies), start
        self.system = self._asked(lambda: pytsk3.FS_Info(self.image, offset=start))
        self._records: dict[int, Record | None] = {}
        self._candidates: dict[int, Record] = {}

    @property
    def medium(self) -> Medium:
        """What it lies on."""
        return self.image.medium

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
            if not record or not (name := _best(names)) or not name.text.lower().endswith(".evtx"):
                continue
            path = self._path(name)
            try:
                size = self.size_of(number)
            except Unreadable as error:
                yield f"{path} (number {number} of the file table) cannot be read: {error}"
                continue
            if not size and record.lacks_content:
                yield f"{path} (number {number} of the file table) is damaged: where it lies is not known."
            yield FoundLog(path, number, size, not record.is_used, "WofCompressedData" in record.streams)

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
        """The names in a folder that are like a pattern, sorted; none if there is no such folder."""
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
        return int(self._asked(lambda: self.system.open_meta(inode)).info.meta.size)

    def content(self, inode: int) -> bytes:
        """What a file's record says of its content: how much it is, and where it lies. Empty if other records say it.

        Two files of which this is equal have the same content, if the clusters have.
        """
        raw = _without_fixups(self.read_at(0, inode * self.record_size, self.record_size), self.record_size)
        (first,) = struct.unpack_from("<H", raw.ljust(48, b"\0"), 20)
        for kind, attribute in _whole_attributes(raw, first):
            _, _, is_elsewhere, name_length, *_ = _ATTRIBUTE.unpack_from(attribute)
            if kind == _DATA and is_elsewhere and not name_length:
                return attribute
        return b""

    def read_at(self, inode: int, offset: int, length: int) -> bytes:
        """A part of a file, fewer bytes at its end only. Raises Unreadable, and OSError."""
        return bytes(self._asked(lambda: self.system.open_meta(inode).read_random(offset, length)))

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

    def _named_so(self, like: "FileSystem | None", differing: Sequence[tuple[int, int]]) -> dict[int, list[_Name]]:
        """The numbers of the records that may be event logs, with the names of each."""
        size, end = self.record_size, min(self.size_of(0), self.medium.size)
        ranges = [(0, end)]
        if like:
            ranges = [(first // size * size, min(end, (last // size + 1) * size)) for first, last in differing]
            self._candidates = dict(like._candidates)
        for start, stop in ranges:
            for number in range(start // size, -(-stop // size) if like else 0):
                self._candidates.pop(number, None)
            for at in range(start, stop, _STRIDE):
                self._scan(at, min(_STRIDE, stop - at))
        found: dict[int, list[_Name]] = {}
        for number, record in sorted(self._candidates.items()):
            found.setdefault(record.base or number, []).extend(record.names)
        return found

    def _scan(self, at: int, length: int) -> None:
        """Look for candidates in a part of the file table."""
        size = self.record_size
        data = _without_fixups(self.read_at(0, at, length), size)
        for begin in sorted({match.start() // size * size for match in _LOG.finditer(data)}):
            number = (at + begin) // size
            if record := _record_of(number, data[begin : begin + size]):
                self._candidates[number] = record

    def _record(self, number: int) -> Record | None:
        """A record of the MFT; None if there is none."""
        if number not in self._records:
            raw = self.read_at(0, number * self.record_size, self.record_size)
            self._records[number] = _record_of(number, _without_fixups(raw, self.record_size))
        return self._records[number]

    def _path(self, name: _Name) -> str:
        """The path of a file below the volume's root."""
        parts = [name.text]
        for _ in range(_DEPTH):
            if name.parent == _ROOT:
                break
            folder = self._record(name.parent)
            above = _best(folder.names) if folder else None
            # A deleted folder's record counts one use more than when the file was put into it.
            if not folder or not above or folder.use - (not folder.is_used) != name.parent_use:
                parts.append("?")
                break
            parts.append(above.text)
            name = above
        return "/".join(reversed(parts))


def _record_size(boot: bytes) -> int:
    """Bytes of a record, by the volume's first sector: a number of clusters, or a power of two if it is negative."""
    sector, cluster, clusters = struct.unpack_from("<HB50xb", boot, 11)
    size = 1 << -clusters if clusters < 0 else clusters * cluster * sector
    return size if 512 <= size <= _STRIDE else 1024


def _of_the_mirror(medium: Medium, start: int, boot: bytes, size: int) -> dict[int, bytes]:
    """The first records of the file table that are damaged and have a whole copy: the copy of each, by its place."""
    if boot[3:7] != b"NTFS":
        return {}
    sector, clusters = struct.unpack_from("<HB", boot, 11)
    cluster = sector * (clusters if clusters <= 128 else 1 << (256 - clusters))
    table, mirror = (start + number * cluster for number in struct.unpack_from("<QQ", boot, 48))
    found = {}
    for at in range(0, _MIRRORED * size, size):
        if not _is_whole(medium.read_at(table + at, size), size) and _is_whole(
            copy := medium.read_at(mirror + at, size), size
        ):
            found[table + at] = copy
    return found


def _is_whole(raw: bytes, size: int) -> bool:
    """Whether a record, as it lies on the disk, is one whose sectors belong together."""
    if len(raw) < size or not raw.startswith(_FILE):
        return False
    at, count = struct.unpack_from("<HH", raw, 4)
    mark = raw[at : at + 2]
    return count == size // 512 + 1 and all(raw[end - 2 : end] == mark for end in range(512, size + 1, 512))


def _best(names: list[_Name]) -> _Name | None:
    """The long name of a file, or the only one."""
    return next((name for name in names if name.namespace != _DOS), names[0] if names else None)


def _record_of(number: int, raw: bytes) -> Record | None:
    """A record of the MFT, without its fixups. None if these bytes are none."""
    if not raw.startswith(_FILE) or len(raw) < 48:
        return None
    use, _, first, flags, used = struct.unpack_from("<HHHHL", raw, 16)
    (base,) = struct.unpack_from("<Q", raw, 32)
    record = Record(number, use, bool(flags & 1), base=base & 0xFFFFFFFFFFFF)
    for kind, attribute in _attributes(raw[: min(used, len(raw))], first):
        if kind == _FILE_NAME and len(attribute) > 66:
            record.names.append(_name(attribute))
        elif kind == _DATA:
            record.streams.append(_stream(attribute))
    return record


def _without_fixups(raw: bytes, size: int) -> bytes:
    """Records as they were before they were written: the last two bytes of each sector are kept in a list."""
    whole = bytearray(raw)
    for begin in range(0, len(raw) - 48, size):
        if not raw.startswith(_FILE, begin):
            continue
        at, count = struct.unpack_from("<HH", raw, begin + 4)
        kept = raw[begin + at + 2 : begin + at + 2 * count]
        for number in range(min(len(kept) // 2, size // 512)):
            end = begin + 512 * number + 512
            whole[end - 2 : end] = kept[2 * number : 2 * number + 2]
    return bytes(whole)


def _attributes(raw: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a record: the type of each, and its value if it is in the record, else the whole attribute."""
    for kind, attribute in _whole_attributes(raw, at):
        _, _, is_elsewhere, name_length, name_at, _, _ = _ATTRIBUTE.unpack_from(attribute)
        if kind == _DATA:
            yield kind, attribute[name_at : name_at + 2 * name_length]
        elif not is_elsewhere:
            size, begin = struct.unpack_from("<LH", attribute, 16)
            yield kind, attribute[begin : begin + size]


def _whole_attributes(raw: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a record: the type of each, and all of its bytes."""
    while at + 24 <= len(raw):
        kind, length, *_ = _ATTRIBUTE.unpack_from(raw, at)
        if kind == _END or length < 24 or at + length > len(raw):
            return
        yield kind, raw[at : at + length]
        at += length


def _stream(name: bytes) -> str:
    return name.decode("utf-16-le", "replace")


def _name(value: bytes) -> _Name:
    parent, length, namespace = struct.unpack_from("<Q56xBB", value)
    raw = value[66 : 66 + 2 * length].decode("utf-16-le", "surrogatepass")
    text = raw.encode("utf-8", "backslashreplace").decode()  # half a pair of surrogates is a name, and no text
    return _Name(parent & 0xFFFFFFFFFFFF, parent >> 48, text, namespace)
