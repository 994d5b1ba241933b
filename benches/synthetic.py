"""Items and rows that are made up: a listing of any length, and a job that computes nothing.

A module of its own, since workers and later runs import the job by name.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from fanfold import Item, Opener
from fanfold.job import key_field

DIMENSION = 8
"""Of the vectors: few, so that what is measured is what a row costs whatever is in it."""


@dataclass
class Listing:
    """So many pictures in folders of a million, as a bucket lists them. It is a `fanfold.source.Source`."""

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
