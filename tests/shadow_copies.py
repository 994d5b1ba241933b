"""Writes shadow copies: an NTFS volume with a catalog of its older states, of which only changed blocks are kept.

What Windows keeps in files below System Volume Information lies behind the file system here, in the same partition.

Format: libyal's "Volume Shadow Snapshot (VSS) format".
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

BLOCK = 16384
IDENTIFIER = UUID("3808876b-c176-4e48-b7ae-04046e6cc752").bytes_le
HEADER = 0x1E00
"""Where the header lies in the volume."""
FIRST = datetime(2021, 5, 20, 10, tzinfo=UTC)
_ENTRIES = BLOCK // 128 - 1  # of a block of the catalog
_HEAD, _VOLUME, _CATALOG, _LIST, _STORE, _RANGES, _BITMAP = 128, 1, 2, 3, 4, 5, 6


def created(number: int) -> datetime:
    """When a shadow copy was made: one a day, from the first on."""
    return FIRST + timedelta(days=number - 1)


def with_copies(volume: bytes, *copies: bytes, per_block: int = _ENTRIES) -> bytes:
    """A volume with shadow copies: its older states, each of the volume's length, the oldest first.

    `per_block`: entries of a block of the catalog.
    """
    states = [*copies, volume]
    disk = bytearray(volume) + bytes(-len(volume) % BLOCK)
    stores = [_store(disk, *states[number : number + 2], len(volume)) for number in range(len(copies))]
    entries = [entry for number, at in enumerate(stores, 1) for entry in _entries(number, at, len(volume))]
    catalog = len(disk)
    parts = [entries[at : at + per_block] for at in range(0, len(entries), per_block)]
    for number, some in enumerate(parts):
        following = catalog + (number + 1) * BLOCK if number + 1 < len(parts) else 0
        disk += _block(_CATALOG, number * BLOCK, catalog + number * BLOCK, following, b"".join(some))
    header = struct.pack("<16sLL5Q", IDENTIFIER, 1, _VOLUME, HEADER, HEADER, 0, catalog, 0)
    disk[HEADER : HEADER + len(header)] = header
    return bytes(disk)


def _store(disk: bytearray, before: bytes, after: bytes, size: int) -> tuple[int, int, int, int]:
    """Add what a shadow copy needs to become one state out of the next. Returns where its parts lie."""
    start = len(disk)
    changed = [at for at in range(0, size, BLOCK) if before[at : at + BLOCK] != after[at : at + BLOCK]]
    lists = max(1, -(-len(changed) * 32 // (BLOCK - _HEAD)))
    bitmaps = -(-size // BLOCK // 8 // (BLOCK - _HEAD))
    header, listed = start, start + BLOCK
    ranges = listed + lists * BLOCK
    bitmap = ranges + BLOCK
    data = bitmap + bitmaps * BLOCK
    places = range(data, data + len(changed) * BLOCK, BLOCK)
    about = IDENTIFIER * 3 + struct.pack("<LLLL", 9, 1, 0x420009, 0) + _text("HOST") * 2
    disk += _block(_STORE, 0, header, 0, about, len(about))
    blocks = [struct.pack("<QQQLL", at, to - start, to, 0, 0) for at, to in zip(changed, places, strict=True)]
    disk += b"".join(_chain(_LIST, start, listed, lists, b"".join(blocks)))
    disk += _block(_RANGES, ranges - start, ranges, 0, struct.pack("<QQQ", start, 0, data - start))
    disk += b"".join(_chain(_BITMAP, start, bitmap, bitmaps, b""))
    disk += b"".join(before[at : at + BLOCK].ljust(BLOCK, b"\0") for at in changed)
    return header, listed, ranges, bitmap


def _chain(kind: int, start: int, at: int, count: int, content: bytes) -> Iterator[bytes]:
    """Content in blocks, each of which names the next."""
    room = BLOCK - _HEAD
    for number in range(count):
        here = at + number * BLOCK
        following = here + BLOCK if number + 1 < count else 0
        yield _block(kind, here - start, here, following, content[number * room : (number + 1) * room])


def _block(kind: int, relative: int, at: int, following: int, content: bytes, size: int = 0) -> bytes:
    head = struct.pack("<16sLL4Q", IDENTIFIER, 1, kind, relative, at, following, size)
    return (head.ljust(_HEAD, b"\0") + content).ljust(BLOCK, b"\0")


def _text(text: str) -> bytes:
    return struct.pack("<H", 2 * len(text)) + text.encode("utf-16-le")


def _entries(number: int, store: Sequence[int], size: int) -> Iterator[bytes]:
    """The two entries of a shadow copy in the catalog."""
    header, listed, ranges, bitmap = store
    own = UUID(int=number).bytes_le
    filetime = (created(number) - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10
    yield struct.pack("<QQ16sQQQ", 2, size, own, number, 0x40, filetime).ljust(128, b"\0")
    yield struct.pack("<QQ16sQQQQQQ", 3, listed, own, header, ranges, bitmap, 0, size, 0).ljust(128, b"\0")
