"""Weighted quantiles in which every prefix counts the same, and their intervals by a bootstrap over prefixes.

Each prefix has the total weight 1, shared equally by its m rows: w = 1/m. The quantile Q(q) is the smallest value v
whose rows up to v have at least q of all weight. No interpolation: a quantile is a time that was measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

DRAWS = 999
FEWEST = 10
"""Prefixes that an interval needs at least: resampling fewer says little."""
_TOLERANCE = 1e-9  # of all weight: sums of fractions are not exact
_ELEMENTS = 1 << 18  # of a matrix: two megabytes, which a processor's cache holds
_DEVIATIONS = 5  # of the standard error: a quantile of a resample is hardly ever farther away


@dataclass(frozen=True)
class Sample:
    """Values in ascending order, with their weights and the numbers of their prefixes."""

    values: Floats
    weights: Floats
    prefixes: Integers
    sums: Floats
    """The weight up to each value."""

    @classmethod
    def of(cls, values: Floats, prefixes: Integers) -> "Sample":
        """A sample of values, each with the number of its prefix, from 0 on."""
        order = np.argsort(values, kind="stable")
        ordered = prefixes[order]
        weights = 1.0 / np.bincount(prefixes)[ordered] if len(values) else np.zeros(0)
        return cls(values[order], weights, ordered, np.cumsum(weights))

    def quantile(self, q: float) -> float | None:
        """The smallest value that has at least `q` of the weight up to it; None without values."""
        if not len(self.values):
            return None
        total = self.sums[-1]
        return float(self.values[min(np.searchsorted(self.sums, (q - _TOLERANCE) * total), len(self.values) - 1)])


def weighted_quantile(values: Sequence[float], prefixes: Sequence[Any], q: float) -> float | None:
    """The quantile of values in which every prefix counts the same. None without values.

    Args:
        values: What was measured.
        prefixes: The prefix of each value.
        q: From 0 to 1.
    """
    numbers = np.unique(np.asarray(prefixes), return_inverse=True)[1].reshape(-1)
    return Sample.of(np.asarray(values, np.float64), numbers).quantile(q)


def resampled(prefixes: int, draws: int, random: np.random.Generator) -> Iterator[Floats]:
    """How often each prefix is in each of `draws` resamples, some resamples at a time: float64[some, prefixes]."""
    step = max(1, _ELEMENTS // max(1, prefixes))
    for begin in range(0, draws, step):
        some = min(step, draws - begin)
        drawn = random.integers(prefixes, size=(some, prefixes), dtype=np.int32)
        drawn = drawn + prefixes * np.arange(some)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=some * prefixes).reshape(some, prefixes).astype(np.float64)


@dataclass(frozen=True)
class Resampling:
    """The quantiles of a sample in resamples of its prefixes.

    Only the rows around a quantile are looked at one by one: of all before them, the sum by prefix is enough.
    """

    sample: Sample
    qs: Sequence[float]
    present: Floats
    """1 for each prefix that has rows: the sum of their weights."""
    windows: Sequence[tuple[slice, Floats]]
    """For each quantile, the rows around it, and the weight before them by prefix."""

    @classmethod
    def of(cls, sample: Sample, prefixes: int, qs: Sequence[float]) -> "Resampling":
        """What all resamples share; `prefixes` is the number of all prefixes, with those that have no rows."""
        present = (np.bincount(sample.prefixes, minlength=prefixes) > 0).astype(np.float64)
        windows = []
        for q in qs if len(sample.values) else ():
            shares = sample.sums / sample.sums[-1]
            margin = _DEVIATIONS * 0.5 / sqrt(present.sum())
            window = slice(int(np.searchsorted(shares, q - margin)), int(np.searchsorted(shares, q + margin)) + 1)
            windows.append((window, _before(sample, window, prefixes)))
        return cls(sample, qs, present, windows)

    def quantiles(self, counts: Floats) -> Floats:
        """float64[resamples, qs], given how often each prefix is in each resample; NaN where none of them is."""
        found = np.full((len(counts), len(self.qs)), np.nan)
        total = counts @ self.present
        for column, (q, (window, before)) in enumerate(zip(self.qs, self.windows, strict=False)):
            found[:, column], is_sure = _in_window(self.sample, counts, q * total, window, before)
            if not is_sure.all():
                rest, whole = ~is_sure, slice(0, len(self.sample.values))
                nothing = np.zeros(counts.shape[1])
                found[rest, column], _ = _in_window(self.sample, counts[rest], q * total[rest], whole, nothing)
        found[total == 0] = np.nan
        return found


def _before(sample: Sample, window: slice, prefixes: int) -> Floats:
    """The weight before a window, by prefix."""
    before = slice(0, window.start)
    return np.bincount(sample.prefixes[before], sample.weights[before], minlength=prefixes).astype(np.float64)


def _in_window(
    sample: Sample, counts: Floats, goal: Floats, window: slice, before: Floats
) -> tuple[Floats, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """The first value at which the weight reaches the goal, looked for in a window; and whether it is in there."""
    below = counts @ before
    goal = goal - _TOLERANCE * np.maximum(goal, 1.0)
    prefixes, weights, values = sample.prefixes[window], sample.weights[window], sample.values[window]
    place = np.zeros(len(counts), np.int64)
    step = max(1, _ELEMENTS // max(1, len(values)))
    for begin in range(0, len(counts), step):
        some = slice(begin, begin + step)
        sums = np.cumsum(counts[some][:, prefixes] * weights, axis=1) + below[some, None]
        place[some] = (sums < goal[some, None]).sum(axis=1)
    is_sure = (place < len(values)) & ((below < goal) | (window.start == 0))
    return values[np.minimum(place, len(values) - 1)], is_sure


def interval(drawn: Floats) -> tuple[float, float] | None:
    """The middle 95 % of what resamples gave; None if they gave nothing."""
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf").tolist()
    return low, high
