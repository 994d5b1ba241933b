"""The vector index of a table: with it, a search of a million rows takes milliseconds.

It is Lance's IVF_RQ: vectors are divided into partitions (inverted file), and each is kept as one bit per dimension
(RaBitQ, Gao and Long 2024). A search scans the codes of the partitions nearest to the query, and compares the best of
them by their true vectors. Other programs can use the index, too.

    rows            0 ............ 900k | ... 1M         committed later, by any run
                    in the index          not in it      a search scans these, so it finds them at once

Lance itself leaves out rows that were replaced or deleted; a compaction updates the index.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import lance
import numpy as np

from fanfold.damage import is_gone, of_table
from fanfold.errors import StorageError
from fanfold.images.search.partitions import ROUNDS, SAMPLED, centroids, count_for
from fanfold.images.search.rows import Progress, dimension_of
from fanfold.machine import cores
from fanfold.storage import broke_off, errors_of, first_line

INDEXED_FROM = 100_000
"""Rows from which a search builds an index; below, brute-force search takes a fraction of a second."""
UNINDEXED_UP_TO = 50_000
"""Most rows outside the index that a search scans; with more, the index is updated first."""
NAME = "vector_idx"

_COMMIT_TRIES = 12
# Measured on an AVX2 core of 2.5 GHz: operations a second in NumPy's matrix product and in Lance's search for the
# nearest centroid; values per second that are read, rotated, coded and written; bytes of memory per dimension.
_NUMPY_SPEED, _LANCE_SPEED, _CODED_SPEED = 50e9, 22e9, 28e6
_LANCE_MEMORY = 600_000
_TRAINING = 0.3  # fraction of the time for the centroids

Due = Literal["build", "update"]


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A table's vector index, in one version of the table."""

    name: str
    kind: str
    """Lance's name of the kind: IVF_RQ if fanfold made it."""
    rows: int
    """Rows of the table."""
    unindexed: int
    """Rows that a search has to scan."""
    bytes: int


def has_index(dataset: lance.LanceDataset) -> bool:
    """Whether a search by cosine can use an index."""
    return _usable(dataset) is not None


@of_table
def describe(dataset: lance.LanceDataset) -> VectorIndex | None:
    """The index that a search by cosine can use, or None."""
    if (index := _usable(dataset)) is None:
        return None
    inside = set().union(*(segment.fragment_ids for segment in index.segments))
    outside = (part for part in dataset.get_fragments() if part.fragment_id not in inside)
    unindexed = sum(part.count_rows() for part in outside)
    return VectorIndex(index.name, index.index_type, dataset.count_rows(), unindexed, index.total_size_bytes or 0)


def _name(dataset: lance.LanceDataset) -> str:
    """The index's name: that of the one it replaces, but not of an index for another metric."""
    if index := _usable(dataset):
        return str(index.name)
    taken = {index.name for index in dataset.describe_indices()}
    return next(name for name in (NAME, f"{NAME}_cosine", f"{NAME}_fanfold") if name not in taken)


def _usable(dataset: lance.LanceDataset) -> Any:
    fitting = (one for one in dataset.describe_indices() if one.field_names == ["vector"])
    return next((one for one in fitting if one.details.get("metric_type") == "COSINE"), None)


@of_table
def due(dataset: lance.LanceDataset) -> Due | None:
    """The work that a quick search needs first: to build the index, or to update it; None if it needs neither."""
    if dataset.count_rows() < INDEXED_FROM:
        return None
    index = describe(dataset)
    if index is None:
        return "build"
    return "update" if index.unindexed > UNINDEXED_UP_TO else None


def partitions(rows: int) -> int:
    """The number of partitions of the index: about half the square root of the rows. More take longer to build."""
    return count_for(rows // 4)


def probed(rows: int) -> int:
    """The number of partitions that a search reads: a quarter of those of the table, at least 128.

    Measured at 100,000 rows in 128 partitions: 32 find 0.945 of the neighbours, all 0.996; at a million 128 find 0.991.
    """
    return max(128, partitions(rows) // 4)


def refined(k: int, dimension: int) -> int:
    """The number of rows compared by their true vectors for each of the `k` rows: the codes choose only these.

    A code of one bit per dimension has less information about a short vector. At least 50 rows are compared.
    """
    return max(5, min(50, 6400 // dimension), -(-50 // k))


@dataclass(frozen=True, slots=True)
class Needs:
    """The cost of building or updating an index."""

    rows: int
    seconds: float
    memory: int
    """Most bytes in use."""


@of_table
def needs(dataset: lance.LanceDataset, what: Due) -> Needs:
    """An estimate of the cost here: measured on two cores, scaled to this machine's.

    It leaves out the time of reading the vectors from a remote store.
    """
    index = describe(dataset)
    total, dimension = dataset.count_rows(), dimension_of(dataset)
    count = partitions(total)
    rows = index.unindexed if index and what == "update" else total
    sample = SAMPLED * count if what == "build" else 0
    flops = 2 * dimension * count * (ROUNDS * sample / _NUMPY_SPEED + rows / _LANCE_SPEED)
    seconds = (flops + rows * dimension / _CODED_SPEED) / cores()
    return Needs(rows, seconds, _LANCE_MEMORY * dimension + 4 * dimension * sample)


@of_table
def build(dataset: lance.LanceDataset, progress: Progress = lambda _: None) -> lance.LanceDataset:
    """Build or rebuild the index while the table stays in use; return the version that has it.

    Rows committed meanwhile are not in it, but searches find them. A build that is killed leaves the table unchanged,
    and files that `fanfold optimize` removes. Raises StorageError, also if the database is read-only; UsageError for a
    table without vectors.
    """
    dimension_of(dataset)  # before anything is read
    with errors_of(dataset.uri):
        trained = centroids(dataset, partitions(dataset.count_rows()), lambda share: progress(share * _TRAINING))

    def report(event: lance.progress.IndexProgress) -> None:
        if event.stage == "shuffle" and event.fraction is not None:
            progress(_TRAINING + (0.97 - _TRAINING) * event.fraction)

    def create(newest: lance.LanceDataset) -> None:
        # Lance's own training takes four times the sample and up to 50 rounds: ten times as long, same recall.
        newest.create_index(
            "vector",
            "IVF_RQ",
            name=_name(newest),
            metric="cosine",
            replace=True,
            num_partitions=len(trained),
            ivf_centroids=trained,
            num_bits=1,
            progress_callback=report,
        )

    made = _committed(dataset.uri, create)
    progress(1.0)
    return made


@of_table
def update(dataset: lance.LanceDataset) -> lance.LanceDataset:
    """Add newer rows to the index; return the version that has them. Raises StorageError."""
    index = describe(dataset)
    if index is None:
        return build(dataset)
    try:
        return _committed(dataset.uri, lambda newest: newest.optimize.optimize_indices(index_names=[index.name]))
    except StorageError as error:
        if not is_gone(error):
            raise
    return build(lance.dataset(dataset.uri))  # `fanfold optimize` removed its files just before it was committed


def _committed(uri: str, change: Callable[[lance.LanceDataset], None]) -> lance.LanceDataset:
    """Change the index; try again if it conflicts with other changes to the table."""
    for attempt in range(1, _COMMIT_TRIES + 1):
        with errors_of(uri):
            newest = lance.dataset(uri)
            try:
                change(newest)
                made = lance.dataset(uri)
                _check(made)
                return made
            except (OSError, RuntimeError, ValueError) as error:
                if attempt == _COMMIT_TRIES or not _may_retry(error):
                    raise StorageError(f"Cannot index {uri}: {first_line(error)}") from error
        time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)))
    raise AssertionError("the last try returns or raises")


def _check(dataset: lance.LanceDataset) -> None:
    """Try a search by the new index: `fanfold optimize` may have removed its files just before the commit."""
    query = np.ones(dimension_of(dataset), np.float32)
    asked = {"column": "vector", "q": query, "k": 1, "metric": "cosine", "nprobes": 1}
    try:
        dataset.to_table(columns=["_distance"], nearest=asked)
    except (OSError, ValueError) as error:
        if not _may_retry(error):
            raise
        if index := _usable(dataset):
            dataset.drop_index(index.name)
        raise OSError(f"not found: files of the new index, removed meanwhile ({error})") from error


def _may_retry(error: Exception) -> bool:
    """Whether another commit won, an `optimize` removed files that were not committed yet, or the connection broke."""
    message = str(error).lower()
    return broke_off(error) or any(sign in message for sign in ("conflict", "not found", "no such file"))
