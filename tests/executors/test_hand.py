"""A hand and its worker process: who is ended when, and what becomes of the task."""

import threading
from pathlib import Path

from fanfold.executors.hand import Hand
from helpers import begun, ignore, tasks_of
from jobs import Scripted


def test_a_worker_whose_task_failed_is_replaced(tmp_path: Path, database: str) -> None:
    """It may be the worker that is sick, a GPU's say: the next task, and the next try, have another one."""
    tasks = [["text"], ["raise"], ["text"], ["fail"], ["text"]]
    run = begun(tmp_path / "source", database, tasks)
    hand = Hand(run.database, run.id)
    outcomes = [hand.perform(task, ignore) for task in tasks_of(tasks)]
    hand.stop()
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done", "done", "done"]
    first, _, after, at_an_item, last = (outcome.worker for outcome in outcomes)
    assert first != after == at_an_item == last


def test_a_worker_that_is_ended_has_crashed(tmp_path: Path, database: str) -> None:
    """Its task has crashed for the reason given, and the next one is performed by another."""
    tasks = [["text", f"wait {tmp_path}/never"], ["text"]]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.3))
    hand = Hand(run.database, run.id)
    first, second = tasks_of(tasks)
    outcome = hand.perform(first, lambda *_: hand.abort("it was too large"))
    assert (outcome.status, outcome.error) == ("crashed", "it was too large")
    assert hand.perform(second, ignore).status == "done"
    hand.abort("it is at no task")
    assert hand.process
    assert hand.process.poll() is None
    hand.process.kill()
    assert hand.perform(first, lambda *_: hand.process and hand.process.kill()).error == "killed by SIGKILL"
    hand.stop()


def test_a_worker_that_starts_is_not_ended(tmp_path: Path, database: str) -> None:
    """Whoever has no task yet is not to blame, however often it is said."""
    run = begun(tmp_path / "source", database, [["text"]])
    hand, stopped = Hand(run.database, run.id), threading.Event()

    def blame() -> None:
        while not stopped.wait(0.01):
            if not hand.at_work:
                hand.abort("it is at no task")

    blaming = threading.Thread(target=blame)
    blaming.start()
    try:
        assert hand.perform(*tasks_of([["text"]]), ignore).status == "done"
    finally:
        stopped.set()
        blaming.join()
        hand.stop()
