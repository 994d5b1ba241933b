"""What `fanfold tls analyze` reads: stores, CSV, Parquet and databases, sound ones and others."""

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from handshakes import COLUMNS, experiment, write_csv
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.tls.analysis.analyze import analyze
from fanfold.tls.analysis.rows import cut

STORE = """
CREATE TABLE handshakes (key TEXT, role TEXT, n INTEGER, prefix TEXT, handshake_ms REAL, tls TEXT,
                         PRIMARY KEY (key, role));
CREATE TABLE issued (key TEXT PRIMARY KEY, n INTEGER);
"""


@pytest.fixture
def columns() -> dict[str, Any]:
    """A small experiment, with text for keys."""
    made = experiment(1, clients=60, pairs=5, max_n=4)
    return made | {"key": made["key"].astype(str)}


def numbers(source: Path, **options: Any) -> dict[str, Any]:
    """All that an analysis finds, but for the name of its source."""
    return analyze(source, **{"draws": 19} | options).to_json() | {"source": ""}


def made_store(file: Path, columns: dict[str, Any]) -> Path:
    """A store as `serve` writes it."""
    with closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA journal_mode = WAL")
        store.executescript(STORE)
        rows = zip(*(columns[name].tolist() for name in COLUMNS), strict=True)
        store.executemany("INSERT INTO handshakes VALUES (?, ?, ?, ?, ?, 'TLSv1.3')", rows)
        store.commit()
    return file


def test_every_kind_of_file_gives_the_same_numbers(tmp_path: Path, columns: dict[str, Any]) -> None:
    """CSV, packed CSV, CSV as a spreadsheet writes it, JSON Lines, Parquet, a store and a database say the same."""
    table = pa.table(columns)
    csv.write_csv(table, tmp_path / "a.csv")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    text = (tmp_path / "a.csv").read_text().replace("\n", "\r\n")
    (tmp_path / "c.csv").write_text(text, "utf-8-sig", newline="")
    reordered = table.select(["n", "ip", "handshake_ms", "key", "role"]).append_column("at", [["x"] * len(table)])
    csv.write_csv(reordered, tmp_path / "d.csv", csv.WriteOptions(quoting_style="all_valid"))
    parquet.write_table(table, tmp_path / "e.parquet", use_dictionary=True)
    categories = [column.dictionary_encode() if name in ("role", "ip") else column
                  for name, column in zip(table.column_names, table.columns, strict=True)]  # fmt: skip
    parquet.write_table(pa.table(categories, table.column_names), tmp_path / "f.parquet", row_group_size=100)
    made_store(tmp_path / "g.sqlite", columns)
    lance.write_dataset(table, tmp_path / "h" / "handshakes.lance")
    lance.write_dataset(pa.table({"other": [1]}), tmp_path / "h" / "more.lance")
    lines = [json.dumps(row) for row in table.to_pylist()]
    (tmp_path / "i.jsonl").write_text("\ufeff" + "\r\n".join(lines), "utf-8")
    texts = [{name: str(value) for name, value in row.items() if name != "ip"} | {"prefix": row["ip"], "ua": {"a": 1}}
             for row in table.to_pylist()]  # fmt: skip
    (tmp_path / "j.jsonl.gz").write_bytes(gzip.compress("\n\n".join(map(json.dumps, texts)).encode()))
    first, *others = [numbers(file) for file in sorted(tmp_path.iterdir())]
    assert first["keys"] == 300
    assert len(others) == 9
    for other in others:
        assert other == first


def test_lines_that_are_not_json_are_counted(tmp_path: Path) -> None:
    """A torn end, other encodings, values of other types and fields that come twice cost their own line alone."""
    good = ['{"key":"a","role":"control","prefix":"10.0.0.0/24","handshake_ms":"5"}',
            '{"key":"a","role":"live","n":3.0,"ip":"10.0.0.1","prefix":null,"handshake_ms":6.5e0}']  # fmt: skip
    odd = ['{"key":"b","role":"live","n":true,"ip":"::","handshake_ms":5}', "[1]", "5", '"key"', "[" * 5000, "\0\0",
           '{"key":"c","key":"d","role":"live","n":1,"ip":"::","handshake_ms":5}',
           '{"key":"\\ud800","role":"live","n":[1],"ip":"::","handshake_ms":5}',
           '{"key":"e","role":"live","n":1,"ip":"::","handshake_ms":NaN}',
           f'{{"key":"f","role":"live","n":{"9" * 5000},"ip":"::","handshake_ms":5}}']  # fmt: skip
    text = "\n".join([*good, "", *odd]).encode() + b'\n{"key":"\xff"}\n{"key":"g","ro'
    (tmp_path / "rows.jsonl").write_bytes(text)
    found = numbers(tmp_path / "rows.jsonl")
    assert (found["dropped"], found["rows"], found["both"]) == ({"cannot be parsed": 12}, 14, 1)
    assert found["bins"][2]["slowdown"][0]["value"] == pytest.approx(0.3)


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    """Some programs write 3 as 3.0 where a column has empty fields."""
    rows = [["a", "control", "", "10.0.0.1", " 5 "], ["a", "live", "3.0", "10.0.0.1", "6.5e0"]]
    found = numbers(write_csv(tmp_path / "rows.csv", rows))
    assert (found["dropped"], found["both"], found["bins"][2]["pairs"]) == ({}, 1, 1)


def test_issued_pairs_of_a_store(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Pairs that the server has issued, and of which nothing came, are counted by n."""
    file = made_store(tmp_path / "store", columns)
    with closing(sqlite3.connect(file)) as store:
        store.execute("INSERT INTO issued SELECT key, n FROM handshakes WHERE role = 'control'")
        store.executemany("INSERT INTO issued VALUES (?, ?)", [(f"x{number}", 1 + number % 2) for number in range(10)])
        store.commit()
    found = numbers(file)
    both = [one["missing"]["both"]["lost"] for one in found["bins"]]
    assert (both, found["missing"]["both"]["of"], found["rows"]) == ([5, 5, 0, 0], 310, len(columns["key"]))


def test_a_store_that_is_being_written(tmp_path: Path, columns: dict[str, Any]) -> None:
    """What the server has committed is read from the log beside the store, and nothing else."""
    file = made_store(tmp_path / "store", columns)
    before = numbers(file)["rows"]
    with closing(sqlite3.connect(file, isolation_level=None)) as server:
        server.execute("PRAGMA wal_autocheckpoint = 0")
        server.execute("INSERT INTO handshakes VALUES ('new', 'live', 1, '10.0.0.0/24', 5, '')")
        server.execute("BEGIN IMMEDIATE")
        server.execute("INSERT INTO handshakes VALUES ('newer', 'live', 1, '10.0.0.0/24', 5, '')")
        assert numbers(file)["rows"] == before + 1
        server.execute("COMMIT")
        assert numbers(file)["rows"] == before + 2


def test_a_store_whose_log_is_half_written(tmp_path: Path) -> None:
    """Of a server that was killed while it wrote, all whole transactions are read, and no half one."""
    file = tmp_path / "store"
    program = f"""
import os, sqlite3
store = sqlite3.connect({str(file)!r}, isolation_level=None)
store.execute("PRAGMA journal_mode = WAL")
store.executescript('''{STORE}''')
for number in range(100):
    store.execute("INSERT INTO handshakes VALUES (?, 'live', 1, '10.0.0.0/24', 5, ?)", (f"k{{number}}", "x" * 3000))
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    wal = file.with_name("store-wal")
    whole = wal.read_bytes()
    assert numbers(file)["rows"] == 100
    frame = 24 + 4096
    wal.write_bytes(whole[: 32 + frame * ((len(whole) - 32) // frame - 7) + 1000])
    file.with_name("store-shm").unlink()
    assert 80 < numbers(file)["rows"] < 100
    with wal.open("r+b") as opened:  # damage in the middle: what comes before it is whole
        opened.seek(len(whole) // 2)
        opened.write(b"\xff" * 500)
    file.with_name("store-shm").unlink()
    assert 30 < numbers(file)["rows"] < 70


@contextmanager
def without_rights() -> Iterator[None]:
    """What follows is done by a user who may write to few folders."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_store_in_a_folder_that_cannot_be_written(columns: dict[str, Any]) -> None:
    """SQLite needs to write a file beside a store with a log; where it may not, a copy is read."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to others
        file = made_store(Path(folder, "store"), columns)
        with closing(sqlite3.connect(file, isolation_level=None)) as server:
            server.execute("INSERT INTO handshakes VALUES ('new', 'live', 1, '10.0.0.0/24', 5, '')")
            file.with_name("store-shm").unlink()
            for path, mode in ((file, 0o444), (file.with_name("store-wal"), 0o444), (Path(folder), 0o555)):
                path.chmod(mode)
            with without_rights():
                assert numbers(file)["rows"] == len(columns["key"]) + 1
            assert not file.with_name("store-shm").exists()
            Path(folder).chmod(0o755)


def test_another_sqlite_file(tmp_path: Path) -> None:
    """An SQLite file of another program is named as that, with its tables."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.executescript("CREATE TABLE moz_places (id INTEGER); CREATE TABLE moz_hosts (key, role);")
    with pytest.raises(StorageError, match="but not a store of `fanfold tls serve`: its tables are: moz_hosts, moz_pl"):
        analyze(tmp_path / "other.db")
    with closing(sqlite3.connect(tmp_path / "none.db")) as other:
        other.execute("PRAGMA user_version = 1")
    with pytest.raises(StorageError, match="it has no tables"):
        analyze(tmp_path / "none.db")
    (tmp_path / "cut.db").write_bytes((tmp_path / "other.db").read_bytes()[:5000])
    with pytest.raises(StorageError, match="Cannot read the store"):
        analyze(tmp_path / "cut.db")


def test_values_of_other_types_in_a_store(tmp_path: Path) -> None:
    """SQLite keeps any value in any column: those that are no numbers are dropped."""
    file = tmp_path / "store"
    with closing(sqlite3.connect(file)) as store:
        store.executescript("CREATE TABLE handshakes (key, role, n, prefix, handshake_ms);")
        rows = [
            ("a", "live", 1, "10.0.0.0/24", "fast"),
            (b"\xff\x00", "live", 2, "10.0.0.0/24", 5),
            (7, "live", 3, "::", 5),
            ("b", "live", "x", "10.0.0.0/24", 5),
            (None, "live", 1, "10.0.0.0/24", 5),
            ("c", None, 1, b"\x01", 5),
        ]
        store.executemany("INSERT INTO handshakes VALUES (?, ?, ?, ?, ?)", rows)
        store.commit()
    assert (numbers(file)["rows"], numbers(file)["dropped"]) == (6, {"cannot be parsed": 4})


HEADER = b"key,role,n,ip,handshake_ms"
UNFIT = {
    "empty": (b"", "is empty: it has no header"),
    "empty lines": (b"\n\n", "The first line of .* is empty"),
    "semicolons": (
        b"key;role;n;ip;handshake_ms\na;live;1;10.0.0.1;5,5\n",
        "separated by semicolons: its header is `key;role;n;ip;handshake_ms`",
    ),
    "tabs": (b"key\trole\tn\tip\thandshake_ms\n", "separated by tabs"),
    "quoted decimal commas": (
        HEADER + b'\na,live,1,10.0.0.1,"5,5"\nb,live,1,10.0.0.1,"6,5"\n',
        r"has decimal commas, such as 5,5 \(its header: `key,role,n,ip,handshake_ms`\)",
    ),
    "decimal commas": (
        HEADER + b"\na,live,1,10.0.0.1,5,5\nb,live,1,10.0.0.1,6,5\n",
        r"No row of .* has as many columns as its header, `key,role,n,ip,handshake_ms`\. Are decimals",
    ),
    "no address": (
        b"key,role,n,handshake_ms\n",
        r"lacks the columns prefix or ip\. Its header is: `key,role,n,handshake_ms`",
    ),
    "another table": (b"name,size\nx,1\n", "lacks the columns key, role, n, handshake_ms, prefix or ip"),
    "a column twice": (b"key,role,n,n,ip,handshake_ms\n", "has the column 'n' twice"),
    "UTF-16": (
        (HEADER + b"\n").decode().encode("utf-16"),
        r"nor Parquet, JSON Lines or CSV in UTF-8: .* iconv -f UTF-16",
    ),
    "bytes": (bytes(range(4)) * 100, "neither a store, nor Parquet, JSON Lines or CSV in UTF-8"),
    "gzip without its ending": (gzip.compress(HEADER), r"This is gzip: give its name the ending \.gz"),
    "a spreadsheet": (b"PK\x03\x04" + bytes(99), "a spreadsheet or a zip archive: save the table as CSV"),
    "a JSON list": (b' [{"key": "a"}]', r"is one JSON list\. Write an object a line: jq -c '\.\[\]'"),
    "JSON over several lines": (b'{\n "key": "a"\n}\n', "No line of .* is a JSON object"),
    "a long line of JSON": (
        b'{"key": "a"}\n{"key": "' + b"x" * 2_000_000,
        "Line 2 of .* has more than 1,048,576 bytes",
    ),
    "JSON without n": (b'{"key":"a","role":"live","ip":"::","handshake_ms":5}\n', "lacks the columns n. The fields of"),
    "a log of a proxy": (
        b'{"time":"2026-11-28T05:00:00Z","client":{"ip":"192.0.2.1"},"tls_handshake_us":5210,"sni":"17.1.example"}\n',
        r"lacks the columns key, role, n, handshake_ms, prefix or ip\. The fields of its lines are: `time,client\.ip,"
        r".* Is it 'tls_handshake_us' for handshake_ms, 'client\.ip' for prefix or ip\? Rename",
    ),
    "one long line": (b"x" * 3_000_000, "has more than 1,048,576 bytes: this is not a table of handshakes"),
    "a million empty columns": (b"," * 1_000_000, "has 1,000,001 columns: this is not a table of handshakes"),
    "200,000 columns": (
        HEADER + b"".join(b",c%d" % number for number in range(200_000)) + b"\n1,2\n",
        "The header of .*, `key,role,n,ip,handshake_ms,c0,c1,.*, has more than 1,048,576 bytes",
    ),
    "a long row": (HEADER + b"\n" + b"x" * 9_000_000, "cannot be read as CSV with the header `key,role,n"),
}


@pytest.mark.parametrize(("content", "message"), UNFIT.values(), ids=UNFIT)
def test_a_file_that_is_no_table_of_handshakes(tmp_path: Path, content: bytes, message: str) -> None:
    """The error says what is wrong, with the header, and what to write instead."""
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        analyze(tmp_path / "rows.csv")


def test_a_path_that_is_no_table_of_handshakes(tmp_path: Path) -> None:
    """A file that is not there, a pipe, a folder, a damaged file: each is named as what it is."""
    with pytest.raises(UsageError, match="does not exist"):
        analyze(tmp_path / "none.csv")
    with pytest.raises(StorageError, match=r"^Cannot read .*x: File name too long\.$"):
        analyze(tmp_path / ("x" * 300))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"is not a file\. Write what it holds to a file first"):
        analyze(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a database: it has no tables"):
        analyze(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(StorageError, match="cannot be read as Parquet"):
        analyze(tmp_path / "a.parquet")
    (tmp_path / "a.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(StorageError, match="cannot be read as a compressed file"):
        analyze(tmp_path / "a.csv.gz")
    parquet.write_table(pa.table({"key": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(
        UsageError, match=r"lacks the columns role, n, handshake_ms, prefix or ip\. Its header is: `key`"
    ):
        analyze(tmp_path / "b.parquet")
    of_lists = {"key": ["a"], "role": ["live"], "n": [[1]], "ip": ["::"], "handshake_ms": [1.0]}
    parquet.write_table(pa.table(of_lists), tmp_path / "c.parquet")
    with pytest.raises(UsageError, match="The column n has the type list"):
        analyze(tmp_path / "c.parquet")
    for name in ("a", "b"):
        lance.write_dataset(pa.table({"other": [1]}), tmp_path / "db" / f"{name}.lance")
    with pytest.raises(
        UsageError, match="must have the columns key, role, n, handshake_ms, and prefix or ip; its tables"
    ):
        analyze(tmp_path / "db")


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"a,live,1,10.0.0.1,5", b'"', b"a,control,1,::,5"]), max_size=8)
)
def test_any_bytes_are_rows_or_an_error(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    """Whatever follows the header, a row is used, or dropped and counted, or the file is refused with a sentence."""
    file = tmp_path_factory.mktemp("any") / "rows.csv"
    file.write_bytes(b"\n".join([b"key,role,n,ip,handshake_ms", *lines]))
    with suppress(FanfoldError):
        found = analyze(file, draws=0)
        assert found.keys <= found.rows
        assert sum(found.dropped.values()) <= found.rows


NO_ADDRESSES = ["", "/", "/24", "1.2.3", "1.2.3.4.5", "1.2.3.4/", "1.2.3.4/x", ":::", "é", "1.2.3.4\0", "9" * 9999]


@pytest.mark.parametrize("address", NO_ADDRESSES, ids=range(len(NO_ADDRESSES)))
def test_what_is_no_address(address: str) -> None:
    """Anything else is no prefix."""
    assert cut(address.encode()) == 0


def test_a_full_disk_says_which(tmp_path: Path, columns: dict[str, Any]) -> None:
    """If rows cannot be put aside, the error names the folder, and the variable for another one."""
    csv.write_csv(pa.table(columns), tmp_path / "a.csv")
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from fanfold.tls.analysis.analyze import analyze; analyze(sys.argv[1])"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.csv"], capture_output=True, text=True, env=environment
    )
    assert "StorageError: Cannot write to " in done.stderr
    assert "export TMPDIR=FOLDER" in done.stderr
