"""Decodes the records of a chunk with the library `evtx`, and accounts for those that it skips silently.

    chunk ──frames──▶ id, time and digest of every record     ┐
      └──evtx──▶ JSON of the records that can be decoded      ┴──▶ one `Decoded` per record

A record without JSON is kept, with the parser's error.
"""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import msgspec
from evtx import PyEvtxParser

from fanfold.evidence.eventlog.chunks import CHUNK, Chunk, Record, bridged, log_of, records_of, without_circles

_RECORD_ID = re.compile(r"Failed to parse record number (\d+): (.*)", re.DOTALL)


NAMES = (
    "time", "event_id", "qualifiers", "level", "task", "opcode", "keywords", "event_version", "provider", "channel",
    "computer", "user_sid", "process_id", "thread_id", "activity_id", "written_id", "data",
)  # fmt: skip
"""What is kept of an event: the values of its element `System`, and its payload."""
_OUTSIDE = ("System", "#attributes")  # of the payload
_WRITTEN = NAMES.index("written_id")
NOTHING: tuple[Any, ...] = (None,) * len(NAMES)


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A record with its content, or with the reason why it has none."""

    record: Record
    values: tuple[Any, ...]
    """In the order of `NAMES`, as the parser gives them; `NOTHING` if it could not be decoded."""
    error: str

    @property
    def written_id(self) -> int | None:
        """The id that it had where it was written, if that was another one: an export numbers its records again."""
        written = self.values[_WRITTEN]
        if written == self.record.record_id:
            return None
        written = number(written, 64)
        return None if written == self.record.record_id else written


def decoded(chunk: Chunk, frames: Sequence[Record] | None = None) -> list[Decoded]:
    """Every record of a chunk once, in order, decoded or not. `frames` is what `records_of` gives, if it is known."""
    frames = records_of(chunk) if frames is None else frames
    events, errors = _events(chunk)
    if any(frame.record_id not in events for frame in frames):
        more, errors = _events(bridged(chunk, frames))
        events = more | events
    return [
        Decoded(frame, found, "")
        if (found := events.get(frame.record_id))
        else Decoded(frame, NOTHING, errors.get(frame.record_id, "the parser left it out"))
        for frame in frames
    ]


def _events(chunk: Chunk) -> tuple[dict[int, tuple[Any, ...]], dict[int, str]]:
    """The records that the parser decodes, and its errors for others; both by record id."""
    events: dict[int, tuple[Any, ...]] = {}
    errors: dict[int, str] = {}
    records: Any = iter(PyEvtxParser(BytesIO(log_of([without_circles(chunk.data)])), 1).records_json())
    for _ in range(CHUNK):  # a `for` over the records would end at the first error
        try:
            record = next(records)
        except StopIteration:
            break
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            if named := _RECORD_ID.match(str(error)):
                errors[int(named[1])] = _one_line(named[2])
            continue
        try:
            if values := values_of(record["data"]):  # those of an empty one bridge a gap
                events.setdefault(record["event_record_id"], values)
        except msgspec.DecodeError as error:
            errors[record["event_record_id"]] = _one_line(f"the parser made invalid JSON of it: {error}")
    return events, errors


def _one_line(message: str) -> str:
    """A message in one line that is not too long."""
    return " ".join(message.split())[:300]


class _Attributes(msgspec.Struct, frozen=True, gc=False):
    """What is kept of the attributes of the elements in `System`."""

    Name: Any = None
    EventSourceName: Any = None
    SystemTime: Any = None
    Qualifiers: Any = None
    ProcessID: Any = None
    ThreadID: Any = None
    UserID: Any = None
    ActivityID: Any = None


class _Element(msgspec.Struct, frozen=True, gc=False):
    attributes: _Attributes = msgspec.field(default=_Attributes(), name="#attributes")
    text: Any = msgspec.field(default=None, name="#text")


_EMPTY = _Element()
_Attributed = _Element | str | int | None  # an element without attributes is a plain value


class _System(msgspec.Struct, frozen=True, gc=False):
    """What is kept of the element `System`."""

    Provider: _Attributed = None
    EventID: _Attributed = None
    Version: Any = None
    Level: Any = None
    Task: Any = None
    Opcode: Any = None
    Keywords: Any = None
    TimeCreated: _Attributed = None
    EventRecordID: Any = None
    Correlation: _Attributed = None
    Execution: _Attributed = None
    Channel: Any = None
    Computer: Any = None
    Security: _Attributed = None


_ABSENT = msgspec.Raw()


class _Event(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The elements of nearly all events."""

    System: _System
    EventData: msgspec.Raw = _ABSENT
    UserData: msgspec.Raw = _ABSENT
    attributes: msgspec.Raw = msgspec.field(default=_ABSENT, name="#attributes")


class _Usual(msgspec.Struct, gc=False):
    Event: _Event


class _Record(msgspec.Struct, gc=False):
    Event: dict[str, msgspec.Raw]
    """Its elements, each as JSON."""


_usual = msgspec.json.Decoder(_Usual).decode
_record = msgspec.json.Decoder(_Record).decode
_system = msgspec.json.Decoder(_System).decode
_any = msgspec.json.Decoder().decode


def values_of(record: str) -> tuple[Any, ...]:
    """The values of a record's event, in the order of `NAMES`; each may be absent. Empty for an event without elements.

    Raises msgspec.DecodeError.
    """
    try:
        event = _usual(record).Event
    except msgspec.ValidationError:  # it has other elements, or none
        elements = _record(record).Event
        return _values(_system(elements.get("System", b"{}")), payload(elements)) if elements else ()
    parts = [part for part in (bytes(event.EventData), bytes(event.UserData)) if part]
    return _values(event.System, _as_it_is(parts) or payload(_record(record).Event))


def _values(system: _System, data: str) -> tuple[Any, ...]:
    event_id, provider, execution = system.EventID, _attributes(system.Provider), _attributes(system.Execution)
    return (
        _attributes(system.TimeCreated).SystemTime,
        event_id.text if type(event_id) is _Element else event_id,
        _attributes(event_id).Qualifiers,
        system.Level,
        system.Task,
        system.Opcode,
        system.Keywords,
        system.Version,
        provider.Name or provider.EventSourceName,
        system.Channel,
        system.Computer,
        _attributes(system.Security).UserID,
        execution.ProcessID,
        execution.ThreadID,
        _attributes(system.Correlation).ActivityID,
        system.EventRecordID,
        data,
    )


def _attributes(element: _Attributed) -> _Attributes:
    return element.attributes if type(element) is _Element else _EMPTY.attributes


def payload(event: Mapping[str, msgspec.Raw]) -> str:
    """The data of an event (all but `System`) as compact JSON: an object of named values, or a list of unnamed ones.

    Named values are kept as the parser gives them, since a name may come several times.
    """
    parts = {name: value for name, value in event.items() if name not in _OUTSIDE}
    if whole := _as_it_is([bytes(part) for part in parts.values()]):
        return whole
    values = {name: _any(value) for name, value in parts.items()}
    (value,) = values.values() if len(values) == 1 else (values,)
    return msgspec.json.encode(_plain(value)).decode()


def _as_it_is(parts: Sequence[bytes]) -> str | None:
    """The only element beside `System`, if it is an object of named values; None if it is to be made one."""
    if len(parts) != 1 or not parts[0].startswith(b"{") or parts[0].startswith(b'{"Data":'):
        return None
    return None if b'"#attributes"' in parts[0] else parts[0].decode()


def _plain(value: Any) -> Any:
    """Values without XML's markup: `{"Data": {"#text": [...]}}` becomes a list, and null an empty object."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return value
    members = {name: inner for name, inner in value.items() if name != "#attributes"}
    data = members.get("Data")
    if len(members) == 1 and isinstance(data, dict) and set(data) <= {"#text", "#attributes"}:
        text = data.get("#text")
        return text if isinstance(text, list) else [text]
    return members


def number(value: Any, bits: int) -> int | None:
    """An unsigned number of a record, which may be text, hexadecimal text, or in an element with attributes."""
    if isinstance(value, dict):
        value = value.get("#text")
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError:
            return None
    return value if isinstance(value, int) and 0 <= value < 1 << bits else None
