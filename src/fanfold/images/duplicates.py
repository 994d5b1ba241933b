"""Near-duplicates: the pairs of rows that point in nearly the same direction, and the groups they make.

Of few rows every pair is compared. Of many, three sieves leave the pairs worth it, and those are compared in full; so
no pair is reported that is not one, and what is approximate is only which are found:

    copies      rows equal in every bit are one row from here on                        loses nothing
    partitions  by direction (partitions.py); a row meets those at home in its own,     loses pairs of which neither
                and in the next nearest it is a guest                                   is near the other's home
    sketches    a row's SKETCH coordinates that tell most, and the length of the rest:  loses nothing
                a·b <= sketch(a)·sketch(b) + rest(a) rest(b), by Cauchy and Schwarz

SemDeDup (Abbas et al. 2023, https://arxiv.org/abs/2303.09540) compares within clusters only, and misses pairs that a
border divides; hence the guests. `benches/duplicates.py` measures what is missed.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import IO

import lance
import numpy as np
import numpy.typing as npt

from fanfold.damage import of_table
from fanfold.images import rows as reading
from fanfold.images.partitions import SAMPLED, means
from fanfold.images.rows import Indices, Vectors, dimension_of, stream, unit, units

EXACT_BELOW = 50_000
"""Rows up to which every row is compared with every other: half a minute at 1280 dimensions on two cores."""
HELD = 64 << 20
"""Bytes of vectors kept in memory while others pass by."""
PARTITION = 4096
"""Rows at home in a partition, about."""
VISITS = 3
"""Partitions besides its own that a row is compared with: those whose centroids are the next nearest."""
SKETCH = 128
"""Coordinates of a sketch."""
_SAMPLE = 16_384  # rows from which the coordinates are chosen
_ROUNDING = 1e-6  # a float32 vector's cosine with itself may be this much below 1
_SLACK = 1e-4  # the same of the sketches' bound
_SKETCHING, _PARTING = 0.35, 0.05  # shares of the time

Progress = Callable[[float], None]
"""Hears the share done, 0 to 1."""
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows each of which is a near-duplicate of at least one other of the group."""

    keys: tuple[str, ...]
    """In the table's order."""
    least: float
    """The lowest cosine that links two of them; members linked only by way of others may be further apart."""


@of_table
def duplicates(
    dataset: lance.LanceDataset, threshold: float = 0.95, *, exact: bool = False, progress: Progress = lambda _: None
) -> list[Group]:
    """Groups of near-duplicates, largest first: the connected parts of the graph whose edges are the pairs of rows
    with a cosine of `threshold` or more.

    Up to EXACT_BELOW rows, and with `exact`, all pairs are compared: quadratic in time, some 250 MB of memory. Above,
    likely pairs are: time grows little faster than the rows, and a pair in thousands may be missed. That takes some
    400 MB and 50 bytes a row, and a temporary file of 516 bytes a row. No pair is reported that is not one.
    Raises UsageError for a table without vectors.
    """
    dimension_of(dataset)  # before anything is compared
    joined = _Joined(dataset.count_rows())
    if exact or dataset.count_rows() <= EXACT_BELOW:
        _join_all(dataset, threshold, joined, progress)
    else:
        with tempfile.TemporaryFile() as file:
            _join_likely(dataset, threshold, joined, progress, file)
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


# -- likely pairs -----------------------------------------------------------------------------------------------------


def _join_likely(
    dataset: lance.LanceDataset, threshold: float, joined: "_Joined", progress: Progress, file: IO[bytes]
) -> None:
    """Sketch every row, part the sketches, then compare partition by partition."""
    if not dataset.count_rows():
        return
    sketches = _sketches(dataset, file, joined, lambda share: progress(share * _SKETCHING))
    near = _parted(sketches)
    before = _SKETCHING + _PARTING
    progress(before)
    count = int(near.max()) + 1
    hosts, guests = _by_partition(near[:, :1], count), _by_partition(near[:, 1:], count)
    for number in range(count):
        present = np.concatenate([hosts[number], guests[number]])
        _compare_partition(dataset, sketches, hosts[number], present, threshold, joined)
        progress(before + (1 - before) * (number + 1) / count)
    progress(1.0)


def _sketches(dataset: lance.LanceDataset, file: IO[bytes], joined: "_Joined", progress: Progress) -> Vectors:
    """float32[rows, SKETCH + 1]: each row's coordinates on the axes, and the length of what they leave out.

    Of rows that are equal only the first has a sketch that is not zero, and the others are joined to it.
    """
    rows, axes = dataset.count_rows(), _axes(dataset)
    sketches: Vectors = np.memmap(file, np.float32, "w+", shape=(rows, axes.shape[1] + 1))
    copies = np.empty(rows, "S16")
    at = 0
    for block in stream(dataset, 0, rows):
        directions = unit(block)
        here = slice(at, at + len(block))
        sketches[here] = _sketched(directions, axes)
        copies[here] = [blake2b(row, digest_size=16).digest() for row in directions]
        at += len(block)
        progress(at / rows)
    _, first, group = np.unique(copies, return_index=True, return_inverse=True)
    like = first[group]
    repeated = np.flatnonzero((like != np.arange(rows)) & sketches.any(axis=1))  # zeros are like nothing
    for row in repeated:
        joined.join(int(like[row]), np.array([row]))
    joined.least[repeated] = 1.0
    sketches[repeated] = 0
    return sketches


def _axes(dataset: lance.LanceDataset) -> Vectors:
    """float32[dimension, SKETCH], orthonormal: those along which a sample of the rows is longest."""
    rows = dataset.count_rows()
    chosen = np.random.default_rng(0).choice(rows, min(rows, _SAMPLE), replace=False)  # the same ones every time
    sample = units(dataset, np.sort(chosen))
    _, vectors = np.linalg.eigh(sample.T @ sample)  # of ascending eigenvalues
    return np.ascontiguousarray(vectors[:, ::-1][:, :SKETCH], np.float32)


def _sketched(directions: Vectors, axes: Vectors) -> Vectors:
    along = directions @ axes
    rest = np.maximum(0, np.square(directions).sum(axis=1) - np.square(along).sum(axis=1))
    return np.column_stack([along, np.sqrt(rest)])


def _parted(sketches: Vectors) -> Numbers:
    """int32[rows, 1 + VISITS]: the partition a row is at home in, then the next nearest; -1 for rows without sketch."""
    sketched = np.flatnonzero(sketches.any(axis=1))  # of a table of copies few are: drawn from all, none may be seen
    count = max(1, len(sketched) // PARTITION)
    chosen = np.random.default_rng(0).choice(sketched, min(len(sketched), SAMPLED * count), replace=False)
    near = np.full((len(sketches), 1 + min(VISITS, count - 1)), -1, np.int32)
    if not len(chosen):
        return near
    centres = means(unit(sketches[np.sort(chosen), :-1]), count)
    near = near[:, : len(centres)]
    for at in range(0, len(sketches), 16 * reading.STREAMED):
        block = sketches[at : at + 16 * reading.STREAMED]
        there = np.flatnonzero(block.any(axis=1))
        near[at + there] = _highest(block[there, :-1] @ centres.T, near.shape[1])
    return near


def _highest(scores: Vectors, count: int) -> Indices:
    """The columns of the `count` highest values of each row, the highest first."""
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    highest: Indices = np.take_along_axis(best, order, 1)
    return highest


def _by_partition(near: Numbers, count: int) -> list[Indices]:
    """The rows that are in each of `count` partitions, in order."""
    order = np.argsort(near, axis=None, kind="stable")
    ends = np.searchsorted(near.reshape(-1)[order], np.arange(count + 1))
    return [order[start:end] // max(1, near.shape[1]) for start, end in pairwise(ends)]


def _compare_partition(
    dataset: lance.LanceDataset,
    sketches: Vectors,
    home: Indices,
    present: Indices,
    threshold: float,
    joined: "_Joined",
) -> None:
    """Join those of `home` with like ones of `present`."""
    at_once = max(reading.STREAMED, HELD // (4 * dimension_of(dataset)))
    for start in range(0, len(home), at_once):
        hosts, guests = _likely(sketches, home[start : start + at_once], present, threshold)
        held = units(dataset, hosts)
        for at in range(0, len(guests), reading.STREAMED):
            some = guests[at : at + reading.STREAMED]
            joined.compare(held, hosts, units(dataset, some), some, threshold)


def _likely(sketches: Vectors, hosts: Indices, guests: Indices, threshold: float) -> tuple[Indices, Indices]:
    """Those of `hosts` and of `guests` whose sketches allow that they are like one of the others."""
    ours = sketches[hosts]
    is_host, is_guest = np.zeros(len(hosts), bool), np.zeros(len(guests), bool)
    for at in range(0, len(guests), reading.STREAMED):
        here = guests[at : at + reading.STREAMED]
        likely = ours @ sketches[here].T >= threshold - _SLACK
        likely &= hosts[:, None] != here  # a row is like itself
        is_host |= likely.any(axis=1)
        is_guest[at : at + reading.STREAMED] = likely.any(axis=0)
    return hosts[is_host], guests[is_guest]


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
        ours.extend(theirs)  # in place: a copy at every join would make a large group's work quadratic
        self.members[one] = ours


def _groups(dataset: lance.LanceDataset, joined: _Joined) -> list[Group]:
    wanted = sorted(row for members in joined.members.values() for row in members)
    keys = dict(zip(wanted, _keys(dataset, wanted), strict=True))
    groups = [
        Group(tuple(keys[row] for row in sorted(members)), min(1.0, float(joined.least[members].min())))
        for members in joined.members.values()
    ]
    return sorted(groups, key=lambda group: (-len(group.keys), group.keys))


def _keys(dataset: lance.LanceDataset, rows: Sequence[int]) -> Iterator[str]:
    """The keys of these rows, ascending numbers in the table's order."""
    wanted, at = np.asarray(rows, np.int64), 0
    for batch in dataset.to_batches(columns=["key"], scan_in_order=True):
        start, end = np.searchsorted(wanted, [at, at + len(batch)])  # a look at all for every batch would be quadratic
        yield from batch.column("key").take(wanted[start:end] - at).to_pylist()
        at += len(batch)
