"""A record of an event log, as rules look at it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from sys import intern
from typing import Any

import msgspec

from fanfold.evidence.tables import short_log

ORIGINS = ("live", "shadow", "deleted", "carved")
"""How a record was found: the best way first."""
FORWARDED = "forwardedevents"
"""The log with the records of other machines."""
_LONG = 100  # characters of a value that records rarely share


class Values(Mapping[str, Any]):
    """The values of a record by their names, of a text of JSON that is decoded when the first of them is asked for.

    A machine may have a million logons: records of one kind share the names, and texts that many have are kept once.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, text: str) -> None:
        self._places: Mapping[str, int] | None = None
        self._values: Sequence[Any] = text

    def get(self, name: str, default: Any = None) -> Any:
        """A value; `default` if it is not there."""
        at = self._decoded().get(name)
        return default if at is None else self._values[at]

    def __getitem__(self, name: str) -> Any:
        return self._values[self._decoded()[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def _decoded(self) -> Mapping[str, int]:
        if self._places is None:
            found = flattened(msgspec.json.decode(str(self._values))) if self._values else {}
            self._places = _places(tuple(found))
            self._values = tuple(map(_kept_once, found.values()))
        return self._places


@lru_cache(4096)  # kinds of records; an attacker may have made up more
def _places(names: Sequence[str]) -> Mapping[str, int]:
    return {name: at for at, name in enumerate(names)}


def _kept_once(value: Any) -> Any:
    """A value, which is the same object wherever it is short and equal."""
    return intern(value) if type(value) is str and len(value) < _LONG else value


@dataclass(frozen=True, slots=True)
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
    user_sid: str = ""
    """The account that its program ran as."""
    name: str = ""
    """What it is called where LOG#ID would name others, too."""
    installation: str = ""
    """The folder of its Windows, if that is not the one that was used last."""

    @property
    def stream(self) -> str:
        """Records of one stream are numbered in the order in which they were written."""
        stream = (self.channel or self.log).lower()
        return f"{self.installation}: {stream}" if self.installation else stream

    def is_of(self, log: str) -> bool:
        """Whether it is of a log of this short name, also if the log's file is called otherwise."""
        return log.lower() in names_of(self.log, self.channel)

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


def of_best_logs(records: Sequence[Record]) -> list[Record]:
    """Those of each stream that are in a log that is there; if none is, in a shadow copy; else in a deleted log.

    Where there is nothing else, those that were carved.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        found.setdefault(record.stream, {}).setdefault(record.origin, []).append(record)
    best = (next(some[origin] for origin in ORIGINS if origin in some) for some in found.values())
    return [record for some in best for record in some]


def record_of(row: Mapping[str, Any], name: str = "", installation: str = "") -> Record:
    """A record with this name, of a row of the table of events."""
    return Record(
        _short_log(row["path"], row["channel"]),
        row["record_id"],
        row["time"],
        row["event_id"],
        intern(row["provider"] or ""),
        intern(row["computer"] or ""),
        data_of(row),
        intern(row["origin"]),
        bool(row["chunk_ok"]) and not row["damaged"],
        intern(row["channel"] or ""),
        intern(row["user_sid"] or ""),
        name,
        installation,
    )


@lru_cache(4096)
def _short_log(path: str | None, channel: str | None) -> str:
    return short_log(path) if path else short_provider(channel or "carved")


def data_of(row: Mapping[str, Any]) -> Values:
    """The values of a record, of a row of the table of events; none if it could not be decoded."""
    return Values(row["data"] or "")


def values_in_line(data: Mapping[str, Any]) -> str:
    """The values of a record in one line, without empty ones: TargetUserName=emsadmin LogonType=2."""
    return " ".join(f"{name}={value}" for name, value in data.items() if value not in (None, "", "-"))


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


def short_provider(name: str) -> str:
    """A provider without its maker."""
    return name.removeprefix("Microsoft-Windows-")


def names_of(file: str, channel: str) -> set[str]:
    """What a log is called: by its file, which may be renamed, and by the channel of its records.

    Forwarded records have the channels of other machines.
    """
    called = file.lower()
    return ({called} if called == FORWARDED else {called, short_provider(channel).lower()}) - {""}
