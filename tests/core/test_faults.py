"""Deliberate faults: after every fault a clean rerun finds each item in exactly one table, once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

import fanfold
import faults
import nursery
from fanfold import FanfoldError, Item, StorageError
from fanfold.core.catalog import list_runs
from fanfold.core.optimize import optimize
from fanfold.core.plan import Options
from fanfold.core.report import account
from fanfold.core.run import Run, prepare
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.core.table import Table
from fanfold.executors.local import Local
from fanfold.source import Folder
from fanfold.storage import open_store
from faults import (
    MOMENTS,
    TABLE,
    Driver,
    assert_clean,
    assert_no_workers,
    drive,
    fill,
    held,
    hold,
    kills,
    listed_of,
    once,
    settle,
    signs,
    strike,
    texts_of,
    upload,
    wait_for,
    workers_of,
)
from flaky import FAULTS, BreaksOffTwice, Plan, flaky
from helpers import Here
from jobs import SCHEMA, Scripted

BOTH = pytest.mark.parametrize("kind", ["plain", "details"], indirect=True)


@pytest.fixture(autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of job under test: one with details, and in the tests marked with BOTH also one without."""
    kind: str = getattr(request, "param", "details")
    monkeypatch.setattr(faults, "kind", kind)
    return kind


def job() -> Scripted:
    """The job under test."""
    return faults.JOBS[faults.kind]()


# --- killed ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.seeds
@pytest.mark.parametrize("seed", range(24))
def test_killed_at_any_moment(seed: int, tmp_path: Path, database: str) -> None:
    """After any sequence of kills, a clean rerun finds each item in exactly one table, once, and no stray files."""
    source, rng = tmp_path / "source", random.Random(seed)
    fill(source, 36, "old")
    if seed % 3 == 0:
        settle(source, database)
        fill(source, 48, "changed", failing=5)
    for kill in kills(seed):
        before = {sign for pattern in MOMENTS.values() if pattern for sign in signs(database, pattern)}
        driver = drive(source, database, pause=0.02)
        strike(driver, kill, before, rng)
        driver.end() if kill.victim == "worker" else assert_no_workers(database)
    settle(source, database)
    assert_clean(database)
    held(database, listed_of(source))


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_cleaning(seed: int, tmp_path: Path, database: str) -> None:
    """A cleanup that is killed among the leftovers of a run loses nothing and can start again."""
    source, rng = tmp_path / "source", random.Random(seed)
    fill(source, 30)
    driver = drive(source, database, task_size=3, pause=0.01)
    wait_for(lambda: len(signs(database, MOMENTS["receipt"])) > rng.randrange(1, 8))
    driver.kill()
    for _ in range(3):
        cleaner = nursery.Popen([*CLEAN, database], cwd=Path(__file__).parents[1])
        time.sleep(0.3 * rng.random())
        cleaner.kill()
        cleaner.wait()
    settle(source, database)
    assert_clean(database)


CLEAN = [sys.executable, "-c", "import sys; from faults import assert_clean; assert_clean(sys.argv[1])"]

# --- several drivers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sizes", "killed"),
    [
        ("plain", (1, 1), None),
        ("details", (2, 1), None),
        ("details", (3, 5), None),
        ("plain", (2, 3, 1), None),
        ("details", (5, 2), 0.9),
        ("plain", (2, 5), 1.2),
    ],
    indirect=["kind"],
)
def test_several_drivers(sizes: tuple[int, ...], killed: float | None, tmp_path: Path, database: str) -> None:
    """Drivers that cut one source differently at the same time, with or without a kill, do each item once."""
    fill(tmp_path / "source", 36)
    together(tmp_path / "source", database, sizes, killed)
    assert_clean(database)


@pytest.mark.parametrize(("sizes", "killed"), [((4, 3, 6), None), ((5, 3), 2.5)])
def test_several_drivers_on_s3(sizes: tuple[int, ...], killed: float | None, tmp_path: Path, bucket: str) -> None:
    """The same on an object store, where create-if-absent is the only means of coordination."""
    fill(tmp_path, 20)
    upload(tmp_path, f"{bucket}/source")
    together(f"{bucket}/source", f"{bucket}/db", sizes, killed)
    assert_clean(f"{bucket}/db")


@pytest.mark.parametrize("commit_every", [0, 0.3])
def test_cleaning_beside_a_run(commit_every: float, tmp_path: Path, database: str) -> None:
    """Repeated `optimize --keep 0` does not end a run that adds, replaces and fails items at the same time."""
    source = tmp_path / "source"
    fill(source, 40, "old")
    settle(source, database)
    fill(source, 80, "changed", failing=5)
    hold(source, 79, until=tmp_path / "cleaned")
    driver = drive(source, database, task_size=2, pause=0.03, commit_every=commit_every, retry_failed=True)
    cleaned = 0
    while driver.process.poll() is None:
        optimize(database, timedelta(0))
        cleaned += 1
        if cleaned == 3:
            (tmp_path / "cleaned").touch()
    code, out, err = driver.end()
    assert code == 3, err
    assert json.loads(out)["lost"] == 0
    assert cleaned >= 3
    held(database, listed_of(source))
    assert_clean(database)


@pytest.mark.parametrize("by", ["process", "s3"])
def test_cleaning_in_the_middle_of_a_run(
    by: str, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """A run continues if others have committed, compacted and swept its tasks before it could commit them."""
    fill(tmp_path / "source", 20, failing=5)
    source: Path | str = tmp_path / "source"
    if by == "s3":
        bucket = request.getfixturevalue("bucket")
        upload(tmp_path / "source", f"{bucket}/source")
        source, database = f"{bucket}/source", f"{bucket}/db"
    run = fanfold.run(job(), source=str(source), database=database, executor=Here(), task_size=4)
    publish, ready = run.ledger.publish, list[int]()

    def late(outcomes: list[Outcome], directory: RunDirectory) -> list[Outcome]:
        ready.append(len(outcomes))
        for _ in range(2):
            optimize(database, timedelta(0))
        return publish(outcomes, directory)

    run.ledger.publish = late  # type: ignore[method-assign, assignment]
    list(run)
    assert sum(ready) == 5
    assert (run.report.ok, run.report.failed, run.report.lost) == (16, 4, 0)
    held(database, listed_of(source))
    assert_clean(database)


def together(source: Path | str, database: str, sizes: tuple[int, ...], killed: float | None) -> None:
    drivers = [drive(source, database, task_size=size, pause=0.01, commit_every=0) for size in sizes]
    if killed:
        time.sleep(killed)
        drivers.pop().kill()
    for driver in drivers:
        code, out, err = driver.end()
        assert code in (0, 3), err
        assert json.loads(out)["lost"] == 0
    held(database, listed_of(source))
    settle(source, database)


@pytest.mark.parametrize("seed", range(3))
def test_drivers_that_disagree(seed: int, tmp_path: Path, database: str) -> None:
    """An item that fails for one driver and succeeds for another at the same time has a row and no failure."""
    fill(tmp_path / "source", 24, failing=99)
    fine, failing = (drive(tmp_path / "source", database, task_size=3 + seed, failing=f) for f in (False, True))
    for driver in (fine, failing):
        code, _, err = driver.end()
        assert code in (0, 3), err
    held(database, listed_of(tmp_path / "source"))
    settle(tmp_path / "source", database)


def test_cleaning_while_drivers_work(tmp_path: Path, database: str) -> None:
    """Repeated cleanup takes nothing from drivers that work at the same time."""
    fill(tmp_path / "source", 40)
    drivers = [drive(tmp_path / "source", database, task_size=2, pause=0.03) for _ in range(2)]
    wait_for(lambda: signs(database, MOMENTS["receipt"]))
    while any(driver.process.poll() is None for driver in drivers):
        optimize(database, keep=timedelta(hours=1))
    for driver in drivers:
        code, _, err = driver.end()
        assert code == 3, err
    settle(tmp_path / "source", database)
    assert_clean(database)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_swept_while_suspended(where: str, tmp_path: Path, database: str) -> None:
    """A suspended driver on this machine loses no fragments; one elsewhere, taken for dead, ends with an error."""
    fill(tmp_path / "source", 40, failing=99)
    driver = drive(tmp_path / "source", database, task_size=1, pause=0.02)
    with suspended_before_a_receipt(driver) as waiting:
        run = swept(database, where)
        assert account(run)[1] == ("running" if where == "here" else "interrupted")
        assert {file.exists() for file in waiting} == {where == "here"}
    code, out, err = driver.end()
    done = once(database, TABLE)
    if where == "here":
        report = json.loads(out)
        assert (code, report["ok"], report["failed"], report["lost"]) == (0, 40, 0, 0), err
        held(database, listed_of(tmp_path / "source"))
    else:
        assert (code, out, err.count("StorageError: "), database in err) == (1, "", 1, True), err
    assert settle(tmp_path / "source", database).unchanged == len(done)
    assert_clean(database)


def test_swept_before_its_receipt(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was taken for dead does not report its only task, whose fragments were swept, as done."""
    fill(tmp_path / "source", 1, failing=99)
    run = fanfold.run(job(), source=str(tmp_path / "source"), database=database, executor=Here())
    write_receipt = RunDirectory.write_receipt

    def late(directory: RunDirectory, outcome: Outcome) -> Outcome:
        swept(database, "elsewhere")
        return write_receipt(directory, outcome)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "write_receipt", late)
        with pytest.raises(StorageError, match=run.id):
            list(run)
    assert (run.report.ok, once(database, TABLE)) == (0, {})
    assert settle(tmp_path / "source", database).ok == 1
    assert_clean(database)


def swept(database: str, by: str) -> RunDirectory:
    """Clean up a database, by a process of this machine or one elsewhere, after its only run has long been silent."""
    (id,) = list_runs(database)
    os.utime(Path(database, "_runs", id, "alive"), (0, 0))
    with pytest.MonkeyPatch.context() as patched:
        if by == "elsewhere":  # there it cannot be seen whether the driver lives
            patched.setattr("fanfold.core.driver._machine", lambda: "another machine")
        optimize(database, keep=timedelta(0))
        return RunDirectory(database, id)


@contextmanager
def suspended_before_a_receipt(driver: Driver) -> Iterator[set[Path]]:
    """Suspend a driver and its workers at a moment with fragments that have no receipt yet, which are yielded."""
    waiting: set[Path] = set()
    while not waiting:
        assert driver.process.poll() is None, driver.end()
        processes = [psutil.Process(driver.process.pid)]
        suspend(processes[0])  # so that it starts no more workers
        try:
            processes += driver.children()
            for process in processes:
                suspend(process)
            receipts = " ".join(path.read_text() for path in signs(driver.database, MOMENTS["receipt"]))
            waiting = {path for path in signs(driver.database, MOMENTS["fragment"]) if path.name not in receipts}
            if waiting:
                yield waiting
        finally:
            for process in processes:
                process.resume()
        time.sleep(0.003)


def suspend(process: psutil.Process) -> None:
    """Suspend a process, and wait until it is."""
    process.suspend()
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED)


def test_emptied_table(database: str) -> None:
    """A table that has lost its last row takes the rows of several tasks at once, like a new one."""
    table = Table.create(database, TABLE, SCHEMA)
    for keys in (["a"], ["b", "c", "d"]):
        batches = [pa.RecordBatch.from_pylist([{"key": key, "version": "1"}], schema=SCHEMA) for key in keys]
        table.commit([fragment for batch in batches for fragment in table.write(iter([batch]))])
        assert once(database, TABLE).keys() == {*keys}
        table.dataset.delete("true")
        assert once(database, TABLE) == {}


# --- disks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small, separate disk that every user may read."""
    where = Path(tempfile.mkdtemp(prefix="fanfold-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)
        where.rmdir()


@contextmanager
def crowded(disk: Path, free: int) -> Iterator[None]:
    """Leave only this many bytes of the disk free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - free))
    yield
    ballast.unlink()


@pytest.mark.parametrize("pages", [0, 3, 9, 20, 37, 55])
def test_full_disk(pages: int, tmp_path: Path, disk: Path) -> None:
    """A disk that fills up at any moment ends the run with an error that says so; with free space the run continues."""
    fill(tmp_path / "source", 40)
    with crowded(disk, pages * 4096):
        code, _, err = drive(tmp_path / "source", str(disk / "db"), task_size=2).end()
    assert (code, err.count("StorageError: "), "No space left on device" in err) == (1, 1, True), err
    assert str(disk) in err
    settle(tmp_path / "source", str(disk / "db"))
    assert_clean(str(disk / "db"))


def test_full_disk_on_update(tmp_path: Path, disk: Path) -> None:
    """If a disk fills up while rows are replaced, each item keeps its old row or has its new one."""
    fill(tmp_path / "source", 40)
    settle(tmp_path / "source", str(disk / "db"))
    fill(tmp_path / "source", 40, "changed", failing=5)
    before = set(once(str(disk / "db"), TABLE)) | set(once(str(disk / "db"), "failures"))
    for pages in (6, 18):
        with crowded(disk, pages * 4096):
            assert drive(tmp_path / "source", str(disk / "db"), task_size=4).end()[0] == 1
        assert set(once(str(disk / "db"), TABLE)) | set(once(str(disk / "db"), "failures")) == before
    settle(tmp_path / "source", str(disk / "db"))


@pytest.mark.parametrize("made", [False, True])
def test_read_only_disk(made: bool, tmp_path: Path, disk: Path) -> None:
    """A database on a read-only disk, new or old, is an error that names it; an old one can still be read."""
    fill(tmp_path / "source", 12)
    if made:
        settle(tmp_path / "source", str(disk / "db"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, _, err = drive(tmp_path / "source", str(disk / "db")).end()
    assert (code, str(disk / "db") in err) == (1, True), err
    if made:
        preview = fanfold.preview(job(), source=str(tmp_path / "source"), database=str(disk / "db"))
        assert (preview.new, preview.unchanged, preview.failed_before) == (0, 10, 2)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    settle(tmp_path / "source", str(disk / "db"))


@pytest.mark.parametrize("sealed", ["db", "db/_runs", "db/scripted.lance", "source", "source/a/000.txt"])
def test_no_permission(sealed: str, disk: Path) -> None:
    """A missing permission is an error that names the path, or a failed item, never a traceback."""
    fill(disk / "source", 12)
    database = str(disk / "db")
    settle(disk / "source", database)
    fill(disk / "source", 13, "changed")
    for path in [disk / sealed, *(disk / sealed).rglob("*")]:
        os.chown(path, 65534, 65534)
        path.chmod(0o700 if sealed.startswith("source") else 0o755 if path.is_dir() else 0o644)
    code, _, err = drive(disk / "source", database, powerless=True).end()
    assert code == (3 if sealed == "source/a/000.txt" else 1), err
    assert code == 3 or str(disk) in err
    for path in [disk, *disk.rglob("*")]:
        os.chown(path, 0, 0)
    settle(disk / "source", database, retry_failed=True)


# --- damage ---------------------------------------------------------------------------------------------------


def test_database_is_a_file(texts: Path, tmp_path: Path) -> None:
    """A file at the database's path, or above it, is an error that names it, and the file stays as it is."""
    (tmp_path / "db").write_text("precious")
    for database in (tmp_path / "db", tmp_path / "db" / "below"):
        code, _, err = drive(texts, str(database)).end()
        assert (code, str(database) in err) == (2, True), err
    assert (tmp_path / "db").read_text() == "precious"


TEARS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "all but one byte": lambda data: data[:-1],
    "noise": lambda data: random.Random(1).randbytes(len(data)),
}


@pytest.mark.parametrize(
    "what",
    [f"{table}/{part}" for table in ("scripted.lance", "scripted_words.lance") for part in ("_versions", "data")]
    + ["failures.lance/_versions"],
)
def test_damaged_table(what: str, tmp_path: Path, database: str) -> None:
    """A damaged table is an error or still good, and never replaced: once its file is restored, all rows are there."""
    fill(tmp_path / "source", 20)
    settle(tmp_path / "source", database)
    damaged = [path for path in Path(database, what).iterdir() if path.suffix != ".json"]
    good = {path: path.read_bytes() for path in damaged}
    for number, tear in enumerate(TEARS.values()):
        for path, data in good.items():
            path.write_bytes(tear(data))
        fill(tmp_path / "source", 21 + number)
        with suppress(FanfoldError):
            settle(tmp_path / "source", database)
        for path, data in good.items():
            path.write_bytes(data)
    assert settle(tmp_path / "source", database).listed == 24


@pytest.mark.parametrize(("kind", "tear"), [*zip(["plain", "details"] * 2, TEARS, strict=True)], indirect=["kind"])
def test_torn_run(tear: str, tmp_path: Path, database: str) -> None:
    """Torn files of a dead run lose nothing: work that cannot be read is done again."""
    fill(tmp_path / "source", 30)
    driver = drive(tmp_path / "source", database, task_size=2, pause=0.01)
    wait_for(lambda: len(signs(database, MOMENTS["receipt"])) > 4)
    driver.kill()
    assert_no_workers(database)
    for path in sorted(signs(database, "_runs/*/*/*") | signs(database, "_runs/*/alive"))[::2]:
        path.write_bytes(TEARS[tear](path.read_bytes()))
    settle(tmp_path / "source", database)
    assert_clean(database)


@pytest.mark.parametrize("name", ["run.json", "report.json"])
def test_torn_account(name: str, tmp_path: Path, database: str) -> None:
    """A run with a torn record, or an entry that is not a run, can be listed and does not block anything."""
    fill(tmp_path / "source", 6)
    settle(tmp_path / "source", database)
    (path,) = signs(database, f"_runs/*/{name}")
    for number, tear in enumerate(TEARS.values()):
        torn = path.parent.with_name(f"{path.parent.name[:-1]}-{number}")
        shutil.copytree(path.parent, torn)
        (torn / name).write_bytes(tear(path.read_bytes()))
    (Path(database) / "_runs" / ".DS_Store").write_bytes(b"what?")
    (Path(database) / "_runs" / "lost+found").mkdir()
    settle(tmp_path / "source", database)
    for id in list_runs(database):
        account(RunDirectory(database, id))
    assert_clean(database)


def test_torn_manifest(tmp_path: Path, database: str) -> None:
    """A task whose manifest is torn during the run is reported as lost, and the next run does it."""
    fill(tmp_path / "source", 40, failing=99)
    hold(tmp_path / "source", 8, until=tmp_path / "torn")
    driver = drive(tmp_path / "source", database, task_size=4)
    wait_for(lambda: signs(database, MOMENTS["receipt"]))
    for path in signs(database, MOMENTS["manifest"]):
        path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "torn").touch()
    code, out, err = driver.end()
    assert code == 1, err
    assert json.loads(out)["lost"] == 40 - len(once(database, TABLE))
    settle(tmp_path / "source", database)


# --- a source that changes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "kind"), [*enumerate(["plain", "plain", "details", "details"])], indirect=["kind"])
def test_changing_source(seed: int, tmp_path: Path, disk: Path, database: str) -> None:
    """Files that change, shrink, vanish and appear during runs end up in their final state."""
    source, rng = (disk if seed % 2 else tmp_path) / "source", random.Random(seed)
    fill(source, 40)
    for size in (3, 5)[: 1 + seed % 2]:
        driver = drive(source, database, task_size=size, pause=0.02)
        while driver.process.poll() is None:
            meddle(source, rng)
            time.sleep(0.002)
        code, out, err = driver.end()
        assert code in (0, 3), err
        assert json.loads(out)["lost"] == 0
    settle(source, database, retry_failed=True)
    texts, listed = texts_of(database), listed_of(source)
    assert {key: texts[key] for key in held(database, listed)[0]} == {
        key: text for key in listed if (text := (source / key).read_text()).split()[:1] != ["fail"]
    }
    assert_clean(database)


def meddle(source: Path, rng: random.Random) -> None:
    """Change one file; if none is left, add one."""
    file = rng.choice(sorted(source.rglob("*.txt")) or [source / "a" / "000.txt"])
    if not file.exists():
        file.write_text("text again")
    match rng.choice(["write", "write", "swap", "swap", "truncate", "delete", "add", "move"]):
        case "write":
            file.write_text(f"{rng.choice(['text', 'text', 'fail'])} {rng.random()}")
        case "swap":
            (source / "new").write_text(f"text {rng.random()}")
            (source / "new").rename(file)
        case "truncate":
            os.truncate(file, rng.randrange(1, 6))
        case "delete":
            file.unlink()
        case "add":
            (file.parent / f"{rng.randrange(1000):03d}.txt").write_text(f"text {rng.random()}")
        case "move":
            file.rename(file.with_name(f"{rng.randrange(1000):03d}.txt"))


def test_listed_twice(texts: Path, database: str) -> None:
    """Files that are listed twice are done once; tmpfs lists files twice if they are replaced by renaming meanwhile."""
    source, ledger = prepare(job(), str(texts), database, None, Options(), Local(1))
    run = Run(job(), Stutter(source.root), ledger, Local(2), Options(task_size=7))
    assert sum(outcome.ok for outcome in run) == run.report.listed
    assert run.report.lost == 0
    assert settle(texts, database).unchanged == 40


class Stutter(Folder):
    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:
        for item in super().list(suffixes):
            yield from (item, item)


def test_vanishing_source(tmp_path: Path, database: str) -> None:
    """A source that is deleted during a run ends the run and fails no item; once it is back, a rerun does the rest."""
    fill(tmp_path / "source", 40, failing=99)
    hold(tmp_path / "source", 6, until=tmp_path / "gone")
    driver = drive(tmp_path / "source", database, task_size=3)
    wait_for(lambda: signs(database, MOMENTS["receipt"]))
    (tmp_path / "source").rename(tmp_path / "away")  # in one step: no file is missing while its folder is there
    (tmp_path / "gone").touch()
    code, _, err = driver.end()
    assert code == 1
    assert "source is not there any more" in err
    assert fanfold.open_table(database, "failures").count_rows() == 0
    fill(tmp_path / "source", 40, "back")
    settle(tmp_path / "source", database)


def test_changing_bucket(tmp_path: Path, bucket: str) -> None:
    """Objects that are replaced and deleted during a run end up in their final state."""
    fill(tmp_path, 30, failing=99)
    upload(tmp_path, f"{bucket}/source")
    driver, store = drive(f"{bucket}/source", f"{bucket}/db", pause=0.1), open_store(f"{bucket}/source")
    for number in range(2, 30, 3):
        store.delete(f"{'ab'[number % 2]}/{number:03d}.txt")
        store.put(f"{'ab'[(number - 1) % 2]}/{number - 1:03d}.txt", b"replaced")
        time.sleep(0.1)
    assert driver.end()[0] in (0, 3)
    settle(f"{bucket}/source", f"{bucket}/db", retry_failed=True)
    texts = texts_of(f"{bucket}/db")
    assert {texts[key] for key in listed_of(f"{bucket}/source") if int(key[2:5]) % 3 == 1} == {"replaced"}


# --- a failing object store -----------------------------------------------------------------------------------


@pytest.mark.seeds
@pytest.mark.parametrize(
    ("seed", "faults"),
    [
        (1, FAULTS),
        (3, ("500 after", "503 after", "reset after")),
        (4, ("cut",)),
        (5, ("503 before", "stall")),
        (6, FAULTS),
        (7, ("500 after", "503 after", "reset after")),
    ],
)
def test_flaky_store(
    seed: int, faults: tuple[str, ...], bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object store that sometimes fails, before or after it does a request, loses and duplicates nothing."""
    fill(tmp_path, 20)
    upload(tmp_path, f"{bucket}/source")
    plan = Plan(seed, faults=faults)
    with flaky(s3_server, plan) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        code, _, err = drive(f"{bucket}/source", f"{bucket}/db").end()
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert code in (1, 3), err
    assert sum(plan.met[fault] for fault in faults) > 0
    settle(f"{bucket}/source", f"{bucket}/db")
    assert {key[2:] for key in once(f"{bucket}/db", "failures")} == {f"{n:03d}.txt" for n in range(3, 20, 7)}
    assert_clean(f"{bucket}/db")


def test_connections_that_break(bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose requests each break off once before and once after they are served ends like any other."""
    fill(tmp_path, 12)
    upload(tmp_path, f"{bucket}/source")
    with flaky(s3_server, plan := BreaksOffTwice(0)) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        code, _, err = drive(f"{bucket}/source", f"{bucket}/db").end()
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert code == 3, err
    assert plan.met["reset after"] > 20
    assert len(list_runs(f"{bucket}/db")) == 1
    assert {key[2:] for key in once(f"{bucket}/db", "failures")} == {f"{n:03d}.txt" for n in range(3, 12, 7)}
    assert_clean(f"{bucket}/db")


def test_unreadable_object(bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that can never be read is a failed item; all others are done."""
    fill(tmp_path, 12, failing=99)
    upload(tmp_path, f"{bucket}/source")
    with flaky(s3_server, Plan(0, rate=0, always={"/source/a/004.txt": "403 before"})) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        code, out, err = drive(f"{bucket}/source", f"{bucket}/db").end()
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert (code, json.loads(out)["ok"]) == (3, 11), err
    assert once(f"{bucket}/db", "failures").keys() == {"a/004.txt"}
    assert settle(f"{bucket}/source", f"{bucket}/db", retry_failed=True).ok == 1


# --- poison ---------------------------------------------------------------------------------------------------


def test_poison(tmp_path: Path, database: str) -> None:
    """Items that kill their reader fail alone; their neighbours are done."""
    fill(tmp_path / "source", 12, failing=99)
    poisons = {"a/002.txt": "crash", "b/005.txt": "kill", "b/009.txt": "exit"}
    for name, poison in poisons.items():
        (tmp_path / "source" / name).write_text(poison)
    code, out, err = drive(tmp_path / "source", database, task_size=3).end()
    assert (code, json.loads(out)["ok"], json.loads(out)["failed"]) == (3, 9, 3), err
    assert once(database, "failures").keys() == poisons.keys()
    settle(tmp_path / "source", database)
    assert_clean(database)


def test_memory_hog(tmp_path: Path, database: str) -> None:
    """An item that exhausts its worker's memory does not affect other tasks."""
    fill(tmp_path / "source", 16, failing=99)
    (tmp_path / "source/a/002.txt").write_text("hog")
    _, out, _ = drive(tmp_path / "source", database, task_size=4, memory=400 << 20).end()
    report = json.loads(out)
    assert report["listed"] == 16 == report["ok"] + report["failed"] + report["lost"]
    assert report["ok"] >= 12
    (tmp_path / "source/a/002.txt").write_text("cured")
    settle(tmp_path / "source", database)


@pytest.mark.parametrize("bad", ["raise", "twice", "stranger"])
def test_job_that_breaks_its_word(bad: str, tmp_path: Path, database: str) -> None:
    """A task whose job raises, or answers for the wrong item, is counted as lost and done again by the next run."""
    fill(tmp_path / "source", 16, failing=99)
    (tmp_path / "source/a/002.txt").write_text(bad)
    code, out, err = drive(tmp_path / "source", database, task_size=2, workers=1).end()
    report = json.loads(out)
    assert (code, report["lost"], report["ok"]) == (1, 2, 14), err
    (tmp_path / "source/a/002.txt").write_text("mended")
    assert settle(tmp_path / "source", database).ok == 2


def test_job_that_forgets(tmp_path: Path, database: str) -> None:
    """Items without an answer from the job have failed."""
    fill(tmp_path / "source", 16, failing=99)
    (tmp_path / "source/a/002.txt").write_text("forget")
    assert drive(tmp_path / "source", database).end()[0] == 3
    assert once(database, "failures").keys() == {"a/002.txt"}


@pytest.mark.parametrize("error", ["kill", "cannot open", "exit"])
def test_worker_that_cannot_start(error: str, texts: Path, database: str) -> None:
    """Workers that can never start end the run at once, with the reason."""
    code, _, err = drive(texts, database, open_error=error).end()
    assert (code, err.count("\n")) == (1, 1), err
    settle(texts, database)


@pytest.mark.parametrize("lacking", ["sys.executable", "tempfile.tempdir"])
def test_no_room_for_workers(
    lacking: str, texts: Path, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no worker process can be started, or no file made for its output, the error says so in one line."""
    with monkeypatch.context() as patched:
        patched.setattr("fanfold.executors.process.subprocess", subprocess)
        patched.setattr(lacking, str(tmp_path / "nothing"))
        with pytest.raises(FanfoldError, match=rf"^A worker cannot start: .*{tmp_path}/nothing") as raised:
            settle(texts, database, workers=2)
    assert "\n" not in str(raised.value)
    settle(texts, database)


# --- stopping -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["run", "receipt", "commit"])
def test_stopped(number: signal.Signals, moment: str, tmp_path: Path, database: str) -> None:
    """A driver that is asked to stop ends quickly with its workers; finished work is kept, and a rerun continues."""
    fill(tmp_path / "source", 60)
    driver = drive(tmp_path / "source", database, task_size=3, pause=0.3)  # 9 s for two workers
    wait_for(lambda: len(signs(database, MOMENTS[moment])) > (moment == "commit"))
    driver.process.send_signal(number)
    code, _, _ = driver.end()
    assert code in (130, -number)
    assert_no_workers(database)
    receipts = [json.loads(path.read_text()) for path in signs(database, MOMENTS["receipt"])]
    assert len(receipts) < 20
    assert settle(tmp_path / "source", database).unchanged == sum(receipt["ok"] for receipt in receipts)
    assert_clean(database)


@pytest.mark.parametrize("after", [0.05, 0.4])
def test_closed(after: float, texts: Path, database: str) -> None:
    """A run closed by its caller stops its workers for good, even those that are just starting."""
    run = iter(fanfold.run(replace(job(), pause=0.5), source=str(texts), database=database, workers=2, task_size=2))
    threading.Timer(after, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert_no_workers(database)
    done = signs(database, MOMENTS["receipt"])
    assert len(done) < 20
    time.sleep(0.8)
    assert (signs(database, MOMENTS["receipt"]), [*workers_of(database)]) == (done, [])
    settle(texts, database)
