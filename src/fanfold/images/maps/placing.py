"""Places for any number of rows, by the landmarks nearest to each: some microseconds a row, and nothing else moves.

    row ──▶ the cells nearest to it ──▶ of the landmarks in them, the nearest ──▶ the weighted mean of their spots

A cell has the landmarks around a centroid, so that a row is compared with some hundreds of them instead of all.
"""

import numpy as np
import numpy.typing as npt

from fanfold.images.kept import Rows
from fanfold.images.maps.layout import SIDE, Layout, Spots
from fanfold.images.search.partitions import count_for, means
from fanfold.images.search.rows import Vectors, unit

Places = npt.NDArray[np.uint16]
"""uint16[rows, 2]: x and y."""

NEAREST = 5
"""Landmarks whose spots determine the place of a row."""
_PROBED = 4  # cells in which they are looked for
_SOFTNESS = 0.15  # a landmark further away by this share of the nearest one's distance has 1/e of its weight
_TOGETHER = SIDE / 24  # landmarks whose spots are further than this from the nearest one's have no weight
_SCATTER = 0.3  # of the distance between the spots: rows at the same place would hide each other


class Placing:
    """A layout, prepared for placing rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        directions = unit(layout.landmarks)
        self._centroids = means(directions, count_for(len(directions)))
        home = (directions @ self._centroids.T).argmax(axis=1)
        order = np.argsort(home, kind="stable")
        self._cells = np.split(order, np.searchsorted(home[order], np.arange(1, len(self._centroids))))
        self._squares = np.square(layout.landmarks).sum(axis=1)

    def places(self, points: Vectors, rows: Rows) -> Places:
        """The places of vectors, given by their components; the digests of their rows decide how they are scattered."""
        near, far = self._nearest(points)
        spots = self._layout.spots[near]
        closest = far[:, :1]
        weights = np.exp((closest - far) / (_SOFTNESS * closest + 1e-6))
        apart = np.linalg.norm(spots - spots[:, :1], axis=2)
        weights[apart > _TOGETHER] = 0
        mean = (weights[..., None] * spots).sum(axis=1) / weights.sum(axis=1)[:, None]
        radius = _SCATTER * np.where(apart > _TOGETHER, 0, apart).max(axis=1)
        return whole(mean + radius[:, None] * _scattered(rows))

    def _nearest(self, points: Vectors) -> tuple[npt.NDArray[np.int64], Vectors]:
        """The nearest landmarks of each point, nearest first, and their distances; inf where a cell has too few."""
        k, probed = min(NEAREST, len(self._squares)), min(_PROBED, len(self._cells))
        cells = np.argpartition(-(points @ self._centroids.T), probed - 1, axis=1)[:, :probed]
        near = np.zeros((len(points), probed, k), np.int64)
        far = np.full((len(points), probed, k), np.inf, np.float32)
        for number, members in enumerate(self._cells):
            some, slot = np.nonzero(cells == number)
            if not len(some) or not len(members):
                continue
            distances = self._squares[members] - 2 * points[some] @ self._layout.landmarks[members].T
            kept = min(k, len(members))
            best = np.argpartition(distances, kept - 1, axis=1)[:, :kept]
            near[some, slot, :kept] = members[best]
            far[some, slot, :kept] = np.take_along_axis(distances, best, 1)
        near_all, far_all = near.reshape(len(points), -1), far.reshape(len(points), -1)
        order = np.argsort(far_all, axis=1, kind="stable")[:, :k]
        squared = np.take_along_axis(far_all, order, 1) + np.square(points).sum(axis=1)[:, None]
        return np.take_along_axis(near_all, order, 1), np.sqrt(np.maximum(squared, 0))


def whole(spots: Spots) -> Places:
    """Spots in whole units, inside of the map."""
    return np.clip(np.rint(spots), 0, SIDE - 2).astype(np.uint16)


def _scattered(rows: Rows) -> Spots:
    """A point of the unit disc for each row, always the same one. float32[rows, 2]"""
    angle = (rows & np.uint64(0xFFFF)).astype(np.float32) * np.float32(2 * np.pi / 65_536)
    length = np.sqrt((rows >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.float32) / 65_536)
    return np.asarray(length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), np.float32)
