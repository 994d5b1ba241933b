"""What can be asked of a table of vectors: the nearest, the near-duplicates, the vectors themselves.

Pure functions over an opened dataset, so all answers are of one version of it. The cosine of two vectors is
a·b / (|a| |b|); a vector of zeros is like nothing, not even itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import numpy as np

from fanfold.errors import UsageError

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

HELD = 64 << 20
"""Bytes of vectors that `duplicates` keeps in memory while all others stream past them."""
STREAMED = 1024
"""Rows that stream past at a time."""
_ROUNDING = 1e-6  # a float32 vector's cosine with itself may be this much below 1


@dataclass(frozen=True, slots=True)
class Hit:
    """A row near to what was asked."""

    key: str
    uri: str
    cosine: float


@dataclass(frozen=True, slots=True)
class Group:
    """Rows each of which is a near-duplicate of at least one other of the group."""

    keys: tuple[str, ...]
    """In the table's order."""
    least: float
    """The lowest cosine that links two of them; members linked only by way of others may be further apart."""


def nearest(dataset: lance.LanceDataset, vector: Vectors, k: int) -> list[Hit]:
    """The `k` rows of highest cosine with `vector`, best first: by the table's index if it has one, else exactly."""
    query = np.asarray(vector, np.float32)
    expected = dataset.schema.field("vector").type.list_size
    if query.shape != (expected,):
        raise UsageError(
            f"The query has {query.size} values and the table's vectors {expected}: another model made it."
        )
    if not any(index.field_names == ["vector"] for index in dataset.describe_indices()):
        return _nearest_exactly(dataset, query, k)
    asked = {"column": "vector", "q": query, "k": k, "metric": "cosine"}  # Lance gives 1 - cosine
    found = dataset.to_table(columns=["key", "uri", "_distance"], nearest=asked).to_pylist()
    return [Hit(row["key"], row["uri"], 1 - row["_distance"]) for row in found]


def _nearest_exactly(dataset: lance.LanceDataset, query: Vectors, k: int) -> list[Hit]:
    """By a look at every vector, a block at a time: Lance's own scan holds one and a half times the whole column."""
    direction = _unit(query[None])[0]
    rows, cosines = np.empty(0, np.int64), np.empty(0, np.float32)
    at = 0
    for block in _stream(dataset, 0, dataset.count_rows()):
        rows = np.concatenate([rows, np.arange(at, at + len(block))])
        cosines = np.concatenate([cosines, _unit(block) @ direction])
        best = np.argsort(-cosines, kind="stable")[:k]
        rows, cosines, at = rows[best], cosines[best], at + len(block)
    named = dataset.take(rows.tolist(), columns=["key", "uri"]).to_pylist() if len(rows) else []
    return [Hit(row["key"], row["uri"], min(1.0, float(cosine))) for row, cosine in zip(named, cosines, strict=True)]


def vectors(dataset: lance.LanceDataset, keys: Iterable[str]) -> tuple[list[str], Vectors, list[str]]:
    """The keys found, their vectors float32[found, dimension], and the keys missing; in the order asked."""
    asked = list(dict.fromkeys(keys))
    found: dict[str, Vectors] = {}
    for start in range(0, len(asked), 500):  # one statement of a million names would be slow to parse
        some = asked[start : start + 500]
        names = ", ".join("'" + key.replace("'", "''") + "'" for key in some)
        table = dataset.to_table(columns=["key", "vector"], filter=f"key IN ({names})")
        found.update(zip(table["key"].to_pylist(), _matrix(table["vector"].combine_chunks()), strict=True))
    there = [key for key in asked if key in found]
    dimension = dataset.schema.field("vector").type.list_size
    matrix = np.stack([found[key] for key in there]) if there else np.empty((0, dimension), np.float32)
    return there, matrix, [key for key in asked if key not in found]


def duplicates(dataset: lance.LanceDataset, threshold: float = 0.95) -> list[Group]:
    """Groups of near-duplicates, largest first: the connected parts of the graph whose edges are the pairs of rows
    with a cosine of `threshold` or more.

    Exact, and quadratic in time: 100,000 rows of 1280 values are 13 TFLOP, about two minutes on two cores. Memory is
    some 250 MB whatever the number of rows: a block of rows is held, and all later rows stream past it.
    """
    rows = dataset.count_rows()
    joined = _Joined(rows)
    held_rows = max(STREAMED, HELD // (4 * dataset.schema.field("vector").type.list_size))
    for start in range(0, rows, held_rows):
        held = _held(dataset, start, min(held_rows, rows - start))
        at = start
        for block in _stream(dataset, start, rows):
            _compare(held, start, _unit(block), at, threshold, joined)
            at += len(block)
    return _groups(dataset, joined)


def _held(dataset: lance.LanceDataset, start: int, rows: int) -> Vectors:
    """float32[rows, dimension] from row `start` on, at length 1; filled in place, so never there twice."""
    held = np.empty((rows, dataset.schema.field("vector").type.list_size), np.float32)
    at = 0
    for block in _stream(dataset, start, rows):
        held[at : at + len(block)] = _unit(block)
        at += len(block)
    return held


def _compare(held: Vectors, start: int, block: Vectors, at: int, threshold: float, joined: "_Joined") -> None:
    """Join the rows of `held` (numbered from `start`) with like ones of `block` (from `at`), each pair once."""
    last = min(len(held), at + len(block) - start)  # rows of `held` that come after the whole block have been compared
    cosines = held[:last] @ block.T  # float32[held, STREAMED]
    alike = cosines >= threshold - _ROUNDING
    for row in np.flatnonzero(alike.any(axis=1)):
        columns = np.flatnonzero(alike[row])
        columns = columns[columns + at > row + start]
        if len(columns):
            joined.join(int(row) + start, columns + at, float(cosines[row, columns].min()))


class _Joined:
    """Which rows belong together: a label for each, and the members of each label that has several."""

    def __init__(self, rows: int) -> None:
        self.labels: Indices = np.arange(rows)
        self.least = np.full(rows, np.inf, np.float32)  # of the pairs in which the row came first
        self.members: dict[int, list[int]] = {}

    def join(self, row: int, others: Indices, least: float) -> None:
        """Put `row` and `others` into one group."""
        self.least[row] = min(self.least[row], least)
        for other in others[self.labels[others] != self.labels[row]]:
            self._merge(int(self.labels[row]), int(self.labels[other]))

    def _merge(self, one: int, two: int) -> None:
        if one == two:  # by way of another pair of the same row
            return
        ours, theirs = self.members.pop(one, [one]), self.members.pop(two, [two])
        if len(ours) < len(theirs):  # relabel the smaller, so that a row is relabelled log(n) times at most
            one, ours, theirs = two, theirs, ours
        self.labels[theirs] = one
        self.members[one] = ours + theirs


def _groups(dataset: lance.LanceDataset, joined: _Joined) -> list[Group]:
    wanted = sorted(row for members in joined.members.values() for row in members)
    keys = dict(zip(wanted, _keys(dataset, wanted), strict=True))
    groups = [
        Group(tuple(keys[row] for row in sorted(members)), min(1.0, float(joined.least[members].min())))
        for members in joined.members.values()
    ]
    return sorted(groups, key=lambda group: (-len(group.keys), group.keys))


def _keys(dataset: lance.LanceDataset, rows: Sequence[int]) -> Iterator[str]:
    """The keys of these rows, numbered in the table's order."""
    wanted, at = np.asarray(rows, np.int64), 0
    for batch in dataset.to_batches(columns=["key"], scan_in_order=True):
        inside = wanted[(wanted >= at) & (wanted < at + len(batch))] - at
        yield from batch.column("key").take(inside).to_pylist()
        at += len(batch)


def _stream(dataset: lance.LanceDataset, start: int, rows: int) -> Iterator[Vectors]:
    """float32[up to STREAMED, dimension] at a time, of `rows` rows from `start` on, in the table's order.

    Each block is a scan of its own: one long scan reads ahead without bound (300 MB for a column of 200), and is no
    faster.
    """
    end = min(start + rows, dataset.count_rows())
    for at in range(start, end, STREAMED):
        block = dataset.to_table(columns=["vector"], offset=at, limit=min(STREAMED, end - at), scan_in_order=True)
        yield _matrix(block["vector"].combine_chunks())


def _matrix(column: Any) -> Vectors:
    """A fixed-size list column as float32[rows, dimension], sharing its memory."""
    matrix: Vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return matrix


def _unit(matrix: Vectors) -> Vectors:
    """Each row at length 1, so that a product of two is their cosine."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: Vectors = np.divide(matrix, np.where(lengths > 0, lengths, 1), dtype=np.float32)
    return unit
