"""The rows of a table for other programs: which ones, which columns, in the order of their keys.

The order does not depend on how the rows came into the table, so equal tables give equal files.
"""

from collections.abc import Iterator, Sequence

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fanfold.damage import of_table, reading
from fanfold.errors import UsageError
from fanfold.images.search.rows import Indices
from fanfold.images.search.where import checked, explained

VECTOR = "vector"
_TAKEN = {True: 1024, False: 16_384}
"""Rows in a batch, with vectors and without: more are not faster, and take memory."""


@of_table
def rows_by_key(dataset: lance.LanceDataset, where: str | None) -> Indices:
    """The numbers of the rows that meet a condition, or of all, in the order of their keys: int64[rows].

    Takes about 150 bytes of memory per row. Raises UsageError for a condition that cannot be used.
    """
    condition = None if where is None else checked(dataset.schema, where)
    with explained(dataset.schema, where or ""):
        found = dataset.to_table(columns=["_rowoffset", "key"], filter=condition, scan_in_order=True)
    order = pc.sort_indices(found["key"]).to_numpy()
    numbers: Indices = found["_rowoffset"].to_numpy()[order].astype(np.int64)
    return numbers


def batches(dataset: lance.LanceDataset, rows: Indices, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows with these numbers, in their order, some at a time."""
    step = _TAKEN[VECTOR in columns]
    for at in range(0, len(rows), step):
        with reading(dataset.uri):
            taken = dataset.take(rows[at : at + step].tolist(), columns=list(columns))
        yield from taken.combine_chunks().to_batches()


def check_columns(dataset: lance.LanceDataset, columns: Sequence[str]) -> None:
    """Raise UsageError unless the table has these columns."""
    if not columns:
        raise UsageError("--columns takes the names of columns, with commas between: --columns key,vector,width")
    for name in columns:
        if name not in dataset.schema.names:
            names = ", ".join(dataset.schema.names)
            raise UsageError(f"'{name}' is not a column of the table. Its columns are: {names}.")
    if again := next((name for name in columns if list(columns).count(name) > 1), None):
        raise UsageError(f"--columns has '{again}' twice.")
