"""A table of pictures, as the verbs open it, and the vector of what they search for."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from json import loads
from pathlib import Path
from typing import Annotated, Any

import lance
from cyclopts import Parameter

import fanfold
from fanfold.core.database import table_names
from fanfold.core.fit import check_recipe
from fanfold.errors import UsageError
from fanfold.images import Images
from fanfold.images.calibration import in_database
from fanfold.images.search import neighbours as searching
from fanfold.images.search.rows import dimension_of, metadata_of
from fanfold.job import load
from fanfold.source import open_source, reader
from fanfold.storage import absolute, is_url

Table = Annotated[str, Parameter(help="The table's name.")]


def opened(database: str, table: str) -> lance.LanceDataset:
    """A table of pictures' vectors. Raises UsageError for any other."""
    dataset = fanfold.open_table(database, table)
    maker = (dataset.schema.metadata or {}).get(b"fanfold.job", Images.name.encode()).decode()
    if maker != Images.name:
        raise UsageError(f"Table '{table}' was made by the job '{maker}', not by 'images'. {tables_here(database)}")
    dimension_of(dataset)
    return dataset


def tables_here(database: str) -> str:
    """A sentence with the tables of a database that have pictures, or how to make one."""
    opened = ((name, fanfold.open_table(database, name)) for name in table_names(absolute(database)))
    ours = [name for name, one in opened if (one.schema.metadata or {}).get(b"fanfold.job") == Images.name.encode()]
    if ours:
        return f"Choose a table of pictures with --table: {', '.join(ours)}."
    return f"Make a table of pictures with: fanfold images embed SOURCE {database}"


def query_vector(dataset: lance.LanceDataset, table: str, query: str) -> Any:
    """The vector of a key in the table, else of the picture at a path or URL. float32[dimension]."""
    key = query.encode(errors="replace").decode()  # a path that is not UTF-8 is not a key
    _, matrix, missing = searching.vectors(dataset, [key])
    if not missing:
        return matrix[0]
    if not is_url(query) and not Path(query).is_file():
        raise UsageError(f"{query} is neither a key in table '{table}' nor the path of a picture.")
    return _job_of(dataset, table).embed_one(_content(query))


def _content(address: str) -> bytes:
    source = open_source(address)
    items = list(islice(source.list(frozenset()), 2))
    if len(items) != 1:
        raise UsageError(f"{address} is not a single picture. Name one by its path, its URL, or its key in the table.")
    (item,) = items
    try:
        return reader(source.root).read(item, limit=1 << 30)
    except OSError as error:
        raise UsageError(f"Cannot read {address}: {error}") from error


def _job_of(dataset: lance.LanceDataset, table: str) -> Images:
    """The job that made a table, to embed a query in the same way."""
    return job_of(metadata_of(dataset), table, dataset.uri.rpartition("/")[0])


def job_of(metadata: Mapping[str, str], table: str, database: str) -> Images:
    """The job that made a table with this metadata. Raises UsageError for a table that `images` did not make."""
    if metadata.get("fanfold.job") != Images.name:
        raise UsageError(f"Table '{table}' was not made by the job 'images'. Search it by a key that is in it.")
    job = load(Images.name, loads(metadata["fanfold.options"]))
    assert isinstance(job, Images)
    if job.precision == "int8":
        job = in_database(job, database)
    check_recipe(metadata, job, table, database)
    return replace(job, provider="cpu")  # the GPU that made the table need not be here
