"""A model with one free number: how much data the link carries in a round trip, rate x RTT.

A flight of B bytes takes a round trip, and B / rate. With an initial window, the bytes beyond a wall wait for one more
round trip, unless the link is so slow that it never idles:

    T(B) / RTT = 1 + max over i of (i + (B - wall_i) / K),  K = rate x RTT,  wall_0 = 0, only walls below B
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fanfold.tls import simulate
from fanfold.tls.network import Network

Floats = np.ndarray[Any, np.dtype[np.float64]]
_ROUNDS = 4
_CANDIDATES = np.geomspace(1e3, 1e8, 2000)  # bytes in a round trip: from 8 kbit/s to more than anyone has


@dataclass(frozen=True)
class Model:
    """The fitted number, and the slowdown that it gives for each bin, as a factor: 1 is as fast as the control."""

    bytes_per_rtt: float
    is_bound: bool
    """Whether that is the end of what was tried, so that the true number may lie beyond."""
    farthest: float
    """The largest distance of a measured factor from the model's, as a fraction of the latter."""
    base_bytes: int
    """The first flight of a control; 0 if it is not known."""
    walls: tuple[int, ...]
    """First flights, in bytes, above which another round trip is needed; none if the window is not known."""
    factors: tuple[float, ...]


def walls(initcwnd: int, mss: int) -> tuple[int, ...]:
    """First flights above which slow start needs another round trip."""
    return tuple(simulate.walls(Network(initcwnd=initcwnd, mss=mss), _ROUNDS))


def fit(extra: Sequence[float], factors: Sequence[float], base_bytes: int, at: Sequence[int]) -> Model | None:
    """Fit rate x RTT to measured slowdowns, by least squares. None without measurements.

    Args:
        extra: Bytes of dummies, for each bin.
        factors: The live median over that of the control.
        base_bytes: The first flight of a control.
        at: The walls.
    """
    if not extra:
        return None
    predicted = _factors(np.asarray(extra, np.float64), base_bytes, at, _CANDIDATES)
    best = int(((predicted - np.asarray(factors)) ** 2).sum(axis=1).argmin())
    is_bound = best in (0, len(_CANDIDATES) - 1)
    farthest = float(np.abs(np.asarray(factors) / predicted[best] - 1).max())
    return Model(float(_CANDIDATES[best]), is_bound, farthest, base_bytes, tuple(at), tuple(predicted[best].tolist()))


def _factors(extra: Floats, base_bytes: int, at: Sequence[int], per_rtt: Floats) -> Floats:
    """Slowdown factors: float64[candidates, bins]."""
    return _times(base_bytes + extra, at, per_rtt) / _times(np.array([float(base_bytes)]), at, per_rtt)


def _times(flights: Floats, at: Sequence[int], per_rtt: Floats) -> Floats:
    """Round trips that a flight takes, with the client's first bytes and its answer: float64[candidates, flights]."""
    rounds = np.arange(len(at) + 1)
    over = flights[:, None] - np.array([0, *at])  # float64[flights, rounds]
    waits = rounds + over / per_rtt[:, None, None]
    slowest: Floats = np.where((over > 0) | (rounds == 0), waits, 0.0).max(axis=2)
    return 1 + slowest
