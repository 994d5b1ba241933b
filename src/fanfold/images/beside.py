"""Files kept beside a table, in `DATABASE/_view/TABLE/`; if the database is read-only, in the cache folder.

A file is written whole, or not at all. Both places may have a file of a name, since a database can become read-only, or
writable: the caller chooses between the two.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

import lance
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from fanfold.images.models.cache import cache_dir, write_whole
from fanfold.storage import errors_of, join, open_store

FOLDER = "_view"
_READ_ONLY = re.compile(r"Permission denied|Read-only file system|Operation not permitted")


def folder(dataset: lance.LanceDataset) -> str:
    """The address of the folder beside a table."""
    database, _, table = dataset.uri.rstrip("/").rpartition("/")
    return join(database, FOLDER, table.removesuffix(".lance"))


def cache_folder(dataset: lance.LanceDataset) -> Path:
    """The table's folder in the cache."""
    return cache_dir() / "view" / hashlib.sha256(dataset.uri.encode()).hexdigest()[:32]


def put(dataset: lance.LanceDataset, file: str, content: bytes) -> str:
    """Keep a file, instead of any earlier one of that name; return its address.

    Raises StorageError; FanfoldError if neither the database nor the cache folder can be written to.
    """
    if _put_beside(dataset, file, content):
        return join(folder(dataset), file)
    cached = cache_folder(dataset) / file
    write_whole(cached, content)
    return str(cached)


def writable_folder(dataset: lance.LanceDataset) -> str:
    """The folder beside the table if it can be written to, else the one in the cache. Raises StorageError."""
    return folder(dataset) if _put_beside(dataset, "writable", b"") else str(cache_folder(dataset))


def contents(dataset: lance.LanceDataset, file: str) -> list[bytes]:
    """What the files of a name hold: that beside the table, and that in the cache, as far as they exist.

    Raises StorageError.
    """
    found: list[bytes] = []
    with errors_of(folder(dataset)), suppress(NotFoundError, FileNotFoundError):
        store, path = _located(dataset, file)
        found.append(bytes(store.get(path).bytes()))
    with suppress(OSError):
        found.append((cache_folder(dataset) / file).read_bytes())
    return found


def names(dataset: lance.LanceDataset) -> tuple[set[str], set[str]]:
    """The names of the files and folders beside the table, and of those in the cache. Raises StorageError."""
    here = set[str]()
    with errors_of(folder(dataset)), suppress(NotFoundError, FileNotFoundError):
        store, path = _located(dataset, "")
        found = store.list_with_delimiter(path)
        paths = [meta["path"] for meta in found["objects"]] + list(found["common_prefixes"])
        here = {path.rstrip("/").rpartition("/")[2] for path in paths}
    with suppress(OSError):
        return here, {path.name for path in cache_folder(dataset).iterdir()}
    return here, set()


def remove(dataset: lance.LanceDataset, file: str) -> None:
    """Delete the files of a name, in both places. Raises StorageError."""
    (cache_folder(dataset) / file).unlink(missing_ok=True)
    with errors_of(folder(dataset)), suppress(NotFoundError, FileNotFoundError):
        store, path = _located(dataset, file)
        store.delete(path)


def _put_beside(dataset: lance.LanceDataset, file: str, content: bytes) -> bool:
    """Write a file beside the table. Returns whether the database can be written to."""
    with errors_of(folder(dataset)):
        try:
            store, path = _located(dataset, file)
            store.put(path, content)
        except BaseError as error:
            refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
            if not refused and not _READ_ONLY.search(str(error)):
                raise
            return False
    return True


def _located(dataset: lance.LanceDataset, file: str) -> tuple[ObjectStore, str]:
    """The database as a store, and the file's path in it."""
    database, _, table = folder(dataset).rpartition(f"/{FOLDER}/")
    return open_store(database), f"{FOLDER}/{table}/{file}"
