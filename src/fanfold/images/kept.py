"""What is kept beside a table: something worked out for each of its rows, such as a place on the map.

    DATABASE/_view/TABLE/NAME.npz      rows    uint64[n]   the rows, by a digest of key and version
                                       ...                 arrays of the caller, most with n lines
                                       recipe              what they were made by; of another recipe, they do not count

A changed picture has another version, so it is a new row here, and the order of the rows does not matter: `fanfold
optimize` changes it. `beside.py` writes the file.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.damage import of_table
from fanfold.images.beside import contents, put

Arrays = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

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
    """The arrays kept under `name` and made by this recipe from this table's; None if there are none, or damaged ones.

    If the database and the cache folder both have some, the newer. Raises StorageError.
    """
    files = contents(dataset, f"{name}.npz")
    found = [_unpacked(content, _recipe(dataset, recipe)) for content in files]
    _, arrays = max((one for one in found if one), key=lambda one: one[0], default=("", None))
    return arrays


def write(dataset: lance.LanceDataset, name: str, recipe: str, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Keep arrays under `name`, instead of any earlier ones; return the address of the file.

    Raises StorageError, FanfoldError if neither the database nor the cache folder can be written to.
    """
    return put(dataset, f"{name}.npz", _packed(_recipe(dataset, recipe), arrays))


def _recipe(dataset: lance.LanceDataset, recipe: str) -> str:
    """The caller's recipe, and that of the table's vectors."""
    return f"{recipe}; {(dataset.schema.metadata or {}).get(b'fanfold.recipe', b'').decode()}"


def _packed(recipe: str, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    about = json.dumps({"recipe": recipe, "written": datetime.now(UTC).isoformat()})
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays, **{_ABOUT: np.array(about)})
    return file.getvalue()


def _unpacked(content: bytes, recipe: str) -> tuple[str, Arrays] | None:
    """When a file was written, and its arrays; None for what `_packed` did not make with this recipe."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as inside:
            if any(one.compress_type != zipfile.ZIP_STORED for one in inside.infolist()):
                return None  # a database of a stranger: nothing may be larger in memory than its file
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        return (str(about["written"]), arrays) if about["recipe"] == recipe else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None
