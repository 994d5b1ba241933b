"""`fanfold images export`: every format, whole or not at all, in the order of the keys."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import nursery
from commands import FANFOLD, fanfold
from fanfold.cli.spreadsheet import without_formulas
from fanfold.core.optimize import optimize_table
from fanfold.images.columns.files import read
from vector_tables import DIMENSION, SCHEMA, clustered, commit, made

ODD = ["=1+1", "'=1", "-x", "-", "@a", "+b", 'say "hi"', "new\nline", "é 🐈.jpg", "a,b", " "]


@pytest.fixture(name="vectors")
def _vectors(tmp_path: Path) -> str:
    """A database of 300 vectors, of which the last was changed and the keys are not in order."""
    table = made(str(tmp_path / "db"), clustered(300, 1))
    commit(table, ["k299", *ODD], clustered(1 + len(ODD), 2), version="2")
    return str(tmp_path / "db")


def exported(database: str, to: Path, *words: object) -> Path:
    """The file that an export has written."""
    done = fanfold("images", "export", database, "--to", to, *words)
    assert done.returncode == 0, done.stderr
    return to


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def rows_of(database: str) -> list[dict[str, Any]]:
    """The rows of a table by key."""
    rows = lance.dataset(f"{database}/images.lance").to_table().to_pylist()
    return sorted(rows, key=lambda row: row["key"].encode())


def test_every_format_has_the_same_rows(vectors: str, tmp_path: Path) -> None:
    """The four formats have the table's rows in the order of their keys, and the vectors to the last bit."""
    rows = rows_of(vectors)
    keys, matrix = [row["key"] for row in rows], np.array([row["vector"] for row in rows], np.float32)

    table = parquet.read_table(exported(vectors, tmp_path / "out.parquet"))
    assert table.to_pylist() == rows
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIMENSION)

    found = lines(exported(vectors, tmp_path / "out.jsonl"))
    assert [row["key"] for row in found] == keys
    assert np.array_equal(np.array([row["vector"] for row in found], np.float32), matrix)

    done = fanfold("images", "export", vectors, "--to", tmp_path / "out.npy")
    assert done.stdout == (f"{tmp_path}/out.npy: 311 rows\n{tmp_path}/out.keys.jsonl: their keys, a line for each\n")
    loaded = np.load(tmp_path / "out.npy")
    assert (loaded.dtype, np.array_equal(loaded, matrix)) == (np.float32, True)
    assert lines(tmp_path / "out.keys.jsonl") == [{"key": key} for key in keys]

    with exported(vectors, tmp_path / "out.csv", "--columns", "version,vector").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["version"] for row in cells] == [row["version"] for row in rows]
    assert np.array_equal(np.array([json.loads(row["vector"]) for row in cells], np.float32), matrix)
    assert names(tmp_path) == ["db", "out.csv", "out.jsonl", "out.keys.jsonl", "out.npy", "out.parquet"]


def test_columns_and_conditions(embedded: str, tmp_path: Path) -> None:
    """--columns chooses columns in their order, --where rows; joined columns are exported as the table's are."""
    labels = tmp_path / "mine.csv"
    labels.write_text("key,mine\nred.jpg,warm\n")
    assert fanfold("images", "join", embedded, labels, "--name", "for-export").returncode == 0
    file = exported(embedded, tmp_path / "o.jsonl", "--columns", "mine, width,key", "--where", "format = 'JPEG'")
    assert list(lines(file)[0]) == ["mine", "width", "key"]
    assert {row["key"]: row["mine"] for row in lines(file)}["red.jpg"] == "warm"
    exported(embedded, tmp_path / "o.npy", "--columns", "width", "--where", "mine = 'warm'")
    assert [list(row) for row in lines(tmp_path / "o.keys.jsonl")] == [["key", "width"]]
    head = exported(embedded, tmp_path / "o.csv").read_text().splitlines()[0]
    assert head == '"key","version","uri","width","height","bytes","format","truncated","created","mine"'
    whole = lines(exported(embedded, tmp_path / "all.jsonl"))[0]
    assert whole["created"].endswith("+00:00")
    done = fanfold("images", "export", embedded, "--to", tmp_path / "o.npy", "--where", "width < 0", "--json")
    assert json.loads(done.stdout)["rows"] == 0
    assert np.load(tmp_path / "o.npy").shape == (0, 1280)
    assert fanfold("images", "columns", embedded, "--remove", "for-export").returncode == 0


def test_equal_tables_give_equal_files(vectors: str, tmp_path: Path) -> None:
    """The order of the rows does not depend on how they came into the table: an `optimize` changes no byte."""
    first = exported(vectors, tmp_path / "1.jsonl").read_bytes()
    table = fanfold_table(vectors)
    optimize_table(table, timedelta(0), lambda: True)
    assert exported(vectors, tmp_path / "2.jsonl").read_bytes() == first


def fanfold_table(database: str) -> Any:
    """The table as fanfold opens it."""
    from fanfold.core.table import Table

    table = Table.open(database, "images")
    assert table is not None
    return table


def test_a_spreadsheet_runs_nothing(vectors: str, tmp_path: Path) -> None:
    """In CSV no cell is a formula or moves the cursor, and `join` knows the keys again."""
    file = exported(vectors, tmp_path / "out.csv", "--columns", "key,version", "--where", "version = '2'")
    with file.open(newline="") as opened:
        keys = [row["key"] for row in csv.DictReader(opened)]
    assert not [key for key in keys if key[:1] in "=+@" or (key[:1] == "-" and len(key) > 1)]
    assert {"'=1+1", "''=1", "'-x", "-", "'@a", "'+b"} <= {*keys}
    assert "new\\nline" in keys
    file.write_text(file.read_text().replace('"version"', '"mine"'))
    done = fanfold("images", "join", vectors, file)
    assert "mine: joined to 11 of 311 rows" in done.stdout  # all but the key with a new line
    assert "1 row of the file has a key that is not in the table, such as new\\nline" in done.stderr


@given(texts=st.lists(st.text(st.sampled_from("'=-+@a "), max_size=4), min_size=1, unique=True))
def test_a_key_is_the_same_after_a_spreadsheet(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keys that were made safe for a spreadsheet are read back as they were."""
    safe = without_formulas(pa.array(texts, pa.string())).to_pylist()
    file = tmp_path_factory.mktemp("keys") / "keys.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened, quoting=csv.QUOTE_ALL).writerows([["key", "n"], *([text, 1] for text in safe), ["last", 1]])
    assert read(file)[0]["key"].to_pylist() == [*(text for text in texts if text), "last"]


def test_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    """What is not a number, or infinite, is null in JSON, and as it is in the other formats."""
    table = made(str(tmp_path / "db"), np.zeros((0, DIMENSION), np.float32))
    matrix = clustered(2, 1)
    matrix[0, :3] = np.nan, np.inf, -0.0
    commit(table, ["a", "b"], matrix)
    first = lines(exported(str(tmp_path / "db"), tmp_path / "o.jsonl"))[0]["vector"]
    assert first[:3] == [None, None, 0]
    assert np.array_equal(np.array(first[3:], np.float32), matrix[0, 3:])
    exported(str(tmp_path / "db"), tmp_path / "o.npy")
    assert np.array_equal(np.load(tmp_path / "o.npy"), matrix, equal_nan=True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "out.xlsx"], "--to takes a file that ends in .parquet, .npy, .csv, .jsonl, but out.xlsx does not"),
        (["--to", "nowhere/out.csv"], "The folder nowhere does not exist. Make it first"),
        (["--to", "folder.csv"], "Cannot write folder.csv: it is a folder"),
        (["--to", "/proc/out.csv"], "Cannot write /proc/out.csv"),
        (
            ["--to", "out.csv", "--columns", "kye"],
            "'kye' is not a column of the table. Its columns are: key, version, uri, vector",
        ),
        (["--to", "out.csv", "--columns", ","], "--columns takes the names of columns"),
        (["--to", "out.csv", "--columns", "key,key"], "--columns has 'key' twice"),
        (["--to", "out.csv", "--where", "widht > 3"], "the column 'widht' is not known"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_exported(words: list[str], says: str, vectors: str, tmp_path: Path) -> None:
    """Mistakes exit with 2 and a sentence, and leave no file."""
    (tmp_path / "folder.csv").mkdir()
    before = names(tmp_path)
    done = fanfold("images", "export", vectors, *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert names(tmp_path) == before


def test_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """A full disk ends an export of any format with a sentence; the earlier file stays, and nothing else does."""
    database = str(tmp_path / "db")
    made(database, clustered(20_000, 1))
    for name in ("out.parquet", "out.npy", "out.csv", "out.jsonl"):
        (disk / name).write_text("earlier")
        done = fanfold("images", "export", database, "--to", disk / name, "--columns", "key,vector")
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(r"Cannot write .*/out\.\S+: No space left on device\.", done.stderr)
        assert (disk / name).read_text() == "earlier"
        (disk / name).unlink()
        assert names(disk) == []


# -- killed ------------------------------------------------------------------------------------------------------------

EXPORTER = """
import sys
from fanfold.cli import exit_code
print("ready", flush=True)
while True:
    for where in ("key LIKE 'k1%'", "key LIKE 'k2%'"):
        exit_code(["images", "export", sys.argv[1], "--to", sys.argv[2], "--where", where])
"""


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "npy"])
def test_killed_at_any_moment(vectors: str, tmp_path: Path, kind: str) -> None:
    """An export that is killed leaves a whole file of this export or of the one before; vectors never without keys."""
    to = tmp_path / "out" / f"out.{kind}"
    to.parent.mkdir()
    expected = {where: exported(vectors, to, "--where", f"key LIKE '{where}%'").read_bytes() for where in ("k1", "k2")}
    keys = {where: lines(to.with_suffix(".keys.jsonl")) for where in ("k2",)} if kind == "npy" else {}
    for round in range(6):
        process = nursery.Popen([sys.executable, "-c", EXPORTER, vectors, to], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.03 * round)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if kind != "npy":
            assert to.read_bytes() in expected.values()
        elif to.exists():
            found = lines(to.with_suffix(".keys.jsonl"))
            assert (to.read_bytes() == expected["k2"]) == (found == keys["k2"])
    left = [path for path in to.parent.iterdir() if path.suffix == ".part"]
    for path in left:
        os.utime(path, (0, 0))
    exported(vectors, to, "--where", "key LIKE 'k2%'")
    assert not [path for path in to.parent.iterdir() if path.suffix == ".part"]
    assert to.read_bytes() == expected["k2"]


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends an export with 130, and nothing of it is left."""
    database = str(tmp_path / "db")
    made(database, clustered(60_000, 1))
    out = tmp_path / "out"
    out.mkdir()
    words = ["images", "export", database, "--to", str(out / "out.jsonl")]
    process = subprocess.Popen([*FANFOLD, *words], stderr=subprocess.PIPE, text=True)
    while not names(out):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, "Stopped." in error) == (130, True)
    assert names(out) == []


MEASURED = """
import resource, sys
import lance, pyarrow.parquet, pyarrow.csv
from fanfold.cli import exit_code
code = exit_code(["images", "export", sys.argv[1], "--to", sys.argv[2], "--where", "key = 'k1'"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = code or exit_code(["images", "export", sys.argv[1], "--to", sys.argv[2]])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
sys.exit(code)
"""


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    """An export of 160 MB takes much less memory than that."""
    (tmp_path / "db").mkdir()
    random = np.random.default_rng(1)

    def parts() -> Iterator[pa.RecordBatch]:
        for part in range(20):
            keys = pa.array([f"k{part * 2000 + row}" for row in range(2000)])
            values = pa.FixedSizeListArray.from_arrays(pa.array(random.random(2000 * 1024, np.float32)), 1024)
            yield pa.RecordBatch.from_arrays([keys, keys, keys, values], schema=schema)

    schema = SCHEMA.set(3, pa.field("vector", pa.list_(pa.float32(), 1024)))
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, parts()), tmp_path / "db" / "images.lance")
    command = [sys.executable, "-c", MEASURED, tmp_path / "db", tmp_path / f"out.{kind}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 120
