"""Pictures that are larger or smaller than their canvas: crops, and frames that do not fill it."""

import io
import struct

import numpy as np
import pytest
from decoding import apart, encoded, seen
from PIL import Image

from fanfold.images.decode import avif


def with_clap(data: bytes, *numbers: int, turned: bytes = b"") -> bytes:
    """The AVIF with a crop: width, height, offset of its middle from the picture's, and a further property.

    https://aomediacodec.github.io/av1-avif/, 2.3.1. The boxes before the pixels grow, so pointers to the pixels change.
    """
    top = {kind: span for kind, *span in avif.boxes(data, 0, len(data))}
    start, end = top[b"meta"]
    meta = {kind: span for kind, *span in avif.boxes(data, start + 4, end)}
    inner = {kind: span for kind, *span in avif.boxes(data, *meta[b"iprp"])}
    count = len(list(avif.boxes(data, *inner[b"ipco"])))
    clap = b"clap" + struct.pack(">IIIIiIiI", *(part for number in numbers for part in (number, 1)))
    added = struct.pack(">I", len(clap) + 4) + clap + turned
    kept = bytearray(data[slice(*inner[b"ipma"])])
    more = [count + 1, *([count + 2] if turned else [])]
    kept[10] += len(more)  # of the one picture's properties
    kept += bytes(0x80 | number for number in more)
    properties = box(b"iprp", box(b"ipco", data[slice(*inner[b"ipco"])] + added) + box(b"ipma", bytes(kept)))
    at, stop = meta[b"iprp"]
    grown = bytearray(data[start : at - 8] + properties + data[stop:end])
    pixels = top[b"mdat"][0]
    place = grown.index(struct.pack(">I", pixels))
    grown[place : place + 4] = struct.pack(">I", pixels + len(properties) - (stop - at + 8))
    return data[: start - 8] + box(b"meta", bytes(grown)) + data[end:]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


CROPS = {
    "in the middle": ((200, 150, 0, 0), (125, 75, 325, 225), b""),
    "at the top left": ((200, 150, -125, -75), (0, 0, 200, 150), b""),
    "at the bottom right, turned": ((200, 150, 125, 75), (250, 150, 450, 300), box(b"irot", b"\1")),
}


@pytest.mark.parametrize(("numbers", "part", "turn"), CROPS.values(), ids=CROPS)
def test_avif_crop(
    picture: Image.Image, numbers: tuple[int, ...], part: tuple[int, int, int, int], turn: bytes
) -> None:
    """Only the cropped part of an AVIF is decoded, and measured, upright."""
    data = with_clap(encoded(picture, "AVIF", quality=95), *numbers, turned=turn)
    shown = picture.crop(part)
    shown = shown.rotate(90, expand=True) if turn else shown
    square, facts = seen(data)
    assert apart(square, seen(encoded(shown, "PNG"))[0]) < 3
    assert facts[:2] == shown.size


@pytest.mark.parametrize("numbers", [(900, 150, 0, 0), (200, 150, 300, 0), (0, 0, 0, 0)])
def test_avif_with_an_absurd_crop(picture: Image.Image, numbers: tuple[int, ...]) -> None:
    """A crop outside the picture changes nothing."""
    data = encoded(picture, "AVIF", quality=95)
    square, facts = seen(with_clap(data, *numbers))
    assert np.array_equal(square, seen(data)[0])
    assert facts[:2] == picture.size


def partial_gif(picture: Image.Image, transparent: bool) -> tuple[bytes, Image.Image]:
    """A GIF whose only frame covers a part of the canvas, and the expected picture."""
    part = picture.crop((112, 75, 337, 225)).quantize(63)
    options = {"transparency": 255} if transparent else {}
    data = bytearray(encoded(part, "GIF", interlace=0, **options))
    frame = 13 + 3 * (2 << (data[10] & 7)) + (8 if transparent else 0)
    assert data[frame : frame + 1] == b","
    struct.pack_into("<HH", data, 6, *picture.size)
    struct.pack_into("<HH", data, frame + 1, 112, 75)
    white = Image.new("RGB", picture.size, "white")
    white.paste(Image.open(io.BytesIO(encoded(part, "GIF"))).convert("RGB"), (112, 75))
    return bytes(data), white


@pytest.mark.parametrize("transparent", [False, True])
def test_gif_frame_smaller_than_its_canvas(picture: Image.Image, transparent: bool) -> None:
    """The canvas around the first frame of a GIF is white."""
    data, shown = partial_gif(picture, transparent)
    square, facts = seen(data)
    assert apart(square, seen(encoded(shown, "PNG"))[0]) < 1
    assert facts == (450, 300, "GIF", False)


@pytest.mark.parametrize("form", ["WEBP", "PNG", "GIF"])
def test_first_frame_with_transparent_parts(picture: Image.Image, form: str) -> None:
    """Transparent parts of an animation's first frame are white."""
    frame = picture.convert("RGBA")
    frame.putalpha(Image.new("L", frame.size, 255))
    frame.paste((0, 0, 0, 0), (100, 50, 350, 250))
    shown = picture.copy()
    shown.paste("white", (100, 50, 350, 250))
    options = {"lossless": True} if form == "WEBP" else {}
    square, _ = seen(encoded(frame, form, save_all=True, append_images=[picture.convert("RGBA")], **options))
    assert apart(square, seen(encoded(shown, "PNG"))[0]) < 3


def test_grey_with_alpha_in_jpeg2000(picture: Image.Image) -> None:
    """Grey with alpha is blended with white in JPEG 2000, too."""
    image = picture.convert("LA")
    image.putalpha(128)
    square, _ = seen(encoded(image, "JPEG2000"))
    expected = 255 - (255 - seen(encoded(picture.convert("L"), "PNG"))[0].astype(float)) * 128 / 255
    assert np.abs(square - expected).mean() < 2
