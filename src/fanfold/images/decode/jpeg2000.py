"""JPEG 2000: the size of its tiles, each of which is decoded by itself, and its end.

https://www.itu.int/rec/T-REC-T.800, A.5.1: the marker SIZ begins every codestream; I.5.4: the box that holds it.
"""

import struct

from fanfold.images.decode.avif import boxes

SIGNATURES = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_START = SIGNATURES[1]
_END = b"\xff\xd9"


def tile_of(data: bytes) -> int:
    """Pixels of a tile; 0 if the header does not say."""
    at = data.find(_START)
    try:
        across, down = struct.unpack_from(">II", data, at + 24) if at >= 0 else (0, 0)
    except struct.error:
        return 0
    return int(across * down)


def bare(data: bytes) -> bytes:
    """The file without what follows its pixels, which OpenJPEG takes for damage."""
    stop = next((end for kind, _, end in boxes(data, 0, len(data)) if kind == b"jp2c"), len(data))
    if stop >= len(data) and (end := data.rfind(_END)) >= 0:  # the last box may hold the trailer as well
        stop = end + len(_END)
    return data[:stop]
