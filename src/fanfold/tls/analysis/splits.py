"""Which sizes hurt: the n above which more live connections are missing, and how small a jump would have been seen.

n is drawn at random for each pair. If no size hurts, the missing ones are spread over n as if dealt out, so dealing
them out again and again shows how large a difference chance makes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from fanfold.tls.analysis.missing import Difference, Rate, difference

Counts = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

PERMUTATIONS = 999
SURE = 0.01
"""A split counts if p is below this."""
MOST = 4
POWER = 0.8


@dataclass(frozen=True)
class Found:
    """More live connections are missing above `above` than from `first` to it."""

    above: int
    first: int
    last: int
    """The largest n that was compared."""
    rate_below: Rate
    rate_above: Rate
    more: Difference
    p: float

    @property
    def sides(self) -> tuple[range, range]:
        """The n that were compared."""
        return range(self.first, self.above + 1), range(self.above + 1, self.last + 1)

    def with_effects(self, effects: Sequence[float]) -> "Found":
        """The same, with intervals for the design effects of both sides; p needs none, as n is dealt out by pair."""
        below, above = (
            Rate.counted(rate.lost, rate.of, float(effect))
            for rate, effect in zip((self.rate_below, self.rate_above), effects, strict=True)
        )
        more = difference(above, below)
        assert more  # both sides have controls
        return replace(self, rate_below=below, rate_above=above, more=more)


@dataclass(frozen=True)
class Splits:
    """What was found, by ascending n; and the jumps that would have been found."""

    found: tuple[Found, ...]
    visible: dict[int, float]
    """For each n, the smallest jump above it that would be found with a power of 80 %; none where no jump would be."""


def split(controls: Counts, lost: Counts, random: np.random.Generator) -> Splits:
    """Split the range of n where missing rates differ most, then each side again. Index 0 of both arrays is n = 0."""
    found: list[Found] = []
    threshold = None
    there = controls[1:].nonzero()[0] + 1
    segments = [(int(there[0]), int(there[-1]))] if len(there) else []
    while segments and len(found) < MOST:
        first, last = segments.pop(0)
        here = slice(first, last + 1)
        best, p, needed = _test(controls[here], lost[here], random)
        threshold = needed if threshold is None else threshold
        if p < SURE:
            at = first + best
            found.append(_found(controls, lost, first, at, last, p))
            segments += [(first, at), (at + 1, last)]
    found.sort(key=lambda one: one.above)
    base = found[0].rate_below if found else Rate.counted(int(lost[1:].sum()), int(controls[1:].sum()))
    return Splits(tuple(found), _visible(controls, base.rate or 0.0, threshold or 0.0))


def _found(controls: Counts, lost: Counts, first: int, at: int, last: int, p: float) -> Found:
    below = Rate.counted(int(lost[first : at + 1].sum()), int(controls[first : at + 1].sum()))
    above = Rate.counted(int(lost[at + 1 : last + 1].sum()), int(controls[at + 1 : last + 1].sum()))
    more = difference(above, below)
    assert more  # both sides have controls
    return Found(at, first, last, below, above, more, p)


def _test(controls: Counts, lost: Counts, random: np.random.Generator) -> tuple[int, float, float]:
    """The index after which the rates differ most, the chance of such a difference, and the least that would do.

    Permuting n over keys deals the missing ones out to the values of n: a multivariate hypergeometric distribution.
    """
    every = int(lost.sum())
    if len(controls) < 2 or not 0 < every < controls.sum():  # nothing to deal out: a bound for all splits together
        return 0, 1.0, NormalDist().inv_cdf(1 - SURE / max(1, len(controls) - 1))
    scores = _scores(controls, lost[None])[0]
    dealt = random.multivariate_hypergeometric(controls, every, PERMUTATIONS, method="marginals")
    chance = np.sort(_scores(controls, dealt).max(axis=1))
    best = int(scores.argmax())
    # The same difference, computed in another order, must count as the same.
    p = (1 + int((chance >= scores[best] - 1e-9).sum())) / (1 + PERMUTATIONS)
    return best, p, float(chance[-int(SURE * (1 + PERMUTATIONS)) + 1])


def _scores(controls: Counts, lost: Counts) -> Floats:
    """For each split, in each row of `lost`: by how many standard errors the rate above is larger."""
    many, few = controls.cumsum()[:-1], lost.cumsum(axis=1)[:, :-1]
    all_many, all_few = controls.sum(), lost.sum(axis=1, keepdims=True)
    rate = all_few / all_many
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(rate * (1 - rate) * (1 / many + 1 / (all_many - many)))
        scores: Floats = ((all_few - few) / (all_many - many) - few / many) / spread
    scores[:, (many == 0) | (many == all_many)] = -np.inf
    return scores


def _visible(controls: Counts, base: float, threshold: float) -> dict[int, float]:
    """For each n, the smallest jump above it that is found in 80 of 100 such experiments."""
    every = int(controls[1:].sum())
    below = controls[1:].cumsum()
    jumps = {}
    for n, many in enumerate(below.tolist(), 1):
        if threshold and 0 < many < every and (jump := _smallest_jump(many, every - many, base, threshold)) is not None:
            jumps[n] = jump
    return jumps


def _smallest_jump(below: int, above: int, base: float, threshold: float) -> float | None:
    """The jump that is `threshold` standard errors or more in 80 of 100 cases; None if none is."""
    wanted = NormalDist().inv_cdf(POWER)

    def is_seen(jump: float) -> bool:
        high = base + jump
        pooled = (below * base + above * high) / (below + above)
        by_chance = sqrt(pooled * (1 - pooled) * (1 / below + 1 / above))
        spread = sqrt(base * (1 - base) / below + high * (1 - high) / above)
        return jump >= threshold * by_chance + wanted * spread

    low, high = 0.0, 1.0 - base
    if base == 1 or not is_seen(high):
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high
