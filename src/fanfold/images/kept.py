"""What is kept beside a table: something worked out for each of its rows, such as a place on the map.

    DATABASE/_view/TABLE/NAME.npz      rows    uint64[n]   the rows, by a digest of key and version
                                       ...                 arrays of the caller, most with n lines
                                       recipe              what they were made by; of another recipe, they do not count

A changed picture has another version, so it is a new row here, and the order of the rows does not matter: `fanfold
optimize` changes it. `beside.py` writes the file.
"""

import io
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.damage import of_table
from fanfold.images.beside import contents, put

Arrays = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_LOG = logging.getLogger(__name__)
_ABOUT = "about"  # the array that holds the recipe and the time, as JSON


def rows_of(dataset: lance.LanceDataset) -> Rows:
    """The digest of each row of this version of the table, in the table's order. uint64[rows]

    The first 64 bits of SHA-256: among a million rows the chance that any two share one is 3e-8.
    """
    return _digests(dataset, "concat(version, ' ', key)" if "version" in dataset.schema.names else "key")


def keys_of(dataset: lance.LanceDataset) -> Rows:
    """The same of each row's key alone."""
    return _digests(dataset, "key")


@of_table
def _digests(dataset: lance.LanceDataset, spelled: str) -> Rows:
    scan = dataset.scanner({"row": f"sha256({spelled})"}, batch_size=8192, scan_in_order=True)
    digests = (batch["row"].cast(pa.binary(32)) for batch in scan.to_batches())
    # Copied: a view would keep all 32 bytes.
    parts = [np.frombuffer(some.buffers()[1], np.dtype("<u8"))[some.offset * 4 :: 4].copy() for some in digests]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def find(asked: Rows, kept: Rows) -> Places:
    """Where each of the rows `asked` is among those `kept`; -1 if it is not there. int64[asked]"""
    if not len(kept):
        return np.full(len(asked), -1)
    if np.array_equal(asked, kept):  # nothing has changed: a million are sorted in most of a second
        return np.arange(len(kept))
    order = np.argsort(kept, kind="stable")
    at = order[np.minimum(np.searchsorted(kept, asked, sorter=order), len(kept) - 1)]
    return np.where(kept[at] == asked, at, -1)


def read(dataset: lance.LanceDataset, name: str, recipe: str) -> Arrays | None:
    """The arrays kept under `name` and made by this recipe from this table's; None if there are none.

    If the database and the cache folder both have some, the newer. Damaged ones do not count, and a warning says so.
    Raises StorageError.
    """
    newest, arrays = "", None
    for content in contents(dataset, f"{name}.npz"):
        if not (found := _unpacked(content)):
            _warn(name, dataset.uri)
        elif found.recipe == _recipe(dataset, recipe) and found.written > newest:
            newest, arrays = found.written, found.arrays
    return arrays


def write(dataset: lance.LanceDataset, name: str, recipe: str, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Keep arrays under `name`, instead of any earlier ones; return the address of the file.

    Raises StorageError, FanfoldError if neither the database nor the cache folder can be written to.
    """
    return put(dataset, f"{name}.npz", _packed(_recipe(dataset, recipe), arrays))


@cache
def _warn(name: str, uri: str) -> None:
    """Once is enough."""
    _LOG.warning("%s.npz beside %s is damaged. It is made again where needed.", name, uri)


def _recipe(dataset: lance.LanceDataset, recipe: str) -> str:
    """The caller's recipe, and that of the table's vectors."""
    return f"{recipe}; {(dataset.schema.metadata or {}).get(b'fanfold.recipe', b'').decode()}"


def _packed(recipe: str, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    about = json.dumps({"recipe": recipe, "written": datetime.now(UTC).isoformat()})
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays, **{_ABOUT: np.array(about)})
    return file.getvalue()


class _Unpacked(NamedTuple):
    """What a file holds."""

    recipe: str
    written: str
    arrays: Arrays


def _unpacked(content: bytes) -> _Unpacked | None:
    """What a file of `_packed` holds; None if it is damaged, or another's."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as inside:
            if any(one.compress_type != zipfile.ZIP_STORED for one in inside.infolist()):
                return None  # a database of a stranger: nothing may be larger in memory than its file
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        return _Unpacked(str(about["recipe"]), str(about["written"]), arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None
