"""Files that were given, opened: as a disk, or as an archive; and the failures and the times of those who read them."""

import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from io import BufferedReader
from typing import TypeVar

from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.library import Reader
from fanfold.evidence.disk.medium import Medium, SegmentFile, Unreadable
from fanfold.evidence.disk.raw import Raw
from fanfold.job import Failure, Item, Opener
from fanfold.storage import path_of

_BUFFER = 1 << 20  # bytes of an archive that are read at once, at least
_PART = 8 << 20  # bytes of a member that are unpacked at once
_BLOCK = 1 << 16  # bytes of a damaged one

DAMAGED = (ValueError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, RuntimeError)
"""What reading raises for what is damaged: `Unreadable`, which is a ValueError, and what the module `zipfile` raises.

The latter also for archives that are packed in a way that it does not know.
"""

Thing = TypeVar("Thing")


def segment_file(item: Item, source: Opener) -> SegmentFile:
    """A file, to be read in ranges: an image is never read as a whole."""
    return SegmentFile(
        item.path.rpartition("/")[2],
        item.size,
        lambda offset, length: source.read_at(item, offset, length),
        path_of(source.uri(item)) or "",
    )


def open_disk(files: Sequence[Item], source: Opener) -> Medium:
    """The disk in an image's files. Raises Unreadable, and OSError."""
    return open_medium([segment_file(file, source) for file in files])


class Archive(zipfile.ZipFile):
    """A zip archive. Sectors of it that cannot be read are zeros."""

    def __init__(self, file: SegmentFile) -> None:
        """Raises one of `DAMAGED`, and OSError."""
        self.bytes = Raw([file])
        try:
            super().__init__(BufferedReader(Reader(replace(file, read=self.bytes.read_at)), _BUFFER))
        except DAMAGED as error:
            if not self.bytes.has_damage:
                raise
            raise Unreadable(
                "The list of files in this archive is on sectors that cannot be read. "
                "Repair a copy of it with: zip -FF ARCHIVE.zip --out REPAIRED.zip; then scan that."
            ) from error

    def unpacked(self, number: int) -> Iterator[bytes]:
        """What is in the member of a number, part by part. Raises one of `DAMAGED` once all that stands was given."""
        member = copy(self.infolist()[number])
        is_stored, checksum, found, given = member.compress_type == zipfile.ZIP_STORED, member.CRC, 0, 0
        if is_stored:
            del member.CRC  # the module would check it before it gives the last part, and keep that if it is wrong
        with self.open(member) as file:
            try:
                while (part := file.read(_PART)) and (is_stored or not self._lost_in(member)):
                    found, given = zlib.crc32(part, found), given + len(part)
                    yield part
            except DAMAGED:
                if not self._lost_in(member):
                    raise
        if member.compress_type == zipfile.ZIP_DEFLATED and self._lost_in(member):
            yield from self._inflated(member, given)
        if self._lost_in(member) or (is_stored and found != checksum):
            raise zipfile.BadZipFile(f"{member.filename!r} is not what its checksum says")

    def _inflated(self, member: zipfile.ZipInfo, given: int) -> Iterator[bytes]:
        """What a deflated member holds before its first sector that cannot be read, from a place on."""
        begin = self._begin(member)
        stop = begin + min(start for start, _ in self._lost_in(member))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        for at in range(begin, stop, _BLOCK):
            data = inflater.decompress(self.bytes.read_at(at, min(_BLOCK, stop - at)))
            yield data[given:]
            given = max(0, given - len(data))

    def _begin(self, member: zipfile.ZipInfo) -> int:
        """Where the content of a member begins."""
        name, extra = struct.unpack("<HH", self.bytes.read_at(member.header_offset + 26, 4))
        return int(member.header_offset + 30 + name + extra)

    def _lost_in(self, member: zipfile.ZipInfo) -> list[tuple[int, int]]:
        """The parts of a member, as it is packed, that could not be read: where each begins, and ends."""
        if not self.bytes.has_damage:
            return []
        begin = self._begin(member)
        ranges = [(max(0, start - begin), min(member.compress_size, stop - begin)) for start, stop in self.bytes.lost]
        return [(start, stop) for start, stop in ranges if start < stop]

    def lost_of(self, number: int) -> list[tuple[int, int]]:
        """The parts of a member, which was unpacked, that are zeros, as they could not be read."""
        member = self.infolist()[number]
        return self._lost_in(member) if member.compress_type == zipfile.ZIP_STORED else []


def open_archive(file: Item, source: Opener) -> Archive:
    """A zip archive. Raises one of `DAMAGED`, and OSError."""
    return Archive(segment_file(file, source))


def answered(item: Item, answer: Iterable[Thing]) -> Iterator[Thing | Failure]:
    """The answer to an item; what goes wrong ends it with a failure."""
    try:
        yield from answer
    except OSError as error:
        yield Failure.of(item, "read", error)
    except DAMAGED as error:
        yield Failure.of(item, "decode", error)


def timed(things: Iterable[Thing], stage: str, seconds: dict[str, float]) -> Iterator[Thing]:
    """The same things; adds the seconds that it takes to make them to a stage, without what is done with them."""
    stream = iter(things)
    while True:
        started = time.perf_counter()
        try:
            thing = next(stream)
        except StopIteration:
            return
        finally:
            seconds[stage] += time.perf_counter() - started
        yield thing
