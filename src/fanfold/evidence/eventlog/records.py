"""Decodes the records of a chunk with the library `evtx`, and accounts for those that it skips silently.

    chunk ──frames──▶ id, time and digest of every record     ┐
      └──evtx──▶ JSON of the records that can be decoded      ┴──▶ one `Decoded` per record

A record without JSON is kept, with the parser's error.
"""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import orjson
from evtx import PyEvtxParser

from fanfold.evidence.eventlog.chunks import CHUNK, Chunk, Record, bridged, log_of, records_of, without_circles

_RECORD_ID = re.compile(r"Failed to parse record number (\d+): (.*)", re.DOTALL)


NAMES = (
    "time", "event_id", "qualifiers", "level", "task", "opcode", "keywords", "event_version", "provider", "channel",
    "computer", "user_sid", "process_id", "thread_id", "activity_id", "data",
)  # fmt: skip
"""What is kept of an event: the values of its element `System`, and its payload."""
NOTHING: tuple[Any, ...] = (None,) * len(NAMES)


class Decoded(NamedTuple):
    """A record with its content, or with the reason why it has none."""

    record: Record
    values: tuple[Any, ...]
    """In the order of `NAMES`, as the parser gives them; `NOTHING` if it could not be decoded."""
    error: str


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
            # Nothing of the nested dictionaries is kept: a thousand of them would take longer to free than to parse.
            if event := orjson.loads(record["data"])["Event"]:  # an empty one bridges a gap
                events.setdefault(record["event_record_id"], values_of(event))
        except StopIteration:
            break
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            if named := _RECORD_ID.match(str(error)):
                errors[int(named[1])] = " ".join(named[2].split())[:300]
    return events, errors


def values_of(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an event in the order of `NAMES`. Each may be absent."""
    get = (event.get("System") or _NONE).get
    event_id, provider, execution = get("EventID"), _attributes(get("Provider")), _attributes(get("Execution"))
    return (
        _attributes(get("TimeCreated")).get("SystemTime"),
        event_id.get("#text") if type(event_id) is dict else event_id,
        _attributes(event_id).get("Qualifiers"),
        get("Level"),
        get("Task"),
        get("Opcode"),
        get("Keywords"),
        get("Version"),
        provider.get("Name") or provider.get("EventSourceName"),
        get("Channel"),
        get("Computer"),
        _attributes(get("Security")).get("UserID"),
        execution.get("ProcessID"),
        execution.get("ThreadID"),
        _attributes(get("Correlation")).get("ActivityID"),
        payload(event),
    )


_NONE: Mapping[str, Any] = {}


def _attributes(element: Any) -> Mapping[str, Any]:
    """The attributes of an element, which may be absent, or a plain value."""
    return element.get("#attributes") or _NONE if type(element) is dict else _NONE


def payload(event: Mapping[str, Any]) -> str:
    """The data of an event (all but `System`) as compact JSON: an object of named values, or a list of unnamed ones."""
    parts = {name: value for name, value in event.items() if name not in _OUTSIDE}
    (value,) = parts.values() if len(parts) == 1 else (parts,)
    if type(value) is not dict or "Data" in value or "#attributes" in value:
        value = _plain(value)
    return orjson.dumps(value).decode()


_OUTSIDE = ("System", "#attributes")


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
