"""Items that a job makes itself: the cells of a grid, the numbers of a range. There is nothing to read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from fanfold.job import Item


@dataclass
class Generated:
    """The items that a function makes, for a job's `source(addresses)`.

    def source(self, addresses: Sequence[str]) -> Source:
        return Generated([*addresses], lambda: (Item(str(n), 0, "1", str(n)) for n in range(1000)))
    """

    addresses: list[str]
    items: Callable[[], Iterable[Item]]
    """Called for every listing. Keys must be unique, and versions change when the items do."""
    root: str = ""
    """What keys are relative to; the addresses by default."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 1

    def __post_init__(self) -> None:
        self.root = self.root or " ".join(self.addresses)

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - these are not files
        yield from self.items()

    def read(self, item: Item, limit: int) -> bytes:  # noqa: ARG002
        raise OSError(f"{item.key} has no content")

    def read_at(self, item: Item, offset: int, length: int) -> bytes:  # noqa: ARG002
        return self.read(item, length)

    def uri(self, item: Item) -> str:
        return f"{self.root}/{item.path}"

    def within(self, root: str) -> "Generated | None":
        return self if root == self.root else None
