"""Why bytes could not be decoded: what they are, and what is wrong with them."""

import re
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

from PIL import Image, UnidentifiedImageError

from fanfold.images.decode import jpeg

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BOXED = b"\0\0\0\x0cjP  "
_BOX = re.compile(rb"[ -~]{4}")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|<_io\.BytesIO object[^>]*>")


class _Kind(NamedTuple):
    """What files of a kind begin with."""

    name: str
    start: bytes
    at: int = 0


_PICTURES = (
    _Kind("a JPEG", b"\xff\xd8\xff"),
    _Kind("a PNG", b"\x89PNG\r\n\x1a\n"),
    _Kind("a GIF", b"GIF8"),
    _Kind("a WebP", b"WEBP", 8),
    _Kind("a TIFF", b"II*\0"),
    _Kind("a TIFF", b"MM\0*"),
    _Kind("a TIFF", b"II+\0"),
    _Kind("a TIFF", b"MM\0+"),
    _Kind("a JPEG 2000", b"\0\0\0\x0cjP  "),
    _Kind("a JPEG 2000", b"\xff\x4f\xff\x51"),
    _Kind("an AVIF", b"ftypavif", 4),
    _Kind("an AVIF", b"ftypavis", 4),
    *(_Kind("a HEIC", b"ftyp" + brand, 4) for brand in sorted(_HEIF_BRANDS)),
    _Kind("a BMP", b"BM"),
    *(_Kind("a PNM (PBM, PGM or PPM)", b"P" + digit) for digit in (b"1", b"2", b"3", b"4", b"5", b"6")),
)
"""What is decoded."""

_OTHERS = (
    _Kind("a PDF", b"%PDF"),
    _Kind("PostScript", b"%!PS"),
    _Kind("a Photoshop document", b"8BPS"),
    _Kind("a PFM in colour", b"PF\n"),
    _Kind("a JPEG XL picture", b"\xff\x0a"),
    _Kind("a JPEG XL picture", b"\0\0\0\x0cJXL "),
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
    _Kind("a ZIP archive, or a document that is one", b"PK\3\4"),
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
    _Kind("a pointer of Git LFS, not the file", b"version https://git-lfs"),
)
"""What is not, but has a name."""

_PROCESSES = {
    0xC3: "a lossless JPEG",
    0xC7: "a lossless JPEG",
    0xCB: "a lossless JPEG",
    0xCF: "a lossless JPEG",
    0xC5: "a hierarchical JPEG",
    0xC6: "a hierarchical JPEG",
    0xCD: "a hierarchical JPEG",
    0xCE: "a hierarchical JPEG",
}


_STUMBLES = (IndexError, KeyError, TypeError, AttributeError, AssertionError, ArithmeticError, RecursionError)
"""What parsers run into without having looked for it."""

_PLAIN = {
    "Truncated File Read": "it is shorter than it says",
    "image file is truncated": "some of its pixels are missing",
    "decoder error": "its pixels are damaged",
    "broken data stream": "its pixels are damaged",
    "unrecognized data stream": "its pixels are damaged",
    "cannot load this image": "its header is damaged",
}
"""What Pillow says, in words that say what is wrong."""


def of(error: Exception, data: bytes) -> str:
    """What to say of bytes that a library refused with `error`."""
    if not data:
        return "the file is empty"
    kind = _named(data, _PICTURES)
    if kind is None:
        return _no_picture(data)
    if kind == "a HEIC" and "HEIF" not in Image.OPEN and isinstance(error, UnidentifiedImageError):
        return "HEIC pictures need the extra 'heic'. Install it with: pip install 'fanfold[heic]'"
    if kind == "a JPEG":
        return _jpeg(error, data)
    if (claimed := _claimed(data, kind)) > len(data):
        return f"{kind} that is shorter than it says: {len(data):,} bytes of {claimed:,} or more"
    return f"{kind} that cannot be decoded: {_words(error)}"


def of_nothing(data: bytes) -> str:
    """What to say of a damaged picture none of whose pixels were found."""
    kind = kind_of(data)
    known = _jpeg_of_no_use(data) if kind == "a JPEG" else None
    return known or f"{kind} that is damaged, or broke off: none of the pixels to be embedded are there"


def kind_of(data: bytes) -> str:
    """What the bytes begin as."""
    return _named(data, _PICTURES) or "a picture"


def _named(data: bytes, kinds: tuple[_Kind, ...]) -> str | None:
    return next((kind.name for kind in kinds if data.startswith(kind.start, kind.at)), None)


def _claimed(data: bytes, kind: str) -> int:
    """Bytes that the file has at least, by its own account."""
    try:
        if kind == "a WebP":
            return 8 + int.from_bytes(data[4:8], "little")
        if kind == "a TIFF":
            order: Literal["little", "big"] = "little" if data.startswith(b"I") else "big"
            big = 43 in data[2:4]
            return int.from_bytes(data[8:16] if big else data[4:8], order) + 2
        if data.startswith(_BOXED) or data[4:8] == b"ftyp":
            return max((at + length for at, length in _boxes(data)), default=0)
    except struct.error:
        return 0
    return 0


def _boxes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and length of the boxes of an AVIF, HEIC or JPEG 2000, as they claim to be."""
    at = 0
    while at + 16 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        if length < 8 or not _BOX.fullmatch(data, at + 4, at + 8):
            return
        yield at, length
        at += length


def _jpeg(error: Exception, data: bytes) -> str:
    return _jpeg_of_no_use(data) or f"a JPEG that cannot be decoded: {_words(error)}"


def _jpeg_of_no_use(data: bytes) -> str | None:
    """What its header says that nothing here can decode."""
    frame = jpeg.frame_of(data)
    if frame is None:
        return "a JPEG whose header is damaged, or broke off: it does not say how large the picture is"
    if frame.marker in _PROCESSES:
        return f"{_PROCESSES[frame.marker]}, which cannot be decoded"
    if frame.bits != 8:
        return f"a JPEG of {frame.bits} bits a channel, which cannot be decoded"
    if not frame.width or not frame.height:
        return f"a JPEG whose header is damaged: it is {frame.width} x {frame.height} pixels"
    if len(frame.sampling) not in (1, 3, 4):
        return f"a JPEG of {len(frame.sampling)} channels, which cannot be decoded"
    return None


def _no_picture(data: bytes) -> str:
    if name := _named(data, _OTHERS):
        return f"not a picture that can be decoded, but {name}"
    if not data.strip(b"\0"):
        return "not a picture: every byte is zero"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "not a picture of pixels, but a drawing (SVG)"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "not a picture, but a web page (HTML)"
    if start.startswith(b"<?xml"):
        return "not a picture, but XML"
    if start.startswith((b"{", b"[")) and _is_text(start):
        return "not a picture, but text (JSON, perhaps)"
    if _is_text(start):
        return f"not a picture, but text: it starts with {data[:16]!r}"
    return f"not a picture: it starts with {data[:8]!r}"


def _is_text(start: bytes) -> bool:
    try:
        text = start[:512].decode("utf-8", "strict" if len(start) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter.isspace() for letter in text)


def _words(error: Exception) -> str:
    """What a library said, without what only a programmer can use."""
    if isinstance(error, UnidentifiedImageError):
        return "its header is damaged, or it is of a kind that is not known"
    if isinstance(error, MemoryError):
        return "there was not enough memory"
    said = " ".join(_ADDRESS.sub("", str(error)).split()).rstrip(".")
    if not said or isinstance(error, _STUMBLES) or said.startswith(("invalid literal", "b'")):
        return "its header is damaged"
    return next((plain for start, plain in _PLAIN.items() if said.startswith(start)), said)
