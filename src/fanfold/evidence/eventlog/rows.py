"""Records as rows of the table of events: one row per record, in columns that can be searched."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from more_itertools import chunked

from fanfold.evidence.eventlog.chunks import Chunk
from fanfold.evidence.eventlog.records import Decoded, number, payload

AT_ONCE = 1024
"""Records of a batch. With more, Python's garbage collector takes a third of the time."""

EVENT_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("image", pa.string()),
    pa.field("volume", pa.string()),  # p2, or p2@vss1; null for what was carved
    pa.field("path", pa.string()),  # of the log in its volume, with forward slashes; null for what was carved
    pa.field("origin", pa.string()),  # live, deleted, shadow or carved
    pa.field("record_id", pa.uint64()),
    pa.field("offset", pa.uint64()),  # bytes from the start of the log; of the medium for what was carved
    pa.field("chunk", pa.uint32()),  # its number in the log
    pa.field("chunk_ok", pa.bool_()),  # both checksums of the chunk are right
    pa.field("header_ok", pa.bool_()),  # of the log: it was closed properly, and its checksum is right
    pa.field("damaged", pa.bool_()),  # lies where the disk image is damaged
    pa.field("digest", pa.uint64()),  # BLAKE2b of the record's bytes: equal digests are one record, found twice
    pa.field("time", pa.timestamp("us", "UTC")),  # TimeCreated; null before 1970 and after 2099
    pa.field("filetime", pa.int64()),  # when it was written: units of 100 ns since 1601, from the record's frame
    pa.field("event_id", pa.uint32()),
    pa.field("qualifiers", pa.uint16()),
    pa.field("level", pa.uint8()),
    pa.field("task", pa.uint16()),
    pa.field("opcode", pa.uint8()),
    pa.field("keywords", pa.uint64()),
    pa.field("event_version", pa.uint8()),
    pa.field("provider", pa.string()),
    pa.field("channel", pa.string()),
    pa.field("computer", pa.string()),  # of this record: hosts are renamed, and events are forwarded
    pa.field("user_sid", pa.string()),
    pa.field("process_id", pa.uint32()),
    pa.field("thread_id", pa.uint32()),
    pa.field("activity_id", pa.string()),
    pa.field("data", pa.string()),  # EventData or UserData as JSON
    pa.field("error", pa.string()),  # why `data` is null
]
"""The columns of an event, after those that name its unit."""


class Found(NamedTuple):
    """A record, and what is known of it from its log or medium."""

    decoded: Decoded
    chunk: Chunk
    number: int | None
    """Of the chunk, in its log; None for a chunk found in free space."""
    damaged: bool = False


def batches(found: Iterable[Found], common: Mapping[str, Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows of records, with the values that all of them share."""
    for some in chunked(found, AT_ONCE):
        columns = _columns(some)
        arrays = [_array(columns.get(field.name), common, field, len(some)) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: "list[Any] | pa.Array[Any] | None", common: Mapping[str, Any], field: Any, rows: int) -> Any:
    if values is None:
        return pa.repeat(pa.scalar(common[field.name], field.type), rows)
    return values if isinstance(values, pa.Array) else pa.array(values, field.type)


def _columns(found: list[Found]) -> dict[str, Any]:
    """The columns that differ from record to record."""
    records = [one.decoded.record for one in found]
    events = [one.decoded.event for one in found]
    errors = [one.decoded.error for one in found]
    return {
        "record_id": [record.record_id for record in records],
        "offset": [one.chunk.offset + record.offset for one, record in zip(found, records, strict=True)],
        "chunk": [one.number for one in found],
        "chunk_ok": [one.chunk.ok for one in found],
        "damaged": [one.damaged for one in found],
        "digest": [record.digest for record in records],
        "filetime": [record.filetime if record.filetime < 1 << 63 else None for record in records],
        "data": [None if error else payload(event) for event, error in zip(events, errors, strict=True)],
        "error": [error or None for error in errors],
        **_system([event.get("System") or {} for event in events]),
    }


def _system(systems: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that every event has, such as time, number and provider. Each value may be absent."""
    event_ids = _elements(systems, "EventID")
    provider, execution = _attributes(systems, "Provider"), _attributes(systems, "Execution")
    return {
        "time": times(one.get("SystemTime") for one in _attributes(systems, "TimeCreated")),
        "event_id": _numbers(event_ids, pa.uint32()),
        "qualifiers": _numbers([one.get("Qualifiers") for one in _attributes(systems, "EventID")], pa.uint16()),
        "level": _numbers(_elements(systems, "Level"), pa.uint8()),
        "task": _numbers(_elements(systems, "Task"), pa.uint16()),
        "opcode": _numbers(_elements(systems, "Opcode"), pa.uint8()),
        "keywords": _numbers(_elements(systems, "Keywords"), pa.uint64()),
        "event_version": _numbers(_elements(systems, "Version"), pa.uint8()),
        "provider": _texts([one.get("Name") or one.get("EventSourceName") for one in provider]),
        "channel": _texts(_elements(systems, "Channel")),
        "computer": _texts(_elements(systems, "Computer")),
        "user_sid": _texts([one.get("UserID") for one in _attributes(systems, "Security")]),
        "process_id": _numbers([one.get("ProcessID") for one in execution], pa.uint32()),
        "thread_id": _numbers([one.get("ThreadID") for one in execution], pa.uint32()),
        "activity_id": _texts([one.get("ActivityID") for one in _attributes(systems, "Correlation")]),
    }


def _elements(systems: list[Mapping[str, Any]], name: str) -> list[Any]:
    return [system.get(name) for system in systems]


_NOTHING: Mapping[str, Any] = {}


def _attributes(systems: list[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """The attributes of an element, which may be absent, or a plain value."""
    elements = _elements(systems, name)
    return [one.get("#attributes", _NOTHING) if type(one) is dict else _NOTHING for one in elements]


def _numbers(values: list[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Unsigned numbers. Other values, as in damaged records, become null."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # some are text, or out of range
        return pa.array([number(value, kind.bit_width) for value in values], kind)


def _texts(values: list[Any]) -> "pa.Array[Any]":
    """Texts. Other values become null."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([value if isinstance(value, str) else None for value in values], pa.string())


_TIME = re.compile(r"(19[7-9]\d|20\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def times(texts: Iterable[Any]) -> "pa.Array[Any]":
    """Parse texts such as 2022-02-05T19:18:52.123456Z into timestamp[us, UTC]; invalid times become null."""
    plain = [text if isinstance(text, str) and _TIME.fullmatch(text) else None for text in texts]
    try:
        return pc.cast(pa.array(plain, pa.string()), pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:  # a 30th of February
        return pa.array([_time(text) for text in plain], pa.timestamp("us", "UTC"))


def _time(text: str | None) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text) if text else None
    return None
