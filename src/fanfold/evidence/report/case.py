"""The records of one machine that the rules look at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec

from fanfold.errors import UsageError
from fanfold.evidence import coverage, tables
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.tables import ShadowCopy, short_log
from fanfold.evidence.units import quoted

_COLUMNS = (
    "path", "origin", "record_id", "offset", "chunk_ok", "damaged", "time", "event_id", "provider", "channel",
    "computer", "data", "image",
)  # fmt: skip
_ORIGINS = ("live", "shadow", "deleted", "carved")
_FORWARDED = "forwardedevents"
_OF_USER = "ntuser.dat"
_STEADY = ("system", "security", "application")
_JUMP = timedelta(minutes=1)


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
    channel: str = ""
    """Where it was written to. An archived log has another name than its channel."""

    @property
    def stream(self) -> str:
        """Records of one stream are numbered in the order in which they were written."""
        return (self.channel or self.log).lower()

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
        return next((log for log in self.logs if log["origin"] == "live" and _is_called(log, name)), None)

    def why_none(self, name: str) -> str:
        """Why a log has no record: it is not there, could not be read, or is empty. Empty if it has some."""
        if any(_is_called({"path": path}, name) for path in self.unread):
            return f"the log {name} is there, but was not read"
        log = self.log(name)
        if log is None:
            return f"there is no log {name}"
        return "" if log["records"] else f"the log {name} has no record"

    @cached_property
    def undone(self) -> Sequence[tuple[datetime, datetime]]:
        """Times that the clock had shown before it was set back: the first and the last of each such stretch."""
        found: list[tuple[datetime, datetime]] = []
        begun: datetime | None = None  # the earliest time since the clock was last set
        for record in self.records:
            if record.stream != "system" or record.origin != "live":
                continue
            is_change = record.event_id == 1 and short_provider(record.provider) == "Kernel-General"
            before, after = clock_change(record) if is_change else (None, None)
            if before and after and abs(after - before) >= _JUMP:
                if after < before:
                    found.append((max(after, begun or after), before))
                begun = after
            elif record.time:
                begun = min(begun or record.time, record.time)
        return found

    @cached_property
    def last(self) -> Mapping[str, Any] | None:
        """The log whose newest record is the latest.

        A log that was written to only while the clock was ahead, before it was set back, does not count if its time is
        later than anything in the logs that are always written to.
        """
        timed = [log for log in self.logs if log["newest_time"] and log["origin"] == "live"]
        steady = [log["newest_time"] for log in timed if short_log(log["path"]).lower() in _STEADY]
        reached = max(steady, default=None)
        known = [log for log in timed if reached is None or log["newest_time"] <= reached or not any(
            first <= log["newest_time"] <= last for first, last in self.undone)]  # fmt: skip
        return max(known, key=lambda log: log["newest_time"], default=None)


def _is_called(log: Mapping[str, Any], name: str) -> bool:
    return bool(log["path"]) and short_log(log["path"]).lower() == name.lower()


def clock_change(record: Record) -> tuple[datetime | None, datetime | None]:
    """The time before the clock was set, and after."""
    return _moment(record.text("OldTime", "PreviousTime")), _moment(record.text("NewTime"))


def _moment(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def short_provider(name: str) -> str:
    """A provider without its maker."""
    return name.removeprefix("Microsoft-Windows-")


def load(database: str, image: str, event_ids: Sequence[int], zone: str | None = None) -> Case:
    """A machine's records with one of these ids. Raises UsageError for a machine that the database does not have."""
    units = list(tables.units(database, where=f"image = {quoted(image)}"))
    if not units:
        raise UsageError(f"{database} has no machine '{image}'. It has: {', '.join(machines(database)) or 'none'}.")
    chosen = f"image = {quoted(image)} AND event_id IN ({', '.join(map(str, sorted(set(event_ids))))})"
    rows = [row for batch in tables.events(database, chosen, _COLUMNS) for row in batch.to_pylist()]
    records, others = own(sorted(map(record_of, rows), key=_order))
    unread, failures = tables.unread(database, image)
    return Case(
        image,
        records,
        list(coverage.logs(units)),
        tables.container(database, image),
        tables.facts(database, image),
        zone,
        others,
        unread,
        failures,
        tables.copies(database, image),
        [problem for key, problem in tables.problems_of_copies(database) if key == image],
    )


def _order(record: Record) -> tuple[int, str, int]:
    """Records of logs that are there come first; those of one stream are in the order in which they were written."""
    return _ORIGINS.index(record.origin), record.stream, record.record_id


def own(records: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
    """The records that are this machine's own, and how many there are of others, by their names.

    The log System has a machine's own records only, whatever the machine was called; events are forwarded to others.
    """
    names = {_host(record) for record in records if record.log.lower() == "system" and record.origin == "live"}
    names = names or {_host(record) for record in records if record.log.lower() != _FORWARDED}
    names.add("")
    others = Counter(record.computer for record in records if _host(record) not in names)
    return [record for record in records if _host(record) in names], dict(others)


def _host(record: Record) -> str:
    return record.computer.partition(".")[0].lower()


def machines(database: str) -> list[str]:
    """The machines of a database, sorted by name."""
    return sorted({unit["image"] for unit in tables.units(database, ["image"], "image IS NOT NULL")})


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
        flattened(msgspec.json.decode(row["data"])) if row["data"] else {},
        row["origin"],
        bool(row["chunk_ok"]) and not row["damaged"],
        row["channel"] or "",
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
