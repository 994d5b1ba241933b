"""A medium: the bytes of a disk, as an image of it gives them back, and the places where it does not."""

import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

DAMAGED = (zlib.error, struct.error, EOFError)
"""What reading a damaged structure raises besides `Unreadable`."""


class Unreadable(ValueError):
    """Something given as evidence cannot be read. The message says why, and what to do."""


@dataclass(frozen=True)
class SegmentFile:
    """One of the files that an image consists of."""

    name: str
    size: int
    read: Callable[[int, int], bytes]
    """`read(offset, length)`: fewer bytes at the end of the file only. Raises OSError."""


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
        """What was found damaged so far, in order; complete once everything was read."""

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

    def __init__(self, unit: int) -> None:
        """`unit`: bytes that are given up at once."""
        self.unit = unit
        self.problems: list[str] = []
        self.about: Mapping[str, str] = {}
        self.stored: Mapping[str, str] = {}
        self.unread: Sequence[tuple[int, int]] = []
        self._damage: dict[int, Damage] = {}  # by its first byte
        self._noting = threading.Lock()

    @property
    def damage(self) -> list[Damage]:
        """See `Medium.damage`."""
        with self._noting:
            return list(joined(self._damage.values()))

    @property
    def has_damage(self) -> bool:
        """See `Medium.has_damage`."""
        return bool(self._damage)

    def is_damaged(self, offset: int, length: int) -> bool:
        """See `Medium.is_damaged`."""
        with self._noting:
            return any(start < offset + length and offset < start + self.unit for start in self._damage)

    def note(self, start: int, length: int, segment: str, offset: int | None, why: str) -> None:
        """Remember that these bytes are lost."""
        damage = Damage(start // self.sector, -(-length // self.sector), segment, offset, why)
        with self._noting:
            self._damage.setdefault(start, damage)


def joined(damage: Iterable[Damage]) -> Iterator[Damage]:
    """Damage in the order of sectors; neighbours in one file, damaged in the same way, are one."""
    before: Damage | None = None
    for one in sorted(damage, key=lambda one: one.first_sector):
        if before and before.first_sector + before.sectors == one.first_sector and before[2::2] == one[2::2]:
            before = before._replace(sectors=before.sectors + one.sectors)
            continue
        if before:
            yield before
        before = one
    if before:
        yield before
