"""Pictures by Pillow: its settings, its header, and its pixels as grey or RGB of eight bits."""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple, Protocol

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, TiffImagePlugin

from fanfold.images.decode import levels
from fanfold.images.decode.square import Box, Canvas, Window, box_of, resized, shifted, shrink_of, window_of
from fanfold.images.decode.view import Values, View

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM")
"""What is opened, in Pillow's names; an MPO opens as a JPEG. The rest is left out: some start programs (EPS)."""

LARGE = 1 << 24  # pixels; what has more is converted in bands, not as a whole
_BAND = 1 << 20  # pixels of a band
_LOCK = threading.RLock()  # held while Pillow's process-wide settings are ours


class Piece(NamedTuple):
    """A part of a picture, as it came."""

    values: Values
    left: int
    top: int


Pieces = Callable[[], Iterator[Piece]]
"""The parts of a picture, from the first each time; together they cover it once."""


class Shown(Protocol):
    """What makes 0..255 of a picture's values."""

    def apply(self, values: Values, /) -> Values: ...


Find = Callable[[Pieces], Shown]


@contextmanager
def settings(lenient: bool = False, libtiff: bool = False) -> Iterator[None]:
    """Pillow's process-wide settings as they must be here, put back afterwards.

    Its own pixel limit gives way to `max_pixels`, its warnings to rows and failures, its AVIF threads to the worker's
    one core. `lenient` decodes as much as there is of a truncated file; `libtiff` reads uncompressed TIFFs, too, by
    the library made for it.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = _now()
        _set(None, lenient, 1, libtiff)
        try:
            yield
        finally:
            _set(*kept)


def _now() -> tuple[int | None, bool, int, bool]:
    return (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        AvifImagePlugin.DEFAULT_MAX_THREADS,
        TiffImagePlugin.READ_LIBTIFF,
    )


def _set(pixels: int | None, lenient: bool, threads: int, libtiff: bool) -> None:
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = pixels, lenient
    AvifImagePlugin.DEFAULT_MAX_THREADS, TiffImagePlugin.READ_LIBTIFF = threads, libtiff


def opened(data: bytes) -> ImageFile.ImageFile:
    """The picture with only its header read."""
    return Image.open(io.BytesIO(data), formats=_formats())


def _formats() -> tuple[str, ...]:
    if "HEIF" not in Image.OPEN and find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener(decode_threads=1)
    return FORMATS if "HEIF" in Image.OPEN else tuple(name for name in FORMATS if name != "HEIF")


def orientation_of(image: ImageFile.ImageFile) -> int:
    """1-8, from EXIF; a broken or absurd one counts as 1."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is parsed lazily, and never worth losing a picture for
        return 1
    return value if value in range(1, 9) else 1


def held(image: Image.Image) -> int:
    """Bytes that Pillow takes for the pixels of a picture."""
    each = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    return image.width * image.height * each


def square_of(image: Image.Image, view: View, find: Find | None = None) -> Image.Image:
    """The middle square of a picture whose pixels are there. `find`: see `by_pieces`, for deep ones."""
    box = box_of(image.size, view, 1)
    if is_deep(image):
        return by_pieces(image.size, bands(image, window_of(image.size, box, view)), view, find or _usual(image))
    if image.width * image.height <= LARGE:
        return _cropped(image, box, view)
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return resized(image, box, view)
    return by_pieces(image.size, bands(image, window_of(image.size, box, view)), view, None)


def shrunk_square_of(image: ImageFile.ImageFile, view: View) -> Image.Image:
    """The same of a JPEG, decoded at a fraction of its size."""
    size = image.size
    shrink = shrink_of(size, view)
    image.draft(None, (size[0] // shrink, size[1] // shrink))
    image.load()
    return _cropped(image, box_of(size, view, round(size[0] / image.width)), view)


def _cropped(image: Image.Image, box: Box, view: View) -> Image.Image:
    window = window_of(image.size, box, view)
    return resized(plain(image.crop(window)), shifted(box, *window[:2]), view)


def plain(image: Image.Image) -> Image.Image:
    """As grey or RGB of eight bits a channel; what is transparent shows white."""
    if image.mode == "La":  # premultiplied: Pillow converts it to this alone
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


# -- pieces ---------------------------------------------------------------------------------------------------------


def is_deep(image: Image.Image) -> bool:
    """Whether its pixels are of more than eight bits."""
    return image.mode == "F" or image.mode.startswith("I")


def _usual(image: Image.Image) -> Find:
    """What finds the levels of deep pixels in formats that have integers of 16 bits and floats."""
    if image.mode == "F":
        return lambda pieces: levels.measured(lambda: (piece.values for piece in pieces()))
    return lambda _: levels.full(16)


def by_pieces(size: tuple[int, int], pieces: Pieces, view: View, find: Find | None) -> Image.Image:
    """The middle square of a picture in pieces. `find` finds the levels of those that are not of 0..255."""
    canvas = Canvas(size, view)
    found = find(lambda: _within(pieces(), canvas.window)) if find else None
    for values, left, top in pieces():
        canvas.add(found.apply(values) if found else values, left, top)
    return canvas.square()


def _within(pieces: Iterator[Piece], window: Window) -> Iterator[Piece]:
    """The part of each piece that is in the window: what is not looked at has no say in what is black and white."""
    for values, left, top in pieces:
        rows = slice(max(0, window[1] - top), max(0, window[3] - top))
        columns = slice(max(0, window[0] - left), max(0, window[2] - left))
        part = values[rows, columns]
        if part.size:
            yield Piece(part, max(left, window[0]), max(top, window[1]))


def bands(image: Image.Image, window: Window) -> Pieces:
    """The part of a picture in a window, some rows at a time."""
    left, top, right, bottom = window
    rows = max(1, _BAND // (right - left))

    def pieces() -> Iterator[Piece]:
        for row in range(top, bottom, rows):
            yield Piece(values_of(image.crop((left, row, right, min(bottom, row + rows)))), left, row)

    return pieces


def values_of(image: Image.Image) -> Values:
    """Its pixels: as they are if they are deep, else as grey or RGB."""
    if not is_deep(image):
        return np.asarray(plain(image))
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # a PNG's: this very value, which shows white
        values = np.where(values == transparent, 0xFFFF, values).astype(values.dtype)
    return values
