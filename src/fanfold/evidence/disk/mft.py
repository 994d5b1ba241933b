"""The records of a master file table (MFT), one for each file of an NTFS volume, in bytes.

Format: libyal's "New Technologies File System (NTFS)", sections 5 and 6.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

ROOT = 5
"""The record of the volume's root."""
_FILE = b"FILE"
_ATTRIBUTE = struct.Struct("<LLBBHHH")
_FILE_NAME, _DATA, _END = 0x30, 0x80, 0xFFFFFFFF
_DOS = 2  # the namespace of a name such as SECURI~1.EVT
_LARGEST = 4 << 20  # bytes of a record


class Name(NamedTuple):
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
    names: list[Name] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    """The names of its streams of data; empty for the content."""
    base: int = 0
    """The number of the record that this one continues; 0 for none."""

    @property
    def lacks_content(self) -> bool:
        """Whether it does not say where the file's content lies, as every whole record does, or one that it names."""
        return not self.streams


def record_size(boot: bytes) -> int:
    """Bytes of a record, by the volume's first sector: a number of clusters, or a power of two if it is negative."""
    sector, cluster, clusters = struct.unpack_from("<HB50xb", boot, 11)
    size = 1 << -clusters if clusters < 0 else clusters * cluster * sector
    return size if 512 <= size <= _LARGEST else 1024


def is_whole(raw: bytes, size: int) -> bool:
    """Whether a record, as it lies on the disk, is one whose sectors belong together."""
    if len(raw) < size or not raw.startswith(_FILE):
        return False
    at, count = struct.unpack_from("<HH", raw, 4)
    mark = raw[at : at + 2]
    return count == size // 512 + 1 and all(raw[end - 2 : end] == mark for end in range(512, size + 1, 512))


def best_name(names: list[Name]) -> Name | None:
    """The long name of a file, or the only one."""
    return next((name for name in names if name.namespace != _DOS), names[0] if names else None)


def record_of(number: int, raw: bytes) -> Record | None:
    """A record of the MFT, without its fixups. None if these bytes are not one."""
    if not raw.startswith(_FILE) or len(raw) < 48:
        return None
    use, _, first, flags, used = struct.unpack_from("<HHHHL", raw, 16)
    (base,) = struct.unpack_from("<Q", raw, 32)
    record = Record(number, use, bool(flags & 1), base=base & 0xFFFFFFFFFFFF)
    for kind, attribute in _attributes(raw[: min(used, len(raw))], first):
        if kind == _FILE_NAME and len(attribute) > 66:
            record.names.append(_name(attribute))
        elif kind == _DATA:
            record.streams.append(attribute.decode("utf-16-le", "replace"))
    return record


def content_of(raw: bytes) -> bytes:
    """The attribute of a record, without its fixups, that says how much the file's content is, and where it lies.

    Empty if there is none: the content is in the record, or other records say where it lies.
    """
    (first,) = struct.unpack_from("<H", raw.ljust(48, b"\0"), 20)
    for kind, attribute in _whole_attributes(raw, first):
        _, _, is_elsewhere, name_length, *_ = _ATTRIBUTE.unpack_from(attribute)
        if kind == _DATA and is_elsewhere and not name_length:
            return attribute
    return b""


def without_fixups(raw: bytes, size: int) -> bytes:
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


def _name(value: bytes) -> Name:
    parent, length, namespace = struct.unpack_from("<Q56xBB", value)
    raw = value[66 : 66 + 2 * length].decode("utf-16-le", "surrogatepass")
    text = raw.encode("utf-8", "backslashreplace").decode()  # half a pair of surrogates is a name, and no text
    return Name(parent & 0xFFFFFFFFFFFF, parent >> 48, text, namespace)
