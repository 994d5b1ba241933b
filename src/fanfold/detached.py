"""Runs that go on without their driver: planned here, performed and committed on a cluster.

    driver, anywhere          a container each                   one container, after all of them
    plan ── submit ─────────▶ work: a share of the tasks ──────▶ commit: publish the receipts, write the report
      └─ follow: reads receipts until there is a report

Nobody need watch: whoever plans may be gone a second later (a laptop, a Lambda). What a container performs it
performs as a laptop does, on worker processes of its own, so a picture that crashes its decoder costs itself only.
"""

import time
from collections.abc import Generator, Iterator

from fanfold.account import so_far
from fanfold.errors import Damaged, StorageError, UsageError
from fanfold.executors import Detached, Executor, open_executor
from fanfold.feed import Feed
from fanfold.job import Item
from fanfold.ledger import Ledger
from fanfold.planner import Tally
from fanfold.report import Report
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.settle import Settler
from fanfold.table import FAILURES, Table

POLL = 2.0
"""Seconds between two looks at a run that is followed."""


def follow(run: RunDirectory, executor: Detached, tally: Tally) -> Generator[Outcome, None, None]:
    """Yield the outcomes of a run as their receipts appear, until it has ended.

    If everything submitted has ended and nobody wrote the report, commits here. Raises StorageError.
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
            commit(run)
        tally.note = state or ""
        time.sleep(POLL if state else 0)


def _state(run: RunDirectory, executor: Detached) -> str | None:
    """How a run stands; None when all has ended and nothing was submitted while that was being found out."""
    while True:
        submitted = run.get("jobs.json")
        state = executor.state(run)
        if state is not None or run.get("jobs.json") == submitted:
            return state


def executor_of(run: RunDirectory) -> Detached:
    """What a run was submitted to. Raises UsageError for a run that has ended, or was not submitted anywhere."""
    if run.get("report.json"):
        raise UsageError(f"Run {run.id} has ended already: fanfold report {run.database} {run.id}")
    jobs = run.get("jobs.json")
    executor = open_executor(jobs["executor"]) if jobs else None
    if not isinstance(executor, Detached):
        raise UsageError(f"Run {run.id} goes on only where its command runs: stop it there, with Ctrl-C.")
    return executor


def planned(run: RunDirectory) -> Tally:
    """The tally of a run that was planned elsewhere, as it was before the first task had ended."""
    tally = Tally()
    _heed(run, tally)
    return tally


def _heed(run: RunDirectory, tally: Tally) -> None:
    """Count what there is to do, once the run's plan says it."""
    if plan := run.get("plan.json"):
        tally.listed, tally.planned, tally.bytes = plan["listed"], plan["planned"], plan["bytes"]
        tally.listing = False


def perform(run: RunDirectory, share: int, of: int, executor: Executor, tally: Tally) -> Generator[Outcome, None, None]:
    """Perform every `of`-th task of a planned run, beginning with number `share`; yield their last outcomes.

    What an earlier attempt at the same share has done is passed over.
    Raises UsageError for a share there is not, StorageError when nothing can be written.
    """
    plan = run.get("plan.json")
    if plan is None:
        raise StorageError(f"Run {run.id} has no plan yet.")
    if not 0 <= share < of:
        raise UsageError(f"There is no share {share} of {of}.")
    asked = run.get("run.json") or {}
    feed, halves = Feed(), _Halves(run, plan["tasks"])
    for number in range(share, plan["tasks"], of):
        for task in halves.open_tasks(number):
            tally.listed += task.items
            tally.planned += task.items
            feed.add(task)
    feed.end()
    tally.listing = False
    failures = Table.create(run.database, "failures", FAILURES, scope=asked["table"])
    settler = Settler(run, feed, halves.split, asked["table"], failures)
    outcomes = executor.map(run, feed, tally.watch)
    try:
        for outcome in outcomes:
            if settled := settler.settle(outcome):
                tally.count(settled)
                yield settled
            else:
                tally.under_way.pop(outcome.task, None)
    finally:
        outcomes.close()


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


def commit(run: RunDirectory, ended: str = "") -> Report:
    """Publish what a run's receipts say, keep its mirror in step, and write its report. May be done again.

    The report says how the run ended: as told, else `complete`, or `interrupted` if it never was planned to the end.
    Where a later run works on the same table, only gaps are filled: it may have put newer rows there, and it has
    looked at the source after this one. Raises UsageError for a run whose table is gone, StorageError.
    """
    asked = run.get("run.json") or {}
    ledger = Ledger.open(run.database, asked.get("table", ""))
    if ledger is None:
        raise UsageError(f"The table of run {run.id} is not in {run.database} any more.")
    ledger.commit_receipts(run, fill=not ledger.is_newest(run))
    ledger.keep_in_step(run, run.receipts())
    before = run.get("report.json")
    if before and before["ended"] != "interrupted":  # the receipts it was made from may be pruned by now
        return Report.from_json(before)
    report = so_far(run, ledger.mirrored)
    ended = ended or ("complete" if report.complete else "interrupted")
    run.put("report.json", report.to_json() | {"ended": ended})
    return report


def cancel(run: RunDirectory, executor: Detached) -> Report:
    """End a run now, and commit what it has done. Raises UsageError when it has ended already, StorageError."""
    if run.get("report.json"):
        raise UsageError(f"Run {run.id} has ended already.")
    executor.cancel(run)
    return commit(run, "cancelled")
