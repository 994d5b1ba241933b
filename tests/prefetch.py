"""Writes files of Prefetch as Windows 8.1 does: version 26, not compressed; `packed` compresses them.

Format: libyal's "Windows Prefetch File (PF) format".
"""

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from registry import filetime

VERSION = 26
HEAD, ABOUT, METRIC, VOLUME = 84, 220, 32, 104
LONGEST = 29  # characters of a name
RUNS = 8
TABLE = b"\xa1" + bytes([0xAA] * 254) + b"\x9a"  # lengths of the codes of a block, two to a byte


class Volume(NamedTuple):
    """A volume, and the files on it that were loaded."""

    device: str
    serial: int
    made: datetime
    files: Sequence[str]


def prefetch(name: str, runs: Sequence[datetime], volumes: Sequence[Volume], count: int | None = None) -> bytes:
    """A file of Prefetch. `runs`: the last ones, the latest first."""
    paths = [f"{volume.device}{file}" for volume in volumes for file in volume.files]
    names = b"".join(f"{path}\0".encode("utf-16-le") for path in paths)
    metrics_at = HEAD + ABOUT
    chains_at = metrics_at + METRIC * len(paths)
    names_at = chains_at + 12 * len(paths)
    volumes_at = -(-(names_at + len(names)) // 8) * 8
    information = _volumes(volumes)
    times = b"".join(map(filetime, runs[:RUNS])).ljust(8 * RUNS, b"\0")
    about = struct.pack(
        "<9L8x64s16xL", metrics_at, len(paths), chains_at, len(paths), names_at, len(names), volumes_at, len(volumes),
        len(information), times, len(runs) if count is None else count,
    )  # fmt: skip
    body = about.ljust(ABOUT, b"\0") + _metrics(paths) + bytes(12 * len(paths)) + names
    body = body.ljust(volumes_at - HEAD, b"\0") + information
    coded = name[:LONGEST].encode("utf-16-le").ljust(60, b"\0")
    return struct.pack("<L4sLL60sLL", VERSION, b"SCCA", 17, HEAD + len(body), coded, 0x7476F82, 0) + body


def packed(data: bytes) -> bytes:
    """A file as Windows 10 packs it, by Xpress Huffman: here, in a bit for a zero, and ten for any other byte."""
    out = b"MAM\x04" + struct.pack("<L", len(data))
    for at in range(0, len(data), 1 << 16):
        bits = "".join(f"{513 + byte:b}" if byte else "0" for byte in data[at : at + (1 << 16)])
        bits += "0" * (-len(bits) % 16) + "0" * 32
        units = (int(bits[begin : begin + 16], 2) for begin in range(0, len(bits), 16))
        out += TABLE + b"".join(struct.pack("<H", unit) for unit in units)
    return out


def _metrics(paths: Sequence[str]) -> bytes:
    """Where the name of each file is."""
    found, at = b"", 0
    for path in paths:
        found += struct.pack("<5LLQ", 0, 1, 1, at, len(path), 0, 0)
        at += 2 * len(path) + 2
    return found


def _volumes(volumes: Sequence[Volume]) -> bytes:
    """The volumes, then the paths of their devices."""
    head, paths = b"", b""
    for volume in volumes:
        at = VOLUME * len(volumes) + len(paths)
        head += struct.pack("<LL8sL", at, len(volume.device), filetime(volume.made), volume.serial).ljust(VOLUME, b"\0")
        paths += f"{volume.device}\0".encode("utf-16-le")
    return head + paths
