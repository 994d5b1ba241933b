"""What is missing of a damaged picture, and what is not."""

import numpy as np
import pytest
from decoding import encoded, seen
from PIL import Image

from fanfold.images.decode import DecodeError, Facts, View


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_truncated(picture: Image.Image, form: str) -> None:
    """Half a file is embedded and flagged, or fails where the options say so."""
    data = encoded(picture, form, **({"interlace": 0} if form == "GIF" else {}))
    half = data[: len(data) // 2]
    square, facts = seen(half)
    assert facts == Facts(450, 300, form, True)
    near = np.abs(square.astype(int) - seen(data)[0]).max(axis=2) < 16
    assert near.mean() > 0.3  # what was read is seen
    with pytest.raises(DecodeError, match="missing or damaged"):
        seen(half, View(64, 0.875, truncated="fail"))


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_truncated_beyond_use(picture: Image.Image, form: str) -> None:
    """Where half a file gives no pixels at all, it fails."""
    data = encoded(picture, form)
    with pytest.raises(DecodeError):
        seen(data[: len(data) // 2])


@pytest.mark.parametrize("cut", [1, 2, 10, 100, 1000, 5000])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_truncated_jpeg(picture: Image.Image, cut: int, progressive: bool, ending: bytes) -> None:
    """However little is missing of a JPEG's pixels, and even if its end was repaired, it is flagged."""
    data = encoded(picture, "JPEG", progressive=progressive)
    _, facts = seen(data[: -2 - cut] + ending)
    lost = not (cut == 1 and not progressive)  # the last byte holds padding bits alone
    assert facts.truncated or not lost


def test_only_the_end_marker_missing(picture: Image.Image) -> None:
    """A baseline JPEG that lacks nothing but its end marker has all its pixels, and says so."""
    data = encoded(picture, "JPEG")
    whole, _ = seen(data)
    square, facts = seen(data[:-2])
    assert np.array_equal(square, whole)
    assert not facts.truncated


def test_jpeg_without_any_pixels(picture: Image.Image) -> None:
    """A JPEG cut right after its headers fails: there is nothing to embed."""
    data = encoded(picture, "JPEG")
    with pytest.raises(DecodeError, match="none of the pixels"):
        seen(data[: data.index(b"\xff\xda") + 14])


def test_trailing_bytes(picture: Image.Image) -> None:
    """What follows a JPEG's end (a video, a second picture) is not its business."""
    _, facts = seen(encoded(picture, "JPEG") + b"\0" * 1000)
    assert not facts.truncated


def test_padded_scan(picture: Image.Image) -> None:
    """Padding before a JPEG's end marker, which some cameras leave, is no damage."""
    data = encoded(picture, "JPEG")
    _, facts = seen(data[:-2] + b"\0" * 20 + data[-2:])
    assert not facts.truncated


def test_damaged_png_data(picture: Image.Image) -> None:
    """A PNG one byte of whose pixels was changed is flagged: its checksum gives it away."""
    data = bytearray(encoded(picture, "PNG"))
    data[len(data) // 2] ^= 0xFF
    _, facts = seen(bytes(data))
    assert facts.truncated
