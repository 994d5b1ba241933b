"""A machine: the records that rules look at, and what is known besides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fanfold.evidence.coverage import is_part
from fanfold.evidence.report.changes import Changes
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.report.record import STEADY, Record, names_of, of_best_logs, short_provider
from fanfold.evidence.tables import ShadowCopy, short_log

CLOCK = (1, 12, 13, 24, 4616, 6013)
"""The events that tell the time zone, and changes of the clock."""
_AUDIT = "Security-Auditing"


class Recovered(NamedTuple):
    """What was recovered of a log."""

    records: int
    first_id: int
    last_id: int
    first: datetime | None
    last: datetime | None

    @classmethod
    def of(cls, logs: Sequence[Mapping[str, Any]]) -> "Recovered":
        """The records of several logs, by their coverage."""
        some = [log for log in logs if log["records"]]
        times = [log[end] for log in some for end in ("first_time", "last_time") if log.get(end)]
        return cls(
            sum(log["records"] for log in some),
            min((log["first_record_id"] for log in some), default=0),
            max((log["last_record_id"] for log in some), default=0),
            min(times, default=None),
            max(times, default=None),
        )

    def in_words(self, clock: Clock) -> str:
        """How many there are, and how far they reach: 12 recovered records are there (1 to 12, 4 May 2021)."""
        ids = f"{self.first_id:,} to {self.last_id:,}" if self.last_id > self.first_id else f"{self.first_id:,}"
        local = [clock.local(time) for time in (self.first, self.last) if time]
        days = " to ".join(dict.fromkeys(f"{time.day} {time:%b %Y}" for time in local))
        are = "s are" if self.records > 1 else " is"
        return f"{self.records:,} recovered record{are} there ({', '.join(filter(None, (ids, days)))})"


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
    recovered_times: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Those of records of these logs that were recovered."""
    partial: Sequence[tuple[str, str]] = ()
    """Files, and archives that they are in, that were read in part only, each with the reason."""
    is_mixed: bool = False
    """Whether the logs are of several machines."""

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
        found = [log for log in self._called.get(name.lower(), ()) if log["origin"] == "live"]
        return max(found, key=lambda log: (bool(log["newest_time"]), log["newest_time"]), default=None)

    @cached_property
    def _called(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The logs by their short names, in lower case."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for log in self.logs:
            for name in _names(log):
                found.setdefault(name, []).append(log)
        return found

    def record_at(self, log: Mapping[str, Any], record_id: int, time: datetime | None = None) -> Record:
        """A record of which only its place is known."""
        short = short_log(log["path"])
        return Record(short, record_id, time, 0, "", "", {}, name=f"{log.get('name') or short}#{record_id}")

    def is_unread(self, name: str) -> bool:
        """Whether a log of this short name is listed, and was not read."""
        return any(name.lower() in _names({"path": path}) for path in self.unread)

    def why_none(self, name: str) -> str:
        """Why a log does not tell what did not happen: it is not there, was not read, is empty, or lacks records.

        Empty if it tells.
        """
        if self.is_mixed:
            return "the logs are of several machines"
        if self.is_unread(name):
            return f"the log {name} is there, but was not read"
        log = self.log(name)
        if log is None:
            recovered = self.recovered(name)
            if not recovered.records and self.is_carved(name):
                return f"of the log {name}, only records in free space are there"
            found = f"of the log {name}, only {recovered.in_words(self.clock)}"
            return found if recovered.records else f"the {name} log was not found"
        if is_part(log):
            return f"the log {name} is a part of another one: its records were chosen from that"
        if log.get("problem"):
            return f"a part of the log {name} could not be read"
        if log["records"] and log.get("undecoded"):
            return f"not all records of the log {name} could be decoded"
        if log["records"]:
            return ""
        recovered = self.recovered(name)
        return f"the log {name} has no record" + f", but {recovered.in_words(self.clock)}" * bool(recovered.records)

    def recovered(self, name: str) -> Recovered:
        """The records of a log of this short name that were found where it was deleted, and in shadow copies."""
        return Recovered.of([log for log in self._called.get(name.lower(), ()) if log["origin"] != "live"])

    def reach(self, name: str) -> str:
        """How far a log reaches that is there, and what was recovered of it: its records 31,002 to 51,235."""
        log, recovered = self.log(name), self.recovered(name)
        if log is None or not log["records"]:
            return ""
        more = f", and {recovered.in_words(self.clock)}" if recovered.records else ""
        first, last = log["first_record_id"], log["last_record_id"]
        return (f"its records {first:,} to {last:,}" if last > first else f"its record {first:,}") + more

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

    def span(self, records: Sequence[Record]) -> str:
        """When something was seen, after a comma: the first time and the last. Empty if no record has a time."""
        timed = sorted((record.time, number) for number, record in enumerate(records) if record.time)
        seen = dict.fromkeys(self.clock.full(time, records[number]) for time, number in (*timed[:1], *timed[-1:]))
        return f", {' to '.join(seen)}" if seen else ""

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
        steady = (log["newest_time"] for log in self._timed if not _names(log).isdisjoint(STEADY))
        return max(steady, default=None)

    @property
    def _timed(self) -> Sequence[Mapping[str, Any]]:
        return [log for log in self.logs if log["newest_time"] and log["origin"] == "live"]


def _names(log: Mapping[str, Any]) -> set[str]:
    """The short names of a log, in lower case."""
    return names_of(short_log(log["path"] or ""), log.get("channel") or "")
