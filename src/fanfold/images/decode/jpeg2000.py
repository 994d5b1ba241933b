"""JPEG 2000: how large its tiles are, each of which is decoded by itself.

https://www.itu.int/rec/T-REC-T.800, A.5.1: the marker SIZ begins every codestream.
"""

import struct

_START = b"\xff\x4f\xff\x51"


def tile_of(data: bytes) -> int:
    """Pixels of a tile; 0 if the header does not say."""
    at = data.find(_START)
    try:
        across, down = struct.unpack_from(">II", data, at + 24) if at >= 0 else (0, 0)
    except struct.error:
        return 0
    return int(across * down)
