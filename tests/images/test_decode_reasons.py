"""The reason why a file fails: what it is, and what is wrong with it."""

import re
import struct

import pytest
from decoding import encoded, seen
from PIL import Image

from fanfold.images.decode import DecodeError

REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"Dear Sir or Madam", "not a picture"),
    "html": (b"<!doctype html><html><body>404</body></html>", "not a picture"),
    "pdf": (b"%PDF-1.7\n" + b"\0" * 200, "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "json": (b'{"error": "gone"}', "the file is text, probably JSON"),
    "svg": (b'<?xml version="1.0"?><svg width="9" height="9"/>', r"a drawing \(SVG\)"),
    "zeros": (bytes(500), "every byte is zero"),
    "zip": (b"PK\3\4" + bytes(99), "the file is a ZIP archive"),
    "mp4": (b"\0\0\0\x18ftypisom" + bytes(99), r"the file is a video or sound \(MP4\)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "the file is a Git LFS pointer"),
    "jxl": (b"\xff\x0a" + bytes(99), "the file is a JPEG XL picture"),
    "noise": (b"\x93\x81\xf3\x9c" * 99, "not a picture: the file starts with"),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, said: str) -> None:
    """A file that is not a picture fails, and the message names what it is."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert "0x" not in str(refusal.value)  # no memory addresses, because messages are grouped and counted


def jpeg_with(frame: int, bits: int) -> bytes:
    """A JPEG whose header has another process or another depth."""
    data = bytearray(encoded(Image.new("RGB", (90, 60), "red"), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = frame, bits
    return bytes(data)


def changed(form: str, at: int, value: bytes) -> bytes:
    """A picture of this format with some bytes changed."""
    data = encoded(Image.new("RGB", (90, 60), "red"), form)
    return data[:at] + value + data[at + len(value) :]


def half(form: str) -> bytes:
    data = encoded(Image.radial_gradient("L").convert("RGB"), form)
    return data[: len(data) // 2]


DAMAGED = {
    "start of a JPEG": (b"\xff\xd8\xff\xe0", "a JPEG with a damaged or incomplete header"),
    "12-bit JPEG": (jpeg_with(0xC1, 12), "a JPEG of 12 bits per channel, which cannot be decoded"),
    "lossless JPEG": (jpeg_with(0xC3, 8), "a lossless JPEG, which cannot be decoded"),
    "hierarchical JPEG": (jpeg_with(0xC5, 8), "a hierarchical JPEG, which cannot be decoded"),
    "start of a PNG": (b"\x89PNG\r\n\x1a\n", r"a PNG with a damaged or missing header \(IHDR\)"),
    "PNG, wrong size": (changed("PNG", 18, b"\1"), "a PNG with a bad checksum in its header"),
    "start of a GIF": (b"GIF89a", "a GIF that cannot be decoded: its header is damaged"),
    "start of a TIFF": (b"II*\0\x08\0\0\0", "a TIFF that is cut off: 8 bytes of 10"),
    "half an AVIF": (half("AVIF"), "an AVIF that is cut off"),
    "AVIF, damaged": (changed("AVIF", 60, b"\xff" * 90), "an AVIF that cannot be decoded: its header is damaged"),
    "start of a JPEG 2000": (half("JPEG2000")[:60], "a JPEG 2000 that is cut off"),
    "JPEG 2000, damaged": (changed("JPEG2000", 40, b"\xff" * 60), "a JPEG 2000 that cannot be decoded"),
    "start of a WebP": (half("WEBP")[:24], "a WebP that"),
    "BMP of an unknown kind": (changed("BMP", 28, b"\x63"), "a BMP that cannot be decoded"),
    "PPM without a number": (b"P6 x y 255\n", "a PNM .* that cannot be decoded: its header is damaged"),
}


@pytest.mark.parametrize(("data", "said"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_wrong_with_a_picture(data: bytes, said: str) -> None:
    """A damaged picture's message names its format and the true reason, without Python class names."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert not re.search(r"not a picture|[A-Z]\w+Error|0x|cut off$", str(refusal.value))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_what_begins_as_a_picture_is_called_one(form: str) -> None:
    """A file with the first bytes of a picture fails with its format's name, whatever follows."""
    start = encoded(Image.new("RGB", (90, 60), "red"), form)[:12]
    for rest in (b"", bytes(300), b"\xff" * 300, struct.pack(">75I", *range(75))):
        with pytest.raises(DecodeError) as refusal:
            seen(start + rest)
        assert re.match(r"(an?) (JPEG|PNG|GIF|WebP|TIFF|AVIF|JPEG 2000|BMP|PNM)\b", str(refusal.value)), refusal.value
