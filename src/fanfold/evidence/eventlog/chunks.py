"""The outer form of an event log: a header, then chunks of 64 KiB, each of which can be read by itself.

    0        4,096           69,632
    │ header │ chunk 0       │ chunk 1       │ ...
             │ header 512 │ record │ record │ ... │ free space │

The header of a log that was in use when it was copied is stale, so nothing here counts on it: a chunk is where its
signature is. Each chunk has two checksums, and they alone tell whether its bytes are those that Windows wrote.

Format: libyal's "Windows XML Event Log (EVTX) format", sections 2 to 4.
"""

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from isal.isal_zlib import crc32

FILE_HEADER = 4096
"""Bytes before the first chunk."""
CHUNK = 65536
"""Bytes of a chunk."""
SECTOR = 512
"""A chunk that was moved, or found in free space, still begins at a multiple of so many bytes."""

FILE_MAGIC, CHUNK_MAGIC, RECORD_MAGIC = b"ElfFile\0", b"ElfChnk\0", b"**\0\0"
_FILE = struct.Struct("<8s3QL4H")
_CHUNK = struct.Struct("<8s4Q4L")
_RECORD = struct.Struct("<4sLQQ")
_SIZE, _DIGEST = struct.Struct("<L"), struct.Struct("<Q")
_CHUNK_HEADER = 512
_LISTS, _FIRSTS = 128, struct.Struct("<96L")  # where the header of a chunk says where its names and its templates are
_LONGEST_LIST = 4096


class Header(NamedTuple):
    """What the header of a log says, which may be long out of date."""

    chunks: int
    next_record_id: int
    dirty: bool
    """Whether the log was in use: Windows had not written the header's last state."""
    checksum_ok: bool


def header_of(data: bytes) -> Header | None:
    """The header that these bytes begin with, or None if they are not the beginning of an event log."""
    if len(data) < 128 or not data.startswith(FILE_MAGIC):
        return None
    _, _, _, next_record_id, _, _, _, _, chunks = _FILE.unpack_from(data)
    flags, checksum = struct.unpack_from("<LL", data, 120)
    return Header(chunks, next_record_id, bool(flags & 1), crc32(data[:120]) == checksum)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk and where it was found."""

    offset: int
    """Bytes from the start of the log, or of the medium."""
    data: bytes
    """65,536 bytes; filled up with zeros if the log ends before the chunk does."""
    first_id: int
    last_id: int
    """As its header says."""
    free: int
    """Where its free space begins."""
    header_ok: bool
    data_ok: bool

    @property
    def ok(self) -> bool:
        """Whether both checksums are right."""
        return self.header_ok and self.data_ok

    @classmethod
    def of(cls, offset: int, data: bytes) -> "Chunk":
        """The chunk that these bytes begin with; they begin with its signature."""
        data = data.ljust(CHUNK, b"\0")
        _, _, _, first_id, last_id, _, _, free, checksum = _CHUNK.unpack_from(data)
        (own,) = struct.unpack_from("<L", data, 124)
        whole = _CHUNK_HEADER <= free <= CHUNK
        header_ok = whole and crc32(data[128:_CHUNK_HEADER], crc32(data[:120])) == own
        data_ok = whole and crc32(memoryview(data)[_CHUNK_HEADER:free]) == checksum
        return cls(offset, data, first_id, last_id, free, header_ok, data_ok)


class Record(msgspec.Struct, frozen=True, gc=False):
    """The frame of a record, which is read without its content."""

    offset: int
    """Bytes from the start of its chunk."""
    size: int
    record_id: int
    filetime: int
    """When it was written: units of 100 ns since 1601."""
    digest: int
    """Of all its bytes: two records of equal digests are one record, found twice."""
    whole: bool
    """Whether the size is the same at both ends."""


def chunks_of(parts: Iterable[bytes], offset: int = 0, stop: int | None = None) -> Iterator[Chunk]:
    """The chunks that begin in consecutive bytes, whatever lies between them.

    Args:
        parts: The bytes, in parts of any size, from `offset` on; `offset` is a multiple of 512.
        stop: Where the last chunk may begin at most; bytes beyond are used for that chunk's end.
    """
    held, here = b"", offset  # `held` begins at `here`
    for part in parts:
        held += part
        at = 0
        while (at := _found(held, at)) >= 0 and at + CHUNK <= len(held) and _inside(here + at, stop):
            chunk, at = _chunk_at(held, at, here)
            yield chunk
        keep = at if at >= 0 else max(0, len(held) - len(held) % SECTOR - SECTOR)
        held, here = held[keep:], here + keep
    while (at := _found(held, 0)) >= 0 and _inside(here + at, stop):
        chunk, at = _chunk_at(held, at, here)
        yield chunk
        held, here = held[at:], here + at


def _chunk_at(data: bytes, at: int, here: int) -> tuple[Chunk, int]:
    """The chunk at a place of the data, which begin at `here`; and where the next one is looked for.

    Where clusters were written over, another chunk may begin within these 64 KiB: in the free space of a chunk whose
    checksums are right, or anywhere in one that is wrong. The bytes are then those of the other chunk.
    """
    chunk = Chunk.of(here + at, data[at : at + CHUNK])
    begin = chunk.free if chunk.ok else _CHUNK_HEADER
    while (begin := chunk.data.find(CHUNK_MAGIC, begin)) >= 0:
        if begin % SECTOR == 0 and (other := Chunk.of(0, chunk.data[begin:])).header_ok:
            used = chunk.data[begin : begin + other.free]
            data_without = chunk.data[:begin] + bytes(len(used)) + chunk.data[begin + len(used) :]
            return replace(chunk, data=data_without), at + begin
        begin += 1
    return chunk, at + CHUNK


def _inside(offset: int, stop: int | None) -> bool:
    return stop is None or offset < stop


def _found(data: bytes, at: int) -> int:
    """Where the next chunk begins, or -1."""
    while (at := data.find(CHUNK_MAGIC, at)) >= 0 and at % SECTOR:
        at += 1
    return at


def records_of(chunk: Chunk) -> list[Record]:
    """The frames of a chunk's records, in order; after damage, from the next intact frame on."""
    data, at = chunk.data, _CHUNK_HEADER
    view, found = memoryview(data), []
    end = chunk.free if _CHUNK_HEADER <= chunk.free <= CHUNK else CHUNK
    while (at := data.find(RECORD_MAGIC, at, end)) >= 0 and at + _RECORD.size <= end:
        _, size, record_id, filetime = _RECORD.unpack_from(data, at)
        if at % 8 or size < _RECORD.size + 4 or at + size > end:
            at += 1
            continue
        (again,) = _SIZE.unpack_from(data, at + size - 4)
        (digest,) = _DIGEST.unpack(blake2b(view[at : at + size], digest_size=8).digest())
        found.append(Record(at, size, record_id, filetime, digest, again == size))
        at += size
    return found


def bridged(chunk: Chunk, records: Sequence[Record]) -> Chunk:
    """The chunk with an empty record over each gap between its records, for readers that stop at the first gap."""
    data, at = bytearray(chunk.data), _CHUNK_HEADER
    for record in records:
        gap = record.offset - at
        if gap >= _RECORD.size + 4:
            data[at : record.offset] = bytes(gap)
            _RECORD.pack_into(data, at, RECORD_MAGIC, gap, 0, 0)
            struct.pack_into("<L", data, record.offset - 4, gap)
        at = record.offset + record.size
    ids = [record.record_id for record in records]
    struct.pack_into("<QQ", data, 24, min(ids, default=0), max(ids, default=0))
    struct.pack_into("<L", data, 48, at)
    return Chunk.of(chunk.offset, bytes(data))


def without(chunk: Chunk, digests: Collection[int]) -> Chunk:
    """A chunk that lacks some of its records, with checksums that fit.

    The bytes of a record stay where they are, since others may use its templates: the record before it takes them in.
    If none is before it, it is an empty one.
    """
    data, before = bytearray(chunk.data), None
    for record in records_of(chunk):
        if record.digest not in digests:
            before = record
        elif before and before.offset + before.size == record.offset:
            before = msgspec.structs.replace(before, size=before.size + record.size)
            for at in (before.offset + 4, before.offset + before.size - 4):
                _SIZE.pack_into(data, at, before.size)
        else:
            data[record.offset + _RECORD.size] = 0  # the end of its content
    return Chunk.of(chunk.offset, _sealed(data))


def _sealed(data: bytearray) -> bytes:
    """A chunk with checksums that fit."""
    (free,) = _SIZE.unpack_from(data, 48)
    free = free if _CHUNK_HEADER <= free <= CHUNK else CHUNK
    _SIZE.pack_into(data, 48, free)
    _SIZE.pack_into(data, 52, crc32(data[_CHUNK_HEADER:free]))
    _SIZE.pack_into(data, 124, crc32(data[128:_CHUNK_HEADER], crc32(data[:120])))
    return bytes(data)


def without_circles(data: bytes) -> bytes:
    """A chunk whose lists of names and templates all end. Damaged ones may be circles, and readers follow them forever.

    The header says where each of 64 lists of names begins, and each of 32 lists of templates. Whatever is in a list
    begins with the place of the next one, or 0. A list that does not end is left out: nothing else needs it.
    """
    firsts = enumerate(_FIRSTS.unpack_from(data, _LISTS))
    endless = [number for number, first in firsts if first and not _ends(data, first)]
    if not endless:
        return data
    whole = bytearray(data)
    for number in endless:
        _SIZE.pack_into(whole, _LISTS + 4 * number, 0)
    return bytes(whole)


def _ends(data: bytes, at: int) -> bool:
    """Whether the list ends that begins here."""
    for _ in range(_LONGEST_LIST):
        if not 0 < at <= CHUNK - 4:
            return True
        (at,) = _SIZE.unpack_from(data, at)
    return False


def header_for(chunks: int, next_record_id: int) -> bytes:
    """The header of a log of so many chunks, which any reader of event logs accepts."""
    head = bytearray(FILE_HEADER)
    last, count = max(0, chunks - 1), min(chunks, 0xFFFF)
    _FILE.pack_into(head, 0, FILE_MAGIC, 0, last, next_record_id, 128, 1, 3, FILE_HEADER, count)
    struct.pack_into("<L", head, 124, crc32(head[:120]))
    return bytes(head)


def log_of(chunks: Sequence[bytes], next_record_id: int = 0) -> bytes:
    """A log of these chunks below a header of its own."""
    return b"".join((header_for(len(chunks), next_record_id), *chunks))
