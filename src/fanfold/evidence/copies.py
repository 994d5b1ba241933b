"""The job that lists the event logs in the shadow copies of disk images: which units they have.

    containers ──a row with shadow copies──▶ each copy, the newest first ──▶ the units of its logs

It is a job of its own so that a scan can do it later: with the library that it needs, or for somebody who first scanned
without shadow copies.

Many copies of a volume hold the same logs. So only the chunks are listed that may differ from the next newer copy; of
the two newest copies, all are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import pyarrow as pa

from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.ntfs import FileSystem, FoundLog
from fanfold.evidence.disk.shadow import Changes, Copies, Copy, catalog
from fanfold.evidence.disk.volumes import SHADOW_COPY, Volume, name_of_copy, volumes
from fanfold.evidence.eventlog.chunks import CHUNK, FILE_HEADER, SECTOR
from fanfold.evidence.files import answered, timed
from fanfold.evidence.opened import Opened
from fanfold.evidence.units import CONTAINERS, CONTENTS_SCHEMA, COPIES, Place, Units, contents, item_at, parts_of
from fanfold.job import Detail, Failure, Item, Opener, key_field

_SCHEMA = pa.schema(
    [
        key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("problems", pa.list_(pa.string())),  # what of the copies cannot be read
    ]
)


@dataclass(frozen=True)
class ShadowCopies:
    """List the event logs in the shadow copies of disk images."""

    name: ClassVar[str] = COPIES

    def source(self, addresses: Sequence[str]) -> "Disks":
        """The disk images with shadow copies that a database has listed: its address."""
        return Disks.open(list(addresses))

    def schema(self) -> pa.Schema:
        """A row for each of those disk images."""
        return _SCHEMA

    def details(self) -> Mapping[str, pa.Schema]:
        """The units in their shadow copies."""
        return {"contents": CONTENTS_SCHEMA}

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same disk images would give other units."""
        return {"units": "1"}

    def open(self) -> "Listing":
        """Nothing needs to be set up."""
        return Listing()


class Disks(Units):
    """The disk images with shadow copies that a database has listed, as a source."""

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - they are not files
        """One item for each."""
        for row in self._table(CONTAINERS).to_table(["key", "version", "media_bytes", "volumes"]).to_pylist():
            if any(volume["kind"] == SHADOW_COPY for volume in row["volumes"] or ()):
                disk = Item(row["key"], row["media_bytes"], row["version"], "")
                yield item_at(disk, Place.of_disk(disk.key, disk.size))


class Listing:
    """Looks into shadow copies."""

    def __init__(self) -> None:
        self.seconds = {"list": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        assert isinstance(source, Disks), source  # see `ShadowCopies.source`
        for item in items:
            yield from timed(answered(item, _answer(item, source)), "list", self.seconds)


def _answer(item: Item, source: Disks) -> Iterator[pa.RecordBatch | Detail]:
    """The units of a disk image, then its row."""
    medium, problems = Opened().medium(item, source), list[str]()
    for volume in volumes(medium):
        if volume.system == "NTFS":
            yield from contents(item, VolumeCopies(item.key, medium, volume, problems).units())
    row = {"key": item.key, "version": item.version, "problems": list(dict.fromkeys(problems))}
    yield pa.RecordBatch.from_pylist([row], schema=_SCHEMA)


class _State(NamedTuple):
    """A shadow copy, and the logs that were found in it."""

    copy: Copy
    system: FileSystem
    logs: dict[int, bytes]
    """Where they lie, by their numbers in the file table: see `FileSystem.content`."""


class VolumeCopies:
    """The shadow copies of a volume."""

    def __init__(self, key: str, medium: Medium, volume: Volume, problems: list[str]) -> None:
        self.key, self.medium, self.volume, self.problems = key, medium, volume, problems
        self.found, _ = catalog(medium, volume.start, volume.size)  # what is wrong is a problem of the volume

    def units(self) -> Iterator[tuple[str, Place]]:
        """The units, with their keys. What cannot be read becomes a problem. Raises OSError."""
        if not self.found:
            return
        try:
            copies = Copies(self.medium, self.volume.start, self.volume.size)
        except Unreadable as error:
            self.problems.append(f"{self.volume.name}: its {len(self.found):,} shadow copies cannot be read: {error}.")
            return
        if len(copies) != len(self.found):
            self.problems.append(f"{self.volume.name}: its catalog of shadow copies is damaged; none of them was read.")
            return
        newer: _State | None = None
        for copy in reversed(self.found):
            try:
                state = _State(copy, FileSystem(copies.medium(copy.number), 0), {})
                yield from self._logs(state, newer)
                newer = state
            except Unreadable as error:
                self.problems.append(f"{self._name(copy)} cannot be read to its end: {error}.")
                newer = None

    def _name(self, copy: Copy) -> str:
        return name_of_copy(self.volume.name, copy.number)

    def _logs(self, state: _State, newer: _State | None) -> Iterator[tuple[str, Place]]:
        """The units of a copy. Those that were deleted before it was made are left out."""
        changes = self._changes(state.copy, newer)
        for log in _logs(state.system, newer, changes):
            if isinstance(log, str):
                self.problems.append(f"{self.volume.name}, in a shadow copy: {log}")
            elif log.unread:
                self.problems.append(f"{self.volume.name}, in a shadow copy: {log.path} {log.unread}")
            elif log.size and not log.is_deleted:
                yield from self._log(state, newer, changes, log)

    def _changes(self, copy: Copy, newer: _State | None) -> Changes | None:
        """What may differ between a copy and the next newer one; None if that is not known.

        The library gives zeros for blocks of the newest copy that no file used, so that one is not compared with.
        """
        if newer is None or newer.copy.number == len(self.found):
            return None
        try:
            return Changes(self.medium, self.volume.start, self.volume.size, copy, newer.copy)
        except Unreadable:  # though the library can read it
            return None

    def _log(
        self, state: _State, newer: _State | None, changes: Changes | None, log: FoundLog
    ) -> Iterator[tuple[str, Place]]:
        size = min(log.size, state.system.medium.size)  # a damaged record may claim anything
        content = state.logs[log.inode] = state.system.content(log.inode)
        chosen = None
        if newer and changes and content and newer.logs.get(log.inode) == content:
            chosen = _chunks(changes.of(state.system.extents(log.inode)), size)
        name = f"{self.key}/{log.key(self._name(state.copy))}"
        place = replace(self._in(state.copy), path=log.path, inode=log.inode)
        for unit, start, stop in parts_of(name, size, chosen):
            if chosen and start:  # a damaged log may have a chunk that begins elsewhere, and ends in this one
                start -= CHUNK - SECTOR
            yield unit, replace(place, start=start, stop=stop)

    def _in(self, copy: Copy) -> Place:
        return replace(
            Place.of_disk(self.key, self.medium.size),
            volume=self._name(copy),
            origin="shadow",
            volume_start=self.volume.start,
            volume_size=self.volume.size,
            copy=copy.number,
            newest=len(self.found),
        )


def _logs(system: FileSystem, newer: _State | None, changes: Changes | None) -> "Iterator[FoundLog | str]":
    """The logs of a copy. Of its file table, only what may differ from the next newer copy is looked through."""
    table = system.content(0)
    if newer and changes and table and newer.system.content(0) == table:
        return system.logs(newer.system, changes.of(system.extents(0)))
    return system.logs()


def _chunks(ranges: Iterable[tuple[int, int]], size: int) -> list[int]:
    """The numbers of the chunks of a log that have some of these bytes."""
    found: set[int] = set()
    for first, last in ranges:
        if first < size:
            begin, end = (max(0, at - FILE_HEADER) // CHUNK for at in (first, min(last, size - 1)))
            found.update(range(begin, end + 1))
    return sorted(found)
