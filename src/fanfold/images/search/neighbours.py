"""Questions to a table of vectors: nearest neighbours, near-duplicates, the vectors themselves.

These are pure functions over an opened dataset, so all answers are about one version of it. The cosine of two vectors
is a·b / (|a| |b|); a vector of zeros is similar to none, not even to itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import lance
import numpy as np
from more_itertools import chunked

from fanfold.damage import of_table
from fanfold.errors import UsageError
from fanfold.images.search.duplicates import Group, duplicates
from fanfold.images.search.rows import Vectors, dimension_of, matrix, stream, unit
from fanfold.images.search.vector_index import has_index, probed, refined
from fanfold.storage import errors_of

__all__ = ["Group", "Hit", "Vectors", "duplicates", "nearest", "vectors"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A row near the query."""

    key: str
    uri: str
    cosine: float


@of_table
def nearest(dataset: lance.LanceDataset, vector: Vectors, k: int, *, exact: bool = False) -> list[Hit]:
    """The `k` rows of highest cosine with `vector`, best first: by the table's index if it has one, else exactly.

    The index finds nearly all of the true `k` (docs/images.md has the recall); rows that are newer than the index are
    scanned, and the cosines are exact. `exact` compares with every vector. Raises UsageError if the vector's length is
    not that of the table's, and for a table without vectors.
    """
    query = np.asarray(vector, np.float32)
    expected = dimension_of(dataset)
    if query.shape != (expected,):
        raise UsageError(
            f"The query has {query.size} values, but the table's vectors have {expected}: another model made the query."
        )
    k = min(k, dataset.count_rows())
    if exact or not k or not query.any() or not has_index(dataset):  # Lance finds nothing for a query of zeros
        return _nearest_exactly(dataset, query, k)
    # Lance gives 1 - cosine.
    asked = {"column": "vector", "q": query, "k": k, "metric": "cosine"}
    asked |= {"nprobes": probed(dataset.count_rows()), "refine_factor": refined(k, expected)}
    with errors_of(dataset.uri):
        found = dataset.to_table(columns=["key", "uri", "_distance"], nearest=asked).to_pylist()
    return [Hit(row["key"], row["uri"], 1 - row["_distance"]) for row in found]


def _nearest_exactly(dataset: lance.LanceDataset, query: Vectors, k: int) -> list[Hit]:
    """Compare with every vector, a block at a time: Lance's own scan holds 1.5 times the whole column in memory."""
    direction = unit(query[None])[0]
    rows, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    at = 0
    for block in stream(dataset, 0, dataset.count_rows()):
        rows = np.concatenate([rows, np.arange(at, at + len(block))])
        cosines = np.concatenate([cosines, unit(block) @ direction])
        best = np.argsort(-cosines, kind="stable")[:k]
        rows, cosines, at = rows[best], cosines[best], at + len(block)
    named = dataset.take(rows.tolist(), columns=["key", "uri"]).to_pylist() if len(rows) else []
    return [Hit(row["key"], row["uri"], min(1.0, float(cosine))) for row, cosine in zip(named, cosines, strict=True)]


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
