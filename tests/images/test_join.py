"""Columns of one's own: from files, joined by key, filtered together with the table's; the table stays as it is."""

import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

import fanfold
import nursery
from fanfold.core.optimize import optimize_table
from fanfold.errors import StorageError, UsageError
from fanfold.images.columns import table as wide
from fanfold.images.columns.files import read
from fanfold.images.columns.joined import join, joined_to, remove
from fanfold.images.columns.table import narrowed, sweep, with_columns
from fanfold.images.search import neighbours as search
from fanfold.images.search.vector_index import build
from fanfold.images.search.where import rows_where
from fanfold.storage import open_store
from vector_tables import clustered, commit, made


@pytest.fixture(name="database")
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of 60 rows, k0 to k59, with a cache folder of its own."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    made(str(tmp_path / "db"), clustered(60, 1))
    return str(tmp_path / "db")


def opened(database: str) -> lance.LanceDataset:
    """The newest version of the table."""
    return fanfold.open_table(database, "images")


def csv(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    """A file of columns."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def numbered(folder: Path, keys: "range | list[int]", name: str = "labels.csv") -> Path:
    """A file with the columns `number` and `parity` for these keys."""
    lines = [f"k{key},{key},{('even', 'odd')[key % 2]}" for key in keys]
    return csv(folder, "\n".join(["key,number,parity", *lines]), name)


def keys(dataset: lance.LanceDataset, where: str) -> list[str]:
    """The keys of the rows that meet a condition, in the table's order."""
    rows = rows_where(dataset, where)
    found: list[str] = dataset.take(rows.tolist(), columns=["key"])["key"].to_pylist() if len(rows) else []
    return found


def files(folder: str) -> dict[str, str]:
    """All files below a folder, and the sums of what they hold."""
    paths = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_filter_over_both_kinds_of_columns(database: str, tmp_path: Path) -> None:
    """One condition has the table's columns and joined ones; the table's files are not touched."""
    before = files(f"{database}/images.lance")
    done = join(opened(database), numbered(tmp_path, [*range(40), 99]))
    assert (done.matched, done.table_rows, done.unknown, done.example) == (40, 60, 1, "k99")
    assert done.joined.columns == {"number": "whole number", "parity": "text"}
    dataset = with_columns(opened(database))
    assert keys(dataset, "parity = 'odd' AND number < 8 AND key <> 'k3'") == ["k1", "k5", "k7"]
    assert len(keys(dataset, "parity IS NULL")) == 20
    assert dataset.to_table(columns=["key"]) == opened(database).to_table(columns=["key"])
    assert files(f"{database}/images.lance") == before


def test_a_search_among_joined_values(database: str, tmp_path: Path) -> None:
    """Searches by the table's index and without it keep to a condition on a joined column, and show its values."""
    build(opened(database))
    join(opened(database), numbered(tmp_path, range(60)))
    dataset = with_columns(opened(database))
    assert dataset.describe_indices()[0].name == "vector_idx"
    for few, exact in ((2000, False), (0, False), (0, True)):
        search.FEW, before = few, search.FEW
        try:
            hits = search.nearest(
                dataset, clustered(60, 1)[3], 30, exact=exact, where="parity = 'odd'", columns=["number"]
            )
        finally:
            search.FEW = before
        assert sorted(hit.columns["number"] for hit in hits) == list(range(1, 60, 2))
        assert hits[0].key == "k3"


def test_right_after_every_change_of_the_table(database: str, tmp_path: Path) -> None:
    """Rows that are added, changed, deleted or moved by an `optimize` have the values of their key, every time."""
    join(opened(database), numbered(tmp_path, range(70)))
    made_of = fanfold.core.database.Table.open(database, "images")
    assert made_of is not None

    def check(expected: set[int]) -> None:
        found = with_columns(opened(database)).to_table(columns=["key", "number", "parity"]).to_pylist()
        assert {row["key"]: row["number"] for row in found} == {f"k{n}": n for n in expected}
        assert all(row["parity"] == ("even", "odd")[row["number"] % 2] for row in found)

    check(set(range(60)))
    commit(made_of, ["k65", "k61"], clustered(2, 2))
    check({*range(60), 61, 65})
    commit(made_of, ["k7", "k30"], clustered(2, 3), version="2")
    check({*range(60), 61, 65})
    opened(database).delete("key IN ('k0', 'k65')")
    check({*range(1, 60), 61})
    optimize_table(made_of, timedelta(0), lambda: True)
    check({*range(1, 60), 61})
    build(opened(database))
    check({*range(1, 60), 61})


@given(
    joined=st.dictionaries(st.integers(0, 30), st.none() | st.integers(-9, 9), min_size=1),
    deleted=st.sets(st.integers(0, 19), max_size=8),
)
def test_the_join_is_the_one_that_python_makes(
    joined: dict[int, int | None], deleted: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For any file of keys and any deleted rows, each row has its key's value, or none."""
    folder = tmp_path_factory.mktemp("join")
    rows = pa.table({"key": [f"k{n}" for n in range(20)], "uri": [""] * 20})
    dataset = lance.write_dataset(rows, folder / "t.lance", max_rows_per_file=7)
    dataset.delete(f"key IN ({', '.join(repr(f'k{n}') for n in [*deleted, -1])})")
    left = [n for n in range(20) if n not in deleted]
    lines = [f"k{key},{'' if value is None else value}" for key, value in joined.items()]
    file = csv(folder, "\n".join(["key,value", *lines]))
    if not joined.keys() & set(left):
        with pytest.raises(UsageError, match="No key of"):
            join(dataset, file)
        return
    join(dataset, file)
    found = with_columns(dataset).to_table(columns=["key", "value"]).to_pydict()
    values = [None if joined.get(n) is None else joined[n] for n in left]
    assert found["key"] == [f"k{n}" for n in left]
    assert [None if value is None else int(value) for value in found["value"]] == values


# -- what is joined ----------------------------------------------------------------------------------------------------


def test_joined_again_and_taken_away(database: str, tmp_path: Path) -> None:
    """A join replaces an earlier one of its name as a whole; names stand side by side; what is removed is gone."""
    join(opened(database), numbered(tmp_path, range(60)))
    join(opened(database), csv(tmp_path, "key,colour\nk5,red\n", "colours.csv"))
    join(opened(database), csv(tmp_path, "key,parity\nk3,none\n"))
    dataset = with_columns(opened(database))
    assert [one.name for one in joined_to(opened(database))] == ["colours", "labels"]
    assert dataset.schema.names[-2:] == ["colour", "parity"]
    assert keys(dataset, "parity = 'none' OR colour = 'red'") == ["k3", "k5"]
    with pytest.raises(UsageError, match=r"called 'label' are joined to this table. These are: colours, labels"):
        remove(opened(database), "label")
    for name in ("labels", "colours"):
        remove(opened(database), name)
    assert joined_to(opened(database)) == []
    assert with_columns(opened(database)).uri == opened(database).uri
    sweep(opened(database))
    assert files(f"{database}/_view") == {}


def test_one_dataset_for_a_version(database: str, tmp_path: Path) -> None:
    """The dataset with all columns is made once for a version; those of older versions go after an hour."""
    join(opened(database), numbered(tmp_path, range(60)))
    first = with_columns(opened(database)).uri
    assert with_columns(opened(database)).uri == first
    old = Path(first).parent / Path(first).name.replace(f"-{Path(first).name.split('-')[2]}-", "-1000000000-")
    shutil.copytree(first, old)
    opened(database).delete("key = 'k0'")
    second = with_columns(opened(database)).uri
    assert second != first
    assert Path(first).exists()
    assert not old.exists()


@pytest.mark.parametrize(("cut", "zeros"), [(0, 0), (30, 0), (0, 1 << 20)])
def test_a_damaged_dataset_is_made_again(database: str, tmp_path: Path, cut: int, zeros: int) -> None:
    """Joined columns that a power cut has emptied, cut off or filled with zeros are made again from the kept file."""
    join(opened(database), numbered(tmp_path, range(60)))
    first = with_columns(opened(database))
    for file in Path(first.uri, "data").iterdir():
        content = file.read_bytes()
        file.write_bytes(content[:cut] + bytes(min(zeros, len(content))))
    again = with_columns(opened(database))
    assert again.uri != first.uri
    assert keys(again, "number = 4") == ["k4"]


@pytest.mark.parametrize("place", [0, 100])
def test_a_damaged_file_of_columns_is_named(database: str, tmp_path: Path, place: int) -> None:
    """If what was joined cannot be read any more, the error says which, and what to do; nothing unfinished is left."""
    kept = Path(join(opened(database), numbered(tmp_path, range(60))).place)
    kept.write_bytes(kept.read_bytes()[:place] + b"noise" + kept.read_bytes()[place + (5 if place else 1 << 20) :])
    with pytest.raises(StorageError, match=r"'labels' beside .* are damaged: .* Join .* again.* --remove labels"):
        with_columns(opened(database))
    assert list(kept.parent.iterdir()) == [kept]
    join(opened(database), numbered(tmp_path, range(60)))
    assert keys(with_columns(opened(database)), "number = 4") == ["k4"]


def test_a_copied_database(database: str, tmp_path: Path) -> None:
    """A copy of a database has the joined columns of its own rows, also when the first one is gone."""
    join(opened(database), numbered(tmp_path, range(60)))
    with_columns(opened(database))
    shutil.copytree(database, tmp_path / "copy")
    shutil.rmtree(database)
    assert keys(with_columns(opened(str(tmp_path / "copy"))), "number < 2") == ["k0", "k1"]


def test_rows_that_meet_a_condition_alone(database: str, tmp_path: Path) -> None:
    """A narrowed dataset has exactly those rows, also by a condition on a joined column; the table keeps its own."""
    join(opened(database), numbered(tmp_path, range(30)))
    before = files(f"{database}/images.lance")
    with narrowed(with_columns(opened(database)), "number % 3 = 0 -- or so") as dataset:
        assert dataset.to_table(columns=["number"])["number"].to_pylist() == list(range(0, 30, 3))
        assert len(search.duplicates(dataset, 0.001)) == 1
    assert files(f"{database}/images.lance") == before
    with pytest.raises(UsageError, match="it divides by zero"), narrowed(opened(database), "1 / (length(key) - 2) > 1"):
        pass


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_read_only_database(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of a read-only database are kept in the cache folder, the index included; the newer ones count."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    database = str(disk / "db")
    made(database, clustered(60, 1))
    build(opened(database))
    join(opened(database), csv(tmp_path, "key,number\nk1,-5\n"))
    time.sleep(1.1)  # the times of joins are whole seconds
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = join(opened(database), numbered(tmp_path, range(60)))
    assert done.place.startswith(str(tmp_path / "cache"))
    dataset = with_columns(opened(database))
    assert dataset.uri.startswith(str(tmp_path / "cache"))
    assert keys(dataset, "number < 2") == ["k0", "k1"]
    assert dataset.describe_indices()
    with pytest.raises(StorageError, match="Read-only file system"):
        remove(opened(database), "labels")


def test_in_an_object_store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are joined, found, filtered and removed in S3 as they are on a disk."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    table = made(bucket, clustered(60, 1))
    build(opened(bucket))
    done = join(opened(bucket), numbered(tmp_path, range(60)))
    assert done.place == f"{bucket}/_view/images/columns-labels.parquet"
    dataset = with_columns(opened(bucket))
    assert with_columns(opened(bucket)).uri == dataset.uri
    assert keys(dataset, "number < 2 AND key <> 'k0'") == ["k1"]
    assert dataset.describe_indices()
    commit(table, ["k0"], clustered(1, 3), version="2")
    with narrowed(with_columns(opened(bucket)), "number < 2") as some:  # a clone on this disk, of one in the store
        assert sorted(some.to_table(columns=["key"])["key"].to_pylist()) == ["k0", "k1"]
    remove(opened(bucket), "labels")
    sweep(opened(bucket))
    assert [meta["path"] for chunk in open_store(f"{bucket}/_view").list() for meta in chunk] == []


def test_a_table_of_an_object_store_beside_a_cache(bucket: str, tmp_path: Path) -> None:
    """A dataset on this disk can refer to a table in S3, deleted rows included, as a read-only bucket needs."""
    made(bucket, clustered(60, 1))
    opened(bucket).delete("key IN ('k3', 'k30')")
    clone = wide._clone(opened(bucket), str(tmp_path / "clone.lance"))
    clone.add_columns({"long": "length(key)"})
    again = lance.dataset(str(tmp_path / "clone.lance"))
    assert again.to_table(columns=["key", "vector"]) == opened(bucket).to_table(columns=["key", "vector"])
    assert len(keys(again, "long = 3")) == 49


# -- killed, and at once -----------------------------------------------------------------------------------------------

JOINER = """
import sys
from pathlib import Path
import fanfold
from fanfold.images.columns.joined import join
from fanfold.images.columns.table import with_columns
print("ready", flush=True)
for number in range(1000):
    dataset = fanfold.open_table(sys.argv[1], "images")
    join(dataset, Path(sys.argv[2]))
    with_columns(dataset)
"""


def joining(database: str, file: Path) -> "subprocess.Popen[str]":
    """A process that joins a file without a pause."""
    process = nursery.Popen([sys.executable, "-c", JOINER, database, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_moment(database: str, tmp_path: Path) -> None:
    """Joins that are killed leave the columns of the last whole join, and rows of them all, or of none, in a filter."""
    join(opened(database), numbered(tmp_path, range(60)))
    for round in range(8):
        process = joining(database, numbered(tmp_path, range(60)))
        time.sleep(0.02 * round)
        process.send_signal(signal.SIGKILL)
        process.wait()
        dataset = with_columns(opened(database))
        found = dataset.to_table(columns=["key", "number"]).to_pylist()
        assert {row["key"]: row["number"] for row in found} == {f"k{n}": n for n in range(60)}
    assert opened(database).schema.names == ["key", "version", "uri", "vector"]


def test_several_at_once(database: str, tmp_path: Path) -> None:
    """Processes that join and read at the same time all find whole columns."""
    join(opened(database), numbered(tmp_path, range(60)))
    table = fanfold.core.database.Table.open(database, "images")
    assert table is not None
    both = [joining(database, numbered(tmp_path, range(60), f"{name}.csv")) for name in ("labels", "labels")]
    try:
        for round in range(10):
            commit(table, ["k0"], clustered(1, round), version=f"v{round}")
            assert keys(with_columns(opened(database)), "number = 4 OR number = 0") in (["k4", "k0"], ["k0", "k4"])
    finally:
        for process in both:
            process.kill()
            process.wait()


# -- bad files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("key,label\n", "has no row with a key"),
        ("key,label\n,cat\n", "has no row with a key"),
        ("key\nk1\n", "has no column to join: it has none beside the key"),
        ("key,label\nk1,a,b\n", "Expected 2 columns, got 3"),
        ('key,label\nk1,"a\nk2,b\n', "has a quotation mark that is not closed"),
        ("name,label\nk1,a\n", "has no column 'key'. The columns of {file} are: name, label. Name the column"),
        ("key,label,label\nk1,a,b\n", "has several columns called 'label'"),
        ("key,Label,label\nk1,a,b\n", "has several columns called 'label' (filters ignore capitals)"),
        ("key,label\nk1,a\nk1,b\nk2,c\n", "has the key 'k1' in 2 rows. A key can be in one row only."),
        ("key,label\nk1,a\nk1,b\nk2,c\nk2,d\n", "in 2 rows (and 1 more are repeated)"),
        ("key,VERSION\nk1,a\n", "has a column 'VERSION', but the table has one, too"),
        ("key,_rowid\nk1,a\n", "'_rowid' is left out: a name may not begin with '_'"),
        ("key,label\nphotos/k1,a\n", "The file has keys such as 'photos/k1'; the table has keys such as 'k0' and 'k1'"),
        ("key,label\nk1,é\n".encode("utf-16"), "is in UTF-16. Save it as UTF-8"),
        ("key,label\nk1,é\n".encode("latin-1"), "is not in UTF-8: see the column 'label'"),
        ("key,label\né,a\n".encode("latin-1"), "is not in UTF-8"),
        ("key,labél\nk1,a\n".encode("latin-1"), "is not in UTF-8: see its first line"),
        (b"\x7fELF\0\0\0", "is not a text file"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_file_is_refused_in_plain_words(content: str | bytes, says: str, database: str, tmp_path: Path) -> None:
    """Every kind of bad file ends in a sentence, and nothing is kept of it."""
    file = csv(tmp_path, content)
    with pytest.raises(UsageError) as refused:
        join(opened(database), file)
    assert says.format(file=file) in str(refused.value)
    assert str(file) in str(refused.value)
    assert joined_to(opened(database)) == []


def test_files_that_cannot_be_opened(database: str, tmp_path: Path) -> None:
    """Files that are missing, folders, of another kind, or damaged are refused by name."""
    (tmp_path / "folder.csv").mkdir()
    good = tmp_path / "good.parquet"
    parquet.write_table(pa.table({"key": ["k1"], "label": ["a"]}), good)
    for name, content in (("cut.parquet", good.read_bytes()[:-20]), ("noise.parquet", b"noise" * 50), ("0.pq", b"")):
        (tmp_path / name).write_bytes(content)
    for name, says in (
        ("nothing.csv", "does not exist"),
        ("folder.csv", "is a folder, not a file"),
        ("labels.xlsx", "Columns come from a .csv, .tsv or .parquet file"),
        ("cut.parquet", "cannot be read: Parquet magic bytes not found"),
        ("noise.parquet", "cannot be read: Parquet magic bytes not found"),
        ("0.pq", "is empty"),
    ):
        with pytest.raises(UsageError, match=says):
            join(opened(database), tmp_path / name)


def test_the_forms_that_a_csv_may_have(tmp_path: Path) -> None:
    """Semicolons, tabs, quotation marks, a byte order mark and Windows' line ends are read; types are inferred."""
    forms = [
        "key;n;t\nk1;1;x\nk2;;\n",
        "key\tn\tt\nk1\t1\tx\nk2\t\t\n",
        "\ufeffkey,n,t\r\nk1,1,x\r\nk2,,\r\n",
        '"key","n","t"\n"k1","1","x"\n"k2",,\n',
        ",key,n,t\n0,k1,1,x\n1,k2,,\n",  # an index without a name, as pandas writes it
    ]
    for form in forms:
        table, left_out = read(csv(tmp_path, form))
        assert table.to_pydict() == {"key": ["k1", "k2"], "n": [1, None], "t": ["x", None]}
        assert left_out == {}
    table, _ = read(csv(tmp_path, 'key,t\n007,"a, ""b""\nc"\n'))
    assert table.to_pydict() == {"key": ["007"], "t": ['a, "b"\nc']}
    table, _ = read(csv(tmp_path, "id,a,b\nk1,2026-11-01,true\n"), "id", ["b", "a"])
    assert table.schema.names == ["key", "b", "a"]
    assert [str(kind) for kind in table.schema.types] == ["string", "bool", "date32[day]"]


def test_the_types_that_a_parquet_may_have(database: str, tmp_path: Path) -> None:
    """Columns of single values are joined, categories and long texts too; lists and bytes are left out by name."""
    columns: dict[str, Any] = {
        "key": pa.array(["k1", "k2"]).dictionary_encode(),
        "category": pa.array(["a", ""]).dictionary_encode(),
        "long": pa.array(["a", None], pa.large_string()),
        "half": pa.array(np.array([0.5, 2], np.float16)),
        "nothing": pa.nulls(2),
        "when": pa.array([1, 2], pa.timestamp("ns")),
        "list": [[1], [2]],
        "bytes": [b"a", b"b"],
        "__index_level_0__": [0, 1],
    }
    parquet.write_table(pa.table(columns), tmp_path / "l.parquet")
    done = join(opened(database), tmp_path / "l.parquet")
    assert sorted(done.left_out) == ["__index_level_0__", "bytes", "list"]
    kinds = {"category": "text", "long": "text", "half": "number", "nothing": "text", "when": "time"}
    assert done.joined.columns == kinds
    found = with_columns(opened(database)).to_table(columns=list(kinds), filter="key = 'k2'").to_pylist()
    assert found[0] | {"when": None} == {"category": None, "long": None, "half": 2, "nothing": None, "when": None}
