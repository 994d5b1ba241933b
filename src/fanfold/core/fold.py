"""Fold: small tables that a job derives from its tables, after the last commit of a run.

    rows, details, failures ──job.fold──▶ {"summary": ...} ──overwrite, one step each──▶ words_summary.lance

The metadata of a derived table has the versions it was made from. So nothing is done twice in vain, and a fold
that was killed, or overtaken by another driver's commit, is done at the end of the next run.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lance
import pyarrow as pa
from lance import LanceDataset

from fanfold.core.database import check_name, table_names
from fanfold.core.ledger import Ledger, ledger_of
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Table
from fanfold.errors import FanfoldError, UsageError
from fanfold.job import Job, details_of, load
from fanfold.storage import errors_of, join

DERIVED = "fanfold.derived"
"""The metadata key of a derived table: the versions of the tables it was made from, by short name, as JSON."""
DERIVED_FROM = "fanfold.derived_from"
"""The same: the job's own table by `table` and `id`, and all `tables` that this fold made: name -> rows, as JSON."""

_TRIES = 3  # a driver that commits meanwhile folds at its own end


def fold_if_due(ledger: Ledger, run: RunDirectory) -> None:
    """Do the fold of a run's job, unless the derived tables are of the current versions, or there is none.

    Raises FanfoldError with the command that does it again.
    """
    if run.asked.fold:
        with _explained(ledger):
            _fold(ledger, run.asked.load_job())


def fold_again(database: str, table: str | None) -> dict[str, int]:
    """Do the fold of a table's job, also if it is up to date: see `fanfold.fold`."""
    ledger = ledger_of(database, table)
    metadata = ledger.rows.metadata
    name = metadata.get("fanfold.job_address", metadata["fanfold.job"])  # absent from tables of older versions
    job = load(name, json.loads(metadata["fanfold.options"]))
    with _explained(ledger):
        return _fold(ledger, job, again=True) if hasattr(job, "fold") else {}


def _fold(ledger: Ledger, job: Job, *, again: bool = False) -> dict[str, int]:
    made: dict[str, int] = {}
    for _ in range(_TRIES):
        sources = _sources(ledger, job)
        versions = json.dumps({short: source.version for short, source in sources.items()})
        if not again and _is_current(ledger, versions):
            break
        derived: Mapping[str, pa.Table] = job.fold(sources)  # type: ignore[attr-defined]
        made = _write(ledger, versions, {f"{ledger.name}_{short}": rows for short, rows in derived.items()})
        again = False
    return made


def derived_tables(database: str) -> dict[str, Table]:
    """The derived tables of a database, by name."""
    tables = ((name, Table.open(database, name)) for name in table_names(database) if name != "failures")
    return {name: table for name, table in tables if table and DERIVED in table.metadata}


def _sources(ledger: Ledger, job: Job) -> dict[str, LanceDataset]:
    """The newest versions of the tables that a job derives others from, by short name."""
    details = {short: f"{ledger.name}_{short}" for short in details_of(job)}
    names = {"rows": ledger.name, **details, "failures": "failures"}
    tables = {short: Table.open(ledger.database, name) for short, name in names.items()}
    return {short: table.dataset for short, table in tables.items() if table}


def _is_current(ledger: Ledger, versions: str) -> bool:
    """Whether all tables of one fold are there, made from these versions."""
    whole: dict[str, int] = {}
    for name, table in derived_tables(ledger.database).items():
        origin = _origin(table)
        if (origin["table"], origin["id"], origin["versions"]) == (ledger.name, ledger.id, versions):
            whole[name] = table.dataset.count_rows()  # fewer than were written, if it was damaged and repaired
            together = origin["tables"]
    return bool(whole) and all(whole.get(name) == rows for name, rows in together.items())


def _origin(table: Table) -> dict[str, Any]:
    """What a derived table was made from, and with which others."""
    origin: dict[str, Any] = json.loads(table.metadata.get(DERIVED_FROM, '{"table": "", "id": "", "tables": {}}'))
    return origin | {"versions": table.metadata.get(DERIVED, "")}


def _write(ledger: Ledger, versions: str, derived: Mapping[str, pa.Table]) -> dict[str, int]:
    """Write derived tables, each in one step over what it held before. Returns their names and rows."""
    made = {name: rows.num_rows for name, rows in derived.items()}
    origin = json.dumps({"table": ledger.name, "id": ledger.id, "tables": made})
    there: set[str] = set()
    for name in derived:
        check_name(name)
        if table := Table.open(ledger.database, name):
            there.add(name)
            if _origin(table)["table"] != ledger.name:
                raise UsageError(f"there is already a table called '{name}'. Rename it, or the derived table")
    for name, rows in derived.items():
        described = {DERIVED.encode(): versions.encode(), DERIVED_FROM.encode(): origin.encode()}
        table_rows = rows.replace_schema_metadata((rows.schema.metadata or {}) | described)
        uri = join(ledger.database, f"{name}.lance")
        with errors_of(uri):
            lance.write_dataset(table_rows, uri, mode="overwrite" if name in there else "create")
    return made


@contextmanager
def _explained(ledger: Ledger) -> Iterator[None]:
    """Turn any error of a fold into one that names what is safe, and the command to repeat it."""
    try:
        yield
    except Exception as error:
        why = str(error) if isinstance(error, FanfoldError) else f"{type(error).__name__}: {error}"
        raise FanfoldError(
            f"The rows of table '{ledger.name}' are safe, but its fold failed: {why.rstrip('.')}. "
            f"Do it again with: fanfold fold {ledger.database} --table {ledger.name}"
        ) from error
