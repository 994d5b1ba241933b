"""The vector index: what it finds, and that it stays true whatever happens to the table meanwhile."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest

import fanfold
from fanfold.errors import StorageError, UsageError
from fanfold.images import search, vector_index
from fanfold.images.vector_index import build, describe, due, update
from fanfold.index import digests, words
from fanfold.table import Drop
from vector_tables import DIMENSION, clustered, commit, made

HERE = str(Path(__file__).parent.parent)


def keys(hits: Sequence[search.Hit]) -> list[str]:
    """The keys found, best first."""
    return [hit.key for hit in hits]


def found(dataset: lance.LanceDataset, vector: np.ndarray) -> search.Hit:
    """The nearest by the index."""
    assert describe(dataset) is not None
    return search.nearest(dataset, vector, 1)[0]


def test_finds_the_nearest(database: str) -> None:
    """The index finds nearly all true neighbours, best first, with exact cosines, for queries that are no rows."""
    made(database, clustered(6000, 1))
    dataset = build(fanfold.open_table(database))
    right = 0
    for query in clustered(100, 2):
        exactly = {hit.key: hit.cosine for hit in search.nearest(dataset, query, 10, exact=True)}
        hits = search.nearest(dataset, query, 10)
        assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
        assert all(abs(exactly[hit.key] - hit.cosine) < 1e-5 for hit in hits if hit.key in exactly)
        right += len(exactly.keys() & set(keys(hits)))
    assert right >= 980


def test_more_than_there_are(database: str) -> None:
    """Asking for more neighbours than rows is no error; a row of zeros is nobody's neighbour."""
    matrix = clustered(500, 1)
    matrix[7] = 0
    made(database, matrix)
    dataset = build(fanfold.open_table(database))
    hits = keys(search.nearest(dataset, matrix[3], 1000))
    assert hits[0] == "k3"
    assert len(hits) == len(set(hits)) <= 500
    assert not all(np.isnan(hit.cosine) for hit in search.nearest(dataset, matrix[3], 1000))


def test_a_query_of_zeros(database: str) -> None:
    """A vector of zeros is asked exactly: everything is equally unlike it."""
    made(database, clustered(500, 1))
    hits = search.nearest(build(fanfold.open_table(database)), np.zeros(DIMENSION), 3)
    assert [hit.cosine for hit in hits] == [0, 0, 0]


def test_all_rows_alike(database: str) -> None:
    """A table of copies, which has but one direction, can be indexed."""
    made(database, np.ones((600, DIMENSION)))
    assert found(build(fanfold.open_table(database)), np.ones(DIMENSION)).cosine == pytest.approx(1)


@pytest.mark.parametrize("metric", ["L2", "dot"])
def test_an_index_of_another_metric(metric: str, database: str) -> None:
    """An index that somebody made for distances is not asked for cosines."""
    matrix = clustered(400, 1) * np.arange(1, 401)[:, None]
    made(database, matrix)
    dataset = fanfold.open_table(database)
    dataset.create_index("vector", "IVF_FLAT", metric=metric, num_partitions=4)
    dataset = fanfold.open_table(database)
    assert describe(dataset) is None
    assert keys(search.nearest(dataset, matrix[5], 3)) == keys(search.nearest(dataset, matrix[5], 3, exact=True))
    both = build(dataset)
    assert {index.details["metric_type"] for index in both.describe_indices()} == {metric.upper(), "COSINE"}
    assert keys(search.nearest(both, matrix[5], 3)) == keys(search.nearest(dataset, matrix[5], 3, exact=True))


# -- what commits do to it -----------------------------------------------------------------------------------------


def test_commits(database: str) -> None:
    """New rows are found at once, changed ones where they are now, dropped ones not at all; an update loses none."""
    old, new, changed = clustered(1200, 1), clustered(30, 2), clustered(30, 3)
    table = made(database, old)
    build(fanfold.open_table(database))
    commit(table, [f"n{n}" for n in range(30)], new)
    commit(table, [f"k{n}" for n in range(30)], changed, version="2")
    table.commit([], Drop(digests(["k500", "k3"]), words(["1", "2"])))

    def look() -> None:
        dataset = fanfold.open_table(database)
        assert found(dataset, new[4]).key == "n4"
        assert found(dataset, changed[5]).key == "k5"
        assert found(dataset, old[700]).key == "k700"
        assert found(dataset, old[5]).key != "k5"
        assert not {"k500", "k3"} & {found(dataset, vector).key for vector in (old[500], changed[3], old[3])}

    look()
    index = describe(fanfold.open_table(database))
    assert index is not None
    assert (index.rows, index.unindexed) == (1228, 59)
    updated = describe(update(fanfold.open_table(database)))
    assert updated is not None
    assert (updated.rows, updated.unindexed) == (1228, 0)
    look()
    commit(table, ["late"], clustered(1, 9))
    table.optimize(timedelta(0), sweep=True)
    updated = describe(fanfold.open_table(database))
    assert updated is not None
    assert (updated.rows, updated.unindexed) == (1229, 0)
    look()


def test_a_table_emptied_and_filled_again(database: str) -> None:
    """An index over rows that are all gone is in nobody's way."""
    table = made(database, clustered(400, 1))
    build(fanfold.open_table(database))
    table.refresh()
    everything = digests([f"k{n}" for n in range(400)])
    table.commit([], Drop(everything, table.index.find(everything)[0]))
    assert search.nearest(fanfold.open_table(database), np.ones(DIMENSION), 3) == []
    new = clustered(300, 2)
    commit(table, [f"n{n}" for n in range(300)], new)
    assert found(fanfold.open_table(database), new[9]).key == "n9"
    assert found(build(fanfold.open_table(database)), new[9]).key == "n9"


def test_what_is_due(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is due an index, and one with many rows outside it an update; a small one nothing."""
    monkeypatch.setattr(vector_index, "UNINDEXED_UP_TO", 20)
    table = made(database, clustered(400, 1))
    assert due(fanfold.open_table(database)) is None
    monkeypatch.setattr(vector_index, "INDEXED_FROM", 400)
    assert due(fanfold.open_table(database)) == "build"
    build(fanfold.open_table(database))
    assert due(fanfold.open_table(database)) is None
    commit(table, [f"n{n}" for n in range(21)], clustered(21, 2))
    assert due(fanfold.open_table(database)) == "update"
    update(fanfold.open_table(database))
    assert due(fanfold.open_table(database)) is None


# -- at the same time, and in spite of faults ----------------------------------------------------------------------


def test_commits_while_it_is_built(database: str) -> None:
    """Builds and updates between commits and compactions of another process end well, and all rows are found."""
    made(database, clustered(1500, 1))
    code = f"import vector_tables as s; s.keep_committing({database!r}, rounds=40)"
    other = subprocess.Popen([sys.executable, "-c", code], cwd=HERE)
    rounds = 0
    while other.poll() is None or rounds < 3:
        (build, update)[rounds % 2](lance.dataset(f"{database}/images.lance"))
        rounds += 1
    assert other.wait() == 0
    dataset = fanfold.open_table(database)
    assert dataset.count_rows() == 1500 + 40
    update(dataset)
    for round, vector in enumerate(clustered(40, 9)):
        assert found(fanfold.open_table(database), vector).key == f"round{round}"


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.8])
def test_killed_while_it_is_built(seconds: float, database: str) -> None:
    """A build that is killed leaves the table as it was; the next one works, and an optimize removes the remains."""
    matrix = clustered(3000, 1)
    table = made(database, matrix)
    code = f"import vector_tables as s; s.keep_building({database!r})"
    builder = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    builder.stdout.readline()  # it has begun
    time.sleep(seconds)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    dataset = fanfold.open_table(database)
    assert dataset.count_rows() == 3000
    assert search.nearest(dataset, matrix[8], 1)[0].key == "k8"
    table.optimize(timedelta(0), sweep=True)
    assert found(build(fanfold.open_table(database)), matrix[8]).key == "k8"
    table.optimize(timedelta(0), sweep=True)
    kept = {segment.uuid for index in fanfold.open_table(database).describe_indices() for segment in index.segments}
    assert {path.name for path in Path(database, "images.lance", "_indices").iterdir()} == set(map(str, kept))


def nothing_may_be_written() -> None:
    """For a child process: files of no bytes at most, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


SEARCH = """
import sys
from fanfold.images import vector_index
vector_index.INDEXED_FROM = 100
from fanfold.cli import main
main()
"""


def command(*words: str, writable: bool = True) -> "subprocess.CompletedProcess[str]":
    """What `fanfold images ...` says where tables of 100 rows count as large."""
    return subprocess.run(
        [sys.executable, "-c", SEARCH, "images", *words],
        capture_output=True,
        text=True,
        preexec_fn=None if writable else nothing_may_be_written,
        env=os.environ | {"COLUMNS": "200"},
    )


def test_search_makes_the_index_it_needs(database: str) -> None:
    """`search` on a large table says how long the index takes, makes it once, and with --exact makes none."""
    made(database, clustered(600, 1))
    exact = command("search", database, "k5", "-k", "1", "--exact", "--json")
    assert (exact.returncode, exact.stderr) == (0, "")
    assert describe(fanfold.open_table(database)) is None
    first = command("search", database, "k5", "-k", "1", "--json")
    assert first.returncode == 0
    assert first.stderr.startswith("Making an index of 600 vectors: about ")
    assert describe(fanfold.open_table(database)) is not None
    second = command("search", database, "k5", "-k", "1", "--json")
    assert (second.returncode, second.stderr) == (0, "")
    assert '"key": "k5"' in exact.stdout
    assert '"key": "k5"' in first.stdout
    assert second.stdout == first.stdout


def test_search_where_nothing_can_be_written(database: str) -> None:
    """Where no index can be made, the search says so and is exact; `index` says so and fails."""
    made(database, clustered(600, 1))
    searched = command("search", database, "k5", "-k", "1", "--json", writable=False)
    assert searched.returncode == 0, searched.stderr
    assert '"key": "k5"' in searched.stdout
    assert "Searching without" in searched.stderr
    assert "Traceback" not in searched.stderr
    asked = command("index", database, writable=False)
    assert asked.returncode == 1
    assert "Traceback" not in asked.stderr


def test_the_verb(database: str) -> None:
    """`index` makes the index, then has nothing to do, then brings it up to date, then makes it anew."""
    table = made(database, clustered(600, 1))
    assert '"unindexed": 0' in command("index", database, "--json").stdout
    assert command("index", database).stderr == ""
    commit(table, ["new"], clustered(1, 2))
    later = command("index", database)
    assert later.stderr.startswith("Putting into the index 1 vectors")
    assert "601 of 601 rows" in later.stdout
    assert "Making an index of 601 vectors" in command("index", database, "--rebuild").stderr


def test_an_empty_table(database: str) -> None:
    """There is nothing to index in a table without rows."""
    made(database, np.empty((0, DIMENSION)))
    asked = command("index", database)
    assert (asked.returncode, "there is nothing to index" in asked.stderr) == (UsageError.exit_code, True)


def test_on_s3(bucket: str) -> None:
    """A table in an object store is indexed there, and searched by it after a commit."""
    matrix = clustered(400, 1)
    table = made(bucket, matrix)
    dataset = build(fanfold.open_table(bucket))
    assert found(dataset, matrix[3]).key == "k3"
    commit(table, ["new"], clustered(1, 2))
    assert found(fanfold.open_table(bucket), clustered(1, 2)[0]).key == "new"


def test_s3_that_takes_no_writes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the object store refuses, the error names the table."""
    made(bucket, clustered(400, 1))
    dataset = fanfold.open_table(bucket)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"images\.lance"):
        build(dataset)
