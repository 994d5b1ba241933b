"""Bytes of a picture -> the square of pixels a model looks at, and the facts of its row.

    bytes ──first bytes──▶ which kind ──header──▶ size ──▶ pixels ──▶ middle square, resized ──▶ turned upright
                                      (bombs end here)       │
                                                             ├─ JPEG  jpeg.py   decoded at 1, 1/2, 1/4 or 1/8
                                                             ├─ PNG   png.py    without its metadata
                                                             ├─ TIFF  tiff.py   by Pillow or by tifffile
                                                             └─ all else        Pillow (pillow.py)

The content decides the format, never the name. Resizing is bicubic and antialiased, over the square alone
(`square.py`); turning comes last, on the small square, which is the same thing because the square is in the middle.
Colour profiles are not applied (no model's training applied them). Deep pixels become 0 to 255 by `levels.py`. Large
pictures are decoded in pieces where their format allows it; what takes too much memory fails by its header
(`view.py`). Why something failed, `reasons.py` says.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from fanfold.images.decode import avif, jpeg, jpeg2000, pillow, png, reasons, webp
from fanfold.images.decode.square import box_of, turned, window_of
from fanfold.images.decode.view import DecodeError, Facts, Pixels, View, check_memory, check_pixels

__all__ = ["DecodeError", "Facts", "Pixels", "View", "decode"]

_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
_HELD = {"WEBP": 14.0, "AVIF": 10.0, "HEIF": 6.0}
"""Bytes a pixel that decoders take besides what Pillow holds, measured."""
_JPEG2000_HELD = 5.2
"""The same of each channel of a tile."""
_PARTIAL_HELD = 8
"""The same of a picture that is copied, since not all of it is to be seen, or more than all."""


class _Found(NamedTuple):
    """A square, not yet upright."""

    square: Image.Image
    size: tuple[int, int]
    """Of the picture, in pixels, not yet upright."""
    format: str
    orientation: int
    damaged: bool


def decode(data: bytes, out: Pixels, view: View) -> Facts:
    """Put the square of `data` that `view` describes into `out`, uint8[size, size, 3].

    Raises DecodeError, and nothing else, for bytes that are no picture, too large a picture, or a damaged one where
    `view` refuses those.
    """
    try:
        found = _found(data, view)
    except DecodeError:
        raise
    except Exception as error:  # the libraries raise whatever their parsers stumble on
        raise DecodeError(reasons.of(error, data)) from error
    pixels = np.asarray(found.square)
    if found.damaged:
        _refuse_damaged(pixels, view, data)
    out[:] = turned(pixels, found.orientation)
    width, height = found.size if found.orientation < 5 else found.size[::-1]
    return Facts(width, height, found.format, found.damaged)


def _refuse_damaged(square: Pixels, view: View, data: bytes) -> None:
    """A damaged square of one flat colour holds none of the picture: decoders fill what is missing with one."""
    if view.truncated == "fail":
        raise DecodeError("part of the pixels is missing or damaged")
    if square.min() == square.max():
        raise DecodeError(reasons.of_nothing(data))


def _found(data: bytes, view: View) -> _Found:
    if data.startswith(jpeg.SIGNATURE):
        return _jpeg(data, view)
    with pillow.settings():
        if data.startswith(png.SIGNATURE):
            return _png(data, view)
        if data.startswith(_TIFFS):
            return _tiff(data, view)
        if data.startswith(jpeg2000.SIGNATURES):
            data = jpeg2000.bare(data)
        if data.startswith(b"RIFF") and webp.broke_off(data):
            if webp.lacks_pixels(data):
                return _by_pillow(webp.filled(data), view)._replace(damaged=True)
            data = webp.bare(data)
        try:
            return _by_pillow(data, view)
        except DecodeError:
            raise
        except Exception:
            if not data.startswith(b"RIFF"):
                raise
            return _by_pillow(webp.bare(data), view)  # its metadata may be what is damaged


def _jpeg(data: bytes, view: View) -> _Found:
    with pillow.settings():
        try:
            image = pillow.opened(data)
        except Exception:  # its metadata may be what is damaged
            data = jpeg.bare(data)
            image = pillow.opened(data)
        orientation = pillow.orientation_of(image)
    jpeg.check(data, image, view)
    size, form = image.size, image.format or ""
    if image.mode in ("L", "RGB"):
        try:
            square, damaged = jpeg.square_of(data, image, view)
            return _Found(square, size, form, orientation, damaged)
        except ValueError:  # simplejpeg refuses it: Pillow may know better, or say why not
            pass
    square, damaged = _leniently(data, view, _shrunk)
    return _Found(square, size, form, orientation, damaged)


def _tiff(data: bytes, view: View) -> _Found:
    from fanfold.images.decode import tiff  # importing tifffile takes longer than many a run has to spare

    seen = tiff.seen(data, view)
    return _Found(seen.square, seen.size, "TIFF", seen.orientation, seen.damaged)


def _png(data: bytes, view: View) -> _Found:
    file = png.Png(data)
    header = file.header
    size = header.width, header.height
    check_pixels(size, view)
    held = len(data) + header.width * header.height * header.held
    if header.interlaced or held <= view.memory // 4:
        square, damaged = _leniently(file.bare(), view, _whole)
    else:
        strips = png.Strips(file, window_of(size, box_of(size, view, 1), view))
        check_memory(f"a PNG of {size[0]} x {size[1]} pixels", len(data) + strips.most, view)
        square, damaged = pillow.by_pieces(size, strips, view, strips.levels), strips.damaged
    return _Found(square, size, "PNG", file.orientation(), damaged or file.damaged)


def _by_pillow(data: bytes, view: View) -> _Found:
    image = pillow.opened(data)
    size, form, orientation = image.size, image.format or "", pillow.orientation_of(image)
    if form == "AVIF" and (crop := avif.crop_of(data, size)):
        size = crop[2] - crop[0], crop[3] - crop[1]
    square, damaged = _leniently(data, view, _whole)
    return _Found(square, size, form, orientation, damaged)


def _leniently(data: bytes, view: View, square: Callable[[bytes, View], Image.Image]) -> tuple[Image.Image, bool]:
    """The square by Pillow, and whether it had to overlook damage for it."""
    try:
        with pillow.settings():
            return square(data, view), False
    except DecodeError:
        raise
    except Exception:
        with pillow.settings(lenient=True):
            return square(data, view), True


def _shrunk(data: bytes, view: View) -> Image.Image:
    return pillow.shrunk_square_of(pillow.opened(data), view)


def _whole(data: bytes, view: View) -> Image.Image:
    image = pillow.opened(data)
    check_pixels(image.size, view)
    crop = avif.crop_of(data, image.size) if image.format == "AVIF" else None
    covered = _frame(image)
    partial = covered != (0, 0, *image.size)
    _check_memory(data, image, view, copied=partial or crop is not None)
    image.load()
    if partial:
        return pillow.square_of(_on_white(image, covered), view)
    return pillow.square_of(image.crop(crop) if crop else image, view)


def _frame(image: ImageFile.ImageFile) -> avif.Crop:
    """What part of the picture its first frame covers; of a GIF it need not be all."""
    if image.format == "GIF" and image.tile and image.tile[0].extents and "transparency" not in image.info:
        return image.tile[0].extents
    return 0, 0, *image.size


def _on_white(image: Image.Image, covered: avif.Crop) -> Image.Image:
    """Browsers show nothing where no frame is; Pillow the first colour of the palette."""
    white = Image.new("RGB", image.size, "white")
    white.paste(image.crop(covered).convert("RGB"), covered[:2])
    return white


def _check_memory(data: bytes, image: ImageFile.ImageFile, view: View, copied: bool) -> None:
    """Raises DecodeError if there is not as much as decoding takes, by format and mode."""
    pixels = image.width * image.height
    if image.format == "JPEG2000":
        extra = _JPEG2000_HELD * len(image.getbands()) * min(pixels, jpeg2000.tile_of(data) or pixels)
    else:
        extra = _HELD.get(image.format or "", 0.0) * pixels
    extra += _PARTIAL_HELD * pixels if copied else 0
    what = f"{reasons.kind_of(data)} of {image.width} x {image.height} pixels"
    check_memory(what, len(data) + pillow.held(image) + int(extra), view)
