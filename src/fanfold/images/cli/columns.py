"""`fanfold images join` and `columns`: columns of one's own, beside those of a table."""

from pathlib import Path
from typing import Annotated

import lance
from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.images.cli import show
from fanfold.images.cli.tables import Table, opened
from fanfold.images.columns import joined
from fanfold.images.columns.files import KEY
from fanfold.images.columns.table import sweep
from fanfold.images.search.where import kind_of


def join(
    database: Database,
    file: Annotated[Path, Parameter(help="A .csv, .tsv or .parquet file with a column `key`, and others.")],
    /,
    *,
    by: Annotated[str, Parameter(help="The column of the file that holds the keys.")] = KEY,
    columns: Annotated[str | None, Parameter(help="The columns to join, with commas between. By default all.")] = None,
    name: Annotated[
        str | None, Parameter(help="What to call them; by default the file's name. They replace those of that name.")
    ] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Join columns of your own to a table by its keys, for --where, `search --json` and `export`.

    The table itself is not changed.

    For example: `fanfold images join db labels.csv`
    """
    only = None if columns is None else names_in(columns)
    show.joining(joined.join(opened(database, table), file, name, by, only), database, table, json)
    return 0


def columns(
    database: Database,
    /,
    *,
    remove: Annotated[str | None, Parameter(help="Take away what `join` has added under this name.")] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """List the columns of a table, and those joined to it.

    For example: `fanfold images columns db`
    """
    dataset = opened(database, table)
    if remove is not None:
        joined.remove(dataset, remove)
        if not joined.names_of(dataset):
            sweep(dataset)
        shown.note(f"'{remove}' is not joined to table '{table}' any more.")
    show.columns(_columns(dataset), json)
    return 0


def _columns(dataset: lance.LanceDataset) -> list[dict[str, str]]:
    own = [{"column": one.name, "kind": kind_of(one.type) or "vector", "from": "the table"} for one in dataset.schema]
    return own + [
        {"column": column, "kind": kind, "from": one.name, "file": one.file, "joined": one.written}
        for one in joined.joined_to(dataset)
        for column, kind in one.columns.items()
    ]


def names_in(columns: str) -> list[str]:
    """The names in a list with commas."""
    return [name for part in columns.split(",") if (name := part.strip())]
