"""Questions to a table of vectors: nearest neighbours, near-duplicates, the vectors themselves.

These are pure functions over an opened dataset, so all answers are about one version of it. The cosine of two vectors
is a·b / (|a| |b|); a vector of zeros is similar to none, not even to itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lance
import numpy as np
from more_itertools import chunked

from fanfold.damage import of_table
from fanfold.errors import UsageError
from fanfold.images.search.duplicates import Group, duplicates
from fanfold.images.search.rows import STREAMED, Indices, Vectors, dimension_of, matrix, numbers_of, stream, unit, units
from fanfold.images.search.vector_index import has_index, probed, refined
from fanfold.images.search.where import checked, rows_where
from fanfold.storage import errors_of

__all__ = ["Group", "Hit", "Near", "Vectors", "duplicates", "nearest", "nearest_rows", "vectors"]

FEW = 2_000
"""Most rows that meet a condition for which all are compared, also in a table with an index: 0.04 s for 256 dimensions.
Of ten neighbours among fewer rows, the index finds nine."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row near the query."""

    key: str
    uri: str
    cosine: float
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The row's values in the columns that were asked for."""


class Near(NamedTuple):
    """Rows near a query, best first."""

    rows: Indices
    """int64[n]: their numbers in the table's order."""
    cosines: Vectors
    """float32[n]"""


@of_table
def nearest(
    dataset: lance.LanceDataset,
    vector: Vectors,
    k: int,
    *,
    exact: bool = False,
    where: str | None = None,
    columns: Sequence[str] = (),
) -> list[Hit]:
    """The `k` rows of highest cosine with `vector`, best first: by the table's index if it has one, else exactly.

    With `where`, a condition on the table's columns, the `k` best of the rows that meet it: if that many do, that many
    are found. `columns` are read for the hits. The index finds nearly all of the true `k` (docs/images.md has the
    recall); rows that are newer than the index are scanned, and the cosines are exact. `exact` compares with every
    vector. Raises UsageError if the vector's length is not that of the table's, for a table without vectors, and for a
    condition that cannot be used.
    """
    rows, cosines = nearest_rows(dataset, vector, k, exact=exact, where=where)
    named = dataset.take(rows.tolist(), columns=["key", "uri", *columns]).to_pylist() if len(rows) else []
    return [
        Hit(row["key"], row["uri"], float(cosine), {name: row[name] for name in columns})
        for row, cosine in zip(named, cosines, strict=True)
    ]


@of_table
def nearest_rows(
    dataset: lance.LanceDataset,
    vector: Vectors,
    k: int,
    *,
    exact: bool = False,
    where: str | None = None,
    among: Indices | None = None,
) -> Near:
    """The same, as rows by their number in the table's order, and their cosines.

    `among` are the rows that count, ascending, instead of a condition: all of them are compared.
    """
    query = np.asarray(vector, np.float32)
    expected = dimension_of(dataset)
    if query.shape != (expected,):
        raise UsageError(
            f"The query has {query.size} values, but the table's vectors have {expected}: another model made the query."
        )
    rows = among if where is None else rows_where(dataset, where)
    k = min(k, dataset.count_rows() if rows is None else len(rows))
    few = rows is not None and (len(rows) <= FEW or where is None)
    if exact or few or not k or not query.any() or not has_index(dataset):  # Lance finds nothing for zeros
        return _nearest_exactly(dataset, query, k, rows)
    found = _nearest_by_index(dataset, query, k, where)
    return found if len(found.rows) == k or where is None else _nearest_exactly(dataset, query, k, rows)


def _nearest_by_index(dataset: lance.LanceDataset, query: Vectors, k: int, where: str | None) -> Near:
    asked: dict[str, Any] = {"column": "vector", "q": query, "k": k, "metric": "cosine"}
    asked["refine_factor"] = refined(k, len(query))
    # With a filter, Lance goes on to other partitions until it has `k` rows.
    asked["nprobes" if where is None else "minimum_nprobes"] = probed(dataset.count_rows())
    condition = None if where is None else checked(dataset.schema, where)
    with errors_of(dataset.uri):
        found = dataset.to_table(
            columns=["_distance"], nearest=asked, filter=condition, prefilter=True, with_row_address=True
        )
        rows = numbers_of(dataset, found["_rowaddr"].to_numpy())
    return Near(rows, 1 - found["_distance"].to_numpy())  # Lance gives 1 - cosine


def _nearest_exactly(dataset: lance.LanceDataset, query: Vectors, k: int, among: Indices | None) -> Near:
    """Compare with every vector, or with those of some rows, a block at a time."""
    direction = unit(query[None])[0]
    rows, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    for numbers, block in _all(dataset) if among is None else _some(dataset, among):
        rows = np.concatenate([rows, numbers])
        cosines = np.concatenate([cosines, block @ direction])
        best = np.argsort(-cosines, kind="stable")[:k]
        rows, cosines = rows[best], cosines[best]
    return Near(rows, np.minimum(cosines, 1))


def _all(dataset: lance.LanceDataset) -> Iterator[tuple[Indices, Vectors]]:
    """The rows' numbers and their vectors, of length 1, a block at a time: Lance's own scan holds 1.5 times the whole
    column in memory."""
    at = 0
    for block in stream(dataset, 0, dataset.count_rows()):
        yield np.arange(at, at + len(block)), unit(block)
        at += len(block)


def _some(dataset: lance.LanceDataset, rows: Indices) -> Iterator[tuple[Indices, Vectors]]:
    """The same for some rows."""
    for at in range(0, len(rows), STREAMED):
        numbers = rows[at : at + STREAMED]
        yield numbers, units(dataset, numbers)


@of_table
def vectors(dataset: lance.LanceDataset, keys: Iterable[str]) -> tuple[list[str], Vectors, list[str]]:
    """The keys found, their vectors float32[found, dimension], and the keys missing; in the order of `keys`.

    Raises UsageError for a table without vectors.
    """
    dimension = dimension_of(dataset)
    asked = list(dict.fromkeys(keys))
    found: dict[str, Vectors] = {}
    for some in chunked(asked, 500):  # a filter of a million names is slow to parse
        names = ", ".join("'" + key.replace("'", "''") + "'" for key in some)
        table = dataset.to_table(columns=["key", "vector"], filter=f"key IN ({names})")
        found.update(zip(table["key"].to_pylist(), matrix(table["vector"].combine_chunks()), strict=True))
    there = [key for key in asked if key in found]
    stacked = np.stack([found[key] for key in there]) if there else np.empty((0, dimension), np.float32)
    return there, stacked, [key for key in asked if key not in found]
