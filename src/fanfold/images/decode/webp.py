"""WebPs: the chunks that are pixels, and what is missing of a file that broke off.

https://developers.google.com/speed/webp/docs/riff_container
"""

from collections.abc import Iterator

_LEAST = 12
_MOST = 1 << 25  # bytes; a damaged length may claim as much as it likes
_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
_PICTURES = (b"VP8 ", b"VP8L", b"ANMF")


def broke_off(data: bytes) -> bool:
    """Whether the file is shorter than it says."""
    return len(data) < _claimed(data)


def filled(data: bytes) -> bytes:
    """The file at its full length, with zeros for what is missing.

    libwebp decodes nothing of a shorter one. Of zeros it makes smooth surfaces, behind all the pixels there are. What
    claims to be larger than `_MOST` stays shorter, and fails.
    """
    return data.ljust(min(_claimed(data), _MOST), b"\0")


def lacks_pixels(data: bytes) -> bool:
    """Whether it broke off before the first picture's end; a later frame, EXIF or XMP may be what is missing."""
    return not any(name in _PICTURES and end <= len(data) for name, _, end in _chunks(data))


def bare(data: bytes) -> bytes:
    """A WebP without profile, EXIF, XMP, and whatever else are no pixels, or are not all there."""
    kept = [data[start:end] for name, start, end in _chunks(data) if name in _PIXELS and end <= len(data)]
    body = b"WEBP" + b"".join(kept)
    if body[4:8] == b"VP8X" and len(body) > 12:
        body = body[:12] + bytes([body[12] & 0x12]) + body[13:]  # of its flags, those of alpha and animation
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end, of which the last may be beyond the file's."""
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        yield data[at : at + 4], at, end if end == len(data) else end + length % 2
        at = end + length % 2


def _claimed(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little") if len(data) >= _LEAST else 0
