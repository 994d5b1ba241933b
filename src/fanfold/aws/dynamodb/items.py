"""Rows become DynamoDB items, and items rows: by Arrow type and column name, whatever the job.

    column                      attribute
    key                         ImageId    S     the partition key
    vector, float32[n]          Vector     B     n little-endian float32, 4n bytes
                                DataType   S     'float32'
                                Dimension  N     n
    created, timestamp          Created    S     ISO 8601, UTC: 2026-11-22T20:18:05.000000+00:00
    any_other                   AnyOther   S, N, B, BOOL, L or M, by its type; no attribute where it is null
    (the schema's metadata)     Model      S     `fanfold.model`
                                Recipe     S     the beginning of the SHA-256 of `fanfold.recipe`
                                MirrorOf   S     `fanfold.table`: the Lance table's address
                                TableId    S     `fanfold.id`: that table, wherever it lies

Items are written as DynamoDB's API takes them, each value with its type (`{"N": "512"}`). The type of most columns
says which; for the others boto3's serializer looks at each value.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer

from fanfold.errors import UsageError

AttributeValue = dict[str, Any]
"""A value and its type: `{"S": "text"}`, `{"N": "512"}`, `{"B": b"..."}`, ..."""
Item = dict[str, AttributeValue]

KEY = "ImageId"
OWNER = "TableId"
ITEM_BYTES = 400 << 10
"""Most bytes of an item: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
KEY_BYTES = 2048
"""Most bytes of a partition key, from the same page; it has at least one."""


def constants_of(metadata: Mapping[str, str]) -> Item:
    """The attributes that all items of a table share, from its schema's metadata."""
    shared: Item = {}
    if model := metadata.get("fanfold.model"):
        shared["Model"] = {"S": model}
    if recipe := metadata.get("fanfold.recipe"):
        shared["Recipe"] = {"S": hashlib.sha256(recipe.encode()).hexdigest()[:16]}
    if id := metadata.get("fanfold.id"):
        shared |= {"MirrorOf": {"S": metadata.get("fanfold.table", "")}, OWNER: {"S": id}}
    return shared


def items_of(rows: pa.Table, constants: Item) -> list[Item]:
    """Each row as an item, with the attributes that all share.

    Raises UsageError for a column of a type that DynamoDB does not have, or two columns that would be one attribute.
    """
    names, columns = zip(*_columns(rows), strict=True)
    if twice := {name for name in [*names, *constants] if [*names, *constants].count(name) > 1}:
        raise UsageError(f"Two columns have the same DynamoDB attribute: {', '.join(sorted(twice))}. Rename one.")
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None} | constants
        for row in zip(*columns, strict=True)
    ]


def row_of(item: Item) -> dict[str, Any]:
    """An item as plain Python values; `Vector` is an array of `DataType`, a view of the bytes that came."""
    row = {name: _plain(value) for name, value in item.items()}
    if isinstance(row.get("Vector"), bytes) and "DataType" in row:
        row["Vector"] = np.frombuffer(row["Vector"], np.dtype(row["DataType"]).newbyteorder("<"))
    return row


def attribute_of(column: str) -> str:
    """A column's name as an attribute: `key` is ImageId, `not_after` is NotAfter."""
    return KEY if column == "key" else "".join(part[:1].upper() + part[1:] for part in column.split("_"))


def key_fits(key: str) -> bool:
    """Whether an item can have this key."""
    try:
        return 0 < len(key.encode()) <= KEY_BYTES
    except UnicodeEncodeError:  # from a command line that is not UTF-8
        return False


def refusal(item: Item) -> str:
    """Why an item is not sent to DynamoDB; empty for others, which DynamoDB itself may refuse with a reason."""
    if not key_fits(item[KEY]["S"]):
        return f"its key does not have 1 to {KEY_BYTES:,} bytes of UTF-8"
    return "it is far larger than 400 KB, the limit of an item" if size_at_most(item) > 8 * ITEM_BYTES else ""


def size_at_most(item: Item) -> int:
    """An item's size as DynamoDB counts it, names and values, or up to 8 times as much: a character takes 1 to 4 bytes,
    a digit at least half of one."""
    return sum(4 * len(name) + _value_size_at_most(value) for name, value in item.items())


def _value_size_at_most(value: AttributeValue) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S" | "N":
            return 4 * len(content)
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_size_at_most(inner) for inner in content)
        case "M":
            return 3 + len(content) + size_at_most(content)
    return 1  # BOOL, NULL


def _columns(rows: pa.Table) -> Iterator[tuple[str, list[AttributeValue | None]]]:
    """The attributes' names and values; the first column of float32 vectors makes three."""
    vector = next((field.name for field in rows.schema if _is_vector(field.type)), None)
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if name == vector:
            values = _vectors(column)
            dimension: AttributeValue = {"N": str(column.type.list_size)}
            yield "Vector", values
            yield "DataType", [value and {"S": "float32"} for value in values]
            yield "Dimension", [value and dimension for value in values]
        else:
            yield attribute_of(name), _values(name, column)


def _is_vector(type: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(type) and type.value_type == pa.float32()


def _vectors(column: "pa.ChunkedArray[Any]") -> list[AttributeValue | None]:
    flat: Any = column.combine_chunks()  # flattened, it has no place for the lists that are null
    matrix = flat.flatten().to_numpy(zero_copy_only=False).astype("<f4").reshape(-1, column.type.list_size)
    there = iter(matrix)
    return [{"B": next(there).tobytes()} if valid else None for valid in column.is_valid().to_pylist()]


def _values(name: str, column: "pa.ChunkedArray[Any]") -> list[AttributeValue | None]:
    typed = _typing(column.type)
    if pa.types.is_timestamp(column.type):
        values: list[Any] = _iso(column)
    else:
        values = column.to_pylist()
    try:
        return [None if value is None else typed(value) for value in values]
    except TypeError as error:
        raise UsageError(f"The column '{name}' is of type {column.type}, which DynamoDB does not have.") from error


def _typing(type: pa.DataType) -> Callable[[Any], AttributeValue]:
    """How a column's values are written; the common types need no look at each value."""
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_timestamp(type):
        return lambda value: {"S": value}
    if pa.types.is_integer(type):
        return lambda value: {"N": str(value)}
    return _typed


def _iso(column: "pa.ChunkedArray[Any]") -> list[str | None]:
    """Timestamps as ISO 8601, to the column's own unit (nanoseconds are more than a datetime holds)."""
    instants = column.cast(pa.timestamp(column.type.unit)).to_numpy()  # UTC, as Arrow keeps them
    zone = "+00:00" if column.type.tz else ""
    texts = np.datetime_as_string(instants).tolist()
    return [None if text == "NaT" else text + zone for text in texts]


class _Serializer(TypeSerializer):
    """Writes what Arrow's columns hold: boto3's takes neither floats nor dates."""

    def serialize(self, value: Any) -> Any:
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return {"N": str(value)}
        return super().serialize(value.isoformat() if isinstance(value, (date, time)) else value)


class _Deserializer(TypeDeserializer):
    """Reads plain Python values: boto3's gives Decimal and Binary."""

    def deserialize(self, value: Any) -> Any:
        plain = super().deserialize(value)
        return {_simple(one) for one in plain} if isinstance(plain, set) else _simple(plain)


def _simple(value: Any) -> Any:
    if isinstance(value, Binary):
        return value.value  # type: ignore[attr-defined]
    if isinstance(value, Decimal):
        return float(value) if value.as_tuple().exponent else int(value)
    return value


_typed, _plain = _Serializer().serialize, _Deserializer().deserialize
