"""A worker process: when it is ended and replaced, and what happens to its task."""

from pathlib import Path

import pytest

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
