"""The labels that are kept: a Lance dataset beside the table, or in the user's cache if the database is read-only.

    DATABASE/_view/<table>/labels.lance        CACHE/view/<table's identity>/labels.lance

    row            uint64, the fingerprint of a row of the table (rows.py); it is salted with the table's identity, so
                   labels of another table, another model or an older version of a picture never match
    classes        uint16[KEPT], the best classes of ImageNet's 1000, the best first
    probabilities  float16[KEPT]

Rows are only added, each batch in one step, so a process that is killed loses at most its last batch, and two at once
add a row twice. Rows that are gone from the table match nothing; the store is written again when they are the most.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from fanfold.damage import reading
from fanfold.errors import StorageError
from fanfold.images.models.cache import cache_dir
from fanfold.images.models.efficientnet_lite import CLASSES
from fanfold.images.search.rows import Hashes, Vectors
from fanfold.images.words.classifier import KEPT, Classes
from fanfold.storage import errors_of, join

FOLDER = "_view"
"""The folder of a database that holds what is derived from its tables."""
SCHEMA = pa.schema(
    [
        pa.field("row", pa.uint64(), nullable=False),
        pa.field("classes", pa.list_(pa.uint16(), KEPT), nullable=False),
        pa.field("probabilities", pa.list_(pa.float16(), KEPT), nullable=False),
    ]
)

_MOST_FRAGMENTS = 64  # before the store is written again
_LEAST_GONE = 4096  # rows


@dataclass(frozen=True, slots=True)
class Kept:
    """Labels of rows."""

    rows: Hashes
    classes: Classes
    """uint16[rows, KEPT], the best first."""
    probabilities: Vectors
    """float32[rows, KEPT]"""

    @classmethod
    def joined(cls, parts: "list[Kept]") -> "Kept":
        """All of these, in order."""
        return cls(
            np.concatenate([np.empty(0, np.uint64), *(part.rows for part in parts)]),
            np.concatenate([np.empty((0, KEPT), np.uint16), *(part.classes for part in parts)]),
            np.concatenate([np.empty((0, KEPT), np.float32), *(part.probabilities for part in parts)]),
        )


@dataclass
class Store:
    """The labels of a table, in up to two places."""

    places: list[str]
    """Where it may be: in the database, then in the cache. The first that can be written to is used."""
    fragments: int = field(default=0, init=False)
    """Fragments at the time of the last read."""
    _sound: set[str] = field(default_factory=set, init=False)  # places whose labels could be read, or were written

    @classmethod
    def of(cls, dataset: lance.LanceDataset, identity: str) -> "Store":
        """The store of a table in a database."""
        database, _, name = dataset.uri.rpartition("/")
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        inside = join(database, FOLDER, name.removesuffix(".lance"), "labels.lance")
        return cls([inside, str(cache_dir() / "view" / key / "labels.lance")])

    def read(self) -> Kept | None:
        """All that is kept, or None if nothing is. What cannot be read counts as absent: it can be made again."""
        found = [part for place in self.places if (part := self._read(place))]
        return Kept.joined(found) if found else None

    def _read(self, place: str) -> Kept | None:
        try:
            with reading(place):
                dataset = lance.dataset(place)
                if not dataset.schema.equals(SCHEMA):
                    return None
                table = dataset.to_table()
                self.fragments = max(self.fragments, len(dataset.get_fragments()))
        except StorageError:
            return None
        rows = table["row"].to_numpy()
        flat: list[Any] = [table[name].combine_chunks() for name in SCHEMA.names[1:]]
        classes, probabilities = (column.flatten().to_numpy().reshape(-1, KEPT) for column in flat)
        if (classes >= CLASSES).any() or not ((probabilities >= 0) & (probabilities <= 1)).all():
            return None
        self._sound.add(place)
        return Kept(rows, classes, probabilities.astype(np.float32))

    def add(self, labels: Kept) -> None:
        """Keep more. Raises StorageError."""
        self._write(labels, over=False)

    def tidy(self, live: Kept, gone: int) -> None:
        """Write the store again with `live` alone, if it has many fragments or more rows that are gone than others."""
        if gone > max(len(live.rows), _LEAST_GONE) or self.fragments > _MOST_FRAGMENTS:
            self._write(live, over=True)

    def _write(self, labels: Kept, over: bool) -> None:
        columns = [
            pa.array(labels.rows),
            *(
                pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), KEPT)
                for matrix in (labels.classes, labels.probabilities.astype(np.float16))
            ),
        ]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        try:
            self._put(table, over)
        except StorageError:
            if len(self.places) == 1:
                raise
            self.places = self.places[1:]  # the database cannot be written to
            self._put(table, over)

    def _put(self, table: pa.Table, over: bool) -> None:
        """Add to a store that could be read; make any other, also one that is damaged or that others make as well."""
        place = self.places[0]
        with errors_of(place):
            if place in self._sound and not over:
                lance.write_dataset(table, place, schema=SCHEMA, mode="append")
                return
            try:
                lance.write_dataset(table, place, schema=SCHEMA, mode="create")
            except OSError:
                written = lance.write_dataset(table, place, schema=SCHEMA, mode="overwrite")
                written.cleanup_old_versions(timedelta(hours=1))
        self._sound.add(place)
