"""Bombs, large pictures, and the memory they take."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from decoding import chunk, encoded, png, seen
from PIL import Image

from fanfold.images.decode import DecodeError, View


def test_pixel_bomb() -> None:
    """A picture of 30,000 x 30,000 pixels in a few hundred bytes fails by its header, undecoded."""
    with pytest.raises(DecodeError, match="30000 x 30000 pixels are more than"):
        seen(png(chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), chunk(b"IDAT", b"")))


def test_jpeg_bomb() -> None:
    """A JPEG's size is checked before it is decoded, too."""
    data = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    at = data.index(b"\xff\xc0") + 5
    with pytest.raises(DecodeError, match="60000 x 60000"):
        seen(data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :])


def test_pixel_cap_is_ours(picture: Image.Image) -> None:
    """The cap is the option's, not Pillow's, and up to it nothing is refused."""
    data = encoded(picture, "PNG")
    assert seen(data, View(64, 0.875, max_pixels=450 * 300))[1].width == 450
    with pytest.raises(DecodeError, match="max_pixels"):
        seen(data, View(64, 0.875, max_pixels=450 * 300 - 1))


def test_large_picture_without_warning() -> None:
    """A picture above Pillow's own limit and below ours is seen, without a warning."""
    data = encoded(Image.new("1", (10000, 9500), 1), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        square, _ = seen(data)
    assert (square == 255).all()


def test_text_bomb() -> None:
    """A PNG with 100 MB of text packed into 100 kB ends in a failure that says so."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 << 20)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    try:
        _, facts = seen(png(header, text, pixels))
    except DecodeError as error:
        assert "too large" in str(error)  # noqa: PT017 - either end is right
    else:
        assert facts.width == 1


def test_claimed_text_chunk() -> None:
    """A PNG that claims a chunk of 2 GB it does not have neither allocates it nor crashes."""
    data = (
        png(chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))) + struct.pack(">I", (1 << 31) - 1) + b"tEXtCo"
    )
    with pytest.raises(DecodeError):
        seen(data)


def test_pillow_is_left_alone(picture: Image.Image) -> None:
    """Pillow's process-wide settings are what they were, also after a failure."""
    from PIL import AvifImagePlugin, ImageFile

    def now() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, AvifImagePlugin.DEFAULT_MAX_THREADS

    before = now()
    data = encoded(picture, "PNG")
    seen(data[: len(data) // 2])
    with pytest.raises(DecodeError):
        seen(b"nothing")
    assert now() == before
