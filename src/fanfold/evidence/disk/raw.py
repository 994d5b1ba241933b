"""A raw image as a medium: a copy of the disk's bytes, in one file or in several, one after the other."""

import errno
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from fanfold.evidence.disk.medium import Damage, SegmentFile, joined

_SECTOR = 512
_UNIT = 4096  # bytes that are given up at once when the disk that holds the image cannot be read


class Raw:
    """A raw image."""

    kind = "raw"
    sector = _SECTOR

    def __init__(self, files: Sequence[SegmentFile]) -> None:
        self.files = files
        self.problems: list[str] = []
        self.starts = [0, *accumulate(file.size for file in files)]
        """Where each file begins, and where the last one ends."""
        self.end = self.size = self.starts.pop()
        self._damage: dict[int, Damage] = {}  # by its first byte
        self.about: Mapping[str, str] = {}
        self.stored: Mapping[str, str] = {}
        self.unread: Sequence[tuple[int, int]] = []
        self._lock = threading.Lock()

    @property
    def damage(self) -> list[Damage]:
        """See `Medium.damage`."""
        with self._lock:
            return list(joined(self._damage.values()))

    @property
    def has_damage(self) -> bool:
        """See `Medium.has_damage`."""
        return bool(self._damage)

    def is_damaged(self, offset: int, length: int) -> bool:
        """See `Medium.is_damaged`."""
        with self._lock:
            return any(start < offset + length and offset < start + _UNIT for start in self._damage)

    def read_at(self, offset: int, length: int) -> bytes:
        """See `Medium.read_at`."""
        return b"".join(self._parts(offset, min(self.size, offset + length)))

    def _parts(self, offset: int, stop: int) -> Iterator[bytes]:
        while offset < stop:
            index = bisect_right(self.starts, offset) - 1
            file, start = self.files[index], self.starts[index]
            length = min(stop, start + file.size) - offset
            yield self._read(file, offset - start, length, start)
            offset += length

    def _read(self, file: SegmentFile, offset: int, length: int, start: int) -> bytes:
        """A part of a file. What the disk below cannot give is narrowed down, and read as zeros."""
        try:
            return file.read(offset, length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        if length <= _UNIT:
            damage = Damage((start + offset) // _SECTOR, -(-length // _SECTOR), file.name, offset, "it cannot be read")
            with self._lock:
                self._damage.setdefault(start + offset, damage)
            return bytes(length)
        half = max(_UNIT, length // 2 // _UNIT * _UNIT)
        return self._read(file, offset, half, start) + self._read(file, offset + half, length - half, start)
