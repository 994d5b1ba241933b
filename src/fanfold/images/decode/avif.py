"""The crop of an AVIF, which Pillow ignores.

A file is boxes within boxes: length, kind, content (ISO/IEC 14496-12, 4.2). The box `ipma` lists a picture's
properties by their number in `ipco`; the property `clap` is the crop (23008-12, 6.5.7 to 6.5.9; 14496-12, 12.1.4).
"""

import struct
from collections.abc import Iterator
from fractions import Fraction

Crop = tuple[int, int, int, int]  # left, top, right, bottom


def crop_of(data: bytes, size: tuple[int, int]) -> Crop | None:
    """The part to show of a picture of this size, in pixels; None for all of it, or if the crop makes no sense."""
    try:
        clap = _clap(data)
        return _rectangle(clap, size) if clap else None
    except (struct.error, IndexError, ZeroDivisionError, KeyError):  # damaged: libavif shows such a picture whole, too
        return None


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box in a part of the file, and where its content starts and ends.

    The end of the last box is as its length says, and may be behind the part's.
    """
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:
            head, (length,) = 16, struct.unpack_from(">Q", data, start + 8)
        stop = start + length if length else end
        if stop < start + head:
            return
        yield kind, start + head, stop
        start = stop


def _clap(data: bytes) -> bytes | None:
    top = {kind: (start, end) for kind, start, end in boxes(data, 0, len(data))}
    start, end = top[b"meta"]
    meta = {kind: (start, end) for kind, start, end in boxes(data, start + 4, end)}  # after version and flags
    inner = list(boxes(data, *meta[b"iprp"]))
    properties = [found for kind, *span in inner if kind == b"ipco" for found in boxes(data, *span)]
    primary = _primary(data, meta[b"pitm"][0])
    for kind, start, _ in inner:
        if kind == b"ipma":
            for number in _associated(data, start, primary):
                name, begin, stop = properties[number - 1]
                if name == b"clap" and number:
                    return data[begin:stop]
    return None


def _primary(data: bytes, start: int) -> int:
    form = ">H" if data[start] == 0 else ">I"
    return int(struct.unpack_from(form, data, start + 4)[0])


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """The numbers of an item's properties, from 1."""
    version, wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(entries):
        (found,) = struct.unpack_from(">H" if version == 0 else ">I", data, at)
        at += 2 if version == 0 else 4
        count = data[at]
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, at + 1)
        at += 1 + count * (2 if wide else 1)
        if found == item:
            return [number & (0x7FFF if wide else 0x7F) for number in numbers]  # the high bit: essential
    return []


def _rectangle(clap: bytes, size: tuple[int, int]) -> Crop | None:
    """The crop in whole pixels: its offset is the distance of its middle from the picture's."""
    numbers = struct.unpack_from(">IIIIiIiI", clap)
    width, height, x, y = (Fraction(*numbers[at : at + 2]) for at in range(0, 8, 2))
    left, top = (size[0] - width) / 2 + x, (size[1] - height) / 2 + y
    if min(left, top) < 0 or left + width > size[0] or top + height > size[1] or min(width, height) < 1:
        return None
    return round(left), round(top), round(left + width), round(top + height)
