"""Rates of missing connections, their differences, and the intervals of both."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Rate:
    """Some of many, with Wilson's interval of 95 %. Rates are None if there is nothing to count."""

    lost: int
    of: int
    rate: float | None
    low: float | None
    high: float | None
    effect: float = 1.0
    """So many of them are worth one that is independent of all others: see `clusters`. The interval is as wide."""

    @classmethod
    def counted(cls, lost: int, of: int, effect: float = 1.0) -> "Rate":
        """The rate of `lost` in `of`."""
        if not of:
            return cls(lost, of, None, None, None)
        low, high = wilson(lost / effect, of / effect)
        return cls(lost, of, lost / of, low, high, effect)


@dataclass(frozen=True)
class Difference:
    """How much larger one rate is than another, with Newcombe's interval of 95 %."""

    value: float
    low: float
    high: float


def wilson(lost: float, of: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a rate. (E. B. Wilson, JASA 22, 1927.)"""
    rate = lost / of
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))
    return 0.0 if not lost else max(0.0, middle - half), 1.0 if lost == of else min(1.0, middle + half)


def difference(a: Rate, b: Rate) -> Difference | None:
    """`a` less `b`, with method 10 of R. G. Newcombe, Statistics in Medicine 17, 1998. None if one is not known.

    It is made of the intervals of both rates, whatever these are (G. Y. Zou and A. Donner, Statistics in Medicine 27,
    2008); the samples count as independent.
    """
    if a.rate is None or b.rate is None or a.low is None or b.low is None or a.high is None or b.high is None:
        return None
    value = a.rate - b.rate
    low = value - sqrt((a.rate - a.low) ** 2 + (b.high - b.rate) ** 2)
    high = value + sqrt((a.high - a.rate) ** 2 + (b.rate - b.low) ** 2)
    return Difference(value, low, high)
