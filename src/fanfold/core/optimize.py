"""Upkeep of a database: small fragments are joined, old versions and litter removed."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import lance

from fanfold.core.catalog import list_runs
from fanfold.core.database import table_names
from fanfold.core.fold import derived_tables
from fanfold.core.ledger import Ledger
from fanfold.core.recovery import recover
from fanfold.core.report import is_under_way
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Table
from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.storage import broke_off

_TRIES = 5  # to join fragments while others commit


def optimize(database: str, keep: timedelta) -> dict[str, dict[str, int]]:
    """Recover dead runs, then join small fragments and remove old versions and litter, table by table.

    Litter is only swept while no run is under way: a fragment that waits for its commit looks the same.
    Raises UsageError when there are no tables, StorageError when the database cannot be used.
    """
    ledgers = [Ledger.open(database, name) for name in table_names(database) if name != "failures"]
    ours = [ledger for ledger in ledgers if ledger]
    if not ours:
        raise UsageError(f"There is no fanfold database at {database}.")
    for ledger in ours:
        recover(ledger)
    for run in _runs(database):
        if not is_under_way(run) and run.get("report.json"):
            run.prune()
    tables = {ledger.name: ledger.rows for ledger in ours} | {"failures": ours[-1].failures}
    tables |= {f"{ledger.name}_{name}": table for ledger in ours for name, table in ledger.details.tables.items()}
    done = {name: optimize_table(table, keep, lambda: not _is_busy(database)) for name, table in tables.items()}
    # A fold need not belong to a run, and leaves hardly any litter.
    derived = derived_tables(database)
    return done | {name: optimize_table(table, keep, lambda: False) for name, table in derived.items()}


def _runs(database: str) -> Iterator[RunDirectory]:
    return (RunDirectory(database, id) for id in list_runs(database))


def _is_busy(database: str) -> bool:
    """Whether a run is under way."""
    return any(map(is_under_way, _runs(database)))


def optimize_table(table: Table, older_than: timedelta, may_sweep: Callable[[], bool]) -> dict[str, int]:
    """Join small fragments, complete indexes, remove old versions; if `may_sweep()`, also what dead workers left.

    It is asked after the joining, which may take hours, for only while nobody writes may anything be swept: a
    fragment that waits for its commit looks like litter.
    Returns counts: fragments before and after, old versions and bytes removed.
    """
    with reading(table.uri):
        table.dataset = lance.dataset(table.uri)
        before = len(table.dataset.get_fragments())
        _join_fragments(table)
        stats = table.dataset.cleanup_old_versions(older_than, delete_unverified=may_sweep())
        table.dataset = lance.dataset(table.uri)
    return {
        "fragments_before": before,
        "fragments": len(table.dataset.get_fragments()),
        "old_versions": stats.old_versions,
        "bytes_removed": stats.bytes_removed,
    }


def _join_fragments(table: Table) -> None:
    """Join small fragments, and put into the table's indexes, if there are any, the rows they lack.

    A commit that comes in between wins, and a table that stays busy stays as it is.
    """
    for _ in range(_TRIES):
        try:
            table.dataset.optimize.compact_files()
            table.dataset.optimize.optimize_indices()
            return
        except OSError as error:
            if "commit conflict" not in str(error) and not broke_off(error):
                raise
            table.dataset = lance.dataset(table.uri)
