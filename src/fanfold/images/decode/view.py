"""What is asked of a picture, and what is answered."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fanfold.errors import FanfoldError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Values = np.ndarray[Any, Any]
"""Pixels of any type, [height, width] or [height, width, channels]."""

_LEAST_MEMORY = 64 << 20


class DecodeError(FanfoldError):
    """These bytes are no picture that can be embedded."""


@dataclass(frozen=True, slots=True)
class View:
    """What part of a picture a model sees, and what is refused."""

    size: int
    """Side of the square it looks at, in pixels."""
    crop: float
    """The square's side as a share of the picture's short side."""
    fast: bool = False
    """Decode JPEGs at no less than 1x the pixels wanted, instead of 2x."""
    truncated: Literal["embed", "fail"] = "embed"
    """What to do with a picture part of whose pixels is missing or damaged; one with none left always fails."""
    max_pixels: int = 1 << 27

    @property
    def memory(self) -> int:
        """Bytes that a file and its pixels may take together: 3.5 for each of `max_pixels`, 470 MB by default.

        With what a process takes anyway, and the pieces that are worked on, it is less than 600 MB.
        """
        return max(7 * self.max_pixels // 2, _LEAST_MEMORY)


class Facts(NamedTuple):
    """What a row says of a picture."""

    width: int
    """Pixels, as displayed."""
    height: int
    """Pixels, as displayed."""
    format: str
    truncated: bool
    """Part of the pixels is missing or damaged."""


def check_pixels(size: tuple[int, int], view: View, shrink: int = 1) -> None:
    """Raises DecodeError for too many pixels. A decoder that shrinks by `shrink` does that share of the work."""
    width, height = size
    if width * height > view.max_pixels * shrink:
        raise DecodeError(f"{width} x {height} pixels are more than the {view.max_pixels} of max_pixels")


def check_memory(what: str, needed: int, view: View) -> None:
    """Raises DecodeError if decoding takes more than `view` allows. `needed`: bytes, the file's included."""
    if needed > view.memory:
        raise DecodeError(
            f"{what} takes {needed / 1e6:,.0f} MB to decode, more than the {view.memory / 1e6:,.0f} MB that "
            f"max_pixels = {view.max_pixels} allows"
        )
