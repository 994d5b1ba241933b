"""Spreading the landmarks out: where each is on the plane, by t-SNE of their principal components.

Landmarks are rows: all of a small table, a sample of a large one. The principal components (PCA, by scikit-learn) keep
what differs among their directions in 50 numbers each. t-SNE (van der Maaten and Hinton 2008, by openTSNE) then moves
points on a plane until those that are neighbours by these 50 numbers are neighbours on the plane.

The same landmarks in the same order get the same places.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fanfold.images.maps.layout import SIDE, Layout, Spots
from fanfold.images.search.rows import Progress, Vectors
from fanfold.job import required_extra

try:
    import openTSNE
    from openTSNE.affinity import Uniform
    from openTSNE.nearest_neighbors import PrecomputedNeighbors
    from sklearn.decomposition import PCA
except ModuleNotFoundError as error:
    raise required_extra(error, "map", ("openTSNE", "sklearn", "scipy"), "Making a map") from error

COMPONENTS = 50
"""Principal components that are kept of a vector."""
NEIGHBOURS = 10
"""Neighbours that a landmark should stay near."""

_EARLY, _ROUNDS = 125, 500  # rounds of t-SNE: with attraction exaggerated, which finds the groups, and without
_FEW = 10  # rows for which their first two components are the map
_CRUSHED = 20  # rows for each time that attraction is exaggerated: few rows would be crushed into a line
_QUICK_FROM = 3000  # rows from which the repulsion is interpolated, on a grid of this many units between points
_GRID = 2  # 1, as is usual, takes four times as long and keeps 0.02 more of the neighbours
_BLOCK = 1000  # rows compared with all at a time
_REPORTS = 25  # rounds between two reports of progress
_MARGIN = 2048  # units


def lay_out(directions: Vectors, rows: int, progress: Progress = lambda _: None) -> Layout:
    """The layout of landmarks, float32[landmarks, dimension] of length 1, for a table of `rows`."""
    mean, axes = _principal(directions)
    landmarks = np.ascontiguousarray((directions - mean) @ axes.T, np.float32)
    progress(0.1)
    flat = np.zeros((len(landmarks), 2))
    flat[:, : len(axes)] = landmarks[:, :2]
    if len(landmarks) >= _FEW:
        flat = _spread_out(landmarks, flat, lambda done: progress(0.2 + 0.8 * done))
    return Layout(mean, axes, landmarks, _scaled(flat), rows)


def _principal(directions: Vectors) -> tuple[Vectors, Vectors]:
    """The mean of the vectors, and the axes along which they differ most."""
    count, dimension = directions.shape
    if count < 2:
        return directions.sum(axis=0), np.zeros((1, dimension), np.float32)
    solver = "covariance_eigh" if count > dimension else "full"  # of few rows, the covariance takes far longer
    with np.errstate(all="ignore"):  # if all are the same, their variance is 0
        found = PCA(min(COMPONENTS, count, dimension), svd_solver=solver).fit(directions)
    return found.mean_.astype(np.float32), found.components_.astype(np.float32)


def _spread_out(landmarks: Vectors, start: npt.NDArray[np.float64], progress: Progress) -> Any:
    """The places of landmarks by t-SNE, float64[landmarks, 2], from their first two components."""
    count = len(landmarks)
    near = PrecomputedNeighbors(*_neighbours(landmarks, min(NEIGHBOURS, count - 1)))
    start = 1e-4 * start / max(start[:, 0].std(), 1e-12)
    start += np.random.default_rng(0).normal(0, 1e-6, start.shape)  # t-SNE never parts two at the same place
    rounds = 0

    def report(*_: Any) -> None:
        nonlocal rounds
        rounds += _REPORTS
        progress(rounds / (_EARLY + _ROUNDS))

    found = openTSNE.TSNEEmbedding(
        start,
        Uniform(knn_index=near),  # affinities by distance have no answer for more copies than neighbours
        negative_gradient_method="fft" if count >= _QUICK_FROM else "bh",
        ints_in_interval=_GRID,
        random_state=0,
        n_jobs=1,  # more of its threads wait by spinning: on a busy machine ten times as long
        callbacks=report,
        callbacks_every_iters=_REPORTS,
    )
    found = found.optimize(_EARLY, exaggeration=min(12, max(1, count / _CRUSHED)), momentum=0.5)
    return np.asarray(found.optimize(_ROUNDS, momentum=0.8))


def _neighbours(landmarks: Vectors, k: int) -> tuple[npt.NDArray[np.int64], Vectors]:
    """The `k` nearest landmarks of each, nearest first, and how far they are."""
    squares = np.square(landmarks).sum(axis=1)
    near = np.empty((len(landmarks), k), np.int64)
    far = np.empty((len(landmarks), k), np.float32)
    for at in range(0, len(landmarks), _BLOCK):
        some = landmarks[at : at + _BLOCK]
        distances = squares[at : at + _BLOCK, None] + squares - 2 * some @ landmarks.T
        distances[np.arange(len(some)), np.arange(at, at + len(some))] = np.inf
        best = np.argpartition(distances, k - 1, axis=1)[:, :k]
        squared = np.take_along_axis(distances, best, 1)
        order = np.argsort(squared, axis=1, kind="stable")
        near[at : at + _BLOCK] = np.take_along_axis(best, order, 1)
        far[at : at + _BLOCK] = np.sqrt(np.maximum(np.take_along_axis(squared, order, 1), 0))
    return near, far


def _scaled(flat: npt.NDArray[np.float64]) -> Spots:
    """Places in units of the map, with a margin; both axes by the same scale."""
    if not len(flat):
        return np.empty((0, 2), np.float32)
    low, high = flat.min(axis=0), flat.max(axis=0)
    side = float((high - low).max()) or 1.0
    return np.asarray((flat - (low + high) / 2) / side * (SIDE - 2 * _MARGIN) + SIDE / 2, np.float32)
