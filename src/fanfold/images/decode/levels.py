"""Pixels of more than eight bits, or of measured values -> 0 to 255.

Unsigned integers of up to 16 bits scale by their full range, and floats of 0 to 1 by that range. Other types (signed
and 32-bit integers, measured floats) do not define white. If their values lie within 8, 16 or 32 bits and reach from
the lowest quarter of that range into its upper half, they scale by that range; else the darkest and the lightest value
in the square become 0 and 255. Values that mark "no data" count for neither, and show as the darkest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fanfold.images.decode.view import DecodeError, Values

_MARKS = (-9999.0, -99999.0, -999.0, -32768.0, -32767.0, -(2.0**31), 2.0**31 - 1, 2.0**32 - 1, 1e20)
"""Values that mean "no data" in common programs (GDAL, ESRI, netCDF, and the ends of integers)."""
_ABSURD = 1e30  # also -3.4e38, the lowest float32, and netCDF's 9.97e36


@dataclass(frozen=True, slots=True)
class Levels:
    """The values that become 0 and 255."""

    low: float
    high: float
    inverted: bool = False
    """Whether high is dark (TIFF's WhiteIsZero)."""
    missing: tuple[float, ...] = ()
    """Values that mark no data."""

    def __call__(self, values: Values) -> Values:
        """float32, 0..255, of the same shape."""
        valid = _valid(values, self.missing)
        wide: type[Any] = np.float32 if values.dtype.itemsize <= 2 else np.float64
        with np.errstate(over="ignore", invalid="ignore"):
            factor = 255 / ((self.high - self.low) or 1.0)  # a single value becomes black
            scaled: Values = (values.astype(wide) - wide(self.low)) * factor
        scaled = np.clip(255 - scaled if self.inverted else scaled, 0, 255).astype(np.float32)
        return scaled if valid is None else np.where(valid, scaled, np.float32(0))


def full(bits: int, inverted: bool = False) -> Levels:
    """The levels of unsigned integers."""
    return Levels(0.0, float((1 << bits) - 1), inverted)


def measured(pieces: Callable[[], Iterator[Values]], nodata: float | None = None, inverted: bool = False) -> Levels:
    """The levels of values by their range, found in a first pass. Raises DecodeError if none of them counts.

    `nodata` is the value by which the file marks no data, if it names one.
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
        raise DecodeError("none of the pixels to embed has a value: each is infinite, not a number, or marks no data")
    low, high = (min(taken), max(taken)) if taken else (0.0, 0.0)
    return Levels(*_range(low, high, floats), inverted, tuple(sorted(missing)))


def _range(low: float, high: float, floats: bool) -> tuple[float, float]:
    """The most likely black and white of values from `low` to `high`."""
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
    """The measured values, and the marks among the others."""
    valid = _valid(values, ())
    usual = values.ravel() if valid is None else values[valid]
    found = {mark for mark in marks if (usual == mark).any()}
    for mark in found:
        usual = usual[usual != mark]
    return usual, found


def _valid(values: Values, missing: tuple[float, ...]) -> Values | None:
    """A mask of the values that count; None for all."""
    valid = None
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            valid = np.abs(values) < _ABSURD  # False for NaN, too
    for mark in missing:
        valid = (values != mark) if valid is None else valid & (values != mark)
    return valid
