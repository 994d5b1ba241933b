"""A worker process: when it is ended and replaced, and what happens to its task."""

import threading
from pathlib import Path

import pytest

from fanfold.core.runs import Task
from fanfold.executors import keeping
from fanfold.executors.local import Local
from fanfold.executors.process import WorkerProcess
from helpers import begun, ignore, tasks_of
from jobs import Scripted


def test_a_worker_whose_task_failed_is_replaced(tmp_path: Path, database: str) -> None:
    """A failed task's worker is replaced before the next attempt, since the fault may be its own, as with a bad GPU."""
    tasks = [["text"], ["raise"], ["text"], ["fail"], ["text"]]
    run = begun(tmp_path / "source", database, tasks)
    process = WorkerProcess(run.database, run.id)
    outcomes = [process.perform(task, ignore) for task in tasks_of(tasks)]
    process.stop()
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "done", "done"]
    first, _, after, at_an_item, last = (outcome.worker for outcome in outcomes)
    assert first != after == at_an_item == last


def test_a_worker_that_is_killed_has_crashed(tmp_path: Path, database: str) -> None:
    """The task of a worker that is killed has crashed, and another worker does the next one."""
    tasks = [["text", f"wait {tmp_path}/never"], ["text"]]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.3))
    process = WorkerProcess(run.database, run.id)
    first, second = tasks_of(tasks)
    outcome = process.perform(first, lambda *_: process.process and process.process.kill())
    assert (outcome.status, outcome.error) == ("crashed", "killed by SIGKILL")
    assert process.perform(second, ignore).status == "done"
    process.stop()


def test_a_worker_takes_no_module_from_the_working_directory(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file there that is called like a module of Python's own is not imported in its place."""
    (tmp_path / "queue.py").write_text("raise SystemExit('this is not the module queue')")
    run = begun(tmp_path / "source", database, [["text"]])
    monkeypatch.chdir(tmp_path)
    process = WorkerProcess(run.database, run.id)
    assert process.perform(*tasks_of([["text"]]), ignore).status == "done"
    process.stop()


def test_workers_that_are_kept_go_on_from_run_to_run(tmp_path: Path, database: str) -> None:
    """Runs of one database have the same worker process, which ends with the block; one that dies is replaced."""
    executor = Local(1)

    def performed(name: str, tasks: list[list[str]], where: str = database) -> list[tuple[str, str]]:
        run = begun(tmp_path / name, where, tasks)
        return [(outcome.status, outcome.worker) for outcome in executor.map(run, tasks_of(tasks), ignore)]

    with keeping(executor, database):
        ((_, first),) = performed("a", [["text"]])
        crashed, (done, second) = performed("b", [["kill"], ["text"]])
        ((_, third),) = performed("c", [["text"]])
        ((_, elsewhere),) = performed("d", [["text"]], f"{database}-other")
        (kept,) = executor._kept
    assert (crashed[0], done) == ("crashed", "done")
    assert first != second == third != elsewhere
    assert kept.process
    assert kept.process.poll() is not None


def test_a_run_that_is_stopped_leaves_no_kept_worker_at_work(tmp_path: Path, database: str) -> None:
    """A worker in the middle of a task ends with its run, though it is kept; the next run has another one."""
    executor, at_work = Local(1), threading.Event()
    stopped = begun(tmp_path / "a", database, [["text"], ["text"] * 200], Scripted(pause=0.05))
    after = begun(tmp_path / "b", database, [["text"]])
    with keeping(executor, database):
        outcomes = executor.map(stopped, iter([Task(0, 1), Task(1, 200)]), lambda task, *_: task and at_work.set())
        first = next(outcomes)
        (busy,) = executor._kept
        assert at_work.wait(60)
        outcomes.close()
        assert busy.process
        assert busy.process.poll() is not None
        assert stopped.receipt(1) is None
        (outcome,) = executor.map(after, tasks_of([["text"]]), ignore)
    assert outcome.status == "done"
    assert outcome.worker != first.worker
