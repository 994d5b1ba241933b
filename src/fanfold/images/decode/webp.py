"""WebPs: the chunks that are pixels, and what is missing of a file that was cut off.

https://developers.google.com/speed/webp/docs/riff_container
"""

from collections.abc import Iterator

_HEADER = 12
_MOST = 1 << 25  # bytes; a damaged length may claim any number
_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_PICTURES = (b"VP8 ", b"VP8L", b"ANMF")


def claimed(data: bytes) -> int:
    """The file's size in bytes, by its header."""
    return 8 + int.from_bytes(data[4:8], "little") if len(data) >= _HEADER else 0


def filled(data: bytes) -> bytes:
    """The file at its full length, with zeros for the missing part.

    libwebp decodes nothing of a shorter file; it turns the zeros into smooth surfaces.
    A file that claims more than `_MOST` stays shorter, and fails.
    """
    return data.ljust(min(claimed(data), _MOST), b"\0")


def lacks_pixels(data: bytes) -> bool:
    """Whether the file ends before its first picture does, not in a later frame or in metadata."""
    return not any(name in _PICTURES and end <= len(data) for name, _, end in _chunks(data))


def bare(data: bytes) -> bytes:
    """A WebP of complete chunks of pixels alone, without profile, EXIF and XMP."""
    kept = [data[start:end] for name, start, end in _chunks(data) if name in _PIXELS and end <= len(data)]
    body = b"WEBP" + b"".join(kept)
    if body[4:8] == b"VP8X" and len(body) > 12:
        body = body[:12] + bytes([body[12] & 0x12]) + body[13:]  # keep the flags of alpha and animation
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each chunk; the last end may be behind the file's."""
    at = _HEADER
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        yield data[at : at + 4], at, end if end == len(data) else end + length % 2
        at = end + length % 2
