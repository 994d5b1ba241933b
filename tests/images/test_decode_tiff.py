"""TIFFs of every depth, order and layout look like the same picture saved plainly."""

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tifffile
from decoding import apart, encoded, seen
from PIL import Image

from fanfold.images.decode import DecodeError, Pixels

Array = np.ndarray[Any, Any]
HALF = 128


def tiff(pixels: Array, **options: Any) -> bytes:
    """A TIFF of these pixels, unchanged."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, **options)
    return file.getvalue()


def wide(pixels: Pixels) -> Array:
    """The same pixels in 16 bits."""
    return pixels.astype(np.uint16) * 257


def planes(pixels: Array) -> Array:
    """One plane per colour, instead of interleaved colours."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def with_alpha(pixels: Array, premultiplied: bool) -> Array:
    """The pixels, half transparent."""
    most = np.iinfo(pixels.dtype).max
    alpha = np.full(pixels.shape[:2], HALF * (most // 255), pixels.dtype)
    colours = np.round(pixels * (HALF / 255)).astype(pixels.dtype) if premultiplied else pixels
    return np.dstack([colours, alpha])


RGB: dict[str, Any] = {"photometric": "rgb"}
GREY: dict[str, Any] = {"photometric": "minisblack"}
PLANAR: dict[str, Any] = {**RGB, "planarconfig": "separate"}

COLOUR = {
    "rgb8 planar": (planes, PLANAR),
    "rgb16": (wide, RGB),
    "rgb16 planar": (lambda rgb: planes(wide(rgb)), PLANAR),
    "rgb16 planar tiled": (lambda rgb: planes(wide(rgb)), {**PLANAR, "tile": (64, 64)}),
    "rgb12": (lambda rgb: wide(rgb) >> 4, {**RGB, "bitspersample": 12}),
    "float16 rgb": (lambda rgb: (rgb / 255).astype(np.float16), RGB),
    "float32 rgb": (lambda rgb: (rgb / 255).astype(np.float32), RGB),
    "float64 rgb planar": (lambda rgb: planes(rgb / 255), PLANAR),
    "cmyk8": (lambda rgb: np.asarray(Image.fromarray(rgb).convert("CMYK")), {"photometric": "separated"}),
    "cmyk16": (lambda rgb: wide(np.asarray(Image.fromarray(rgb).convert("CMYK"))), {"photometric": "separated"}),
}
SINGLE = {
    "grey16": (wide, GREY),
    "grey16 white is zero": (lambda grey: 65535 - wide(grey), {"photometric": "miniswhite"}),
    "grey8 white is zero": (lambda grey: 255 - grey, {"photometric": "miniswhite"}),
    "grey10": (lambda grey: np.round(grey * (1023 / 255)).astype(np.uint16), {**GREY, "bitspersample": 10}),
    "grey14": (lambda grey: np.round(grey * (16383 / 255)).astype(np.uint16), {**GREY, "bitspersample": 14}),
    "int8": (lambda grey: (grey.astype(int) - 128).astype(np.int8), GREY),
    "int16": (lambda grey: (wide(grey).astype(int) - 32768).astype(np.int16), GREY),
    "int16 of small values": (lambda grey: grey.astype(np.int16), GREY),
    "int32 of small values": (lambda grey: grey.astype(np.int32), GREY),
    "uint32 of small values": (lambda grey: grey.astype(np.uint32), GREY),
    "uint32": (lambda grey: grey.astype(np.uint32) * 16843009, GREY),
    "float16": (lambda grey: (grey / 255).astype(np.float16), GREY),
    "float32 of 0..255": (lambda grey: grey.astype(np.float32), GREY),
    "float64 tiled": (lambda grey: grey / 255, {**GREY, "tile": (64, 64)}),
}
PACKED = (None, "zlib", "lzw")
ORDERS = [{"byteorder": order, "bigtiff": big} for big in (False, True) for order in "<>"]
WAYS = [(PACKED[way % 3], ORDERS[way % 4]) for way in range(12)]
"""Each way to pack with each order; the first four have every value, the first six every way to pack twice."""


@pytest.fixture(name="plain", scope="module")
def _plain(picture: Image.Image) -> dict[str, Pixels]:
    """The same picture saved plainly, in colour and in grey, as a model sees it."""
    return {mode: seen(encoded(picture.convert(mode), "PNG"))[0] for mode in ("RGB", "L")}


@pytest.mark.seeds
@pytest.mark.parametrize("seed", range(len(WAYS)))
@pytest.mark.parametrize("kind", [*COLOUR, *SINGLE])
def test_deep_and_odd_tiffs(picture: Image.Image, plain: dict[str, Pixels], kind: str, seed: int) -> None:
    """Depth, order, layout and compression of a TIFF do not change the picture; an unsupported kind says so."""
    change, options = {**COLOUR, **SINGLE}[kind]
    mode = "RGB" if kind in COLOUR else "L"
    packed, order = WAYS[seed]
    if packed and ("bitspersample" in options or (kind == "float16" and packed == "lzw")):
        packed = None  # tifffile cannot write these
    if "bitspersample" in options:
        order = {**order, "byteorder": "<"}  # it writes these wrong, too
    data = tiff(change(np.asarray(picture.convert(mode))), compression=packed, **options, **order)
    if kind.startswith("cmyk") and order == {"byteorder": ">", "bigtiff": True}:
        with pytest.raises(DecodeError, match=r"a TIFF of 450 x 300 x 4 .*colours \(SEPARATED\) cannot be decoded"):
            seen(data)
        return
    square, facts = seen(data)
    assert apart(square, plain[mode]) < 1.5
    assert facts == (450, 300, "TIFF", False)


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "planar"])
def test_tiffs_with_alpha(picture: Image.Image, mode: str, deep: bool, extra: str) -> None:
    """Half transparent is half way to white, with or without premultiplied colours."""
    plain = picture.convert("L" if mode == "L" else "RGB")
    pixels = np.asarray(plain)
    pixels = with_alpha(wide(pixels) if deep else pixels, premultiplied=extra == "assocalpha")
    options = {"L": GREY, "RGB": RGB, "planar": PLANAR}[mode]
    square, _ = seen(tiff(planes(pixels) if mode == "planar" else pixels, extrasamples=[extra], **options))
    expected = 255 - (255 - seen(encoded(plain, "PNG"))[0].astype(float)) * HALF / 255
    assert apart(square, expected.astype(np.uint8)) < 1.5


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("white", ["minisblack", "miniswhite"])
def test_tiffs_of_few_bits(picture: Image.Image, bits: int, white: str) -> None:
    """TIFFs with one, two and four bits per pixel are decoded, and white is white whichever value stands for it."""
    most = (1 << bits) - 1
    values = np.round(np.asarray(picture.convert("L")) * (most / 255)).astype(np.uint8)
    stored = values if white == "minisblack" else most - values
    square, _ = seen(tiff(stored if bits > 1 else stored.astype(bool), photometric=white, bitspersample=bits))
    plain = Image.fromarray((values * (255 // most)).astype(np.uint8))
    assert apart(square, seen(encoded(plain, "PNG"))[0]) < 1


@pytest.mark.parametrize(
    ("odd", "kind"), [(np.inf, np.float16), (-np.inf, np.float32), (np.nan, np.float64), (np.nan, np.float16)]
)
def test_floats_that_are_no_numbers(picture: Image.Image, odd: float, kind: type) -> None:
    """Infinite values and NaN do not affect which values are black and white."""
    grey = (np.asarray(picture.convert("L")) * 3.0 - 5).astype(kind)
    whole, _ = seen(tiff(grey, **GREY))
    grey[100, 200:202] = odd
    square, facts = seen(tiff(grey, **GREY))
    assert apart(square, whole) < 1
    assert not facts.truncated


def nodata(mark: object) -> dict[str, Any]:
    """GDAL's tag for the value that marks no data."""
    return {**GREY, "extratags": [(42113, 2, 0, str(mark), True)]}


@pytest.mark.parametrize("mark", [-9999, -3.4028234663852886e38, 1e20, 9999, 255, "nan"])
def test_nodata(picture: Image.Image, mark: float) -> None:
    """GDAL's no-data value does not affect the range either, and looks like the darkest value."""
    grey = (np.asarray(picture.convert("L")) * 3.0 - 5.5).astype(np.float32)
    whole, _ = seen(tiff(grey, **GREY))
    grey[100:103, 200:203] = float(mark)
    square, _ = seen(tiff(grey, **nodata(mark)))
    assert apart(square, whole) < 1


@pytest.mark.parametrize("mark", [-9999, -3.4028234663852886e38, 1e20, -32768])
def test_nodata_without_a_tag(picture: Image.Image, mark: float) -> None:
    """Values that programs commonly use for no data are ignored if they lie far from all others."""
    grey = np.asarray(picture.convert("L")).astype(np.float32)
    whole, _ = seen(tiff(grey, **GREY))
    grey[100:103, 200:203] = mark
    assert apart(seen(tiff(grey, **GREY))[0], whole) < 1


@pytest.mark.parametrize(("value", "options"), [(np.nan, GREY), (np.inf, GREY), (-9999, nodata(-9999))])
def test_nothing_but_nodata(value: float, options: dict[str, Any]) -> None:
    """A float TIFF without usable values fails and says so."""
    with pytest.raises(DecodeError, match="infinite, not a number, or marks no data"):
        seen(tiff(np.full((90, 90), value, np.float32), **options))


def test_a_narrow_range_is_stretched() -> None:
    """Measured values in a narrow range, anywhere, are stretched from black to white."""
    slope = np.tile(np.linspace(130, 140, 300, dtype=np.float32), (300, 1))
    square, _ = seen(tiff(slope, **GREY))
    assert square.min() < 25
    assert square.max() > 230


def test_complex_numbers() -> None:
    """There is no defined way to show complex numbers, and the failure says so."""
    with pytest.raises(DecodeError, match="complex numbers"):
        seen(tiff(np.ones((90, 90), np.complex64), **GREY))


@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (64, 64)}])
@pytest.mark.parametrize("kind", ["rgb16 planar", "float32 rgb", "float64 tiled", "int32 of small values"])
def test_deep_tiffs_that_broke_off(picture: Image.Image, kind: str, layout: dict[str, Any]) -> None:
    """A deep TIFF that lacks its last strips or tiles shows the others and is flagged."""
    change, options = {**COLOUR, **SINGLE}[kind]
    plain = picture if kind in COLOUR else picture.convert("L")
    options = {**{name: value for name, value in options.items() if name != "planarconfig"}, **layout}
    pixels = change(np.asarray(plain))
    pixels = pixels.transpose(1, 2, 0) if kind == "rgb16 planar" else pixels
    data = tiff(np.ascontiguousarray(pixels), compression="zlib", **options)
    square, facts = seen(data[: int(len(data) * 0.7)])
    assert facts.truncated
    near = np.abs(square.astype(int) - seen(encoded(plain, "PNG"))[0]).max(axis=2) < 16
    assert near.mean() > 0.3


def test_a_packed_float_needs_an_extra() -> None:
    """Without the extra 'tiff', a file that needs it fails with what to install."""
    program = """
import io, sys
sys.modules["imagecodecs"] = None
import numpy as np
from fanfold.images.decode import DecodeError, View, decode
try:
    decode(sys.stdin.buffer.read(), np.empty((64, 64, 3), np.uint8), View(64, 0.875))
except DecodeError as error:
    print(error)
"""
    data = tiff(np.random.default_rng(0).random((90, 90)), compression="lzw", **GREY)
    done = subprocess.run([sys.executable, "-c", program], input=data, capture_output=True, check=True)
    assert b"float 64-bit samples, LZW needs the extra 'tiff'" in done.stdout
    assert b"pip install 'fanfold[tiff]'" in done.stdout
