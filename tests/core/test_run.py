"""The driver: a run from the first listing to the report, stopped, repeated and changed on the way."""

import json
import pkgutil
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from checksums import Checksums
from hypothesis import given
from hypothesis import strategies as st

import fanfold
import nursery
from fanfold import FanfoldError, StorageError, UsageError
from fanfold.core.catalog import find_run, list_runs
from fanfold.core.executor import TaskProgress
from fanfold.core.plan import Options, Standing
from fanfold.core.report import account, is_under_way
from fanfold.core.run import COMMIT_AT_LEAST_EVERY, COMMIT_EVERY, Run, pause_before_commit
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.tasks import TaskQueue
from fanfold.job import Job, load, spec
from fanfold.storage import open_store
from helpers import Here, changed, embed, failures, rows, texts_of, watching, web_server, workers_of
from jobs import Detailed, Scripted


def prepared(source: object, database: str, job: Any = None, **options: Any) -> Run:
    """A run in this process that has not started."""
    return fanfold.run(job or Scripted(), source=str(source), database=database, executor=Here(), **options)


def on_workers(source: object, database: str, job: Any = None, **options: Any) -> Run:
    """A finished run on real worker processes."""
    run = fanfold.run(job or Scripted(), source=str(source), database=database, workers=2, **options)
    for _ in run:
        pass
    return run


# A run


def test_every_item_gets_a_row(texts: Path, database: str) -> None:
    """A first run does everything, and says so in its report and its directory."""
    run = prepared(texts, database, task_size=10)
    outcomes = list(run)
    report = run.report
    assert sum(outcome.ok for outcome in outcomes) == report.ok == report.listed == 40
    assert (report.unchanged, report.failed, report.lost, report.exit_code) == (0, 0, 0, 0)
    assert texts_of(database) == {f"{'a' if n < 20 else 'b'}/{n:02d}.txt": f"text {n}" for n in range(40)}
    directory = RunDirectory(database, run.id)
    asked, ended = directory.get("run.json"), directory.get("report.json")
    assert asked is not None
    assert ended is not None
    assert (asked["table"], asked["root"], asked["job"]["options"]["recipe_name"]) == ("scripted", str(texts), "plain")
    assert (ended["ended"], ended["ok"], ended["run"]) == ("complete", 40, run.id)


def test_a_run_on_worker_processes(texts: Path, database: str) -> None:
    """The default executor does the same and leaves no process behind."""
    run = on_workers(texts, database)
    assert (run.report.ok, len(rows(database))) == (40, 40)
    assert not workers_of(run.id)


def test_running_again_does_only_what_is_new_or_changed(texts: Path, database: str) -> None:
    """Unchanged items are counted, changed ones replaced, new ones added, vanished ones kept."""
    embed(texts, database)
    assert embed(texts, database).unchanged == 40
    changed(texts / "a" / "00.txt", "changed")
    (texts / "a" / "new.txt").write_text("new")
    (texts / "b" / "39.txt").unlink()
    report = embed(texts, database)
    assert (report.listed, report.unchanged, report.ok, report.lost) == (40, 38, 2, 0)
    found = texts_of(database)
    assert (found["a/00.txt"], found["a/new.txt"], found["b/39.txt"]) == ("changed", "new", "text 39")


def test_what_is_left_out_is_reported(texts: Path, database: str) -> None:
    """Reasons and counts of items left out are in the report and in its file."""
    (texts / "empty.txt").touch()
    (texts / "picture.jpg").write_text("x")
    report = embed(texts, database)
    assert report.left_out == {"empty": 1, "other type": 1}
    ended = RunDirectory(database, report.run).get("report.json")
    assert ended is not None
    assert ended["left_out"] == {"empty": 1, "other type": 1}


def test_an_empty_source_is_a_run_of_nothing(tmp_path: Path, database: str) -> None:
    """An empty source is not an error."""
    (tmp_path / "nothing").mkdir()
    report = embed(tmp_path / "nothing", database)
    assert (report.listed, report.lost, report.exit_code) == (0, 0, 0)


def test_the_database_inside_the_source(texts: Path) -> None:
    """A database inside the source is left out, and counted, by every run."""
    database = str(texts / "db")
    job = Checksums()  # it takes every file
    assert embed(texts, database, job).ok == 40
    report = embed(texts, database, job)
    assert (report.unchanged, report.ok, report.left_out) == (40, 0, {"the database": 1})


def test_the_database_inside_the_source_on_s3(bucket: str) -> None:
    """The same for a prefix inside a prefix."""
    open_store(bucket).put("x", b"x")
    open_store(bucket).put("db2/x", b"x")
    assert embed(bucket, f"{bucket}/db", Checksums()).ok == 2
    report = embed(bucket, f"{bucket}/db", Checksums())
    assert (report.unchanged, report.ok, report.left_out) == (2, 0, {"the database": 1})


def test_the_database_is_not_the_source(texts: Path, bucket: str) -> None:
    """A database at the path of its source would be its own source, and is refused."""
    for place in (str(texts), bucket):
        with pytest.raises(UsageError, match="Use another folder for the database"):
            prepared(place, place)
    assert sorted(child.name for child in texts.iterdir()) == ["a", "b"]


def test_a_single_file_and_then_its_folder(texts: Path, database: str) -> None:
    """The root of a single file's table is its folder, so that the other files can follow."""
    (texts / "a" / "one.md").write_text("one")
    assert embed(texts / "a" / "one.md", database).ok == 1
    report = embed(texts / "a", database)
    assert (report.unchanged, report.ok) == (1, 20)


def test_a_list_of_anything(texts: Path, database: str, tmp_path: Path, bucket: str) -> None:
    """Paths, web addresses and objects in one list are items of one table; a missing one is a failure."""
    open_store(bucket).put("x.txt", b"object")
    with web_server(texts) as web:
        lines = ["texts/a/00.txt", f"{web}/b/39.txt", f"{bucket}/x.txt", "absent.txt", f"{web}/absent", "texts"]
        (tmp_path / "some.txt").write_text("\n".join([*lines, "texts/a/00.txt"]))
        report = embed(tmp_path / "some.txt", database)
    assert texts_of(database) == {f"{texts}/a/00.txt": "text 0", lines[1]: "text 39", lines[2]: "object"}
    assert set(failures(database)) == {f"{tmp_path}/absent.txt", lines[4], str(texts)}
    assert {row["stage"] for row in failures(database).values()} == {"read"}
    assert (report.ok, report.failed, report.left_out) == (3, 3, {"listed twice": 1})


def test_a_bucket_into_a_bucket(bucket: str) -> None:
    """Source and database may both be on an object store; updates work as they do on a disk."""
    store = open_store(bucket)
    for number in range(5):
        store.put(f"in/{number}.txt", f"text {number}".encode())
    assert on_workers(f"{bucket}/in", f"{bucket}/db").report.ok == 5
    store.put("in/3.txt", b"changed")
    store.put("in/4.txt", b"fail")
    report = embed(f"{bucket}/in", f"{bucket}/db")
    assert (report.unchanged, report.ok, report.failed) == (3, 1, 1)
    assert texts_of(f"{bucket}/db") == {"0.txt": "text 0", "1.txt": "text 1", "2.txt": "text 2", "3.txt": "changed"}


def test_stems_as_keys(texts: Path, database: str) -> None:
    """Items may be named by their stems; they are read by their paths and recognised again."""
    embed(texts, database, ids="stem")
    assert texts_of(database)["39"] == "text 39"
    assert embed(texts, database, ids="stem").unchanged == 40


def test_shared_stems_end_the_run_before_any_work(texts: Path, database: str) -> None:
    """A collision is an error that names the paths, and nothing is in the table."""
    (texts / "b" / "00.txt").write_text("twin")
    with pytest.raises(UsageError, match=r"00: .*\b[ab]/00\.txt, [ab]/00\.txt"):
        embed(texts, database, ids="stem")
    assert rows(database) == {}


# Faults, on real workers


def test_a_crash_is_found_among_its_neighbours(texts: Path, database: str) -> None:
    """An item that kills every worker ends as a failure of stage `crash`; all others are done."""
    (texts / "a" / "07.txt").write_text("crash")
    report = on_workers(texts, database).report
    assert (report.ok, report.failed, report.lost, report.exit_code) == (39, 1, 0, 3)
    row = failures(database)["a/07.txt"]
    assert (row["stage"], row["run"]) == ("crash", report.run)
    assert "SIGSEGV" in row["message"]


def test_a_crash_that_passes_is_forgotten(texts: Path, database: str, tmp_path: Path) -> None:
    """A worker that dies once costs a second try and nothing else."""
    (texts / "a" / "07.txt").write_text(f"crash-once {tmp_path}/marker")
    report = on_workers(texts, database).report
    assert (report.ok, report.failed, report.lost) == (40, 0, 0)


def test_a_task_that_raises_is_lost_until_the_next_run(texts: Path, database: str) -> None:
    """A job's own error is an outcome: it is tried three times, counted as lost, and fixed by a rerun."""
    changed(texts / "a" / "07.txt", "raise")
    run = prepared(texts, database, task_size=20)
    failed = [outcome for outcome in run if outcome.status == "failed"]
    report = run.report
    assert [(outcome.attempt, outcome.error) for outcome in failed] == [(3, "RuntimeError: told to raise")]
    assert report.lost == failed[0].items > 0
    assert (report.ok + report.lost, report.exit_code) == (40, 1)
    changed(texts / "a" / "07.txt", "mended")
    report = embed(texts, database)
    assert (report.unchanged + report.ok, report.lost, report.exit_code) == (40, 0, 0)
    assert len(rows(database)) == 40


def test_answers_that_are_missing_are_failures(texts: Path, database: str) -> None:
    """An item that the job forgets has failed, with a reason."""
    (texts / "a" / "07.txt").write_text("forget")
    assert embed(texts, database).failed == 1
    assert failures(database)["a/07.txt"]["error"] == "Unanswered"


class Meddling(Here):
    """Do something after everything is listed and before the first task."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self.meddle = meddle

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        first = next(tasks)
        self.meddle()
        yield from super().map(run, chain([first], tasks), progress)


def test_files_that_change_under_way_are_done_next_time(texts: Path, database: str) -> None:
    """Files that grow, shrink or vanish between listing and reading fail; the next run takes them as they are then."""

    def meddle() -> None:
        changed(texts / "a" / "07.txt", "grown since it was listed")
        changed(texts / "b" / "27.txt", "x")
        (texts / "b" / "28.txt").unlink()

    run = fanfold.run(Scripted(), source=str(texts), database=database, executor=Meddling(meddle))
    assert [outcome.status for outcome in run] == ["done"] * len(list(Path(run.directory.address, "tasks").iterdir()))
    assert (run.report.ok, run.report.failed) == (37, 3)
    assert {key: row["error"] for key, row in failures(database).items()} == {
        "a/07.txt": "Changed",
        "b/27.txt": "Changed",
        "b/28.txt": "FileNotFoundError",
    }
    report = embed(texts, database)
    assert (report.ok, report.unchanged) == (2, 37)
    assert texts_of(database)["a/07.txt"] == "grown since it was listed"
    assert texts_of(database)["b/27.txt"] == "x"


def test_a_reader_never_misses_an_item_while_it_is_replaced(texts: Path, database: str) -> None:
    """During an update, every version of the table holds every key once."""
    embed(texts, database)
    for number, file in enumerate(sorted(texts.rglob("*.txt"))):
        if number % 2:
            changed(file, f"changed {number}")

    def look() -> tuple[str, ...]:
        table = fanfold.open_table(database, "scripted").to_table(columns=["key"])
        return tuple(sorted(table["key"].to_pylist()))

    keys, first = look(), fanfold.open_table(database, "scripted").version
    with watching(look) as seen:
        report = on_workers(texts, database, task_size=3).report
    assert (report.ok, report.unchanged, len(keys)) == (20, 20, 40)
    last = fanfold.open_table(database, "scripted").version
    assert last > first
    for version in range(first, last + 1):  # include versions that no look caught
        table = lance.dataset(f"{database}/scripted.lance", version=version).to_table(columns=["key"])
        seen.append(tuple(sorted(table["key"].to_pylist())))
    assert set(seen) == {keys}


# Stopping


def test_a_run_that_is_not_iterated_does_nothing(texts: Path, database: str) -> None:
    """A run starts only when it is iterated over."""
    run = prepared(texts, database)
    assert (run.report.ok, rows(database)) == (0, {})


@pytest.mark.parametrize("after", [1, 2, 3])
def test_stopping_early_keeps_what_is_done(after: int, texts: Path, database: str) -> None:
    """Outcomes that were yielded are in the table, the report counts each item once, and the next run does the rest."""
    run = prepared(texts, database, task_size=8)
    outcomes = iter(run)
    done = sum(next(outcomes).ok for _ in range(after))
    outcomes.close()
    assert done <= len(rows(database)) == run.report.ok <= 40
    report = embed(texts, database)
    assert (report.unchanged + report.ok, report.lost) == (40, 0)
    assert report.unchanged == run.report.ok


@pytest.mark.parametrize("how", ["closed", "an error of the caller"])
def test_a_run_that_was_stopped_is_not_under_way(how: str, texts: Path, database: str) -> None:
    """A run that is stopped in a process that lives on, like a notebook, is interrupted and does not block sweeping."""
    outcomes = iter(run := prepared(texts, database, task_size=8))
    next(outcomes)
    assert is_under_way(run.directory)
    with suppress(KeyboardInterrupt):
        outcomes.close() if how == "closed" else outcomes.throw(KeyboardInterrupt)
    assert not is_under_way(run.directory)
    assert account(run.directory)[1] == "interrupted"
    embed(texts, database)
    ended = run.directory.get("report.json")
    assert ended
    assert ended["ended"] == "interrupted"


def test_an_outcome_is_committed_when_it_is_yielded(texts: Path, database: str) -> None:
    """When an outcome is yielded, its rows are in the table."""
    seen = 0
    for outcome in prepared(texts, database, task_size=5):
        seen += outcome.ok
        assert len(rows(database)) >= seen
    assert seen == 40


def test_an_error_of_the_caller_keeps_what_is_done(texts: Path, database: str) -> None:
    """A loop that raises ends the run and leaves no worker behind."""
    run = fanfold.run(Scripted(), source=str(texts), database=database, workers=2, task_size=8)
    with pytest.raises(KeyError):  # noqa: PT012 - the loop is what is tested
        for _ in run:
            raise KeyError("mine")
    assert not workers_of(run.id)
    assert embed(texts, database).lost == 0
    assert len(rows(database)) == 40


def test_a_source_that_fails_while_listed_ends_the_run(bucket: str, database: str) -> None:
    """If listing fails, the run raises, and its report does not claim that everything was listed."""
    open_store(bucket).put("x.txt", b"x")
    run = prepared(f"{bucket}/nothing here", database)
    with pytest.raises(StorageError, match="nothing"):
        list(run)
    assert not run.report.complete
    assert run.report.exit_code == 1
    assert run.directory.get("report.json") is None


def test_workers_that_cannot_start_end_the_run(texts: Path, database: str) -> None:
    """If the job can never be opened, the run raises the job's message."""
    run = fanfold.run(Scripted(open_error="no model"), source=str(texts), database=database, workers=2)
    with pytest.raises(FanfoldError, match="no model"):
        list(run)
    assert embed(texts, database).ok == 40


# What is asked


@pytest.mark.parametrize("name", ["a/b", "..", "-x", "failures", "a b", "x\n"])
def test_names_that_are_no_tables(name: str, texts: Path, database: str) -> None:
    """A table's name is one plain word, and not that of the failures; nothing is created."""
    with pytest.raises(UsageError, match=r"is not a valid table name|is reserved"):
        prepared(texts, database, table=name)
    assert not Path(database).exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task_size": 0}, "at least one item"),
        ({"task_size": -5}, "at least one item"),
        ({"ids": "name"}, "not name"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str, texts: Path, database: str) -> None:
    """Invalid options are refused before anything is created."""
    with pytest.raises(UsageError, match=says):
        prepared(texts, database, **options)
    assert not Path(database).exists()


def test_an_unknown_option_is_a_type_error(texts: Path, database: str) -> None:
    """An unknown option is a TypeError, as for any function."""
    with pytest.raises(TypeError, match="colour"):
        prepared(texts, database, colour="blue")


@pytest.mark.parametrize("mark", ["%", "#", "?"])
def test_database_urls_that_lance_reads_otherwise(mark: str, texts: Path) -> None:
    """A URL that Lance would read as another place is refused before anything is written there."""
    with pytest.raises(UsageError, match="database"):
        prepared(texts, f"s3://tests/a{mark}41")


def test_a_source_that_is_not_there_makes_no_database(database: str, tmp_path: Path) -> None:
    """A wrong source leaves nothing behind."""
    with pytest.raises(UsageError, match="no file or folder"):
        prepared(tmp_path / "absent", database)
    assert not Path(database).exists()


MAIN_JOB = """
import dataclasses, sys
import fanfold
from jobs import Scripted

@dataclasses.dataclass(frozen=True)
class Mine(Scripted):
    pass

try:
    fanfold.run(Mine(), source={source!r}, database={database!r})
except fanfold.UsageError as error:
    print(error)
"""


def test_a_job_of_the_script_itself_is_refused(texts: Path, database: str) -> None:
    """Workers cannot import a class from the running script, and the message says what to do."""
    program = MAIN_JOB.format(source=str(texts), database=database)
    tests = str(Path(__file__).parents[1])
    done = nursery.run([sys.executable, "-c", program], cwd=tests)
    assert "Move the job's class to a module" in done.stdout
    assert not Path(database).exists()


def test_jobs_are_loaded_as_they_were() -> None:
    """A job's spec loads as an equal job."""
    job = Scripted(recipe_name="x", pause=0.5)
    told = json.loads(json.dumps(spec(job)))
    assert load(told["name"], told["options"]) == job
    assert isinstance(job, Job)


@dataclass(frozen=True)
class Placed(Scripted):
    """A job with an option that may be anything."""

    place: Any = None


@pytest.mark.parametrize("place", [Path("x"), (1, 2), {1: "one"}, float("nan"), b"x"], ids=repr)
def test_an_option_that_would_not_reach_workers_is_refused(place: Any, texts: Path, database: str) -> None:
    """Options travel as JSON: one that would arrive as something else is refused before anything is made."""
    with pytest.raises(UsageError, match="The option 'place' of the job 'scripted' is"):
        fanfold.run(Placed(place=place), source=str(texts), database=database)
    assert not Path(database).exists()


@dataclass(frozen=True)
class Nameless(Scripted):
    """A job whose schema is not one of a table of items."""

    columns: tuple[str, ...] = ()

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.columns])


@pytest.mark.parametrize("columns", [[], ["key"], ["version", "text"]], ids=str)
def test_a_schema_without_key_or_version_is_refused(columns: list[str], texts: Path, database: str) -> None:
    """A job whose rows do not say which item they are of is refused before anything is made."""
    with pytest.raises(UsageError, match="needs two string columns"):
        fanfold.run(Nameless(columns=columns), source=str(texts), database=database)  # type: ignore[arg-type]
    assert not Path(database, "scripted.lance").exists()


def test_jobs_that_are_not_there() -> None:
    """An unknown job or option is refused, with a list of the jobs."""
    with pytest.raises(UsageError, match=r"no job 'nothing'.*images"):
        load("nothing", {})
    with pytest.raises(UsageError, match="no option colour"):
        load("jobs:Scripted", {"colour": "blue"})


def test_runs_are_found_by_id_or_the_newest(texts: Path, database: str) -> None:
    """Runs are listed oldest first; the error about an unknown run names the newest."""
    ids = [embed(texts, database).run for _ in range(2)]
    assert list_runs(database) == sorted(ids)
    assert find_run(database, None).id == sorted(ids)[-1]
    assert find_run(database, ids[0]).id == ids[0]
    with pytest.raises(UsageError, match=r"no run nothing.*newest run is"):
        find_run(database, "nothing")
    with pytest.raises(UsageError, match="No database at"):
        find_run(f"{database}2", None)


# Preview


def test_a_preview_counts_and_writes_nothing(texts: Path, database: str) -> None:
    """Before the first run everything is new, and a preview creates no database."""
    (texts / "empty.txt").touch()
    told = fanfold.preview(Scripted(), source=str(texts), database=database, workers=2)
    assert (told.new, told.changed, told.unchanged, told.failed_before) == (40, 0, 0, 0)
    assert (told.left_out, told.workers) == ({"empty": 1}, 2)
    assert told.bytes == sum(file.stat().st_size for file in texts.rglob("*.txt"))
    assert told.seconds is not None
    assert told.seconds > 0
    assert not Path(database).exists()


def test_a_preview_says_what_the_run_then_does(texts: Path, database: str) -> None:
    """A preview counts new, changed, unchanged and failed items as the next run finds them."""
    (texts / "a" / "00.txt").write_text("fail")
    embed(texts, database)
    changed(texts / "a" / "01.txt", "changed")
    (texts / "a" / "new.txt").write_text("new")
    told = fanfold.preview(Scripted(), source=str(texts), database=database)
    assert (told.new, told.changed, told.unchanged, told.failed_before) == (1, 1, 38, 1)
    assert told.bytes == len("changed") + len("new")
    again = fanfold.preview(Scripted(), source=str(texts), database=database, retry_failed=True)
    assert again.bytes == told.bytes + len("fail")
    report = embed(texts, database)
    assert (report.ok, report.unchanged, report.failed) == (2, 38, 1)


def test_a_preview_of_nothing_takes_no_time(texts: Path, database: str) -> None:
    """With nothing to do there is no estimate, and no job is opened."""
    embed(texts, database)
    told = fanfold.preview(Scripted(open_error="never opened"), source=str(texts), database=database)
    assert (told.unchanged, told.bytes, told.seconds) == (40, 0, None)


def test_a_preview_refuses_what_a_run_refuses(texts: Path, database: str) -> None:
    """A preview refuses another recipe and a reserved table name."""
    embed(texts, database)
    with pytest.raises(fanfold.RecipeMismatch):
        fanfold.preview(Scripted(recipe_name="other"), source=str(texts), database=database)
    with pytest.raises(UsageError, match="'failures' is reserved"):
        fanfold.preview(Scripted(), source=str(texts), database=database, table="failures")


# The parts


def test_a_queue_ends_when_all_is_concluded() -> None:
    """A task in progress keeps the queue open, since it may come back; once it is concluded, the queue ends."""
    queue = TaskQueue()
    queue.add(Task(0, 1))
    queue.end()
    assert next(queue) == Task(0, 1)
    got: list[Task] = []
    reader = threading.Thread(target=lambda: got.extend(queue))
    reader.start()
    queue.add(Task(0, 1, attempt=2))
    queue.task_done()
    queue.task_done()
    reader.join(30)
    assert not reader.is_alive()
    assert got == [Task(0, 1, attempt=2)]


def test_a_queue_that_is_stopped_hands_out_nothing() -> None:
    """Readers that wait for a task are released and get no task."""
    queue = TaskQueue()
    got: list[Task] = []
    readers = [threading.Thread(target=lambda: got.extend(queue)) for _ in range(3)]
    for reader in readers:
        reader.start()
    queue.stop()
    for reader in readers:
        reader.join(30)
    assert not any(reader.is_alive() for reader in readers)
    assert got == []


def test_the_tally_is_there_all_along(texts: Path, database: str) -> None:
    """The tally shows the progress during a run, and agrees with the report at the end."""
    run = prepared(texts, database, task_size=4)
    seen = [(run.tally.done, run.tally.unsuccessful) for _ in run]
    assert seen == sorted(seen)
    assert seen[-1] == (run.tally.ok, run.tally.failed) == (40, 0)
    assert (run.tally.listed, run.tally.planned, run.tally.listing, run.tally.under_way) == (40, 40, False, {})


def test_what_is_wanted() -> None:
    """Failed items are wanted only on request."""
    assert Options(retry_failed=True).wanted - Options().wanted == {Standing.FAILED}


def test_two_runs_at_once_leave_each_item_once(texts: Path, database: str) -> None:
    """Two drivers in one process over one source, interleaved, count and keep each item once."""
    one, other = prepared(texts, database, task_size=6), prepared(texts, database, task_size=9)
    pending = [iter(one), iter(other)]
    while pending:
        pending = [run for run in pending if next(run, None) is not None]
    assert len(rows(database)) == 40
    assert (one.report.lost, other.report.lost) == (0, 0)


def test_the_example_of_the_docs(texts: Path, database: str) -> None:
    """`examples/checksums.py`, run twice as a script, does the work once."""
    script = Path(__file__).parents[2] / "examples" / "checksums.py"
    said = [nursery.run([sys.executable, script, texts, database]).stdout for _ in range(2)]
    assert "'ok': 40" in said[0]
    assert "'unchanged': 40" in said[1]
    assert len(rows(database, "checksums")) == 40


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_the_more_fragments_the_rarer_the_commits(counts: list[int]) -> None:
    """Pauses between commits grow with the table, from a second to a minute."""
    pauses = [pause_before_commit(count) for count in sorted(counts)]
    assert pauses == sorted(pauses)
    assert all(COMMIT_EVERY <= pause <= COMMIT_AT_LEAST_EVERY for pause in pauses)
    assert (pause_before_commit(100), pause_before_commit(100_000)) == (COMMIT_EVERY, COMMIT_AT_LEAST_EVERY)


@pytest.mark.parametrize("where", ["core.view.View._enter", "core.index._merged"])
@pytest.mark.parametrize("job", [Scripted(), Detailed()], ids=["plain", "details"])
def test_ctrl_c_while_the_index_changes(
    where: str, job: Scripted, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is interrupted right after a commit, wherever it is, leaves each item once, and so does the next."""
    for number in range(60):
        file = tmp_path / "source" / f"{number:02}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"text of {number}")
    module, _, name = where.rpartition(".")
    place = pkgutil.resolve_name(f"fanfold.{module}")
    done, calls = getattr(place, name), 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return done(*arguments)

    monkeypatch.setattr(place, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "source", database, job, task_size=4)
    monkeypatch.undo()
    keys = fanfold.open_table(database, "scripted").to_table(["key"])["key"].to_pylist()
    assert len(keys) == len(set(keys))
    report = embed(tmp_path / "source", database, job)
    assert (report.unchanged + report.ok, report.lost) == (60, 0)
    assert sorted(fanfold.open_table(database, "scripted").to_table(["key"])["key"].to_pylist()) == [
        f"{number:02}.txt" for number in range(60)
    ]
