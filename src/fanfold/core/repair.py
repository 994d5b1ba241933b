"""Repairing a database: what cannot be read is taken out of its tables, so that the next run does those items again.

    versions that cannot be read      set aside, in TABLE.lance/_damaged: the newest of the others counts
    data that cannot be read          left out of a new version, whole fragments at a time
    indexes that cannot be read       dropped: a search makes them again

Nothing else helps: Lance keeps no second copy. Without damage it changes nothing, and it may be repeated, also beside
a run. It reads every table to the end.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa
from lance.commit import CommitConflictError
from obstore.exceptions import NotFoundError

from fanfold.core.database import table_names
from fanfold.core.table import Table
from fanfold.damage import reading
from fanfold.errors import Damaged, StorageError, UsageError
from fanfold.storage import errors_of, join, open_store

_TRIES = 5
_OURS = {b"fanfold.recipe", b"fanfold.derived"}
_INDEX_BYTES = 64 << 20  # of indexes held at a time


@dataclass
class Repaired:
    """What was taken out of a table."""

    versions: int = 0
    """Versions set aside."""
    fragments: int = 0
    rows: int = 0
    indexes: int = 0

    def __bool__(self) -> bool:
        return bool(self.versions or self.fragments or self.indexes)


def repair(database: str) -> dict[str, Repaired]:
    """Take out of each table what cannot be read; returns what that was, by table.

    Raises UsageError when there are no tables of fanfold's, StorageError when the database cannot be used, or
    nothing of a table can be read: that once the others are repaired.
    """
    found: dict[str, Repaired] = {}
    lost: list[str] = []
    for name in table_names(database):
        uri = join(database, f"{name}.lance")
        readable, torn = _versions(uri)
        if torn and not readable:
            lost.append(uri)
        elif readable and (name == "failures" or _OURS & (readable[0].metadata or {}).keys()):
            found[name] = Repaired(versions=_set_aside(uri, torn))
            if table := Table.open(database, name):
                _without_damage(table, found[name])
                found[name].indexes = _without_indexes(table.uri)
    if lost:
        raise StorageError(
            f"No version of {', '.join(lost)} can be read. Move it elsewhere: the next run makes a new one."
        )
    if not found:
        raise UsageError(f"There is no fanfold database at {database}.")
    return found


def _versions(uri: str) -> tuple[list[pa.Schema], list[str]]:
    """The columns of the versions that can be read, the newest first; the files of those that cannot."""
    with errors_of(uri):
        found = {_version(meta["path"]): meta["path"] for chunk in open_store(uri).list("_versions") for meta in chunk}
    schemas = {version: _schema(uri, version) for version in sorted(filter(None, found), reverse=True)}
    readable = [schema for schema in schemas.values() if schema]
    return readable, [found[version] for version, schema in schemas.items() if not schema]


def _set_aside(uri: str, files: list[str]) -> int:
    """Move files of a table away; returns how many there were: others may remove old versions meanwhile."""
    store, moved = open_store(uri), 0
    for path in files:
        with errors_of(uri), suppress(FileNotFoundError, NotFoundError):
            store.rename(path, f"_damaged/{path.rpartition('/')[2]}")
            moved += 1
    return moved


def _schema(uri: str, version: int) -> pa.Schema | None:
    """The columns of a version; None of one that cannot be read."""
    try:
        with reading(uri):
            schema: pa.Schema = lance.dataset(uri, version=version).schema
    except Damaged:
        return None
    return schema if len(schema) else None  # Lance reads zeros as a version without columns


def _version(path: str) -> int:
    """The version that a file in `_versions` is of; 0 if of none.

    Lance counts down from 2^64 - 1 in the names, so that the newest is listed first; it used to count up.
    """
    name, _, suffix = path.rpartition("/")[2].partition(".")
    if suffix != "manifest" or not name.isdecimal():
        return 0
    return int(name) if int(name) < 1 << 63 else (1 << 64) - 1 - int(name)


def _without_damage(table: Table, done: Repaired) -> None:
    """Commit a version without the fragments that cannot be read, if there are any."""
    for attempt in range(1, _TRIES + 1):
        with reading(table.uri):
            table.dataset = lance.dataset(table.uri)
        bad = [fragment for fragment in table.dataset.get_fragments() if not _can_be_read(table, fragment)]
        if not bad:
            return
        try:
            with errors_of(table.uri):
                table.swap([], [], [fragment.fragment_id for fragment in bad])
        except StorageError as error:
            if attempt == _TRIES or not isinstance(error.__cause__, CommitConflictError):
                raise
            continue
        done.fragments += len(bad)
        done.rows += sum(fragment.physical_rows - fragment.num_deletions for fragment in bad)


def _can_be_read(table: Table, fragment: Any) -> bool:
    """Whether a fragment can be read: asked twice, the second time of a dataset that remembers nothing."""
    for again in (False, True):
        with suppress(Damaged), reading(table.uri):
            if again:
                dataset = lance.dataset(table.uri, version=table.dataset.version)
                fragment = dataset.get_fragment(fragment.fragment_id)
            for _ in fragment.to_batches(batch_size=1024):
                pass
            return True
    return False


def _without_indexes(uri: str) -> int:
    """Drop the indexes that cannot be read; returns how many. Little memory is taken for what is read of them."""
    with reading(uri):
        dataset = lance.dataset(uri, index_cache_size_bytes=_INDEX_BYTES)
        bad = [index.name for index in dataset.describe_indices() if not _can_be_used(dataset, index.name)]
        for name in bad:
            dataset.drop_index(name)
    return len(bad)


def _can_be_used(dataset: lance.LanceDataset, index: str) -> bool:
    try:
        with reading(dataset.uri):
            dataset.prewarm_index(index)
    except StorageError as error:  # perhaps only that its kind cannot be read ahead
        return not isinstance(error, Damaged)
    return True
