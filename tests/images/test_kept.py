"""What is kept beside a table: joined by key and version, whole or absent, in the cache where it cannot be beside."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest

import fanfold
import nursery
from fanfold.core.optimize import optimize_table
from fanfold.errors import StorageError
from fanfold.images import kept
from vector_tables import clustered, commit, made


@pytest.fixture(name="database")
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database, with a cache folder of its own."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    return str(tmp_path / "db")


def opened(database: str) -> lance.LanceDataset:
    """The newest version of the table."""
    return fanfold.open_table(database, "images")


def numbered(dataset: lance.LanceDataset) -> dict[str, np.ndarray]:
    """A number for each row: that in its key."""
    numbers = [int(key[1:]) for key in dataset.to_table(columns=["key"])["key"].to_pylist()]
    return {"rows": kept.rows_of(dataset), "numbers": np.array(numbers, np.uint16)}


def test_what_was_written_is_read(database: str) -> None:
    """Arrays come back as they were, for the same recipe only."""
    made(database, clustered(30, 1))
    dataset = opened(database)
    assert kept.read(dataset, "numbers", "1") is None
    where = kept.write(dataset, "numbers", "1", numbered(dataset))
    assert where == f"{database}/_view/images/numbers.npz"
    assert kept.read(dataset, "numbers", "2") is None
    assert kept.read(dataset, "others", "1") is None
    found = kept.read(dataset, "numbers", "1")
    assert found is not None
    assert found["numbers"].tolist() == list(range(30))
    assert found["numbers"].dtype == np.uint16


def test_rows_are_found_by_key_and_version(database: str) -> None:
    """After changes and a compaction each row still finds its own answer; changed and new rows find none."""
    table = made(database, clustered(60, 1))
    before = numbered(opened(database))
    commit(table, ["k7", "k30"], clustered(2, 2), version="2")
    commit(table, ["k60"], clustered(1, 3))
    optimize_table(table, timedelta(0), lambda: True)
    dataset = opened(database)
    now = numbered(dataset)
    at = kept.find(now["rows"], before["rows"])
    assert set(now["numbers"][at < 0].tolist()) == {7, 30, 60}
    assert (before["numbers"][at[at >= 0]] == now["numbers"][at >= 0]).all()
    assert kept.find(now["rows"], now["rows"]).tolist() == list(range(61))
    assert kept.find(now["rows"], np.empty(0, np.uint64)).tolist() == [-1] * 61
    assert kept.find(np.empty(0, np.uint64), now["rows"]).tolist() == []


def test_a_table_without_rows(database: str) -> None:
    """An empty table has no rows to know, and what is kept of it is empty."""
    made(database, clustered(0, 1))
    dataset = opened(database)
    assert kept.rows_of(dataset).tolist() == []
    kept.write(dataset, "numbers", "1", numbered(dataset))
    assert kept.read(dataset, "numbers", "1") is not None


def test_vectors_of_another_recipe(database: str) -> None:
    """What was made from the vectors of another model does not count."""
    made(database, clustered(5, 1))
    dataset = opened(database)
    kept.write(dataset, "numbers", "1", numbered(dataset))
    rows = dataset.to_table().replace_schema_metadata({"fanfold.recipe": "another model"})
    lance.write_dataset(rows, dataset.uri, mode="overwrite")
    assert kept.read(opened(database), "numbers", "1") is None


def damaged(content: bytes) -> list[bytes]:
    """A file as a power cut, a broken disk or a stranger may leave it."""
    squeezed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.namelist():
            new.writestr(one, old.read(one))
    middle = content.index(b"rows.npy") + 200
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return [b"", content[:100], content[:-30], bytes(len(content)), b"text", flipped, squeezed.getvalue()]


def test_damaged_files_do_not_count(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is cut off, changed, or not ours is as good as none, with one warning; so is one that grows when it
    is unpacked."""
    made(database, clustered(50, 1))
    dataset = opened(database)
    file = Path(kept.write(dataset, "numbers", "1", numbered(dataset)))
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        assert kept.read(dataset, "numbers", "1") is None
    (warning,) = caplog.messages
    assert warning == f"numbers.npz beside {dataset.uri} is damaged. It is made again where needed."
    kept.write(dataset, "numbers", "1", numbered(dataset))
    assert kept.read(dataset, "numbers", "1") is not None


def test_what_killed_writers_leave_is_removed(database: str) -> None:
    """Unfinished files of earlier times are removed by the next write; those of a moment ago may be another's."""
    made(database, clustered(5, 1))
    dataset = opened(database)
    file = Path(kept.write(dataset, "numbers", "1", numbered(dataset)))
    old, young = Path(f"{file}#1"), Path(f"{file}#2")
    for left in (old, young):
        left.write_bytes(b"unfinished")
    os.utime(old, (0, 0))
    kept.write(dataset, "numbers", "1", numbered(dataset))
    assert sorted(file.parent.iterdir()) == [file, young]


WRITER = """
import sys, lance, numpy as np
from fanfold.images import kept
dataset, mark = lance.dataset(sys.argv[1]), int(sys.argv[2])
rows = kept.rows_of(dataset)
print("ready", flush=True)
while True:
    kept.write(dataset, "numbers", "1", {"rows": rows, "numbers": np.full(500_000, mark)})
"""


def writing(dataset: lance.LanceDataset, mark: int) -> subprocess.Popen[str]:
    """A process that writes without a pause."""
    command = [sys.executable, "-c", WRITER, dataset.uri, str(mark)]
    process = nursery.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_writers_leave_whole_files(database: str) -> None:
    """Two writers at once, killed at any moment, leave the whole file of one of them."""
    made(database, clustered(5, 1))
    dataset = opened(database)
    kept.write(dataset, "numbers", "1", {"rows": kept.rows_of(dataset), "numbers": np.zeros(500_000, int)})
    seen = set()
    for round in range(2):
        pair = [writing(dataset, 1), writing(dataset, 2)]
        for process in pair:
            time.sleep(0.03 * round)
            found = kept.read(dataset, "numbers", "1")
            assert found is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
        found = kept.read(dataset, "numbers", "1")
        assert found is not None
        values = set(found["numbers"].tolist())
        assert len(values) == 1
        seen |= values
    assert seen <= {0, 1, 2}


def test_a_read_only_database(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to a read-only database is kept in the cache folder, and the newer of the two files counts."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    database = str(disk / "db")
    made(database, clustered(5, 1))
    dataset = opened(database)
    arrays = numbered(dataset)
    kept.write(dataset, "numbers", "1", arrays | {"numbers": np.array([1])})
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    where = kept.write(dataset, "numbers", "1", arrays | {"numbers": np.array([2])})
    assert where.startswith(str(tmp_path / "cache"))
    assert (kept.read(dataset, "numbers", "1") or {})["numbers"].tolist() == [2]
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    kept.write(dataset, "numbers", "1", arrays | {"numbers": np.array([3])})
    assert (kept.read(dataset, "numbers", "1") or {})["numbers"].tolist() == [3]


def test_a_full_disk(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error that says so, and the earlier file still counts."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    database = str(disk / "db")
    made(database, clustered(5, 1))
    dataset = opened(database)
    arrays = numbered(dataset)
    kept.write(dataset, "numbers", "1", arrays)
    with pytest.raises(StorageError, match="No space left on device"):
        kept.write(dataset, "numbers", "1", arrays | {"more": np.zeros(1 << 20)})
    assert kept.read(dataset, "numbers", "1") is not None
