"""The formats of `fanfold images export`: rows in, a file out, a batch at a time."""

import json
import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from fanfold.cli.files import whole
from fanfold.cli.spreadsheet import safe
from fanfold.images.export import VECTOR
from fanfold.images.search.rows import matrix

FORMATS = (".parquet", ".npy", ".csv", ".jsonl")
GROUP = 8192
"""Rows in a row group of a Parquet file: 42 MB with vectors of 1280 numbers."""


class Writer(Protocol):
    """Writes batches to a file."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


class Parquet:
    """All types as they are; the metadata of the table, too."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._writer = parquet.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._held: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        if sum(map(len, self._held)) >= GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held).cast(self._schema))
        self._held = []


class Csv:
    """For a spreadsheet: no text is a formula; a vector is a text of JSON."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        empty = pa.RecordBatch.from_pylist([], schema)
        self._writer = csv.CSVWriter(file, safe(with_texts(empty)).schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write(safe(with_texts(batch)))

    def close(self) -> None:
        self._writer.close()


class JsonLines:
    """An object on each line; a time is text of ISO 8601, what is not a number is null."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file
        self._names = [json.dumps(name, ensure_ascii=False) for name in schema.names]

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [_json_texts(column) for column in batch.columns]
        lines = (
            "{" + ", ".join(f"{name}: {value}" for name, value in zip(self._names, row, strict=True)) + "}\n"
            for row in zip(*columns, strict=True)
        )
        self._file.write("".join(lines).encode())

    def close(self) -> None: ...


class Npy:
    """The vectors as float32[rows, dimension], whose number has to be known before; other columns go elsewhere."""

    def __init__(self, file: IO[bytes], rows: int, dimension: int, others: Writer) -> None:
        self._file, self._others = file, others
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, batch: pa.RecordBatch) -> None:
        self._file.write(np.ascontiguousarray(matrix(batch[VECTOR]), "<f4").data)
        self._others.write(batch.drop_columns([VECTOR]))

    def close(self) -> None:
        self._others.close()


def write(path: Path, schema: pa.Schema, rows: int, batches: Iterable[pa.RecordBatch]) -> list[Path]:
    """Write batches to a file of the format that its name says; return the files written.

    With .npy, the columns other than the vector go to a file of JSON lines beside it. Raises UsageError if a file
    cannot be written.
    """
    with ExitStack() as stack:
        paths = [path]
        kind = path.suffix.lower()
        if kind == ".npy":
            paths = [path, path.with_suffix(".keys.jsonl")]
            files = [stack.enter_context(whole(one)) for one in paths]
            others = JsonLines(files[1], schema.remove(schema.get_field_index(VECTOR)))
            writer: Writer = Npy(files[0], rows, schema.field(VECTOR).type.list_size, others)
        else:
            kinds: dict[str, Any] = {".parquet": Parquet, ".csv": Csv, ".jsonl": JsonLines}
            files = [stack.enter_context(whole(path))]
            writer = kinds[kind](files[0], schema)
        for batch in batches:
            writer.write(batch)
        writer.close()
        if len(files) > 1:  # vectors must never stand beside the keys of others
            for file in files:
                file.flush()
                os.fsync(file.fileno())
            path.unlink(missing_ok=True)
    return paths


def with_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch whose vectors are texts of JSON."""
    columns = [_vector_texts(column) if _is_vector(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _is_vector(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind)


def _vector_texts(column: Any) -> Any:
    """Each vector as a text of JSON, with as few digits as give the same float32."""
    numbers = column.flatten()
    texts = numbers.cast(pa.string())
    if not np.isfinite(numbers.to_numpy(zero_copy_only=False)).all():
        texts = pc.if_else(pc.is_finite(numbers), texts, pa.scalar("null"))
    size = column.type.list_size
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1) * size, pa.int32()), texts)
    joined: Any = pc.binary_join(lists, ", ")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _json_texts(column: Any) -> list[str]:
    if _is_vector(column.type):
        texts: list[str] = _vector_texts(column).to_pylist()
        return texts
    return [json.dumps(_plain(value), ensure_ascii=False, default=str) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value
