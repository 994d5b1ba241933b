"""A TIFF from pixels and tags.

https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf, section 2.
"""

import struct
from typing import Any


def made(order: str, pixels: bytes, tags: dict[int, Any]) -> bytes:
    """A TIFF of pixels, which begin at byte 8, and tags; `order` is `<` or `>`."""
    entries = {code: _packed(order, value) for code, value in sorted(tags.items()) if value is not None}
    pixels += b"\0" * (len(pixels) % 2)
    start = 8 + len(pixels)
    directory, values = struct.pack(order + "H", len(entries)), b""
    after = start + 2 + 12 * len(entries) + 4
    for code, (kind, count, packed) in entries.items():
        if len(packed) > 4:
            values, packed = values + packed + b"\0" * (len(packed) % 2), struct.pack(order + "I", after + len(values))
        directory += struct.pack(order + "HHI", code, kind, count) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return b"".join([head, pixels, directory, b"\0" * 4, values])


def _packed(order: str, value: Any) -> tuple[int, int, bytes]:
    """A tag's type (SHORT, LONG or UNDEFINED), count and bytes."""
    if isinstance(value, bytes):
        return 7, len(value), value
    numbers = [int(number) for number in (value if isinstance(value, tuple | list) else [value])]
    kind, letter = (3, "H") if max(numbers) < 1 << 16 else (4, "I")
    return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
