"""The map of a table: near on the map what is near in the table, the same map each time, and nothing moves."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pyarrow.parquet as pq
import pytest

import fanfold
from commands import fanfold as command
from fanfold.core.optimize import optimize_table
from fanfold.images import kept, maps
from fanfold.images.maps import map as making
from vector_tables import DIMENSION, clustered, commit, made


@pytest.fixture(name="database")
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database, with a cache folder of its own."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    return str(tmp_path / "db")


def opened(database: str) -> lance.LanceDataset:
    """The newest version of the table."""
    return fanfold.open_table(database, "images")


def by_key(database: str) -> dict[str, tuple[int, ...]]:
    """The place of each key, as it is kept."""
    dataset = opened(database)
    found = maps.load(dataset)
    assert found is not None
    keys = dataset.to_table(columns=["key"], scan_in_order=True)["key"].to_pylist()
    return dict(zip(keys, map(tuple, found.places.tolist()), strict=True))


def groups(count: int, each: int) -> np.ndarray:
    """Tight groups of vectors, one after the other."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(count, DIMENSION))
    return (np.repeat(centres, each, axis=0) + 0.1 * random.normal(size=(count * each, DIMENSION))).astype(np.float32)


def of_the_same_group(places: np.ndarray, each: int) -> float:
    """Of how many rows the nearest row on the map is one of its group."""
    flat = places.astype(float)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    group = np.arange(len(flat)) // each
    return float((group[apart.argmin(axis=1)] == group).mean())


def test_groups_stay_together(database: str) -> None:
    """The nearest row on the map is of the same group."""
    made(database, groups(20, 20))
    assert of_the_same_group(maps.build(opened(database)).places, 20) > 0.98


def test_rows_follow_the_landmarks(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table with more rows than landmarks, all rows have a place, near their group."""
    monkeypatch.setattr(making, "LANDMARKS", 200)
    monkeypatch.setattr(making, "_AT_ONCE", 300)
    made(database, groups(20, 40))
    found = maps.build(opened(database))
    assert (found.landmarks, found.placed) == (200, 800)
    assert of_the_same_group(found.places, 40) > 0.98


def test_the_same_table_the_same_map(database: str) -> None:
    """Equal rows get equal places, in whatever order they are."""
    matrix = clustered(300, 1)
    table = made(database, matrix)
    first = maps.build(opened(database)).places
    assert (maps.build(opened(database), rebuild=True).places == first).all()
    before = by_key(database)
    table.refresh()
    commit(table, [f"k{row}" for row in range(0, 300, 3)], matrix[::3], version="2")
    commit(table, [f"k{row}" for row in range(0, 300, 3)], matrix[::3])
    optimize_table(table, timedelta(0), lambda: True)
    assert by_key(database) == before
    maps.build(opened(database), rebuild=True)
    assert by_key(database) == before


def test_new_rows_move_nothing(database: str) -> None:
    """A new row and a changed one get places near their copies, and no other row moves; copies are found by key."""
    matrix = clustered(200, 1)
    table = made(database, matrix)
    maps.build(opened(database))
    before = by_key(database)
    commit(table, ["new"], matrix[5:6])
    commit(table, ["k9"], matrix[7:8], version="2")
    assert maps.due(opened(database)) == "place"
    assert by_key(database)["new"] == (maps.NOWHERE, maps.NOWHERE)
    maps.build(opened(database))
    after = by_key(database)
    assert {key for key in before if before[key] != after[key]} == {"k9"}
    for key, copied in (("new", "k5"), ("k9", "k7")):
        assert np.linalg.norm(np.subtract(after[key], after[copied])) < 2000
    assert maps.due(opened(database)) is None


def test_made_again_when_doubled(database: str) -> None:
    """When the rows have doubled, the map is made again; before, it is not."""
    table = made(database, clustered(60, 1))
    maps.build(opened(database))
    commit(table, [f"n{row}" for row in range(59)], clustered(59, 2))
    assert maps.due(opened(database)) == "place"
    commit(table, ["last"], clustered(1, 3))
    assert maps.due(opened(database)) == "make again"
    assert maps.build(opened(database)).laid_out == 120


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 11, 59])
def test_small_tables(rows: int, database: str) -> None:
    """Tables of any size have a map, on which no two rows are at the same place."""
    made(database, clustered(rows, 1))
    assert maps.load(opened(database)) is None
    found = maps.build(opened(database))
    assert found.placed == rows
    assert len(np.unique(found.places, axis=0)) == rows
    assert maps.due(opened(database)) is None


@pytest.mark.parametrize(
    "matrix",
    [
        np.ones((80, DIMENSION)),
        np.zeros((80, DIMENSION)),
        np.full((80, DIMENSION), np.nan),
        np.concatenate([np.zeros((40, DIMENSION)), clustered(40, 1)]),
        np.repeat(clustered(4, 1), 30, axis=0),
    ],
    ids=["alike", "zeros", "nan", "half zeros", "copies"],
)
def test_vectors_without_a_difference(matrix: np.ndarray, database: str) -> None:
    """Copies, rows of zeros and broken vectors have places, too; no warning, no error."""
    made(database, matrix)
    assert maps.build(opened(database)).placed == len(matrix)


def test_a_strangers_map(database: str) -> None:
    """A file with arrays of other shapes or types is no map, and is replaced."""
    made(database, clustered(30, 1))
    dataset = opened(database)
    maps.build(dataset)
    good = kept.read(dataset, "map", "map 1")
    assert good is not None
    bad = {"places": good["places"][:3], "spots": good["spots"][:, :1], "axes": good["mean"], "rows": good["spots"]}
    for name, array in bad.items():
        kept.write(dataset, "map", "map 1", good | {name: array})
        assert maps.load(dataset) is None, name
        kept.write(dataset, "map", "map 1", {key: value for key, value in good.items() if key != name})
        assert maps.load(dataset) is None, name
    assert maps.build(dataset).placed == 30


def test_the_command(database: str, tmp_path: Path) -> None:
    """The command makes a map, says so, writes it to a file, and has nothing to do the second time."""
    made(database, clustered(40, 1))
    done = command("images", "map", database, "--out", tmp_path / "map.parquet")
    assert done.returncode == 0, done.stderr
    assert "Making a map of 40 pictures" in done.stderr
    rows = pq.read_table(tmp_path / "map.parquet")
    assert rows.schema.names == ["key", "uri", "x", "y"]
    places = by_key(database)
    assert {row["key"]: (row["x"], row["y"]) for row in rows.to_pylist()} == places
    done = command("images", "map", database, "--json")
    assert json.loads(done.stdout) == {"rows": 40, "placed": 0, "landmarks": 40, "did": "nothing"}
    done = command("images", "map", database, "--out", tmp_path / "map.txt")
    assert (done.returncode, "ends in .parquet" in done.stderr) == (2, True)


WITHOUT = """
import sys
sys.modules["openTSNE"] = None
import lance
from fanfold.images import maps
print(maps.build(lance.dataset(sys.argv[1])).placed)
"""


def test_without_the_extra(database: str) -> None:
    """Without its extra, the map is not made, and the error names it; new rows are placed all the same."""
    table = made(database, clustered(40, 1))
    run = [sys.executable, "-c", WITHOUT, opened(database).uri]
    failed = subprocess.run(run, capture_output=True, text=True, env=os.environ)
    assert "pip install 'fanfold[map]'" in failed.stderr
    maps.build(opened(database))
    commit(table, ["new"], clustered(1, 2))
    assert subprocess.run(run, capture_output=True, text=True, env=os.environ).stdout == "41\n"
