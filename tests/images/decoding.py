"""Shared helpers of the decoding tests: files made by hand, and what a model sees of them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fanfold.images.decode import Facts, Pixels, View, decode
from fanfold.images.decode.square import resized

VIEW = View(size=64, crop=0.875)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file of this format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def seen(data: bytes, view: View = VIEW) -> tuple[Pixels, Facts]:
    """The pixels that the model sees of a file, and the facts for its row."""
    out = np.empty((view.size, view.size, 3), np.uint8)
    return out, decode(data, out, view)


def reference(image: Image.Image, view: View = VIEW) -> Pixels:
    """The same square of pixels that Pillow decoded."""
    side = min(image.size) * view.crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(resized(image if image.mode == "L" else image.convert("RGB"), box, view))


def apart(one: Pixels, two: Pixels) -> float:
    """The mean difference of two squares, in 0..255."""
    return float(np.abs(one.astype(int) - two.astype(int)).mean())


def ycck(image: Image.Image) -> Image.Image:
    """The picture in four channels that, saved as a JPEG, are those of a YCCK file without its marker.

    Pillow inverts the channels of a CMYK JPEG. YCCK is the inverted C, M and Y turned into YCbCr as if they were the
    inverse of RGB, beside the inverted K.
    """
    rgb = np.asarray(image, float)
    brightest = rgb.max(axis=2, keepdims=True)  # all that black ink leaves
    inks = Image.fromarray(np.uint8(np.round(255 - 255 * rgb / np.maximum(brightest, 1))))
    black = Image.fromarray(np.uint8(255 - brightest[..., 0]))
    return Image.merge("CMYK", [*(ImageOps.invert(part) for part in inks.convert("YCbCr").split()), black])


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes) -> bytes:
    """A PNG of these chunks and an end chunk."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png_of_depth_16(pixels: Pixels) -> bytes:
    """A PNG of 16 bits per channel whose high bytes are `pixels`, uint8[height, width, 3]."""
    height, width, _ = pixels.shape
    deep = (pixels.astype(">u2") << 8).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return png(chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)))


def interlaced_png(pixels: Pixels) -> bytes:
    """A PNG in the seven passes of Adam7 (https://www.w3.org/TR/png-3/#8Interlace)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return png(chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"".join(rows))))
