"""What a source of items is."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Literal, Protocol

from fanfold.job import Item
from fanfold.storage import TooLarge

Ids = Literal["key", "stem"]


class Changed(OSError):
    """The item is not what was listed any more; the next run lists it anew."""


class Source(Protocol):
    """A collection that can be listed, and read item by item."""

    root: str
    """What keys are relative to: an absolute path or a URL; empty when keys are whole addresses."""
    left_out: Counter[str]
    """What listing passed over, by reason. Complete once the listing is."""
    parallel_reads: int

    @property
    def addresses(self) -> "list[str]":
        """What `open_source` needs to open it again."""
        ...

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        """Yield the items whose name ends in one of `suffixes` (all, if empty), as they are found."""
        ...

    def read(self, item: Item, limit: int) -> bytes: ...

    def uri(self, item: Item) -> str: ...

    def within(self, root: str) -> "Source | None":
        """The same items with keys relative to `root`, or None if they are not all inside it."""
        ...


def suffix_of(name: str) -> str:
    """The ending of a file's name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast as pathlib; listing is a hot path


def too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(f"{size:,} bytes, over the limit of {limit:,} bytes")
