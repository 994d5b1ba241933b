"""Detached runs continue without the process that started them, and after any failure each item ends once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clusters
import fanfold
import nursery
from clusters import Subprocesses, cluster
from fanfold import StorageError, UsageError
from fanfold.core import detached, recovery
from fanfold.core.catalog import list_runs
from fanfold.core.driver import _began as process_began
from fanfold.core.driver import lives, this_process
from fanfold.core.executor import TaskProgress
from fanfold.core.ledger import Ledger
from fanfold.core.optimize import optimize
from fanfold.core.progress import Tally
from fanfold.core.recovery import commit_receipts, is_newest, recover
from fanfold.core.report import Report, account, is_under_way
from fanfold.core.run import Run
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.worker import Worker
from fanfold.executors import executor_of
from fanfold.executors.local import Local
from faults import data_files, fill, held, hold, listed_of, texts_of, wait_for, workers_of
from helpers import Here, changed, embed
from jobs import Scripted

NOBODY = 2**22 + 1  # above the largest process id of Linux


class Later:
    """A detached executor that only records its calls: the tests perform and commit tasks themselves."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def table(self, job: Any) -> str:
        return str(job.name)

    def mirror(self, _table: str) -> str:
        return ""

    def provide(self, mirror: str) -> None: ...

    def reach(self, _job: object, source: Any, _database: str) -> Any:
        return source

    def submit(self, run: RunDirectory, tasks: int) -> None:
        self._note(run, "submit", tasks)

    def plan_later(self, run: RunDirectory) -> None:
        self._note(run, "plan", 0)

    def state(self, _run: RunDirectory) -> str | None:
        return None

    def cancel(self, run: RunDirectory) -> None: ...

    def _note(self, run: RunDirectory, what: str, tasks: int) -> None:
        self.asked.append((what, tasks))
        run.put("jobs.json", {"executor": "later", "jobs": []})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of 24 files, three of which fail."""
    folder = tmp_path / "source"
    fill(folder, 24)
    return folder


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Subprocesses]:
    """A cluster with two shares."""
    with cluster(tmp_path / "log") as some:
        yield some


def launched(source: Path, database: str, task_size: int = 4, executor: Any = None, **script: Any) -> RunDirectory:
    """A run that is planned and submitted, by default to an executor that starts nothing."""
    run = fanfold.run(
        Scripted(**script), source=str(source), database=database, executor=executor or Later(), task_size=task_size
    )
    run.launch()
    return run.directory


def perform(run: RunDirectory, share: int = 0, of: int = 1, executor: Any = None) -> list[Outcome]:
    """Perform a share in this process and return its final outcomes."""
    return list(detached.work(run, share, of, executor or Here(), Tally()))


def assert_complete(source: Path, database: str, report: Report) -> None:
    """Every item is in exactly one table, once, and the counts of a first run match."""
    rows, failures = held(database, listed_of(source))
    assert (report.listed, report.ok, report.failed) == (len(rows) + len(failures), len(rows), len(failures))
    assert (report.lost, report.complete) == (0, True)


def receipts(run: RunDirectory) -> set[str]:
    """The names of a run's receipts."""
    return {path.name for path in Path(run.address, "receipts").glob("*.json")}


def work(run: RunDirectory, *options: object) -> "subprocess.Popen[str]":
    """Start `fanfold work`."""
    pipe = subprocess.PIPE
    return clusters.fanfold("work", run.database, run.id, *options, stdout=pipe, stderr=pipe)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a process and return its exit code, stdout and stderr; there must never be a traceback."""
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def command(*words: object) -> tuple[int, str, str]:
    """Run the command line with the cluster of processes among its executors."""
    line = [sys.executable, clusters.__file__, *map(str, words)]
    return ended(nursery.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))


# On a cluster


def test_a_submitted_run_ends_complete(source: Path, database: str, processes: Subprocesses) -> None:
    """Iterating over a run on a cluster yields every task's outcome; its report is the one that the cluster wrote."""
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=processes, task_size=4)
    outcomes = list(run)
    assert sorted(outcome.task for outcome in outcomes) == list(range(6))
    assert sum(outcome.ok for outcome in outcomes) == 21
    assert_complete(source, database, run.report)
    assert run.report == Report.from_json(run.directory.get("report.json"))
    wait_for(lambda: processes.state(run.directory) is None)


def test_a_run_goes_on_when_nobody_watches(
    source: Path, database: str, tmp_path: Path, processes: Subprocesses
) -> None:
    """A run on a cluster is performed and committed even if its caller stops after the first outcome."""
    hold(source, 23, until=tmp_path / "left")
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=processes, task_size=3)
    outcomes = iter(run)
    next(outcomes)
    outcomes.close()
    assert run.directory.get("report.json") is None
    (tmp_path / "left").touch()
    wait_for(lambda: run.directory.get("report.json"))
    assert_complete(source, database, run.report)


def test_a_killed_share_is_repeated(source: Path, database: str, tmp_path: Path, processes: Subprocesses) -> None:
    """The cluster retries a share that is killed in the middle of a task, and the run ends as usual."""
    keys = [*listed_of(source)]
    for key in (keys[8], keys[-1]):  # one of each share
        (source / key).write_text(f"wait {tmp_path}/killed")
    run = launched(source, database, 2, processes)
    wait_for(lambda: receipts(run))
    (victim,) = [process for process in clusters.members(run) if "--share 0" in " ".join(process.cmdline())]
    victim.kill()
    (tmp_path / "killed").touch()
    assert sum(outcome.items for outcome in detached.follow(run, processes, detached.planned(run))) == 24
    assert_complete(source, database, account(run)[0])


def test_whoever_follows_commits_what_nobody_committed(source: Path, database: str, tmp_path: Path) -> None:
    """If all jobs have ended and none has committed, `report --follow` commits."""
    with cluster(tmp_path / "log", ending="nothing") as processes:
        run = launched(source, database, executor=processes)
        code, out, err = command("report", database, "--follow", "--json")
        assert (code, json.loads(out)["ended"]) == (3, "complete"), err
    assert_complete(source, database, account(run)[0])


def test_tasks_that_fail_for_good_are_lost_until_the_next_run(source: Path, database: str, tmp_path: Path) -> None:
    """A share whose task always raises exits with 1 and is retried; the report then says what is lost."""
    (source / "a" / "000.txt").write_text("raise")
    with cluster(tmp_path / "log", shares=2) as processes:
        run = launched(source, database, 6, processes)
        outcomes = list(detached.follow(run, processes, detached.planned(run)))
        said = processes.log.read_text()
    report = account(run)[0]
    assert (sum(outcome.items for outcome in outcomes), report.lost, report.exit_code) == (18, 6, 1)
    assert said.count("failed after 3 tries: RuntimeError: told to raise") == 2
    (source / "a" / "000.txt").write_text("good at last")
    assert embed(source, database).ok == 6
    held(database, listed_of(source))


def test_cancelling_keeps_what_is_done(source: Path, database: str, tmp_path: Path) -> None:
    """`fanfold cancel` ends all processes, commits finished work and says so; the next run does the rest."""
    (source / "b" / "023.txt").write_text(f"wait {tmp_path / 'marker'}")  # so that it cannot end by itself
    with cluster(tmp_path / "log") as processes:
        run = launched(source, database, 1, processes)
        wait_for(lambda: len(receipts(run)) >= 2)
        code, out, _ = command("cancel", database, run.id)
        assert (code, "cancelled; finished work is kept" in out) == (0, True)
        assert processes.state(run) is None
    report, how = account(run)
    assert (how, report.listed, report.exit_code, is_under_way(run)) == ("cancelled", 24, 1, False)
    assert 2 <= report.ok + report.failed < 24
    assert len(texts_of(database)) == report.ok
    (tmp_path / "marker").touch()
    rest = embed(source, database)
    assert (rest.unchanged + rest.ok, rest.failed) == (21, 3)
    assert rest.unchanged == report.ok
    held(database, listed_of(source))


def test_what_has_ended_cannot_be_cancelled(source: Path, database: str) -> None:
    """Cancelling a run twice, or a run on the local machine, is an error with an explanation."""
    run = launched(source, database)
    detached.cancel(run, Later())
    with pytest.raises(UsageError, match="has ended already"):
        detached.cancel(run, Later())
    with pytest.raises(UsageError, match="has ended already"):
        executor_of(run)
    local = RunDirectory.create(database, table="scripted")
    with pytest.raises(UsageError, match="runs inside its own command"):
        executor_of(local)
    local.put("run.json", {**local.get("run.json"), "driver": {**this_process(), "began": "long ago"}})
    with pytest.raises(UsageError, match=r"was interrupted: its process is gone\. Repeat its command"):
        executor_of(RunDirectory(database, local.id))


def test_what_is_submitted_while_one_looks_is_waited_for(source: Path, database: str) -> None:
    """A job that submits another one as it ends is not the end of the run, whenever the state is read."""
    run = launched(source, database)

    class Between(Later):
        looks = 0

        def state(self, run: RunDirectory) -> str | None:
            self.looks += 1
            if self.looks == 1:  # the jobs that it looked at have ended, and the next one is submitted now
                run.put("jobs.json", {"executor": "later", "jobs": ["more"]})
            elif self.looks == 2:
                perform(run)
            return None

    assert sum(outcome.items for outcome in detached.follow(run, Between(), detached.planned(run))) == 24
    assert_complete(source, database, account(run)[0])


def test_following_shows_the_end_of_what_was_planned_elsewhere(source: Path, database: str, tmp_path: Path) -> None:
    """If planning takes too long, the cluster plans the run under the same id, and the total becomes known."""
    with cluster(tmp_path / "log") as processes:
        run = fanfold.run(Scripted(), source=str(source), database=database, executor=processes, task_size=4)
        (tmp_path / "hold").touch()
        run.launch(seconds=0)
        assert (run.directory.get("plan.json"), processes.state(run.directory) is None) == (None, False)
        tally = detached.planned(run.directory)
        assert (tally.listing, tally.planned) == (True, 0)
        (tmp_path / "hold").unlink()
        assert sum(outcome.items for outcome in detached.follow(run.directory, processes, tally)) == 24
        assert (tally.listing, tally.planned, tally.ok, tally.failed) == (False, 24, 21, 3)
    assert list_runs(database) == [run.id]
    assert_complete(source, database, run.report)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_to_follow_leaves_the_run_going(
    sign: signal.Signals, code: int, source: Path, database: str, tmp_path: Path
) -> None:
    """Ctrl-C while following a run ends only the command, which says how to follow or cancel the run."""
    hold(source, 23, until=tmp_path / "stopped")
    with cluster(tmp_path / "log") as processes:
        run = launched(source, database, 4, processes)
        line = [sys.executable, clusters.__file__, "report", database, "--follow"]
        follower = nursery.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert follower.stderr
        assert "done" in follower.stderr.readline()  # its progress, so it follows by now
        follower.send_signal(sign)
        exit_code, _, err = ended(follower)
        assert exit_code == code
        assert f"fanfold report {database} {run.id} --follow" in " ".join(err.split())
        assert f"fanfold cancel {database} {run.id}" in " ".join(err.split())
        assert processes.state(run)
        (tmp_path / "stopped").touch()


# Planning


def test_nothing_to_do_is_complete_at_once(source: Path, database: str) -> None:
    """A run with nothing to do submits nothing and has its report at once."""
    embed(source, database)
    executor = Later()
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=executor)
    assert list(run) == []
    assert executor.asked == []
    assert (run.report.unchanged, run.report.failed, run.report.lost, run.report.exit_code) == (21, 3, 0, 3)
    assert account(run.directory)[1] == "complete"


def test_manifests_are_written_anew_when_planning_begins_again(source: Path, database: str) -> None:
    """If planning is interrupted and the source shrinks, a second planning does not perform the old manifests."""
    executor = Later()
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=executor, task_size=2)
    for number, _ in enumerate(run._planner.tasks(workers=0)):
        if number == 9:
            break
    for number in range(6, 24):
        (source / "ab"[number % 2] / f"{number:03d}.txt").unlink()
    again = Run.resume(run.directory, executor)
    again.launch()
    assert (again.id, executor.asked) == (run.id, [("submit", 3)])
    assert {name for share in range(2) for name in _tasks(perform(again.directory, share, 2))} == {0, 1, 2}
    assert_complete(source, database, recovery.finish(again.directory))


def _tasks(outcomes: Sequence[Outcome]) -> list[int]:
    return sorted(outcome.task for outcome in outcomes)


def test_a_plan_that_is_complete_is_not_made_again(source: Path, database: str) -> None:
    """A repeated launch submits the same tasks, because workers may have done some of them already."""
    run, executor = launched(source, database, 4), Later()
    perform(run, 0, 2)
    for file in source.rglob("*.txt"):
        changed(file, "changed")
    (source / "0.txt").write_text("new")
    Run.resume(run, executor).launch()
    assert executor.asked == [("submit", 6)]
    perform(run, 0, 1)
    report = recovery.finish(run)
    assert (report.listed, report.ok + report.failed) == (24, 24)
    Run.resume(run, executor).launch()
    assert executor.asked == [("submit", 6)]
    assert embed(source, database).ok == 25
    held(database, listed_of(source))


def test_a_planner_that_dies_leaves_a_dead_run(source: Path, database: str) -> None:
    """Until anything is submitted, a detached run is dead once its driver is; the next run records its end."""
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later()).directory
    assert account(run)[1] == "running"
    asked = run.get("run.json")
    run.put("run.json", asked | {"driver": asked["driver"] | {"pid": NOBODY}})
    assert (account(run)[1], is_under_way(run)) == ("interrupted", False)
    embed(source, database)
    assert run.get("report.json")["ended"] == "interrupted"


def test_how_far_a_run_is(source: Path, database: str) -> None:
    """`report` of a run in progress shows the total and what is left once it is planned, and nothing before that."""
    unplanned = fanfold.run(Scripted(), source=str(source), database=database, executor=Later()).directory
    report, how = account(unplanned)
    assert (how, report.listed, report.complete) == ("running", 0, False)
    run = launched(source, database, 4)
    perform(run, 0, 3)
    report, how = account(run)
    assert (how, report.listed, report.ok + report.failed, report.lost, report.complete) == ("running", 24, 8, 16, True)
    code, out, _ = ended(clusters.fanfold("report", database, run.id, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert (code, "still running" in out, "16    to do" in out) == (0, True, True)


# Shares


@pytest.mark.parametrize("of", [1, 3, 12, 20])
def test_shares_are_strides(of: int, source: Path, database: str) -> None:
    """Share i of n has the tasks i, i + n, i + 2n, ...; all shares together have all tasks, each once."""
    run = launched(source, database, 2)
    shares = [_tasks(perform(run, share, of)) for share in range(of)]
    assert shares == [list(range(share, 12, of)) for share in range(of)]
    assert_complete(source, database, recovery.finish(run))


@pytest.mark.parametrize(("share", "of"), [(2, 2), (-1, 2), (0, 0)])
def test_a_share_there_is_not(share: int, of: int, source: Path, database: str) -> None:
    """A share outside the range is an error, not an empty share."""
    run = launched(source, database)
    with pytest.raises(UsageError, match=f"Share {share} of {of} does not exist"):
        perform(run, share, of)


def test_a_run_without_a_plan_cannot_be_performed(source: Path, database: str) -> None:
    """A share that starts before its run is planned says so with exit code 1, because a retry may succeed."""
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later()).directory
    with pytest.raises(StorageError, match="no plan yet"):
        perform(run)
    code, _, err = ended(work(run))
    assert (code, "no plan yet" in err) == (1, True), err


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)], ids=lambda value: str(value))
def test_a_repeated_share_does_only_the_rest(
    sign: signal.Signals, code: int, source: Path, database: str, tmp_path: Path
) -> None:
    """A share that is killed in the middle of a task ends at once, and its retry does the tasks without a receipt."""
    (source / [*listed_of(source)][19]).write_text(f"wait {tmp_path}/killed")  # in the share's last task
    run = launched(source, database, 3)
    share = work(run, "--share", "0", "--of", "2")
    wait_for(lambda: receipts(run))
    workers = [*workers_of(database)]
    share.send_signal(sign)
    assert ended(share)[0] == code
    (tmp_path / "killed").touch()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers
    assert not alive
    before = {name: (Path(run.address) / "receipts" / name).read_bytes() for name in receipts(run)}
    code, out, err = ended(work(run, "--share", "0", "--of", "2"))
    assert code == 0, err
    assert sum(_counts(out)) == 12 - 3 * len(before)
    assert all((Path(run.address) / "receipts" / name).read_bytes() == content for name, content in before.items())
    perform(run, 1, 2)
    assert_complete(source, database, recovery.finish(run))


def _counts(out: str) -> list[int]:
    """Items ok, failed and lost, from the last line of `fanfold work`."""
    return [int(part.split()[0]) for part in out.strip().split(": ")[-1].rstrip(".").split(", ")]


def test_the_same_share_twice_at_once(source: Path, database: str) -> None:
    """A share that was taken for dead and started again while it still runs counts each item once."""
    run = launched(source, database, 2)
    both = [work(run), work(run)]
    assert [ended(process)[0] for process in both] == [0, 0]
    assert_complete(source, database, recovery.finish(run))
    optimize(database, timedelta(0))
    assert len(data_files(database, "scripted")) == 1


def test_the_same_share_twice_one_after_the_other(source: Path, database: str) -> None:
    """A share with nothing left to do starts no worker and exits with 0."""
    run = launched(source, database)
    perform(run)
    before = data_files(database, "scripted")
    code, out, _ = ended(work(run))
    assert (code, _counts(out)) == (0, [0, 0, 0])
    assert data_files(database, "scripted") == before


def test_a_worker_of_another_recipe_is_refused(source: Path, database: str) -> None:
    """A container whose fanfold has another recipe for the job exits with 2, because a retry cannot help."""
    run = launched(source, database)
    run.put("run.json", run.get("run.json") | {"recipe": {"recipe": "another"}})
    code, _, err = ended(work(run))
    assert (code, "would give other results" in err) == (2, True)
    assert not receipts(run)


# Crashes


def test_a_crash_is_found_though_the_share_is_killed(tmp_path: Path, database: str) -> None:
    """Tasks that crash workers are split down to the culprit, across attempts; the counts are exact."""
    source = tmp_path / "source"
    fill(source, 8, failing=99)
    (source / "a" / "002.txt").write_text("crash")
    run = launched(source, database, 4)
    first = work(run)
    wait_for(lambda: Path(run.address, "splits").is_dir())
    first.kill()
    ended(first)
    assert account(run)[0].failed == 0
    perform(run, executor=Local(1))
    report = recovery.finish(run)
    assert (report.ok, report.failed, report.lost) == (7, 1, 0)
    assert_complete(source, database, report)
    (row,) = fanfold.open_table(database, "failures").to_table().to_pylist()
    assert (row["key"], row["stage"], row["error"]) == ("a/002.txt", "crash", "WorkerCrash")


class Fragile:
    """Performs tasks here; a task with a poisonous item crashes. Dies after `patience` outcomes."""

    workers = 1

    def __init__(self, poison: set[str], patience: int) -> None:
        self.poison, self.patience = poison, patience

    def map(self, run: RunDirectory, tasks: Iterator[Task], _progress: TaskProgress) -> Iterator[Outcome]:
        worker = Worker(run.database, run.id)
        for task in tasks:
            if self.patience == 0:
                raise Died
            self.patience -= 1
            if self.poison & {item.key for item in run.read_manifest(task.number)}:
                yield Outcome(task.number, task.attempt, task.items, "crashed", error="killed by SIGSEGV")
            else:
                yield worker.perform(task)


class Died(Exception):
    """The share was killed."""


@given(
    poison=st.sets(st.integers(0, 11), max_size=4),
    deaths=st.lists(st.integers(0, 12), max_size=3),
    task_size=st.integers(1, 12),
    of=st.integers(1, 3),
)
@settings(max_examples=12)
def test_splits_are_the_same_for_every_attempt(
    poison: set[int], deaths: list[int], task_size: int, of: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After any crashes, share deaths and restarts, no task is done twice and each item counts once."""
    tmp_path = tmp_path_factory.mktemp("splits")
    source, database = tmp_path / "source", str(tmp_path / "db")
    fill(source, 12, failing=99)
    poisoned = {f"{'ab'[number % 2]}/{number:03d}.txt" for number in poison}
    run = launched(source, database, task_size)
    performed: list[int] = []
    for patience in [*deaths, -1]:
        for share in range(of):
            with suppress(Died):
                for outcome in detached.work(run, share, of, Fragile(poisoned, patience), Tally()):
                    performed.append(outcome.task)
    assert len(performed) == len(set(performed))
    report = recovery.finish(run)
    assert (report.listed, report.ok, report.failed) == (12, 12 - len(poison), len(poison))
    assert held(database, listed_of(source))[1].keys() == poisoned


@pytest.mark.parametrize("poison", [{"a/000.txt"}, {"b/003.txt"}, {"a/000.txt", "b/003.txt"}, {"b/007.txt"}])
def test_a_task_done_as_a_whole_and_in_halves(poison: set[str], tmp_path: Path, database: str) -> None:
    """If a share that was taken for dead does a task that its retry has split by then, the items count once."""
    source = tmp_path / "source"
    fill(source, 12, failing=5)
    run = launched(source, database, 4)
    list(detached.work(run, 0, 1, Fragile(poison, -1), Tally()))
    assert len(receipts(run)) > 3
    worker = Worker(database, run.id)
    assert [worker.perform(Task(number, 4)).items for number in range(3)] == [4, 4, 4]
    assert_complete(source, database, recovery.finish(run))


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", bytes(9)])
def test_a_torn_split_is_made_again(torn: bytes, tmp_path: Path, database: str) -> None:
    """If a task's split cannot be read, the task is tried as a whole and split into the same parts."""
    source = tmp_path / "source"
    fill(source, 12, failing=99)
    run = launched(source, database, 4)
    list(detached.work(run, 0, 1, Fragile({"a/000.txt"}, -1), Tally()))
    splits = list(Path(run.address, "splits").iterdir())
    for file in splits:
        file.write_bytes(torn)
    Path(run.address, "receipts", max(receipts(run))).unlink()
    list(detached.work(run, 0, 1, Fragile({"a/000.txt"}, -1), Tally()))
    assert {json.loads(file.read_text()) == {} for file in splits} == {True}
    report = recovery.finish(run)
    assert (report.ok, report.failed, report.lost) == (11, 1, 0)
    assert_complete(source, database, report)


# Committing


def test_what_has_changed_is_replaced(source: Path, database: str) -> None:
    """The newest run's commit replaces the rows of changed items and removes the rows of items that fail now."""
    embed(source, database)
    changed(source / "a" / "000.txt", "another")
    changed(source / "a" / "002.txt", "fail")
    run = launched(source, database)
    perform(run)
    report = recovery.finish(run)
    assert (report.unchanged, report.ok, report.failed, report.lost) == (19, 1, 4, 0)
    assert texts_of(database)["a/000.txt"] == "another"
    held(database, listed_of(source))


def test_committing_again_changes_nothing(source: Path, database: str) -> None:
    """A second commit finds everything in the tables, makes no new version of them, and keeps the report."""
    run = launched(source, database)
    perform(run)
    first = recovery.finish(run)
    versions = _versions(database)
    assert recovery.finish(run) == first
    assert _versions(database) == versions
    assert_complete(source, database, first)


def _versions(database: str) -> list[int]:
    return [fanfold.open_table(database, table).version for table in ("scripted", "failures")]


def test_a_commit_killed_before_its_report_is_repeated(source: Path, database: str) -> None:
    """A commit does not publish again what was published without a report, and then writes the report."""
    run = launched(source, database)
    perform(run)
    ledger = Ledger.open(database, "scripted")
    assert ledger
    commit_receipts(ledger, run, fill=False)
    versions = _versions(database)
    code, out, err = ended(clusters.fanfold("commit", database, run.id, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert (code, "finished with failed items" in out) == (0, True), err
    assert _versions(database) == versions
    assert_complete(source, database, account(run)[0])


def test_a_commit_killed_at_any_moment(source: Path, database: str) -> None:
    """Commit processes that are killed leave nothing that the next one does not repair."""
    run = launched(source, database, 1)
    perform(run)
    for pause in (0.6, 0.75, 0.9):
        process = clusters.fanfold("commit", database, run.id, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(pause)
        process.kill()
        ended(process)
    assert_complete(source, database, recovery.finish(run))


def test_a_report_survives_a_cleaning(source: Path, database: str) -> None:
    """A commit after the receipts were pruned keeps the report that counts them."""
    run = launched(source, database)
    perform(run)
    first = recovery.finish(run)
    optimize(database, timedelta(0))
    assert not receipts(run)
    assert recovery.finish(run) == first
    assert account(run) == (first, "complete")


def test_a_cancelled_run_stays_cancelled(source: Path, database: str) -> None:
    """A commit that was in progress when its run was cancelled does not report the run as complete."""
    run = launched(source, database)
    perform(run, 0, 2)
    detached.cancel(run, Later())
    recovery.finish(run)
    assert account(run)[1] == "cancelled"


def test_a_run_that_nobody_planned_is_not_complete(source: Path, database: str) -> None:
    """If the planning job has failed, following the run reports it as interrupted."""
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=Later())
    run.launch(seconds=0)
    assert list(detached.follow(run.directory, Later(), run.tally)) == []
    report, how = account(run.directory)
    assert (how, report.complete, report.exit_code) == ("interrupted", False, 1)
    assert embed(source, database).ok == 21


def test_a_run_taken_for_dead_may_still_end(source: Path, database: str) -> None:
    """If another run has marked a run as interrupted, a later commit counts its items again."""
    run = launched(source, database)
    perform(run, 0, 2)
    _age(run, days=8)
    embed(source, database)
    assert account(run)[1] == "interrupted"
    perform(run, 1, 2)
    report = recovery.finish(run)
    assert (account(run)[1], report.ok + report.failed) == ("complete", 24)
    held(database, listed_of(source))


def _age(run: RunDirectory, days: float) -> None:
    """Move a run's last sign of life this many days back."""
    alive = Path(run.address, "alive")
    os.utime(alive, (alive.stat().st_mtime - days * 86400,) * 2)


def test_a_run_whose_table_is_gone(source: Path, database: str) -> None:
    """A commit into a table that was deleted is an error that says so."""
    run = launched(source, database)
    Path(database, "scripted.lance").rename(Path(database, "elsewhere"))
    with pytest.raises(UsageError, match=f"table of run {run.id} is no longer in"):
        recovery.finish(run)


# With later runs


def test_a_later_run_with_nothing_to_do_is_not_in_the_way(source: Path, database: str) -> None:
    """An older run's commit keeps newer rows; a later run that had nothing to do has no rows to keep."""
    embed(source, database)
    changed(source / "a" / "000.txt", "another")
    run = launched(source, database)
    perform(run)
    hidden = Path(run.address, "receipts").rename(source.parent / "hidden")
    assert embed(source / "b", database).ok == 0
    hidden.rename(Path(run.address, "receipts"))
    recovery.finish(run)
    assert texts_of(database)["a/000.txt"] == "another"
    held(database, listed_of(source))


BECOMES = [(old, new) for old in ("good", "fail", "") for new in ("good", "fail", "") if old or new]


def write(source: Path, name: str, kind: str, when: str) -> None:
    """Make a file good, bad or absent."""
    file = source / f"{name}.txt"
    if not kind:
        file.unlink(missing_ok=True)
    elif kind and not file.exists():
        file.write_text(f"{kind} {when}")
    else:
        changed(file, f"{kind} {when}")


def entries(database: str) -> list[tuple[str, str]]:
    """Key and version of everything in the two tables; failures are marked."""
    rows = fanfold.open_table(database, "scripted").to_table(["key", "version"]).to_pylist()
    failed = fanfold.open_table(database, "failures").to_table(["key", "version"]).to_pylist()
    return sorted(
        [(row["key"], row["version"]) for row in rows] + [(f"! {row['key']}", row["version"]) for row in failed]
    )


@pytest.mark.parametrize("before", ["", "good", "fail"])
@pytest.mark.parametrize("way", ["commit", "recover"])
def test_an_older_run_never_undoes_a_later_one(before: str, way: str, tmp_path: Path, database: str) -> None:
    """A run committed after a later run only fills gaps: it replaces no newer row and forgets no newer failure."""
    source = tmp_path / "source"
    source.mkdir()
    names = {f"{old or 'gone'}-{new or 'gone'}": (old, new) for old, new in BECOMES}
    if before:
        for name in names:
            write(source, name, before, "first")
        embed(source, database)
    for name, (old, _) in names.items():
        write(source, name, old, "old")
    older = launched(source, database, 2)
    perform(older)
    hidden = Path(older.address, "receipts").rename(tmp_path / "hidden")  # the later run begins before they arrive
    for name, (_, new) in names.items():
        write(source, name, new, "newer")
    embed(source, database)
    seen = set(entries(database))
    hidden.rename(Path(older.address, "receipts"))
    if way == "commit":
        report = recovery.finish(older)
        assert sum(report.reasons.values()) == report.lost
        assert set(report.reasons) <= {"a later run was at work on this table; run again"}
    else:
        opened = Ledger.open(database, "scripted")
        assert opened
        recover(opened)
    now = listed_of(source)
    assert {entry for entry in seen if entry[0].removeprefix("! ") in now} <= set(entries(database))
    report = embed(source, database)
    assert (report.ok, report.unchanged + report.failed) == (0, len(now))
    held(database, now)


def test_the_later_of_two_runs_of_one_second_is_known(source: Path, database: str) -> None:
    """Start times decide which run is later, even if the run names sort otherwise."""
    runs = [launched(source, database) for _ in range(4)]
    ledger = Ledger.open(database, "scripted")
    assert ledger
    assert [is_newest(ledger, run) for run in runs] == [False, False, False, True]


# Upkeep


def test_cleaning_leaves_a_run_under_way_alone(source: Path, database: str) -> None:
    """Cleaning keeps a detached run's uncommitted files for days after its last sign of life, but not for a week."""
    run = launched(source, database)
    perform(run, 0, 2)
    begun = next(detached.work(run, 1, 2, Here(), Tally()))
    Path(run.address, "receipts", f"{begun.task:06d}.json").unlink()  # as if it were still being written
    file = begun.rows[0]["files"][0]["path"]
    _age(run, days=6)
    optimize(database, timedelta(0))
    assert file in data_files(database, "scripted")
    assert (len(receipts(run)), account(run)[1]) == (3, "running")
    assert Path(run.address, "tasks", "000005.parquet").exists()
    _age(run, days=2)
    optimize(database, timedelta(0))
    assert account(run)[1] == "interrupted"
    assert file not in data_files(database, "scripted")
    embed(source, database)
    held(database, listed_of(source))


def test_a_driver_that_nobody_waited_for_is_dead() -> None:
    """A process that has ended counts as dead, even while its parent has not collected it."""
    child = subprocess.Popen(["sleep", "60"])
    driver = {**this_process(), "pid": child.pid, "began": process_began(child.pid)}
    assert lives(driver)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # until it is a zombie
    assert not lives(driver)
    child.wait()
