"""Several sources as one."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fanfold.errors import UsageError
from fanfold.job import Item
from fanfold.source.protocol import Source
from fanfold.storage import is_url, split_url


@dataclass
class Several:
    """Several folders, or prefixes of one bucket, as one source."""

    root: str
    parts: "list[Source]"
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 0

    @classmethod
    def of(cls, sources: "list[Source]") -> "Source":
        """One source of them all. A source inside another one is listed once.

        Raises UsageError where keys would collide: for lists of addresses, and for different buckets.
        """
        if not sources:
            raise UsageError("There is no source. Name at least one folder, file or URL.")
        if len(sources) == 1:
            return sources[0]
        root = _shared(sources)
        parts = [part for source in sources if (part := source.within(root))]
        if not root or len(parts) < len(sources):
            named = ", ".join(address for source in sources for address in source.addresses)
            raise UsageError(
                f"{named} cannot be one source. Name folders of this machine only, or prefixes of one bucket."
            )
        return cls(root, _outermost(parts))

    def __post_init__(self) -> None:
        self.parallel_reads = self.parts[0].parallel_reads
        for part in self.parts:
            part.left_out = self.left_out

    @property
    def addresses(self) -> "list[str]":
        return [address for part in self.parts for address in part.addresses]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        for part in self.parts:
            yield from part.list(suffixes)

    def read(self, item: Item, limit: int) -> bytes:
        return self.parts[0].read(item, limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        return self.parts[0].read_at(item, offset, length)

    def uri(self, item: Item) -> str:
        return self.parts[0].uri(item)

    def within(self, root: str) -> "Source | None":
        parts = [part.within(root) for part in self.parts]
        return None if None in parts else Several(root, [part for part in parts if part])


def _shared(sources: "list[Source]") -> str:
    """The common folder or bucket of several sources; empty for lists and tables."""
    roots = {source.root for source in sources}
    if all(map(os.path.isabs, roots)):
        return os.path.commonpath(roots)
    buckets = {split_url(root)[0] if is_url(root) else "" for root in roots}
    return buckets.pop() if len(buckets) == 1 else ""


def _outermost(parts: "list[Source]") -> "list[Source]":
    """The sources that are not inside another one, each once."""
    kept: list[Source] = []
    for part in sorted(parts, key=lambda part: len(part.addresses[0])):
        if not any(f"{part.addresses[0]}/".startswith(f"{other.addresses[0]}/") for other in kept):
            kept.append(part)
    return kept
