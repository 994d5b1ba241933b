"""The vector index: what it finds, and that it stays right while the table changes."""

import os
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
import nursery
from fanfold.core.index import digests, words
from fanfold.core.optimize import optimize_table
from fanfold.core.table import Drop
from fanfold.errors import StorageError, UsageError
from fanfold.images.search import neighbours as search
from fanfold.images.search import vector_index
from fanfold.images.search.vector_index import build, describe, due, update
from vector_tables import DIMENSION, clustered, commit, made

HERE = str(Path(__file__).parent.parent)


def keys(hits: Sequence[search.Hit]) -> list[str]:
    """The keys found, best first."""
    return [hit.key for hit in hits]


def found(dataset: lance.LanceDataset, vector: np.ndarray) -> search.Hit:
    """The nearest row, from the index."""
    assert describe(dataset) is not None
    return search.nearest(dataset, vector, 1)[0]


def test_finds_the_nearest(database: str) -> None:
    """The index finds nearly all true neighbours, best first, with exact cosines, for queries that are not rows."""
    made(database, clustered(6000, 1))
    dataset = build(fanfold.open_table(database, "images"))
    right = 0
    for query in clustered(100, 2):
        exactly = {hit.key: hit.cosine for hit in search.nearest(dataset, query, 10, exact=True)}
        hits = search.nearest(dataset, query, 10)
        assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
        assert all(abs(exactly[hit.key] - hit.cosine) < 1e-5 for hit in hits if hit.key in exactly)
        right += len(exactly.keys() & set(keys(hits)))
    assert right >= 980


def test_more_than_there_are(database: str) -> None:
    """Asking for more neighbours than rows finds all rows but the one of zeros, best first."""
    matrix = clustered(500, 1)
    matrix[7] = 0
    made(database, matrix)
    dataset = build(fanfold.open_table(database, "images"))
    hits = search.nearest(dataset, matrix[3], 1000)
    assert keys(hits)[0] == "k3"
    assert sorted(keys(hits)) == sorted(f"k{row}" for row in range(500) if row != 7)
    cosines = [hit.cosine for hit in hits]
    assert cosines == sorted(cosines, reverse=True)
    exactly = {hit.key: hit.cosine for hit in search.nearest(dataset, matrix[3], 1000, exact=True)}
    assert all(abs(exactly[hit.key] - hit.cosine) < 1e-5 for hit in hits)  # so none is NaN


def test_a_query_of_zeros(database: str) -> None:
    """A vector of zeros is searched exactly, and is equally far from everything."""
    made(database, clustered(500, 1))
    hits = search.nearest(build(fanfold.open_table(database, "images")), np.zeros(DIMENSION), 3)
    assert [hit.cosine for hit in hits] == [0, 0, 0]


def test_all_rows_alike(database: str) -> None:
    """A table of copies, which has only one direction, can be indexed."""
    made(database, np.ones((600, DIMENSION)))
    assert found(build(fanfold.open_table(database, "images")), np.ones(DIMENSION)).cosine == pytest.approx(1)


@pytest.mark.parametrize("metric", ["L2", "dot"])
def test_an_index_of_another_metric(metric: str, database: str) -> None:
    """An index that was made for distances is not used for cosines."""
    matrix = clustered(400, 1) * np.arange(1, 401)[:, None]
    made(database, matrix)
    dataset = fanfold.open_table(database, "images")
    dataset.create_index("vector", "IVF_FLAT", metric=metric, num_partitions=4)
    dataset = fanfold.open_table(database, "images")
    assert describe(dataset) is None
    assert keys(search.nearest(dataset, matrix[5], 3)) == keys(search.nearest(dataset, matrix[5], 3, exact=True))
    both = build(dataset)
    assert {index.details["metric_type"] for index in both.describe_indices()} == {metric.upper(), "COSINE"}
    assert keys(search.nearest(both, matrix[5], 3)) == keys(search.nearest(dataset, matrix[5], 3, exact=True))


# -- what commits do to it -----------------------------------------------------------------------------------------


def test_commits(database: str) -> None:
    """New rows are found at once, changed ones at their new place, dropped ones not at all; an update loses none."""
    old, new, changed = clustered(1200, 1), clustered(30, 2), clustered(30, 3)
    table = made(database, old)
    build(fanfold.open_table(database, "images"))
    commit(table, [f"n{n}" for n in range(30)], new)
    commit(table, [f"k{n}" for n in range(30)], changed, version="2")
    table.commit([], Drop(digests(["k500", "k3"]), words(["1", "2"])))

    def look() -> None:
        dataset = fanfold.open_table(database, "images")
        assert found(dataset, new[4]).key == "n4"
        assert found(dataset, changed[5]).key == "k5"
        assert found(dataset, old[700]).key == "k700"
        assert found(dataset, old[5]).key != "k5"
        assert not {"k500", "k3"} & {found(dataset, vector).key for vector in (old[500], changed[3], old[3])}

    look()
    index = describe(fanfold.open_table(database, "images"))
    assert index is not None
    assert (index.rows, index.unindexed) == (1228, 59)
    updated = describe(update(fanfold.open_table(database, "images")))
    assert updated is not None
    assert (updated.rows, updated.unindexed) == (1228, 0)
    look()
    commit(table, ["late"], clustered(1, 9))
    optimize_table(table, timedelta(0), lambda: True)
    updated = describe(fanfold.open_table(database, "images"))
    assert updated is not None
    assert (updated.rows, updated.unindexed) == (1229, 0)
    look()


def test_a_table_emptied_and_filled_again(database: str) -> None:
    """An index whose rows are all gone does not disturb searches."""
    table = made(database, clustered(400, 1))
    build(fanfold.open_table(database, "images"))
    table.refresh()
    everything = digests([f"k{n}" for n in range(400)])
    table.commit([], Drop(everything, table.index.find(everything)[0]))
    assert search.nearest(fanfold.open_table(database, "images"), np.ones(DIMENSION), 3) == []
    new = clustered(300, 2)
    commit(table, [f"n{n}" for n in range(300)], new)
    assert found(fanfold.open_table(database, "images"), new[9]).key == "n9"
    assert found(build(fanfold.open_table(database, "images")), new[9]).key == "n9"


def test_what_is_due(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table needs an index, one with many unindexed rows an update, and a small one nothing."""
    monkeypatch.setattr(vector_index, "UNINDEXED_UP_TO", 20)
    table = made(database, clustered(400, 1))
    assert due(fanfold.open_table(database, "images")) is None
    monkeypatch.setattr(vector_index, "INDEXED_FROM", 400)
    assert due(fanfold.open_table(database, "images")) == "build"
    build(fanfold.open_table(database, "images"))
    assert due(fanfold.open_table(database, "images")) is None
    commit(table, [f"n{n}" for n in range(21)], clustered(21, 2))
    assert due(fanfold.open_table(database, "images")) == "update"
    update(fanfold.open_table(database, "images"))
    assert due(fanfold.open_table(database, "images")) is None


# -- at the same time, and in spite of faults ----------------------------------------------------------------------


def test_commits_while_it_is_built(database: str) -> None:
    """Builds and updates between another process's commits and compactions succeed, and all rows are found."""
    made(database, clustered(1500, 1))
    code = f"import vector_tables as s; s.keep_committing({database!r}, rounds=20)"
    other = nursery.Popen([sys.executable, "-c", code], cwd=HERE)
    rounds = 0
    while other.poll() is None or rounds < 3:
        (build, update)[rounds % 2](lance.dataset(f"{database}/images.lance"))
        rounds += 1
    assert other.wait() == 0
    dataset = fanfold.open_table(database, "images")
    assert dataset.count_rows() == 1500 + 20
    update(dataset)
    for round, vector in enumerate(clustered(20, 9)):
        assert found(fanfold.open_table(database, "images"), vector).key == f"round{round}"


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.8])
def test_killed_while_it_is_built(seconds: float, database: str) -> None:
    """A killed build leaves the table as it was; the next one works, and optimize removes the leftovers."""
    matrix = clustered(3000, 1)
    table = made(database, matrix)
    code = f"import vector_tables as s; s.keep_building({database!r})"
    builder = nursery.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None
    builder.stdout.readline()  # it has started
    time.sleep(seconds)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    dataset = fanfold.open_table(database, "images")
    assert dataset.count_rows() == 3000
    assert search.nearest(dataset, matrix[8], 1)[0].key == "k8"
    optimize_table(table, timedelta(0), lambda: True)
    assert found(build(fanfold.open_table(database, "images")), matrix[8]).key == "k8"
    optimize_table(table, timedelta(0), lambda: True)
    indices = fanfold.open_table(database, "images").describe_indices()
    kept = {segment.uuid for index in indices for segment in index.segments}
    assert {path.name for path in Path(database, "images.lance", "_indices").iterdir()} == set(map(str, kept))


SEARCH = """
import resource, signal, sys
if sys.argv.pop(1) == "full disk":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from fanfold.images.search import vector_index
vector_index.INDEXED_FROM = 100
from fanfold.cli import main
main()
"""


def command(*words: str, writable: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run `fanfold images ...` with tables of 100 rows counting as large; it can write to nothing on a full disk."""
    start = [sys.executable, "-c", SEARCH, "disk" if writable else "full disk", "images"]
    return nursery.run([*start, *words], env=os.environ | {"COLUMNS": "200"})


def test_search_makes_the_index_it_needs(database: str) -> None:
    """`search` on a large table says how long the index takes, makes it once, and makes none with --exact."""
    made(database, clustered(600, 1))
    exact = command("search", database, "k5", "-k", "1", "--exact", "--json")
    assert (exact.returncode, exact.stderr) == (0, "")
    assert describe(fanfold.open_table(database, "images")) is None
    first = command("search", database, "k5", "-k", "1", "--json")
    assert first.returncode == 0
    assert first.stderr.startswith("Building an index of 600 vectors: about ")
    assert describe(fanfold.open_table(database, "images")) is not None
    second = command("search", database, "k5", "-k", "1", "--json")
    assert (second.returncode, second.stderr) == (0, "")
    assert '"key": "k5"' in exact.stdout
    assert '"key": "k5"' in first.stdout
    assert second.stdout == first.stdout


def test_search_where_nothing_can_be_written(database: str) -> None:
    """If no index can be made, the search says so and is exact; `index` fails."""
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
    """`index` makes the index, then has nothing to do, then brings it up to date, then rebuilds it."""
    table = made(database, clustered(600, 1))
    assert '"unindexed": 0' in command("index", database, "--json").stdout
    assert command("index", database).stderr == ""
    commit(table, ["new"], clustered(1, 2))
    later = command("index", database)
    assert later.stderr.startswith("Adding 1 vectors to the index")
    assert "601 of 601 rows" in later.stdout
    assert "Building an index of 601 vectors" in command("index", database, "--rebuild").stderr


def test_an_empty_table(database: str) -> None:
    """A table without rows has nothing to index."""
    made(database, np.empty((0, DIMENSION)))
    asked = command("index", database)
    assert (asked.returncode, "There is nothing to index" in asked.stderr) == (UsageError.exit_code, True)


def test_on_s3(bucket: str) -> None:
    """A table in an object store is indexed there, and searched through the index after a commit."""
    matrix = clustered(400, 1)
    table = made(bucket, matrix)
    dataset = build(fanfold.open_table(bucket, "images"))
    assert found(dataset, matrix[3]).key == "k3"
    commit(table, ["new"], clustered(1, 2))
    assert found(fanfold.open_table(bucket, "images"), clustered(1, 2)[0]).key == "new"


def test_s3_that_takes_no_writes(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the object store refuses a write, the error names the table."""
    made(bucket, clustered(400, 1))
    dataset = fanfold.open_table(bucket, "images")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"images\.lance"):
        build(dataset)


def test_rows_by_their_number(database: str) -> None:
    """The numbers of the rows that the index finds are those of the table's order, whatever was deleted before them."""
    matrix = clustered(600, 1)
    table = made(database, matrix)
    build(fanfold.open_table(database, "images"))
    gone = [f"k{row}" for row in (0, 3, 199, 250, 599)]
    table.refresh()
    table.commit([], Drop(digests(gone), words(["1"] * len(gone))))
    commit(table, ["new", "k10"], clustered(2, 5), version="2")
    dataset = fanfold.open_table(database, "images")
    order = dataset.to_table(columns=["key"])["key"].to_pylist()
    assert len(order) == 596
    for exact in (False, True):
        for row in (1, 5, 198, 200, 251, 598):
            near = search.nearest_rows(dataset, matrix[row], 20, exact=exact)
            assert order[near.rows[0]] == f"k{row}"
            assert [order[one] for one in near.rows] == keys(search.nearest(dataset, matrix[row], 20, exact=exact))
            assert near.cosines.tolist() == sorted(near.cosines.tolist(), reverse=True)
