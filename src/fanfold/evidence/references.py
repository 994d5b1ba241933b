"""Names of records: LOG#ID, as short as they can be while they still name one record.

Security#51234                                   the only log Security that is there
host1/Security#51234                             of one machine of several
Windows.old/.../winevt/Logs/Security.evtx#51234  of two logs Security on one disk (in full, without the dots)
deleted/Security#51234                           of a log that was deleted
carved/Partition/Diagnostic#23@1073741824        found in the bytes of a disk, with the offset where it lies
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    """On its machine; for what was carved, the name that Windows would give a log of this channel."""
    origin: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Log":
        """The log of a unit, or of a record."""
        path = row["path"] or f"{(row.get('channel') or _CARVED).replace('/', '%4')}.evtx"
        place = row["key"].rpartition("#")[0] or row["key"]
        return cls(row["image"] or "", row["volume"] or "", place, path, row["origin"] or _LIVE)

    @property
    def short(self) -> str:
        """Its short name."""
        return short_log(self.path)

    def is_called(self, name: str) -> bool:
        """Whether this is a name of it: with or without its ending, its maker, its folders, its volume and machine."""
        return name.lower() in self.called()

    def called(self) -> set[str]:
        """All names of it, in lower case."""
        found = {name.lower() for name in self._short_names()}
        folders = (self.image, f"{self.image}/{self.volume}", f"{self.image}/{self.origin}")
        for place in (*(f"{folder}/{self.path}" for folder in folders), self.place):
            parts = place.lower().split("/")
            found.update("/".join(parts[start:]) for start in range(len(parts)))
        return found | {name.removesuffix(".evtx") for name in found}

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
        self._alike: dict[str, list[Log]] = {}
        self._places: dict[tuple[str, ...], Log] = {}
        self._names: dict[Log, str] = {}
        self._images: set[str] = set()
        found: dict[Log, _Counted] = {}
        for unit in units:
            self._images.add(unit["image"])
            if unit["kind"] == "log":
                counted = found.setdefault(Log.of(unit), _Counted())
                counted.records += unit["records"]
                counted.ids += [(one["first"], one["last"]) for one in unit["id_ranges"]]
        for log in found:
            self._alike.setdefault(log.short.lower(), []).append(log)
            self._places.setdefault((log.image, log.volume, log.path, log.origin), log)
        self._twice = {log for log, counted in found.items() if counted.has_one_twice}

    def log(self, row: Mapping[str, Any]) -> str:
        """The name of a log, by a row of its coverage; empty for what was carved."""
        log = self._places.get(tuple(row[name] or "" for name in ("image", "volume", "path", "origin")))
        return self._named(log) if log else ""

    def _named(self, log: Log) -> str:
        if log.origin == _CARVED:
            return f"{_CARVED}/{log.short}" if len(self._images) == 1 else f"{log.image}/{_CARVED}/{log.short}"
        if log not in self._names:
            self._names |= _shortest(self._alike[log.short.lower()])
        return self._names[log]

    def name(self, row: Mapping[str, Any]) -> str:
        """The name of a record."""
        log = Log.of(row)
        where = f"@{row['offset']}" if log.origin == _CARVED or log in self._twice else ""
        return f"{self._named(log)}#{row['record_id']}{where}"


@dataclass
class _Counted:
    """The records of a log."""

    records: int = 0
    ids: list[tuple[int, int]] = field(default_factory=list)

    @property
    def has_one_twice(self) -> bool:
        """Whether two of them have one id."""
        return self.records > sum(last - first + 1 for first, last in merged(self.ids))


def _shortest(alike: Sequence[Log]) -> Iterator[tuple[Log, str]]:
    """For logs of one short name, the shortest name of each that no other has.

    One that is there has a name before others that have it, too.
    """
    live = Counter(name for log in alike if log.origin == _LIVE for name in log.called())
    every = Counter(name for log in alike for name in log.called())
    for log in alike:
        others = live if log.origin == _LIVE else every
        own = log.called()
        yield log, next((name for name in log.names() if others[name.lower()] <= (name.lower() in own)), log.place)


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
        where = "" if offset is None else f" at the offset {offset}"
        raise UsageError(f"No log called {log} has a record {number}{where}.{hint}")
    best = min(STAGES.index(row["origin"]) for row in found)
    return [row for row in found if row["origin"] == STAGES[best]]


def _split(reference: str) -> tuple[str, int, int | None] | None:
    """The log, the id and the offset of a name; None if it names no record."""
    found = re.fullmatch(r"(.+)#([0-9]+)(?:@([0-9]+))?", reference, re.DOTALL | re.ASCII)
    if not found or int(found[2]) >= 1 << 64:
        return None
    return found[1], int(found[2]), int(found[3]) if found[3] else None
