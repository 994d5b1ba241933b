"""Partitions of a table's vectors: groups of similar direction, each around a centroid (k-means).

The centroids come from a sample by spherical k-means (Dhillon and Modha 2001): rows and centroids have length 1, and
a row belongs to the centroid of highest cosine. A search reads few partitions only, and near-duplicates are searched
within a partition and its neighbours.
"""

import math
from collections.abc import Iterator

import lance
import numpy as np
from more_itertools import sliced

from fanfold.images.search.rows import Progress, Vectors, units

SAMPLED = 64
"""Sampled rows per partition, for its centroid."""
ROUNDS = 8
"""Rounds of k-means. Lance's own training takes up to 50: ten times as long, for the same recall."""
_BLOCK = 8192  # rows compared with all centroids at a time


def count_for(rows: int) -> int:
    """The number of partitions for a table of `rows`: about the square root, a power of two, 4096 at most."""
    return int(2 ** min(12, max(0, round(math.log2(max(1, rows)) / 2))))


def centroids(dataset: lance.LanceDataset, count: int, progress: Progress = lambda _: None) -> Vectors:
    """float32[count, dimension] of length 1, from a sample of SAMPLED rows for each.

    Takes 4 bytes x dimension x SAMPLED x count of memory: 340 MB for 1024 centroids of 1280 dimensions.
    `progress` gets the fraction done. The same table gives the same centroids.
    """
    rows = dataset.count_rows()
    chosen = np.random.default_rng(0).choice(rows, min(rows, count * SAMPLED), replace=False)
    return means(units(dataset, np.sort(chosen)), count, progress)


def means(sample: Vectors, count: int, progress: Progress = lambda _: None) -> Vectors:
    """The centroids of a sample of directions, float32[up to count, dimension] of length 1."""
    random = np.random.default_rng(0)
    progress(1 / (ROUNDS + 1))
    found = sample[np.sort(random.choice(len(sample), min(count, len(sample)), replace=False))]
    for done in range(ROUNDS):
        found = _moved(sample, found, random)
        progress((done + 2) / (ROUNDS + 1))
    return found


def _moved(sample: Vectors, centroids: Vectors, random: np.random.Generator) -> Vectors:
    """One round of k-means: each centroid moves to the mean of its rows, or to a random row if it has none."""
    home = np.concatenate([scores.argmax(axis=1) for scores in scored(sample, centroids)])
    order = np.argsort(home, kind="stable")
    starts = np.searchsorted(home[order], np.arange(len(centroids)))
    sizes = np.bincount(home, minlength=len(centroids))
    moved = centroids.copy()
    for number in np.flatnonzero(sizes):
        moved[number] = sample[order[starts[number] : starts[number] + sizes[number]]].sum(axis=0)
    empty = np.flatnonzero(~moved.any(axis=1) | (sizes == 0))
    moved[empty] = sample[random.choice(len(sample), len(empty))]
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-30)
    return moved


def scored(rows: Vectors, centroids: Vectors) -> Iterator[Vectors]:
    """Yield the cosines with all centroids, of some thousand rows at a time."""
    for some in sliced(rows, _BLOCK):
        yield some @ centroids.T
