"""What becomes of a picture's bytes: the square, the facts, or a DecodeError."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from fanfold.images.decode import DecodeError, Facts, Pixels, View, decode

VIEW = View(size=64, crop=0.875)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file of a format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def seen(data: bytes, view: View = VIEW) -> tuple[Pixels, Facts]:
    """What the model sees of a file, and what its row says."""
    out = np.empty((view.size, view.size, 3), np.uint8)
    return out, decode(data, out, view)


def reference(image: Image.Image, view: View = VIEW) -> Pixels:
    """The same square by Pillow alone: full size, antialiased bicubic."""
    side = min(image.size) * view.crop
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.convert("RGB").resize((view.size, view.size), Image.Resampling.BICUBIC, box=box))


def apart(one: Pixels, two: Pixels) -> float:
    """Mean difference of two squares, in 0..255."""
    return float(np.abs(one.astype(int) - two.astype(int)).mean())


# -- formats --------------------------------------------------------------------------------------------------------

LOSSLESS = {
    "png": ("PNG", {}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "ppm": ("PPM", {}),
    "jpeg2000": ("JPEG2000", {}),
}


@pytest.mark.parametrize(("form", "options"), LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_formats(picture: Image.Image, form: str, options: dict[str, Any]) -> None:
    """A lossless file is seen exactly as Pillow alone would show it."""
    square, facts = seen(encoded(picture, form, **options))
    assert np.array_equal(square, reference(picture))
    assert facts == Facts(450, 300, form, False)


LOSSY = {
    "jpeg": ("JPEG", {"quality": 95}),
    "jpeg-progressive": ("JPEG", {"quality": 95, "progressive": True}),
    "jpeg-444": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg-rgb": ("JPEG", {"quality": 95, "keep_rgb": True}),
    "webp": ("WEBP", {"quality": 95}),
    "avif": ("AVIF", {"quality": 95}),
}


@pytest.mark.parametrize(("form", "options"), LOSSY.values(), ids=LOSSY)
def test_lossy_formats(picture: Image.Image, form: str, options: dict[str, Any]) -> None:
    """A lossy file is seen within two levels of the original."""
    square, facts = seen(encoded(picture, form, **options))
    assert apart(square, reference(picture)) < 2
    assert facts == Facts(450, 300, form, False)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_greyscale(picture: Image.Image, form: str) -> None:
    """A grey picture has three equal channels."""
    square, _ = seen(encoded(picture.convert("L"), form))
    assert np.array_equal(square[..., 0], square[..., 1])
    assert apart(square, reference(picture.convert("L"))) < 2


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(picture: Image.Image, form: str) -> None:
    """CMYK becomes RGB, whether Adobe's inversion is in the file or not."""
    square, facts = seen(encoded(picture.convert("CMYK"), form))
    assert apart(square, reference(picture)) < 6
    assert facts.format == form


def test_ycck(picture: Image.Image) -> None:
    """A YCCK JPEG, which only Adobe's marker tells from CMYK, becomes RGB."""
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11  # the marker's last byte is the transform: 0 CMYK, 2 YCCK
    assert data[at] == 0
    square, facts = seen(data[:at] + b"\x02" + data[at + 1 :])
    assert square.shape == (64, 64, 3)
    assert facts.format == "JPEG"


def test_large_cmyk(picture: Image.Image) -> None:
    """A large CMYK JPEG, which simplejpeg cannot do, is scaled while decoding and lands on the same pixels."""
    large = picture.resize((1801, 1201))
    square, facts = seen(encoded(large.convert("CMYK"), "JPEG", quality=95))
    assert apart(square, reference(large)) < 6
    assert facts[:2] == (1801, 1201)


@pytest.mark.parametrize("size", [(450, 300), (1000, 1000), (1801, 1201), (2400, 3203), (64, 64), (50, 37), (3, 700)])
def test_scaled_decoding(picture: Image.Image, size: tuple[int, int]) -> None:
    """Decoding a JPEG at a fraction of its size lands on the same pixels, whatever its proportions."""
    large = picture.resize(size)
    square, facts = seen(encoded(large, "JPEG", quality=95))
    assert apart(square, reference(large)) < 3
    assert facts == Facts(*size, "JPEG", False)


def test_fast_is_close(picture: Image.Image) -> None:
    """Decoding at 1x shows almost the same picture."""
    data = encoded(picture.resize((1800, 1200)), "JPEG", quality=95)
    exact, _ = seen(data, View(224, 0.875))
    quick, _ = seen(data, View(224, 0.875, fast=True))
    assert 0 < apart(exact, quick) < 3


def test_palette(picture: Image.Image) -> None:
    """A palette becomes colours before resizing, not after."""
    image = picture.quantize(32)
    for form in ("PNG", "GIF", "BMP", "TIFF"):
        square, _ = seen(encoded(image, form))
        assert apart(square, reference(image)) < 1, form


def test_one_bit(picture: Image.Image) -> None:
    """Black and white becomes grey where it is shrunk."""
    image = picture.convert("1")
    for form in ("PNG", "TIFF", "BMP"):
        square, _ = seen(encoded(image, form))
        assert np.array_equal(square, reference(image.convert("L"))), form
        assert len(np.unique(square)) > 50


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_over_white(picture: Image.Image, mode: str, form: str) -> None:
    """What is transparent shows white, whatever colour hides under it."""
    image = picture.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    square, _ = seen(encoded(image, form, **({"lossless": True} if form == "WEBP" else {})))
    assert (square == 255).all()


def test_half_alpha(picture: Image.Image) -> None:
    """Half transparent means half way to white."""
    image = picture.copy()
    image.putalpha(128)
    square, _ = seen(encoded(image, "PNG"))
    expected = 255 - (255 - reference(picture).astype(float)) * 128 / 255
    assert np.abs(square - expected).max() < 3


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey(picture: Image.Image, form: str) -> None:
    """Sixteen bits a pixel scale to eight; they are not cut off at 255."""
    grey = np.asarray(picture.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    square, _ = seen(encoded(deep, form))
    assert apart(square, reference(picture.convert("L"))) < 1


def test_sixteen_bit_colour(picture: Image.Image) -> None:
    """A PNG of 16 bits a channel is seen as its 8-bit twin is."""
    square, _ = seen(png_of_depth_16(np.asarray(picture)))
    assert np.array_equal(square, reference(picture))


def test_float_tiff(picture: Image.Image) -> None:
    """Floats of 0..1 scale to 0..255; measured values stretch from their darkest to their lightest."""
    grey = np.asarray(picture.convert("L"), np.float32)
    unit, _ = seen(encoded(Image.fromarray(grey / 255), "TIFF"))
    measured, _ = seen(encoded(Image.fromarray(grey * 1000 - 7e4), "TIFF"))
    assert apart(unit, reference(picture.convert("L"))) < 1
    assert measured.min() < 30
    assert measured.max() > 225


@pytest.mark.parametrize(("value", "kind"), [(-9999, np.float32), (70000, np.int32), (0, np.float32)])
def test_a_tiff_of_one_value(value: int, kind: type, picture: Image.Image) -> None:
    """A tile of nothing but "no data" has no darkest and lightest value; it is as black as any."""
    flat, _ = seen(encoded(Image.fromarray(np.full(picture.size, value, kind)), "TIFF"))
    assert not flat.any()


def test_interlaced_png(picture: Image.Image) -> None:
    """An interlaced PNG, whose rows come in seven passes, is seen like any other."""
    square, _ = seen(interlaced_png(np.asarray(picture.resize((64, 64)))))
    assert np.array_equal(square, reference(picture.resize((64, 64))))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(form: str) -> None:
    """Of an animated picture, or one of several pages, the first is seen."""
    red, blue = Image.new("RGB", (90, 60), "red"), Image.new("RGB", (80, 50), "blue").resize((90, 60))
    data = encoded(red, form, save_all=True, append_images=[blue], **({"lossless": True} if form == "WEBP" else {}))
    square, facts = seen(data)
    assert (square == (255, 0, 0)).all()
    assert facts[:2] == (90, 60)


def test_multi_picture_jpeg(picture: Image.Image) -> None:
    """Of a phone's JPEG that holds several, the first is seen."""
    other = Image.new("RGB", picture.size, "blue")
    square, facts = seen(encoded(picture, "MPO", save_all=True, append_images=[other]))
    assert apart(square, reference(picture)) < 4
    assert facts.format == "MPO"


def test_heic(picture: Image.Image) -> None:
    """HEIC is read where the extra is installed."""
    heif = pytest.importorskip("pillow_heif", reason="needs the extra 'heic'")
    file = io.BytesIO()
    heif.from_pillow(picture).save(file, quality=95)
    square, facts = seen(file.getvalue())
    assert apart(square, reference(picture)) < 3
    assert facts == Facts(450, 300, "HEIF", False)


def test_content_decides(picture: Image.Image, tmp_path: Path) -> None:
    """The name plays no part: bytes are all that is given."""
    (tmp_path / "really-a-png.jpg").write_bytes(encoded(picture, "PNG"))
    _, facts = seen((tmp_path / "really-a-png.jpg").read_bytes())
    assert facts.format == "PNG"


# -- orientation ----------------------------------------------------------------------------------------------------


def with_orientation(image: Image.Image, form: str, value: int) -> bytes:
    """The picture with that EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(image, form, exif=exif, **({"quality": 95} if form in ("JPEG", "AVIF") else {}))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(picture: Image.Image, form: str, value: int) -> None:
    """Each of the eight orientations is seen, and measured, as it is displayed."""
    data = with_orientation(picture, form, value)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    square, facts = seen(data)
    assert apart(square, reference(upright)) < 2
    assert facts[:2] == upright.size


@pytest.mark.parametrize("kind", ["eXIf behind the pixels", "XMP", "text"])
def test_orientation_wherever_a_png_keeps_it(picture: Image.Image, kind: str) -> None:
    """A PNG's orientation is found in its EXIF chunk, even the last, in its XMP, and where ImageMagick put it once."""
    info = PngImagePlugin.PngInfo()
    exif = Image.Exif()
    exif[0x0112] = 6
    if kind == "XMP":
        info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    elif kind == "text":
        info.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}", zip=True)
    data = encoded(picture, "PNG", pnginfo=info)
    if kind.startswith("eXIf"):
        content = exif.tobytes().removeprefix(b"Exif\0\0")
        chunk = b"eXIf" + content
        whole = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = data[:-12] + whole + data[-12:]  # before IEND
    _, facts = seen(data)
    assert (facts.width, facts.height) == picture.size[::-1]


def test_a_png_is_decoded_once(picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG that holds no orientation is not decoded in search of one."""
    ends = []
    original = PngImagePlugin.PngImageFile.load_end
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", lambda self: (ends.append(1), original(self))[1])
    seen(encoded(picture, "PNG"))
    assert len(ends) == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_absurd_orientation(picture: Image.Image, value: int) -> None:
    """An orientation that does not exist changes nothing."""
    square, facts = seen(with_orientation(picture, "JPEG", value))
    assert apart(square, reference(picture)) < 2
    assert facts[:2] == (450, 300)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 99]
)
def test_broken_exif(picture: Image.Image, exif: bytes) -> None:
    """Broken EXIF never costs a picture."""
    data = encoded(picture, "JPEG", quality=95)
    app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    square, facts = seen(data[:2] + app1 + data[2:])
    assert apart(square, reference(picture)) < 2
    assert not facts.truncated


# -- damage ---------------------------------------------------------------------------------------------------------


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


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"Dear Sir or Madam", "not a picture"),
    "html": (b"<!doctype html><html><body>404</body></html>", "not a picture"),
    "pdf": (b"%PDF-1.7\n" + b"\0" * 200, "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "jpeg-start": (b"\xff\xd8\xff\xe0", "."),
    "png-start": (b"\x89PNG\r\n\x1a\n", "."),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, said: str) -> None:
    """What is no picture fails, and the message says what it is like."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert "0x" not in str(refusal.value)  # no memory addresses: messages are grouped and counted


# -- bombs ----------------------------------------------------------------------------------------------------------


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


# -- garbage --------------------------------------------------------------------------------------------------------


def row_or_refusal(data: bytes) -> None:
    """Decode, and let nothing but a DecodeError pass."""
    try:
        _, facts = seen(data, View(16, 0.875, max_pixels=1 << 20))
    except DecodeError:
        return
    assert facts.width > 0
    assert facts.height > 0


MAGICS = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF0000WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"P6 ",
    b"\0\0\0\x1cftypavif",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", *MAGICS]), st.binary(max_size=400))
def test_random_bytes(magic: bytes, rest: bytes) -> None:
    """Random bytes, behind the first bytes of any format, are a row or a DecodeError."""
    row_or_refusal(magic + rest)


SEEDS: list[tuple[str, dict[str, Any], str]] = [
    ("JPEG", {}, "RGB"),
    ("JPEG", {"progressive": True}, "RGB"),
    ("JPEG", {}, "CMYK"),
    ("PNG", {}, "RGBA"),
    ("PNG", {}, "P"),
    ("GIF", {}, "P"),
    ("WEBP", {}, "RGB"),
    ("BMP", {}, "RGB"),
    ("TIFF", {"compression": "tiff_lzw"}, "RGB"),
    ("TIFF", {}, "CMYK"),
    ("AVIF", {}, "RGB"),
    ("PPM", {}, "RGB"),
]
"""Small pictures to be damaged: format, how it is written, mode."""


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(range(len(SEEDS))),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_mutated_pictures(picture: Image.Image, seed: int, flips: list[tuple[float, int]], keep: float) -> None:
    """Real pictures with bytes overwritten and their end cut off are a row or a DecodeError."""
    form, options, mode = SEEDS[seed]
    data = bytearray(encoded(picture.resize((40, 30)).convert(mode), form, **options))
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    row_or_refusal(bytes(data[: max(1, int(len(data) * (0.3 + keep)))]))


# -- pictures by hand -----------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks: bytes) -> bytes:
    """A PNG of these chunks and an end."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png_of_depth_16(pixels: Pixels) -> bytes:
    """A PNG of 16 bits a channel whose high bytes are `pixels`, uint8[height, width, 3]."""
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
