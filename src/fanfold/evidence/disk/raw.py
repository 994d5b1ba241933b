"""A raw image as a medium: a copy of the disk's bytes, in one file or in several, one after the other."""

import errno
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from fanfold.evidence.disk.medium import SegmentFile, Unchecked

_UNIT = 4096  # bytes that are given up at once when the disk that holds the image cannot be read


class Raw(Unchecked):
    """A raw image."""

    kind = "raw"

    def __init__(self, files: Sequence[SegmentFile]) -> None:
        super().__init__()
        self.files = files
        self.starts = [0, *accumulate(file.size for file in files)]
        """Where each file begins, and where the last one ends."""
        self.end = self.size = self.starts.pop()

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
            self.note(start + offset, length, file.name, offset, "it cannot be read")
            return bytes(length)
        half = max(_UNIT, length // 2 // _UNIT * _UNIT)
        return self._read(file, offset, half, start) + self._read(file, offset + half, length - half, start)
