"""The vector index of a table: what makes a search of a million rows take milliseconds.

Lance's IVF_RQ: vectors are divided into partitions (inverted file), and each is kept as one bit a dimension (RaBitQ,
Gao and Long 2024). A search scans the codes of the partitions nearest to the query and compares the best of them by
their true vectors. It is an index like any other of Lance's, so other programs use it, too.

    rows            0 ............ 900k | ... 1M         committed since, by whatever run
                    in the index          not in it      a search scans these, so it finds them at once

Rows that were replaced or deleted are left out by Lance itself; a compaction rewrites their places in the index.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import lance
import numpy as np

from fanfold.damage import of_table
from fanfold.errors import StorageError
from fanfold.executors.local import cores
from fanfold.images.partitions import ROUNDS, SAMPLED, centroids, count_for
from fanfold.images.rows import dimension_of
from fanfold.storage import broke_off, errors_of, first_line

INDEXED_FROM = 100_000
"""Rows from which a search wants an index; below, a look at every vector takes a fraction of a second."""
UNINDEXED_UP_TO = 50_000
"""Rows outside the index that a search may scan; with more, the index is to be brought up to date."""
NAME = "vector_idx"

_COMMIT_TRIES = 12
# Measured on an AVX2 core of 2.5 GHz: operations a second in a product of matrices by NumPy, in Lance's search for the
# nearest centroid; values a second read, rotated, coded and written. Bytes of memory for each dimension.
_NUMPY_SPEED, _LANCE_SPEED, _CODED_SPEED = 50e9, 22e9, 28e6
_LANCE_MEMORY = 600_000
_TRAINING = 0.3  # of the time goes into the centroids

Progress = Callable[[float], None]
"""Hears the share done, 0 to 1."""
Due = Literal["build", "update"]


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """A table's vector index, as of the version looked at."""

    name: str
    kind: str
    """Lance's name for it: IVF_RQ if fanfold made it."""
    rows: int
    """Of the table."""
    unindexed: int
    """Of these, those that a search has to scan."""
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
    """What to call the index: as the one it replaces; not as one that somebody made for another metric."""
    if index := _usable(dataset):
        return str(index.name)
    taken = {index.name for index in dataset.describe_indices()}
    return next(name for name in (NAME, f"{NAME}_cosine", f"{NAME}_fanfold") if name not in taken)


def _usable(dataset: lance.LanceDataset) -> Any:
    fitting = (one for one in dataset.describe_indices() if one.field_names == ["vector"])
    return next((one for one in fitting if one.details.get("metric_type") == "COSINE"), None)


@of_table
def due(dataset: lance.LanceDataset) -> Due | None:
    """What a quick search needs first: an index, or the newer rows in it."""
    if dataset.count_rows() < INDEXED_FROM:
        return None
    index = describe(dataset)
    if index is None:
        return "build"
    return "update" if index.unindexed > UNINDEXED_UP_TO else None


def partitions(rows: int) -> int:
    """How many partitions the index of so many rows has: half the square root, about. More take longer to build."""
    return count_for(rows // 4)


def probed(rows: int) -> int:
    """How many partitions a search looks into: a quarter of those that a table of so many rows gets, at least 128.

    Measured at 100,000 rows, which get 128: 32 find 0.945 of the neighbours, all 0.996; at a million 128 find 0.991.
    """
    return max(128, partitions(rows) // 4)


def refined(k: int, dimension: int) -> int:
    """How many rows are compared by their true vectors for each that is asked for: the codes only choose these.

    A code of one bit a dimension says less of a short vector. At least 50 rows are compared.
    """
    return max(5, min(50, 6400 // dimension), -(-50 // k))


@dataclass(frozen=True, slots=True)
class Needs:
    """What making an index or bringing it up to date takes."""

    rows: int
    seconds: float
    memory: int
    """Bytes, at most."""


@of_table
def needs(dataset: lance.LanceDataset, what: Due) -> Needs:
    """About what `what` takes here: as measured on two cores, scaled to those there are.

    The time it takes to read the vectors from far away is not part of it.
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
    """Make the index, or make it anew, beside whatever else happens to the table; return the version that has it.

    Rows committed meanwhile are not in it, and found all the same. Killed half-way, it leaves the table as it was,
    and files that `fanfold optimize` removes. Raises StorageError, also where the database cannot be written;
    UsageError for a table without vectors.
    """
    dimension_of(dataset)  # before anything is read
    with errors_of(dataset.uri):
        trained = centroids(dataset, partitions(dataset.count_rows()), lambda share: progress(share * _TRAINING))

    def told(event: lance.progress.IndexProgress) -> None:
        if event.stage == "shuffle" and event.fraction is not None:
            progress(_TRAINING + (0.97 - _TRAINING) * event.fraction)

    def create(newest: lance.LanceDataset) -> None:
        # Lance would train centroids of its own, on four times the sample in up to 50 rounds: measured, ten times
        # as long for the same recall.
        newest.create_index(
            "vector",
            "IVF_RQ",
            name=_name(newest),
            metric="cosine",
            replace=True,
            num_partitions=len(trained),
            ivf_centroids=trained,
            num_bits=1,
            progress_callback=told,
        )

    made = _committed(dataset.uri, create)
    progress(1.0)
    return made


@of_table
def update(dataset: lance.LanceDataset) -> lance.LanceDataset:
    """Put the rows committed since into the index; return the version that has them. Raises StorageError."""
    index = describe(dataset)
    if index is None:
        return build(dataset)
    return _committed(dataset.uri, lambda newest: newest.optimize.optimize_indices(index_names=[index.name]))


def _committed(uri: str, change: Callable[[lance.LanceDataset], None]) -> lance.LanceDataset:
    """Make a change to the index; again if what others did to the table meanwhile does not go with it."""
    for attempt in range(1, _COMMIT_TRIES + 1):
        with errors_of(uri):
            newest = lance.dataset(uri)
            try:
                change(newest)
                made = lance.dataset(uri)
                _tried(made)
                return made
            except (OSError, RuntimeError, ValueError) as error:
                if attempt == _COMMIT_TRIES or not _lost_to_others(error):
                    raise StorageError(f"Cannot index {uri}: {first_line(error)}") from error
        time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)))
    raise AssertionError("the last try returns or raises")


def _tried(dataset: lance.LanceDataset) -> None:
    """Ask the index something: a sweep by `fanfold optimize` may have taken its files just before they counted."""
    query = np.ones(dimension_of(dataset), np.float32)
    asked = {"column": "vector", "q": query, "k": 1, "metric": "cosine", "nprobes": 1}
    try:
        dataset.to_table(columns=["_distance"], nearest=asked)
    except (OSError, ValueError) as error:
        if not _lost_to_others(error):
            raise
        if index := _usable(dataset):
            dataset.drop_index(index.name)
        raise OSError(f"not found: files of the new index, swept meanwhile ({error})") from error


def _lost_to_others(error: Exception) -> bool:
    """Whether a commit came in between, a sweep took files that nothing refers to yet, or the connection broke."""
    said = str(error).lower()
    return broke_off(error) or any(sign in said for sign in ("conflict", "not found", "no such file"))
