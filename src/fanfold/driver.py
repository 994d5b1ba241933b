"""The driver of a run: list, plan, execute, commit, tell. The file to read first.

    source ──list──▶ items ──plan──▶ tasks ──executor──▶ outcomes ──commit──▶ table ──▶ report
             └──────── a thread, ahead of the work ───┘  └── the caller's thread ──┘

A run is a generator of outcomes. Stop it anywhere, kill it anywhere: the next one commits what the receipts of
the dead one say is done, and plans the rest. (A run on a detached executor goes on by itself: see `detached.py`.)
"""

import re
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from fanfold import detached
from fanfold.account import account
from fanfold.database import check_name
from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.executors import Detached, Executor
from fanfold.executors.local import Local
from fanfold.feed import Feed
from fanfold.job import Job, load, spec
from fanfold.ledger import Ledger
from fanfold.plan import Options
from fanfold.planner import Planner, Stopped, Tally
from fanfold.report import Report, bounded
from fanfold.runs import Outcome, RunDirectory
from fanfold.settle import Settler
from fanfold.source import Bucket, Folder, Several, Source, open_source
from fanfold.storage import absolute, is_url, join

COMMIT_EVERY = 1.0
"""Seconds at least between two commits: each makes a new version of the table."""
COMMIT_AT_LEAST_EVERY = 60.0
"""Seconds after which a task that ends is committed at once, however many fragments there are."""
PAUSE_PER_FRAGMENT = 0.01
"""Seconds more between two commits for every fragment there is: a version lists them all, in some 100 bytes each."""


def run(
    job: Job,
    *,
    source: str | Sequence[str],
    database: str,
    table: str | None = None,
    workers: int | None = None,
    executor: Executor | Detached | None = None,
    **options: Any,
) -> "Run":
    """Do `job` for every item of `source` that is not in `database` yet.

        for outcome in fanfold.run(Images(), source="photos", database="db"):
            print(outcome.ok, outcome.failed)

    Args:
        job: What to do.
        source: A folder, a file, a text file of addresses, or a URL; or several folders or prefixes.
        database: A folder or a URL; made if need be.
        table: The table's name; the job's own by default, on AWS Batch that of the deployment's model.
        workers: Worker processes of the default executor; one a core by default.
        executor: Where to run, instead of on this machine.
        options: See `Options`.

    Returns:
        A `Run`: iterate over it to make it happen. It yields every task's outcome once that is committed.

    Raises:
        UsageError: There is no such source, or the table holds another recipe's results or another source's items.
        StorageError: The source or the database cannot be used.
    """
    chosen, executor = Options(**options), executor or Local(workers)
    if isinstance(executor, Detached):
        table = table or executor.table(job)
        chosen = replace(chosen, mirror=chosen.mirror or executor.mirror(table))
    collection, ledger = prepare(job, source, database, table, chosen, executor)
    return Run(job, collection, ledger, executor, chosen)


def prepare(
    job: Job,
    source: str | Sequence[str],
    database: str,
    table: str | None,
    options: Options,
    executor: Executor | Detached,
) -> tuple[Source, Ledger]:
    """Open the source and the ledger, see that they go together, and make the ledger if it is new."""
    collection, where, name = addressed(source, database, job.name if table is None else table)
    collection = executor.reach(job, collection, where)
    ledger = Ledger.open(where, name) or Ledger.create(where, name, job, collection.root, options.ids)
    collection = ledger.fit(job, collection, options.ids)
    if options.mirror:
        if isinstance(executor, Detached):
            executor.provide(options.mirror)
        ledger.mirror(options.mirror)  # one that cannot be used is better known now
    return collection, ledger


def addressed(source: str | Sequence[str], database: str, table: str) -> tuple[Source, str, str]:
    """The source, kept out of the database where that lies inside it; the database's address; the table's name.

    Raises UsageError when they cannot be what they are said to be.
    """
    collection = open_source(source) if isinstance(source, str) else Several.of([open_source(one) for one in source])
    where = absolute(database)
    check_name(table)
    if table == "failures":
        raise UsageError("'failures' is reserved: the items that failed are in that table. Use another name.")
    if is_url(where) and re.search("[%?#]", where):
        raise UsageError(f"Lance reads '%', '?' and '#' in a database's URL otherwise than it is written: {where}")
    for part in collection.parts if isinstance(collection, Several) else [collection]:
        if isinstance(part, (Folder, Bucket)):
            if join(part.root, part.below) == where:
                raise UsageError(f"{where} is the source: the database needs a place of its own, there or elsewhere.")
            part.skip = where
    return collection, where, table


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
            job=spec(job),
            recipe=dict(job.recipe()),
            table=ledger.name,
            root=source.root,
            sources=source.addresses,
            options=asdict(options),
            detached=isinstance(executor, Detached),
        )
        self._planner = Planner(source, job.suffixes, ledger, options, self.directory)
        self._feed = Feed()
        self._trouble: BaseException | None = None
        self._begun = False

    @classmethod
    def resume(cls, directory: RunDirectory, executor: Executor | Detached) -> "Run":
        """The run that a directory says was asked for; to be planned again, from the start."""
        asked = directory.get("run.json") or {}
        job, options = load(asked["job"]["name"], asked["job"]["options"]), Options(**asked["options"])
        sources, table = asked["sources"], asked["table"]
        source, ledger = prepare(job, sources, directory.database, table, options, executor)
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
            raise UsageError("This run has been iterated over before. Make another one with fanfold.run(...).")
        self._begun = True
        if isinstance(self.executor, Detached):
            self.launch()
            yield from detached.follow(self.directory, self.executor, self.tally)
        else:
            try:
                with self.directory.kept_alive():
                    yield from self._drive(self.executor)
            except BaseException as error:  # GeneratorExit, too: this process may live on, a notebook's say
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
        with self.directory.kept_alive():
            plan = self.directory.get("plan.json")
            tasks = plan["tasks"] if plan else self._plan_all(seconds)
            if tasks is None:
                self.executor.plan_later(self.directory)
            elif tasks:
                self.executor.submit(self.directory, tasks)
            else:
                detached.commit(self.directory)

    def _plan_all(self, seconds: float | None) -> int | None:
        """Plan to the end. Returns the number of tasks, or None if that takes longer than `seconds`."""
        clock = threading.Timer(seconds or 0, self._planner.stop)
        if seconds is not None:
            clock.start()
        try:
            self.ledger.recover(but=self.id, check=self._planner.check)
            return sum(1 for _ in self._planner.tasks(workers=0))
        except Stopped:
            return None
        finally:
            clock.cancel()

    def _drive(self, executor: Executor) -> Generator[Outcome, None, None]:
        self.ledger.recover(but=self.id)
        threading.Thread(target=self._plan, args=(executor.workers,), daemon=True).start()
        settler = Settler(self.directory, self._feed, self._planner.split, self.ledger.name, self.ledger.failures)
        waiting: list[Outcome] = []
        committed = 0.0
        outcomes = executor.map(self.directory, self._feed, self.tally.watch)
        try:
            for outcome in outcomes:
                settled = settler.settle(outcome)
                if settled:
                    waiting.append(settled)
                else:
                    self.tally.under_way.pop(outcome.task, None)
                if waiting and time.monotonic() - committed >= pause_before_commit(self.ledger.rows.fragments):
                    done, waiting = self._commit(waiting), []
                    committed = time.monotonic()
                    yield from done
        finally:  # also when the caller stops early: what is done stays done
            self._planner.stop()
            self._feed.stop()
            outcomes.close()
            rest = self._commit(waiting)
        yield from rest
        if self._trouble:
            raise self._trouble
        self.ledger.refresh()  # another driver may have seen the same items end otherwise
        self._ended = time.monotonic()
        self.directory.put("report.json", self.report.to_json() | {"ended": "complete"})

    def _plan(self, workers: int) -> None:
        """List the source and plan tasks, ahead of the work."""
        try:
            for task in self._planner.tasks(workers):
                self._feed.add(task)
        except BaseException as error:
            self._trouble = error
        finally:
            self._feed.end()

    def _commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        outcomes = self.ledger.publish(outcomes, self.directory)
        self.ledger.keep_in_step(self.directory, outcomes)
        for outcome in outcomes:
            self.tally.count(outcome)
        return outcomes


def pause_before_commit(fragments: int) -> float:
    """Seconds from one commit to the next, so that a table of many fragments does not drown in its own versions."""
    return max(COMMIT_EVERY, min(fragments * PAUSE_PER_FRAGMENT, COMMIT_AT_LEAST_EVERY))
