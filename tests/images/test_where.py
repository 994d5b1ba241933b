"""Filters: the rows that meet a condition, searches among them, and what is said of a bad condition."""

import re
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.images.search import neighbours as search
from fanfold.images.search.where import LONGEST, checked, rows_where
from vector_tables import clustered

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("width", pa.int32()),
        ("format", pa.string()),
        ("score", pa.float64()),
        ("truncated", pa.bool_()),
        ("created", pa.timestamp("us", tz="UTC")),
        ("vector", pa.list_(pa.float32(), 4)),
    ]
)
WORDS = st.sampled_from(["PNG", "JPEG", "it's", "", "%", "_", "é 🐈", 'say "hi"', "a\\b"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "width": st.none() | st.integers(-3, 3),
            "format": st.none() | WORDS,
            "score": st.none() | st.sampled_from([-1.5, 0.0, 0.25, 1e300]),
            "truncated": st.none() | st.booleans(),
        }
    ),
    max_size=30,
)
SIGNS = {"=": pc.equal, "<>": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
Both = tuple[str, Any]
"""A condition as text, and the same as an expression of pyarrow's."""


def quoted(text: str) -> str:
    """A text as it is written in a condition."""
    return "'" + text.replace("'", "''") + "'"


def compared(column: str, sign: str, value: Any) -> Both:
    """A comparison with a value."""
    written = quoted(value) if isinstance(value, str) else repr(value)
    return f"{column} {sign} {written}", SIGNS[sign](pc.field(column), pa.scalar(value, SCHEMA.field(column).type))


def listed(values: list[int]) -> Both:
    """A list of values; NULL is neither in it nor not in it."""
    expression = pc.equal(pc.field("width"), pa.scalar(values[0], pa.int32()))
    for value in values[1:]:
        expression = pc.or_kleene(expression, pc.equal(pc.field("width"), pa.scalar(value, pa.int32())))
    return f"width IN ({', '.join(map(str, values))})", expression


SIMPLE = st.one_of(
    st.builds(compared, st.just("width"), st.sampled_from([*SIGNS]), st.integers(-3, 3)),
    st.builds(compared, st.just("format"), st.sampled_from([*SIGNS]), WORDS),
    st.builds(compared, st.just("score"), st.sampled_from([*SIGNS]), st.sampled_from([-1.5, 0.25])),
    st.builds(listed, st.lists(st.integers(-3, 3), min_size=1, max_size=3)),
    st.sampled_from(["width", "format", "score"]).map(lambda name: (f"{name} IS NULL", pc.is_null(pc.field(name)))),
    st.just(("truncated", pc.field("truncated"))),
    st.just(("format LIKE 'P_G%'", pc.match_like(pc.field("format"), "P_G%"))),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda some: st.one_of(
        st.tuples(some, some).map(
            lambda two: (f"({two[0][0]}) AND ({two[1][0]})", pc.and_kleene(two[0][1], two[1][1]))
        ),
        st.tuples(some, some).map(lambda two: (f"({two[0][0]}) OR ({two[1][0]})", pc.or_kleene(two[0][1], two[1][1]))),
        some.map(lambda one: (f"NOT ({one[0]})", pc.invert(one[1]))),
    ),
    max_leaves=6,
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    """A table of these rows, with keys and vectors."""
    full = [{"key": f"k{n}", "vector": [n, 1.0, 0.0, 0.0], **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=SCHEMA)


@given(rows=ROWS, condition=CONDITIONS)
@example(rows=[{}], condition=("NOT (width = 1)", pc.invert(pc.equal(pc.field("width"), 1))))
def test_the_rows_are_those_that_pyarrow_finds(rows: list[dict[str, Any]], condition: Both) -> None:
    """A condition chooses the rows that pyarrow's own filter chooses, missing values included, in the same order."""
    table = table_of(rows)
    dataset = lance.write_dataset(table, "memory://", max_rows_per_file=7)
    expected = table.append_column("row", pa.array(range(len(table)), pa.int64())).filter(condition[1])
    assert rows_where(dataset, condition[0]).tolist() == expected["row"].to_pylist()


def test_row_numbers_after_deletions(tmp_path: Path) -> None:
    """The numbers of rows are those by which a dataset takes them, after rows have been deleted."""
    dataset = lance.write_dataset(table_of([{"width": n % 3} for n in range(30)]), tmp_path / "t.lance")
    dataset.delete("key IN ('k0', 'k7', 'k29')")
    rows = rows_where(dataset, "width = 1")
    keys = dataset.take(rows.tolist(), columns=["key"])["key"].to_pylist()
    assert keys == [f"k{n}" for n in range(30) if n % 3 == 1 and n != 7]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("widht > 3", "the column 'widht' is not known (did you mean 'width'?)"),
        ("format = PNG", "the column 'PNG' is not known; text is written in single quotes"),
        ("format = 'PNG", "a quotation mark is not closed"),
        ("width > 'abc'", "cannot be compared with a column of whole numbers"),
        ("format > 3", "3 cannot be compared with a column of texts"),
        ("created > '2026-11-01'", "a column of times, which are written timestamp '2026-11-22 20:00:00'"),
        ("width >", "it ends too early"),
        ("width > 3 format = 'PNG'", "'format' does not fit where it stands"),
        ("width > 3 limit 5", "'limit' does not fit where it stands"),
        ("width > 3; drop table t", "';' does not fit where it stands"),
        ("width", "it must be true or false for each row"),
        ("width / 0 > 1", "it divides by zero"),
        ("cast(key AS int) > 3", "the text 'k0' cannot be read"),
        ("foo(width) > 3", "the function 'foo' is not known"),
        ("sum(width) > 3", "it is not a condition that can be used here"),
        ("vector IS NULL", "the column 'vector' does not hold single values"),
        ("width > ?", "'?' has no meaning there"),
        ("width > $1", "'$' has no meaning there"),
        ('"width" > 3', "a column's name has no quotation marks"),
        (" ", "it is empty"),
        ("format = 'P\0NG' AND", "it ends too early"),
        ("(" * 4000 + "1 = 1" + ")" * 4000, "it is not a condition that can be used here"),
    ],
    ids=lambda value: value[:25],
)
def test_a_bad_condition_is_refused_in_plain_words(where: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Every mistake ends in a sentence that names the columns, and nothing of what Lance says gets through."""
    dataset = lance.write_dataset(table_of([{"width": 2000, "format": "PNG"}]), "memory://")
    with pytest.raises(UsageError) as refused:
        rows_where(dataset, where)
    message = str(refused.value)
    assert says in message
    assert "The columns are key (text), width (whole number), format (text), score (number)" in message
    assert not re.search(r"\.rs|rust|Schema error|Invalid user input|vector,", message)
    assert capfd.readouterr().err == ""


def test_a_long_condition_is_refused() -> None:
    """A condition of more than ten thousand characters is not read; a long one within the limit is."""
    dataset = lance.write_dataset(table_of([{"width": 3}]), "memory://")
    with pytest.raises(UsageError, match="at most 10,000 characters"):
        checked(dataset.schema, "1 = 1" + " " * LONGEST)
    assert rows_where(dataset, " OR ".join(["width = 3"] * 700)).tolist() == [0]


def test_quotation_marks_and_comments_are_taken_as_they_are() -> None:
    """Signs that a condition may not have may be in its texts and comments."""
    dataset = lance.write_dataset(table_of([{"format": "why? $5"}, {"format": "it's"}]), "memory://")
    assert rows_where(dataset, "format = 'why? $5' -- really?").tolist() == [0]
    assert rows_where(dataset, "format = 'it''s'").tolist() == [1]


# -- searches ----------------------------------------------------------------------------------------------------------


@pytest.fixture(name="indexed", scope="module")
def _indexed(tmp_path_factory: pytest.TempPathFactory) -> lance.LanceDataset:
    """A table of 6,000 vectors with an index of 24 partitions; `width` counts the rows."""
    vectors = clustered(6000, 1)
    columns = {
        "key": [f"k{row}" for row in range(6000)],
        "uri": [f"file:///k{row}" for row in range(6000)],
        "width": pa.array(range(6000), pa.int32()),
        "format": [("PNG", "JPEG")[row % 2] for row in range(6000)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    path = tmp_path_factory.mktemp("indexed") / "images.lance"
    dataset = lance.write_dataset(pa.table(columns), path, max_rows_per_file=1000)
    dataset.create_index("vector", "IVF_RQ", metric="cosine", num_partitions=24, num_bits=1)
    return lance.dataset(path)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "by index"])
@pytest.mark.parametrize(
    ("where", "matching"), [("format = 'PNG' AND width < 100", 50), ("format = 'JPEG' OR width < 1000", 3500)]
)
def test_the_nearest_of_the_rows_that_match(
    indexed: lance.LanceDataset, exact: bool, where: str, matching: int
) -> None:
    """A search finds the nearest rows among those that meet the condition."""
    vectors = clustered(6000, 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rows_where(indexed, where)
    assert len(rows) == matching
    best = rows[np.argsort(-(unit[rows] @ unit[5]), kind="stable")[:10]]
    hits = search.nearest(indexed, vectors[5], 10, exact=exact, where=where)
    assert len({hit.key for hit in hits} & {f"k{row}" for row in best}) >= (10 if exact or matching < 100 else 8)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)


def test_as_many_hits_as_rows_match(indexed: lance.LanceDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search by the index finds k rows if k rows match, also when those are in partitions far from the query."""
    monkeypatch.setattr(search, "FEW", 0)
    monkeypatch.setattr(search, "probed", lambda _: 1)
    cosines = clustered(6000, 1) @ clustered(6000, 1)[0]
    far = ", ".join(str(row) for row in np.argsort(cosines)[:300])
    for k, found in ((250, 250), (1000, 300)):
        hits = search.nearest(indexed, clustered(6000, 1)[0], k, where=f"width IN ({far})")
        assert len({hit.key for hit in hits}) == len(hits) == found


def test_no_row_matches(indexed: lance.LanceDataset) -> None:
    """A condition that no row meets has no neighbours."""
    for exact in (True, False):
        assert search.nearest(indexed, np.ones(32), 5, exact=exact, where="width < 0") == []
