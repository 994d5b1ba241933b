"""What follows from an attempt at a task: done, tried again, split, or given up, and each item counted once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold import Item, Outcome, StorageError
from fanfold.feed import Feed
from fanfold.ledger import Ledger
from fanfold.runs import RunDirectory, Status, Task
from fanfold.settle import TRIES, Settler
from helpers import failures
from jobs import Scripted


class Desk:
    """A settler with a run, a feed, and a splitter that numbers on from 100."""

    def __init__(self, database: str, tasks: list[list[Item]]) -> None:
        ledger = Ledger.create(database, "scripted", Scripted(), "/source", "key")
        self.run = RunDirectory.create(database, table="scripted")
        self.feed = Feed()
        self.splits = 0
        self.settler = Settler(self.run, self.feed, self._split, "scripted", ledger.failures)
        for number, items in enumerate(tasks):
            self.feed.add(self.run.write_manifest(number, items))
        self.feed.end()

    def _split(self, _task: int, parts: list[list[Item]]) -> list[Task]:
        self.splits += 1
        return [self.run.write_manifest(100 + 2 * self.splits + side, items) for side, items in enumerate(parts)]

    def settle(self, task: Task, status: Status) -> Outcome | None:
        """Settle an attempt at a task that ended like this."""
        ok = task.items if status == "done" else 0
        error = "" if status == "done" else f"it {status}"
        return self.settler.settle(Outcome(task.number, task.attempt, task.items, status, ok=ok, error=error))


def items(count: int, start: int = 0) -> list[Item]:
    """That many items."""
    return [Item(f"{number}.txt", 1, "1", f"{number}.txt") for number in range(start, start + count)]


def attempts(desk: Desk, status: Status) -> Iterator[tuple[int, int]]:
    """Task number and attempt of all that is handed out, if everything ends like this."""
    for task in desk.feed:
        yield task.number, task.attempt
        desk.settle(task, status)


def test_what_is_done_is_settled(database: str) -> None:
    """A task that is done is its own last outcome, and leaves the feed empty."""
    desk = Desk(database, [items(3)])
    outcome = desk.settle(next(desk.feed), "done")
    assert outcome
    assert (outcome.ok, outcome.status) == (3, "done")
    assert list(desk.feed) == []


def test_what_failed_is_tried_three_times(database: str) -> None:
    """A task that fails again and again is given up after its third try, with its last error."""
    desk = Desk(database, [items(3)])
    outcomes = [desk.settle(task, "failed") for task in desk.feed]
    assert outcomes[:2] == [None, None]
    last = outcomes[2]
    assert last
    assert (last.attempt, last.status, last.error) == (3, "failed", "it failed")


def test_what_fails_only_once_is_done(database: str) -> None:
    """A second try that is done settles the task."""
    desk = Desk(database, [items(3)])
    assert desk.settle(next(desk.feed), "failed") is None
    again = next(desk.feed)
    assert (again.number, again.attempt) == (0, 2)
    assert desk.settle(again, "done")
    assert list(desk.feed) == []


def test_a_database_that_takes_nothing_ends_the_run(database: str) -> None:
    """A task that cannot be written three times ends everything: nothing could be kept."""
    desk = Desk(database, [items(1), items(1, 1)])
    tasks = [next(desk.feed), next(desk.feed)]
    assert desk.settle(tasks[0], "unusable") is None
    assert desk.settle(next(desk.feed), "unusable") is None
    with pytest.raises(StorageError, match="it unusable"):
        desk.settle(next(desk.feed), "unusable")


def test_a_crash_after_the_receipt_is_done(database: str) -> None:
    """A worker that dies when it has left its receipt has done its task: the receipt counts."""
    desk = Desk(database, [items(3)])
    task = next(desk.feed)
    desk.run.write_receipt(Outcome(task.number, task.attempt, task.items, "done", ok=2, failed=1))
    assert desk.settle(task, "crashed") == desk.run.receipt(task.number)
    assert list(desk.feed) == []


def test_what_crashes_twice_is_split(database: str) -> None:
    """A task that crashes is tried once more, then becomes two of half its items, in order."""
    desk = Desk(database, [items(5)])
    assert desk.settle(next(desk.feed), "crashed") is None
    assert desk.settle(next(desk.feed), "crashed") is None
    halves = [next(desk.feed), next(desk.feed)]
    assert [half.attempt for half in halves] == [1, 1]
    assert [desk.run.read_manifest(half.number) for half in halves] == [items(2), items(3, 2)]


def test_the_culprit_is_a_failure(database: str) -> None:
    """A task of one item that no worker survives gets a receipt, in which the item failed by crashing."""
    desk = Desk(database, [items(1)])
    assert desk.settle(next(desk.feed), "crashed") is None
    outcome = desk.settle(next(desk.feed), "crashed")
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
    """Whichever items crash workers, they fail alone, every other one is done, and the feed runs dry."""
    tasks = [items(size, sum(sizes[:number])) for number, size in enumerate(sizes)]
    desk = Desk(str(tmp_path_factory.mktemp("settle")), tasks)
    bad = {f"{number}.txt" for number in culprits if number < sum(sizes)}
    ok = failed = 0
    for task in desk.feed:
        keys = {item.key for item in desk.run.read_manifest(task.number)}
        if outcome := desk.settle(task, "crashed" if keys & bad else "done"):
            ok, failed = ok + outcome.ok, failed + outcome.failed
    assert (ok, failed) == (sum(sizes) - len(bad), len(bad))


def test_tries_are_what_they_are_said_to_be(database: str) -> None:
    """The number of tries of a task is that of its kind of end."""
    for number, status in enumerate(("failed", "crashed")):
        desk = Desk(f"{database}{number}", [items(1)])
        assert list(attempts(desk, status)) == [(0, attempt + 1) for attempt in range(TRIES[status])]
