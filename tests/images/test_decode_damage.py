"""What a damaged picture lacks, and what it does not lack."""

import re
from typing import Any

import numpy as np
import pytest
from decoding import encoded, seen
from PIL import Image

from fanfold.images.decode import DecodeError, Facts, View


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_truncated(picture: Image.Image, form: str) -> None:
    """Half a file is embedded and flagged, or fails if the options say so."""
    data = encoded(picture, form, **({"interlace": 0} if form == "GIF" else {}))
    half = data[: len(data) // 2]
    square, facts = seen(half)
    assert facts == Facts(450, 300, form, True)
    near = np.abs(square.astype(int) - seen(data)[0]).max(axis=2) < 16
    assert near.mean() > 0.3  # the part that was read is visible
    with pytest.raises(DecodeError, match="missing or damaged"):
        seen(half, View(64, 0.875, truncated="fail"))


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000"])
def test_truncated_beyond_use(picture: Image.Image, form: str) -> None:
    """If half a file yields no pixels at all, it fails."""
    data = encoded(picture, form)
    with pytest.raises(DecodeError):
        seen(data[: len(data) // 2])


@pytest.mark.parametrize("cut", [1, 2, 10, 100, 1000, 5000])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"])
def test_truncated_jpeg(picture: Image.Image, cut: int, progressive: bool, ending: bytes) -> None:
    """A JPEG that lacks any of its pixels is flagged, even if its end was repaired."""
    data = encoded(picture, "JPEG", progressive=progressive)
    _, facts = seen(data[: -2 - cut] + ending)
    lost = not (cut == 1 and not progressive)  # the last byte has only padding bits
    assert facts.truncated or not lost


def test_only_the_end_marker_missing(picture: Image.Image) -> None:
    """A baseline JPEG that lacks only its end marker has all its pixels, and is not flagged."""
    data = encoded(picture, "JPEG")
    whole, _ = seen(data)
    square, facts = seen(data[:-2])
    assert np.array_equal(square, whole)
    assert not facts.truncated


def test_jpeg_without_any_pixels(picture: Image.Image) -> None:
    """A JPEG that is cut right after its headers fails, because there is nothing to embed."""
    data = encoded(picture, "JPEG")
    with pytest.raises(DecodeError, match="none of the pixels"):
        seen(data[: data.index(b"\xff\xda") + 14])


def test_trailing_bytes(picture: Image.Image) -> None:
    """Bytes after a JPEG's end (a video, a second picture) are ignored."""
    _, facts = seen(encoded(picture, "JPEG") + b"\0" * 1000)
    assert not facts.truncated


def test_padded_scan(picture: Image.Image) -> None:
    """Padding before a JPEG's end marker, which some cameras write, is not damage."""
    data = encoded(picture, "JPEG")
    _, facts = seen(data[:-2] + b"\0" * 20 + data[-2:])
    assert not facts.truncated


def test_damaged_png_data(picture: Image.Image) -> None:
    """A PNG with one changed byte in its pixels is flagged, because of its checksum."""
    data = bytearray(encoded(picture, "PNG"))
    data[len(data) // 2] ^= 0xFF
    _, facts = seen(bytes(data))
    assert facts.truncated


NOISE = np.random.default_rng(1).integers(0, 256, 20_000, np.uint8).tobytes()
TRAILERS = {
    "a motion photo's video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + NOISE,
    "Samsung's": b"\0\0\1\x0a\x08\0\0\0Image_UTC_Data1600000000000SEFHk\0\0\0\1\0\0\0\x18\0\0\0SEFT",
    "zeros": b"\0" * 5000,
    "ones": b"\xff" * 99,
    "markers": b"\xff\0\xff\xd0\xff\xe1\0\4ab\xff\xd8\xff\xd9",
}
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("PPM", {}),
    ("AVIF", {}),
    ("JPEG2000", {}),
]
STRICT = View(64, 0.875, truncated="fail")


@pytest.mark.parametrize(("form", "options"), WHOLE, ids=lambda value: str(value))
def test_trailers(picture: Image.Image, form: str, options: dict[str, Any]) -> None:
    """Bytes after the end of a picture change nothing: no pixel is missing."""
    data = encoded(picture, form, **options)
    whole, _ = seen(data)
    for name, trailer in TRAILERS.items():
        square, facts = seen(data + trailer, STRICT)
        assert np.array_equal(square, whole), name
        assert not facts.truncated, name


@pytest.mark.parametrize("trailer", [*TRAILERS.values(), b"\xff\xd8\xff\xe0 and so on"])
@pytest.mark.parametrize("end", [b"", b"\0" * 7 + b"\xff\xd9", b"\xff\xd9"])
def test_a_white_page_with_a_trailer(end: bytes, trailer: bytes) -> None:
    """A white JPEG is a picture, whatever a camera wrote in place of its end, or after it."""
    data = encoded(Image.new("RGB", (600, 800), "white"), "JPEG")
    square, facts = seen(data[:-2] + end + trailer, STRICT)
    assert (square == 255).all()
    assert not facts.truncated


@pytest.mark.parametrize("padding", [b"\0", b"\0\0\0", b"\xff\xff"])
def test_padded_restarts(picture: Image.Image, padding: bytes) -> None:
    """Zeros and fill bytes before a JPEG's restart markers lose no pixel; half of such a file is flagged."""
    data = encoded(picture, "JPEG", restart_marker_blocks=4)
    scan = data.index(b"\xff\xda")
    padded = data[:scan] + re.sub(rb"\xff[\xd0-\xd7]", lambda mark: padding + mark[0], data[scan:])
    square, facts = seen(padded, STRICT)
    assert np.array_equal(square, seen(data)[0])
    assert not facts.truncated
    assert seen(padded[: len(padded) // 2])[1].truncated


def test_webp_cut_off_behind_its_pixels(picture: Image.Image) -> None:
    """A WebP that lacks part of its EXIF, or of its second frame, has the whole picture that is used."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 3000
    frames = {"save_all": True, "append_images": [picture.rotate(180)]}
    for options in ({"exif": exif}, frames):
        data = encoded(picture, "WEBP", **options)
        square, facts = seen(data[:-1000], STRICT)
        assert np.array_equal(square, seen(data)[0])
        assert not facts.truncated


def test_a_webp_that_claims_too_much(picture: Image.Image) -> None:
    """A damaged length of a gigabyte costs no memory: without its pixels the file fails."""
    data = bytearray(encoded(picture, "WEBP")[:2000])
    data[4:8] = data[16:20] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(DecodeError, match="a WebP that is cut off: 2,000 bytes of 1,073,741,832"):
        seen(bytes(data))
