"""Decoding a picture's bytes into the square and the facts."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding import apart, encoded, interlaced_png, png_of_depth_16, reference, seen, ycck
from PIL import Image, ImageOps, PngImagePlugin

from fanfold.images.decode import Facts, View

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
    """A lossless file is decoded to exactly what Pillow alone would show."""
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
    """A lossy file is decoded to within two levels of the original."""
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
    """CMYK becomes RGB, with or without Adobe's inversion in the file."""
    square, facts = seen(encoded(picture.convert("CMYK"), form))
    assert apart(square, reference(picture)) < 6
    assert facts.format == form


def test_ycck(picture: Image.Image) -> None:
    """A YCCK JPEG, which only Adobe's marker distinguishes from CMYK, has the colours of the same picture as RGB."""
    data = encoded(ycck(picture), "JPEG", quality=95)
    at = data.index(b"Adobe") + 11  # the marker's last byte is the transform: 0 CMYK, 2 YCCK
    assert data[at] == 0
    assert apart(seen(data)[0], reference(picture)) > 30
    square, facts = seen(data[:at] + b"\x02" + data[at + 1 :])
    assert apart(square, reference(picture)) < 2
    assert facts == Facts(450, 300, "JPEG", False)


def test_large_cmyk(picture: Image.Image) -> None:
    """A large CMYK JPEG, which simplejpeg cannot decode, is scaled while decoding and gives the same pixels."""
    large = picture.resize((1801, 1201))
    square, facts = seen(encoded(large.convert("CMYK"), "JPEG", quality=95))
    assert apart(square, reference(large)) < 6
    assert facts[:2] == (1801, 1201)


@pytest.mark.parametrize("size", [(450, 300), (1000, 1000), (1801, 1201), (2400, 3203), (64, 64), (50, 37), (3, 700)])
def test_scaled_decoding(picture: Image.Image, size: tuple[int, int]) -> None:
    """Decoding a JPEG at a fraction of its size gives the same pixels for any aspect ratio."""
    large = picture.resize(size)
    square, facts = seen(encoded(large, "JPEG", quality=95))
    assert apart(square, reference(large)) < 3
    assert facts == Facts(*size, "JPEG", False)


def test_fast_is_close(picture: Image.Image) -> None:
    """Decoding at 1x gives almost the same picture."""
    data = encoded(picture.resize((1800, 1200)), "JPEG", quality=95)
    exact, _ = seen(data, View(224, 0.875))
    quick, _ = seen(data, View(224, 0.875, fast=True))
    assert 0 < apart(exact, quick) < 3


def test_palette(picture: Image.Image) -> None:
    """A palette is converted to colours before resizing, not after."""
    image = picture.quantize(32)
    for form in ("PNG", "GIF", "BMP", "TIFF"):
        square, _ = seen(encoded(image, form))
        assert apart(square, reference(image)) < 1, form


def test_one_bit(picture: Image.Image) -> None:
    """Black and white becomes grey when it is shrunk."""
    image = picture.convert("1")
    for form in ("PNG", "TIFF", "BMP"):
        square, _ = seen(encoded(image, form))
        assert np.array_equal(square, reference(image.convert("L"))), form
        assert len(np.unique(square)) > 50


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_over_white(picture: Image.Image, mode: str, form: str) -> None:
    """Transparent pixels are white, whatever colour is under them."""
    image = picture.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    square, _ = seen(encoded(image, form, **({"lossless": True} if form == "WEBP" else {})))
    assert (square == 255).all()


def test_half_alpha(picture: Image.Image) -> None:
    """Half transparent pixels are half way to white."""
    image = picture.copy()
    image.putalpha(128)
    square, _ = seen(encoded(image, "PNG"))
    expected = 255 - (255 - reference(picture).astype(float)) * 128 / 255
    assert np.abs(square - expected).max() < 3


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey(picture: Image.Image, form: str) -> None:
    """Sixteen bits per pixel are scaled to eight; they are not cut off at 255."""
    grey = np.asarray(picture.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    square, _ = seen(encoded(deep, form))
    assert apart(square, reference(picture.convert("L"))) < 1


def test_sixteen_bit_colour(picture: Image.Image) -> None:
    """A PNG of 16 bits per channel looks like its 8-bit twin."""
    square, _ = seen(png_of_depth_16(np.asarray(picture)))
    assert np.array_equal(square, reference(picture))


def test_float_tiff(picture: Image.Image) -> None:
    """Floats in 0..1 scale to 0..255; measured values stretch from their darkest to their lightest."""
    grey = np.asarray(picture.convert("L"), np.float32)
    unit, _ = seen(encoded(Image.fromarray(grey / 255), "TIFF"))
    measured, _ = seen(encoded(Image.fromarray(grey * 1000 - 7e4), "TIFF"))
    assert apart(unit, reference(picture.convert("L"))) < 1
    assert measured.min() < 30
    assert measured.max() > 225


@pytest.mark.parametrize(("value", "kind"), [(-9999, np.float32), (70000, np.int32), (0, np.float32)])
def test_a_tiff_of_one_value(value: int, kind: type, picture: Image.Image) -> None:
    """A tile that is only "no data" has no darkest and lightest value, and is black."""
    flat, _ = seen(encoded(Image.fromarray(np.full(picture.size, value, kind)), "TIFF"))
    assert not flat.any()


def test_interlaced_png(picture: Image.Image) -> None:
    """An interlaced PNG, whose rows come in seven passes, looks like any other."""
    square, _ = seen(interlaced_png(np.asarray(picture.resize((64, 64)))))
    assert np.array_equal(square, reference(picture.resize((64, 64))))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(form: str) -> None:
    """The first frame of an animation, or the first of several pages, is used."""
    red, blue = Image.new("RGB", (90, 60), "red"), Image.new("RGB", (80, 50), "blue").resize((90, 60))
    data = encoded(red, form, save_all=True, append_images=[blue], **({"lossless": True} if form == "WEBP" else {}))
    square, facts = seen(data)
    assert (square == (255, 0, 0)).all()
    assert facts[:2] == (90, 60)


def test_multi_picture_jpeg(picture: Image.Image) -> None:
    """The first picture is used if a phone's JPEG holds several."""
    other = Image.new("RGB", picture.size, "blue")
    square, facts = seen(encoded(picture, "MPO", save_all=True, append_images=[other]))
    assert apart(square, reference(picture)) < 4
    assert facts.format == "MPO"


def test_heic(picture: Image.Image) -> None:
    """HEIC is read if the extra is installed."""
    heif = pytest.importorskip("pillow_heif", reason="needs the extra 'heic'")
    file = io.BytesIO()
    heif.from_pillow(picture).save(file, quality=95)
    square, facts = seen(file.getvalue())
    assert apart(square, reference(picture)) < 3
    assert facts == Facts(450, 300, "HEIF", False)


def test_content_decides(picture: Image.Image, tmp_path: Path) -> None:
    """The content decides the format; a file's name plays no part."""
    (tmp_path / "really-a-png.jpg").write_bytes(encoded(picture, "PNG"))
    _, facts = seen((tmp_path / "really-a-png.jpg").read_bytes())
    assert facts.format == "PNG"


# -- orientation ----------------------------------------------------------------------------------------------------


def with_orientation(image: Image.Image, form: str, value: int) -> bytes:
    """The picture with this EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(image, form, exif=exif, **({"quality": 95} if form in ("JPEG", "AVIF") else {}))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(picture: Image.Image, form: str, value: int) -> None:
    """Each of the eight orientations is decoded, and measured, as it is displayed."""
    data = with_orientation(picture, form, value)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    square, facts = seen(data)
    assert apart(square, reference(upright)) < 2
    assert facts[:2] == upright.size


@pytest.mark.parametrize("kind", ["eXIf behind the pixels", "XMP", "text"])
def test_orientation_wherever_a_png_keeps_it(picture: Image.Image, kind: str) -> None:
    """A PNG's orientation is found in its EXIF chunk, even the last, in its XMP, or in ImageMagick's old text chunk."""
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
    """A PNG without an orientation is not decoded again to look for one."""
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
    """Broken EXIF never loses a picture."""
    data = encoded(picture, "JPEG", quality=95)
    app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    square, facts = seen(data[:2] + app1 + data[2:])
    assert apart(square, reference(picture)) < 2
    assert not facts.truncated
