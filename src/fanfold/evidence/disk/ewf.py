"""An EnCase image as a medium: every chunk is checked as it is read, and what is damaged is known to the chunk."""

import errno
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np

from fanfold.evidence.disk.geometry import Geometry, geometry_of, geometry_of_all
from fanfold.evidence.disk.medium import Damage, SegmentFile, Unreadable, shortened
from fanfold.evidence.disk.places import Places, inflated, is_sound, places_of, walked
from fanfold.evidence.disk.sections import (
    Segment,
    Table,
    about,
    segment_of,
    stored_digests,
    tables_of,
    unread_sectors,
)
from fanfold.evidence.disk.segments import segment_name
from fanfold.storage import side_by_side

_BLOCK = 512 << 10  # bytes that are read at once, at least
_BLOCKS = 32  # that are kept
_TABLES = 16  # that are kept: each is a quarter of a megabyte
_OPENED_AT_ONCE = 16
_SLACK = 1 << 16  # bytes that a chunk may take more in its file than in memory
_CACHED = 32 << 20  # bytes of blocks that are kept
_SHORT = 512  # bytes of a deflated chunk that has many equals, since it is all zeros as a rule
_CONSTANTS = 16  # of them whose content is kept
_PAGE = 1 << 12  # chunks
_WRONG, _NOT_INFLATED, _TABLES_DAMAGED, _MISSING, _UNREADABLE = range(1, 6)
_WHY = {
    _WRONG: "its checksum is wrong",
    _NOT_INFLATED: "it cannot be inflated",
    _TABLES_DAMAGED: "both tables of its place are damaged",
    _MISSING: "its file is missing, or damaged",
    _UNREADABLE: "it cannot be read",
}
"""In which way a chunk is damaged."""


class Ewf:
    """An EnCase image."""

    kind = "E01"

    def __init__(self, segments: Sequence[Segment], geometry: Geometry) -> None:
        self.segments, self.geometry = segments, geometry
        self.sector = geometry.sector
        self.chunk = geometry.sector * geometry.chunk_sectors
        self.stored = {name: digest for segment in segments for name, digest in stored_digests(segment).items()}
        """The digests `md5` and `sha1` of the whole disk, as far as they are stored."""
        self.about = about(segments[0])
        """What the acquirer wrote down, as it is stored; see `sections.FIELDS`."""
        self.problems = [*dict.fromkeys(problem for segment in segments for problem in segment.problems)]
        declared = geometry.sectors * geometry.sector or geometry.chunks * self.chunk
        self.size = min(declared, geometry.chunks * self.chunk or declared)
        if declared > self.size:
            self.problems.append(f"It claims {declared:,} bytes, and chunks for {self.size:,} only.")
        self._walked: dict[int, Places] = {}  # the chunks of a file's end that no table names
        self.tables = self._tables()
        self.lost = [*self._gaps()]
        """Ranges of chunks that no file has: the first and the number."""
        self.end = min(self.size, max((table.first + table.chunks for table in self.tables), default=0) * self.chunk)
        self._damage: dict[int, bytearray] = {}  # pages, each with a byte for each of its chunks: see `_WHY`
        self._lock = threading.Lock()
        self._entries = lru_cache(_TABLES)(self._places)
        self._block = lru_cache(max(2, min(_BLOCKS, _CACHED // max(_BLOCK, self.chunk))))(self._read_block)
        self._constant = lru_cache(_CONSTANTS)(lambda raw: inflated(raw, self.chunk))
        self._per_block = max(1, _BLOCK // self.chunk)
        if self.lost:
            held = self.chunks - sum(chunks for _, chunks in self.lost)
            self.problems.append(f"The files hold {held:,} of {self.chunks:,} chunks.")

    @classmethod
    def open(cls, files: Sequence[SegmentFile]) -> "Ewf":
        """The image in these files, which may come in any order. Raises Unreadable, and OSError."""
        segments = sorted(
            side_by_side(segment_of, files, _OPENED_AT_ONCE), key=lambda segment: (segment.number, segment.file.name)
        )
        if segments[0].number != 1:
            raise Unreadable(
                f"The first file of this image is missing: {segments[0].file.name} is number {segments[0].number}. "
                "Name the first file instead, or put it beside this one."
            )
        if any(section.name.startswith("encrypt") for section in segments[0].sections):
            name = segments[0].file.name
            raise Unreadable(f"{name} is encrypted. Save it without a password in EnCase; then scan that.")
        geometry = geometry_of_all(segments)
        _check_set(segments, geometry)
        return cls(segments, geometry)

    @property
    def chunks(self) -> int:
        """The number of chunks of the disk."""
        return -(-self.size // self.chunk)

    @property
    def unread(self) -> Sequence[tuple[int, int]]:
        """Sectors that the acquirer could not read: the first and the number, for each range."""
        return [found for segment in self.segments for found in unread_sectors(segment)]

    @property
    def damage(self) -> list[Damage]:
        """See `Medium.damage`. What is in no file is one range, and known from the start."""
        runs = [*self._damaged_chunks(), *((first, chunks, _MISSING) for first, chunks in self.lost)]
        return shortened(self._damage_of(*run) for run in sorted(runs))

    def _damaged_chunks(self) -> Iterator[tuple[int, int, int]]:
        """The runs of chunks that are damaged in the same way and in one file: the first, the number, and the way."""
        with self._lock:
            pages = sorted(self._damage.items())
        first, count, way, table = 0, 0, 0, None
        for number, page in pages:
            for at in np.flatnonzero(np.frombuffer(bytes(page), np.uint8)).tolist():
                chunk = number * _PAGE + at
                other = self._table_of(chunk)
                same = table and other and table.segment == other.segment
                if same and chunk == first + count and page[at] == way:
                    count += 1
                    continue
                if count:
                    yield first, count, way
                first, count, way, table = chunk, 1, page[at], other
        if count:
            yield first, count, way

    def _damage_of(self, first: int, chunks: int, way: int) -> Damage:
        """The damage of some chunks."""
        start, stop = first * self.chunk, min(self.size, (first + chunks) * self.chunk)
        name, offset, table = "", None, self._table_of(first)
        if table and way != _MISSING:
            name = self.segments[table.segment].file.name
            places = self._entries(table)
            offset = None if places is None else int(places.starts[first - table.first])
        return Damage(start // self.sector, -(-(stop - start) // self.sector), name, offset, _WHY[way])

    @property
    def has_damage(self) -> bool:
        """See `Medium.has_damage`."""
        return bool(self._damage or self.lost)

    def is_damaged(self, offset: int, length: int) -> bool:
        """See `Medium.is_damaged`."""
        chunks = range(offset // self.chunk, -(-(offset + length) // self.chunk))
        return any(first < chunks.stop and chunks.start < first + count for first, count in self.lost) or any(
            page[chunk % _PAGE] for chunk in chunks if (page := self._damage.get(chunk // _PAGE))
        )

    def read_at(self, offset: int, length: int) -> bytes:
        """See `Medium.read_at`."""
        stop = min(self.size, offset + length)
        size = self._per_block * self.chunk
        first, last = offset // size, -(-stop // size)
        if offset >= stop:
            return b""
        if last - first > _BLOCKS // 2:  # a long read would only push the other blocks out
            data = b"".join(map(self._read_block, range(first, last)))
        else:
            data = b"".join(map(self._block, range(first, last)))
        begin = offset - first * size
        return data[begin : begin + stop - offset]

    def _tables(self) -> list[Table]:
        """The tables of all files whose chunks have a known place.

        A chunk's number is the number of those before it. So if something is missing, what comes before the first gap
        is counted from the start, and what comes after the last one from the end.
        """
        runs: list[list[Table]] = [[]]
        expected = 1
        for index, segment in enumerate(self.segments):
            if segment.number != expected:
                self.problems.append(f"Number {expected} of the image's files is missing. {self._to_do(expected)}")
                runs.append([])
            for table in self._tables_of(segment, index):
                if table is None:
                    runs.append([])
                else:
                    runs[-1].append(table)
            expected = segment.number + 1
        ended_by = self.segments[-1].ended_by
        if ended_by == "next":
            self.problems.append(
                f"The image's last file is missing, and with it the stored digests. {self._to_do(expected)}"
            )
        every = [table for run in runs for table in run]
        if sum(table.chunks for table in every) == self.geometry.chunks:
            return [*_numbered(every, 0)]
        last = runs[-1] if len(runs) > 1 and ended_by == "done" else []
        begin = self.chunks - sum(table.chunks for table in last)
        if begin < sum(table.chunks for table in runs[0]):  # more than there can be: one of them is not what it seems
            last = []
        return [*_numbered(runs[0], 0), *_numbered(last, begin)]

    def _tables_of(self, segment: Segment, index: int) -> Iterator[Table | None]:
        """The tables of a file, as `tables_of` gives them; of one that is cut off, with its last chunks."""
        last = segment.sections[-1] if segment.sections else None
        if last and last.name == "sectors":
            *found, gap = tables_of(segment, index)
            self._walked[index] = walked(segment, last, self.chunk)
            if count := len(self._walked[index].starts):
                found.append(Table(index, 0, count, (last,), 0))
                name = segment.file.name
                self.problems.append(f"{name} has no table of its last {count:,} chunks. They were found one by one.")
            yield from (*found, gap)
        else:
            yield from tables_of(segment, index)

    def _to_do(self, number: int) -> str:
        """What to do about a file that is missing."""
        first = self.segments[0].file.name
        return f"Put {segment_name(first, number)} beside {first}, and scan again."

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """The chunks that no table names."""
        at = 0
        for table in self.tables:
            if at < table.first:
                yield at, table.first - at
            at = table.first + table.chunks
        if at < self.chunks:
            yield at, self.chunks - at

    def _read_block(self, number: int) -> bytes:
        """The chunks of a block."""
        first = number * self._per_block
        chunks = range(first, min(first + self._per_block, self.chunks))
        return b"".join(
            data
            for table, some in groupby(chunks, self._table_of)
            for data in (self._in_table(table, [*some]) if table else map(self._empty, some))
        )

    def _places(self, table: Table) -> Places | None:
        if table.copies[0].name == "sectors":
            return self._walked[table.segment]
        return places_of(self.segments[table.segment], table, self.chunk, self.geometry.is_smart)

    def _table_of(self, chunk: int) -> Table | None:
        """The table that names a chunk; None if none does."""
        at = bisect_right(self.tables, chunk, key=lambda table: table.first) - 1
        return self.tables[at] if at >= 0 and chunk < self.tables[at].first + self.tables[at].chunks else None

    def _in_table(self, table: Table, chunks: Sequence[int]) -> Iterator[bytes]:
        """Consecutive chunks that one table names. They are read at once if they lie one behind the other."""
        file = self.segments[table.segment].given
        places = self._entries(table)
        if places is None:
            for chunk in chunks:
                yield self._zeros(chunk, _TABLES_DAMAGED)
            return
        some = slice(chunks[0] - table.first, chunks[-1] + 1 - table.first)
        starts, ends, deflated = (column[some].tolist() for column in places)
        together = starts[1:] == ends[:-1]
        together = together and ends[-1] - starts[0] <= len(starts) * (self.chunk + _SLACK)
        whole = _read(file, starts[0], ends[-1] - starts[0]) if together else None
        for chunk, start, end, is_deflated in zip(chunks, starts, ends, deflated, strict=True):
            at = start - starts[0]
            length = min(end - start, self.chunk + _SLACK)
            raw = _read(file, start, length) if whole is None else whole[at : at + end - start]
            yield self._zeros(chunk, _UNREADABLE) if raw is None else self._checked(chunk, raw, is_deflated)

    def _checked(self, chunk: int, raw: bytes, is_deflated: bool) -> bytes:
        """The content of a chunk, as it lies in its file."""
        length = min(self.chunk, self.size - chunk * self.chunk)
        if not is_deflated:
            for stored in dict.fromkeys((length, self.chunk)):  # the last one may be filled up
                if is_sound(raw, stored):
                    return raw[:length]
            return self._zeros(chunk, _WRONG)
        data = self._constant(raw) if len(raw) <= _SHORT else inflated(raw, self.chunk)
        if length <= len(data) <= self.chunk:
            return data[:length]
        return self._zeros(chunk, _NOT_INFLATED)

    def _zeros(self, chunk: int, way: int) -> bytes:
        """What stands for a chunk that is damaged in this way."""
        with self._lock:
            self._damage.setdefault(chunk // _PAGE, bytearray(_PAGE))[chunk % _PAGE] = way
        return self._empty(chunk)

    def _empty(self, chunk: int) -> bytes:
        return bytes(min(self.chunk, self.size - chunk * self.chunk))


def _read(file: SegmentFile, offset: int, length: int) -> bytes | None:
    """A part of a file; None if the disk that it is on cannot give it."""
    try:
        return file.read(offset, length)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def _numbered(tables: Sequence[Table], first: int) -> Iterator[Table]:
    """Tables that follow each other, the first of which begins with this chunk."""
    for table in tables:
        yield table._replace(first=first)
        first += table.chunks


def _check_set(segments: Sequence[Segment], geometry: Geometry) -> None:
    """Raise Unreadable if two files have the same number, or one is of another image."""
    for before, segment in pairwise(segments):
        if before.number == segment.number:
            raise Unreadable(
                f"{before.file.name} and {segment.file.name} are both number {segment.number} of an image. "
                "Leave one of them out."
            )
        other = geometry_of(segment)
        if other and other.set_id and geometry.set_id and other.set_id != geometry.set_id:
            raise Unreadable(
                f"{segment.file.name} is of another image (its set is {other.set_id.hex()}) than "
                f"{segments[0].file.name} ({geometry.set_id.hex()})."
            )
