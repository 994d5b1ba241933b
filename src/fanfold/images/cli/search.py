"""`fanfold images search`, `index`, `duplicates` and `vectors`: questions about a table of pictures."""

from collections.abc import Sequence
from contextlib import ExitStack
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
from fanfold.images.columns.table import narrowed, with_columns
from fanfold.images.search import neighbours as searching
from fanfold.images.search import vector_index
from fanfold.images.search.by_text import TextSide, hits, text_side
from fanfold.images.search.where import checked, rows_where
from fanfold.images.text.search import FreeText

MIRROR = "dynamodb://"
MinScore = Annotated[
    float | None,
    Parameter(
        help="With --text: lowest score of a picture, from 0 to 1. By default 0.01 for words that a model knows."
    ),
]
Where = Annotated[
    str | None,
    Parameter(help="Use only rows that meet a condition on the columns, such as \"format = 'PNG' AND width > 1000\"."),
]


def search(
    database: Database,
    query: Annotated[str | None, Parameter(help="A key in the table, or the path or URL of any picture.")] = None,
    /,
    *,
    text: Annotated[str | None, Parameter(help="Words to search for, instead of a picture.")] = None,
    k: Annotated[int, Parameter(name=["-k", "--neighbours"], help="Number of pictures to find.")] = 10,
    min_score: MinScore = None,
    exact: Annotated[bool, Parameter(negative="", help="Use brute-force search, without the index.")] = False,
    where: Where = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find the pictures most similar to one picture, or those that show what words say.

    A search in a table of 100,000 rows or more builds an index first; a search by the words that a model knows, as in
    `--text cat`, labels new pictures first instead.

    For example: `fanfold images search db cat.png -k 5`
    """
    if k < 1:
        raise UsageError(f"-k takes a whole number of at least 1, not {k}.")
    if (query is None) == (text is None):
        raise UsageError("Search either by a picture or by words: PICTURE, or --text WORDS.")
    dataset = opened(database, table)
    if not dataset.count_rows():
        raise UsageError(f"Table '{table}' in {database} is empty. There is nothing to find.")
    if where is not None:
        checked(with_columns(dataset).schema, where)  # before a model is loaded or an index built
    if query is None:
        side = text_side(dataset)
        if isinstance(side, FreeText):
            return _by_free_text(dataset, side, text or "", k, min_score, exact, where, json)
        if exact:
            raise UsageError("--exact is for a search by a picture. A search by words is always exact.")
        return _by_words(dataset, side, text or "", k, min_score, where, json)
    if min_score is not None:
        raise UsageError("--min-score is for a search by --text.")
    found = _nearest(dataset, query_vector(dataset, table, query), k, exact, where, json)
    if not found:
        shown.note("No row meets the condition.")
    show.hits(found, json)
    return 0


def _nearest(
    dataset: lance.LanceDataset, vector: searching.Vectors, k: int, exact: bool, where: str | None, json: bool
) -> list[searching.Hit]:
    """The rows nearest to a vector; in a large table, by an index that is made if need be."""
    if not exact and (what := vector_index.due(dataset)):
        try:
            dataset = _indexed(dataset, what, "`--exact` searches without it")
        except StorageError as error:
            shown.note(f"{error} Searching without the index.")
    wide = with_columns(dataset) if json or where is not None else dataset
    return searching.nearest(wide, vector, k, exact=exact, where=where, columns=_own(dataset, wide))


def _by_free_text(
    dataset: lance.LanceDataset,
    side: FreeText,
    text: str,
    k: int,
    least: float | None,
    exact: bool,
    where: str | None,
    json: bool,
) -> int:
    """Print the pictures nearest to a text."""
    least = side.least if least is None else checked_score(least)
    for note in side.notes(text):
        shown.note(note)
    near = _nearest(dataset, side.vector(text), k, exact, where, json)
    found = side.scored(near, least)
    show.text_hits(found, json)
    if not near:
        shown.note("No row meets the condition.")
    elif not found:
        shown.note("No picture has a score that is high enough. Lower --min-score, or leave it out.")
    return 0


def checked_score(least: float) -> float:
    """A --min-score. Raises UsageError unless it is one."""
    if not 0 <= least <= 1:
        raise UsageError(f"--min-score takes a number from 0 to 1, not {least}.")
    return least


def _by_words(
    dataset: lance.LanceDataset, side: TextSide, text: str, k: int, least: float | None, where: str | None, json: bool
) -> int:
    """Print the pictures that words find."""
    least = side.least if least is None else checked_score(least)
    if understood := side.understand(text):
        shown.note(f"understood as: {' and '.join(understood)}")
    wide = with_columns(dataset) if json or where is not None else dataset
    among = None if where is None else rows_where(wide, where)
    with shown.fraction("labelling") as progress:
        found = side.find(text, k, least, among, progress)
    show.text_hits(hits(wide, found, _own(dataset, wide)), json)
    if not len(found.rows):
        shown.note("No picture has a score that is high enough. --min-score sets another limit.")
    return 0


def _own(dataset: lance.LanceDataset, wide: lance.LanceDataset) -> list[str]:
    """The names of the columns joined to a table."""
    return [name for name in wide.schema.names if name not in dataset.schema.names]


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
    where: Where = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Find near-duplicates, in groups.

    For example: `fanfold images duplicates db --threshold 0.98`
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold takes a cosine above 0 and at most 1, not {threshold}.")
    dataset = opened(database, table)
    with ExitStack() as stack:
        if where is not None:
            dataset = stack.enter_context(narrowed(with_columns(dataset), where))
        progress = stack.enter_context(shown.fraction("comparing"))
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
