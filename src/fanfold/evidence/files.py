"""Items as files that are read in ranges (an image is never read as a whole), and the time that reading takes."""

import time
from collections.abc import Iterable, Iterator
from io import RawIOBase
from typing import TypeVar

from fanfold.evidence.disk.medium import SegmentFile
from fanfold.job import Item, Opener
from fanfold.storage import path_of

Thing = TypeVar("Thing")


def timed(things: Iterable[Thing], stage: str, seconds: dict[str, float]) -> Iterator[Thing]:
    """The same things; adds the seconds that it takes to make them to a stage, without what is done with them."""
    stream = iter(things)
    while True:
        started = time.perf_counter()
        try:
            thing = next(stream)
        except StopIteration:
            return
        finally:
            seconds[stage] += time.perf_counter() - started
        yield thing


def segment_file(item: Item, source: Opener) -> SegmentFile:
    """A file of a disk image."""
    return SegmentFile(
        item.path.rpartition("/")[2],
        item.size,
        lambda offset, length: source.read_at(item, offset, length),
        path_of(source.uri(item)) or "",
    )


class Ranges(RawIOBase):
    """An item as a file. Every read checks the item's version, and raises OSError if it has changed."""

    def __init__(self, source: Opener, item: Item, size: int) -> None:
        super().__init__()
        self.source, self.item, self.size, self.at = source, item, size, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place: from the start (0), from here (1) or from the end (2)."""
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer at the end only."""
        left = max(0, self.size - self.at)
        data = self.source.read_at(self.item, self.at, left if size < 0 else min(size, left))
        self.at += len(data)
        return data

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """The next bytes, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
