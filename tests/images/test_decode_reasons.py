"""Why a file fails: what it is, and what is wrong with it."""

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
    "json": (b'{"error": "gone"}', r"but text \(JSON"),
    "svg": (b'<?xml version="1.0"?><svg width="9" height="9"/>', r"a drawing \(SVG\)"),
    "zeros": (bytes(500), "every byte is zero"),
    "zip": (b"PK\3\4" + bytes(99), "but a ZIP archive"),
    "mp4": (b"\0\0\0\x18ftypisom" + bytes(99), r"but a video or sound \(MP4\)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    "jxl": (b"\xff\x0a" + bytes(99), "but a JPEG XL picture"),
    "noise": (b"\x93\x81\xf3\x9c" * 99, "not a picture: it starts with"),
}


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, said: str) -> None:
    """What is no picture fails, and the message says what it is like."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert "0x" not in str(refusal.value)  # no memory addresses: messages are grouped and counted


def jpeg_with(frame: int, bits: int) -> bytes:
    """A JPEG whose header names another process, or another depth."""
    data = bytearray(encoded(Image.new("RGB", (90, 60), "red"), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = frame, bits
    return bytes(data)


def changed(form: str, at: int, value: bytes) -> bytes:
    """A picture of a format some bytes of which are others."""
    data = encoded(Image.new("RGB", (90, 60), "red"), form)
    return data[:at] + value + data[at + len(value) :]


def half(form: str) -> bytes:
    data = encoded(Image.radial_gradient("L").convert("RGB"), form)
    return data[: len(data) // 2]


DAMAGED = {
    "start of a JPEG": (b"\xff\xd8\xff\xe0", "a JPEG whose header is damaged, or broke off"),
    "12-bit JPEG": (jpeg_with(0xC1, 12), "a JPEG of 12 bits a channel, which cannot be decoded"),
    "lossless JPEG": (jpeg_with(0xC3, 8), "a lossless JPEG, which cannot be decoded"),
    "hierarchical JPEG": (jpeg_with(0xC5, 8), "a hierarchical JPEG, which cannot be decoded"),
    "start of a PNG": (b"\x89PNG\r\n\x1a\n", r"a PNG whose header \(IHDR\) is damaged or missing"),
    "PNG, wrong size": (changed("PNG", 18, b"\1"), "a PNG with a bad checksum in its header"),
    "start of a GIF": (b"GIF89a", "a GIF that cannot be decoded: its header is damaged"),
    "start of a TIFF": (b"II*\0\x08\0\0\0", "a TIFF that is shorter than it says: 8 bytes of 10"),
    "half an AVIF": (half("AVIF"), "an AVIF that is shorter than it says"),
    "AVIF, damaged": (changed("AVIF", 60, b"\xff" * 90), "an AVIF that cannot be decoded: its header is damaged"),
    "start of a JPEG 2000": (half("JPEG2000")[:60], "a JPEG 2000 that is shorter than it says"),
    "JPEG 2000, damaged": (changed("JPEG2000", 40, b"\xff" * 60), "a JPEG 2000 that cannot be decoded"),
    "start of a WebP": (half("WEBP")[:24], "a WebP that"),
    "BMP of an unknown kind": (changed("BMP", 28, b"\x63"), "a BMP that cannot be decoded"),
    "PPM without a number": (b"P6 x y 255\n", "a PNM .* that cannot be decoded: its header is damaged"),
}


@pytest.mark.parametrize(("data", "said"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_wrong_with_a_picture(data: bytes, said: str) -> None:
    """A damaged picture is called what it is, and the reason is true: no class of Python's, no end that is there."""
    with pytest.raises(DecodeError, match=said) as refusal:
        seen(data)
    assert not re.search(r"not a picture|[A-Z]\w+Error|0x|broke off$", str(refusal.value))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "BMP", "PPM"])
def test_what_begins_as_a_picture_is_called_one(form: str) -> None:
    """Whatever follows the first bytes of a picture's format, the failure names the format."""
    start = encoded(Image.new("RGB", (90, 60), "red"), form)[:12]
    for rest in (b"", bytes(300), b"\xff" * 300, struct.pack(">75I", *range(75))):
        with pytest.raises(DecodeError) as refusal:
            seen(start + rest)
        assert re.match(r"(an?) (JPEG|PNG|GIF|WebP|TIFF|AVIF|JPEG 2000|BMP|PNM)\b", str(refusal.value)), refusal.value
