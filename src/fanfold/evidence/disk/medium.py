"""A medium: the bytes of a disk, as an image of it gives them back, and the places where it does not."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import NamedTuple, Protocol


class Unreadable(ValueError):
    """Something given as evidence cannot be read. The message says why, and what to do."""


@dataclass(frozen=True)
class SegmentFile:
    """One of the files that an image consists of."""

    name: str
    size: int
    read: Callable[[int, int], bytes]
    """`read(offset, length)`: fewer bytes at the end of the file only. Raises OSError."""
    path: str = ""
    """Where it lies on this machine; empty if it does not."""


class Damage(NamedTuple):
    """Consecutive sectors whose content is lost. They are read as zeros."""

    first_sector: int
    sectors: int
    segment: str
    """The name of the file that they lie in, or should."""
    offset: int | None
    """Bytes from the start of that file; None if they are in no file."""
    why: str


class Medium(Protocol):
    """The bytes of a disk."""

    kind: str
    """How it is kept: E01 or raw."""
    size: int
    """Bytes."""
    end: int
    """Where what the files hold ends: bytes; what comes after is lost."""
    sector: int
    """Bytes of a sector."""
    problems: list[str]
    """What is missing or wrong, in sentences."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the acquirer wrote down, as it is stored."""

    @property
    def stored(self) -> Mapping[str, str]:
        """The digests of the whole disk that are stored with it: `md5`, `sha1`."""

    @property
    def unread(self) -> Sequence[tuple[int, int]]:
        """Sectors that the acquirer could not read: the first and the number, for each range."""

    @property
    def damage(self) -> list[Damage]:
        """What was found damaged so far, in order; complete once everything was read.

        At most `MOST_DAMAGE` ranges: the last one then reaches to the end of the others.
        """

    @property
    def has_damage(self) -> bool:
        """Whether anything was found damaged so far."""

    def is_damaged(self, offset: int, length: int) -> bool:
        """Whether something in these bytes, which were read, is damaged."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes from `offset` on, fewer at the end only; zeros where the image is damaged.

        Raises OSError if a file cannot be read or has changed. Any thread may call it.
        """


class Unchecked:
    """A medium whose files have no checksums and no digests: what is lost shows only when it is read."""

    sector = 512

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.about: Mapping[str, str] = {}
        self.stored: Mapping[str, str] = {}
        self.unread: Sequence[tuple[int, int]] = []
        self._lost: list[tuple[int, int, Damage]] = []  # ranges of bytes, in order; none touches another of its file
        self._noting = threading.Lock()

    @property
    def damage(self) -> list[Damage]:
        """See `Medium.damage`."""
        with self._noting:
            return shortened(damage for _, _, damage in self._lost)

    @property
    def lost(self) -> list[tuple[int, int]]:
        """What was found lost so far, in order: the first byte of each range, and the one behind its last."""
        with self._noting:
            return [(start, stop) for start, stop, _ in self._lost]

    @property
    def has_damage(self) -> bool:
        """See `Medium.has_damage`."""
        return bool(self._lost)

    def is_damaged(self, offset: int, length: int) -> bool:
        """See `Medium.is_damaged`."""
        with self._noting:
            at = bisect_left(self._lost, offset + length, key=itemgetter(0))
            return at > 0 and self._lost[at - 1][1] > offset

    def note(self, start: int, length: int, segment: str, offset: int | None, why: str) -> None:
        """Remember that these bytes are lost. Consecutive ranges of one file are one."""
        stop = start + length
        with self._noting:
            at = bisect_left(self._lost, start, key=itemgetter(1))
            if at < len(self._lost) and self._lost[at][1] == start and self._lost[at][2].segment != segment:
                at += 1
            while at < len(self._lost) and self._lost[at][0] <= stop and self._lost[at][2].segment == segment:
                first, last, before = self._lost.pop(at)
                if first < start:
                    start, offset, why = first, before.offset, before.why
                stop = max(stop, last)
            sectors = -(-stop // self.sector) - start // self.sector
            self._lost.insert(at, (start, stop, Damage(start // self.sector, sectors, segment, offset, why)))


MOST_DAMAGE = 10_000
"""Ranges of damage that are listed one by one."""


def shortened(damage: Iterable[Damage]) -> list[Damage]:
    """Damage in order: the first ranges, and one for all others, which tells how many they are."""
    every = iter(damage)
    found = list(islice(every, MOST_DAMAGE - 1))
    more, first, last = 0, None, None
    for last in every:
        first, more = first or last, more + 1
    if first is None or last is None or more == 1:
        return found if first is None else [*found, first]
    sectors = last.first_sector + last.sectors - first.first_sector
    return [*found, Damage(first.first_sector, sectors, "", None, f"{more:,} more ranges in these sectors are damaged")]
