"""Records as rows of the table of events: one row per record, in columns that can be searched."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from more_itertools import constrained_batches

from fanfold.evidence.eventlog.chunks import Chunk
from fanfold.evidence.eventlog.records import Decoded, number

AT_ONCE = 1024
"""Records of a batch, or a chunk's more."""

_PACKED = {
    "lance-encoding:structural-encoding": "miniblock",
    "lance-encoding:minichunk-size": "65536",
    "lance-encoding:compression": "zstd",
    "lance-encoding:compression-level": "1",  # 3 takes half as long again for 3 % less
}
"""Compresses some hundred values together: a fifth of what Lance takes when it compresses each by itself."""

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
    pa.field("written_id", pa.uint64()),  # its id where it was written, if another: an export counts from 1
    pa.field("data", pa.string(), metadata=_PACKED),  # EventData or UserData as JSON
    pa.field("error", pa.string()),  # why `data` is null
]
"""The columns of an event, after those that name its unit."""


class Found(NamedTuple):
    """The records of a chunk, and what is known of it from its log or medium."""

    records: Sequence[Decoded]
    chunk: Chunk
    number: int | None
    """Of the chunk, in its log; None for a chunk found in free space."""
    damaged: bool = False


def batches(found: Iterable[Found], common: Mapping[str, Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows of records, with the values that all of them share."""
    for some in constrained_batches(found, AT_ONCE, get_len=lambda one: len(one.records), strict=False):
        if rows := sum(len(one.records) for one in some):
            columns = _columns(some)
            arrays = [_array(columns.get(field.name), common, field, rows) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: "list[Any] | pa.Array[Any] | None", common: Mapping[str, Any], field: Any, rows: int) -> Any:
    if values is None:
        return pa.repeat(pa.scalar(common[field.name], field.type), rows)
    return values if isinstance(values, pa.Array) else pa.array(values, field.type)


def _columns(found: Sequence[Found]) -> dict[str, Any]:
    """The columns that differ from record to record."""
    decoded = [record for one in found for record in one.records]
    records = [one.record for one in decoded]
    contents = [one.content for one in decoded]
    ids = [record.record_id for record in records]
    as_written = ids == [content.written_id for content in contents]
    return {
        "record_id": ids,
        "offset": [one.chunk.offset + each.record.offset for one in found for each in one.records],
        "chunk": _of_each(found, [one.number for one in found]),
        "chunk_ok": _of_each(found, [one.chunk.ok for one in found]),
        "damaged": _of_each(found, [one.damaged for one in found]),
        "digest": [record.digest for record in records],
        "filetime": [record.filetime if record.filetime < 1 << 63 else None for record in records],
        "error": [one.error or None for one in decoded],
        "time": times([content.time for content in contents]),
        "process_id": _column("process_id", [content.process_id for content in contents]),
        "thread_id": _column("thread_id", [content.thread_id for content in contents]),
        "activity_id": _column("activity_id", [content.activity_id for content in contents]),
        "data": _column("data", [content.data for content in contents]),
        "written_id": [None] * len(ids) if as_written else [one.written_id for one in decoded],
        **_shared([content.kind for content in contents]),
        **_shared([content.context for content in contents]),
    }


def _shared(objects: Sequence[msgspec.Struct]) -> dict[str, Any]:
    """A column for each field of some objects, many of which are the same."""
    numbers: dict[int, int] = {}
    places = [numbers.setdefault(id(one), len(numbers)) for one in objects]
    distinct = {id(one): one for one in objects}.values()  # in the order of their numbers
    names = [*objects[0].__struct_fields__]
    columns = [_column(name, [getattr(one, name) for one in distinct]) for name in names]
    if len(distinct) < len(objects):
        columns = pa.RecordBatch.from_arrays(columns, names).take(pa.array(places, pa.int32())).columns
    return dict(zip(names, columns, strict=True))


def _of_each(found: Sequence[Found], values: Sequence[Any]) -> list[Any]:
    """The values of chunks, repeated for each of their records."""
    return [value for one, value in zip(found, values, strict=True) for _ in one.records]


_UNSIGNED = {field.name: field.type for field in EVENT_FIELDS if pa.types.is_unsigned_integer(field.type)}


def _column(name: str, values: Sequence[Any]) -> Any:
    """A column of an event's values."""
    return _numbers(values, _UNSIGNED[name]) if name in _UNSIGNED else _texts(values)


def _numbers(values: Sequence[Any], kind: pa.DataType) -> "pa.Array[Any]":
    """Unsigned numbers, which may be hexadecimal texts. Other values, as in damaged records, become null."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # some are text, or out of range
        return pa.array([_number(value, kind.bit_width) for value in values], kind)


def _number(value: Any, bits: int) -> int | None:
    """See `number`. Most texts come again and again."""
    return _number_of(value, bits) if type(value) is str else number(value, bits)


_number_of = lru_cache(1 << 12)(number)


def _texts(values: Sequence[Any]) -> "pa.Array[Any]":
    """Texts. Other values become null."""
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([value if isinstance(value, str) else None for value in values], pa.string())


_TIME = r"^(19[7-9]\d|20\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$"
_UTC = pa.timestamp("us", "UTC")
_FIRST, _BEYOND = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def times(texts: Iterable[Any]) -> Any:
    """Parse texts such as 2022-02-05T19:18:52.123456Z into timestamp[us, UTC]; invalid times become null."""
    given = _texts(list(texts))
    try:
        found = pc.cast(given, _UTC)
        limits = pc.min_max(found)
        first, last = limits["min"].as_py(), limits["max"].as_py()
        if first is None or _FIRST <= first <= last < _BEYOND:  # as nearly always
            return found
    except (pa.ArrowInvalid, ValueError, OverflowError):
        pass
    plain = pc.if_else(pc.match_substring_regex(given, _TIME), given, None)
    return pa.array([_time(text) for text in plain.to_pylist()], _UTC)


def _time(text: str | None) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text) if text else None
    return None
