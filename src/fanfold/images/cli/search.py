"""`fanfold images search`, `index`, `duplicates` and `vectors`: questions about a table of pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import lance
import numpy as np
from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.errors import StorageError, UsageError
from fanfold.images.cli import show
from fanfold.images.cli.tables import Table, opened, query_vector
from fanfold.images.search import neighbours as searching
from fanfold.images.search import vector_index
from fanfold.images.search.where import checked

MIRROR = "dynamodb://"
Where = Annotated[
    str | None,
    Parameter(help="Use only rows that meet a condition on the columns, such as \"format = 'PNG' AND width > 1000\"."),
]


def search(
    database: Database,
    query: Annotated[str, Parameter(help="A key in the table, or the path or URL of any picture.")],
    /,
    *,
    k: Annotated[int, Parameter(name=["-k", "--neighbours"], help="Number of neighbours.")] = 10,
    exact: Annotated[bool, Parameter(negative="", help="Use brute-force search, without the index.")] = False,
    where: Where = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find the pictures most similar to one picture. For a table of 100,000 rows or more, this builds an index first.

    For example: `fanfold images search db cat.png -k 5`
    """
    if k < 1:
        raise UsageError(f"-k takes a whole number of at least 1, not {k}.")
    dataset = opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty. There is nothing to find.")
    if where is not None:
        checked(dataset.schema, where)  # before a model is loaded or an index built
    vector = query_vector(dataset, table, query)
    if not exact and (what := vector_index.due(dataset)):
        try:
            dataset = _indexed(dataset, what, "`--exact` searches without it")
        except StorageError as error:
            shown.note(f"{error} Searching without the index.")
    found = searching.nearest(dataset, vector, k, exact=exact, where=where)
    if not found:
        shown.note("No row meets the condition.")
    show.hits(found, json)
    return 0


def index(
    database: Database,
    /,
    *,
    rebuild: Annotated[bool, Parameter(negative="", help="Build the index again from all rows.")] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Build or update the index that searches of large tables use. `search` does this when needed.

    For example: `fanfold images index db`
    """
    dataset = opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty. There is nothing to index.")
    known = vector_index.describe(dataset)
    if rebuild or known is None:
        dataset = _indexed(dataset, "build", "only once")
    elif known.unindexed:
        dataset = _indexed(dataset, "update", "new rows")
    show.indexed(vector_index.describe(dataset), json)
    return 0


def _indexed(dataset: lance.LanceDataset, what: vector_index.Due, hint: str) -> lance.LanceDataset:
    """The dataset with its index built or updated; shows first how long that takes."""
    show.indexing(what, vector_index.needs(dataset, what), hint)
    if what == "update":
        return vector_index.update(dataset)
    with shown.fraction("indexing") as progress:
        return vector_index.build(dataset, progress)


def duplicates(
    database: Database,
    /,
    *,
    threshold: Annotated[
        float, Parameter(help="Lowest cosine between two near-duplicates: above 0, at most 1.")
    ] = 0.95,
    exact: Annotated[
        bool, Parameter(negative="", help="Compare all pairs of pictures, also in a large table.")
    ] = False,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find near-duplicates, in groups.

    For example: `fanfold images duplicates db --threshold 0.98`
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold takes a cosine above 0 and at most 1, not {threshold}.")
    dataset = opened(database, table)
    with shown.fraction("comparing") as progress:
        found = searching.duplicates(dataset, threshold, exact=exact, progress=progress)
    show.groups(found, json)
    return 0


def vectors(
    database: Annotated[str, Parameter(help="The database: a folder, a URL, or an external table: dynamodb://NAME.")],
    /,
    *keys: Annotated[str, Parameter(help="Keys in the table. Put `--` before keys that start with a dash.")],
    npy: Annotated[
        Path | None, Parameter(help="A .npy file to write float32[n, dimension] to, instead of printing.")
    ] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Print the vectors of pictures, or write them to a file.

    For example: `fanfold images vectors db cat.png --npy cat.npy`
    """
    if not keys:
        raise UsageError("Name at least one key. To see some: fanfold images search DATABASE PICTURE")
    found, matrix, missing = _vectors(database, table, keys)
    if missing:
        some = ", ".join(shown.printable(key) for key in missing[:10])
        where = database if database.startswith(MIRROR) else f"table '{table}'"
        raise UsageError(f"{len(missing)} of {len(keys)} keys are not in {where}: {some}")
    if npy:
        try:
            np.save(npy, matrix)
        except OSError as error:
            raise UsageError(f"Cannot write {npy}: {error.strerror}.") from error
        shown.out.print(f"{npy}: float32[{matrix.shape[0]}, {matrix.shape[1]}]", soft_wrap=True)
    else:
        show.vectors(found, matrix, json)
    return 0


def _vectors(database: str, table: str, keys: Sequence[str]) -> tuple[list[str], searching.Vectors, list[str]]:
    if not database.startswith(MIRROR):
        return searching.vectors(opened(database, table), keys)
    from fanfold.aws.dynamodb.table import DynamoTable

    return DynamoTable.open(database).get(keys)
