"""Pixels of more than eight bits, or of measured values -> 0 to 255.

What has a white of its own scales by it: unsigned integers of up to 16 bits by their full range, floats of 0..1 too.
What else there is (signed and 32-bit integers, measured floats) has none. Where its values lie within 8, 16 or 32 bits
and reach from their lowest quarter into their upper half, they are taken for that; else the darkest and lightest that
are looked at become 0 and 255.
What marks "no data" counts for neither, and shows as the darkest.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fanfold.images.decode.view import DecodeError, Values

_MARKS = (-9999.0, -99999.0, -999.0, -32768.0, -32767.0, -(2.0**31), 2.0**31 - 1, 2.0**32 - 1, 1e20)
"""Values by which programs say "no data" (GDAL, ESRI, netCDF, and the ends of integers)."""
_ABSURD = 1e30  # also -3.4e38, the lowest float32, and netCDF's 9.97e36


class Levels(NamedTuple):
    """What becomes 0, and what 255."""

    low: float
    high: float
    inverted: bool = False
    """High is dark (TIFF's WhiteIsZero)."""
    missing: tuple[float, ...] = ()
    """Values that are not measured ones."""

    def apply(self, values: Values) -> Values:
        """float32, 0..255, of the same shape."""
        valid = _valid(values, self.missing)
        wide: type[Any] = np.float32 if values.dtype.itemsize <= 2 else np.float64
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Values = (values.astype(wide) - wide(self.low)) * (
                255 / ((self.high - self.low) or 1.0)
            )  # one value: black
        scaled = np.clip(255 - scaled if self.inverted else scaled, 0, 255).astype(np.float32)
        return scaled if valid is None else np.where(valid, scaled, np.float32(0))


def full(bits: int, inverted: bool = False) -> Levels:
    """Those of unsigned integers."""
    return Levels(0.0, float((1 << bits) - 1), inverted)


def measured(pieces: Callable[[], Iterator[Values]], nodata: float | None = None, inverted: bool = False) -> Levels:
    """Those of values that have to be looked at, all of them, first. Raises DecodeError if none counts.

    `nodata` is what the file says that it marks no data with.
    """
    marks = {*_MARKS, *([] if nodata is None or not np.isfinite(nodata) else [float(nodata)])}
    low, high, seen, floats = np.inf, -np.inf, set[float](), False
    count = 0
    for values in pieces():
        count += values.size
        floats = floats or values.dtype.kind == "f"
        usual, found = _split(values, marks)
        seen |= found
        if usual.size:
            low, high = min(low, float(usual.min())), max(high, float(usual.max()))
    missing = {mark for mark in seen if not low - (high - low) <= mark <= high + (high - low) or mark == nodata}
    taken = [value for value in (low, high, *(seen - missing)) if np.isfinite(value)]
    if count and not taken and (nodata in missing or not missing):
        raise DecodeError("none of the pixels to be embedded is there: each is infinite, no number, or marks no data")
    low, high = (min(taken), max(taken)) if taken else (0.0, 0.0)
    return Levels(*_range(low, high, floats), inverted, tuple(sorted(missing)))


def _range(low: float, high: float, floats: bool) -> tuple[float, float]:
    """What values from `low` to `high` are most likely to mean by black and white."""
    if floats and low >= 0 and high <= 1:
        return 0.0, 1.0
    for bits in (8, 16, 32):
        white, half = 2.0**bits - 1, 2.0 ** (bits - 1)
        if 0 <= low < half / 2 and half <= high <= white:
            return 0.0, white
        if -half <= low < -half / 2 and 0 <= high < half and not floats:
            return -half, half - 1
    return low, high


def _split(values: Values, marks: set[float]) -> tuple[Values, set[float]]:
    """The values that are no marks, and the marks among the others."""
    valid = _valid(values, ())
    usual = values.ravel() if valid is None else values[valid]
    found = {mark for mark in marks if (usual == mark).any()}
    for mark in found:
        usual = usual[usual != mark]
    return usual, found


def _valid(values: Values, missing: tuple[float, ...]) -> Values | None:
    """Which values count; None for all."""
    valid = None
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            valid = np.abs(values) < _ABSURD  # not so for NaN, too
    for mark in missing:
        valid = (values != mark) if valid is None else valid & (values != mark)
    return valid
