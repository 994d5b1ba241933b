"""A raw image as a medium: a copy of the disk's bytes, in one file or in several, one after the other."""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from fanfold.evidence.disk.medium import Medium, SegmentFile, Unchecked

RAW_SUFFIXES = (".dd", ".raw", ".img", ".000", ".001")
"""What the names of raw images end with."""
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


def strides(medium: Medium, length: int) -> Iterator[int]:
    """Where the parts of this length begin that may hold anything but zeros, from the disk's start to its end.

    A sparse file knows where its holes are.
    """
    at = 0
    while at < medium.end and (found := _data_from(medium, at)) < medium.end:
        at = found // length * length
        yield at
        at += length


def _data_from(medium: Medium, at: int) -> int:
    """The first place from `at` on where there may be something: behind the end, if there is none."""
    if not isinstance(medium, Raw):
        return at
    for begin, file in zip(medium.starts, medium.files, strict=True):
        if at < begin + file.size and (found := begin + _data_in(file, max(0, at - begin))) < begin + file.size:
            return found
    return medium.size


def _data_in(file: SegmentFile, at: int) -> int:
    """The first place of a file from `at` on that is not in a hole."""
    if not file.path or not hasattr(os, "SEEK_DATA"):
        return at
    try:
        opened = os.open(file.path, os.O_RDONLY)
        try:
            return os.lseek(opened, at, os.SEEK_DATA)
        finally:
            os.close(opened)
    except OSError as error:  # ENXIO: a hole up to the end; else the file system does not know
        return file.size if error.errno == errno.ENXIO else at
