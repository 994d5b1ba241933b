"""Manifests: the items of a task, as a Parquet file."""

import io
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fanfold.errors import Damaged
from fanfold.job import Item
from fanfold.storage import first_line

_COLUMNS: "list[pa.Field[Any]]" = [
    pa.field("key", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("version", pa.string()),
    pa.field("path", pa.string()),
]
_SCHEMA = pa.schema(_COLUMNS)


def to_parquet(items: Sequence[Item]) -> bytes:
    """The manifest of these items."""
    columns = [list(map(attrgetter(name), items)) for name in _SCHEMA.names]
    buffer = io.BytesIO()
    # No dictionaries, no statistics: hardly a value comes twice, and nobody searches a manifest.
    table = pa.table(columns, schema=_SCHEMA)
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()


def from_parquet(data: bytes, address: str) -> list[Item]:
    """The items of the manifest at an address. Raises Damaged when it is something else."""
    try:
        columns = pq.read_table(pa.BufferReader(data)).select(_SCHEMA.names).cast(_SCHEMA).to_pydict()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise Damaged(f"{address} is damaged: {first_line(error)}") from error
    return [Item(*row) for row in zip(*(columns[name] for name in _SCHEMA.names), strict=True)]
