"""What the libraries that read file systems, virtual disks and shadow copies have in common.

They read a file that is given to them, and raise OSError for everything, or RuntimeError.
"""

from collections.abc import Callable, Iterator
from io import RawIOBase
from typing import Any, Protocol

from fanfold.evidence.disk.medium import SegmentFile, Unreadable


class Given(Protocol):
    """A file that was given to a library."""

    failed: OSError | KeyboardInterrupt | None
    """What reading it has raised last: the library replaces it by an error of its own."""


class Reader(RawIOBase):
    """A file for libraries that read files of Python."""

    def __init__(self, file: SegmentFile) -> None:
        super().__init__()
        self.file, self.at = file, 0
        self.failed: OSError | KeyboardInterrupt | None = None

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
        self.at = max(0, offset + (0, self.at, self.file.size)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer at the end only."""
        left = max(0, self.file.size - self.at)
        try:
            data = self.file.read(self.at, left if size < 0 else min(size, left))
        except (OSError, KeyboardInterrupt) as error:
            self.failed = error
            raise
        self.at += len(data)
        return data

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """The next bytes, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def get_size(self) -> int:
        """Bytes, for libyal's libraries."""
        return self.file.size


def asked(ask: Callable[[], Any], file: Given, what: str = "") -> Any:
    """What a library answers about a file. Raises Unreadable, and OSError if the file itself could not be read.

    `what`: begins the message of Unreadable.
    """
    file.failed = None
    try:
        return ask()
    except (OSError, RuntimeError) as error:
        if file.failed:
            raise file.failed from error
        raise Unreadable(f"{what}{one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The message of a library in one line that is not too long."""
    return " ".join(str(error).split())[:200]


def blocks(offset: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """The blocks of a size between two places: where each begins, and its length. The first and the last may be cut."""
    while offset < stop:
        length = min(size - offset % size, stop - offset)
        yield offset, length
        offset += length
