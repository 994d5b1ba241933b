"""Writes disk images: EnCase's (.E01) chunk by chunk, and disks with partition tables around volumes.

Format: libyal's "Expert Witness Compression Format (EWF)".
"""

import hashlib
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from zlib import adler32, crc32

from fanfold.evidence.disk.medium import SegmentFile
from fanfold.evidence.disk.segments import segment_name

VOLUMES = Path(__file__).parent / "evidence" / "volumes"
SECTOR = 512
SET_ID = bytes(range(1, 17))
HEADER = {"c": "case 7", "n": "1", "a": "an invented disk", "e": "nobody", "t": "notes", "av": "ADI4.2.0.13"}


@cache
def windows_volume(name: str = "windows") -> bytes:
    """An NTFS volume with logs, `windows` or `mesa`; see volumes/make.sh."""
    return lzma.decompress((VOLUMES / f"{name}.ntfs.xz").read_bytes())


@dataclass
class Segment:
    """The file of an image that is being written."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    sections: list[tuple[str, int]] = field(default_factory=list)
    """The name of each section, and where it begins."""

    def __post_init__(self) -> None:
        self.data += struct.pack("<8sBHH", b"EVF\x09\x0d\x0a\xff\x00", 1, self.number, 0)

    def add(self, name: str, content: bytes, is_last: bool = False) -> int:
        """Add a section. Returns where its content begins."""
        start = len(self.data)
        following = start if is_last else start + 76 + len(content)
        head = struct.pack("<16sQQ40x", name.encode(), following, 76 + len(content))
        self.sections.append((name, start))
        self.data += head + struct.pack("<L", adler32(head)) + content
        return start + 76


def _volume(chunks: int, chunk: int, size: int, set_id: bytes) -> bytes:
    sectors = -(-size // SECTOR)
    raw = struct.pack("<4xLLLQ40x16s968x", chunks, chunk // SECTOR, SECTOR, sectors, set_id)
    return raw + struct.pack("<L", adler32(raw))


def _table(entries: Sequence[int], base: int) -> bytes:
    head = struct.pack("<L4xQ4x", len(entries), base)
    body = struct.pack(f"<{len(entries)}L", *entries)
    return head + struct.pack("<L", adler32(head)) + body + struct.pack("<L", adler32(body))


def _header(fields: Mapping[str, str]) -> bytes:
    text = "\n".join(["3", "main", "\t".join(fields), "\t".join(fields.values()), "", ""])
    return zlib.compress(b"\xff\xfe" + text.encode("utf-16-le"))


def ewf(
    data: bytes,
    *,
    chunk: int = 32768,
    per_segment: int = 1 << 30,
    per_table: int = 64,
    deflated: Callable[[int], bool] = lambda number: number % 2 == 0,
    header: Mapping[str, str] = HEADER,
    acquired: str = "1621808991",
    digests: Sequence[str] = ("hash", "digest"),
    unread: Sequence[tuple[int, int]] = (),
    set_id: bytes = SET_ID,
) -> list[Segment]:
    """The files of an EnCase image.

    Args:
        data: The disk's content.
        chunk: Bytes of a chunk.
        per_segment: Chunks of a file.
        per_table: Chunks of a table.
        deflated: Whether a chunk is deflated, given its number.
        header: The fields of `header2` but the date.
        acquired: The field `m`.
        digests: The sections with digests.
        unread: Sectors that the acquirer could not read: the first and the number.
        set_id: The same in all files.
    """
    parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    segments: list[Segment] = []
    for first in range(0, len(parts), per_segment):
        segment = Segment(len(segments) + 1)
        if not segments:
            segment.add("header2", _header({**header, "m": acquired}))
        segment.add("data" if segments else "volume", _volume(len(parts), chunk, len(data), set_id))
        segments.append(segment)
        some = parts[first : first + per_segment]
        for at in range(0, len(some), per_table):
            _add_chunks(segment, some[at : at + per_table], first + at, deflated)
        if first + per_segment < len(parts):
            segment.add("next", b"", is_last=True)
    _add_end(segments[-1], data, digests, unread)
    return segments


def _add_chunks(segment: Segment, parts: Sequence[bytes], first: int, deflated: Callable[[int], bool]) -> None:
    packed = [
        (zlib.compress(part, 1), 1 << 31) if deflated(number) else (part + struct.pack("<L", adler32(part)), 0)
        for number, part in enumerate(parts, first)
    ]
    base = len(segment.data)
    entries, at = [], 76
    for raw, flag in packed:
        entries.append(at | flag)
        at += len(raw)
    segment.add("sectors", b"".join(raw for raw, _ in packed))
    for name in ("table", "table2"):
        segment.add(name, _table(entries, base))


def _add_end(segment: Segment, data: bytes, digests: Sequence[str], unread: Sequence[tuple[int, int]]) -> None:
    if unread:
        entries = b"".join(struct.pack("<LL", *one) for one in unread)
        head = struct.pack("<L512x", len(unread))
        checksums = struct.pack("<L", adler32(head)), struct.pack("<L", adler32(entries))
        segment.add("error2", head + checksums[0] + entries + checksums[1])
    md5, sha1 = hashlib.md5(data).digest(), hashlib.sha1(data).digest()
    contents = {"digest": md5 + sha1 + bytes(40), "hash": md5 + bytes(16)}
    for name in digests:
        segment.add(name, contents[name] + struct.pack("<L", adler32(contents[name])))
    segment.add("done", b"", is_last=True)


def flipped(segment: Segment, at: int) -> None:
    """Change a byte."""
    segment.data[at] ^= 0x55


def chunk_at(segment: Segment, number: int) -> int:
    """Where a byte in the middle of a chunk of the first table lies in its file."""
    start = dict(reversed(segment.sections))["table"]
    table = memoryview(segment.data)[start + 76 + 24 :]
    begin = dict(reversed(segment.sections))["sectors"]
    entries = [int.from_bytes(table[4 * n : 4 * n + 4], "little") & 0x7FFFFFFF for n in (number, number + 1)]
    return begin + (entries[0] + entries[1]) // 2


def write_ewf(file: Path, segments: Sequence[Segment]) -> list[Path]:
    """Write an image's files, beside each other: `file` is the first, NAME.E01."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files = [file.with_name(segment_name(file.name, segment.number)) for segment in segments]
    for path, segment in zip(files, segments, strict=True):
        path.write_bytes(segment.data)
    return files


def mbr(*volumes: bytes, kind: int = 7, gap: int = 64) -> bytes:
    """A disk with a boot record and up to four partitions."""
    disk = bytearray(gap * SECTOR)
    for number, volume in enumerate(volumes):
        start = len(disk) // SECTOR
        struct.pack_into("<B3xB3xLL", disk, 446 + 16 * number, 0x80, kind, start, len(volume) // SECTOR)
        disk += volume
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def extended(*volumes: bytes, gap: int = 64) -> bytes:
    """A disk whose partitions are all logical: a chain of extended boot records."""
    disk = bytearray(gap * SECTOR)
    first = len(disk) // SECTOR
    struct.pack_into("<B3xB3xLL", disk, 446, 0, 0x0F, first, 1 << 20)
    disk[510:512] = b"\x55\xaa"
    for number, volume in enumerate(volumes):
        at = len(disk)
        record = bytearray(SECTOR)
        struct.pack_into("<B3xB3xLL", record, 446, 0, 7, 1, len(volume) // SECTOR)
        if number + 1 < len(volumes):
            following = (at + SECTOR + len(volume)) // SECTOR - first
            struct.pack_into("<B3xB3xLL", record, 462, 0, 5, following, 1)
        record[510:512] = b"\x55\xaa"
        disk += record + volume
    return bytes(disk)


def gpt(*volumes: bytes, sector: int = SECTOR) -> bytes:
    """A disk with a GUID partition table and its copy at the end."""
    table = 128 * 128
    disk = bytearray(2 * sector + table)
    entries = bytearray(table)
    kind = bytes.fromhex("a2a0d0ebe5b9334487c068b6b72699c7")  # basic data
    for number, volume in enumerate(volumes):
        first = len(disk) // sector
        name = f"volume {number}".encode("utf-16-le")
        last = first + len(volume) // sector - 1
        struct.pack_into("<16s16sQQQ72s", entries, 128 * number, kind, bytes([number + 1] * 16), first, last, 0, name)
        disk += volume
    copy = len(disk) // sector
    disk += bytes(table + sector)
    for at, own, other in ((1, 2, len(disk) // sector - 1), (len(disk) // sector - 1, copy, 1)):
        head = bytearray(92)
        struct.pack_into("<8sLL", head, 0, b"EFI PART", 0x10000, 92)
        struct.pack_into("<QQQQ16sQLLL", head, 24, at, other, 34, copy - 1, bytes(16), own, 128, 128, crc32(entries))
        struct.pack_into("<L", head, 16, crc32(head))
        disk[at * sector : at * sector + 92] = head
        disk[own * sector : own * sector + table] = entries
    struct.pack_into("<B3xB3xLL", disk, 446, 0, 0xEE, 1, 0xFFFFFFFF)
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def in_memory(name: str, data: bytes) -> SegmentFile:
    """A file that is only here."""
    return SegmentFile(name, len(data), lambda offset, length: bytes(data[offset : offset + length]))
