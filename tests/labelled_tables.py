"""Tables whose pictures show known classes: a vector along a row of the classifier has that row's class as its best."""

import sys
from collections.abc import Sequence
from functools import cache
from uuid import uuid4

import lance
import numpy as np
import pyarrow as pa

from fanfold.core.database import open_table
from fanfold.core.table import Table
from fanfold.images.models.efficientnet_lite import DIMENSION, LITE0
from fanfold.images.words import labels

METADATA = {"fanfold.job": "images", "fanfold.model": LITE0.name, "fanfold.sha256": LITE0.sha256}
TABBY, GOLDFISH, TENCH, MOPED, ESPRESSO = 281, 1, 0, 665, 967


def schema(**metadata: str) -> pa.Schema:
    """The columns of a table of pictures, as far as labels need them."""
    names = [pa.field(name, pa.string(), nullable=False) for name in ("key", "version", "uri")]
    vector = pa.field("vector", pa.list_(pa.float32(), DIMENSION), nullable=False)
    return pa.schema([*names, vector]).with_metadata(METADATA | {"fanfold.id": uuid4().hex} | metadata)


@cache
def _classifier() -> np.ndarray:
    return LITE0.load()["_fc.weight"]


def commit(table: Table, keys: Sequence[str], classes: Sequence[int], version: str = "1") -> None:
    """Write and commit pictures that show these classes."""
    matrix = np.ascontiguousarray(40 * _classifier()[list(classes)], np.float32)
    columns = [pa.array(keys), pa.array([version] * len(keys)), pa.array([f"file:///{key}" for key in keys])]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), DIMENSION)
    table.commit(table.write(iter([pa.RecordBatch.from_arrays([*columns, vectors], schema=table.dataset.schema)])))


def made(database: str, classes: Sequence[int], name: str = "images", **metadata: str) -> Table:
    """A table of pictures k0, k1, ... that show these classes, in three commits."""
    table = Table.create(database, name, schema(**metadata))
    for rows in np.array_split(np.arange(len(classes)), 3):
        if len(rows):
            commit(table, [f"k{row}" for row in rows], [classes[row] for row in rows])
    return table


def opened(database: str, name: str = "images") -> lance.LanceDataset:
    """The newest version of the table."""
    return open_table(database, name)


def shown(dataset: lance.LanceDataset, found: labels.Labels) -> dict[str, int]:
    """The best class of each row that has labels, by key."""
    keys = dataset.to_table(columns=["key"])["key"].to_pylist()
    return {key: int(best) for key, best in zip(keys, found.best, strict=True) if best != labels.NO_CLASS}


def keep_labelling(database: str) -> None:
    """Label in batches of eight rows, with a line before each row."""
    labels.BATCH, labels._READ = 8, 1

    def say(_: float) -> None:
        sys.stdout.write(".\n")
        sys.stdout.flush()

    labels.refresh(opened(database), say)
