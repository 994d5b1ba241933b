"""Records on disk, in parts that fit into memory: so a file of any size can be put into another order."""

from pathlib import Path
from typing import Any

import numpy as np

from fanfold.errors import StorageError

Records = np.ndarray[Any, np.dtype[Any]]
"""A structured array: one dimension, named fields."""


class Spill:
    """Parts of records, each in a file of a temporary folder; those of a part keep the order in which they came."""

    def __init__(self, folder: Path, name: str, fields: "np.dtype[Any]", parts: int) -> None:
        self.folder, self.name, self.fields = folder, name, fields
        self.parts = range(parts)

    def add(self, records: Records, part: "np.ndarray[Any, np.dtype[Any]]") -> None:
        """Append records, each to its part. Raises StorageError if the disk is full."""
        order = np.argsort(part, kind="stable")
        ordered = records[order]
        found, starts = np.unique(part[order], return_index=True)
        for number, begin, end in zip(found.tolist(), starts, [*starts[1:], len(ordered)], strict=False):
            try:
                with self._file(number).open("ab") as file:
                    file.write(ordered[begin:end].tobytes())
            except OSError as error:
                raise StorageError(
                    f"Cannot write to {self.folder}: {error.strerror}. Name a folder with more space: "
                    "export TMPDIR=FOLDER"
                ) from error

    def read(self, part: int) -> Records:
        """All records of a part."""
        file = self._file(part)
        return np.fromfile(file, self.fields) if file.exists() else np.zeros(0, self.fields)

    def _file(self, part: int) -> Path:
        return self.folder / f"{self.name}-{part}"
