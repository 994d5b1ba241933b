"""Near-duplicates: groups of rows that point in nearly the same direction, without comparing every row with all.

Rows are divided into partitions by direction (partitions.py), and each is compared with its own partition and with
those it lies close to. SemDeDup (Abbas et al. 2023) compares within clusters only, and misses pairs that a border
divides. How close a row is to a border tells which partitions its near-duplicates can be in:

              border between i and j
                       |         a: (a·ci - a·cj) / |ci - cj| from the border. Rows with a cosine of t or more to a
         ci ·   a ---- | ----    are within r = sqrt(2 - 2t) of it, so only if the distance is less than r can any of
                       |     cj  them be in j.

That bound never misses. But r is the distance in the one direction across the border, and near-duplicates differ in
hundreds of directions: a share of it (REACH) finds nearly all. Every pair that counts has been compared in full.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import numpy as np

from fanfold.images import rows as reading
from fanfold.images.partitions import centroids, count_for
from fanfold.images.rows import Indices, Vectors, dimension_of, stream, unit, units

EXACT_BELOW = 50_000
"""Rows up to which every row is compared with every other: half a minute at 1280 dimensions on two cores."""
HELD = 64 << 20
"""Bytes of vectors that the exact search keeps in memory while all others stream past them."""
HELD_PARTITIONS = 1 << 30
"""Bytes of vectors of whole partitions kept in memory while all rows stream past them."""
GUESTS = 16384
"""Rows that visit the partitions held at a time: with fewer, the memory is read more often than it is worth."""
REACH = 0.35
"""How far beyond its partition's border a row looks, as a share of the distance at which nothing can be missed."""
VISITS = 8
"""Partitions besides its own that a row is compared with at most: those whose borders are nearest."""
_ROUNDING = 1e-6  # a float32 vector's cosine with itself may be this much below 1
_PLACING, _COMPARING = 0.35, 0.65  # shares of the time

Progress = Callable[[float], None]
"""Hears the share done, 0 to 1."""
Numbers = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows each of which is a near-duplicate of at least one other of the group."""

    keys: tuple[str, ...]
    """In the table's order."""
    least: float
    """The lowest cosine that links two of them; members linked only by way of others may be further apart."""


def duplicates(
    dataset: lance.LanceDataset, threshold: float = 0.95, *, exact: bool = False, progress: Progress = lambda _: None
) -> list[Group]:
    """Groups of near-duplicates, largest first: the connected parts of the graph whose edges are the pairs of rows
    with a cosine of `threshold` or more.

    Up to EXACT_BELOW rows, and with `exact`, all pairs are looked at: quadratic in time, some 250 MB of memory. Above,
    rows are compared within partitions and across near borders: a million rows of 1280 values take minutes and 2 GB,
    and a few pairs in a thousand may be missed. No pair is reported that is not one.
    """
    joined = _Joined(dataset.count_rows())
    if exact or dataset.count_rows() <= EXACT_BELOW:
        _join_all(dataset, threshold, joined, progress)
    else:
        _join_by_partition(dataset, threshold, joined, progress)
    return _groups(dataset, joined)


def _join_all(dataset: lance.LanceDataset, threshold: float, joined: "_Joined", progress: Progress) -> None:
    """Compare every row with all later ones: a block is held, and the rest streams past it."""
    rows = dataset.count_rows()
    at_once = max(reading.STREAMED, HELD // (4 * dimension_of(dataset)))
    for start in range(0, rows, at_once):
        numbers = np.arange(start, min(start + at_once, rows))
        held = _held(dataset, start, len(numbers))
        at = start
        for block in stream(dataset, start, rows):
            last = min(len(held), at + len(block) - start)  # held rows after the whole block have been compared
            joined.compare(held[:last], numbers[:last], unit(block), np.arange(at, at + len(block)), threshold)
            at += len(block)
        progress(1 - ((rows - start - len(numbers)) / rows) ** 2)


def _held(dataset: lance.LanceDataset, start: int, rows: int) -> Vectors:
    """float32[rows, dimension] from row `start` on, at length 1; filled in place, so never there twice."""
    held = np.empty((rows, dimension_of(dataset)), np.float32)
    at = 0
    for block in stream(dataset, start, rows):
        held[at : at + len(block)] = unit(block)
        at += len(block)
    return held


# -- by partition -----------------------------------------------------------------------------------------------------


def _join_by_partition(dataset: lance.LanceDataset, threshold: float, joined: "_Joined", progress: Progress) -> None:
    """Compare each row with the rows of its partition and of those it visits: some partitions at a time are held."""
    rows = dataset.count_rows()
    centres = centroids(dataset, count_for(rows), lambda share: progress(share * _PLACING / 2))
    home, visits = _placed(dataset, centres, threshold, lambda share: progress((1 + share) * _PLACING / 2))
    done = 0
    for some in _fitting(np.bincount(home, minlength=len(centres)), HELD_PARTITIONS // (4 * dimension_of(dataset))):
        held = _Held.of(dataset, home, some)
        held.compare_inside(threshold, joined)
        at = 0
        for start in range(0, rows, GUESTS):
            guests = _held(dataset, start, min(GUESTS, rows - start))
            held.compare_visitors(guests, start, visits[start : start + len(guests)], threshold, joined)
            at += len(guests)
            progress(_PLACING + _COMPARING * (done + len(held.numbers) * at / rows) / rows)
        done += len(held.numbers)


def _placed(
    dataset: lance.LanceDataset, centres: Vectors, threshold: float, progress: Progress
) -> tuple[Numbers, Numbers]:
    """The partition of each row, int16[rows]; and those it visits, int16[rows, VISITS], -1 where there are fewer."""
    rows = dataset.count_rows()
    home = np.empty(rows, np.int16)
    visits = np.full((rows, VISITS), -1, np.int16)
    radius = REACH * np.sqrt(max(0.0, 2 - 2 * threshold)) + _ROUNDING
    # |ci - cj|, and infinitely short for i = j: nobody visits its own partition
    apart = np.sqrt(np.maximum(2 - 2 * centres @ centres.T, 1e-12))
    np.fill_diagonal(apart, 1e-12)
    at = 0
    for block in stream(dataset, 0, rows):
        scores = unit(block) @ centres.T
        inside = scores.argmax(axis=1)
        best = np.take_along_axis(scores, inside[:, None], axis=1)
        across = (best - scores) / apart[inside]
        across[np.arange(len(block)), inside] = np.inf
        kept = min(VISITS, across.shape[1] - 1)
        nearest = np.argpartition(across, kept, axis=1)[:, :kept]
        near = np.take_along_axis(across, nearest, axis=1) <= radius
        home[at : at + len(block)] = inside
        visits[at : at + len(block), :kept] = np.where(near, nearest, -1)
        at += len(block)
        progress(at / rows)
    return home, visits


def _fitting(sizes: Indices, rows: int) -> Iterator[range]:
    """Neighbouring partitions, as many at a time as have `rows` rows together; one that is larger comes alone."""
    start = 0
    while start < len(sizes):
        end = start + max(1, int(np.searchsorted(np.cumsum(sizes[start:]), rows, side="right")))
        yield range(start, end)
        start = end


@dataclass(frozen=True)
class _Held:
    """The rows of some partitions, in memory, a partition after the other."""

    partitions: range
    vectors: Vectors
    """float32[rows, dimension] at length 1."""
    numbers: Indices
    """The rows' numbers in the table's order."""
    starts: Indices
    """Where each partition starts, and the end."""

    @classmethod
    def of(cls, dataset: lance.LanceDataset, home: Numbers, partitions: range) -> "_Held":
        """Read them."""
        numbers = np.flatnonzero((home >= partitions.start) & (home < partitions.stop))
        order = np.argsort(home[numbers], kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        vectors = np.empty((len(numbers), dimension_of(dataset)), np.float32)
        for at in range(0, len(numbers), 8 * reading.STREAMED):  # read in the table's order, each put in its place
            some = slice(at, at + 8 * reading.STREAMED)
            vectors[place[some]] = units(dataset, numbers[some])
        starts = np.searchsorted(home[numbers[order]], np.arange(partitions.start, partitions.stop + 1))
        return cls(partitions, vectors, numbers[order], starts)

    def partition(self, number: int) -> slice:
        """Where its rows are."""
        at = number - self.partitions.start
        return slice(int(self.starts[at]), int(self.starts[at + 1]))

    def compare_inside(self, threshold: float, joined: "_Joined") -> None:
        """Compare the rows of each partition with each other."""
        for partition in map(self.partition, self.partitions):
            for start in range(partition.start, partition.stop, reading.STREAMED):
                block = slice(start, min(start + reading.STREAMED, partition.stop))
                rest = slice(start, partition.stop)
                joined.compare(
                    self.vectors[rest], self.numbers[rest], self.vectors[block], self.numbers[block], threshold
                )

    def compare_visitors(self, block: Vectors, at: int, visits: Numbers, threshold: float, joined: "_Joined") -> None:
        """Compare rows of other partitions, numbered from `at` on, with the partitions held that they visit."""
        for number in np.unique(visits[(visits >= self.partitions.start) & (visits < self.partitions.stop)]):
            guests = np.flatnonzero((visits == number).any(axis=1))
            hosts = self.partition(int(number))
            joined.compare(self.vectors[hosts], self.numbers[hosts], block[guests], guests + at, threshold)


# -- groups -----------------------------------------------------------------------------------------------------------


class _Joined:
    """Which rows belong together: a label for each, and the members of each label that has several."""

    def __init__(self, rows: int) -> None:
        self.labels: Indices = np.arange(rows)
        self.least = np.full(rows, np.inf, np.float32)  # of the pairs in which the row was found
        self.members: dict[int, list[int]] = {}

    def compare(self, some: Vectors, numbers: Indices, others: Vectors, theirs: Indices, threshold: float) -> None:
        """Join the rows of `some` with like ones of `others`; a row is not compared with itself."""
        cosines = some @ others.T
        alike = cosines >= threshold - _ROUNDING
        hit = np.flatnonzero(alike.any(axis=1))
        if not len(hit):
            return
        alike = alike[hit] & (numbers[hit, None] != theirs)
        lowest = np.where(alike, cosines[hit], np.inf).min(axis=1)
        self.least[numbers[hit]] = np.minimum(self.least[numbers[hit]], lowest)
        apart = alike & (self.labels[numbers[hit], None] != self.labels[theirs])
        for at in np.flatnonzero(apart.any(axis=1)):
            self.join(int(numbers[hit[at]]), theirs[apart[at]])

    def join(self, row: int, others: Indices) -> None:
        """Put `row` and `others` into one group."""
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
