"""Rows as DynamoDB items, and back."""

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold import UsageError
from fanfold.aws.items import (
    ITEM_BYTES,
    attribute_of,
    constants_of,
    items_of,
    key_fits,
    refusal,
    row_of,
    size_at_most,
    size_of,
)

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
# Outside these DynamoDB has no numbers, and -0 is 0 to it.
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
    """The item of one row, given as columns of one value each."""
    (made,) = items_of(pa.table({"key": ["k"]} | {name: [value] for name, value in columns.items()}), {})
    return made


def back(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it comes back: absent where it was null, vectors as bytes, and times as text."""
    return {
        attribute_of(name): value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
        for name, value in row.items()
        if name != "vector"
    }


@given(ROWS, st.integers(0, 5))
def test_rows_come_back_as_they_were(rows: list[dict[str, Any]], start: int) -> None:
    """Every value of every type comes back, vectors bit for bit, nulls as absent; from a slice of a table, too."""
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
def test_the_quick_measure_is_never_too_small(rows: list[dict[str, Any]]) -> None:
    """What passes it needs no exact one, so it must never be below; it does not matter how far above."""
    for made in items_of(pa.Table.from_pylist(rows, SCHEMA), {"A": {"N": "-1.5"}, "B": {"N": "0"}}):
        assert size_at_most(made) >= size_of(made)


def test_the_item_of_a_picture() -> None:
    """Names and types are those that the article's reader and the table's documentation know."""
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
    """A time of any zone is written as the same instant in UTC, and one without a zone as it stands."""
    instant = datetime(2026, 11, 22, 20, 18, 5, 123456, tzinfo=UTC)
    zoned = pa.array([instant, None], pa.timestamp("us", "America/New_York"))
    naive = pa.array([instant.replace(tzinfo=None)] * 2, pa.timestamp("ns"))
    first, second = items_of(pa.table({"key": ["a", "b"], "zoned": zoned, "naive": naive}), {})
    assert first["Zoned"] == {"S": "2026-11-22T20:18:05.123456+00:00"}
    assert first["Naive"] == {"S": "2026-11-22T20:18:05.123456000"}
    assert "Zoned" not in second


def test_other_jobs_columns() -> None:
    """Structures, dates, decimals and a second vector have a form, too, and names of several words run together."""
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
    """A column that DynamoDB has no form for is a mistake of the job, and the message names it."""
    rows = pa.table({"key": ["k"], "took": pa.array([1], pa.duration("s"))})
    with pytest.raises(UsageError, match=r"'took' is of type duration"):
        items_of(rows, {})


def test_two_columns_are_never_one_attribute() -> None:
    """Columns whose names differ in underscores only, or that collide with the table's own, are refused."""
    with pytest.raises(UsageError, match=r"NotAfter"):
        items_of(pa.table({"key": ["k"], "not_after": [1], "notAfter": [2]}), {})
    with pytest.raises(UsageError, match=r"Model"):
        items_of(pa.table({"key": ["k"], "model": ["m"]}), constants_of({"fanfold.model": "m"}))


def test_recipes_differ_where_their_text_does() -> None:
    """The recipe is a short digest of the metadata's, and absent where that says nothing."""
    texts = [json.dumps({"model": "a"}), json.dumps({"model": "b"})]
    recipes = {constants_of({"fanfold.recipe": text})["Recipe"]["S"] for text in texts}
    assert len(recipes) == 2
    assert {len(recipe) for recipe in recipes} == {16}
    assert constants_of({}) == {}


@pytest.mark.parametrize(
    ("number", "size"),
    [("0", 1), ("7", 2), ("12", 2), ("120", 3), ("123", 3), ("-12", 3), ("0.12", 2), ("0.012", 3), ("100", 2)],
)
def test_numbers_count_by_pairs_of_digits(number: str, size: int) -> None:
    """Zeros at the ends do not count, pairs are cut at the decimal point, and a minus sign takes a byte."""
    assert size_of({"N": {"N": number}}) == 1 + size


def test_sizes_count_names_and_values() -> None:
    """Text counts in UTF-8, bytes as they are, flags one, and lists and maps by what is in them."""
    made = {"é": {"S": "é"}, "b": {"B": b"1234"}, "t": {"BOOL": True}, "n": {"NULL": True}}
    assert size_of(made) == 4 + 5 + 2 + 2
    assert size_of({"l": {"L": [{"S": "ab"}, {"BOOL": True}]}}) == 1 + 3 + (1 + 2) + (1 + 1)
    assert size_of({"m": {"M": {"a": {"S": "bc"}}}}) == 1 + 3 + 1 + (1 + 2)


def test_an_item_at_the_limit_is_kept_and_one_above_refused() -> None:
    """The limit is 400 KB, names included, and the reason tells the item's size."""
    room = ITEM_BYTES - size_of(item(text=""))
    assert not refusal(item(text="x" * room))
    assert refusal(item(text="x" * (room + 1))) == "it has 409,601 bytes; a DynamoDB item has 409,600 at most"


@pytest.mark.parametrize(("key", "fits"), [("", False), ("k" * 2048, True), ("é" * 1025, False), ("\udce9", False)])
def test_keys_have_1_to_2048_bytes(key: str, fits: bool) -> None:
    """Keys are measured in UTF-8, and what is no text is no key."""
    assert key_fits(key) == fits


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e126, 1e-131])
def test_numbers_that_dynamodb_has_not_are_refused(number: float) -> None:
    """A value that is no finite number, or outside DynamoDB's range, is named."""
    assert refusal(item(score=number)).startswith("Score is ")


@pytest.mark.parametrize("number", [0.0, -1e-130, 9.9e125, 1 / 3, 2**62])
def test_numbers_that_dynamodb_has_are_kept(number: float) -> None:
    """Up to the ends of the range nothing is refused."""
    assert not refusal(item(score=number))
