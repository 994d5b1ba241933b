"""Bins: the numbers of dummy certificates that are looked at together."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from fanfold.errors import UsageError
from fanfold.tls.analysis.results import By

Ranges = str | float | Sequence[tuple[float, float]]
_MOST = 1000


class Range(NamedTuple):
    """A bin before anything is measured."""

    label: str
    numbers: tuple[int, ...]
    """The n that are in it: at least one."""


def ranges(bins: Ranges | None, by: By, dummy_bytes: int, largest: int) -> list[Range]:
    """The bins asked for; one for each n up to `largest` by default. Raises UsageError.

    Ranges of n include both ends; ranges of kB include the upper one. A number alone is the width of all bins.
    """
    size = 1.0 if by == "n" else dummy_bytes / 1000
    if bins is None:
        return [Range(f"{n * size:g}", (n,)) for n in range(1, largest + 1)]
    pairs = _parsed(bins, largest * size, by)
    found = []
    for low, high in pairs:
        numbers = [n for n in range(1, largest + 1) if (low <= n if by == "n" else low < n * size) and n * size <= high]
        if not numbers:
            raise UsageError(f"No n from 1 to {largest} is in the bin {low:g}-{high:g} of --bins (in {by}).")
        found.append(Range(f"{low:g}" if low == high else f"{low:g}-{high:g}", tuple(numbers)))
    return found


def is_width(bins: Ranges | None) -> bool:
    """Whether all bins are as wide as this says, or of one n each: then they reach as far as the data do."""
    return bins is None or isinstance(_read(bins) if isinstance(bins, str) else bins, (int, float))


def _parsed(bins: Ranges, largest: float, by: By) -> list[tuple[float, float]]:
    if isinstance(bins, str):
        return _parsed(_read(bins), largest, by)
    if isinstance(bins, (int, float)):
        if not 0 < bins < float("inf") or largest / bins > _MOST or (by == "n" and bins != int(bins)):
            kind = "a whole number of at least 1" if by == "n" else f"at least {largest / _MOST:g}"
            raise UsageError(f"The width of --bins is {kind}, not {bins:g}.")
        count = int(-(-largest // bins))
        return [(number * bins + (by == "n"), (number + 1) * bins) for number in range(count)]
    pairs = [(float(low), float(high)) for low, high in bins]
    for (low, high), (following, _) in zip(pairs, [*pairs[1:], (float("inf"),) * 2], strict=True):
        if not (low <= high and (high < following if by == "n" else high <= following)):
            raise UsageError(f"The bin {low:g}-{high:g} of --bins is not in ascending order, or overlaps another one.")
    return pairs


def _read(text: str) -> float | list[tuple[float, float]]:
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return float(text)
    found = [re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*", part) for part in text.split(",")]
    if None in found:
        raise UsageError(f"--bins takes a width, such as 5, or ranges, such as 1-9,10-29,30-59; not '{text}'.")
    return [(float(one[1]), float(one[2])) for one in found if one]
