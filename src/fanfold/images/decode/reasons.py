"""Messages for bytes that could not be decoded: what they are, and what is wrong with them."""

import re
import struct
from itertools import takewhile
from typing import Literal, NamedTuple

from PIL import Image, UnidentifiedImageError

from fanfold.images.decode import jpeg, webp
from fanfold.images.decode.avif import boxes

_HEIF_BRANDS = (b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")
_BOX = re.compile(rb"[ -~]{4}")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|<_io\.BytesIO object[^>]*>")


class _Kind(NamedTuple):
    """A file format, and how its files begin."""

    name: str
    starts: bytes | tuple[bytes, ...]
    at: int = 0


_PICTURES = (
    _Kind("a JPEG", b"\xff\xd8\xff"),
    _Kind("a PNG", b"\x89PNG\r\n\x1a\n"),
    _Kind("a GIF", b"GIF8"),
    _Kind("a WebP", b"WEBP", 8),
    _Kind("a TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    _Kind("a JPEG 2000", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    _Kind("an AVIF", (b"ftypavif", b"ftypavis"), 4),
    _Kind("a HEIC", tuple(b"ftyp" + brand for brand in _HEIF_BRANDS), 4),
    _Kind("a BMP", b"BM"),
    _Kind("a PNM (PBM, PGM or PPM)", tuple(b"P%d" % digit for digit in range(1, 7))),
)
"""Formats that are decoded."""

_OTHERS = (
    _Kind("a PDF", b"%PDF"),
    _Kind("PostScript", b"%!PS"),
    _Kind("a Photoshop document", b"8BPS"),
    _Kind("a PFM in colour", b"PF\n"),
    _Kind("a JPEG XL picture", (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    _Kind("a JPEG XR picture", b"II\xbc"),
    _Kind("a raw photograph (CR3)", b"ftypcrx ", 4),
    _Kind("a raw photograph (RAF)", b"FUJIFILMCCD-RAW"),
    _Kind("a raw photograph (ORF)", b"IIRO"),
    _Kind("a raw photograph (RW2)", b"IIU\0"),
    _Kind("a Windows icon", b"\0\0\1\0"),
    _Kind("an OpenEXR picture", b"\x76\x2f\x31\x01"),
    _Kind("a Radiance picture (HDR)", b"#?RADIANCE"),
    _Kind("a DirectDraw surface (DDS)", b"DDS "),
    _Kind("a FITS file", b"SIMPLE  ="),
    _Kind("a DICOM file", b"DICM", 128),
    _Kind("a HDF5 file", b"\x89HDF\r\n\x1a\n"),
    _Kind("a GIMP document", b"gimp xcf"),
    _Kind("a DjVu document", b"AT&TFORM"),
    _Kind("a QOI picture", b"qoif"),
    _Kind("a ZIP archive, or a document in that form", b"PK\3\4"),
    _Kind("a gzip archive", b"\x1f\x8b"),
    _Kind("a 7z archive", b"7z\xbc\xaf\x27\x1c"),
    _Kind("a RAR archive", b"Rar!"),
    _Kind("a tar archive", b"ustar", 257),
    _Kind("an Office document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    _Kind("a video or sound (MP4)", b"ftyp", 4),
    _Kind("a video (QuickTime)", b"moov", 4),
    _Kind("a video (Matroska or WebM)", b"\x1a\x45\xdf\xa3"),
    _Kind("a video (AVI)", b"AVI ", 8),
    _Kind("a sound (WAV)", b"WAVE", 8),
    _Kind("a sound (MP3)", b"ID3"),
    _Kind("a sound (Ogg)", b"OggS"),
    _Kind("a sound (FLAC)", b"fLaC"),
    _Kind("a program (ELF)", b"\x7fELF"),
    _Kind("a program (Windows)", b"MZ"),
    _Kind("an SQLite database", b"SQLite format 3\0"),
    _Kind("a macOS resource file (AppleDouble)", b"\0\5\x16\7"),
    _Kind("a Git LFS pointer, not the file itself", b"version https://git-lfs"),
)
"""Formats that are not decoded, by name."""

_PROCESSES = dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "a lossless JPEG")
_PROCESSES |= dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "a hierarchical JPEG")

_PARSER_BUGS = (IndexError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""Errors by which parsers fail on input that they did not check."""

_PLAIN = {
    "Truncated File Read": "the file is cut off",
    "image file is truncated": "some of its pixels are missing",
    "decoder error": "its pixels are damaged",
    "broken data stream": "its pixels are damaged",
    "unrecognized data stream": "its pixels are damaged",
    "cannot load this image": "its header is damaged",
}
"""Pillow's messages, and the same in plain words."""


def of(error: Exception, data: bytes) -> str:
    """The message for bytes that a library refused with `error`."""
    if not data:
        return "the file is empty"
    kind = _named(data, _PICTURES)
    if kind is None:
        return _no_picture(data)
    if kind == "a HEIC" and "HEIF" not in Image.OPEN and isinstance(error, UnidentifiedImageError):
        return "HEIC pictures need the extra 'heic'. Install it with: pip install 'fanfold[heic]'"
    if kind == "a JPEG" and (known := _unsupported_jpeg(data)):
        return known
    if (claimed := _claimed(data, kind)) > len(data):
        return f"{kind} that is cut off: {len(data):,} bytes of {claimed:,} or more"
    return f"{kind} that cannot be decoded: {_words(error)}"


def of_nothing(data: bytes) -> str:
    """The message for a damaged picture without any decoded pixels."""
    kind = kind_of(data)
    known = _unsupported_jpeg(data) if kind == "a JPEG" else None
    return known or f"{kind} that is damaged or cut off: none of the pixels to embed could be decoded"


def kind_of(data: bytes) -> str:
    """The format that the first bytes name."""
    return _named(data, _PICTURES) or "a picture"


def _named(data: bytes, kinds: tuple[_Kind, ...]) -> str | None:
    return next((kind.name for kind in kinds if data.startswith(kind.starts, kind.at)), None)


def _claimed(data: bytes, kind: str) -> int:
    """The smallest size in bytes that the file's own header allows; 0 if the header does not have it."""
    try:
        if kind == "a WebP":
            return webp.claimed(data)
        if kind == "a TIFF":
            order: Literal["little", "big"] = "little" if data.startswith(b"I") else "big"
            big = 43 in data[2:4]
            return int.from_bytes(data[8:16] if big else data[4:8], order) + 2
        if kind in ("a JPEG 2000", "an AVIF", "a HEIC"):
            found = takewhile(lambda box: _BOX.fullmatch(box[0]), boxes(data, 0, len(data)))
            return max((end for _, _, end in found), default=0)
    except struct.error:
        return 0
    return 0


def _unsupported_jpeg(data: bytes) -> str | None:
    """A message for a JPEG whose header shows that nothing here can decode it."""
    frame = jpeg.frame_of(data)
    if frame is None:
        return "a JPEG with a damaged or incomplete header: the size of the picture is missing"
    if frame.marker in _PROCESSES:
        return f"{_PROCESSES[frame.marker]}, which cannot be decoded"
    if frame.bits != 8:
        return f"a JPEG of {frame.bits} bits per channel, which cannot be decoded"
    if not frame.width or not frame.height:
        return f"a JPEG with a damaged header: its size is {frame.width} x {frame.height} pixels"
    if len(frame.sampling) not in (1, 3, 4):
        return f"a JPEG of {len(frame.sampling)} channels, which cannot be decoded"
    return None


def _no_picture(data: bytes) -> str:
    if name := _named(data, _OTHERS):
        return f"not a picture that fanfold can decode: the file is {name}"
    if not data.strip(b"\0"):
        return "not a picture: every byte is zero"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "not a picture of pixels: the file is a drawing (SVG)"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "not a picture: the file is a web page (HTML)"
    if start.startswith(b"<?xml"):
        return "not a picture: the file is XML"
    if _is_text(start):
        what = "probably JSON" if start.startswith((b"{", b"[")) else f"and starts with {data[:16]!r}"
        return f"not a picture: the file is text, {what}"
    return f"not a picture: the file starts with {data[:8]!r}"


def _is_text(start: bytes) -> bool:
    try:
        text = start[:512].decode("utf-8", "strict" if len(start) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)


def _words(error: Exception) -> str:
    """A library's message, without details for programmers."""
    if isinstance(error, UnidentifiedImageError):
        return "its header is damaged or of an unknown kind"
    if isinstance(error, MemoryError):
        return "there was not enough memory"
    message = " ".join(_ADDRESS.sub("", str(error)).split()).rstrip(".")
    if not message or isinstance(error, _PARSER_BUGS) or message.startswith(("invalid literal", "b'")):
        return "its header is damaged"
    return next((plain for start, plain in _PLAIN.items() if message.startswith(start)), message)
