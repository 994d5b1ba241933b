"""What a database holds: its tables, by name."""

import re
from itertools import count

from lance import LanceDataset

from fanfold.errors import UsageError
from fanfold.storage import absolute, errors_of, exists, open_store
from fanfold.table import Table


def open_table(database: str, name: str = "images") -> LanceDataset:
    """A table's newest version, as a Lance dataset: `to_table`, `scanner`, `count_rows`, vector search.

    Raises UsageError when the database has no such table, StorageError when it cannot be reached.
    """
    where = absolute(database)
    check_name(name)
    if table := Table.open(where, name):
        return table.dataset
    command = f"fanfold images embed SOURCE {database} --table {name}"
    raise UsageError(f"There is no table '{name}' in {database}. Make one with: {command}")


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
