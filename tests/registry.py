"""Writes registry hives that any reader accepts: keys and values in one block of cells. And their transaction logs.

Format: libyal's "Windows NT Registry File (REGF) format"; of the logs, "Windows registry file format specification".
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from event_logs import EPOCH

BLOCK = 4096
TEXT, BINARY, NUMBER, LIST = 1, 3, 4, 7
NONE = 0xFFFFFFFF
SECTOR = 512
PIECE = 16344
SEED = 0x82EF4D887A4E55C5
CHANGES = struct.Struct("<4sLLLLL")


@dataclass
class Key:
    """A key: values by their names, and keys below it."""

    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, "Key"] = field(default_factory=dict)
    written: datetime | None = None

    def at(self, path: str) -> "Key":
        """A key below this one, which is made if it is not there."""
        key = self
        for name in path.split("\\"):
            key = key.keys.setdefault(name, Key())
        return key


def hive(
    keys: Mapping[str, Mapping[str, Any]],
    *,
    dirty: bool = False,
    written: Mapping[str, datetime] | None = None,
    sequence: int = 2,
) -> bytes:
    """A hive of these keys, by their paths; each has values that are texts, numbers, lists of texts or bytes.

    A value may also be its type and its bytes. `written`: when some of the keys were.
    """
    root = Key()
    for path, values in keys.items():
        root.at(path).values |= values
    for path, time in (written or {}).items():
        root.at(path).written = time
    cells = _Cells()
    start = cells.key("ROOT", root, True)
    size = -(-(32 + len(cells.data)) // BLOCK) * BLOCK
    free = size - 32 - len(cells.data)
    body = struct.pack("<4sLL20x", b"hbin", 0, size) + cells.data + (struct.pack("<l", free) if free else b"")
    head = bytearray(BLOCK)
    struct.pack_into("<4sLLQLLLLLLL", head, 0, b"regf", sequence + dirty, sequence, 7, 1, 5, 0, 1, start, size, 1)
    return _summed(bytes(head)) + body.ljust(size, b"\0")


def _summed(head: bytes) -> bytes:
    """A base block with its checksum."""
    checksum = 0
    for (word,) in struct.iter_unpack("<L", head[:508]):
        checksum ^= word
    return head[:508] + struct.pack("<L", checksum) + head[512:]


def _base_of_log(hive: bytes, kind: int) -> bytes:
    return _summed(hive[:28] + struct.pack("<L", kind) + hive[32:SECTOR])


def _changed(before: bytes, after: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """The pages of the second hive that differ from the first one's."""
    for at in range(BLOCK, len(after), step):
        if before[at : at + step] != after[at : at + step]:
            yield at - BLOCK, after[at : at + step]


def log_of(hives: Sequence[bytes], sequence: int = 2) -> bytes:
    """A transaction log of Windows 8.1 and later that leads from the first of some hives to the last."""
    entries = [
        entry(sequence + number, len(after) - BLOCK, [*_changed(before, after, BLOCK)])
        for number, (before, after) in enumerate(pairwise(hives))
    ]
    return _base_of_log(hives[0], 6) + b"".join(entries)


def entry(sequence: int, bins: int, pages: Sequence[tuple[int, bytes]]) -> bytes:
    """Changes that are made together: where each page lies, and what is in it."""
    body = b"".join(struct.pack("<LL", at, len(page)) for at, page in pages) + b"".join(page for _, page in pages)
    size = -(-(40 + len(body)) // SECTOR) * SECTOR
    body = body.ljust(size - 40, b"\0")
    head = CHANGES.pack(b"HvLE", size, 0, sequence, bins, len(pages)) + struct.pack("<Q", marvin32(body))
    return head + struct.pack("<Q", marvin32(head)) + body


def old_log_of(before: bytes, after: bytes) -> bytes:
    """A transaction log of Windows before 8.1."""
    pages = dict(_changed(before, after, SECTOR))
    marks = bytearray(-(-(len(after) - BLOCK) // SECTOR // 8))
    for at in pages:
        marks[at // SECTOR // 8] |= 1 << at // SECTOR % 8
    head = _base_of_log(after[:4] + before[4:40] + after[40:], 1)
    return head + (b"DIRT" + marks).ljust(SECTOR, b"\0") + b"".join(pages.values())


def marvin32(data: bytes, seed: int = SEED) -> int:
    """The checksum Marvin32, as Microsoft published it with .NET."""
    high, low = divmod(seed, 1 << 32)
    padded = data + b"\x80"
    padded = padded.ljust(-(-len(padded) // 4) * 4 + 4, b"\0")
    for (word,) in struct.iter_unpack("<L", padded):
        low = (low + word) % (1 << 32)
        high ^= low
        low = (_turned(low, 20) + high) % (1 << 32)
        high = _turned(high, 9) ^ low
        low = (_turned(low, 27) + high) % (1 << 32)
        high = _turned(high, 19)
    return high << 32 | low


def _turned(word: int, by: int) -> int:
    return (word << by) % (1 << 32) | word >> 32 - by


def filetime(time: datetime) -> bytes:
    """A time as the registry has it."""
    return struct.pack("<Q", int((time - EPOCH).total_seconds() * 10_000_000))


class _Cells:
    """Cells, one behind the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, content: bytes) -> int:
        """Add a cell. Returns its offset, from the start of the block."""
        size = -(-(4 + len(content)) // 8) * 8
        offset = 32 + len(self.data)
        self.data += struct.pack("<l", -size) + content.ljust(size - 4, b"\0")
        return offset

    def key(self, name: str, key: Key, is_root: bool = False) -> int:
        """Add a key, before all that it names: readers take the first cell for the root."""
        coded = name.encode("latin-1")
        offset = self.add(bytes(76 + len(coded)))
        values = [self.value(*value) for value in key.values.items()]
        value_list = self.add(struct.pack(f"<{len(values)}L", *values)) if values else NONE
        below = [(one, self.key(one, other)) for one, other in sorted(key.keys.items())]
        entries = b"".join(struct.pack("<L4s", at, one.encode()[:4]) for one, at in below)
        key_list = self.add(struct.pack("<2sH", b"lf", len(below)) + entries) if below else NONE
        head = struct.pack(
            "<2sHQLLLLLLLLLLLLLLLHH", b"nk", 0x2C if is_root else 0x20,
            int.from_bytes(filetime(key.written), "little") if key.written else 0, 0, 0, len(below), 0, key_list, NONE,
            len(values), value_list, NONE, NONE, 0, 0, 0, 0, 0, len(coded), 0,
        )  # fmt: skip
        self.data[offset - 28 : offset - 28 + len(head + coded)] = head + coded
        return offset

    def value(self, name: str, value: Any) -> int:
        """Add a value."""
        coded = name.encode("latin-1")
        if isinstance(value, int):
            size, place, kind = 4 | 1 << 31, value, NUMBER
        else:
            kind, raw = _coded(value)
            size, place = len(raw), self.data_of(raw) if raw else NONE
        head = struct.pack("<2sHLLLHH", b"vk", len(coded), size, place, kind, 1 if coded else 0, 0)
        return self.add(head + coded)

    def data_of(self, raw: bytes) -> int:
        """Add the data of a value; a large one in parts."""
        if len(raw) <= PIECE:
            return self.add(raw)
        parts = [self.add(raw[at : at + PIECE]) for at in range(0, len(raw), PIECE)]
        return self.add(struct.pack("<2sHL", b"db", len(parts), self.add(struct.pack(f"<{len(parts)}L", *parts))))


def _coded(value: Any) -> tuple[int, bytes]:
    """The type of a value, and its bytes."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, str):
        return TEXT, value.encode("utf-16-le") + b"\0\0"
    if isinstance(value, list):
        return LIST, "".join(f"{text}\0" for text in [*value, ""]).encode("utf-16-le")
    return BINARY, bytes(value)
