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
                                TableId    S     `fanfold.id`: whose the item is, wherever that table lies

Items are written as DynamoDB's API takes them, each value with its type (`{"N": "512"}`), without a serializer that
would have to find the types out value by value.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from fanfold.errors import UsageError

AttributeValue = dict[str, Any]
"""A value and its type: `{"S": "text"}`, `{"N": "512"}`, `{"B": b"..."}`, ..."""
Item = dict[str, AttributeValue]

KEY = "ImageId"
OWNER = "TableId"
ITEM_BYTES = 400 << 10
"""The most an item may have: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
KEY_BYTES = 2048
"""The most a partition key may have, by the same page; it has at least one."""

_NUMBER_DIGITS = 38
_NUMBER_EXPONENTS = range(-130, 126)


def constants_of(metadata: Mapping[str, str]) -> Item:
    """The attributes that all items of a table share, from its schema's metadata."""
    told: Item = {}
    if model := metadata.get("fanfold.model"):
        told["Model"] = {"S": model}
    if recipe := metadata.get("fanfold.recipe"):
        told["Recipe"] = {"S": hashlib.sha256(recipe.encode()).hexdigest()[:16]}
    if id := metadata.get("fanfold.id"):
        told |= {"MirrorOf": {"S": metadata.get("fanfold.table", "")}, OWNER: {"S": id}}
    return told


def items_of(rows: pa.Table, constants: Item) -> list[Item]:
    """Each row as an item, with the attributes that all share.

    Raises UsageError for a column of a type that DynamoDB has no form for, or two that would be one attribute.
    """
    names: list[str] = []
    columns: list[list[AttributeValue | None]] = []
    for name, values in _columns(rows):
        names.append(name)
        columns.append(values)
    if twice := {name for name in [*names, *constants] if [*names, *constants].count(name) > 1}:
        raise UsageError(f"Two columns would be one DynamoDB attribute: {', '.join(sorted(twice))}. Rename one.")
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
    """What a column's attribute is called: `key` is ImageId, `not_after` NotAfter."""
    return KEY if column == "key" else "".join(part[:1].upper() + part[1:] for part in column.split("_"))


def key_fits(key: str) -> bool:
    """Whether there can be an item of this key."""
    try:
        return 0 < len(key.encode()) <= KEY_BYTES
    except UnicodeEncodeError:  # from a command line that is not UTF-8
        return False


def refusal(item: Item) -> str:
    """Why DynamoDB cannot hold an item, or nothing if it can."""
    if not key_fits(item[KEY]["S"]):
        return f"its key has {len(item[KEY]['S'].encode()):,} bytes; DynamoDB takes 1 to {KEY_BYTES:,}"
    for name, value in item.items():
        if "N" in value and not _number_fits(value["N"]):
            return f"{name} is {value['N']}, which is no number to DynamoDB"
    if size_at_most(item) > ITEM_BYTES and (size := size_of(item)) > ITEM_BYTES:
        return f"it has {size:,} bytes; a DynamoDB item has {ITEM_BYTES:,} at most"
    return ""


def size_of(item: Item) -> int:
    """The bytes of an item as DynamoDB counts them: names and values.

    Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def size_at_most(item: Item) -> int:
    """No less than an item's size, in a tenth of the time."""
    size = 0
    for name, value in item.items():
        for content in value.values():
            size += 4 * len(name)
            if isinstance(content, str):  # text or number; a character is 4 bytes at most, a digit less than 2
                size += 4 * len(content)
            else:
                size += len(content) if isinstance(content, bytes) else _value_size(value)
    return size


def _value_size(value: AttributeValue) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return _number_size(Decimal(content))
        case "B":
            return len(content)
        case "L":
            return 3 + sum(1 + _value_size(inner) for inner in content)
        case "M":
            return 3 + len(content) + size_of(content)
    return 1  # BOOL, NULL


def _number_size(number: Decimal) -> int:
    """A byte for two digits and one more, the page says, "approximately": pairs are cut at the decimal point, so 12
    takes one and 120 two (1|20), and a minus sign takes a byte."""
    if not number:
        return 1
    number = number.normalize()
    last = number.adjusted() - len(number.as_tuple().digits) + 1
    return 1 + number.adjusted() // 2 - last // 2 + 1 + number.is_signed()


def _number_fits(text: str) -> bool:
    if text.isdigit() and len(text) <= _NUMBER_DIGITS:
        return True
    number = Decimal(text)
    if not number.is_finite():
        return False
    digits = len(number.normalize().as_tuple().digits) if len(text) > _NUMBER_DIGITS else 1
    return digits <= _NUMBER_DIGITS and (not number or number.adjusted() in _NUMBER_EXPONENTS)


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
        raise UsageError(f"The column '{name}' is of type {column.type}, which DynamoDB has no form for.") from error


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


def _typed(value: object) -> AttributeValue:
    """A Python value with its DynamoDB type. Raises TypeError if there is none for it."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int() | float() | Decimal():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case bytes():
            return {"B": value}
        case datetime() | date() | time():
            return {"S": value.isoformat()}
        case list() | tuple():
            return {"L": [_typed(inner) for inner in value]}
        case dict():
            return {"M": {str(name): _typed(inner) for name, inner in value.items()}}
    raise TypeError(type(value).__name__)


def _plain(value: AttributeValue) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return _number(content)
        case "NULL":
            return None
        case "L":
            return [_plain(inner) for inner in content]
        case "M":
            return {name: _plain(inner) for name, inner in content.items()}
        case "SS" | "BS":
            return set(content)
        case "NS":
            return {_number(inner) for inner in content}
    return content


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
