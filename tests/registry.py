"""Writes registry hives that any reader accepts: keys and values in one block of cells.

Format: libyal's "Windows NT Registry File (REGF) format".
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from event_logs import EPOCH

BLOCK = 4096
TEXT, BINARY, NUMBER = 1, 3, 4
NONE = 0xFFFFFFFF


@dataclass
class Key:
    """A key: values by their names, and keys below it."""

    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, "Key"] = field(default_factory=dict)

    def at(self, path: str) -> "Key":
        """A key below this one, which is made if it is not there."""
        key = self
        for name in path.split("\\"):
            key = key.keys.setdefault(name, Key())
        return key


def hive(keys: Mapping[str, Mapping[str, Any]], *, dirty: bool = False) -> bytes:
    """A hive of these keys, by their paths; each has values that are texts, numbers or bytes."""
    root = Key()
    for path, values in keys.items():
        root.at(path).values |= values
    cells = _Cells()
    start = cells.key("ROOT", root, True)
    size = -(-(32 + len(cells.data)) // BLOCK) * BLOCK
    free = size - 32 - len(cells.data)
    body = struct.pack("<4sLL20x", b"hbin", 0, size) + cells.data + (struct.pack("<l", free) if free else b"")
    head = bytearray(BLOCK)
    struct.pack_into("<4sLLQLLLLLLL", head, 0, b"regf", 2 + dirty, 2, 0, 1, 5, 0, 1, start, size, 1)
    checksum = 0
    for (word,) in struct.iter_unpack("<L", head[:508]):
        checksum ^= word
    struct.pack_into("<L", head, 508, checksum)
    return bytes(head) + body.ljust(size, b"\0")


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
            "<2sHQLLLLLLLLLLLLLLLHH", b"nk", 0x2C if is_root else 0x20, 0, 0, 0, len(below), 0, key_list, NONE,
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
            kind = TEXT if isinstance(value, str) else BINARY
            raw = value.encode("utf-16-le") + b"\0\0" if isinstance(value, str) else bytes(value)
            size, place = len(raw), self.add(raw)
        head = struct.pack("<2sHLLLHH", b"vk", len(coded), size, place, kind, 1 if coded else 0, 0)
        return self.add(head + coded)
