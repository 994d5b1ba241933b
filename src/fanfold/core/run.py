"""The driver of a run: list, plan, execute, commit, report. The file to read first.

    source ──list──▶ items ──plan──▶ tasks ──executor──▶ outcomes ──commit──▶ table ──▶ report
             └──────── a thread, ahead of the work ───┘  └── the caller's thread ──┘

A run is a generator of outcomes. Stop it anywhere, kill it anywhere: the next one commits what the dead one
has receipts for, and plans the rest. (A run on a detached executor goes on by itself: see `detached.py`.)
"""

import re
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace

from fanfold.core import detached
from fanfold.core.asked import request
from fanfold.core.database import check_name
from fanfold.core.driver import kept_alive
from fanfold.core.executor import Detached, Executor
from fanfold.core.fit import fitting
from fanfold.core.ledger import Ledger
from fanfold.core.plan import Options
from fanfold.core.planner import Planner, Stopped
from fanfold.core.progress import Tally
from fanfold.core.recovery import end, finish, recover
from fanfold.core.report import Report, account, bounded
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.core.tasks import Retries, TaskQueue, drive
from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.job import Job, details_of, suffixes_of
from fanfold.source import Bucket, Folder, Source, collection, leaves
from fanfold.storage import absolute, is_url, join

COMMIT_EVERY = 1.0
"""Seconds at least between two commits: each makes a new version of the table."""
COMMIT_AT_LEAST_EVERY = 60.0
"""Seconds after which a task that ends is committed at once, however many fragments there are."""
PAUSE_PER_FRAGMENT = 0.01
"""Seconds more between two commits for every fragment there is: a version lists them all, in some 100 bytes each."""


def begin(
    job: Job,
    source: str | Sequence[str] | Source,
    database: str,
    table: str | None,
    options: Options,
    executor: Executor | Detached,
) -> "Run":
    """A run that is ready to begin; what `fanfold.run` returns. Raises what `prepare` raises."""
    if isinstance(executor, Detached):
        table = table or executor.table(job)
        if not details_of(job):  # of which there is no mirror
            options = replace(options, mirror=options.mirror or executor.mirror(table))
    opened, ledger = prepare(job, source, database, table, options, executor)
    return Run(job, opened, ledger, executor, options)


def prepare(
    job: Job,
    source: str | Sequence[str] | Source,
    database: str,
    table: str | None,
    options: Options,
    executor: Executor | Detached,
) -> tuple[Source, Ledger]:
    """Open the source and the ledger, see that they go together, and make the ledger if it is new."""
    opened, where, name = addressed(job, source, database, job.name if table is None else table)
    opened = executor.reach(job, opened, where)
    ledger = Ledger.open(where, name) or Ledger.create(where, name, job, opened.root, options.ids)
    opened = fitting(ledger, job, opened, options.ids)
    if options.mirror:
        if isinstance(executor, Detached):
            executor.provide(options.mirror)
        ledger.mirror(options.mirror)  # one that cannot be used is better known now
    return opened, ledger


def addressed(job: Job, source: str | Sequence[str] | Source, database: str, table: str) -> tuple[Source, str, str]:
    """The source, kept out of the database where that lies inside it; the database's address; the table's name.

    Raises UsageError when they do not fit together.
    """
    opened = collection(job, source)
    where = absolute(database)
    check_name(table)
    if table == "failures":
        raise UsageError("'failures' is reserved: the items that failed are in that table. Use another name.")
    if is_url(where) and re.search("[%?#]", where):
        raise UsageError(f"A database's URL cannot contain '%', '?' or '#': {where}")
    for part in leaves(opened):
        if isinstance(part, (Folder, Bucket)):
            if join(part.root, part.below) == where:
                raise UsageError(
                    f"{where} is the source. Use another folder for the database; it may be inside the source."
                )
            part.skip = where
    return opened, where, table


class Run:
    """A run about to be: iterate over it to make it happen, then look at its `report`."""

    def __init__(
        self,
        job: Job,
        source: Source,
        ledger: Ledger,
        executor: Executor | Detached,
        options: Options,
        directory: RunDirectory | None = None,
    ) -> None:
        self.source, self.ledger, self.executor, self.options = source, ledger, executor, options
        self._began = time.monotonic()
        self._ended: float | None = None
        self.directory = directory or RunDirectory.create(
            ledger.database,
            **request(job, source, ledger.name, options),
            detached=isinstance(executor, Detached),
            fold=hasattr(job, "fold"),
        )
        self._planner = Planner(source, suffixes_of(job), ledger, options, self.directory)
        self._queue = TaskQueue()
        self._trouble: BaseException | None = None
        self._begun = False

    @classmethod
    def resume(cls, directory: RunDirectory, executor: Executor | Detached) -> "Run":
        """The run that a directory describes; to be planned again, from the start."""
        asked = directory.asked
        job, options = asked.load_job(), Options(**asked.options)
        source, ledger = prepare(job, asked.sources, directory.database, asked.table, options, executor)
        return cls(job, source, ledger, executor, options, directory)

    @property
    def id(self) -> str:
        """The run's name: its directory under `_runs`."""
        return self.directory.id

    @property
    def tally(self) -> Tally:
        """How far the run is."""
        return self._planner.tally

    @property
    def report(self) -> Report:
        """The account so far; final once the iteration has ended."""
        if isinstance(self.executor, Detached):
            return account(self.directory)[0]
        return Report(
            run=self.id,
            listed=self.tally.listed,
            unchanged=self._planner.unchanged,
            ok=self.tally.ok,
            failed=self.tally.failed + self._planner.failed_before,
            unread=self.tally.unread,
            left_out=dict(self.source.left_out),
            seconds=(self._ended or time.monotonic()) - self._began,
            database=self.ledger.database,
            table=self.ledger.name,
            complete=not self.tally.listing,
            stages=dict(self.tally.seconds),
            mirror=self.ledger.mirrored,
            reasons=bounded(self.tally.reasons),
        )

    def __iter__(self) -> Generator[Outcome, None, None]:
        """Do the work; yield each task's outcome once it is committed.

        On a detached executor, submit it and follow it: stopping the iteration then leaves the run going.

        Raises StorageError when the source or the database fail for good, FanfoldError when workers cannot start.
        """
        if self._begun:
            raise UsageError("This run was already iterated over. Make another one with fanfold.run(...).")
        self._begun = True
        if isinstance(self.executor, Detached):
            self.launch()
            yield from detached.follow(self.directory, self.executor, self.tally)
        else:
            try:
                with kept_alive(self.directory.sign_of_life):
                    yield from self._drive(self.executor)
            except BaseException as error:  # GeneratorExit, too: this process may live on, as a notebook's does
                with suppress(StorageError):
                    self.directory.stop(str(error) if isinstance(error, FanfoldError) else "")
                raise

    def launch(self, seconds: float | None = None) -> None:
        """Plan everything and submit it to a detached executor, without following it.

        Planning that takes longer than `seconds` is left to the executor as well. May be done again: a plan that is
        complete stays, since there may be workers who have read it. Raises what planning raises.
        """
        assert isinstance(self.executor, Detached)
        if self.directory.get("report.json"):
            return
        with kept_alive(self.directory.sign_of_life):
            plan = self.directory.get("plan.json")
            tasks = plan["tasks"] if plan else self._plan_all(seconds)
            if tasks is None:
                self.executor.plan_later(self.directory)
            elif tasks:
                self.executor.submit(self.directory, tasks)
            else:
                finish(self.directory)

    def _plan_all(self, seconds: float | None) -> int | None:
        """Plan to the end. Returns the number of tasks, or None if that takes longer than `seconds`."""
        clock = threading.Timer(seconds or 0, self._planner.stop)
        if seconds is not None:
            clock.start()
        try:
            recover(self.ledger, but=self.id, check=self._planner.check)
            return sum(1 for _ in self._planner.tasks(workers=0))
        except Stopped:
            return None
        finally:
            clock.cancel()

    def _drive(self, executor: Executor) -> Generator[Outcome, None, None]:
        recover(self.ledger, but=self.id)
        threading.Thread(target=self._plan, args=(executor.workers,), daemon=True).start()
        retries = Retries(self.directory, self._queue, self._planner.split, self.ledger.name, self.ledger.failures)
        waiting: list[Outcome] = []
        committed = 0.0
        outcomes = drive(executor, retries, self.tally)
        try:
            for outcome in outcomes:
                waiting.append(outcome)
                if time.monotonic() - committed >= pause_before_commit(self.ledger.rows.fragments):
                    done, waiting = self._commit(waiting), []
                    committed = time.monotonic()
                    yield from done
        finally:  # also when the caller stops early: what is done stays done
            self._planner.stop()
            outcomes.close()
            rest = self._commit(waiting)
        yield from rest
        if self._trouble:
            raise self._trouble
        self.ledger.refresh()  # another driver may have seen the same items end otherwise
        self._ended = time.monotonic()
        end(self.ledger, self.directory, self.report, "complete")

    def _plan(self, workers: int) -> None:
        """List the source and plan tasks, ahead of the work."""
        try:
            for task in self._planner.tasks(workers):
                self._queue.add(task)
        except BaseException as error:
            self._trouble = error
        finally:
            self._queue.end()

    def _commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        outcomes = self.ledger.publish(outcomes, self.directory)
        self.ledger.keep_in_step(self.directory, outcomes)
        for outcome in outcomes:
            self.tally.count(outcome)
        return outcomes


def pause_before_commit(fragments: int) -> float:
    """Seconds from one commit to the next, so that a table of many fragments does not drown in its own versions."""
    return max(COMMIT_EVERY, min(fragments * PAUSE_PER_FRAGMENT, COMMIT_AT_LEAST_EVERY))
