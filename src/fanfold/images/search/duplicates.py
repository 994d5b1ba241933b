"""Near-duplicates: pairs of rows of nearly the same direction, and the groups that they form.

In small tables every pair is compared. In large ones three filters choose pairs, and these are compared in full. So
every reported pair is true, and only which pairs are found is approximate:

    copies      rows equal in every bit count as one row                                loses no pair
    partitions  by direction (partitions.py); a row is compared with the rows whose     loses pairs if neither row is
                home is its partition, and is a guest in the next nearest ones          near the other's home
    sketches    a row's SKETCH largest coordinates, and the length of the rest:         loses no pair
                a·b <= sketch(a)·sketch(b) + rest(a) rest(b), by Cauchy and Schwarz

SemDeDup (Abbas et al. 2023, https://arxiv.org/abs/2303.09540) compares within clusters only, and misses pairs across
a border; hence the guests. `benches/duplicates.py` measures the pairs that are missed.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import IO

import lance
import numpy as np
import numpy.typing as npt
from more_itertools import sliced

from fanfold.damage import of_table
from fanfold.images.search import rows as reading
from fanfold.images.search.partitions import SAMPLED, means
from fanfold.images.search.rows import Indices, Progress, Vectors, dimension_of, stream, unit, units

EXACT_BELOW = 50_000
"""Most rows for which all pairs are compared: half a minute at 1280 dimensions on two cores."""
HELD = 64 << 20
"""Bytes of vectors in memory while the others stream."""
PARTITION = 4096
"""Approximate number of rows whose home is a partition."""
VISITS = 3
"""Partitions beside its own with which a row is compared: those of the next nearest centroids."""
SKETCH = 128
"""Coordinates of a sketch."""
_SAMPLE = 16_384  # rows from which the coordinates are chosen
_ROUNDING = 1e-6  # a float32 vector's cosine with itself may be this much below 1
_SLACK = 1e-4  # the same for the sketches' bound
_SKETCHING, _PARTING = 0.35, 0.05  # fractions of the time

Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are near-duplicates, each of at least one other of the group."""

    keys: tuple[str, ...]
    """Keys, in the table's order."""
    least: float
    """Lowest cosine of a linked pair; members that are linked only through others may be further apart."""


@of_table
def duplicates(
    dataset: lance.LanceDataset, threshold: float = 0.95, *, exact: bool = False, progress: Progress = lambda _: None
) -> list[Group]:
    """Groups of near-duplicates, largest first: the connected components of the graph of all pairs of rows with a
    cosine of `threshold` or more.

    Up to EXACT_BELOW rows, and with `exact`, all pairs are compared: quadratic in time, about 250 MB of memory. Above,
    likely pairs are compared: time grows little faster than the rows, and a pair in thousands may be missed. That
    takes about 400 MB and 50 bytes per row, and a temporary file of 516 bytes per row. Every reported pair is true.
    Raises UsageError for a table without vectors.
    """
    dimension_of(dataset)  # raises before any work
    joined = _Joined(dataset.count_rows())
    if exact or dataset.count_rows() <= EXACT_BELOW:
        _join_all(dataset, threshold, joined, progress)
    else:
        with tempfile.TemporaryFile() as file:
            _join_likely(dataset, threshold, joined, progress, file)
    return _groups(dataset, joined)


def _join_all(dataset: lance.LanceDataset, threshold: float, joined: "_Joined", progress: Progress) -> None:
    """Compare every row with all later ones: a block stays in memory while the rest streams."""
    rows, at_once = dataset.count_rows(), _at_once(dataset)
    for start in range(0, rows, at_once):
        numbers = np.arange(start, min(start + at_once, rows))
        held = _held(dataset, start, len(numbers))
        at = start
        for block in stream(dataset, start, rows):
            last = min(len(held), at + len(block) - start)  # held rows after the whole block have been compared
            joined.compare(held[:last], numbers[:last], unit(block), np.arange(at, at + len(block)), threshold)
            at += len(block)
        progress(1 - ((rows - start - len(numbers)) / rows) ** 2)


def _at_once(dataset: lance.LanceDataset) -> int:
    """Rows whose vectors are in memory while the others stream."""
    return max(reading.STREAMED, HELD // (4 * dimension_of(dataset)))


def _held(dataset: lance.LanceDataset, start: int, rows: int) -> Vectors:
    """float32[rows, dimension] of length 1, from row `start` on; filled in place, so never in memory twice."""
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
    """Sketch every row, divide the sketches into partitions, then compare within each."""
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
    """float32[rows, SKETCH + 1]: each row's coordinates on the axes, and the length of the rest.

    Equal rows are joined to the first of them, and have a sketch of zeros.
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
    repeated = np.flatnonzero((like != np.arange(rows)) & sketches.any(axis=1))  # zeros are not alike
    for row in repeated:
        joined.join(int(like[row]), np.array([row]))
    joined.least[repeated] = 1.0
    sketches[repeated] = 0
    return sketches


def _axes(dataset: lance.LanceDataset) -> Vectors:
    """float32[dimension, SKETCH], orthonormal: the directions along which a sample of the rows is longest."""
    rows = dataset.count_rows()
    chosen = np.random.default_rng(0).choice(rows, min(rows, _SAMPLE), replace=False)  # reproducible
    sample = units(dataset, np.sort(chosen))
    _, vectors = np.linalg.eigh(sample.T @ sample)  # of ascending eigenvalues
    return np.ascontiguousarray(vectors[:, ::-1][:, :SKETCH], np.float32)


def _sketched(directions: Vectors, axes: Vectors) -> Vectors:
    along = directions @ axes
    rest = np.maximum(0, np.square(directions).sum(axis=1) - np.square(along).sum(axis=1))
    return np.column_stack([along, np.sqrt(rest)])


def _parted(sketches: Vectors) -> Numbers:
    """int32[rows, 1 + VISITS]: the home partition of each row, then the next nearest; -1 for rows without sketch."""
    sketched = np.flatnonzero(sketches.any(axis=1))  # a sample of all rows might hold none, in a table of copies
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
    """The columns of the `count` highest values in each row, the highest first."""
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    highest: Indices = np.take_along_axis(best, order, 1)
    return highest


def _by_partition(near: Numbers, count: int) -> list[Indices]:
    """The rows in each of `count` partitions, in order."""
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
    """Join rows of `home` with similar ones of `present`."""
    for part in sliced(home, _at_once(dataset)):
        hosts, guests = _likely(sketches, part, present, threshold)
        held = units(dataset, hosts)
        for some in sliced(guests, reading.STREAMED):
            joined.compare(held, hosts, units(dataset, some), some, threshold)


def _likely(sketches: Vectors, hosts: Indices, guests: Indices, threshold: float) -> tuple[Indices, Indices]:
    """The rows of `hosts` and of `guests` that are similar to one of the others, as far as sketches tell."""
    ours = sketches[hosts]
    is_host, is_guest = np.zeros(len(hosts), bool), np.zeros(len(guests), bool)
    for at in range(0, len(guests), reading.STREAMED):
        here = guests[at : at + reading.STREAMED]
        likely = ours @ sketches[here].T >= threshold - _SLACK
        likely &= hosts[:, None] != here  # a row is similar to itself
        is_host |= likely.any(axis=1)
        is_guest[at : at + reading.STREAMED] = likely.any(axis=0)
    return hosts[is_host], guests[is_guest]


# -- groups -----------------------------------------------------------------------------------------------------------


class _Joined:
    """Groups under construction: a label for each row, and the members of each label with several."""

    def __init__(self, rows: int) -> None:
        self.labels: Indices = np.arange(rows)
        self.least = np.full(rows, np.inf, np.float32)  # lowest cosine among a row's pairs
        self.members: dict[int, list[int]] = {}

    def compare(self, some: Vectors, numbers: Indices, others: Vectors, theirs: Indices, threshold: float) -> None:
        """Join the rows of `some` with similar ones of `others`; a row is not compared with itself."""
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
        if one == two:  # joined through another pair of the same row
            return
        ours, theirs = self.members.pop(one, [one]), self.members.pop(two, [two])
        if len(ours) < len(theirs):  # relabel the smaller: at most log(n) times per row
            one, ours, theirs = two, theirs, ours
        self.labels[theirs] = one
        ours.extend(theirs)  # in place: copies would make large groups quadratic
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
        start, end = np.searchsorted(wanted, [at, at + len(batch)])  # a scan of all for each batch would be quadratic
        yield from batch.column("key").take(wanted[start:end] - at).to_pylist()
        at += len(batch)
