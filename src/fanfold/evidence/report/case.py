"""The records of one machine that the rules look at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from fanfold.errors import UsageError
from fanfold.evidence import coverage, tables
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.tables import short_log
from fanfold.evidence.units import quoted

_COLUMNS = (
    "path", "origin", "record_id", "offset", "chunk_ok", "damaged", "time", "event_id", "provider", "channel",
    "computer", "data", "image",
)  # fmt: skip
_ORIGINS = ("live", "deleted", "carved")


@dataclass(frozen=True)
class Record:
    """A record of an event log."""

    log: str
    """The short name of its log: Security, Partition/Diagnostic."""
    record_id: int
    time: datetime | None
    event_id: int
    provider: str
    computer: str
    data: Mapping[str, Any]
    origin: str = "live"
    is_sound: bool = True
    """Whether its bytes are as Windows wrote them: both checksums are right, and no sector was damaged."""

    @property
    def ref(self) -> str:
        """What `fanfold evidence show` finds it by."""
        return f"{self.log}#{self.record_id}"

    def text(self, *names: str) -> str:
        """The first of these values that is there, as text without the blanks around it; empty if none is."""
        for name in names:
            value = self.data.get(name)
            if value is not None and (text := str(value).strip()) not in ("", "-", "NULL"):
                return text
        return ""

    def number(self, name: str) -> int | None:
        """A value as a number; None if it is none."""
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
        told = [*self.of("Kernel-General", 24), *self.of("EventLog", 6013)]
        return Clock.of(told, self.zone, next((fact["name"] for fact in self.facts_of("zone")), ""))

    def facts_of(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """The facts of a kind."""
        return [fact for fact in self.facts if fact["kind"] == kind]

    def log(self, name: str) -> Mapping[str, Any] | None:
        """The coverage of a log that is there, by its short name."""
        return next((log for log in self.logs if log["path"] and short_log(log["path"]) == name), None)

    @cached_property
    def last(self) -> Mapping[str, Any] | None:
        """The log whose last record is the newest of all."""
        timed = [log for log in self.logs if log["last_time"] and log["origin"] == "live"]
        return max(timed, key=lambda log: log["last_time"], default=None)


def short_provider(name: str) -> str:
    """A provider without its maker."""
    return name.removeprefix("Microsoft-Windows-")


def load(database: str, image: str, event_ids: Sequence[int], zone: str | None = None) -> Case:
    """A machine's records with one of these ids. Raises UsageError for a machine that the database does not have."""
    every = list(tables.units(database))
    if image not in (known := sorted({unit["image"] for unit in every})):
        raise UsageError(f"{database} has no machine '{image}'. It has: {', '.join(known) or 'none'}.")
    logs = [log for log in coverage.logs(every) if log["image"] == image]
    chosen = f"image = {quoted(image)} AND event_id IN ({', '.join(map(str, sorted(set(event_ids))))})"
    rows = [row for batch in tables.events(database, chosen, _COLUMNS) for row in batch.to_pylist()]
    rows.sort(key=lambda row: (row["path"] or "~", _ORIGINS.index(row["origin"]), row["record_id"], row["offset"]))
    return Case(
        image,
        [record_of(row) for row in rows],
        logs,
        tables.container(database, image),
        tables.facts(database, image),
        zone,
    )


def machines(database: str) -> list[str]:
    """The machines of a database, sorted by name."""
    return sorted({unit["image"] for unit in tables.units(database) if unit["image"]})


def record_of(row: Mapping[str, Any]) -> Record:
    """A record, of a row of the table of events."""
    log = short_log(row["path"]) if row["path"] else (row["channel"] or "carved").removeprefix("Microsoft-Windows-")
    return Record(
        log,
        row["record_id"],
        row["time"],
        row["event_id"],
        row["provider"] or "",
        row["computer"] or "",
        flattened(orjson.loads(row["data"])) if row["data"] else {},
        row["origin"],
        bool(row["chunk_ok"]) and not row["damaged"],
    )


def flattened(data: Any) -> dict[str, Any]:
    """The values of a record by their names, those of a nested element too; unnamed ones are called 1, 2 and so on."""
    if isinstance(data, list):
        return {str(number): value for number, value in enumerate(data, 1)}
    if not isinstance(data, dict):
        return {"1": data}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name == "#attributes":
            continue
        if name == "Data" and isinstance(value, dict):
            text = value.get("#text")
            found |= flattened(text if isinstance(text, list) else [text])
        elif isinstance(value, dict):
            found |= flattened(value)
        else:
            found[name] = value
    return found


def file_of(fact: Mapping[str, Any]) -> str:
    """Where a fact is from: the file, and the place in it."""
    return f"{(fact['path'] or '').rpartition('/')[2]}: {fact['source']}"


def moment(fact: Mapping[str, Any], name: str) -> datetime | None:
    """A time among the values of a fact."""
    value = fact["value"].get(name)
    return datetime.fromisoformat(value) if value else None
