"""Reads units: the records of a log become rows of the table of events, and the unit's row tells what was read."""

import zipfile
from collections.abc import Iterable, Iterator
from io import BufferedReader

import pyarrow as pa
from more_itertools import peekable

from fanfold.evidence.containers import DAMAGED
from fanfold.evidence.eventlog.chunks import CHUNK, FILE_HEADER, Header, chunks_of, header_of
from fanfold.evidence.eventlog.coverage import Coverage
from fanfold.evidence.eventlog.records import decoded
from fanfold.evidence.eventlog.rows import Found, batches
from fanfold.evidence.medium import Ranges, timed
from fanfold.evidence.units import Place, place_of
from fanfold.job import Detail, Failure, Item, Opener

_STRIDE = 8 << 20  # bytes of a read


class Reading:
    """Reads units."""

    def __init__(self, unit: pa.Schema, events: pa.Schema) -> None:
        self.unit, self.events = unit, events
        self.archives = Archives()
        self.seconds = {"read": 0.0, "decode": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        for item in items:
            try:
                yield from self._log(item, source)
            except OSError as error:
                yield Failure.of(item, "read", error)
            except DAMAGED as error:
                yield Failure.of(item, "decode", error)

    def _log(self, item: Item, source: Opener) -> Iterator[pa.RecordBatch | Detail]:
        """The records of a log, or of a part of one; then the row of the unit."""
        before = self.seconds["read"]
        place, parts = place_of(item), Parts(item, source, self.archives, self.seconds)
        header, coverage = parts.header(), Coverage()
        named = {"key": item.key, "version": item.version}
        named |= {name: getattr(place, name) for name in ("image", "volume", "path", "origin")}
        header_ok = bool(header and header.checksum_ok and not header.dirty)
        found = batches(_records(parts, place, coverage), named | {"header_ok": header_ok}, self.events)
        for rows in timed(found, "decode", self.seconds):
            yield Detail("events", rows)
        self.seconds["decode"] -= self.seconds["read"] - before  # decoding includes the reading
        row = named | {"container": place.container, "kind": "log", "problem": parts.problem} | coverage.row(header)
        yield pa.RecordBatch.from_pylist([row], schema=self.unit)


def _records(parts: "Parts", place: Place, coverage: Coverage) -> Iterator[Found]:
    """Every record in the order of the log."""
    for chunk in chunks_of(parts, place.start, place.stop):
        records = list(decoded(chunk))
        coverage.add(chunk, records)
        for record in records:
            yield Found(record, chunk, max(0, chunk.offset - FILE_HEADER) // CHUNK)


class Archives:
    """The archive that was opened last: many units lie in the same one."""

    def __init__(self) -> None:
        self.container: tuple[str, str] | None = None
        self.archive: zipfile.ZipFile | None = None

    def open(self, item: Item, source: Opener) -> zipfile.ZipFile:
        """The archive that a unit lies in. Raises OSError, and BadZipFile."""
        place = place_of(item)
        container = place.address, item.version
        if self.archive is None or self.container != container:
            self.archive = zipfile.ZipFile(BufferedReader(Ranges(source, item, place.size), 1 << 20))
            self.container = container
        return self.archive


class Parts:
    """The bytes of a unit, part by part, and some beyond, for the end of its last chunk."""

    def __init__(self, item: Item, source: Opener, archives: Archives, seconds: dict[str, float]) -> None:
        self.item, self.source, self.archives = item, source, archives
        self.place = place_of(item)
        self.problem: str | None = None
        """What keeps the rest of the unit from being read."""
        found = self._member() if self.place.member else self._range()
        self._parts = peekable(timed(found, "read", seconds))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def header(self) -> Header | None:
        """The header of the log, if it has one."""
        if self.place.start:
            return header_of(self.source.read_at(self.item, 0, FILE_HEADER))
        return header_of(self._parts.peek(b""))

    def _range(self) -> Iterator[bytes]:
        stop = min(self.place.size, self.place.stop + CHUNK)
        for at in range(self.place.start, stop, _STRIDE):
            yield self.source.read_at(self.item, at, min(_STRIDE, stop - at))

    def _member(self) -> Iterator[bytes]:
        """A log in an archive. What can be read of it is read, though its end may be damaged."""
        with self.archives.open(self.item, self.source).open(self.place.member) as file:
            try:
                while part := file.read(_STRIDE):
                    yield part
            except DAMAGED as error:
                self.problem = f"The archive is damaged: {error}"
