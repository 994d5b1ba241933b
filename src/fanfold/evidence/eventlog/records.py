"""Decodes the records of a chunk with the library `evtx`, and accounts for those that it skips silently.

    chunk ──frames──▶ id, time and digest of every record     ┐
      └──evtx──▶ JSON of the records that can be decoded      ┴──▶ one `Decoded` per record

A record without JSON is kept, with the parser's error.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import msgspec
from evtx import PyEvtxParser
from more_itertools import split_into

from fanfold.evidence.eventlog.chunks import CHUNK, Chunk, Record, bridged, log_of, records_of, without_circles

_RECORD_ID = re.compile(r"Failed to parse record number (\d+): (.*)", re.DOTALL)


class Kind(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What events of one kind share, as the parser gives it."""

    event_id: Any = None
    qualifiers: Any = None
    level: Any = None
    task: Any = None
    opcode: Any = None
    keywords: Any = None
    event_version: Any = None
    provider: Any = None


class Context(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Where events were written, and on whose behalf: what most events of a log share."""

    channel: Any = None
    computer: Any = None
    user_sid: Any = None


class Content(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What is kept of an event: the values of its element `System` as the parser gives them, and its payload."""

    kind: Kind = Kind()
    """One object for many events, and so is `context`."""
    context: Context = Context()
    time: Any = None
    process_id: Any = None
    thread_id: Any = None
    activity_id: Any = None
    written_id: Any = None
    data: str | None = None


NOTHING = Content()
_OUTSIDE = ("System", "#attributes")  # of the payload
_KIND, _OWN, _CONTEXT = 150, 100, 1000  # characters of the parts of a record: at least, at least, and at most


class Decoded(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A record with its content, or with the reason why it has none."""

    record: Record
    content: Content
    """`NOTHING` if it could not be decoded."""
    error: str

    @property
    def written_id(self) -> int | None:
        """The id that it had where it was written, if that was another one: an export numbers its records again."""
        written = self.content.written_id
        if written == self.record.record_id:
            return None
        written = number(written, 64)
        return None if written == self.record.record_id else written


def decoded_together(chunks: Sequence[tuple[Chunk, Sequence[Record]]]) -> list[list[Decoded]]:
    """What `decoded` gives for each of several chunks with their frames, in less time."""
    frames = [frame for _, some in chunks for frame in some]
    ids = [frame.record_id for frame in frames]
    if len(set(ids)) == len(ids) and (contents := _contents([chunk for chunk, _ in chunks], ids)):
        found = [Decoded(frame, content, "") for frame, content in zip(frames, contents, strict=True)]
        return [*split_into(found, [len(some) for _, some in chunks])]
    return [decoded(chunk, some) for chunk, some in chunks]


def _contents(chunks: Sequence[Chunk], ids: Sequence[int]) -> list[Content]:
    """The contents of the records in some chunks; empty unless the parser gives just those of these ids."""
    try:
        records = [*_parsed(chunks)] if ids else []
        contents = [content for record in records if (content := content_of(record["data"]))]
    except (*_ERRORS, msgspec.DecodeError):
        return []
    return contents if len(contents) == len(records) and [one["event_record_id"] for one in records] == ids else []


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


_ERRORS = (RuntimeError, OSError, ValueError, KeyError)  # of the parser


def _parsed(chunks: Sequence[Chunk]) -> Iterator[Any]:
    """The records of chunks, as the parser gives them. Raises one of `_ERRORS`."""
    log = log_of([without_circles(chunk.data) for chunk in chunks])
    return iter(PyEvtxParser(BytesIO(log), 1).records_json())


def _events(chunk: Chunk) -> tuple[dict[int, Content], dict[int, str]]:
    """The records that the parser decodes, and its errors for others; both by record id."""
    events: dict[int, Content] = {}
    errors: dict[int, str] = {}
    records = _parsed([chunk])
    for _ in range(CHUNK):  # a `for` over the records would end at the first error
        try:
            record = next(records)
        except StopIteration:
            break
        except _ERRORS as error:
            if named := _RECORD_ID.match(str(error)):
                errors[int(named[1])] = _one_line(named[2])
            continue
        try:
            if content := content_of(record["data"]):  # that of an empty one bridges a gap
                events.setdefault(record["event_record_id"], content)
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


class _Record(msgspec.Struct, gc=False):
    Event: dict[str, msgspec.Raw]
    """Its elements, each as JSON."""


class _Before(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What comes before the time in nearly all elements `System`."""

    Provider: _Attributed = None
    EventID: _Attributed = None
    Version: Any = None
    Level: Any = None
    Task: Any = None
    Opcode: Any = None
    Keywords: Any = None


class _Begun(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    System: _Before
    attributes: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="#attributes")


class _Beginning(msgspec.Struct, gc=False):
    """A record up to the time."""

    Event: _Begun


class _Moment(msgspec.Struct, gc=False):
    SystemTime: Any = None


class _Time(msgspec.Struct, gc=False):
    attributes: _Moment = msgspec.field(name="#attributes")


class _Activity(msgspec.Struct, gc=False):
    ActivityID: Any = None


class _Correlation(msgspec.Struct, gc=False):
    attributes: _Activity = msgspec.field(name="#attributes")


class _Thread(msgspec.Struct, gc=False):
    ProcessID: Any = None
    ThreadID: Any = None


class _Execution(msgspec.Struct, gc=False):
    attributes: _Thread = msgspec.field(name="#attributes")


class _Own(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What is each event's own: the time and what comes after it up to the channel."""

    TimeCreated: _Time
    EventRecordID: Any = None
    Correlation: _Correlation | None = None
    Execution: _Execution | None = None


class _After(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The channel, and what comes after it."""

    Channel: Any = None
    Computer: Any = None
    Security: _Attributed = None


_record = msgspec.json.Decoder(_Record).decode
_system = msgspec.json.Decoder(_System).decode
_beginning = msgspec.json.Decoder(_Beginning).decode
_own = msgspec.json.Decoder(_Own).decode
_after = msgspec.json.Decoder(_After).decode
_one_value = msgspec.json.Decoder(msgspec.Raw).decode
_any = msgspec.json.Decoder().decode


def content_of(record: str) -> Content | None:
    """The content of a record's event, each value of which may be absent; None for an event without elements.

    Raises msgspec.DecodeError.
    """
    if content := _in_parts(record):
        return content
    elements = _record(record).Event
    return _content(_system(elements.get("System", b"{}")), payload(elements)) if elements else None


def _in_parts(record: str) -> Content | None:
    """The content of an event of the usual form; None for another.

        {"Event":{... "System":{"Provider": ... ,"TimeCreated": ... ,"Channel": ... },"EventData":{...}}}
        └────────── its kind ──────────────────┘└─── its own ───┘└── context ──┘             └───┘

    The kind and the context are the same in many events, and decoded once. No text of JSON contains what is looked for
    here, since it has quotes; so the parts are those of a whole record if each can be decoded.
    """
    begin = record.find(',"TimeCreated":', _KIND)
    stop = record.find(',"Channel":', begin + _OWN)
    end = record.find('},"EventData":', stop, stop + _CONTEXT)
    data = record[end + 14 : -2]
    if not 0 <= begin < stop < end or record[-2:] != "}}" or not _is_named(data):
        return None
    try:
        own = _own(f"{{{record[begin + 1 : stop]}}}")
        _one_value(data)  # and not one with other elements behind it
        kind, context = _kind_of(record[:begin]), _context_of(record[stop + 1 : end])
    except msgspec.DecodeError:
        return None
    thread, correlation = own.Execution, own.Correlation
    return Content(
        kind,
        context,
        own.TimeCreated.attributes.SystemTime,
        thread.attributes.ProcessID if thread else None,
        thread.attributes.ThreadID if thread else None,
        correlation.attributes.ActivityID if correlation else None,
        own.EventRecordID,
        data,
    )


@lru_cache(4096)  # an attacker may have made up more
def _kind_of(record: str) -> Kind:
    """The kind, of a record that is cut off before the time. Raises msgspec.DecodeError."""
    return _kind(_beginning(f"{record}}}}}}}").Event.System)


@lru_cache(4096)
def _context_of(system: str) -> Context:
    """The context, of an element `System` from the channel to its end. Raises msgspec.DecodeError."""
    return _context(_after(f"{{{system}}}"))


def _kind(system: _Before | _System) -> Kind:
    event_id, provider = system.EventID, _attributes(system.Provider)
    return Kind(
        event_id.text if type(event_id) is _Element else event_id,
        _attributes(event_id).Qualifiers,
        system.Level,
        system.Task,
        system.Opcode,
        system.Keywords,
        system.Version,
        provider.Name or provider.EventSourceName,
    )


def _context(system: _After | _System) -> Context:
    return Context(system.Channel, system.Computer, _attributes(system.Security).UserID)


def _content(system: _System, data: str) -> Content:
    execution = _attributes(system.Execution)
    return Content(
        _kind(system),
        _context(system),
        _attributes(system.TimeCreated).SystemTime,
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
    if len(parts) == 1 and _is_named(whole := bytes(*parts.values()).decode()):
        return whole
    values = {name: _any(value) for name, value in parts.items()}
    (value,) = values.values() if len(values) == 1 else (values,)
    return msgspec.json.encode(_plain(value)).decode()


def _is_named(part: str) -> bool:
    """Whether the only element beside `System` is an object of named values; else it is to be made one."""
    is_plain = "#" not in part or '"#attributes"' not in part
    return is_plain and part[:1] == "{" and not part.startswith('{"Data":')


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
