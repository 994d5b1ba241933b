"""What processes do to one table at the same time. Apart from the tests, so that they start quickly."""

import time
from datetime import timedelta

import lance
import pyarrow as pa

from fanfold.core.optimize import optimize_table
from fanfold.core.table import Table
from helpers import batch, written
from jobs import SCHEMA


def commit(table: Table, what: dict[str, str], version: str = "1") -> None:
    """Write and commit keys and texts."""
    table.commit(written(table, what, version))


def create_and_commit(database: str, name: str) -> None:
    """Act as one of several drivers that start at the same time without a database."""
    table = Table.create(database, "scripted", SCHEMA)
    commit(table, {name: "x"})


def race(database: str, name: str, seconds: float) -> None:
    """Commit the same keys as the others repeatedly, cut differently."""
    table = Table.open(database, "scripted")
    assert table is not None
    until = time.monotonic() + seconds
    size = {"a": 3, "b": 5, "c": 7}[name]
    for version in range(1000):
        for start in range(0, 20, size):
            commit(table, {f"{n}": name for n in range(start, min(20, start + size))}, f"{version}")
        commit(table, {f"{name}{version}": "mine alone"})
        if time.monotonic() > until:
            break


def merge(database: str, name: str) -> None:
    """Insert the same new keys with Lance's own upsert, as users may."""
    dataset = lance.dataset(f"{database}/scripted.lance")
    for round in range(6):
        new = pa.Table.from_batches([batch({f"{round}-{n}": name for n in range(5)})])
        dataset.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(new)


def compact(database: str, seconds: float) -> None:
    """Compact repeatedly."""
    table = Table.open(database, "scripted")
    until = time.monotonic() + seconds
    while table and time.monotonic() < until:
        optimize_table(table, timedelta(hours=1), lambda: False)


def act(what: str, database: str, seconds: float) -> None:
    """Compact, or race under a name."""
    if what == "compact":
        compact(database, seconds)
    else:
        race(database, what, seconds)
