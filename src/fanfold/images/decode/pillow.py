"""Pictures by Pillow: settings, headers, and pixels as grey or RGB of eight bits."""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, TiffImagePlugin

from fanfold.images.decode import levels
from fanfold.images.decode.square import Box, Canvas, Window, box_of, resized, shifted, shrink_of, window_of
from fanfold.images.decode.view import DecodeError, Values, View

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM")
"""Formats that are opened, by Pillow's names; an MPO opens as a JPEG. Others may start programs (EPS)."""

LARGE = 1 << 24  # pixels; larger pictures are converted in bands
_BAND = 1 << 20  # pixels of a band
_LOCK = threading.RLock()  # held while Pillow's process-wide settings are changed
_SETTINGS: tuple[tuple[Any, str], ...] = (
    (Image, "MAX_IMAGE_PIXELS"),
    (ImageFile, "LOAD_TRUNCATED_IMAGES"),
    (AvifImagePlugin, "DEFAULT_MAX_THREADS"),
    (TiffImagePlugin, "READ_LIBTIFF"),
)


class Piece(NamedTuple):
    """A part of a picture, and its place."""

    values: Values
    left: int
    top: int


Pieces = Callable[[], Iterator[Piece]]
"""Yields the parts of a picture, all of them at each call; together they cover it once."""


Find = Callable[[Pieces], Callable[[Values], Values]]
"""Finds, from all parts of a picture, a way to turn its values into 0..255."""

T = TypeVar("T")


@contextmanager
def settings(lenient: bool = False, libtiff: bool = False) -> Iterator[None]:
    """Pillow's process-wide settings as decoding needs them, restored afterwards.

    No pixel limit (`max_pixels` is ours), no warnings, one thread for AVIF. `lenient` decodes what there is of a
    truncated file; `libtiff` reads uncompressed TIFFs by libtiff, too.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = [getattr(module, name) for module, name in _SETTINGS]
        _set([None, lenient, 1, libtiff])
        try:
            yield
        finally:
            _set(before)


def _set(values: list[Any]) -> None:
    for (module, name), value in zip(_SETTINGS, values, strict=True):
        setattr(module, name, value)


def leniently(decode: Callable[[], T], libtiff: bool = False) -> tuple[T, bool]:
    """What `decode` makes of a picture by Pillow, and whether Pillow ignored damage."""
    try:
        with settings(libtiff=libtiff):
            return decode(), False
    except DecodeError:
        raise
    except Exception:
        with settings(lenient=True, libtiff=libtiff):
            return decode(), True


def opened(data: bytes) -> ImageFile.ImageFile:
    """The picture with only its header read."""
    return Image.open(io.BytesIO(data), formats=_formats())


def _formats() -> tuple[str, ...]:
    if "HEIF" not in Image.OPEN and find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener(decode_threads=1)
    return FORMATS if "HEIF" in Image.OPEN else tuple(name for name in FORMATS if name != "HEIF")


def orientation_of(image: ImageFile.ImageFile) -> int:
    """1-8, from EXIF; a damaged or invalid one counts as 1."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is parsed lazily, and its damage must not cost a picture
        return 1
    return value if value in range(1, 9) else 1


def held(image: Image.Image) -> int:
    """Bytes that Pillow takes for the pixels of a picture."""
    each = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    return image.width * image.height * each


def square_of(image: Image.Image, view: View, find: Find | None = None) -> Image.Image:
    """The middle square of a picture whose pixels are loaded. `find`: see `by_pieces`, for deep pixels."""
    box, deep = box_of(image.size, view, 1), is_deep(image)
    if not deep and image.width * image.height <= LARGE:
        return _cropped(image, box, view)
    if image.mode in ("L", "RGB") and not image.has_transparency_data:
        return resized(image, box, view)
    pieces = bands(image, window_of(image.size, box, view))
    return by_pieces(image.size, pieces, view, (find or _usual(image)) if deep else None)


def shrunk_square_of(image: ImageFile.ImageFile, view: View) -> Image.Image:
    """The same for a JPEG, decoded at a fraction of its size."""
    size, shrink = image.size, shrink_of(image.size, view)
    image.draft(None, (size[0] // shrink, size[1] // shrink))
    image.load()
    return _cropped(image, box_of(size, view, round(size[0] / image.width)), view)


def _cropped(image: Image.Image, box: Box, view: View) -> Image.Image:
    window = window_of(image.size, box, view)
    return resized(plain(image.crop(window)), shifted(box, *window[:2]), view)


def plain(image: Image.Image) -> Image.Image:
    """The picture as grey or RGB of eight bits per channel, over white."""
    if image.mode == "La":  # premultiplied: Pillow converts it to LA only
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


# -- pieces ---------------------------------------------------------------------------------------------------------


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels have more than eight bits."""
    return image.mode == "F" or image.mode.startswith("I")


def _usual(image: Image.Image) -> Find:
    """A way to find the levels of deep pixels, for formats with integers of 16 bits and with floats."""
    if image.mode == "F":
        return lambda pieces: levels.measured(lambda: (piece.values for piece in pieces()))
    return lambda _: levels.full(16)


def by_pieces(size: tuple[int, int], pieces: Pieces, view: View, find: Find | None) -> Image.Image:
    """The middle square of a picture in pieces. `find` finds the levels of pieces that are not 0..255."""
    canvas = Canvas(size, view)
    shown = find(lambda: _within(pieces(), canvas.window)) if find else None
    for values, left, top in _within(pieces(), canvas.window):
        canvas.add(shown(values) if shown else values, left, top)
    return canvas.square()


def _within(pieces: Iterator[Piece], window: Window) -> Iterator[Piece]:
    """The part of each piece that is in the window: pixels outside of it do not decide what is black and white."""
    for values, left, top in pieces:
        rows = slice(max(0, window[1] - top), max(0, window[3] - top))
        columns = slice(max(0, window[0] - left), max(0, window[2] - left))
        part = values[rows, columns]
        if part.size:
            yield Piece(part, max(left, window[0]), max(top, window[1]))


def bands(image: Image.Image, window: Window) -> Pieces:
    """A window of a picture, some rows at a time."""
    left, top, right, bottom = window
    rows = max(1, _BAND // (right - left))

    def pieces() -> Iterator[Piece]:
        for row in range(top, bottom, rows):
            yield Piece(values_of(image.crop((left, row, right, min(bottom, row + rows)))), left, row)

    return pieces


def values_of(image: Image.Image) -> Values:
    """The pixels: unchanged if they are deep, else as grey or RGB."""
    if not is_deep(image):
        return np.asarray(plain(image))
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # a PNG's transparent value, which shows white
        values = np.where(values == transparent, 0xFFFF, values).astype(values.dtype)
    return values
