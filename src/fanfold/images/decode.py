"""Bytes of a picture -> the square of pixels a model looks at, and the facts of its row.

    bytes ──header──▶ format, size, orientation ──▶ pixels ──▶ middle square, resized ──▶ turned upright
             Pillow   (a bomb ends here)             │
                                                     ├─ JPEG: decoded at 1, 1/2, 1/4 or 1/8, whichever still leaves
                                                     │  twice the pixels wanted (libjpeg-turbo, by simplejpeg)
                                                     └─ all else: Pillow

The content decides the format, never the name. Resizing is bicubic and antialiased, over the square alone; turning
comes last, on the small square, which is the same thing because the square is in the middle. Colour profiles are not
applied (no model's training applied them).
"""

import io
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL import AvifImagePlugin, ExifTags, Image, ImageFile, UnidentifiedImageError

from fanfold.errors import FanfoldError

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM")
"""What is opened, in Pillow's names; an MPO opens as a JPEG. The rest is left out: some start programs (EPS)."""

_SHRINKS = (8, 4, 2)  # libjpeg-turbo also offers n/8, but only powers of two have SIMD code: 6/8 is slower than 8/8
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
_PNG_METADATA = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")  # the names under which PNGs hold it
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")  # all pixels were there; padding followed
_PILLOW = threading.RLock()  # held while Pillow's process-wide settings are ours


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


class Facts(NamedTuple):
    """What a row says of a picture."""

    width: int
    """Pixels, as displayed."""
    height: int
    """Pixels, as displayed."""
    format: str
    truncated: bool
    """Part of the pixels is missing or damaged."""


Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def decode(data: bytes, out: Pixels, view: View) -> Facts:
    """Put the square of `data` that `view` describes into `out`, uint8[size, size, 3].

    Raises DecodeError, and nothing else, for bytes that are no picture, too large a picture, or a damaged one where
    `view` refuses those.
    """
    try:
        return _decode(data, out, view)
    except DecodeError:
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsers stumble on
        raise DecodeError(_said(error, data)) from error


def _decode(data: bytes, out: Pixels, view: View) -> Facts:
    with _settings():
        image = _open(data, view)
        width, height = image.size
        orientation = _orientation(image, data)
    square, damaged = _square_of(data, image, view)
    pixels = np.asarray(square)
    if damaged:
        _refuse_damaged(pixels, view)
    out[:] = _turned(pixels, orientation)
    if orientation >= 5:
        width, height = height, width
    return Facts(width, height, image.format or "", damaged)


def _refuse_damaged(square: Pixels, view: View) -> None:
    """A damaged square of one flat colour holds none of the picture: decoders fill what is missing with one."""
    if view.truncated == "fail":
        raise DecodeError("part of the pixels is missing or damaged")
    if square.min() == square.max():
        raise DecodeError("none of the pixels to be embedded are there: the file broke off")


def _square_of(data: bytes, image: ImageFile.ImageFile, view: View) -> tuple[Image.Image, bool]:
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        try:
            return _square_of_jpeg(data, image, view)
        except ValueError:  # simplejpeg refuses it (12 bits, lossless, ...): Pillow may know better, or say why not
            pass
    return _square_of_any(data, view)


# -- JPEG -----------------------------------------------------------------------------------------------------------


def _square_of_jpeg(data: bytes, image: ImageFile.ImageFile, view: View) -> tuple[Image.Image, bool]:
    """The square, and whether pixels are missing. Raises ValueError for what simplejpeg cannot do."""
    shrink = _shrink(image.size, view)
    asked: dict[str, Any] = {
        "colorspace": "GRAY" if image.mode == "L" else "RGB",
        "min_width": math.ceil(image.width / shrink),
        "min_height": math.ceil(image.height / shrink),
    }
    damaged = False
    try:
        pixels = simplejpeg.decode_jpeg(data, **asked)
    except ValueError as warning:
        damaged = _is_damaged(data, str(warning), progressive="progressive" in image.info)
        pixels = simplejpeg.decode_jpeg(data, strict=False, **asked)
    box = _box(image.size, view, shrink)
    left, top, right, bottom = _window((pixels.shape[1], pixels.shape[0]), box, view)
    inner = pixels[top:bottom, left:right]
    grey_or_rgb = inner[..., 0] if image.mode == "L" else inner
    return _resized(Image.fromarray(grey_or_rgb), _shifted(box, left, top), view), damaged


def _shrink(size: tuple[int, int], view: View) -> int:
    """The largest of 1, 2, 4, 8 that leaves the square at least 2x as many pixels a side as wanted (`fast`: 1x)."""
    wanted = view.size * (1 if view.fast else 2)
    return next((shrink for shrink in _SHRINKS if min(size) * view.crop / shrink >= wanted), 1)


def _is_damaged(data: bytes, warning: str, progressive: bool) -> bool:
    """Whether what libjpeg warned of cost pixels.

    A file that only lacks its end marker has all its pixels: given one, it decodes without a warning, and one that
    broke off earlier does not. In a progressive file a missing end cannot be told from missing refinements.
    """
    if _HARMLESS.search(warning):
        return False
    if progressive or "Premature end" not in warning:
        return True
    try:
        simplejpeg.decode_jpeg(data + b"\xff\xd9")
    except ValueError:
        return True
    return False


# -- all other formats ----------------------------------------------------------------------------------------------


def _square_of_any(data: bytes, view: View) -> tuple[Image.Image, bool]:
    try:
        with _settings():
            return _by_pillow(data, view), False
    except DecodeError:
        raise
    except Exception:
        with _settings(lenient=True):
            return _by_pillow(data, view), True


def _by_pillow(data: bytes, view: View) -> Image.Image:
    image = _open(data, view)
    size = image.size
    shrink = _shrink(size, view)
    image.draft(None, (size[0] // shrink, size[1] // shrink))  # only JPEG does; a CMYK one comes this way
    image.load()
    box = _box(size, view, round(size[0] / image.width))
    window = _window(image.size, box, view)
    return _resized(_plain(image.crop(window)), _shifted(box, *window[:2]), view)


def _plain(image: Image.Image) -> Image.Image:
    """As grey or RGB of eight bits a channel; what is transparent shows white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_eight_bits(np.asarray(image)))
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _to_eight_bits(values: np.ndarray[Any, Any]) -> Pixels:
    """Grey of 16 bits a pixel scales by its full range, and floats of 0..1 too; what else there is (32-bit integers,
    measured floats) has no white of its own, so its darkest and lightest values become 0 and 255.
    """
    low, high = 0.0, 65535.0
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        high = 1.0
    if values.min() < low or values.max() > high:
        low, high = float(values.min()), float(values.max())
    scaled = (values.astype(np.float64) - low) * (255 / ((high - low) or 1.0))  # of one value alone: black
    return np.rint(scaled).astype(np.uint8)


# -- the square -----------------------------------------------------------------------------------------------------


def _box(size: tuple[int, int], view: View, shrink: int) -> Box:
    """The middle square, in pixels of the picture decoded at 1 / `shrink`."""
    width, height = size
    side = min(width, height) * view.crop
    left, top = (width - side) / 2, (height - side) / 2
    return left / shrink, top / shrink, (left + side) / shrink, (top + side) / shrink


def _window(size: tuple[int, int], box: Box, view: View) -> tuple[int, int, int, int]:
    """The whole pixels that resizing `box` looks at: a bicubic kernel reaches two (shrunk) pixels beyond its edge."""
    reach = math.ceil(2 * max(1.0, (box[2] - box[0]) / view.size)) + 1
    left, top = max(0, math.floor(box[0]) - reach), max(0, math.floor(box[1]) - reach)
    return left, top, min(size[0], math.ceil(box[2]) + reach), min(size[1], math.ceil(box[3]) + reach)


def _shifted(box: Box, left: int, top: int) -> Box:
    return box[0] - left, box[1] - top, box[2] - left, box[3] - top


def _resized(image: Image.Image, box: Box, view: View) -> Image.Image:
    # Rounding may put the box a hair outside of a picture decoded at a fraction of its size.
    inside = max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(image.width)), min(box[3], float(image.height))
    # Shrinking more than sixfold averages whole blocks first (reducing_gap): 4x faster at 12 megapixels, same vectors.
    square = image.resize((view.size, view.size), Image.Resampling.BICUBIC, box=inside, reducing_gap=3.0)
    return square.convert("RGB")  # grey until here is a third of the work


def _turned(square: Pixels, orientation: int) -> Pixels:
    """The square as EXIF orientation 1-8 says it is to be displayed (a view, no copy).

    https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, 4.6.4.A: 5 and above exchange rows and columns first.
    """
    if orientation >= 5:
        square = square.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        square = square[::-1]
    if orientation in (2, 3, 6, 7):
        square = square[:, ::-1]
    return square


# -- Pillow ---------------------------------------------------------------------------------------------------------


def _open(data: bytes, view: View) -> ImageFile.ImageFile:
    """The picture with only its header read. Raises DecodeError for one of too many pixels."""
    image = Image.open(io.BytesIO(data), formats=_formats())
    if image.width * image.height > view.max_pixels:
        raise DecodeError(f"{image.width} x {image.height} pixels are more than the {view.max_pixels} of max_pixels")
    return image


def _formats() -> tuple[str, ...]:
    if "HEIF" not in Image.OPEN and find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener(decode_threads=1)
    return FORMATS if "HEIF" in Image.OPEN else tuple(name for name in FORMATS if name != "HEIF")


def _orientation(image: ImageFile.ImageFile, data: bytes) -> int:
    """1-8; a broken or absurd one counts as 1. Pillow turns TIFFs itself.

    In a PNG it may stand behind the pixels, so Pillow decodes all of them to look for it: a third of a large PNG's
    time, spared where the file has nothing of the kind.
    """
    if image.format == "TIFF" or (image.format == "PNG" and not any(mark in data for mark in _PNG_METADATA)):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is parsed lazily, and never worth losing a picture for
        return 1
    return value if value in range(1, 9) else 1


@contextmanager
def _settings(lenient: bool = False) -> Iterator[None]:
    """Pillow's process-wide settings as they must be here, put back afterwards.

    Its own pixel limit gives way to `max_pixels`, its warnings to rows and failures, its AVIF threads to the worker's
    one core. `lenient` decodes as much as there is of a truncated file.
    """
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS = None, lenient, 1
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS = kept


def _said(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in Image.OPEN:
            return "HEIC pictures need the extra 'heic'. Install it with: pip install 'fanfold[heic]'"
        if data[:4] in _TIFF_SIGNATURES:
            return "a TIFF of a kind that cannot be decoded"
        return f"not a picture: it starts with {data[:8]!r}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
