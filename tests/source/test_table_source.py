"""A table as a collection: the next run processes what one run has found."""

import resource
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lance
import pyarrow as pa
import pytest

import fanfold
from fanfold import Failure, Item, StorageError, UsageError
from fanfold.core.failures import failed
from fanfold.job import key_field
from fanfold.source import Changed, Source, Table, open_source, reader
from fanfold.source.table import COLUMNS, INCOMPLETE
from fanfold.storage import open_store
from helpers import TXT, Here, changed, failures, texts_of, web_server
from jobs import Scripted

LISTED = pa.schema(
    [
        key_field(),
        *(pa.field(name, pa.string(), nullable=False) for name in ("version", "path")),
        pa.field("size", pa.int64()),
    ]
)
"""The columns of a table that lists files."""


@dataclass(frozen=True)
class Lister:
    """The first phase: one row per file, with its address."""

    name: ClassVar[str] = "files"

    def schema(self) -> pa.Schema:
        return LISTED

    def recipe(self) -> dict[str, str]:
        return {}

    def open(self) -> "Work":
        return Work()


class Work:
    seconds: ClassVar[dict[str, float]] = {}

    def __call__(self, items: Iterable[Item], source: Source) -> Iterator[pa.RecordBatch | Failure]:
        for item in items:
            path = source.uri(item).removeprefix("file://")
            row = {"key": item.key, "version": item.version, "path": path, "size": item.size}
            yield pa.RecordBatch.from_pylist([row], schema=LISTED)


@dataclass(frozen=True)
class Lines(Scripted):
    """A second phase with its own source: each row of a table is a part of the row's file."""

    def source(self, addresses: Sequence[str]) -> "Parts":
        return Parts.open(addresses[0])


class Parts(Table):
    """Makes an item's content from its key and path."""

    def read(self, item: Item, limit: int) -> bytes:  # noqa: ARG002
        return f"{item.key.removesuffix('/' + item.path)} from {item.path}".encode()


def listed(source: Any, database: str) -> str:
    """The address of a table that lists a source's files."""
    list(fanfold.run(Lister(), source=str(source), database=database, executor=Here()))
    return f"table:{database}/files"


def table(database: str, rows: list[dict[str, Any]], schema: pa.Schema = LISTED, name: str = "files") -> str:
    """The address of a table with these rows."""
    lance.write_dataset(pa.Table.from_pylist(rows, schema), f"{database}/{name}.lance")
    return f"table:{database}/{name}"


def row(key: str, path: str = "/x.txt", **more: Any) -> dict[str, Any]:
    """A row that describes an item."""
    return {"key": key, "version": "1", "path": path, "size": 1} | more


def done(source: Any, database: str, job: Any = None, **options: Any) -> fanfold.Report:
    """Run the second phase to its end."""
    run = fanfold.run(job or Scripted(), source=source, database=database, **options)
    list(run)
    return run.report


@pytest.mark.parametrize("where", ["disk", "s3"])
def test_two_phases(texts: Path, database: str, where: str, request: pytest.FixtureRequest) -> None:
    """The second run does what the first one listed, in separate processes, and later only what has changed."""
    database = database if where == "disk" else request.getfixturevalue("bucket")
    address = listed(texts, database)
    report = done(address, database, workers=1)
    assert (report.listed, report.ok, report.lost) == (40, 40, 0)
    assert texts_of(database)["a/07.txt"] == "text 7"
    changed(texts / "a" / "07.txt", "another text")
    assert done(address, database, executor=Here()).unchanged == 40  # the first phase has not seen it yet
    report = done(listed(texts, database), database, executor=Here())
    assert (report.unchanged, report.ok) == (39, 1)
    assert texts_of(database)["a/07.txt"] == "another text"


def test_a_path_may_be_a_url(folder: Path, bucket: str, database: str) -> None:
    """Rows may also name objects and pages; a missing one is a failed item."""
    open_store(bucket).put("x.txt", b"object")
    (folder / "y.txt").write_text("page")
    meta = next(iter(open_source(bucket).list(TXT)))
    with web_server(folder) as web:
        (page,) = open_source(f"{web}/y.txt?").list(TXT)
        some = [row("a", f"{bucket}/x.txt", size=6, version=meta.version), row("c", f"{folder}/z.txt", size=4)]
        address = table(database, [*some, row("b", f"{web}/y.txt", size=page.size, version=page.version)])
        assert (done(address, database, executor=Here()).ok, [*failures(database)]) == (2, ["c"])
    assert texts_of(database) == {"a": "object", "b": "page"}
    assert [one["gone"] for one in failed(database, check=True)] == [False]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def test_parts_of_what_rows_name(texts: Path, database: str) -> None:
    """Workers read ranges of such items, with the version checked, and need only the table's address."""
    source = open_source(listed(texts, database))
    items = {item.key: item for item in source.list(TXT)}
    worker = reader(source.root)
    assert worker.read_at(items["b/39.txt"], 5, 2) == b"39"
    assert worker.uri(items["b/39.txt"]) == f"file://{texts}/b/39.txt"
    changed(texts / "b" / "39.txt", "text 00")
    with pytest.raises(Changed, match="run again"):
        worker.read_at(items["b/39.txt"], 5, 2)
    with pytest.raises(StorageError, match="not for listing"):
        list(worker.list(TXT))


def test_a_listing_is_of_one_version(database: str) -> None:
    """A row that is added after a source was opened is not in its listing, but in the next one's."""
    source = open_source(address := table(database, [row("a")]))
    lance.write_dataset(pa.Table.from_pylist([row("b")], LISTED), f"{database}/files.lance", mode="append")
    assert [item.key for item in source.list(TXT)] == ["a"]
    assert [item.key for item in open_source(address).list(TXT)] == ["a", "b"]


def test_what_is_left_out_of_a_table(database: str) -> None:
    """Rows without a required value, or with another suffix for a job over files, are left out and counted."""
    address = table(database, [row("a"), row("b", size=None), row("c", path="/x.bin"), row("d", path="/X.TXT")])
    source = open_source(address)
    assert [item.key for item in source.list(TXT)] == ["a", "d"]
    assert source.left_out == {INCOMPLETE: 1, "other type": 1}
    assert [item.key for item in open_source(address).list(frozenset())] == ["a", "c", "d"]


def test_rows_that_share_keys(database: str) -> None:
    """In a table whose key is not a primary key, such as a detail table, an item's key is `key/path`."""
    schema = pa.schema([pa.field("key", pa.string(), nullable=False), *list(LISTED)[1:]])
    address = table(
        database, [row("disk.dd", "a/x.txt"), row("disk.dd", "a/y.txt"), row("e.dd", "a/x.txt")], schema, "parts"
    )
    keys = [item.key for item in open_source(address).list(frozenset())]
    assert keys == ["disk.dd/a/x.txt", "disk.dd/a/y.txt", "e.dd/a/x.txt"]
    report = done(address, database, Lines(), executor=Here())
    assert (report.ok, report.failed) == (3, 0)
    assert texts_of(database)["disk.dd/a/y.txt"] == "disk.dd from a/y.txt"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("table:", "Write table:DATABASE/NAME"),
        ("table:files", "Write table:DATABASE/NAME"),
        ("table:/no/such/files", "There is no table 'files' in /no/such"),
        ("table:https://host/db/files", "cannot hold a database"),
        ("table:ftp://host/db/files", "not ftp://"),
    ],
)
def test_what_is_not_the_address_of_a_table(address: str, words: str) -> None:
    """An address that does not name a table is refused with what to write."""
    with pytest.raises(UsageError, match=words):
        open_source(address)


def test_a_table_that_cannot_be_a_source(texts: Path, database: str) -> None:
    """A table with missing or wrong columns is refused by name; one with a missing file is damaged."""
    done(str(texts), database, executor=Here())
    with pytest.raises(UsageError, match=r"Table 'scripted' in .* it lacks size, path"):
        fanfold.run(Scripted(), source=f"table:{database}/scripted", database=database)
    schema = pa.schema([pa.field(name, pa.int64()) for name in COLUMNS])
    with pytest.raises(UsageError, match="it lacks key, version, path"):
        open_source(table(database, [], schema, "numbers"))
    address = table(database, [row("a")])
    source = open_source(address)
    next(Path(database, "files.lance", "data").iterdir()).unlink()
    with pytest.raises(StorageError, match=r"Table 'files' in .* is damaged"):
        list(source.list(TXT))


def test_spellings_of_a_table(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path, a suffix or a closing slash gives the same address, to which a table of results is bound."""
    table(database, [row("a")])
    table(database, [row("a")], name="others")
    monkeypatch.chdir(Path(database).parent)
    spellings = ["table:db/files", "table:db/files.lance", "table:./db/files/", f"table:{database}/files"]
    assert {open_source(one).root for one in spellings} == {f"table:{database}/files"}
    assert done("table:db/files", database, executor=Here()).failed == 1
    with pytest.raises(fanfold.SourceMismatch, match="holds the items of table:"):
        fanfold.run(Scripted(), source="table:db/others", database=database)
    with pytest.raises(UsageError, match="cannot be one source"):
        fanfold.run(Scripted(), source=["table:db/files", "table:db/others"], database=database)
    with pytest.raises(UsageError, match="cannot be one source"):
        fanfold.run(Scripted(), source=["table:db/files", database], database=database)


def test_a_large_table_is_streamed(database: str) -> None:
    """400,000 rows are listed in memory for a few thousand of them."""
    count = 400_000
    for start in range(0, count, count // 4):
        keys = pa.array([f"folder/{number:09d}.txt" for number in range(start, start + count // 4)])
        columns = {"key": keys, "version": keys, "path": keys, "size": pa.array([1] * len(keys), pa.int64())}
        some = pa.table([columns[name] for name in LISTED.names], schema=LISTED)
        lance.write_dataset(some, f"{database}/files.lance", mode="append" if start else "create")
    source = open_source(f"table:{database}/files")
    items = source.list(TXT)
    next(items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(1 for _ in items) == count - 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; as items they are 150 MB
