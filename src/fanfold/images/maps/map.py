"""The map of a table as it is kept: made from all of its rows, joined to them, extended by those that are new.

Kept under the name `map` (see kept.py): `rows` uint64[n], `places` uint16[n, 2], and the layout, some MB, by which new
rows are placed. The landmarks are the rows with the lowest digests: as good as random, and the same whatever the order
of the rows. So the same pictures get the same map.
"""

from dataclasses import dataclass
from typing import Literal

import lance
import numpy as np
from more_itertools import sliced

from fanfold.damage import of_table
from fanfold.images import kept
from fanfold.images.maps.layout import SIDE, Layout
from fanfold.images.maps.placing import Places, Placing, whole
from fanfold.images.search.rows import Indices, Progress, Vectors, dimension_of, stream, unit, units

NOWHERE = SIDE - 1
"""The x and the y of a row that has no place yet."""
LANDMARKS = 20_000
"""Rows that are spread out by their neighbours; in a larger table the others follow them."""

_NAME, _RECIPE = "map", "map 1"
_AT_ONCE, _TAKEN = 65_536, 8192  # rows placed at a time: by their components, by their vectors
_OUTGROWN = 2  # times the rows that the layout was made for
# Measured by benches/map.py on cores of 2.5 GHz, of which one does most. Seconds: to start, for the rounds of t-SNE
# (fewer landmarks than _ALL take less), for a landmark, for a pair of them, to place a row. Values read and projected a
# second. Bytes: of the libraries, of a landmark besides its vector, of a row.
_START, _ROUNDS, _ALL, _LAID_OUT, _PAIR, _PLACED, _READ = 3, 6, 2000, 2.2e-4, 2.5e-8, 4.3e-5, 5e7
_MEMORY, _LANDMARK_MEMORY, _ROW_MEMORY = 400e6, 10_000, 60

Due = Literal["make", "make again", "place"]


@dataclass(frozen=True, slots=True)
class Map:
    """The places of a table's rows, in one version of the table."""

    places: Places
    """uint16[rows, 2]: x and y from 0 to 65534, in the table's order; both are NOWHERE where a row has no place yet."""
    landmarks: int
    """Rows whose places the layout itself decided."""
    laid_out: int
    """Rows of the table when the layout was made."""

    @property
    def placed(self) -> int:
        """The number of rows that have a place."""
        return int((self.places[:, 0] != NOWHERE).sum())

    @property
    def due(self) -> "Due | None":
        """What `build` would do: make it again since the rows have doubled, or place the new ones; None if nothing."""
        if _is_outgrown(len(self.places), self.landmarks, self.laid_out):
            return "make again"
        return "place" if self.placed < len(self.places) else None


@dataclass(frozen=True, slots=True)
class Needs:
    """The cost of making a map, or of placing what is new."""

    rows: int
    """Rows that get a place."""
    seconds: float
    memory: int
    """Most bytes in use."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept."""

    layout: Layout
    rows: kept.Rows
    places: Places

    def joined(self, rows: kept.Rows) -> Places:
        """The places of these rows, NOWHERE for those that have none."""
        at = kept.find(rows, self.rows)
        found = np.full((len(rows), 2), NOWHERE, np.uint16)
        found[at >= 0] = self.places[at[at >= 0]]
        return found


def load(dataset: lance.LanceDataset) -> Map | None:
    """The map of a table as it is kept, or None if there is none. Raises StorageError, UsageError."""
    known = _known(dataset)
    return _map(known.layout, known.joined(kept.rows_of(dataset))) if known else None


def due(dataset: lance.LanceDataset) -> Due | None:
    """What `build` would do: make the map, make it again since the rows have doubled, or place the rows that are new.

    None if every row has its place. Raises as `load`.
    """
    now = load(dataset)
    return now.due if now else "make"


def needs(dataset: lance.LanceDataset, what: Due) -> Needs:
    """An estimate of the cost."""
    rows, dimension = dataset.count_rows(), dimension_of(dataset)
    landmarks = 0
    if what == "place":
        now = load(dataset)
        rows -= now.placed if now else 0
    else:
        landmarks = min(rows, LANDMARKS)
    placed = 0 if rows == landmarks else rows
    layout = _ROUNDS * min(1, landmarks / _ALL) + landmarks * _LAID_OUT + landmarks**2 * _PAIR
    seconds = _START + layout + placed * _PLACED + (placed + landmarks) * dimension / _READ
    memory = _MEMORY + landmarks * (_LANDMARK_MEMORY + 12 * dimension) + dataset.count_rows() * _ROW_MEMORY
    return Needs(rows, seconds, int(memory))


@of_table
def build(dataset: lance.LanceDataset, progress: Progress = lambda _: None, *, rebuild: bool = False) -> Map:
    """Make the map and keep it; if there is one, only place the rows that are new, and nothing else moves.

    It is made again with `rebuild`, and when the rows have doubled. A builder that is killed leaves the map as it was.
    Raises StorageError; MissingExtra, if it has to be made; UsageError for a table without vectors.
    """
    dimension_of(dataset)  # before anything is read
    known, rows = None if rebuild else _known(dataset), kept.rows_of(dataset)
    if known is None or _is_outgrown(len(rows), len(known.layout.spots), known.layout.rows):
        layout, places = _made(dataset, rows, progress)
    else:
        layout, places = known.layout, _extended(dataset, known, rows, progress)
        if np.array_equal(rows, known.rows) and np.array_equal(places, known.places):
            return _map(layout, places)
    kept.write(dataset, _NAME, _RECIPE, layout.arrays() | {"rows": rows, "places": places})
    progress(1.0)
    return _map(layout, places)


def _is_outgrown(rows: int, landmarks: int, laid_out: int) -> bool:
    """Whether the table has grown so much that the layout tells too little about it."""
    return rows >= _OUTGROWN * max(1, laid_out) or (rows > 0 and not landmarks)


def _map(layout: Layout, places: Places) -> Map:
    return Map(places, len(layout.spots), layout.rows)


def _known(dataset: lance.LanceDataset) -> _Known | None:
    dimension = dimension_of(dataset)
    arrays = kept.read(dataset, _NAME, _RECIPE)
    layout = Layout.of(arrays) if arrays else None
    if not arrays or not layout or len(layout.mean) != dimension:
        return None
    rows, places = arrays.get("rows"), arrays.get("places")
    if rows is None or places is None or rows.dtype != np.uint64 or places.dtype != np.uint16:
        return None
    return _Known(layout, rows, places) if rows.ndim == 1 and places.shape == (len(rows), 2) else None


def _made(dataset: lance.LanceDataset, rows: kept.Rows, progress: Progress) -> tuple[Layout, Places]:
    """A new layout, and the places of all rows."""
    from fanfold.images.maps.spread import lay_out  # takes a second, and the extra

    chosen = np.argsort(rows, kind="stable")[:LANDMARKS]
    share = 1.0 if len(chosen) == len(rows) else 0.5
    layout = lay_out(_taken(dataset, chosen), len(rows), lambda done: progress(share * done))
    places = np.full((len(rows), 2), NOWHERE, np.uint16)
    if len(chosen) < len(rows):
        placing = Placing(layout)
        for start in range(0, len(rows), _AT_ONCE):
            some = slice(start, min(start + _AT_ONCE, len(rows)))
            blocks = stream(dataset, some.start, some.stop - some.start)
            points = np.concatenate([layout.components(_finite(unit(block))) for block in blocks])
            places[some] = placing.places(points, rows[some])
            progress(0.5 + 0.5 * some.stop / len(rows))
    places[chosen] = whole(layout.spots)
    return layout, places


def _extended(dataset: lance.LanceDataset, known: _Known, rows: kept.Rows, progress: Progress) -> Places:
    """The places that are kept, and those of the rows that have none yet."""
    places = known.joined(rows)
    missing = np.flatnonzero(places[:, 0] == NOWHERE)
    if len(missing):
        placing = Placing(known.layout)
        for some in sliced(missing, _TAKEN):
            points = known.layout.components(_finite(units(dataset, some)))
            places[some] = placing.places(points, rows[some])
            progress(float(np.searchsorted(missing, some[-1])) / len(missing))
    return places


def _taken(dataset: lance.LanceDataset, numbers: Indices) -> Vectors:
    """The vectors of rows by their number, in the order given. float32[numbers, dimension] of length 1"""
    order = np.argsort(numbers)
    found = _finite(units(dataset, numbers[order]))
    return found[np.argsort(order)]


def _finite(directions: Vectors) -> Vectors:
    """The same, with zeros for a vector of other models' tables that has infinite values, or none."""
    wrong = ~np.isfinite(directions).all(axis=1)
    if wrong.any():
        directions[wrong] = 0
    return directions
