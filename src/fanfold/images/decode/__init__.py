"""Bytes of a picture -> the square of pixels that a model sees, and the facts of its row.

    bytes ──first bytes──▶ format ──header──▶ size ──▶ pixels ──▶ middle square, resized ──▶ turned upright
                                  (bombs end here)       │
                                                         ├─ JPEG  jpeg.py   decoded at 1, 1/2, 1/4 or 1/8
                                                         ├─ PNG   png.py    without its metadata
                                                         ├─ TIFF  tiff.py   by Pillow or by tifffile
                                                         └─ others          by Pillow (pillow.py)

The content decides the format, never the name. Resizing is antialiased, over the square alone (`square.py`);
some models take the whole picture, squeezed into a square. The square is in the middle, so it can be turned upright
last, when it is small. Colour profiles are not applied, since no model's training applied them. `levels.py` turns deep
pixels into 0 to 255. Large pictures are decoded in pieces where their format allows it. A picture that takes too much
memory fails by its header (`view.py`). `reasons.py` explains failures.
"""

import numpy as np
from PIL import Image, ImageFile

from fanfold.images.decode import avif, jpeg, jpeg2000, pillow, png, reasons, webp
from fanfold.images.decode.square import box_of, turned, window_of
from fanfold.images.decode.view import DecodeError, Facts, Found, Pixels, View, check_memory, check_pixels

__all__ = ["DecodeError", "Facts", "Pixels", "View", "decode"]

_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
_HELD = {"WEBP": 14.0, "AVIF": 10.0, "HEIF": 6.0}
"""Bytes per pixel that a decoder takes in addition to Pillow's, measured."""
_JPEG2000_HELD = 5.2
"""The same, per channel of a tile."""
_COPIED_HELD = 8
"""The same, for a picture that is cropped or padded into a copy."""


def decode(data: bytes, out: Pixels, view: View) -> Facts:
    """Put the square of `data` that `view` describes into `out`, uint8[size, size, 3].

    Raises only DecodeError: for bytes that are not a picture, for a picture that is too large, and for a damaged one
    if `view` refuses those.
    """
    try:
        found = _found(data, view)
    except DecodeError:
        raise
    except Exception as error:  # the libraries' parsers may raise anything
        raise DecodeError(reasons.of(error, data)) from error
    pixels = np.asarray(found.square)
    if found.damaged:
        _refuse_damaged(pixels, view, data)
    out[:] = turned(pixels, found.orientation)
    width, height = found.size if found.orientation < 5 else found.size[::-1]
    return Facts(width, height, found.format, found.damaged)


def _refuse_damaged(square: Pixels, view: View, data: bytes) -> None:
    """Raises DecodeError also for a flat square: decoders fill missing parts with one colour."""
    if view.truncated == "fail":
        raise DecodeError("some of the pixels are missing or damaged")
    if square.min() == square.max():
        raise DecodeError(reasons.of_nothing(data))


def _found(data: bytes, view: View) -> Found:
    if data.startswith(jpeg.SIGNATURE):
        return _jpeg(data, view)
    with pillow.settings():
        if data.startswith(png.SIGNATURE):
            return _png(data, view)
        if data.startswith(_TIFFS):
            from fanfold.images.decode import tiff  # late: importing tifffile is slow

            return tiff.decoded(data, view)
        if data.startswith(jpeg2000.SIGNATURES):
            data = jpeg2000.bare(data)
        if data.startswith(b"RIFF") and len(data) < webp.claimed(data):
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
            return _by_pillow(webp.bare(data), view)  # only the metadata may be damaged


def _jpeg(data: bytes, view: View) -> Found:
    with pillow.settings():
        try:
            image = pillow.opened(data)
        except Exception:  # only the metadata may be damaged
            data = jpeg.bare(data)
            image = pillow.opened(data)
        orientation = pillow.orientation_of(image)
    jpeg.check(data, image, view)
    size, form = image.size, image.format or ""
    if image.mode in ("L", "RGB"):
        try:
            square, damaged = jpeg.square_of(data, image, view)
            return Found(square, size, form, orientation, damaged)
        except ValueError:  # Pillow may decode it, or have a better error
            pass
    square, damaged = pillow.leniently(lambda: pillow.shrunk_square_of(pillow.opened(data), view))
    return Found(square, size, form, orientation, damaged)


def _png(data: bytes, view: View) -> Found:
    file = png.Png(data)
    header = file.header
    size = header.width, header.height
    check_pixels(size, view)
    held = len(data) + header.width * header.height * header.held
    if header.interlaced or held <= view.memory // 4:
        square, damaged = pillow.leniently(lambda: _whole(file.bare(), view))
    else:
        strips = png.Strips(file, window_of(size, box_of(size, view, 1), view))
        check_memory(f"a PNG of {size[0]} x {size[1]} pixels", len(data) + strips.most, view)
        square, damaged = pillow.by_pieces(size, strips, view, strips.levels), strips.damaged
    return Found(square, size, "PNG", file.orientation(), damaged or file.damaged)


def _by_pillow(data: bytes, view: View) -> Found:
    image = pillow.opened(data)
    size, form, orientation = image.size, image.format or "", pillow.orientation_of(image)
    if form == "AVIF" and (crop := avif.crop_of(data, size)):
        size = crop[2] - crop[0], crop[3] - crop[1]
    square, damaged = pillow.leniently(lambda: _whole(data, view))
    return Found(square, size, form, orientation, damaged)


def _whole(data: bytes, view: View) -> Image.Image:
    image = pillow.opened(data)
    check_pixels(image.size, view)
    crop = avif.crop_of(data, image.size) if image.format == "AVIF" else None
    frame = _partial_frame(image)
    _check_memory(data, image, view, copied=bool(frame or crop))
    image.load()
    if frame:  # browsers show nothing outside of the frame, Pillow the first colour of the palette
        white = Image.new("RGB", image.size, "white")
        white.paste(image.crop(frame).convert("RGB"), frame[:2])
        return pillow.square_of(white, view)
    return pillow.square_of(image.crop(crop) if crop else image, view)


def _partial_frame(image: ImageFile.ImageFile) -> avif.Crop | None:
    """The part of a GIF that its first frame covers; None for all of the picture."""
    if image.format == "GIF" and image.tile and image.tile[0].extents and "transparency" not in image.info:
        return image.tile[0].extents if image.tile[0].extents != (0, 0, *image.size) else None
    return None


def _check_memory(data: bytes, image: ImageFile.ImageFile, view: View, copied: bool) -> None:
    """Raises DecodeError if decoding takes more memory than allowed, by format and mode."""
    pixels = image.width * image.height
    if image.format == "JPEG2000":
        extra = _JPEG2000_HELD * len(image.getbands()) * min(pixels, jpeg2000.tile_of(data) or pixels)
    else:
        extra = _HELD.get(image.format or "", 0.0) * pixels
    extra += _COPIED_HELD * pixels if copied else 0
    what = f"{reasons.kind_of(data)} of {image.width} x {image.height} pixels"
    check_memory(what, len(data) + pillow.held(image) + int(extra), view)
