"""Runs that go on without their driver: planned here, done and committed on a cluster.

    driver, anywhere          a container each                   one container, after all of them
    plan ── submit ─────────▶ work: a share of the tasks ──────▶ commit: publish the receipts, write the report
      └─ follow: reads receipts until there is a report

The process that plans may end a second later (a laptop, a Lambda). A container does its share as a laptop would, on
worker processes of its own, so a picture that crashes its decoder costs itself only.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing

from fanfold.core.executor import Detached, Executor
from fanfold.core.progress import Tally
from fanfold.core.recovery import finish
from fanfold.core.report import Report
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.table import FAILURES, Table
from fanfold.core.tasks import Retries, TaskQueue, drive
from fanfold.errors import Damaged, StorageError, UsageError
from fanfold.job import Item
from fanfold.storage import looking_ahead

_READS = 16  # at a time
POLL = 2.0
"""Seconds between two looks at a run that is followed."""


def follow(run: RunDirectory, executor: Detached, tally: Tally) -> Generator[Outcome, None, None]:
    """Yield the outcomes of a run as their receipts appear, until it has ended.

    If everything submitted has ended without a report, commits here. Raises StorageError.
    """
    seen: set[str] = set()
    while True:
        ended = run.get("report.json") is not None
        if tally.listing:
            _heed(run, tally)
        for outcome in run.receipts(seen):
            tally.count(outcome)
            yield outcome
        if ended:
            return
        state = _state(run, executor)
        if state is None and run.get("report.json") is None:
            finish(run)
        tally.note = state or ""
        time.sleep(POLL if state else 0)


def _state(run: RunDirectory, executor: Detached) -> str | None:
    """How a run stands; None when all has ended and nothing was submitted while that was being found out."""
    while True:
        submitted = run.get("jobs.json")
        state = executor.state(run)
        if state is not None or run.get("jobs.json") == submitted:
            return state


def planned(run: RunDirectory) -> Tally:
    """The tally of a run that was planned elsewhere, as it was before the first task had ended."""
    tally = Tally()
    _heed(run, tally)
    return tally


def _heed(run: RunDirectory, tally: Tally) -> None:
    """Count the work, once the run has a plan."""
    if plan := run.get("plan.json"):
        tally.listed, tally.planned, tally.bytes = plan["listed"], plan["planned"], plan["bytes"]
        tally.listing = False


def work(run: RunDirectory, share: int, of: int, executor: Executor, tally: Tally) -> Generator[Outcome, None, None]:
    """Do every `of`-th task of a planned run, beginning with number `share`; yield their last outcomes.

    What an earlier attempt at the same share has done is passed over.
    Raises UsageError for a share there is not, StorageError when nothing can be written.
    """
    plan = run.get("plan.json")
    if plan is None:
        raise StorageError(f"Run {run.id} has no plan yet. Wait until it is planned.")
    if not 0 <= share < of:
        raise UsageError(f"Share {share} of {of} does not exist: shares are numbered from 0.")
    queue, halves = TaskQueue(), _Halves(run, plan["tasks"])
    numbers = range(share, plan["tasks"], of)
    for tasks in looking_ahead(lambda number: list(halves.open_tasks(number)), numbers, _READS, _READS):
        for task in tasks:
            tally.listed += task.items
            tally.planned += task.items
            queue.add(task)
    queue.end()
    tally.listing = False
    failures = Table.create(run.database, "failures", FAILURES, scope=run.asked.table)
    with closing(drive(executor, Retries(run, queue, halves.split, run.asked.table, failures), tally)) as outcomes:
        for outcome in outcomes:
            tally.count(outcome)
            yield outcome


class _Halves:
    """The tasks that a task is split into: always the same two numbers, so that another attempt finds them.

    With n tasks planned, task k becomes n + 2k and n + 2k + 1: as in a binary heap with n roots, no two tasks ever
    get one number, and none that is planned.
    """

    def __init__(self, run: RunDirectory, planned: int) -> None:
        self.run, self.planned = run, planned

    def split(self, task: int, parts: list[list[Item]]) -> list[Task]:
        """Write the manifests of a task's halves, then that it is split."""
        tasks = [self.run.write_manifest(number, items) for number, items in zip(self._of(task), parts, strict=True)]
        self.run.put(f"splits/{task:06d}.json", {})
        return tasks

    def open_tasks(self, number: int) -> Iterator[Task]:
        """A task, or of one that was split before, those of its halves that have no receipt."""
        if self.run.receipt(number):
            return
        if self.run.get(f"splits/{number:06d}.json") is None:
            yield Task(number, self._size(number))
            return
        for half in self._of(number):
            yield from self.open_tasks(half)

    def _size(self, task: int) -> int:
        """Its items; none of a task whose manifest is damaged: it will fail, and the others be done."""
        try:
            return len(self.run.read_manifest(task))
        except Damaged:
            return 0

    def _of(self, task: int) -> tuple[int, int]:
        return self.planned + 2 * task, self.planned + 2 * task + 1


def cancel(run: RunDirectory, executor: Detached) -> Report:
    """End a run now, and commit what it has done. Raises UsageError when it has ended already, StorageError."""
    if run.get("report.json"):
        raise UsageError(f"Run {run.id} has ended already.")
    executor.cancel(run)
    return finish(run, "cancelled")
