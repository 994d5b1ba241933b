"""The part of a picture that becomes a square: its place, and how it is resized to what the model takes."""

import math

import numpy as np
from PIL import Image

from fanfold.images.decode.view import Filter, Pixels, Values, View

try:
    import cykooz_resizer as simd
except ImportError:  # on Arm with Linux it has no wheel
    simd = None

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Window = tuple[int, int, int, int]

_SHRINKS = (8, 4, 2)  # libjpeg-turbo also offers n/8, but only powers of two have SIMD code: 6/8 is slower than 8/8
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_NAMES = {"bicubic": "catmull_rom", "bilinear": "bilinear"}  # with a = -0.5, as Pillow's
_GAP = 3.0  # whole blocks are averaged first, down to this many times the pixels wanted: 4x faster, same vectors


def shrink_of(size: tuple[int, int], view: View) -> int:
    """The largest of 1, 2, 4, 8 that leaves the square at least 2x the pixels wanted a side (`fast`: 1x)."""
    wanted = view.size * (1 if view.fast else 2)
    return next((shrink for shrink in _SHRINKS if min(size) * view.crop / shrink >= wanted), 1)


def box_of(size: tuple[int, int], view: View, shrink: int) -> Box:
    """The middle square, or the middle of all of the picture, in pixels of the picture decoded at 1 / `shrink`."""
    width, height = size
    sides = size if view.fit == "squash" else (min(size), min(size))
    across, down = (side * view.crop for side in sides)
    left, top = (width - across) / 2, (height - down) / 2
    return left / shrink, top / shrink, (left + across) / shrink, (top + down) / shrink


def window_of(size: tuple[int, int], box: Box, view: View) -> Window:
    """The whole pixels that resizing `box` reads: a bicubic kernel reaches two (shrunk) pixels beyond its edge."""
    across, down = (math.ceil(2 * max(1.0, (box[at + 2] - box[at]) / view.size)) + 1 for at in (0, 1))
    left, top = max(0, math.floor(box[0]) - across), max(0, math.floor(box[1]) - down)
    return left, top, min(size[0], math.ceil(box[2]) + across), min(size[1], math.ceil(box[3]) + down)


def shifted(box: Box, left: int, top: int) -> Box:
    """The box, relative to (left, top)."""
    return box[0] - left, box[1] - top, box[2] - left, box[3] - top


def resized(image: Image.Image, box: Box, view: View) -> Image.Image:
    """The box of a grey or RGB picture as RGB of `view.size` pixels a side."""
    # Rounding may put the box slightly outside of a picture decoded at a fraction of its size.
    inside = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(image.width)), min(box[3], float(image.height))
    shrinks = min(inside[2] - inside[0], inside[3] - inside[1]) >= view.size
    square = (by_simd if simd and shrinks else by_pillow)(image, inside, view.size, view.filter)
    return square.convert("RGB")  # last: resizing one channel is a third of the work


def by_pillow(image: Image.Image, box: Box, size: int, kernel: Filter) -> Image.Image:
    """The box of a picture at `size` pixels a side."""
    return image.resize((size, size), _FILTERS[kernel], box=box, reducing_gap=_GAP)


def by_simd(image: Image.Image, box: Box, size: int, kernel: Filter) -> Image.Image:
    """The same in a fifth of the time or less, but for rounding, in which it is as exact as Pillow.

    Only to make it smaller: it does not see what is beyond the box, which matters at the edges of an enlarged picture.
    """
    left, top, right, bottom = box
    options = simd.ResizeOptions(simd.ResizeAlg.convolution(getattr(simd.FilterType, _NAMES[kernel])))
    options.crop_box = simd.CropBox(left, top, right - left, bottom - top)
    square = Image.new(image.mode, (size, size))
    simd.Resizer().resize_pil(image, square, options)
    return square


def turned(square: Pixels, orientation: int) -> Pixels:
    """The square turned upright by EXIF orientation 1-8 (a view, not a copy).

    https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.6.4.A: 5 and above exchange rows and columns first.
    """
    if orientation >= 5:
        square = square.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        square = square[::-1]
    if orientation in (2, 3, 6, 7):
        square = square[:, ::-1]
    return square


class Canvas:
    """The square of a picture that comes in pieces, kept as sums over blocks.

    Blocks are as large as Pillow's would be, so the square is the one that Pillow makes of the whole picture.
    """

    def __init__(self, size: tuple[int, int], view: View) -> None:
        self._view = view
        self._box = box_of(size, view, 1)
        self.window = window_of(size, self._box, view)
        left, top, right, bottom = self._box
        self._across, self._down = (max(1, int(side / view.size / _GAP)) for side in (right - left, bottom - top))
        self._sums: Values | None = None

    def add(self, values: Values, left: int, top: int) -> None:
        """Add a piece of the window at its place, [rows, columns] or [rows, columns, channels] of 0..255; each pixel
        once."""
        x0, y0, x1, y1 = self.window
        if self._sums is None:
            shape = len(_counts(y1 - y0, self._down)), len(_counts(x1 - x0, self._across))
            self._sums = np.zeros((*shape, *values.shape[2:]), np.float32)
        sums, row = _block_sums(values, self._down, top - y0, 0)
        sums, column = _block_sums(sums, self._across, left - x0, 1)
        self._sums[row : row + sums.shape[0], column : column + sums.shape[1]] += sums

    def square(self) -> Image.Image:
        """The pieces at the size that the model takes; black where there was none."""
        x0, y0, x1, y1 = self.window
        if self._sums is None:
            return Image.new("RGB", (self._view.size, self._view.size))
        counts = np.outer(_counts(y1 - y0, self._down), _counts(x1 - x0, self._across))
        means = self._sums / counts.reshape(counts.shape + (1,) * (self._sums.ndim - 2))
        left, top, right, bottom = shifted(self._box, x0, y0)
        box = (left / self._across, top / self._down, right / self._across, bottom / self._down)
        return resized(Image.fromarray(np.rint(means).astype(np.uint8)), box, self._view)


def _counts(length: int, block: int) -> Values:
    """The pixels in each block along an axis; the last may be cut."""
    return np.minimum(block, length - np.arange(0, length, block)).astype(np.float32)


def _block_sums(values: Values, block: int, start: int, axis: int) -> tuple[Values, int]:
    """Sums over blocks along an axis, and the number of the first block; the first value has the number `start`."""
    if block == 1:
        return values, start
    inner = np.arange(-start % block, values.shape[axis], block)
    edges = inner if len(inner) and inner[0] == 0 else np.concatenate([[0], inner])
    return np.add.reduceat(values, edges, axis=axis, dtype=np.float32), start // block
