"""Files kept beside a table, in `DATABASE/_view/TABLE/`; if the database is read-only, in the cache folder.

A file is written whole, or not at all. Both places may have a file of a name, since a database can become read-only, or
writable: the caller chooses between the two.
"""

import glob
import hashlib
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

import lance
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from fanfold.images.models.cache import cache_dir, write_whole
from fanfold.storage import errors_of, is_url, join, open_store

FOLDER = "_view"
_FORGOTTEN = 600  # seconds after which an unfinished file is one that a killed command left
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
    name = "writable"
    if not _put_beside(dataset, name, b""):
        return str(cache_folder(dataset))
    remove(dataset, name)
    return folder(dataset)


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


def listed(dataset: lance.LanceDataset) -> tuple[dict[str, str], dict[str, str]]:
    """What is beside the table, and what is in the cache: names of files and folders, each with a text that changes
    with a file's content (empty for a folder). Raises StorageError."""
    here: dict[str, str] = {}
    with errors_of(folder(dataset)), suppress(NotFoundError, FileNotFoundError):
        store, path = _located(dataset, "")
        found = store.list_with_delimiter(path)
        here = {_last(meta["path"]): f"{meta['e_tag']} {meta['size']}" for meta in found["objects"]}
        here |= dict.fromkeys(map(_last, found["common_prefixes"]), "")
    cached: dict[str, str] = {}
    with suppress(OSError):
        for one in cache_folder(dataset).iterdir():
            stat = one.stat()
            cached[one.name] = "" if one.is_dir() else f"{stat.st_mtime_ns} {stat.st_ino} {stat.st_size}"
    return here, cached


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def remove(dataset: lance.LanceDataset, name: str) -> None:
    """Delete the file or folder of a name, in both places. Raises StorageError."""
    with errors_of(folder(dataset)):
        _remove(cache_folder(dataset) / name)
        if not is_url(dataset.uri):
            _remove(Path(folder(dataset)) / name)
            return
        store, path = _located(dataset, name)
        store.delete([path, *(meta["path"] for chunk in store.list(f"{path}/") for meta in chunk)])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_beside(dataset: lance.LanceDataset, file: str, content: bytes) -> bool:
    """Write a file beside the table. Returns whether the database can be written to."""
    with errors_of(folder(dataset)):
        try:
            store, path = _located(dataset, file)
            store.put(path, content)
            if not is_url(dataset.uri):
                _clear(Path(folder(dataset)), file)
        except BaseError as error:
            refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
            if not refused and not _READ_ONLY.search(str(error)):
                raise
            return False
    return True


def _clear(where: Path, file: str) -> None:
    """Remove unfinished files that killed commands have left: obstore writes to FILE#1 first, or FILE#2."""
    for left in where.glob(f"{glob.escape(file)}#*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _FORGOTTEN:
                left.unlink()


def _located(dataset: lance.LanceDataset, file: str) -> tuple[ObjectStore, str]:
    """The database as a store, and the file's path in it."""
    database, _, table = folder(dataset).rpartition(f"/{FOLDER}/")
    return open_store(database), f"{FOLDER}/{table}/{file}"
