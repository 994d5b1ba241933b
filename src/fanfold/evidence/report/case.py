"""The records of one machine that the rules look at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.errors import UsageError
from fanfold.evidence import coverage, tables
from fanfold.evidence.coverage import is_part
from fanfold.evidence.references import References
from fanfold.evidence.report.changes import Changes
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.report.machines import FORWARDED, STEADY, are_loose, are_of_several, host, own
from fanfold.evidence.report.values import data_of
from fanfold.evidence.tables import ShadowCopy, short_log
from fanfold.evidence.units import quoted

_COLUMNS = (
    "path", "origin", "record_id", "offset", "chunk_ok", "damaged", "time", "event_id", "provider", "channel",
    "computer", "data", "image", "user_sid", "volume", "key", "keywords", "written_id",
)  # fmt: skip
CLOCK = (1, 12, 13, 24, 4616, 6013)
"""The events that tell the time zone, and changes of the clock."""
_ORIGINS = ("live", "shadow", "deleted", "carved")
_AUDIT = "Security-Auditing"
_OF_USER = "ntuser.dat"
_FAILURE = 0x10000000000000  # the keyword "Audit Failure"; see learn.microsoft.com, "Event Keywords"


@dataclass(frozen=True)
class Record:
    """A record of an event log."""

    log: str
    """The short name of its log: Security, Partition/Diagnostic."""
    record_id: int
    """Where it was written, which tells its place in its stream."""
    time: datetime | None
    event_id: int
    provider: str
    computer: str
    data: Mapping[str, Any]
    origin: str = "live"
    is_sound: bool = True
    """Whether its bytes are as Windows wrote them: both checksums are right, and no sector was damaged."""
    channel: str = ""
    """Where it was written to. An archived log has another name than its channel."""
    user_sid: str = ""
    """The account that its program ran as."""
    name: str = ""
    """What it is called where LOG#ID would name others, too."""
    installation: str = ""
    """The folder of its Windows, if that is not the one that was used last."""
    machine: str = ""
    """The computer that it names, if the logs are of several machines."""
    is_copy: bool = False
    """Whether it had another id where it was written: it is of an export."""
    is_failure: bool = False
    """Whether it is of something that was tried and failed: some events of auditing have both."""

    @property
    def stream(self) -> str:
        """Records of one stream are numbered in the order in which they were written."""
        stream = (self.channel or self.log).lower()
        return ": ".join(filter(None, (self.machine, self.installation, stream)))

    def is_of(self, log: str) -> bool:
        """Whether it is of a log of this short name, also if the log's file is called otherwise."""
        return log.lower() in _names(self.log, self.channel)

    @property
    def ref(self) -> str:
        """What `fanfold evidence show` finds it by."""
        return self.name or f"{self.log}#{self.record_id}"

    def text(self, *names: str) -> str:
        """The first of these values that is there, as text without the blanks around it; empty if none is."""
        for name in names:
            value = self.data.get(name)
            if value is not None and (text := str(value).strip()) not in ("", "-", "NULL"):
                return text
        return ""

    def account(self, domain: str, name: str) -> str:
        """An account as DOMAIN\\NAME, of the values that have its domain and its name; empty if there are none."""
        return "\\".join(filter(None, (self.text(domain), self.text(name))))

    def number(self, name: str) -> int | None:
        """A value as a number; None if it is not one."""
        try:
            return int(str(self.data.get(name)), 0)
        except ValueError:
            return None


@dataclass
class Case:
    """A machine: the records that rules look at, in the order of their logs, and what is known besides."""

    image: str
    records: Sequence[Record]
    logs: Sequence[Mapping[str, Any]]
    """The coverage of each log; see `coverage.logs`."""
    container: Mapping[str, Any]
    """The row of its disk image; empty for loose logs."""
    facts: Sequence[Mapping[str, Any]] = ()
    zone: str | None = None
    """The IANA name of the time zone to use instead of the machine's own."""
    others: Mapping[str, int] = field(default_factory=dict)
    """The records of other machines, which were forwarded to this one, by their names. No rule looks at them."""
    unread: Sequence[str] = ()
    """The paths of logs that are listed and not read: they failed, or the scan was stopped."""
    failures: Sequence[tuple[str, str]] = ()
    """The paths of those that could not be read, each with the reason."""
    copies: Sequence[ShadowCopy] = ()
    """The shadow copies on its disk image."""
    problems: Sequence[str] = ()
    """What of them could not be read."""
    steady_times: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """The times of the records of the logs that are always written to: microseconds since 1970."""

    def of(self, provider: str, *event_ids: int) -> Iterator[Record]:
        """The records of a provider, whose name may lack `Microsoft-Windows-`, with one of these ids."""
        for record in self._by_provider.get(provider.lower(), ()):
            if record.event_id in event_ids:
                yield record

    @cached_property
    def _by_provider(self) -> Mapping[str, Sequence[Record]]:
        found: dict[str, list[Record]] = {}
        for record in self.records:
            found.setdefault(short_provider(record.provider).lower(), []).append(record)
        return found

    @cached_property
    def is_mixed(self) -> bool:
        """Whether the logs are of several machines."""
        return are_loose(self.logs) and are_of_several(self.records)

    @cached_property
    def clock(self) -> Clock:
        """The machine's time zone, over time. The registry's, which is the last one, if no record tells."""
        if self.is_mixed:  # each machine may be in another zone
            return Clock.of([], self.zone)
        records = of_best_logs([*self.of("Kernel-General", 24), *self.of("EventLog", 6013)])
        registry = next((fact["name"] for fact in self.facts_of("zone")), "")
        return Clock.of(records, self.zone, registry, self.changes)

    def facts_of(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """The facts of a kind."""
        return [fact for fact in self.facts if fact["kind"] == kind]

    def log(self, name: str) -> Mapping[str, Any] | None:
        """The coverage of a log that is there, by its short name; of two, the one that was used last."""
        found = [log for log in self.logs if log["origin"] == "live" and _is_called(log, name)]
        return max(found, key=lambda log: (bool(log["newest_time"]), log["newest_time"]), default=None)

    def record_at(self, log: Mapping[str, Any], record_id: int, time: datetime | None = None) -> Record:
        """A record of which only its place is known."""
        short = short_log(log["path"])
        return Record(short, record_id, time, 0, "", "", {}, name=f"{log.get('name') or short}#{record_id}")

    def is_unread(self, name: str) -> bool:
        """Whether a log of this short name is listed, and was not read."""
        return any(_is_called({"path": path}, name) for path in self.unread)

    def why_none(self, name: str) -> str:
        """Why a log does not tell what did not happen: it is not there, was not read, is empty, or only a part of one.

        Empty if it tells.
        """
        if self.is_mixed:
            return "the logs are of several machines"
        if self.is_unread(name):
            return f"the log {name} is there, but was not read"
        log = self.log(name)
        if log is None:
            count = self.recovered(name)
            if not count and self.is_carved(name):
                return f"of the log {name}, only records in free space are there"
            recovered = f"of the log {name}, only {count:,} recovered record{'s are' if count > 1 else ' is'} there"
            return recovered if count else f"the {name} log was not found"
        if not log["records"]:
            return f"the log {name} has no record"
        return f"the log {name} is a part of another one: its records were chosen from that" if is_part(log) else ""

    def recovered(self, name: str) -> int:
        """How many records of a log of this short name were found where it was deleted, and in shadow copies."""
        return sum(log["records"] for log in self.logs if log["origin"] != "live" and _is_called(log, name))

    def is_carved(self, name: str) -> bool:
        """Whether records of a log of this short name were found in free space."""
        return any(record.origin == "carved" and record.log.lower() == name.lower() for record in self.records)

    @cached_property
    def changes(self) -> Changes:
        """When the clock was set."""
        records = [*self.of("Kernel-General", 1, 12, 13, 24), *self.of(_AUDIT, 4616)]
        return Changes.of(of_best_logs(records), self._reached)

    def when(self, record: Record) -> str:
        """The time of a record, for the beginning of a sentence; empty if it has none."""
        return f"{self.clock.full(record.time, record)}: " if record.time else ""

    @cached_property
    def last(self) -> Mapping[str, Any] | None:
        """The log whose newest record is the latest.

        A log that was written to only while the clock was ahead, before it was set back, does not count if its time is
        later than anything in the logs that are always written to.
        """
        reached = self._reached
        known = [log for log in self._timed if reached is None or log["newest_time"] <= reached or not any(
            first <= log["newest_time"] <= last for first, last in self.changes.undone)]  # fmt: skip
        return max(known, key=lambda log: log["newest_time"], default=None)

    @cached_property
    def _reached(self) -> datetime | None:
        """The last time in the logs that Windows always writes to; None if all of them are missing."""
        steady = (log["newest_time"] for log in self._timed if any(_is_called(log, name) for name in STEADY))
        return max(steady, default=None)

    @property
    def _timed(self) -> Sequence[Mapping[str, Any]]:
        return [log for log in self.logs if log["newest_time"] and log["origin"] == "live"]


def _is_called(log: Mapping[str, Any], name: str) -> bool:
    """Whether a log has this short name."""
    return name.lower() in _names(short_log(log["path"] or ""), log.get("channel") or "")


def _names(file: str, channel: str) -> set[str]:
    """What a log is called: by its file, which may be renamed, and by the channel of its records.

    Forwarded records have the channels of other machines.
    """
    called = file.lower()
    return ({called} if called == FORWARDED else {called, short_provider(channel).lower()}) - {""}


def short_provider(name: str) -> str:
    """A provider without its maker."""
    return name.removeprefix("Microsoft-Windows-")


def load(database: str, image: str, event_ids: Sequence[int], zone: str | None = None) -> Case:
    """A machine's records with one of these ids. Raises UsageError for a machine that the database does not have."""
    units = list(tables.units(database, where=f"image = {quoted(image)}"))
    if not units:
        raise UsageError(f"{database} has no machine '{image}'. It has: {', '.join(machines(database)) or 'none'}.")
    references = References(tables.units(database, References.COLUMNS))
    logs = [log | {"name": references.log(log)} for log in coverage.logs(units)]
    earlier = _earlier(logs)
    chosen = f"image = {quoted(image)} AND event_id IN ({', '.join(map(str, sorted(set(event_ids))))})"
    rows = (row for batch in tables.events(database, chosen, _COLUMNS) for row in batch.to_pylist())
    found = (record_of(row, references.name(row), earlier.get((row["volume"], row["path"]), "")) for row in rows)
    ordered = [*_each_once(sorted(found, key=_order))]
    is_mixed = are_loose(logs) and are_of_several(ordered)
    records, others = own([replace(one, machine=host(one)) for one in ordered] if is_mixed else ordered, is_mixed)
    unread, failures = tables.unread(database, image)
    return Case(
        image,
        records,
        logs,
        tables.container(database, image),
        tables.facts(database, image),
        zone,
        others,
        unread,
        failures,
        tables.copies(database, image),
        [problem for key, problem in tables.problems_of_copies(database) if key == image],
        _steady_times(database, image),
    )


def _steady_times(database: str, image: str) -> npt.NDArray[np.int64]:
    channels = ", ".join(quoted(name.capitalize()) for name in STEADY)
    where = f"image = {quoted(image)} AND origin = 'live' AND channel IN ({channels}) AND time IS NOT NULL"
    times = [batch["time"].cast(pa.int64()).to_numpy() for batch in tables.events(database, where, ["time"])]
    return np.concatenate(times)


def _order(record: Record) -> tuple[int, bool, str, int, bool]:
    """Records of logs that are there come first, and of them those of earlier installations.

    Those of one stream are in the order in which they were written.
    """
    origin = _ORIGINS.index(record.origin)
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


def of_best_logs(records: Sequence[Record]) -> list[Record]:
    """Those of each stream that are in a log that is there; if none is, in a shadow copy; else in a deleted log.

    Where there is nothing else, those that were carved.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        found.setdefault(record.stream, {}).setdefault(record.origin, []).append(record)
    best = (next(some[origin] for origin in _ORIGINS if origin in some) for some in found.values())
    return [record for some in best for record in some]


def machines(database: str) -> list[str]:
    """The machines of a database, sorted by name."""
    return sorted({unit["image"] for unit in tables.units(database, ["image"], "image IS NOT NULL")})


def record_of(row: Mapping[str, Any], name: str = "", installation: str = "") -> Record:
    """A record with this name, of a row of the table of events."""
    log = short_log(row["path"]) if row["path"] else (row["channel"] or "carved").removeprefix("Microsoft-Windows-")
    return Record(
        log,
        row["record_id"] if row["written_id"] is None else row["written_id"],
        row["time"],
        row["event_id"],
        row["provider"] or "",
        row["computer"] or "",
        data_of(row),
        row["origin"],
        bool(row["chunk_ok"]) and not row["damaged"],
        row["channel"] or "",
        row["user_sid"] or "",
        name,
        installation,
        is_copy=row["written_id"] is not None,
        is_failure=bool((row["keywords"] or 0) & _FAILURE),
    )


def file_of(fact: Mapping[str, Any]) -> str:
    """Where a fact is from: the file, and the place in it."""
    name = short_file(fact["path"] or "")
    return f"{name}: {fact['source']}" if fact["source"] else name


def short_file(path: str) -> str:
    """The name of a file; that of a user's hive with the user: emsadmin/NTUSER.DAT."""
    user = user_of(path)
    name = path.rpartition("/")[2]
    return f"{user}/{name}" if user else name


def user_of(path: str) -> str:
    """The name of the folder that a user's hive lies in, which is the user's, as a rule. Empty for other files."""
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[2] if name.lower() == _OF_USER else ""


def moment(fact: Mapping[str, Any], name: str) -> datetime | None:
    """A time among the values of a fact."""
    value = fact["value"].get(name)
    return datetime.fromisoformat(value) if value else None
