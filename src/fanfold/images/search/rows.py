"""What every question to a table needs: its vectors, a range of rows or some rows by number; and its metadata."""

from collections.abc import Callable, Iterator
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from fanfold.errors import UsageError

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Progress = Callable[[float], None]
"""Gets the fraction done, 0 to 1."""

STREAMED = 1024
"""Rows in a block."""


def name_of(dataset: lance.LanceDataset) -> str:
    """The table's name."""
    name: str = dataset.uri.rstrip("/").rpartition("/")[2]
    return name.removesuffix(".lance")


def metadata_of(dataset: lance.LanceDataset) -> dict[str, str]:
    """The table's metadata: `fanfold.model` and so on."""
    return {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}


def dimension_of(dataset: lance.LanceDataset) -> int:
    """The number of values in a vector of the table. Raises UsageError if its rows are not vectors with keys."""
    schema, name = dataset.schema, name_of(dataset)
    if "vector" not in schema.names or not pa.types.is_fixed_size_list(schema.field("vector").type):
        raise UsageError(f"Table '{name}' has no vectors. `fanfold images embed` makes tables that have them.")
    if lacking := {"key", "uri"}.difference(schema.names):
        raise UsageError(
            f"Table '{name}' has no column '{min(lacking)}'. Use a table that `fanfold images embed` made."
        )
    size: int = schema.field("vector").type.list_size
    return size


def stream(dataset: lance.LanceDataset, start: int, rows: int) -> Iterator[Vectors]:
    """Yield float32[up to STREAMED, dimension], for `rows` rows from `start` on, in the table's order.

    Each block is a scan by itself: one long scan reads ahead without bound (300 MB for a column of 200), and is not
    faster.
    """
    end = min(start + rows, dataset.count_rows())
    for at in range(start, end, STREAMED):
        block = dataset.to_table(columns=["vector"], offset=at, limit=min(STREAMED, end - at), scan_in_order=True)
        yield matrix(block["vector"].combine_chunks())


def units(dataset: lance.LanceDataset, rows: Indices) -> Vectors:
    """float32[rows, dimension] of length 1, for rows by their number in the table's order; filled in place."""
    found = np.empty((len(rows), dimension_of(dataset)), np.float32)
    for at in range(0, len(rows), STREAMED):
        found[at : at + STREAMED] = unit(taken(dataset, rows[at : at + STREAMED]))
    return found


def taken(dataset: lance.LanceDataset, rows: Indices) -> Vectors:
    """float32[rows, dimension], as they are, for some rows by their number in the table's order."""
    return matrix(dataset.take(rows.tolist(), columns=["vector"])["vector"].combine_chunks())


def matrix(column: Any) -> Vectors:
    """A fixed-size list column as float32[rows, dimension], sharing its memory."""
    flat: Vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return flat


def unit(vectors: Vectors) -> Vectors:
    """Each row scaled to length 1, so that the product of two is their cosine; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)
    return scaled


def numbers_of(dataset: lance.LanceDataset, addresses: Any) -> Indices:
    """int64[n]: rows by their number in the table's order, for uint64[n], Lance's addresses of them.

    An address is a fragment's number, times 2^32, plus a place in it; deleted rows keep their place.
    """
    wanted = np.asarray(addresses, np.uint64)
    found, before = np.full(len(wanted), -1, np.int64), 0
    for fragment in dataset.get_fragments():
        within = np.flatnonzero(wanted >> np.uint64(32) == fragment.fragment_id)
        if len(within) and fragment.num_deletions:
            there = fragment.scanner(columns=[], with_row_address=True).to_table()["_rowaddr"].to_numpy()
            found[within] = before + np.searchsorted(there, wanted[within])
        elif len(within):
            found[within] = before + (wanted[within] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        before += fragment.metadata.num_rows
    return found
