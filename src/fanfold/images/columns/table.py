"""One dataset with all columns: a table's own, and those joined to it."""

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lance
import pyarrow as pa
from lance import DatasetBasePath, FragmentMetadata, LanceDataset, LanceOperation

from fanfold.damage import of_table
from fanfold.errors import StorageError
from fanfold.images import beside
from fanfold.images.columns.files import KEY
from fanfold.images.columns.joined import BY_KEY, BY_ROW, DIGEST, about, names_of, tables_of, whole
from fanfold.images.kept import find, keys_of, rows_of
from fanfold.images.search.where import checked, explained
from fanfold.storage import errors_of, is_url

KEEP = 3600
"""Seconds for which a dataset of an older version stays: somebody may be reading it."""
_TAKEN = 65_536  # rows of joined columns that are put into order at a time
_NAME = re.compile(r"joined-([0-9a-f]{16})-(\d+)-[0-9a-f]{4}\.lance")
_WHOLE = "fanfold.whole"  # in the metadata of a dataset that has all its columns


def with_columns(dataset: LanceDataset) -> LanceDataset:
    """This version of a table with the columns joined to it: the same rows in the same order, null where a key has no
    value.

    If nothing is joined to the table, the table itself. The dataset is made when it is first asked for: about two
    seconds per million rows. It has the table's vector index, except for a read-only table in an object store. Raises
    StorageError.
    """
    names = names_of(dataset)
    if not names:
        return dataset
    mark = _mark(dataset, names)
    places = (beside.folder(dataset), str(beside.cache_folder(dataset)))
    for folder, files in zip(places, beside.listed(dataset), strict=True):
        for file in files:
            if (found := _NAME.fullmatch(file)) and found[1] == mark and (made := _opened(f"{folder}/{file}")):
                return made
    name = f"joined-{mark}-{int(time.time())}-{secrets.token_hex(2)}.lance"
    try:
        made = _made(dataset, f"{beside.writable_folder(dataset)}/{name}")
    except BaseException:
        with suppress(StorageError):
            beside.remove(dataset, name)
        raise
    sweep(dataset, mark, KEEP)
    return made


def sweep(dataset: LanceDataset, keep: str = "", older_than: float = 0) -> None:
    """Remove datasets that were made for other versions, or other columns, more than `older_than` seconds ago."""
    here, cached = beside.listed(dataset)
    for file in {**here, **cached}:
        found = _NAME.fullmatch(file)
        if found and found[1] != keep and time.time() - int(found[2]) >= older_than:
            with suppress(StorageError):  # somebody else removes it, or it is another user's
                beside.remove(dataset, file)


@contextmanager
def narrowed(dataset: LanceDataset, where: str) -> Iterator[LanceDataset]:
    """A dataset of only those rows that meet a condition, while the block runs; the table is not changed.

    Raises UsageError for a condition that cannot be used.
    """
    condition = checked(dataset.schema, where)
    with TemporaryDirectory() as folder:
        rest = _clone(dataset, f"{folder}/rows.lance")
        with explained(dataset.schema, where):
            rest.delete(f"{condition} IS NOT TRUE")
        yield lance.dataset(rest.uri)


@of_table
def _mark(dataset: LanceDataset, names: dict[str, str]) -> str:
    """What a dataset was made of: this version of the table, by its files, and these columns."""
    parts = [part.metadata for part in dataset.get_fragments()]
    files = [([file.path for file in part.files], str(part.deletion_file)) for part in parts]
    made_of = json.dumps([dataset.uri, dataset.version, files, names])
    return sha256(made_of.encode()).hexdigest()[:16]


def _opened(uri: str) -> LanceDataset | None:
    """The dataset, unless it is not finished, or damaged: a power cut leaves files that are empty or cut off."""
    try:
        dataset = lance.dataset(uri)
        if _WHOLE.encode() not in (dataset.schema.metadata or {}):
            return None
        if not is_url(uri):
            own = [file for part in dataset.get_fragments() for file in part.metadata.files if file.base_id is None]
            if not all(_is_whole(Path(uri, "data", file.path), file.file_size_bytes) for file in own):
                return None
    except (OSError, ValueError):
        return None
    return dataset


def _is_whole(file: Path, size: int | None) -> bool:
    """Whether a file of Lance has its size and its end, which a power cut may leave as zeros. Raises OSError."""
    with file.open("rb") as opened:
        return opened.seek(0, SEEK_END) == size and opened.seek(-4, SEEK_END) >= 0 and opened.read() == b"LANC"


def _made(dataset: LanceDataset, uri: str) -> LanceDataset:
    with errors_of(uri):
        made = _clone(dataset, uri)
        digests = {BY_KEY: cache(lambda: keys_of(dataset)), BY_ROW: cache(lambda: rows_of(dataset))}
        for name, kept in tables_of(dataset).items():
            with whole(dataset, name):
                columns = kept.read().replace_schema_metadata(None)
            places = find(digests[about(kept).by](), columns[DIGEST].to_numpy())
            columns = columns.drop_columns([name for name in (DIGEST, KEY) if name in columns.column_names])
            made.add_columns(pa.RecordBatchReader.from_batches(columns.schema, _in_order(columns, places)))
        made.update_schema_metadata({_WHOLE: "yes"})
        return lance.dataset(uri)


def _in_order(columns: pa.Table, places: Any) -> Iterator[pa.RecordBatch]:
    """The joined columns in the table's order: `places` has each row's place among them, or -1."""
    for at in range(0, len(places), _TAKEN):
        some = places[at : at + _TAKEN]
        yield from columns.take(pa.array(some, mask=some < 0)).combine_chunks().to_batches()


def _clone(dataset: LanceDataset, uri: str) -> LanceDataset:
    """A dataset that refers to this one's files."""
    if is_url(uri) or not is_url(dataset.uri):
        return dataset.shallow_clone(uri, dataset.version)
    # Lance clones within a store only. Between two, the fragments are named one by one, and the index is left out.
    bases = {None: DatasetBasePath(dataset.uri, name="table", is_dataset_root=True, id=1)}
    for number, (theirs, base) in enumerate(dataset.base_paths().items(), 2):
        bases[theirs] = DatasetBasePath(
            base.path, name=f"base{number}", is_dataset_root=base.is_dataset_root, id=number
        )
    made = LanceDataset.commit(uri, LanceOperation.Overwrite(dataset.schema, [], initial_bases=list(bases.values())))
    parts = []
    for part in dataset.get_fragments():
        described = part.metadata.to_json()
        for file in [*described["files"], *filter(None, [described.get("deletion_file")])]:
            file["base_id"] = bases[file.get("base_id")].id
        parts.append(FragmentMetadata.from_json(json.dumps(described)))
    return LanceDataset.commit(uri, LanceOperation.Merge(parts, dataset.lance_schema), read_version=made.version)
