"""After an attempt, a task is done, retried, split or given up, and each item is counted once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold import Item, Outcome, StorageError
from fanfold.core.ledger import Ledger
from fanfold.core.runs import RunDirectory, Status, Task
from fanfold.core.tasks import TRIES, Retries, TaskQueue
from helpers import failures
from jobs import Scripted


class Desk:
    """Retries with a run, a queue, and a splitter that continues the numbers from 100."""

    def __init__(self, database: str, tasks: list[list[Item]]) -> None:
        ledger = Ledger.create(database, "scripted", Scripted(), "/source", "key")
        self.run = RunDirectory.create(database, table="scripted")
        self.queue = TaskQueue()
        self.splits = 0
        self.retries = Retries(self.run, self.queue, self._split, "scripted", ledger.failures)
        for number, items in enumerate(tasks):
            self.queue.add(self.run.write_manifest(number, items))
        self.queue.end()

    def _split(self, _task: int, parts: list[list[Item]]) -> list[Task]:
        self.splits += 1
        return [self.run.write_manifest(100 + 2 * self.splits + side, items) for side, items in enumerate(parts)]

    def conclude(self, task: Task, status: Status) -> Outcome | None:
        """Conclude an attempt at a task that ended with this status."""
        ok = task.items if status == "done" else 0
        error = "" if status == "done" else f"it {status}"
        return self.retries.conclude(Outcome(task.number, task.attempt, task.items, status, ok=ok, error=error))


def items(count: int, start: int = 0) -> list[Item]:
    """This many items."""
    return [Item(f"{number}.txt", 1, "1", f"{number}.txt") for number in range(start, start + count)]


def attempts(desk: Desk, status: Status) -> Iterator[tuple[int, int]]:
    """Task number and attempt of everything handed out, if every attempt ends with this status."""
    for task in desk.queue:
        yield task.number, task.attempt
        desk.conclude(task, status)


def test_what_is_done_is_final(database: str) -> None:
    """A task that is done has its final outcome, and the queue is empty."""
    desk = Desk(database, [items(3)])
    outcome = desk.conclude(next(desk.queue), "done")
    assert outcome
    assert (outcome.ok, outcome.status) == (3, "done")
    assert list(desk.queue) == []


def test_what_failed_is_tried_three_times(database: str) -> None:
    """A task that keeps failing is given up after its third try, with its last error."""
    desk = Desk(database, [items(3)])
    outcomes = [desk.conclude(task, "failed") for task in desk.queue]
    assert outcomes[:2] == [None, None]
    last = outcomes[2]
    assert last
    assert (last.attempt, last.status, last.error) == (3, "failed", "it failed")


def test_what_fails_only_once_is_done(database: str) -> None:
    """A second try that is done ends the task."""
    desk = Desk(database, [items(3)])
    assert desk.conclude(next(desk.queue), "failed") is None
    again = next(desk.queue)
    assert (again.number, again.attempt) == (0, 2)
    assert desk.conclude(again, "done")
    assert list(desk.queue) == []


def test_a_database_that_takes_nothing_ends_the_run(database: str) -> None:
    """A task that cannot be written three times ends the run, because nothing could be kept."""
    desk = Desk(database, [items(1), items(1, 1)])
    tasks = [next(desk.queue), next(desk.queue)]
    assert desk.conclude(tasks[0], "unusable") is None
    assert desk.conclude(next(desk.queue), "unusable") is None
    with pytest.raises(StorageError, match="it unusable"):
        desk.conclude(next(desk.queue), "unusable")


def test_a_crash_after_the_receipt_is_done(database: str) -> None:
    """A worker that dies after it wrote its receipt has done its task: the receipt counts."""
    desk = Desk(database, [items(3)])
    task = next(desk.queue)
    desk.run.write_receipt(Outcome(task.number, task.attempt, task.items, "done", ok=2, failed=1))
    assert desk.conclude(task, "crashed") == desk.run.receipt(task.number)
    assert list(desk.queue) == []


def test_what_crashes_twice_is_split(database: str) -> None:
    """A task that crashes is tried once more, and then becomes two tasks of half its items, in order."""
    desk = Desk(database, [items(5)])
    assert desk.conclude(next(desk.queue), "crashed") is None
    assert desk.conclude(next(desk.queue), "crashed") is None
    halves = [next(desk.queue), next(desk.queue)]
    assert [half.attempt for half in halves] == [1, 1]
    assert [desk.run.read_manifest(half.number) for half in halves] == [items(2), items(3, 2)]


def test_the_culprit_is_a_failure(database: str) -> None:
    """A task of one item that crashes every worker gets a receipt in which the item has failed with a crash."""
    desk = Desk(database, [items(1)])
    assert desk.conclude(next(desk.queue), "crashed") is None
    outcome = desk.conclude(next(desk.queue), "crashed")
    assert outcome
    assert (outcome.status, outcome.ok, outcome.failed, outcome.error) == ("done", 0, 1, "")
    assert desk.run.receipt(0) == replace(outcome, seconds={}, rows=[])
    ledger = Ledger.open(database, "scripted")
    assert ledger
    ledger.publish([outcome])
    assert [(row["key"], row["error"], row["message"]) for row in failures(database).values()] == [
        ("0.txt", "WorkerCrash", "it crashed")
    ]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    culprits=st.sets(st.integers(0, 26), max_size=5),
)
@settings(max_examples=15)
def test_all_but_the_culprits_are_done(
    sizes: list[int], culprits: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Items that crash workers fail alone, every other item is done, and the queue becomes empty."""
    tasks = [items(size, sum(sizes[:number])) for number, size in enumerate(sizes)]
    desk = Desk(str(tmp_path_factory.mktemp("conclude")), tasks)
    bad = {f"{number}.txt" for number in culprits if number < sum(sizes)}
    ok = failed = 0
    for task in desk.queue:
        keys = {item.key for item in desk.run.read_manifest(task.number)}
        if outcome := desk.conclude(task, "crashed" if keys & bad else "done"):
            ok, failed = ok + outcome.ok, failed + outcome.failed
    assert (ok, failed) == (sum(sizes) - len(bad), len(bad))


def test_tries_are_what_they_are_said_to_be(database: str) -> None:
    """The number of tries of a task depends on how its attempts end."""
    for number, status in enumerate(("failed", "crashed")):
        desk = Desk(f"{database}{number}", [items(1)])
        assert list(attempts(desk, status)) == [(0, attempt + 1) for attempt in range(TRIES[status])]
