"""What a database holds: its tables, by name."""

import re
from itertools import count

from lance import LanceDataset

from fanfold.core.details import DETAIL_OF
from fanfold.core.table import Table
from fanfold.errors import UsageError
from fanfold.storage import absolute, errors_of, exists, open_store


def open_table(database: str, name: str | None = None) -> LanceDataset:
    """A table's newest version, as a Lance dataset: `to_table`, `scanner`, `count_rows`, vector search.

    Without a name, the database's only table that a run fills. Raises UsageError when the database has no such table,
    StorageError when it cannot be reached.
    """
    where = absolute(database)
    name = only_table(database) if name is None else name
    check_name(name)
    if table := Table.open(where, name):
        return table.dataset
    raise no_table(database, name)


def only_table(database: str) -> str:
    """The name of the database's only table that runs fill. Raises UsageError when there is none, or several."""
    where = absolute(database)
    opened = {name: Table.open(where, name) for name in table_names(where)}
    names = [name for name, table in opened.items() if table and is_filled_by_runs(table)]
    if len(names) > 1:
        raise UsageError(f"{database} has several tables: {', '.join(names)}. Choose one with: --table NAME")
    if not names:
        raise UsageError(f"There is no table in {database}. Make one with: fanfold run JOB SOURCE {database}")
    return names[0]


def is_filled_by_runs(table: Table) -> bool:
    """Whether a table is a job's own: not a detail table, a derived one, the failures, or one of another program."""
    return "fanfold.recipe" in table.metadata and DETAIL_OF not in table.metadata


def no_table(database: str, name: str) -> UsageError:
    """The error to raise for a table that a database does not have."""
    if names := table_names(absolute(database)):
        return UsageError(f"There is no table '{name}' in {database}. Its tables are: {', '.join(names)}.")
    command = f"fanfold run JOB SOURCE {database} --table {name}"
    return UsageError(f"There is no table '{name}' in {database}. Make one with: {command}")


def check_name(table: str) -> None:
    """Raise UsageError unless a table may be called so."""
    if not re.fullmatch(r"\w[\w.-]{0,199}", table):
        raise UsageError(
            f"'{table}' is not a valid table name. Use letters, digits, '_', '-' and '.', at most 200 of them, "
            "and begin with a letter, a digit or '_'."
        )


def free_name(database: str, table: str) -> str:
    """A name like this table's that no table of the database has."""
    taken = table_names(database)
    return next(name for number in count(2) if (name := f"{table}_{number}") not in taken)


def table_names(database: str) -> list[str]:
    """The names of a database's tables, sorted; none if there is no database."""
    if not exists(database):
        return []
    with errors_of(database):
        found = open_store(database).list_with_delimiter()
    names = (prefix.rsplit("/", 1)[-1] for prefix in found["common_prefixes"])
    return sorted(name.removesuffix(".lance") for name in names if name.endswith(".lance"))
