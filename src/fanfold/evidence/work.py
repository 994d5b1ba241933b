"""Reads units: the records of a log become rows of the table of events, and the unit's row tells what was read.

unit ──Parts──▶ bytes ──▶ chunks ──▶ records ──▶ rows, without those that an earlier stage had
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from io import BytesIO
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from more_itertools import chunked, peekable

from fanfold.evidence.disk.library import blocks
from fanfold.evidence.disk.medium import SegmentFile, Unreadable
from fanfold.evidence.disk.ntfs import Extent
from fanfold.evidence.disk.raw import Raw
from fanfold.evidence.disk.verify import DIGESTS, Verification, verifying
from fanfold.evidence.eventlog.chunks import (
    CHUNK,
    FILE_HEADER,
    Chunk,
    Header,
    Record,
    chunks_of,
    header_of,
    records_of,
)
from fanfold.evidence.eventlog.coverage import Coverage, merged
from fanfold.evidence.eventlog.records import decoded_together
from fanfold.evidence.eventlog.rows import Found, batches
from fanfold.evidence.facts import LARGEST, LARGEST_LOG, facts_of, is_source
from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.files import DAMAGED, UNREADABLE, answered, timed
from fanfold.evidence.opened import Opened
from fanfold.evidence.units import STAGES, Units, item_at, place_of
from fanfold.job import Detail, Failure, Item, Opener
from fanfold.machine import cores

_STRIDE = 4 << 20  # bytes of a read: twice as many take 1.6 times as long each, as they do not stay in a cache
_BLOCK = 4096  # bytes of a file that are taken for damaged at once
_DAMAGED = "Parts of it are damaged in the disk image."
_TOGETHER = 16  # chunks that are decoded at once
_THREADS = 2  # that inflate chunks ahead of the digests, at most

Answer = Iterator[pa.RecordBatch | Detail]


class Reading:
    """Reads units."""

    def __init__(self, unit: pa.Schema, events: pa.Schema, facts: pa.Schema) -> None:
        self.unit, self.events, self.facts = unit, events, facts
        self.opened = Opened()
        self.seconds = {"read": 0.0, "decode": 0.0, "verify": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        assert isinstance(source, Units), source  # see `Evidence.source`
        for item in items:
            yield from answered(item, self._unit(item, source))

    def _unit(self, item: Item, source: Units) -> Answer:
        """What is read of a unit, then its row."""
        place = place_of(item)
        row = {"key": item.key, "version": item.version}
        row |= {name: getattr(place, name) for name in ("image", "volume", "path", "origin")}
        about = row | {"container": place.container, "kind": place.kind}
        if place.kind in ("verify", "chunks"):
            yield from self._verified(item, source, about)
        elif place.kind == "facts":
            yield from self._facts_file(item, source, about)
        else:
            yield from self._log(item, source, row, about)

    def _log(self, item: Item, source: Units, row: dict[str, Any], about: dict[str, Any]) -> Answer:
        """The records of a log, of a part of one, or of chunks anywhere on a disk."""
        before = self.seconds["read"]
        parts, coverage = Parts(item, source, self.opened, self.seconds), Coverage()
        head, header = parts.head(), parts.header()
        header_ok = bool(header and header.checksum_ok and not header.dirty)
        found = batches(self._records(parts, coverage), row | {"header_ok": header_ok}, self.events)
        for rows in timed(found, "decode", self.seconds):
            yield Detail("events", rows)
        self.seconds["decode"] -= self.seconds["read"] - before  # decoding includes the reading
        problem = parts.problem or (_DAMAGED if parts.is_log_damaged() else None)
        is_first = parts.place.stage == STAGES[0] and not parts.place.start
        if is_first and any(head) and not (header or coverage.chunks or problem):
            raise Unreadable(f"This is not an event log: it begins with {head.hex(' ')}.")
        yield self._row(about | {"problem": problem} | coverage.row(header))

    def _records(self, parts: "Parts", coverage: Coverage) -> Iterator[Found]:
        """The records of each chunk in the order of the log, without those that are known."""
        for some in chunked(chunks_in(parts), _TOGETHER):
            are_new = [parts.are_new(frames) for _, frames in some]
            every = iter(decoded_together([*compress(some, map(any, are_new))]))
            for (chunk, frames), is_new in zip(some, are_new, strict=True):
                records = [*compress(next(every), is_new)] if any(is_new) else []
                coverage.add(chunk, records, len(frames) - len(records))
                number = None if parts.place.kind == "carve" else max(0, chunk.offset - FILE_HEADER) // CHUNK
                damaged = parts.is_damaged(chunk.offset)
                yield Found(records, chunk, number, damaged)

    def _verified(self, item: Item, source: Units, about: dict[str, Any]) -> Answer:
        """The verification of a disk image, as facts."""
        medium = self.opened.medium(item, source)
        noted = source.notes(place_of(item).container, item.version)
        others = [name for name in DIGESTS if name in noted]
        whole = about["kind"] == "verify"
        steps = timed(verifying(medium, min(cores(), _THREADS), others, whole=whole), "verify", self.seconds)
        result = next(step for step in steps if isinstance(step, Verification))
        facts = [Fact("verification", "result", {"result": result.result}, "")]
        for name, digest in result.computed.items():
            facts.append(Fact("digest", name, {"stored": result.stored.get(name), "computed": digest}, ""))
        facts += [Fact("damage", damage.segment, damage._asdict(), "") for damage in result.damage]
        yield self._facts(facts, about)
        problem = None
        if result.result == "mismatch":
            problem = "the digests of its content differ from those that are stored with it"
        elif result.damage:
            many = len(result.damage) > 1
            problem = f"{len(result.damage):,} range{'s' * many} of its sectors {'are' if many else 'is'} damaged"
        yield self._row(about | {"problem": problem})

    def _facts_file(self, item: Item, source: Units, about: dict[str, Any]) -> Answer:
        """What a file says, as far as it can be read. Raises Unreadable if nothing of it can."""
        place = place_of(item)
        if place.stop > LARGEST:
            raise Unreadable(f"It has {place.stop:,} bytes, more than such a file can have.")
        data, lost, *problems = self._content(item, source)
        is_known = is_source(place.path or "", data) or any(start == 0 for start, _ in lost)
        if not is_known:
            raise Unreadable(f"This is not what its name says: it begins with {data[:8].hex(' ')}.")
        logs = []
        for log in place.beside:
            if log.stop <= LARGEST_LOG:
                content, _, *more = self._content(item_at(item, log), source)
                logs.append(content)
                problems += [f"Its transaction log: {problem}" for problem in more if problem]
        found: list[Fact] = []
        try:
            found.extend(facts_of(place.path or "", data, logs, lost))
        except Unreadable as error:
            if not found:
                raise Unreadable(" ".join(filter(None, [str(error), *problems]))) from error
            problems.append(str(error))
        about |= {"problem": " ".join(filter(None, problems)) or None}
        if found:
            yield self._facts(found, about)
        yield self._row(about)

    def _content(self, item: Item, source: Units) -> tuple[bytes, list[tuple[int, int]], str]:
        """The whole of a small file; the parts of it that could not be read; and a sentence, if there are some."""
        parts = Parts(item, source, self.opened, self.seconds)
        held = BytesIO()  # unlike a list of parts, it takes their bytes only once
        for part in parts:
            held.write(part)
        data = held.getvalue()[: parts.place.stop]
        lost = parts.lost()
        return data, lost, parts.problem or (_DAMAGED if lost else "")

    def _facts(self, facts: Sequence[Fact], about: dict[str, Any]) -> Detail:
        values = [msgspec.json.encode(fact.value, enc_hook=str).decode() for fact in facts]
        rows = [about | fact._asdict() | {"value": value} for fact, value in zip(facts, values, strict=True)]
        return Detail("facts", pa.RecordBatch.from_pylist(rows, schema=self.facts))

    def _row(self, values: dict[str, Any]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([values], schema=self.unit)


class Parts:
    """The bytes of a unit, part by part, and some beyond, for the end of its last chunk."""

    def __init__(self, item: Item, source: Units, opened: Opened, seconds: dict[str, float]) -> None:
        self.item, self.source, self.opened = item, source, opened
        self.place = place_of(item)
        self.problem: str | None = None
        """What keeps the rest of the unit from being read."""
        found = self._member() if self.place.member else self._ranges()
        self._parts = peekable(timed(found, "read", seconds))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def head(self) -> bytes:
        """The first bytes of the unit, before they are taken."""
        return self._parts.peek(b"")[:8]

    def header(self) -> Header | None:
        """The header of the log, if it has one."""
        if self.place.kind == "carve":
            return None
        return header_of(self._read_at(0, FILE_HEADER) if self.place.start else self._parts.peek(b""))

    def are_new(self, records: Sequence[Record]) -> list[bool]:
        """Which of these records are in no unit of an earlier stage."""
        if self.place.stage == STAGES[0]:
            return [True] * len(records)
        known = self.opened.known(self.item, self.source)
        digests = np.array([record.digest for record in records], np.uint64)
        at = np.minimum(np.searchsorted(known, digests), max(0, len(known) - 1))
        return [True] * len(records) if not len(known) else (known[at] != digests).tolist()

    def is_in_log(self, chunk: Chunk) -> bool:
        """Whether a chunk on a disk lies in a log of a file system."""
        return self.opened.is_in_log(self.item, self.source, chunk)

    def is_damaged(self, offset: int) -> bool:
        """Whether the chunk at this offset lies, in part, where the disk image is damaged, or cannot be read."""
        if not self._is_on_disk:
            return self._loose.is_damaged(offset, CHUNK)
        if self.place.kind == "carve":
            return self.opened.medium(self.item, self.source).is_damaged(offset, CHUNK)
        system = self.opened.system(self.item, self.source)
        return system.has_damage and any(system.is_damaged(*place) for place in self._places(offset, offset + CHUNK))

    def is_log_damaged(self) -> bool:
        """Whether any chunk of the unit, which was read, lies where the disk image is damaged, if it is of a log."""
        starts = range(self.place.start, self.place.stop, CHUNK)
        return self._is_on_disk and self.place.kind == "log" and any(map(self.is_damaged, starts))

    def _places(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where these bytes of the log lie on the disk: the first byte and the length of each part."""
        for extent in self._extents:
            first, last = max(begin, extent.start), min(end, extent.start + extent.length)
            if first < last and extent.is_packed:  # which of its bytes they are is not known
                yield extent.at, extent.length
            elif first < last:
                yield extent.at + first - extent.start, last - first

    @cached_property
    def _extents(self) -> list[Extent]:
        """Where the log lies on the disk."""
        return self.opened.system(self.item, self.source).extents(self.place.inode)

    @cached_property
    def _loose(self) -> Raw:
        """A loose log. Sectors of it that cannot be read are zeros."""
        read = partial(self.source.read_at, self.item)
        return Raw([SegmentFile(self.item.key, self.place.size, read)])

    @property
    def _is_on_disk(self) -> bool:
        return not self.place.address

    def _read_at(self, offset: int, length: int) -> bytes:
        """A part of the log, or of the disk that is carved."""
        if not self._is_on_disk:
            data = self._loose.read_at(offset, length)
            if self._loose.has_damage:
                self.problem = UNREADABLE
            return data
        if self.place.kind == "carve":
            return self.opened.medium(self.item, self.source).read_at(offset, length)
        return self.opened.system(self.item, self.source).read_at(self.place.inode, offset, length)

    def _ranges(self) -> Iterator[bytes]:
        size = self.place.size
        if self._is_on_disk and self.place.kind != "carve":
            size = self.opened.system(self.item, self.source).size_of(self.place.inode)
        stop = min(size, self.place.stop + CHUNK)
        for at in range(self.place.start, stop, _STRIDE):
            yield self._read_at(at, min(_STRIDE, stop - at))

    def _member(self) -> Iterator[bytes]:
        """A file in an archive. What can be read of it is read, though its end may be damaged."""
        archive = self.opened.archive(self.item, self.source)
        try:
            yield from archive.unpacked(int(self.place.member))
        except DAMAGED as error:
            self.problem = f"The archive is damaged: {error}."
            if archive.bytes.has_damage:
                self.problem = f"{self.problem} {UNREADABLE}"

    def lost(self) -> list[tuple[int, int]]:
        """The parts of the file, which was read, that could not be read, and are zeros: where each begins, and ends."""
        if self.place.member:
            return self.opened.archive(self.item, self.source).lost_of(int(self.place.member)) if self.problem else []
        if not self._is_on_disk:
            return self._loose.lost
        return merged(self._damaged())

    def _damaged(self) -> Iterator[tuple[int, int]]:
        """The parts of a file in a file system that are damaged on the disk."""
        system = self.opened.system(self.item, self.source)
        for extent in self._extents if system.has_damage else ():
            stop = extent.at + extent.length
            if extent.is_packed and system.is_damaged(extent.at, extent.length):
                yield extent.start, extent.start + extent.length
            for at, length in () if extent.is_packed else blocks(extent.at, stop, _BLOCK):
                if system.is_damaged(at, length):
                    start = extent.start + at - extent.at
                    yield start, start + length


def chunks_in(parts: Parts) -> Iterator[tuple[Chunk, list[Record]]]:
    """The chunks of a unit, each with the frames of its records.

    Carving leaves out those that lie in a log, and records whose end is not theirs: what was written over the rest of
    a chunk, or a piece of another file.
    """
    is_carved = parts.place.kind == "carve"
    for chunk in chunks_of(parts, parts.place.start, parts.place.stop):
        if not is_carved:
            yield chunk, records_of(chunk)
        elif not parts.is_in_log(chunk):
            yield chunk, [record for record in records_of(chunk) if record.whole]
