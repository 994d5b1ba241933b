"""Questions to a table of vectors: nearest neighbours, near-duplicates, the vectors themselves.

These are pure functions over an opened dataset, so all answers are about one version of it. The cosine of two vectors
is a·b / (|a| |b|); a vector of zeros is similar to none, not even to itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lance
import numpy as np
from more_itertools import chunked

from fanfold.damage import of_table
from fanfold.errors import UsageError
from fanfold.images.search.duplicates import Group, duplicates
from fanfold.images.search.rows import STREAMED, Indices, Vectors, dimension_of, matrix, stream, unit, units
from fanfold.images.search.vector_index import has_index, probed, refined
from fanfold.images.search.where import checked, rows_where
from fanfold.storage import errors_of

__all__ = ["Group", "Hit", "Vectors", "duplicates", "nearest", "vectors"]

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
    query = np.asarray(vector, np.float32)
    expected = dimension_of(dataset)
    if query.shape != (expected,):
        raise UsageError(
            f"The query has {query.size} values, but the table's vectors have {expected}: another model made the query."
        )
    rows = None if where is None else rows_where(dataset, where)
    k = min(k, dataset.count_rows() if rows is None else len(rows))
    few = rows is not None and len(rows) <= FEW
    if exact or few or not k or not query.any() or not has_index(dataset):  # Lance finds nothing for zeros
        return _nearest_exactly(dataset, query, k, rows, columns)
    found = _nearest_by_index(dataset, query, k, where, columns)
    return found if len(found) == k or where is None else _nearest_exactly(dataset, query, k, rows, columns)


def _nearest_by_index(
    dataset: lance.LanceDataset, query: Vectors, k: int, where: str | None, columns: Sequence[str]
) -> list[Hit]:
    asked: dict[str, Any] = {"column": "vector", "q": query, "k": k, "metric": "cosine"}
    asked["refine_factor"] = refined(k, len(query))
    # With a filter, Lance goes on to other partitions until it has `k` rows.
    asked["nprobes" if where is None else "minimum_nprobes"] = probed(dataset.count_rows())
    condition = None if where is None else checked(dataset.schema, where)
    with errors_of(dataset.uri):
        found = dataset.to_table(
            columns=["key", "uri", "_distance", *columns], nearest=asked, filter=condition, prefilter=True
        ).to_pylist()
    return [_hit(row, 1 - row["_distance"], columns) for row in found]  # Lance gives 1 - cosine


def _nearest_exactly(
    dataset: lance.LanceDataset, query: Vectors, k: int, among: Indices | None, columns: Sequence[str]
) -> list[Hit]:
    """Compare with every vector, or with those of some rows, a block at a time."""
    direction = unit(query[None])[0]
    rows, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    for numbers, block in _all(dataset) if among is None else _some(dataset, among):
        rows = np.concatenate([rows, numbers])
        cosines = np.concatenate([cosines, block @ direction])
        best = np.argsort(-cosines, kind="stable")[:k]
        rows, cosines = rows[best], cosines[best]
    named = dataset.take(rows.tolist(), columns=["key", "uri", *columns]).to_pylist() if len(rows) else []
    return [_hit(row, min(1.0, float(cosine)), columns) for row, cosine in zip(named, cosines, strict=True)]


def _hit(row: Mapping[str, Any], cosine: float, columns: Sequence[str]) -> Hit:
    return Hit(row["key"], row["uri"], cosine, {name: row[name] for name in columns})


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
