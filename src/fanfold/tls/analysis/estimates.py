"""Estimates of a bin: quantiles of its controls, of its lives, and of the slowdown, each with its interval."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from fanfold.tls.analysis.bins import Range
from fanfold.tls.analysis.missing import Rate, difference
from fanfold.tls.analysis.pairs import Pairs
from fanfold.tls.analysis.quantiles import FEWEST, Resampling, Sample, interval, resampled
from fanfold.tls.analysis.results import Bin, Estimate, Missing
from fanfold.tls.analysis.settings import Settings
from fanfold.tls.analysis.spill import Records


def estimated(
    pairs: Pairs, chosen: Range, effect: Sequence[float], settings: Settings, random: np.random.Generator
) -> Bin:
    """All that is known of a bin, whose rates have these design effects."""
    times = np.concatenate([pairs.times.read(n) for n in chosen.numbers])
    has = np.isfinite(times["ms"])  # bool[pairs, roles]
    first, last = chosen.numbers[0], chosen.numbers[-1]
    mean = float(times["n"].mean()) if len(times) else (first + last) / 2
    samples = _samples(times, has, paired=settings.paired)
    values = [np.array([[one.quantile(q) for q in settings.quantiles]], np.float64) for one in samples]
    drawn = _drawn(samples, settings, random)
    control, live, slowdown = (
        tuple(_estimate(value, some) for value, some in zip(exact[0], many.T, strict=True))
        for exact, many in zip(_with_slowdown(values), _with_slowdown(drawn), strict=True)
    )
    return Bin(
        label=chosen.label,
        first=first,
        last=last,
        kb=mean * settings.dummy_bytes / 1000,
        controls=int(has[:, 0].sum()),
        lives=int(has[:, 1].sum()),
        pairs=int(has.all(axis=1).sum()),
        control=control,
        live=live,
        slowdown=slowdown,
        missing=missing(pairs, chosen.numbers, effect),
    )


def missing(pairs: Pairs, numbers: Sequence[int], effect: Sequence[float]) -> Missing:
    """Missing connections of the pairs with some n; `effect`: the design effects where control and live are there."""
    chosen = list(numbers)

    def rate(lost: Any, of: Any, effect: float = 1.0) -> Rate:
        return Rate.counted(int(lost[chosen].sum()), int(of[chosen].sum()), effect)

    live = rate(pairs.lost_lives, pairs.controls, float(effect[0]))
    control = rate(pairs.lost_controls, pairs.lives, float(effect[1]))
    both = rate(pairs.lost_both, pairs.issued) if pairs.issued.any() else None
    return Missing(live, control, difference(live, control), both)


def _samples(times: Records, has: Any, *, paired: bool) -> list[Sample]:
    """All controls, all lives; then the ratios of the pairs, or their controls and their lives."""
    numbers = np.zeros(has.shape, np.int64)
    numbers[has] = np.unique(times["prefixes"][has], return_inverse=True)[1]

    def sample(chosen: Any, role: int) -> Sample:
        return Sample.of(times["ms"][chosen, role], numbers[chosen, role])

    every = [sample(has[:, role], role) for role in (0, 1)]
    both = has.all(axis=1)
    if paired:
        return [*every, Sample.of(times["ms"][both, 1] / times["ms"][both, 0], numbers[both, 1])]
    return [*every, *(sample(both, role) for role in (0, 1))]


def _drawn(samples: Sequence[Sample], settings: Settings, random: np.random.Generator) -> list[Any]:
    """For each sample, its quantiles in resamples of the prefixes: float64[draws, quantiles]."""
    prefixes = 1 + max((int(one.prefixes.max()) for one in samples if len(one.prefixes)), default=-1)
    if prefixes < FEWEST or not settings.draws:
        return [np.zeros((0, len(settings.quantiles)))] * len(samples)
    every = [Resampling.of(one, prefixes, settings.quantiles) for one in samples]
    drawn = [[one.quantiles(counts) for one in every] for counts in resampled(prefixes, settings.draws, random)]
    return [np.concatenate(some) for some in zip(*drawn, strict=True)]


def _with_slowdown(quantiles: Sequence[Any]) -> list[Any]:
    """Quantiles of controls and lives, and the slowdown: of the ratios, or of the pairs' controls and lives."""
    control, live, *compared = quantiles
    return [control, live, (compared[0] if len(compared) == 1 else compared[1] / compared[0]) - 1]


def _estimate(value: float, drawn: Any) -> Estimate:
    if not isfinite(value):
        return Estimate(None)
    low, high = interval(drawn) or (None, None)
    return Estimate(float(value), low, high)
