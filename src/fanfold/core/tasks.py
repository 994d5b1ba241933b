"""Tasks under way: the queue that executors take them from, and what follows from each attempt.

    planner ──add──▶ TaskQueue ──next──▶ executor ──▶ outcome ──conclude──▶ final: to be committed, or given up
                         ▲                                         │
                         └──────────── retries, halves ────────────┘

done ───────────────▶ final
failed, unusable ───▶ up to 3 tries, then given up (unusable: the run ends; see `Outcome.status`)
crashed, lost ──────▶ 2 or 4 tries, then halves, their halves ... until the culprit is alone: a failure like any other
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import replace

from fanfold.core.executor import Executor
from fanfold.core.progress import Tally
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.table import Table
from fanfold.core.worker import write_failures
from fanfold.errors import Damaged, StorageError
from fanfold.job import Failure, Item

TRIES = {"failed": 3, "unusable": 3, "crashed": 2, "lost": 4}
"""Tries of a task, by how it ends."""

Split = Callable[[int, list[list[Item]]], Sequence[Task]]
"""Makes new tasks of the parts of one, given its number."""


class TaskQueue:
    """The tasks still to be handed out: the planner adds, executors take, retries come back."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._open = 0  # tasks added that may still come back
        self._more = True  # whether the planner may add
        self._changed = threading.Condition()

    def add(self, task: Task) -> None:
        """Add a task to do."""
        with self._changed:
            self._tasks.append(task)
            self._open += 1
            self._changed.notify_all()

    def task_done(self) -> None:
        """Count a task that was handed out as concluded: it will not come back."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Expect no more tasks from the planner."""
        with self._changed:
            self._more = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._tasks.clear()
            self._open, self._more = 0, False
            self._changed.notify_all()

    def __iter__(self) -> "TaskQueue":
        return self

    def __next__(self) -> Task:
        """Wait for a task; there are none left when all are concluded and the planner has ended."""
        with self._changed:
            while not self._tasks:
                if not self._more and self._open <= 0:
                    raise StopIteration
                self._changed.wait()
            return self._tasks.popleft()


class Retries:
    """Decides what follows from each attempt at a run's tasks; those to be tried again go back into the queue."""

    def __init__(self, directory: RunDirectory, queue: TaskQueue, split: Split, table: str, failures: Table) -> None:
        self.directory, self.queue, self.split = directory, queue, split
        self.table, self.failures = table, failures

    def conclude(self, outcome: Outcome) -> Outcome | None:
        """The task's last outcome, or None if it goes on. Why a task is given up is kept in the run's directory.

        Raises StorageError when the database or the source cannot be used.
        """
        if outcome.status in ("crashed", "lost"):  # perhaps after it had left its receipt
            outcome = self.directory.receipt(outcome.task) or outcome
        if outcome.status == "unusable" and outcome.attempt >= TRIES["unusable"]:
            with suppress(StorageError):
                self.directory.give_up(outcome)
            raise StorageError(outcome.error)
        final: Outcome | None = outcome
        if outcome.status != "done" and outcome.attempt < TRIES[outcome.status]:
            self.queue.add(Task(outcome.task, outcome.items, outcome.attempt + 1))
            final = None
        elif outcome.status in ("crashed", "lost"):
            final = self._divide(outcome)
        if final and final.status == "failed":
            self.directory.give_up(final)
        self.queue.task_done()
        return final

    def _divide(self, outcome: Outcome) -> Outcome | None:
        """Two tasks of half the items, to find the one that crashes workers; of a single item, its receipt."""
        try:
            items = self.directory.read_manifest(outcome.task)
        except Damaged as error:
            return replace(outcome, status="failed", error=str(error))
        if len(items) == 1:
            return self._culprit(items[0], outcome)
        middle = len(items) // 2
        for half in self.split(outcome.task, [items[:middle], items[middle:]]):
            self.queue.add(half)
        return None

    def _culprit(self, item: Item, outcome: Outcome) -> Outcome:
        """The receipt of a task of one item that no worker survives."""
        failure = Failure(item.key, item.version, "crash", "WorkerCrash", outcome.error[:1000])
        fragments = write_failures(self.failures, self.table, self.directory.id, [failure])
        return self.directory.write_receipt(replace(outcome, status="done", failed=1, failures=fragments, error=""))


def drive(executor: Executor, retries: Retries, tally: Tally) -> Generator[Outcome, None, None]:
    """Have an executor do the tasks of a queue; yield the last outcome of each. All have receipts, save those given up.

    Closing it stops all work at once. What becomes of an outcome is the caller's business: the driver of a run
    commits it, a container of a cluster leaves it at the receipt.
    """
    outcomes = executor.map(retries.directory, retries.queue, tally.watch)
    try:
        for outcome in outcomes:
            if final := retries.conclude(outcome):
                yield final
            else:
                tally.under_way.pop(outcome.task, None)
    finally:
        retries.queue.stop()
        outcomes.close()
