"""Rows as DynamoDB items, and back."""

import base64
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import UsageError
from fanfold.aws.dynamodb.items import attribute_of, constants_of, items_of, key_fits, row_of, size_at_most

DIMENSION = 3
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("vector", pa.list_(pa.float32(), DIMENSION)),
        ("width", pa.int32()),
        ("bytes", pa.int64()),
        ("truncated", pa.bool_()),
        ("score", pa.float64()),
        ("raw", pa.binary()),
        ("labels", pa.list_(pa.string())),
        ("created", pa.timestamp("us", "UTC")),
    ]
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
# DynamoDB has no numbers outside these ranges, and turns -0 into 0.
NUMBERS = st.floats(1e-120, 1e120) | st.floats(-1e120, -1e-120) | st.just(0.0)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"key": TEXTS.filter(bool), "version": TEXTS},
        optional={
            "vector": st.lists(st.floats(width=32), min_size=DIMENSION, max_size=DIMENSION),
            "width": st.integers(-(2**31), 2**31 - 1),
            "bytes": st.integers(-(2**63), 2**63 - 1),
            "truncated": st.booleans(),
            "score": NUMBERS,
            "raw": st.binary(),
            "labels": st.lists(TEXTS),
            "created": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
        },
    ),
    max_size=5,
)


def item(**columns: Any) -> dict[str, Any]:
    """The item of one row, whose columns are given as single values."""
    (made,) = items_of(pa.table({"key": ["k"]} | {name: [value] for name, value in columns.items()}), {})
    return made


def back(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is read back: nulls are absent, and times are text."""
    return {
        attribute_of(name): value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for name, value in row.items()
        if name != "vector"
    }


@given(ROWS, st.integers(0, 5))
def test_rows_come_back_as_they_were(rows: list[dict[str, Any]], start: int) -> None:
    """Every value of every type is read back, vectors bit for bit and nulls as absent, even from a slice of a table."""
    sliced = pa.Table.from_pylist([{"key": "before"}] * start + rows, SCHEMA).slice(start)
    items = items_of(sliced, {"Model": {"S": "m"}})
    assert len(items) == len(rows)
    for row, made in zip(rows, map(row_of, items), strict=True):
        vector = made.pop("Vector", None)
        described = [made.pop(name, None) for name in ("DataType", "Dimension", "Model")]
        assert described == (["float32", DIMENSION, "m"] if "vector" in row else [None, None, "m"])
        assert made == back(row)
        if "vector" in row:
            assert vector.tobytes() == np.array(row["vector"], "<f4").tobytes()
        else:
            assert vector is None


@given(ROWS)
def test_the_size_is_never_too_small(rows: list[dict[str, Any]]) -> None:
    """Calls are cut by this size, so it is at least a third of the size of the call's JSON."""
    for made in items_of(pa.Table.from_pylist(rows, SCHEMA), {"A": {"N": "-1.5"}, "B": {"N": "0"}}):
        text = json.dumps(made, default=lambda data: base64.b64encode(data).decode())
        types = 16 * text.count("{")  # braces, quotes and the type of each value
        assert 3 * size_at_most(made) + types >= len(text)


def test_the_item_of_a_picture() -> None:
    """Names and types are those that the article's reader and the table's documentation use."""
    rows = pa.Table.from_pylist(
        [
            {"key": "a/1.jpg", "version": "v", "vector": [1, 2, 3], "width": 4, "bytes": 5, "truncated": False}
            | {"created": datetime(2026, 11, 22, 20, 18, 5, tzinfo=UTC)}
        ],
        SCHEMA,
    )
    metadata = {"fanfold.model": "resnet18", "fanfold.recipe": '{"a": "b"}', "fanfold.dimension": "3"}
    assert items_of(rows, constants_of(metadata)) == [
        {
            "ImageId": {"S": "a/1.jpg"},
            "Version": {"S": "v"},
            "Vector": {"B": np.array([1, 2, 3], "<f4").tobytes()},
            "DataType": {"S": "float32"},
            "Dimension": {"N": "3"},
            "Width": {"N": "4"},
            "Bytes": {"N": "5"},
            "Truncated": {"BOOL": False},
            "Created": {"S": "2026-11-22T20:18:05.000000+00:00"},
            "Model": {"S": "resnet18"},
            "Recipe": {"S": "e47aeff37f2bf092"},
        }
    ]


def test_other_zones_are_written_in_utc() -> None:
    """A time in any zone is written as the same instant in UTC, and a time without a zone unchanged."""
    instant = datetime(2026, 11, 22, 20, 18, 5, 123456, tzinfo=UTC)
    zoned = pa.array([instant, None], pa.timestamp("us", "America/New_York"))
    naive = pa.array([instant.replace(tzinfo=None)] * 2, pa.timestamp("ns"))
    first, second = items_of(pa.table({"key": ["a", "b"], "zoned": zoned, "naive": naive}), {})
    assert first["Zoned"] == {"S": "2026-11-22T20:18:05.123456+00:00"}
    assert first["Naive"] == {"S": "2026-11-22T20:18:05.123456000"}
    assert "Zoned" not in second


def test_other_jobs_columns() -> None:
    """Structures, dates, decimals and a second vector have a form, too, and names of several words are joined."""
    made = item(
        not_after=date(2030, 1, 2), price=Decimal("1.50"), issuer={"name": "x", "serial": None}, names=["a", None]
    )
    assert made["NotAfter"] == {"S": "2030-01-02"}
    assert made["Price"] == {"N": "1.50"}
    assert made["Issuer"] == {"M": {"name": {"S": "x"}, "serial": {"NULL": True}}}
    assert row_of(made)["Names"] == ["a", None]
    assert row_of(made)["Issuer"] == {"name": "x", "serial": None}
    vectors = pa.array([[1, 2]], pa.list_(pa.float32(), 2))
    (two,) = items_of(pa.table({"key": ["k"], "one": vectors, "two": vectors}), {})
    assert row_of(two)["Vector"].tolist() == row_of(two)["Two"] == [1, 2]


def test_a_type_without_a_form_is_named() -> None:
    """A column type that DynamoDB does not have is an error that names the column."""
    rows = pa.table({"key": ["k"], "took": pa.array([1], pa.duration("s"))})
    with pytest.raises(UsageError, match=r"'took' is of type duration"):
        items_of(rows, {})


def test_two_columns_are_never_one_attribute() -> None:
    """Columns whose names differ only in underscores, or that collide with the table's own, are refused."""
    with pytest.raises(UsageError, match=r"NotAfter"):
        items_of(pa.table({"key": ["k"], "not_after": [1], "notAfter": [2]}), {})
    with pytest.raises(UsageError, match=r"Model"):
        items_of(pa.table({"key": ["k"], "model": ["m"]}), constants_of({"fanfold.model": "m"}))


def test_recipes_differ_where_their_text_does() -> None:
    """The recipe is a short digest of the metadata's recipe, and absent without one."""
    texts = [json.dumps({"model": "a"}), json.dumps({"model": "b"})]
    recipes = {constants_of({"fanfold.recipe": text})["Recipe"]["S"] for text in texts}
    assert len(recipes) == 2
    assert {len(recipe) for recipe in recipes} == {16}
    assert constants_of({}) == {}


@pytest.mark.parametrize(("key", "fits"), [("", False), ("k" * 2048, True), ("é" * 1025, False), ("\udce9", False)])
def test_keys_have_1_to_2048_bytes(key: str, fits: bool) -> None:
    """Keys are measured in UTF-8, and a key that is not valid text does not fit."""
    assert key_fits(key) == fits
