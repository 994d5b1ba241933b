"""Tables of vectors in a database, made by fanfold's own commits, and what other processes do to them."""

import sys
from collections.abc import Sequence
from datetime import timedelta

import lance
import numpy as np
import pyarrow as pa

from fanfold.core.optimize import optimize_table
from fanfold.core.table import Table
from fanfold.images.search.vector_index import build

DIMENSION = 32
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("key", "version", "uri")),
        pa.field("vector", pa.list_(pa.float32(), DIMENSION), nullable=False),
    ]
)


def clustered(rows: int, seed: int) -> np.ndarray:
    """Vectors around a hundred centres, float32[rows, DIMENSION]."""
    centres = np.random.default_rng(0).normal(size=(100, DIMENSION))
    random = np.random.default_rng(seed)
    noise = 0.7 * random.normal(size=(rows, DIMENSION))
    return (centres[random.integers(0, 100, rows)] + noise).astype(np.float32)


def commit(table: Table, keys: Sequence[str], matrix: np.ndarray, version: str = "1") -> None:
    """Write and commit rows."""
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1))
    columns = [pa.array(keys), pa.array([version] * len(keys)), pa.array([f"file:///{key}" for key in keys])]
    vectors = pa.FixedSizeListArray.from_arrays(flat, DIMENSION)
    table.commit(table.write(iter([pa.RecordBatch.from_arrays([*columns, vectors], schema=SCHEMA)])))


def made(database: str, matrix: np.ndarray) -> Table:
    """The table `images` with these vectors as k0, k1, ..., in three commits."""
    table = Table.create(database, "images", SCHEMA)
    for rows in np.array_split(np.arange(len(matrix)), 3):
        if len(rows):
            commit(table, [f"k{row}" for row in rows], matrix[rows])
    return table


def keep_committing(database: str, rounds: int) -> None:
    """Add a row, change another, and compact from time to time, as runs do."""
    table = Table.open(database, "images")
    assert table is not None
    for round, vector in enumerate(clustered(rounds, 9)):
        commit(table, [f"round{round}"], vector[None])
        commit(table, [f"k{round}"], clustered(1, 100 + round), version="2")
        if round % 10 == 9:
            optimize_table(table, timedelta(0), lambda: True)


def keep_building(database: str) -> None:
    """Print a line, then rebuild the index repeatedly."""
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    while True:
        build(lance.dataset(f"{database}/images.lance"))
