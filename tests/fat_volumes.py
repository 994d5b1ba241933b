"""Writes FAT16 and exFAT volumes, as sticks have them: files in folders, deleted ones too.

Formats: Microsoft's "FAT: General Overview of On-Disk Format" 1.03, and its "exFAT file system specification".
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

SECTOR = 512
CLUSTER = 512
_COUNT = 6000  # clusters: fewer than 4,085 would be FAT12
_ROOT_ENTRIES = 512


@dataclass
class Entry:
    """A file, or a folder if it has no content."""

    name: str
    content: bytes | None = None
    below: "list[Entry]" = field(default_factory=list)
    is_deleted: bool = False
    same_as: "Entry | None" = None
    """A folder whose clusters this one has, too, as in a circle."""
    cluster: int = 0
    """Its first cluster, once it is written."""


@dataclass
class _Heap:
    """The clusters of a volume, taken one behind the other."""

    data: bytearray = field(default_factory=lambda: bytearray(_COUNT * CLUSTER))
    following: dict[int, int] = field(default_factory=dict)
    free: int = 2

    def add(self, content: bytes, last: int) -> int:
        """Store a content; returns its first cluster. `last` marks the end of its chain."""
        first, count = self.free, max(1, -(-len(content) // CLUSTER))
        self.free += count
        assert self.free < _COUNT, "the volume is full"
        for cluster in range(first, first + count):
            self.following[cluster] = cluster + 1 if cluster + 1 < first + count else last
        self.data[(first - 2) * CLUSTER : (first - 2) * CLUSTER + len(content)] = content
        return first

    def put(self, cluster: int, content: bytes) -> None:
        """Overwrite a cluster."""
        assert len(content) <= CLUSTER * 16, "a folder is too large"
        self.data[(cluster - 2) * CLUSTER : (cluster - 2) * CLUSTER + len(content)] = content


_FOLDER = 16 * CLUSTER


def fat16(entries: list[Entry]) -> bytes:
    """A FAT16 volume with these files and folders."""
    heap = _Heap()
    root = b"".join(_fat_set(heap, entry, number, 0) for number, entry in enumerate(entries))
    table = bytearray(-(-2 * (_COUNT + 2) // SECTOR) * SECTOR)
    struct.pack_into("<HH", table, 0, 0xFFF8, 0xFFFF)
    for cluster, after in heap.following.items():
        struct.pack_into("<H", table, 2 * cluster, after)
    sectors = 1 + 2 * len(table) // SECTOR + _ROOT_ENTRIES * 32 // SECTOR + _COUNT
    boot = bytearray(SECTOR)
    struct.pack_into("<3s8sHBHBHHBHHHLL", boot, 0, b"\xeb\x3c\x90", b"MSDOS5.0", SECTOR, CLUSTER // SECTOR, 1, 2,
                     _ROOT_ENTRIES, sectors, 0xF8, len(table) // SECTOR, 63, 255, 0, 0)  # fmt: skip
    struct.pack_into("<BBBL11s8s", boot, 36, 0x80, 0, 0x29, 7, b"STICK      ", b"FAT16   ")
    boot[510:512] = b"\x55\xaa"
    return bytes(boot + table + table) + root.ljust(_ROOT_ENTRIES * 32, b"\0") + bytes(heap.data)


def _fat_set(heap: _Heap, entry: Entry, number: int, above: int) -> bytes:
    """The entries of a file in its folder: those of its long name, then the short one."""
    size = 0
    if entry.same_as:
        entry.cluster = entry.same_as.cluster
    elif entry.content is None:
        entry.cluster = heap.add(bytes(_FOLDER), 0xFFFF)
        dots = _short(b".          ", 0x10, entry.cluster, 0) + _short(b"..         ", 0x10, above, 0)
        inside = [_fat_set(heap, one, at, entry.cluster) for at, one in enumerate(entry.below)]
        heap.put(entry.cluster, dots + b"".join(inside))
    else:
        entry.cluster, size = heap.add(entry.content, 0xFFFF), len(entry.content)
    if entry.is_deleted and entry.content:
        for cluster in range(entry.cluster, entry.cluster - (-size // CLUSTER)):
            heap.following[cluster] = 0
    short = f"F{number:<7}EVT".encode() if entry.content is not None else f"D{number:<10}".encode()
    raw = bytearray(_long(entry.name, short))
    raw += _short(short, 0x20 if entry.content is not None else 0x10, entry.cluster, size)
    if entry.is_deleted:
        for at in range(0, len(raw), 32):
            raw[at] = 0xE5
    return bytes(raw)


def _short(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    return struct.pack("<11sBBBHHHHHHHL", name, attributes, 0, 0, 0, 0x52B7, 0x52B7, 0, 0, 0x52B7, cluster, size)


def _long(name: str, short: bytes) -> Iterator[int]:
    """The entries of a long name, the last part first."""
    code = 0
    for byte in short:
        code = (((code & 1) << 7) + (code >> 1) + byte) & 0xFF
    raw = name.encode("utf-16-le")
    parts = [raw[at : at + 26] for at in range(0, len(raw), 26)]
    for number in range(len(parts), 0, -1):
        part = parts[number - 1]
        part = part if len(part) == 26 else (part + b"\0\0").ljust(26, b"\xff")
        order = number | (0x40 if number == len(parts) else 0)
        yield from struct.pack("<B10sBBB12sH4s", order, part[:10], 0x0F, 0, code, part[10:22], 0, part[22:])


def exfat(entries: list[Entry]) -> bytes:
    """An exFAT volume with these files and folders."""
    heap = _Heap()
    used = heap.add(bytes(-(-_COUNT // 8)), 0xFFFFFFFF)
    upper = b"".join(struct.pack("<H", ord(chr(code).upper())) for code in range(128))
    table_of_letters = heap.add(upper, 0xFFFFFFFF)
    root = heap.add(bytes(_FOLDER), 0xFFFFFFFF)
    bitmap = struct.pack("<BB18xLQ", 0x81, 0, used, -(-_COUNT // 8))
    letters = struct.pack("<B3xL12xLQ", 0x82, 0, table_of_letters, len(upper))
    label = struct.pack("<BB22s8x", 0x83, 5, "STICK".encode("utf-16-le"))
    heap.put(root, label + bitmap + letters + b"".join(_exfat_set(heap, entry) for entry in entries))
    bits = bytearray(-(-_COUNT // 8))
    for cluster in heap.following:
        bits[(cluster - 2) // 8] |= 1 << (cluster - 2) % 8
    for entry in _every(entries):
        if entry.is_deleted and entry.content:
            for cluster in range(entry.cluster, entry.cluster - (-len(entry.content) // CLUSTER)):
                bits[(cluster - 2) // 8] &= ~(1 << (cluster - 2) % 8)
    heap.put(used, bits)
    table = bytearray(-(-4 * (_COUNT + 2) // SECTOR) * SECTOR)
    struct.pack_into("<LL", table, 0, 0xFFFFFFF8, 0xFFFFFFFF)
    for cluster, after in heap.following.items():
        struct.pack_into("<L", table, 4 * cluster, after)
    begin = 24 + len(table) // SECTOR
    boot = bytearray(24 * SECTOR)
    struct.pack_into("<3s8s53xQQLLLLLLHHBBBBB", boot, 0, b"\xeb\x76\x90", b"EXFAT   ", 0, begin + _COUNT, 24,
                     len(table) // SECTOR, begin, _COUNT, root, 7, 0x100, 0, 9, 0, 1, 0x80, 50)  # fmt: skip
    boot[510:512] = b"\x55\xaa"
    return bytes(boot + table) + bytes(heap.data)


def _every(entries: list[Entry]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        yield from _every(entry.below)


def _exfat_set(heap: _Heap, entry: Entry) -> bytes:
    """The entries of a file in its folder: times, place and name."""
    size = len(entry.content) if entry.content is not None else _FOLDER
    if entry.same_as:
        entry.cluster = entry.same_as.cluster
    elif entry.content is None:
        entry.cluster = heap.add(bytes(_FOLDER), 0xFFFFFFFF)
        heap.put(entry.cluster, b"".join(_exfat_set(heap, one) for one in entry.below))
    else:
        entry.cluster = heap.add(entry.content, 0xFFFFFFFF)
    raw = entry.name.encode("utf-16-le")
    names = [struct.pack("<BB30s", 0xC1, 0, raw[at : at + 30]) for at in range(0, len(raw), 30)]
    attributes = 0x20 if entry.content is not None else 0x10
    head = struct.pack("<BBHHHLLL12x", 0x85, 1 + len(names), 0, attributes, 0, *[0x52B70000] * 3)
    stream = struct.pack("<BBBBHHQLLQ", 0xC0, 1, 0, len(entry.name), 0, 0, size, 0, entry.cluster, size)
    found = bytearray(b"".join([head, stream, *names]))
    code = 0
    for at, byte in enumerate(found):
        if at not in (2, 3):
            code = (((code & 1) << 15) + (code >> 1) + byte) & 0xFFFF
    struct.pack_into("<H", found, 2, code)
    if entry.is_deleted:
        for at in range(0, len(found), 32):
            found[at] &= 0x7F
    return bytes(found)
