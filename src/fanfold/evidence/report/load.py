"""Reads machines from the tables."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.errors import UsageError
from fanfold.evidence import coverage, tables
from fanfold.evidence.references import References
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.record import FORWARDED, ORIGINS, STEADY, Record, record_of
from fanfold.evidence.units import quoted

_COLUMNS = (
    "path", "origin", "record_id", "offset", "chunk_ok", "damaged", "time", "event_id", "provider", "channel",
    "computer", "data", "image", "user_sid", "volume", "key", "keywords", "written_id",
)  # fmt: skip
_TOGETHER = 250_000  # records of machines that are read together; a part of them is held in memory
_T = TypeVar("_T")
_Times = npt.NDArray[np.int64]


def machines(database: str) -> list[str]:
    """The machines of a database, sorted by name."""
    return sorted({unit["image"] for unit in tables.units(database, ["image"], "image IS NOT NULL")})


def load(database: str, image: str, event_ids: Sequence[int], zone: str | None = None) -> Case:
    """A machine's records with one of these ids. Raises UsageError for a machine that the database does not have."""
    return next(Machines(database).cases([image], event_ids, zone))


class Machines:
    """Reads the machines of a database: each table once for many of them, of which not all are held in memory."""

    def __init__(self, database: str) -> None:
        """Raises UsageError if the database has no evidence."""
        self.database = database
        self._records: Counter[str] = Counter()
        self._references = References(self._counted(tables.units(database, References.COLUMNS)))

    def _counted(self, units: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for unit in units:
            if unit["image"]:
                self._records[unit["image"]] += unit["records"] or 0
            yield unit

    @property
    def names(self) -> list[str]:
        """All of them, sorted."""
        return sorted(self._records)

    def cases(self, names: Sequence[str], event_ids: Sequence[int], zone: str | None = None) -> Iterator[Case]:
        """Machines, each with its records that have one of these ids. Raises UsageError for one that is not there."""
        if unknown := [name for name in names if name not in self._records]:
            known = ", ".join(self.names) or "none"
            raise UsageError(f"{self.database} has no machine '{unknown[0]}'. It has: {known}.")
        unread = tables.unread(self.database, names)
        copies = _by_image((copy.image, copy) for copy in tables.copies(self.database))
        problems = _by_image(tables.problems_of_copies(self.database))
        for some in self._groups(names):
            for name, read in self._read(some, event_ids).items():
                found = [*_each_once(sorted(read.records, key=_order))]
                is_mixed = are_loose(read.logs) and are_of_several(found)
                found = [replace(one, machine=one.host) for one in found] if is_mixed else found
                records, others = own(found, is_mixed)
                yield Case(name, records, read.logs, read.container, read.facts, zone, others, *unread[name],
                           copies.get(name, ()), problems.get(name, ()), read.times, read.recovered_times,
                           read.partial, is_mixed)  # fmt: skip

    def _groups(self, names: Sequence[str]) -> Iterator[list[str]]:
        """The machines that are read together: one, or as many as have few records."""
        group: list[str] = []
        for name in names:
            if group and sum(self._records[one] for one in (*group, name)) > _TOGETHER:
                yield group
                group = []
            group.append(name)
        if group:
            yield group

    def _read(self, names: Sequence[str], event_ids: Sequence[int]) -> "dict[str, _Read]":
        found = {name: _Read() for name in names}
        mine = f"image IN ({', '.join(map(quoted, names))})"
        units = _by_image((unit["image"], unit) for unit in tables.units(self.database, where=mine))
        earlier, archives = {}, tables.damaged_archives(self.database)
        for name, read in found.items():
            read.logs = [log | {"name": self._references.log(log)} for log in coverage.logs(units[name])]
            earlier[name] = _earlier(read.logs)
            read.partial = [*_partial(units[name], archives)]
        chosen = f"{mine} AND event_id IN ({', '.join(map(str, sorted(set(event_ids))))})"
        for batch in tables.events(self.database, chosen, _COLUMNS):
            for row in batch.to_pylist():
                folder = earlier[row["image"]].get((row["volume"], row["path"]), "")
                found[row["image"]].records.append(record_of(row, self._references.name(row), folder))
        for name, times, recovered in self._steady_times(mine):
            found[name].times = np.append(found[name].times, times)
            found[name].recovered_times = np.append(found[name].recovered_times, recovered)
        for row in tables.disks(self.database, names):
            found[row["key"]].container = row
        for fact in tables.facts(self.database, *names):
            found[fact["image"]].facts.append(fact)
        return found

    def _steady_times(self, where: str) -> Iterator[tuple[str, _Times, _Times]]:
        """The times of the records in the logs that are always written to, and those of recovered ones."""
        channels = ", ".join(quoted(name.capitalize()) for name in STEADY)
        steady = f"{where} AND channel IN ({channels}) AND time IS NOT NULL"
        for batch in tables.events(self.database, steady, ["image", "origin", "time"]):
            times = batch["time"].cast(pa.int64()).to_numpy()
            whose, origins = (batch[name].to_numpy(zero_copy_only=False) for name in ("image", "origin"))
            for name in np.unique(whose):
                of_image, is_live = whose == name, origins == ORIGINS[0]
                yield name, times[of_image & is_live], times[of_image & ~is_live]


@dataclass
class _Read:
    """What was read of a machine."""

    records: list[Record] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    container: dict[str, Any] = field(default_factory=dict)
    times: _Times = field(default_factory=lambda: np.empty(0, np.int64))
    recovered_times: _Times = field(default_factory=lambda: np.empty(0, np.int64))
    partial: list[tuple[str, str]] = field(default_factory=list)


def _partial(units: Iterable[Mapping[str, Any]], archives: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What of a machine was read in part: archives that it is in, and files, each with the reason."""
    for container in sorted({unit["container"] for unit in units} & archives.keys()):
        yield from ((container, problem) for problem in archives[container])
    for unit in units:
        if unit["kind"] in ("facts", "log") and unit["problem"]:
            yield unit["path"] or "", unit["problem"]


def _by_image(found: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    by_image: dict[str, list[_T]] = {}
    for image, one in found:
        by_image.setdefault(image, []).append(one)
    return by_image


def _order(record: Record) -> tuple[int, bool, str, int, bool]:
    """Records of logs that are there come first, and of them those of earlier installations.

    Those of one stream are in the order in which they were written.
    """
    origin = ORIGINS.index(record.origin)
    return origin, not record.installation, record.stream, record.record_id, record.is_copy


def _each_once(records: Iterable[Record]) -> Iterator[Record]:
    """Records, each from the first log that has it: a log may lie there twice, or parts of it as exports."""
    known: set[tuple[Any, ...]] = set()
    for record in records:
        what = (record.stream, record.record_id, record.time, record.event_id, record.computer)
        if what not in known:
            known.add(what)
            yield record


def _earlier(logs: Sequence[Mapping[str, Any]]) -> dict[tuple[str | None, str], str]:
    """The logs that are not of the Windows that was used last, by volume and path, with the folder of their Windows.

    A feature update leaves the logs of the Windows before in `Windows.old`, and a disk may have Windows twice.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for log in logs:
        folder, inside, _ = (log["path"] or "").lower().partition("/system32/winevt/")
        if inside and log["newest_time"]:
            volume = (log["volume"] or "").partition("@")[0]  # a shadow copy has the same Windows, as it was before
            found.setdefault("/".join(filter(None, [volume, folder])), []).append(log)
    last = max(found, key=lambda name: max(log["newest_time"] for log in found[name]), default="")
    return {(log["volume"], log["path"]): name for name, some in found.items() if name != last for log in some}


def are_loose(logs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether none of some logs lies where Windows keeps them: then they may have been gathered from anywhere."""
    return not any("/winevt/" in (log["path"] or "").lower() for log in logs)


def are_of_several(records: Sequence[Record]) -> bool:
    """Whether the logs that have these records are of several machines, as far as the names in them tell.

    A machine that was renamed has its old name in logs that are seldom written to, so these alone tell nothing. Logs
    that Windows always writes to, or two of one channel, are of one machine only if records of a log link their names.
    """
    names: dict[str, set[str]] = {}
    streams: dict[str, set[str]] = {}  # the logs of a channel
    for record in records:
        if record.origin == "live" and record.computer and record.log.lower() != FORWARDED:
            log = record.ref.rpartition("#")[0]
            names.setdefault(log, set()).add(record.host)
            streams.setdefault((record.channel or record.log).lower(), set()).add(log)
    telling = {log for stream, some in streams.items() if stream in STEADY or len(some) > 1 for log in some}
    machines = _linked(names.values())
    return len({next(n for n, one in enumerate(machines) if one & names[log]) for log in telling}) > 1


def _linked(groups: Iterable[set[str]]) -> list[set[str]]:
    """Sets of names, joined where they share one."""
    found: list[set[str]] = []
    for names in groups:
        apart = [one for one in found if not one & names]
        found = [*apart, names.union(*(one for one in found if one & names))]
    return found


def own(records: Sequence[Record], is_mixed: bool = False) -> tuple[list[Record], dict[str, int]]:
    """The records that are this machine's own, and how many there are of others, by their names.

    The log System has a machine's own records only, whatever the machine was called; events are forwarded to others.
    Of several machines (`is_mixed`), all are own but those of a log of forwarded events.
    """
    names = {record.host for record in records if record.is_of("System") and record.origin == "live"}
    if is_mixed or not names:
        names = {record.host for record in records if record.log.lower() != FORWARDED}
    names.add("")
    others = Counter(record.computer for record in records if record.host not in names)
    return [record for record in records if record.host in names], dict(others)
