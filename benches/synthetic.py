"""Items and rows that are made up: a listing of any length, and a job that computes nothing.

This is a separate module, since workers and later runs import the job by name.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from fanfold import Detail, Item, Opener
from fanfold.job import detail_key_field, key_field

DIMENSION = 8
"""Dimension of the vectors: small, so that the cost per row is measured and not its content."""


@dataclass
class Listing:
    """This many pictures in folders of a million, like a bucket's listing. It is a `fanfold.source.Source`."""

    items: int
    root: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 1

    @property
    def addresses(self) -> list[str]:
        return []

    def list(self, _suffixes: frozenset[str]) -> Iterator[Item]:
        for number in range(self.items):
            key = f"images/{number // 1_000_000:04d}/{number % 1_000_000:06d}.jpg"
            # Versions look like ETags: 32 hexadecimal digits, which do not compress.
            tag = number * 0x9E3779B97F4A7C15F39CC0605CEDC835 & (1 << 128) - 1
            yield Item(key, 100_000 + number % 5000, f"{tag:032x}", key)

    def read(self, item: Item, limit: int) -> bytes:
        raise OSError(f"there is no {item.key} of {limit} bytes")

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        return self.read(item, offset + length)

    def uri(self, item: Item) -> str:
        return f"s3://bucket/{item.key}"

    def within(self, root: str) -> "Listing | None":
        return None if root else self


@dataclass(frozen=True)
class MadeUp:
    """A vector for every item."""

    name: ClassVar[str] = "made_up"
    suffixes: ClassVar[frozenset[str]] = frozenset()

    def schema(self) -> pa.Schema:
        vector = pa.field("vector", pa.list_(pa.float32(), DIMENSION))
        texts = [pa.field(name, pa.string(), nullable=False) for name in ("version", "uri")]
        return pa.schema([key_field(), *texts, pa.field("bytes", pa.int64()), vector])

    def recipe(self) -> dict[str, str]:
        return {"recipe": "made up"}

    def open(self) -> "Work":
        return Work(self.schema())


class Work:
    """One batch with a row for every item."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.seconds: dict[str, float] = {}
        self.random = np.random.default_rng(0)

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch]:
        found = list(items)
        vectors = pa.FixedSizeListArray.from_arrays(self.random.random(len(found) * DIMENSION, np.float32), DIMENSION)
        columns = [
            pa.array([item.key for item in found]),
            pa.array([item.version for item in found]),
            pa.array([source.uri(item) for item in found]),
            pa.array([item.size for item in found], pa.int64()),
            vectors,
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=self.schema)


RECORDS = pa.schema(
    [
        detail_key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("number", pa.int64()),
        pa.field("value", pa.float64()),
    ]
)
AT_ONCE = 8192


@dataclass(frozen=True)
class MadeUpDetails(MadeUp):
    """The same, with this many detail rows of two numbers per item."""

    name: ClassVar[str] = "made_up_details"

    rows: int = 10_000

    def details(self) -> dict[str, pa.Schema]:
        return {"records": RECORDS}

    def open(self) -> "Work":
        return DetailedWork(self)


class DetailedWork(Work):
    """Yields details in batches, and then the row."""

    def __init__(self, job: MadeUpDetails) -> None:
        super().__init__(job.schema())
        self.rows = job.rows

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Detail]:  # type: ignore[override]
        for item in items:
            for start in range(0, self.rows, AT_ONCE):
                yield Detail("records", self.records(item, start, min(AT_ONCE, self.rows - start)))
            yield from super().__call__([item], source)

    def records(self, item: Item, start: int, count: int) -> pa.RecordBatch:
        """Some detail rows of an item."""
        names = [pa.repeat(text, count) for text in (item.key, item.version)]
        numbers = pa.array(np.arange(start, start + count))
        return pa.RecordBatch.from_arrays([*names, numbers, pa.array(self.random.random(count))], schema=RECORDS)
