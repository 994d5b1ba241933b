"""A table of an earlier run as a collection: each row is an item.

    table:DATABASE/NAME ──▶ NAME.lance ──▶ rows with the columns key, size, version, path ──▶ items

So work can have phases: one run lists the content of a thousand archives, and the next run does the items it found.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import lance
import pyarrow as pa

from fanfold.damage import reading
from fanfold.errors import StorageError, UsageError
from fanfold.job import PRIMARY_KEY, Item
from fanfold.source.listed import Listed
from fanfold.source.protocol import suffix_of
from fanfold.storage import absolute, exists

SCHEME = "table:"
COLUMNS = ("key", "size", "version", "path")
INCOMPLETE = "a row without key, size, version or path"
"""Reason for leaving out a row."""
_METADATA_BYTES = 64 << 20
_ROWS = 4096  # of a batch; a few batches are in memory at a time


@dataclass
class Table:
    """The rows of a table, as they were when it was opened.

    In a table with one row per key, such as a job's own, an item has the key of its row. In other tables, such as a
    detail table, rows share keys, so an item has the key `key/path`.
    """

    root: str
    """The address: `table:DATABASE/NAME`, with the database's absolute path or URL."""
    dataset: lance.LanceDataset | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 16
    opener: Listed = field(default_factory=lambda: Listed(""))
    """Reads an item whose path is a path of a file or a URL."""

    @classmethod
    def open(cls, address: str) -> Self:
        """The newest version of a table. Raises UsageError if it is not there or lacks a column."""
        database, _, name = address.removeprefix(SCHEME).rstrip("/").removesuffix(".lance").rpartition("/")
        if not database or not name:
            raise UsageError(f"'{address}' is not the address of a table. Write {SCHEME}DATABASE/NAME.")
        where = absolute(database)
        uri = f"{where}/{name}.lance"
        if not exists(uri):
            raise UsageError(f"There is no table '{name}' in {database}.")
        with reading(uri):
            dataset = lance.dataset(uri, metadata_cache_size_bytes=_METADATA_BYTES)
        if missing := [column for column in COLUMNS if not _fits(dataset.schema, column)]:
            raise UsageError(
                f"Table '{name}' in {database} cannot be a source: it lacks {', '.join(missing)}. "
                "A source needs the columns key, version and path (strings), and size (an integer)."
            )
        return cls(f"{SCHEME}{where}/{name}", dataset)

    @property
    def addresses(self) -> "list[str]":
        return [self.root]

    @cached_property
    def _has_shared_keys(self) -> bool:
        metadata = self._dataset.schema.field("key").metadata or {}
        return not any(metadata.get(name.encode()) == value.encode() for name, value in PRIMARY_KEY.items())

    @property
    def _dataset(self) -> lance.LanceDataset:
        if self.dataset is None:
            raise StorageError(f"{self.root} was opened for reading items, not for listing them.")
        return self.dataset

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        with reading(self._dataset.uri):
            scanned = self._dataset.scanner([*COLUMNS], batch_size=_ROWS, batch_readahead=2, fragment_readahead=2)
            for batch in scanned.to_batches():
                for key, size, version, path in zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True):
                    if None in (key, size, version, path):
                        self.left_out[INCOMPLETE] += 1
                    elif suffixes and suffix_of(path) not in suffixes:
                        self.left_out["other type"] += 1
                    else:
                        yield Item(f"{key}/{path}" if self._has_shared_keys else key, size, version, path)

    def read(self, item: Item, limit: int) -> bytes:
        return self.opener.read(item, limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        return self.opener.read_at(item, offset, length)

    def uri(self, item: Item) -> str:
        return self.opener.uri(item)

    def within(self, root: str) -> Self | None:
        return self if root == self.root else None


def _fits(schema: pa.Schema, column: str) -> bool:
    if column not in schema.names:
        return False
    kind: Any = schema.field(column).type
    return pa.types.is_integer(kind) if column == "size" else pa.types.is_string(kind) or pa.types.is_large_string(kind)
