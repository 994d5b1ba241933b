"""Shadow copies: what an NTFS volume held at earlier times. Windows keeps them on the volume itself.

    header at 0x1e00 ──▶ catalog ──▶ the copies, and when they were made       `catalog`: always
                            └──▶ the list of each copy's blocks ──▶ blocks      `Copies`: by libvshadow

A copy keeps the blocks that have changed since it was made, as they were before. What it does not keep is as the next
newer copy has it, and for the newest as the volume has it.

The library is LGPL, so it is an extra of its own; without it the copies are known, but cannot be read.

Format: libyal's "Volume Shadow Snapshot (VSS) format".
"""

import importlib
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from fanfold.evidence.disk.library import Reader, asked, blocks
from fanfold.evidence.disk.medium import Medium, SegmentFile, Unchecked, Unreadable
from fanfold.evidence.disk.ntfs import Extent
from fanfold.evidence.eventlog.coverage import merged
from fanfold.evidence.times import moment

INSTALL = "pip install 'fanfold[evidence-vss]'"
BLOCK = 16384
"""Bytes that are kept at once."""
_IDENTIFIER = UUID("3808876b-c176-4e48-b7ae-04046e6cc752").bytes_le
_HEADER = 0x1E00
_CATALOG, _LIST = 2, 3  # types of blocks
_HEAD = struct.Struct("<16sLL16xQ")  # identifier, version, type, where the next block is
_FIRST = 128  # bytes before the entries of a block
_ENTRY = 128
_LISTED = np.dtype([("at", "<u8"), ("from", "<u8"), ("place", "<u8"), ("flags", "<u4"), ("sectors", "<u4")])
_FORWARDER, _OVERLAY, _UNUSED = 1, 2, 4


class Copy(NamedTuple):
    """A shadow copy, as the catalog has it."""

    number: int
    """1 for the oldest."""
    created: datetime | None
    """None if that is not a time."""
    blocks: int
    """Where the list of its blocks begins: bytes of the volume; 0 if they are not on the volume."""


def not_searched(count: int) -> str:
    """A sentence on shadow copies that were not searched, and what to do."""
    what, them = (f"{count:,} shadow copies were", "them") if count != 1 else ("1 shadow copy was", "it")
    install = "" if is_installed() else f"{INSTALL}, then "
    return f"{what} not searched. To search {them}: {install}scan again with --shadow-copies all."


def is_installed() -> bool:
    """Whether the library is there that reads shadow copies."""
    return find_spec("pyvshadow") is not None


def catalog(medium: Medium, start: int, size: int) -> tuple[list[Copy], str]:
    """The shadow copies of an NTFS volume, the oldest first; and what is wrong with their catalog, empty if nothing.

    `start`, `size`: of the volume, in bytes of the disk.
    """
    head = medium.read_at(start + _HEADER, 56)
    if len(head) < 56 or not head.startswith(_IDENTIFIER):
        return [], ""
    (first,) = struct.unpack_from("<Q", head, 48)
    times: dict[bytes, int] = {}
    lists: dict[bytes, int] = {}
    wrong = ""
    try:
        for block in _chain(medium, start, size, first, _CATALOG):
            for at in range(_FIRST, BLOCK, _ENTRY):
                kind, place, own, *_, created = struct.unpack_from("<QQ16sQQQ", block, at)
                if kind == 2:
                    times[own] = created
                elif kind == 3:
                    lists[own] = place
    except Unreadable as error:
        wrong = str(error)
    numbered = enumerate(sorted(times, key=lambda own: times[own]), 1)
    return [Copy(number, moment(times[own]), lists.get(own, 0)) for number, own in numbered], wrong


def _chain(medium: Medium, start: int, size: int, at: int, kind: int) -> Iterator[bytes]:
    """Blocks that name each other. Raises Unreadable for a chain that leads nowhere or into itself."""
    seen: set[int] = set()
    while at:
        block = medium.read_at(start + at, BLOCK) if at <= size - BLOCK and at not in seen else b""
        if len(block) < BLOCK or not block.startswith(_IDENTIFIER):
            raise Unreadable(f"it goes on at byte {at:,} of the volume, where nothing of it is")
        _, _, found, following = _HEAD.unpack_from(block)
        if found != kind:
            raise Unreadable(f"it goes on at byte {at:,} of the volume, where something else is")
        yield block
        seen.add(at)
        at = following


class Changes:
    """The blocks of a volume that may differ between a shadow copy and the next newer one."""

    def __init__(self, medium: Medium, start: int, size: int, copy: Copy, newer: Copy) -> None:
        """Raises Unreadable if the list of a copy's blocks is damaged."""
        own, others = _listed(medium, start, size, copy), _listed(medium, start, size, newer)
        # A part of a block that was kept later than the rest of it counts for its own copy only, not for older ones.
        parts = others["at"][(others["flags"] & _OVERLAY) != 0]
        moved = own["from"][(own["flags"] & _FORWARDER) != 0]
        every = np.concatenate([own["at"], moved, parts]) // BLOCK
        self.blocks: npt.NDArray[np.int64] = np.unique(every.astype(np.int64))

    def of(self, extents: Sequence[Extent]) -> list[tuple[int, int]]:
        """The bytes of a file that may differ, if it lies in the same place in both: the first and the last of each."""
        found: list[tuple[int, int]] = []
        for extent in extents:
            stop = extent.at + extent.length
            first, behind = np.searchsorted(self.blocks, [extent.at // BLOCK, -(-stop // BLOCK)])
            if extent.is_packed and first < behind:  # it may be a later piece of what was compressed as one
                found.append((0, extent.start + extent.length - 1))
                continue
            moved = extent.start - extent.at
            for block in self.blocks[first:behind].tolist():
                found.append((max(block * BLOCK, extent.at) + moved, min((block + 1) * BLOCK, stop) + moved - 1))
        return merged(found)


def _listed(medium: Medium, start: int, size: int, copy: Copy) -> "npt.NDArray[Any]":
    """The blocks that a copy keeps."""
    room = (BLOCK - _FIRST) // _LISTED.itemsize
    chain = _chain(medium, start, size, copy.blocks, _LIST)
    parts = [np.frombuffer(block, _LISTED, room, _FIRST) for block in chain]
    every: npt.NDArray[Any] = np.concatenate([np.empty(0, _LISTED), *parts])
    is_there = (every["at"] | every["from"] | every["place"]) != 0  # the rest of a block is zeros
    used: npt.NDArray[Any] = every[is_there & ((every["flags"] & _UNUSED) == 0)]
    return used


class _Volume(Reader):
    """A volume as a file for the library."""

    def __init__(self, medium: Medium, start: int, size: int) -> None:
        size = max(0, min(size, medium.size - start))
        super().__init__(SegmentFile("volume", size, lambda at, length: medium.read_at(start + at, length)))
        self.medium, self.start = medium, start
        self.is_damaged = False
        """Whether something that was read is damaged on the disk."""

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        at = self.start + self.at
        data = super().read(size)
        if self.medium.has_damage and self.medium.is_damaged(at, len(data)):
            self.is_damaged = True
        return data


class Copies:
    """The shadow copies of a volume."""

    def __init__(self, medium: Medium, start: int, size: int) -> None:
        """Raises Unreadable if the library cannot read them, and OSError if it is not there, or a file has an error."""
        if not is_installed():  # an OSError, since a later scan may find it
            raise OSError(f"Shadow copies need the extra 'evidence-vss'. Install it with: {INSTALL}")
        self.file = _Volume(medium, start, size)
        self.lock = threading.Lock()
        self._volume = importlib.import_module("pyvshadow").volume()
        self.asked(lambda: self._volume.open_file_object(self.file))

    def __len__(self) -> int:
        return int(self._volume.get_number_of_stores())

    def medium(self, number: int) -> "CopyMedium":
        """The volume as a copy has it. Raises Unreadable, and OSError if the disk image cannot be read."""
        store = self.asked(lambda: self._volume.get_store(number - 1))
        if not self.asked(store.has_in_volume_data):
            raise Unreadable("its blocks are not on this volume")
        self.asked(store.get_number_of_blocks)  # reads the list of its blocks
        return CopyMedium(self, store)

    def asked(self, ask: Callable[[], Any]) -> Any:
        """What the library answers. Raises Unreadable, and OSError if the disk image cannot be read."""
        return asked(ask, self.file)


class CopyMedium(Unchecked):
    """A volume as a shadow copy has it."""

    kind = "shadow copy"

    def __init__(self, copies: Copies, store: Any) -> None:
        super().__init__()
        self._copies, self._store = copies, store
        claimed = int(copies.asked(store.get_volume_size))
        self.end = self.size = min(claimed, copies.file.get_size())

    def read_at(self, offset: int, length: int) -> bytes:
        """See `Medium.read_at`."""
        length = max(0, min(length, self.size - offset))
        with self._copies.lock:
            data, why = self._tried(offset, length)
            if not why:
                return data
            return b"".join(self._part(*block) for block in blocks(offset, offset + length, BLOCK))

    def _part(self, offset: int, length: int) -> bytes:
        """A part within one block."""
        data, why = self._tried(offset, length)
        if why:
            start = offset // BLOCK * BLOCK
            self.note(start, min(BLOCK, self.size - start), self.kind, None, why)
        return data

    def _tried(self, offset: int, length: int) -> tuple[bytes, str]:
        """Bytes, with zeros for what cannot be read; and why some of them are lost, empty if none are."""
        if not length:
            return b"", ""
        self._copies.file.is_damaged = False
        try:
            data = bytes(self._copies.asked(lambda: self._store.read_buffer_at_offset(length, offset)))
        except Unreadable as error:
            return bytes(length), str(error)
        if len(data) < length:
            return data.ljust(length, b"\0"), "it gives fewer bytes than it should"
        return data, "the disk image is damaged there" if self._copies.file.is_damaged else ""
