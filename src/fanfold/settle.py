"""What follows from an attempt at a task: it is done, tried again, split, or given up.

done ───────────────▶ settled
failed, unusable ───▶ up to 3 tries, then given up (unusable: the run ends; see `Outcome.status`)
crashed ────────────▶ 2 tries, then halves, their halves ... until the culprit is alone: a failure like any other
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from fanfold.errors import Damaged, StorageError
from fanfold.feed import Feed
from fanfold.job import Failure, Item
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.table import Table
from fanfold.worker import write_failures

TRIES = {"failed": 3, "unusable": 3, "crashed": 2}
"""Tries of a task, by how it ends."""

Split = Callable[[int, list[list[Item]]], Sequence[Task]]
"""Makes new tasks of the parts of one, given its number."""


class Settler:
    """Settles the attempts at a run's tasks; those to be tried again go back into the feed."""

    def __init__(self, directory: RunDirectory, feed: Feed, split: Split, table: str, failures: Table) -> None:
        self.directory, self.feed, self.split = directory, feed, split
        self.table, self.failures = table, failures

    def settle(self, outcome: Outcome) -> Outcome | None:
        """The task's last outcome, or None if it goes on. Why a task is given up is kept in the run's directory.

        Raises StorageError when the database or the source cannot be used.
        """
        if outcome.status == "crashed":  # perhaps after it had left its receipt
            outcome = self.directory.receipt(outcome.task) or outcome
        if outcome.status == "unusable" and outcome.attempt >= TRIES["unusable"]:
            with suppress(StorageError):
                self.directory.give_up(outcome)
            raise StorageError(outcome.error)
        final: Outcome | None = outcome
        if outcome.status != "done" and outcome.attempt < TRIES[outcome.status]:
            self.feed.add(Task(outcome.task, outcome.items, outcome.attempt + 1))
            final = None
        elif outcome.status == "crashed":
            final = self._divide(outcome)
        if final and final.status == "failed":
            self.directory.give_up(final)
        self.feed.task_done()
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
            self.feed.add(half)
        return None

    def _culprit(self, item: Item, outcome: Outcome) -> Outcome:
        """The receipt of a task of one item that no worker survives."""
        failure = Failure(item.key, item.version, "crash", "WorkerCrash", outcome.error[:1000])
        fragments = write_failures(self.failures, self.table, self.directory.id, [failure])
        return self.directory.write_receipt(replace(outcome, status="done", failed=1, failures=fragments, error=""))
