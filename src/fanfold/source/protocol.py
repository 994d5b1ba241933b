"""What a source of items is."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

from fanfold.job import Item, Opener
from fanfold.storage import TooLarge

Ids = Literal["key", "stem"]


class Changed(OSError):
    """The item differs from what was listed. The next run lists it again."""

    def __init__(self, why: str = "changed since it was listed; run again") -> None:
        super().__init__(why)


@runtime_checkable
class Source(Opener, Protocol):
    """A collection that can be listed, and read item by item."""

    root: str
    """What keys are relative to: an absolute path or a URL; empty when keys are whole addresses."""
    left_out: Counter[str]
    """Numbers of items that the listing left out, by reason. Complete once the listing is."""

    @property
    def addresses(self) -> "list[str]":
        """What `collection` needs to make an equal source elsewhere."""

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        """Yield the items whose name ends in one of `suffixes` (all, if empty), as they are found."""

    def within(self, root: str) -> "Source | None":
        """The same items with keys relative to `root`, or None if they are not all inside it."""


def suffix_of(name: str) -> str:
    """The ending of a file's name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast as pathlib; listing is a hot path


def too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"{size:,} bytes, over the limit of {limit:,} bytes")


def in_range(size: int, offset: int, length: int) -> int:
    """The number of bytes of a range that lie inside an item of `size` bytes."""
    if offset < 0 or length < 0:
        raise ValueError(f"A range cannot begin at {offset:,} and be {length:,} bytes long.")
    return max(0, min(length, size - offset))
