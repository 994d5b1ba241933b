"""Files that were given, opened in ranges or as a disk; and the failures and the times of those who read them."""

import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.medium import Medium, SegmentFile
from fanfold.job import Failure, Item, Opener
from fanfold.storage import path_of

DAMAGED = (ValueError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, RuntimeError)
"""What reading raises for what is damaged: `Unreadable`, which is a ValueError, and what the module `zipfile` raises.

The latter also for archives that are packed in a way that it does not know.
"""

UNREADABLE = "Parts of it are on sectors that cannot be read. Copy it again, or scan an image of its disk."

Thing = TypeVar("Thing")


def segment_file(item: Item, source: Opener) -> SegmentFile:
    """A file, to be read in ranges: an image is never read as a whole."""
    return SegmentFile(
        item.path.rpartition("/")[2],
        item.size,
        lambda offset, length: source.read_at(item, offset, length),
        path_of(source.uri(item)) or "",
    )


def open_disk(files: Sequence[Item], source: Opener) -> Medium:
    """The disk in an image's files. Raises Unreadable, and OSError."""
    return open_medium([segment_file(file, source) for file in files])


def answered(item: Item, answer: Iterable[Thing]) -> Iterator[Thing | Failure]:
    """The answer to an item; what goes wrong ends it with a failure."""
    try:
        yield from answer
    except OSError as error:
        yield Failure.of(item, "read", error)
    except DAMAGED as error:
        yield Failure.of(item, "decode", error)


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
