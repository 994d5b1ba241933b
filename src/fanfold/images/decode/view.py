"""The question that decoding answers, and its answer."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from fanfold.errors import FanfoldError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Values = np.ndarray[Any, Any]
"""Pixels of any type, [height, width] or [height, width, channels]."""

_LEAST_MEMORY = 64 << 20

Fit = Literal["crop", "squash"]
"""How a picture becomes a square: by its middle square, or squeezed into one."""
Filter = Literal["bicubic", "bilinear"]
"""How it is resized; always antialiased."""


class DecodeError(FanfoldError):
    """These bytes are not a picture that can be embedded."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of a picture that a model sees, and the limits on pictures."""

    size: int
    """Side of the square that the model sees, in pixels."""
    crop: float
    """Side of the square, as a fraction of the picture's short side; with `squash`, of each of its sides."""
    fast: bool = False
    """Whether JPEGs are decoded at no less than 1x the pixels wanted, instead of 2x."""
    truncated: Literal["embed", "fail"] = "embed"
    """What to do with a picture that lacks some pixels; one that lacks all of them always fails."""
    max_pixels: int = 1 << 27
    fit: Fit = "crop"
    filter: Filter = "bicubic"

    @property
    def memory(self) -> int:
        """Most bytes that a file and its pixels may take together: 3.5 for each of `max_pixels`, 470 MB by default.

        With the process itself and the pieces being worked on, it is less than 600 MB.
        """
        return max(7 * self.max_pixels // 2, _LEAST_MEMORY)


class Facts(NamedTuple):
    """A row's facts about its picture."""

    width: int
    """Pixels, as displayed."""
    height: int
    """Pixels, as displayed."""
    format: str
    truncated: bool
    """Whether some of the pixels are missing or damaged."""


class Found(NamedTuple):
    """A square before it is turned upright."""

    square: Image.Image
    size: tuple[int, int]
    """Width and height of the picture before turning, in pixels."""
    format: str
    orientation: int
    """1-8, how to turn the square upright."""
    damaged: bool


def check_pixels(size: tuple[int, int], view: View, shrink: int = 1) -> None:
    """Raises DecodeError for too many pixels. A decoder that shrinks by `shrink` may have that many times more."""
    width, height = size
    if width * height > view.max_pixels * shrink:
        raise DecodeError(f"{width} x {height} pixels are more than max_pixels = {view.max_pixels} allows")


def check_memory(what: str, needed: int, view: View) -> None:
    """Raises DecodeError if decoding takes more memory than `view` allows. `needed`: bytes, the file's included."""
    if needed > view.memory:
        raise DecodeError(
            f"{what} takes {needed / 1e6:,.0f} MB to decode, more than the {view.memory / 1e6:,.0f} MB that "
            f"max_pixels = {view.max_pixels} allows"
        )
