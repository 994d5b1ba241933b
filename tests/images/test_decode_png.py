"""PNGs: bad metadata never loses a picture, transparency is white, and large pictures are decoded in strips."""

import struct
import zlib

import numpy as np
import pytest
from decoding import apart, chunk, encoded, png_of_depth_16, seen
from PIL import Image

from fanfold.images import decode
from fanfold.images.decode import DecodeError, View

HEADER = 33  # bytes up to the end of IHDR
LARGE_TEXT = zlib.compress(b"x" * 3_000_000)


def wrong(part: bytes) -> bytes:
    """The chunk with a wrong checksum."""
    return part[:-1] + bytes([part[-1] ^ 1])


ODD = {
    "text that unpacks to 3 MB": chunk(b"zTXt", b"Comment\0\0" + LARGE_TEXT),
    "international text that does": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE_TEXT),
    "a profile that unpacks to 3 MB": chunk(b"iCCP", b"name\0\0" + LARGE_TEXT),
    "a profile that does not unpack": chunk(b"iCCP", b"name\0\0nothing"),
    "80 MB of texts": chunk(b"tEXt", b"k\0" + b"v" * 1_000_000) * 80,
    "a wrong checksum in a text": wrong(chunk(b"tEXt", b"Comment\0hello")),
    "a wrong checksum in EXIF": wrong(chunk(b"eXIf", b"MM\0*\0\0\0\x08")),
    "a short pHYs": chunk(b"pHYs", b"\0\0\1"),
    "an empty pHYs": chunk(b"pHYs", b""),
    "a short tIME": chunk(b"tIME", b"\0"),
    "a short gAMA": chunk(b"gAMA", b"\0"),
    "a short cHRM": chunk(b"cHRM", b"\0" * 4),
    "a short acTL": chunk(b"acTL", b"\0"),
    "an empty sRGB": chunk(b"sRGB", b""),
    "EXIF that is none": chunk(b"eXIf", b"nothing"),
}


@pytest.fixture(name="plain", scope="module")
def _plain(picture: Image.Image) -> bytes:
    """A PNG without metadata."""
    return encoded(picture, "PNG")


@pytest.mark.parametrize("part", ODD.values(), ids=ODD)
def test_metadata_never_costs_a_picture(plain: bytes, part: bytes) -> None:
    """A PNG with bad text, profile or other metadata, before or after the pixels, is decoded whole."""
    whole, _ = seen(plain)
    for at in (HEADER, len(plain) - 12):
        square, facts = seen(plain[:at] + part + plain[at:], View(64, 0.875, truncated="fail"))
        assert np.array_equal(square, whole)
        assert not facts.truncated


def test_a_file_that_broke_off_behind_the_pixels(picture: Image.Image) -> None:
    """A PNG that lacks its end, or part of a text after the pixels, has all its pixels."""
    data = encoded(picture, "PNG")
    text = chunk(b"tEXt", b"Comment\0hello")
    for ending in (b"", text[:-6], text, text[:3], b"no chunk at all"):
        square, facts = seen(data[:-12] + ending)
        assert np.array_equal(square, seen(data)[0])
        assert not facts.truncated


# -- what is transparent --------------------------------------------------------------------------------------------


def grey_png(values: np.ndarray[tuple[int, int], np.dtype[np.int64]], bits: int, transparent: int) -> bytes:
    """A grey PNG with one transparent value."""
    height, width = values.shape
    places = np.arange(bits - 1, -1, -1)
    rows = np.packbits((values[..., None] >> places & 1).reshape(height, -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    pixels = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    parts = chunk(b"IHDR", header), chunk(b"tRNS", struct.pack(">H", transparent)), chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_shows_white(picture: Image.Image, bits: int) -> None:
    """The transparent value of a grey PNG is white, at every depth."""
    most = (1 << bits) - 1
    values = np.round(np.asarray(picture.convert("L")) * (most / 255)).astype(np.int64)
    clear = int(values[150, 225])
    shown = np.where(values == clear, 255, np.round(values * (255 / most))).astype(np.uint8)
    square, _ = seen(grey_png(values, bits, clear))
    assert apart(square, seen(encoded(Image.fromarray(shown), "PNG"))[0]) < 1


def test_a_transparent_colour_of_sixteen_bits_shows_white(picture: Image.Image) -> None:
    """The transparent colour of a PNG of 16 bits per channel is white."""
    pixels = np.asarray(picture).copy()
    pixels[100:200, 100:300] = (10, 20, 30)
    data = png_of_depth_16(pixels)
    square, _ = seen(data[:HEADER] + chunk(b"tRNS", struct.pack(">HHH", 10 << 8, 20 << 8, 30 << 8)) + data[HEADER:])
    pixels[100:200, 100:300] = 255
    assert apart(square, seen(encoded(Image.fromarray(pixels), "PNG"))[0]) < 1


# -- strip by strip -------------------------------------------------------------------------------------------------


class Small(View):
    """A view with four megabytes for a picture; those of more than one are decoded in strips."""

    @property
    def memory(self) -> int:
        return 4 << 20


STRIPS = Small(64, 0.875)
SIDE = 1200


@pytest.fixture(name="large", scope="module")
def _large(picture: Image.Image) -> Image.Image:
    return picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)


@pytest.fixture(name="_short")
def _short_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a few rows, and so many of them."""
    monkeypatch.setattr(decode.png, "_ROWS", 1 << 16)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "I;16"])
def test_strips_are_the_same_picture(large: Image.Image, mode: str) -> None:
    """A PNG looks the same decoded in strips and at once, in every mode."""
    image = large.convert("RGB")
    if mode in ("RGBA", "LA"):
        image.putalpha(image.getchannel("G"))
    image = image.quantize(64) if mode == "P" else image.convert("L") if mode == "I;16" else image.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    data = encoded(image, "PNG", compress_level=1)
    strips, facts = seen(data, STRIPS)
    whole, _ = seen(data)
    assert np.abs(strips.astype(int) - whole).max() <= 2
    assert facts == (SIDE, SIDE, "PNG", False)


@pytest.mark.usefixtures("_short")
def test_strips_that_break_off(large: Image.Image) -> None:
    """The available part of half a large PNG is decoded and flagged."""
    data = encoded(large, "PNG", compress_level=1)
    whole, _ = seen(data, STRIPS)
    square, facts = seen(data[: len(data) // 2], STRIPS)
    assert facts.truncated
    assert (np.abs(square.astype(int) - whole).max(axis=2) < 2).mean() > 0.3


APPLE = b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", b"\0\0\0\0")
WITHOUT = {
    "header": (lambda data: wrong(data[:HEADER]) + data[HEADER:], r"bad checksum in its header"),
    "pixels": (lambda data: data[:HEADER], "a PNG without pixels"),
    "Apple's": (lambda data: APPLE + data[8:], "only Apple's programs read"),
}


@pytest.mark.parametrize(("change", "said"), WITHOUT.values(), ids=WITHOUT)
def test_a_png_that_cannot_be_seen(picture: Image.Image, change: object, said: str) -> None:
    """A PNG without a good header or without pixels fails as a PNG, with what is wrong."""
    assert callable(change)
    with pytest.raises(DecodeError, match=said):
        seen(change(encoded(picture, "PNG")))


def test_a_damaged_palette_is_flagged(picture: Image.Image) -> None:
    """A wrong checksum in a chunk that affects pixels is damage."""
    data = encoded(picture, "PNG")
    _, facts = seen(data[:HEADER] + wrong(chunk(b"tRNS", b"\0\1\0\2\0\3")) + data[HEADER:])
    assert facts.truncated
