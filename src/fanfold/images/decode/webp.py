"""WebPs: the chunks that are pixels, and what is missing of a file that broke off.

https://developers.google.com/speed/webp/docs/riff_container
"""

_LEAST, _MOST = 12, 1 << 28
_PIXELS = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")


def broke_off(data: bytes) -> bool:
    """Whether the file is shorter than it says."""
    return len(data) < _claimed(data)


def filled(data: bytes) -> bytes:
    """The file at its full length, with zeros for what is missing.

    libwebp decodes nothing of a shorter one. Of zeros it makes smooth surfaces, behind all the pixels there are.
    """
    return data + bytes(max(0, min(_claimed(data), _MOST) - len(data)))


def bare(data: bytes) -> bytes:
    """A WebP without profile, EXIF, XMP, and whatever else are no pixels."""
    kept, at = [], 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] in _PIXELS:
            kept.append(data[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    body = b"WEBP" + b"".join(kept)
    if body[4:8] == b"VP8X" and len(body) > 12:
        body = body[:12] + bytes([body[12] & 0x12]) + body[13:]  # of its flags, those of alpha and animation
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _claimed(data: bytes) -> int:
    return 8 + int.from_bytes(data[4:8], "little") if len(data) >= _LEAST else 0
