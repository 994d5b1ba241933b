"""Damaged files, as after a power cut: uncommitted work is done again, and damage to committed data is an error."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pytest
from test_detached import Later

import fanfold
from commands import fanfold as command
from fanfold import StorageError, UsageError
from fanfold.core import detached, recovery
from fanfold.core.catalog import list_runs
from fanfold.core.optimize import optimize
from fanfold.core.progress import Tally
from fanfold.core.repair import repair
from fanfold.core.report import account
from fanfold.core.runs import RunDirectory, Task
from fanfold.core.table import Table
from fanfold.core.worker import Worker
from fanfold.errors import Damaged
from fanfold.images.search.neighbours import nearest
from fanfold.images.search.vector_index import build
from faults import MOMENTS, TABLE, assert_clean, drive, fill, held, listed_of, settle, signs, wait_for
from helpers import Here, embed, rows, texts_of
from jobs import Scripted
from vector_tables import SCHEMA, clustered, commit, made

Tear = Callable[[bytes], bytes]

TEARS: dict[str, Tear] = {
    "empty": lambda _: b"",
    "ten bytes": lambda data: data[:10],
    "half": lambda data: data[: len(data) // 2],
    "all but one byte": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "zeros at the end": lambda data: data[:-60] + bytes(60),
    "noise": lambda data: random.Random(1).randbytes(len(data)),
    "another byte": lambda data: (
        data[: len(data) // 9] + bytes([data[len(data) // 9] ^ 1]) + data[len(data) // 9 + 1 :]
    ),
    "longer": lambda data: data + bytes(5),
    "noise at the beginning": lambda data: random.Random(2).randbytes(len(data) // 3) + data[len(data) // 3 :],
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, and a database whose run was killed after its tasks had receipts, before any commit."""
    folder = tmp_path_factory.mktemp("killed")
    fill(folder / "source", 20, failing=5)
    driver = drive(folder / "source", database := str(folder / "db"), commit_every=1e9, task_size=5)
    wait_for(lambda: len(signs(database, MOMENTS["receipt"])) == len(signs(database, MOMENTS["manifest"])) >= 4)
    driver.kill()
    return folder


def uncommitted(killed: Path, database: str) -> set[Path]:
    """The data files in a copy of that database."""
    shutil.copytree(killed / "db", database)
    return signs(database, MOMENTS["fragment"])


@pytest.mark.parametrize("tear", TEARS)
@pytest.mark.parametrize("table", [TABLE, "failures"])
def test_torn_fragments_are_done_again(table: str, tear: str, killed: Path, database: str) -> None:
    """Torn files that a receipt names, of rows or of failures, are treated as missing."""
    torn = [file for file in uncommitted(killed, database) if f"/{table}.lance/" in str(file)]
    for file in torn:
        file.write_bytes(TEARS[tear](file.read_bytes()))
    assert torn
    assert settle(killed / "source", database).exit_code == 3
    assert_clean(database)


def test_optimize_passes_over_torn_fragments(killed: Path, database: str) -> None:
    """Cleaning up after a run that left torn files commits the intact ones and deletes the others."""
    torn = sorted(uncommitted(killed, database))
    for file in torn[::2]:
        file.write_bytes(b"")
    assert_clean(database)
    (run,) = list_runs(database)
    report, ended = account(RunDirectory(database, run))
    there = len(rows(database)) + len(rows(database, "failures"))
    assert (ended, report.exit_code) == ("interrupted", 1)
    assert 0 < report.ok + report.failed <= there < report.listed
    assert any("damaged or gone" in why for why in report.reasons)
    settle(killed / "source", database)


def launched(source: Path, database: str, **options: Any) -> RunDirectory:
    """A detached run whose tasks all have receipts."""
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later(), task_size=5, **options)
    run.launch()
    list(detached.work(run.directory, 0, 1, Here(), Tally()))
    return run.directory


def test_a_detached_run_with_torn_fragments_is_committed(tmp_path: Path, database: str) -> None:
    """The report counts torn fragments as lost, with the reason, and the next run does their items again."""
    fill(tmp_path / "source", 20, failing=99)
    run = launched(tmp_path / "source", database)
    sorted(signs(database, MOMENTS["fragment"]))[0].write_bytes(b"")
    report = recovery.finish(run)
    assert (report.ok, report.lost, report.exit_code) == (15, 5, 1)
    assert list(report.reasons.values()) == [5]
    assert len(texts_of(database)) == 15
    assert settle(tmp_path / "source", database).ok == 5


def test_following_a_run_with_torn_fragments_ends(tmp_path: Path, database: str) -> None:
    """Following a run ends with its commit, even if files are torn."""
    fill(tmp_path / "source", 20, failing=99)
    run = launched(tmp_path / "source", database)
    for file in signs(database, MOMENTS["fragment"]):
        file.write_bytes(b"")
    assert len(list(detached.follow(run, Later(), Tally()))) == 4
    report, ended = account(run)
    assert (ended, report.ok, report.lost) == ("complete", 0, 20)


ALIENS = {
    "empty": b"",
    "a cut": b'{"task": 0, "att',
    "zeros": bytes(300),
    "a list": b"[]",
    "a longer list": b'[{"task": 0}]',
    "a number": b"7",
    "a text": b'"done"',
    "null": b"null",
    "another object": b'{"colour": "blue"}',
    "other types": b'{"task": "0", "attempt": 1, "items": 5, "status": "done", "ok": 5, "failed": 0}',
    "other rows": b'{"task":0,"attempt":1,"items":5,"status":"done","ok":5,"failed":0,"rows":[{"files":"x"}]}',
    "rows of nothing": b'{"task":0,"attempt":1,"items":5,"status":"done","ok":5,"failed":0,"rows":[7],"failures":[0]}',
    "rows without facts": b'{"task":0,"attempt":1,"items":5,"status":"done","ok":5,"failed":0,"rows":[{"files":[]}]}',
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"task": "\xff"}',
}


@pytest.mark.parametrize("alien", ALIENS)
def test_a_receipt_that_says_something_else_counts_as_none(alien: str, tmp_path: Path, database: str) -> None:
    """If a run's receipt holds something else, the next run does the task again."""
    fill(tmp_path / "source", 20, failing=99)
    run = launched(tmp_path / "source", database)
    sorted(signs(database, MOMENTS["receipt"]))[0].write_bytes(ALIENS[alien])
    report = embed(tmp_path / "source", database)
    assert (report.unchanged, report.ok, report.lost) == (15, 5, 0)
    assert account(run)[0].ok == 15
    optimize(database, timedelta(0))
    held(database, listed_of(tmp_path / "source"))


@pytest.mark.parametrize("alien", ["empty", "a list", "another object", "deep"])
def test_a_torn_receipt_gives_way_to_a_whole_one(alien: str, tmp_path: Path, database: str) -> None:
    """A share that is performed again overwrites a torn receipt, and the run ends complete."""
    fill(tmp_path / "source", 20, failing=99)
    run = launched(tmp_path / "source", database)
    torn = Path(run.address, "receipts", "000000.json")
    torn.write_bytes(ALIENS[alien])
    assert [outcome.task for outcome in detached.work(run, 0, 1, Here(), Tally())] == [0]
    assert json.loads(torn.read_text())["items"] == 5
    report = recovery.finish(run)
    assert (report.ok, report.lost) == (20, 0)


@pytest.mark.parametrize(
    "name", ["run.json", "plan.json", "report.json", "jobs.json", "stopped.json", "lost/000000.json"]
)
def test_no_file_of_a_run_stands_in_the_way(name: str, tmp_path: Path, database: str) -> None:
    """A run file with unexpected content is treated as missing: there is a report, and the next run continues."""
    fill(tmp_path / "source", 6)
    embed(tmp_path / "source", database)
    (id,) = list_runs(database)
    file = Path(database, "_runs", id, name)
    file.parent.mkdir(exist_ok=True)
    for alien in ALIENS.values():
        file.write_bytes(alien)
        assert account(RunDirectory(database, id))[0].run == id
        assert embed(tmp_path / "source", database).unchanged == 5
        file.write_bytes(alien)
        optimize(database, timedelta(0))
    held(database, listed_of(tmp_path / "source"))


@pytest.mark.parametrize("tear", ["empty", "half", "all but one byte", "zeros", "noise", "noise at the beginning"])
def test_a_torn_manifest_costs_its_task_only(tear: str, tmp_path: Path, database: str) -> None:
    """A share skips a task whose manifest cannot be read: its items are lost, with the reason, until the next run."""
    fill(tmp_path / "source", 20, failing=99)
    run = fanfold.run(Scripted(), source=str(tmp_path / "source"), database=database, executor=Later(), task_size=5)
    run.launch()
    manifest = Path(run.directory.address, "tasks", "000001.parquet")
    manifest.write_bytes(TEARS[tear](manifest.read_bytes()))
    outcomes = list(detached.work(run.directory, 0, 1, Here(), Tally()))
    assert sorted(outcome.task for outcome in outcomes if outcome.status == "done") == [0, 2, 3]
    report = recovery.finish(run.directory)
    assert (report.ok, report.lost) == (15, 5)
    assert any("000001.parquet" in why for why in report.reasons)
    assert settle(tmp_path / "source", database).ok == 5


def test_a_receipt_reaches_the_disk_after_its_rows(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of a task's fragments is synced to disk before the task has a receipt."""
    fill(tmp_path / "source", 10, failing=5)
    run = fanfold.run(Scripted(), source=str(tmp_path / "source"), database=database, executor=Later())
    run.launch()
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        assert not list(Path(run.directory.address).glob("receipts/*"))
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    outcome = Worker(database, run.id).perform(Task(0, 10))
    assert {str(file) for file in signs(database, MOMENTS["fragment"])} <= set(synced)
    assert (outcome.ok, outcome.failed) == (8, 2)


# --- committed ------------------------------------------------------------------------------------------------


COMMITTED: dict[str, Callable[[Path], Path]] = {
    "rows": lambda database: first_data(database / f"{TABLE}.lance"),
    "failures": lambda database: first_data(database / "failures.lance"),
    "deleted rows": lambda database: next((database / f"{TABLE}.lance" / "_deletions").iterdir()),
    "newest version": lambda database: versions(database)[0],
}


def first_data(table: Path) -> Path:
    (file,) = lance.dataset(table).get_fragments()[0].metadata.files
    return table / "data" / str(file.path)


def versions(database: Path) -> list[Path]:
    """The table's version files, newest first."""
    return sorted((database / f"{TABLE}.lance" / "_versions").glob("*.manifest"))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, and a database of it filled in two runs, the second of which replaced rows."""
    folder = tmp_path_factory.mktemp("twice")
    fill(source := folder / "source", 12, failing=5)
    embed(source, str(folder / "db"), task_size=4)
    for number in range(1, 4):
        (source / "ab"[number % 2] / f"{number:03d}.txt").write_text(f"text changed {number}")
    embed(source, str(folder / "db"), task_size=4)
    return folder


@pytest.fixture
def replaced(twice: Path, database: str) -> Path:
    """The source of that database, of which a copy is the database of the test."""
    shutil.copytree(twice / "db", database)
    return twice / "source"


@pytest.mark.parametrize("tear", ["empty", "half", "all but one byte", "zeros", "noise", "noise at the beginning"])
@pytest.mark.parametrize("what", COMMITTED)
def test_a_damaged_table_says_what_to_do_and_that_helps(what: str, tear: str, replaced: Path, database: str) -> None:
    """Damage to committed data is an error that names the table and the command; a run after that does the rest."""
    torn = COMMITTED[what](Path(database))
    torn.write_bytes(TEARS[tear](torn.read_bytes()))
    with pytest.raises(Damaged, match=f"damaged.*fanfold repair {database}"):
        embed(replaced, database)
    assert sum(done.versions + done.fragments for done in repair(database).values()) == 1
    settle(replaced, database)
    assert all(done.fragments == done.versions == 0 for done in repair(database).values())
    assert_clean(database)


@pytest.mark.parametrize("tear", ["empty", "half", "zeros", "noise"])
def test_damage_to_old_versions_is_in_the_way_of_optimize_only(tear: str, replaced: Path, database: str) -> None:
    """Repair sets aside damaged versions before the newest and changes nothing else."""
    old = versions(Path(database))[1:]
    for file in old:
        file.write_bytes(TEARS[tear](file.read_bytes()))
    before = rows(database)
    assert embed(replaced, database).ok == 0
    with pytest.raises(Damaged, match=f"fanfold repair {database}"):
        optimize(database, timedelta(0))
    assert [(done.versions, done.fragments) for done in repair(database).values()] == [(0, 0), (len(old), 0)]
    assert_clean(database)
    assert rows(database) == before


def test_every_verb_tells_of_damage_in_one_sentence(tmp_path: Path, database: str) -> None:
    """Commands on a damaged table exit with 1 and name the command that helps, without a traceback."""
    fill(tmp_path / "source", 12, failing=5)
    embed(tmp_path / "source", database)
    for table in (TABLE, "failures"):
        for file in Path(database, f"{table}.lance", "data").iterdir():
            file.write_bytes(b"")
    for words in (
        ["failures", database, "--json"],
        ["failures", database],
        ["failures", database, "--check"],
        ["optimize", database],
    ):
        code, _, err = command(*words)
        assert (code, f"fanfold repair {database}" in err) == (1, True), err
        assert err.count("fanfold: ") == 1
    code, out, _ = command("report", database)
    assert (code, re.search(r"12 +listed", out) is not None) == (3, True)
    code, out, _ = command("repair", database)
    assert (code, "10 rows" in out, "2 rows" in out) == (0, True, True), out
    settle(tmp_path / "source", database)


@pytest.mark.parametrize("tear", ["empty", "half", "zeros", "noise at the beginning"])
def test_the_verbs_of_images_tell_of_damage(tear: str, database: str) -> None:
    """Search, duplicates, vectors and index exit with 1 on a damaged table of vectors and say what to do."""
    table = made(database, clustered(600, 1))
    for fragment in table.dataset.get_fragments():
        file = Path(table.uri, "data", str(fragment.metadata.files[0].path))
        file.write_bytes(TEARS[tear](file.read_bytes()))
    for words in (["duplicates"], ["vectors", "k3"], ["search", "k3"], ["search", "k3", "--exact"], ["index"]):
        code, out, err = command("images", words[0], database, *words[1:])
        assert (code, out, f"fanfold repair {database}" in err) == (1, "", True), err


@pytest.mark.parametrize("file", ["index.idx", "auxiliary.idx"])
@pytest.mark.parametrize("tear", ["empty", "half", "zeros"])
def test_a_damaged_index_is_dropped(tear: str, file: str, database: str) -> None:
    """A search that meets a damaged index says what to do; repair drops the index, and then every row is found."""
    table = Table.create(database, "images", SCHEMA.with_metadata({"fanfold.recipe": "{}"}))
    commit(table, [f"k{row}" for row in range(2000)], clustered(2000, 1))
    build(table.dataset)
    (torn,) = Path(table.uri, "_indices").rglob(file)
    torn.write_bytes(TEARS[tear](torn.read_bytes()))
    with pytest.raises(Damaged, match="fanfold repair"):
        nearest(lance.dataset(table.uri), clustered(1, 5)[0], 2000)
    code, out, _ = command("repair", database)
    assert (code, "1 damaged indexes dropped" in out, "next run" in out) == (0, True, False), out
    assert len(nearest(lance.dataset(table.uri), clustered(1, 5)[0], 2000)) == 2000
    build(lance.dataset(table.uri))
    assert not any(repair(database).values())


def test_a_database_without_damage_stays_as_it_is(tmp_path: Path, database: str) -> None:
    """Repair leaves intact tables and other programs' tables alone, and a missing database is an error."""
    fill(tmp_path / "source", 12)
    embed(tmp_path / "source", database)
    lance.write_dataset(rows_of_others(), f"{database}/theirs.lance")
    for file in Path(database, "theirs.lance", "data").iterdir():
        file.write_bytes(b"")
    before = {name: lance.dataset(f"{database}/{name}.lance").version for name in (TABLE, "failures", "theirs")}
    assert repair(database).keys() == {TABLE, "failures"}
    assert before == {name: lance.dataset(f"{database}/{name}.lance").version for name in before}
    with pytest.raises(UsageError, match="no fanfold database"):
        repair(str(tmp_path / "source"))


def rows_of_others() -> Any:
    import pyarrow as pa

    return pa.table({"x": [1, 2, 3]})


def test_a_table_of_which_nothing_can_be_read(tmp_path: Path, database: str) -> None:
    """If every version of a table is torn, repair raises an error that says so and moves nothing."""
    fill(tmp_path / "source", 12)
    embed(tmp_path / "source", database)
    manifests = list(Path(database, f"{TABLE}.lance", "_versions").glob("*.manifest"))
    for file in manifests:
        file.write_bytes(b"")
    before = contents(database)
    assert {str(file.relative_to(database)) for file in manifests} <= before.keys()
    with pytest.raises(StorageError, match="No version"):
        repair(database)
    assert contents(database) == before


def contents(folder: str) -> dict[str, bytes]:
    """Path -> content of all files below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
