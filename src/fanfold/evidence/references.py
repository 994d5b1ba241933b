"""Names of records: LOG#ID, as short as they can be while they still name one record.

Security#51234                                   the only log Security that is there
host1/Security#51234                             of one machine of several
Windows.old/.../winevt/Logs/Security.evtx#51234  of two logs Security on one disk (in full, without the dots)
deleted/Security#51234                           of a log that was deleted
carved/Security#51234@1073741824                 found in the bytes of a disk, with the offset where it lies
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fanfold.errors import UsageError
from fanfold.evidence import tables
from fanfold.evidence.eventlog.coverage import merged
from fanfold.evidence.tables import short_log
from fanfold.evidence.units import STAGES

_LIVE, _CARVED = "live", "carved"


class Log(NamedTuple):
    """What a log can be named by."""

    image: str
    volume: str
    place: str
    """The key of its units, without the part of the log that each is."""
    path: str
    """On its machine; the name of the channel for what was carved."""
    origin: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Log":
        """The log of a unit, or of a record."""
        path = row["path"] or f"{row.get('channel') or _CARVED}.evtx"
        place = row["key"].rpartition("#")[0] or row["key"]
        return cls(row["image"] or "", row["volume"] or "", place, path, row["origin"] or _LIVE)

    @property
    def short(self) -> str:
        """Its short name."""
        return short_log(self.path)

    def is_called(self, name: str) -> bool:
        """Whether this is a name of it: with or without its ending, its maker, its folders, its volume and machine."""
        name = name.lower()
        if name in {candidate.lower() for candidate in self._short_names()}:
            return True
        places = (f"/{self.image}/{self.path}", f"/{self.image}/{self.volume}/{self.path}", f"/{self.place}")
        return any(place.lower().endswith((f"/{name}", f"/{name}.evtx")) for place in places)

    def _short_names(self) -> Iterator[str]:
        yield self.short
        yield f"{self.image}/{self.short}"
        if self.volume:
            yield f"{self.image}/{self.volume}/{self.short}"
        yield f"{self.origin}/{self.short}"
        yield f"{self.image}/{self.origin}/{self.short}"

    def names(self) -> Iterator[str]:
        """Its names, the shortest first. Those of a log that is not there tell how it was found."""
        for name in self._short_names():
            if self.origin == _LIVE or f"{self.origin}/" in name:
                yield name
        parts = self.place.split("/")
        yield from ("/".join(parts[start:]) for start in range(len(parts) - 2, -1, -1))


class References:
    """Names records of a database, each by the shortest name that no other record has."""

    COLUMNS = ("image", "volume", "path", "origin", "kind", "key", "records", "id_ranges")
    """What it asks of units."""

    def __init__(self, units: Iterable[Mapping[str, Any]]) -> None:
        """`units`: of the whole database."""
        self._alike: dict[str, dict[Log, None]] = {}
        self._names: dict[Log, str] = {}
        self._images: set[str] = set()
        found: dict[Log, list[Mapping[str, Any]]] = {}
        for unit in units:
            self._images.add(unit["image"])
            if unit["kind"] == "log":
                found.setdefault(Log.of(unit), []).append(unit)
        for log in found:
            self._alike.setdefault(log.short.lower(), {})[log] = None
        self._twice = {log for log, some in found.items() if _has_one_twice(some)}

    def log(self, row: Mapping[str, Any]) -> str:
        """The name of a log, by a row of its coverage."""
        names = ("image", "volume", "path", "origin")
        wanted = tuple(row[name] or "" for name in names)
        alike = self._alike.get(short_log(row["path"] or "").lower(), ())
        return next((self._named(log) for log in alike if (log.image, log.volume, log.path, log.origin) == wanted), "")

    def _named(self, log: Log) -> str:
        if log not in self._names:
            self._names[log] = self._shortest(log)
        return self._names[log]

    def name(self, row: Mapping[str, Any]) -> str:
        """The name of a record."""
        log = Log.of(row)
        where = f"@{row['offset']}" if log.origin == _CARVED or log in self._twice else ""
        return f"{self._named(log)}#{row['record_id']}{where}"

    def _shortest(self, log: Log) -> str:
        """The shortest name that no other log has; one that is there has a name before others that have it, too."""
        if log.origin == _CARVED:
            return f"{_CARVED}/{log.short}" if len(self._images) == 1 else f"{log.image}/{_CARVED}/{log.short}"
        others = [
            other
            for other in self._alike[log.short.lower()]
            if other != log and (other.origin == _LIVE or log.origin != _LIVE)
        ]
        free = (name for name in log.names() if not any(other.is_called(name) for other in others))
        return next(free, log.place)


def _has_one_twice(units: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a log has two records of one id."""
    some = list(units)
    ids = merged((one["first"], one["last"]) for unit in some for one in unit["id_ranges"])
    different = sum(last - first + 1 for first, last in ids)
    return bool(sum(unit["records"] for unit in some) > different)


def named(database: str, reference: str) -> list[dict[str, Any]]:
    """The records that a name has: LOG#ID, or LOG#ID@OFFSET. Those of logs that are there, if there are some.

    Raises UsageError if the name has no id, or no record has that name.
    """
    parts = _split(reference)
    if not parts:
        raise UsageError(f"'{reference}' does not name a record. Write a log and an id, such as Security.evtx#51234.")
    log, number, offset = parts
    rows = [row for batch in tables.events(database, f"record_id = {number}") for row in batch.to_pylist()]
    found = [row for row in rows if Log.of(row).is_called(log) and offset in (None, row["offset"])]
    if not found:
        others = sorted({f"{row['image']}/{row['path']}" for row in rows})[:5]
        hint = f" These logs have one: {', '.join(others)}." if others else ""
        raise UsageError(f"No log called {log} has a record {number}.{hint}")
    best = min(STAGES.index(row["origin"]) for row in found)
    return [row for row in found if row["origin"] == STAGES[best]]


def _split(reference: str) -> tuple[str, int, int | None] | None:
    """The log, the id and the offset of a name; None if it names no record."""
    found = re.fullmatch(r"(.+)#([0-9]+)(?:@([0-9]+))?", reference, re.DOTALL | re.ASCII)
    if not found or int(found[2]) >= 1 << 64:
        return None
    return found[1], int(found[2]), int(found[3]) if found[3] else None
