"""The driver of a run: list, plan, execute, commit, tell. The file to read first.

    source ──list──▶ items ──plan──▶ tasks ──executor──▶ outcomes ──commit──▶ table
             └──────── a thread, ahead of the work ───┘  └── the caller's thread ──┘

A run is a generator of outcomes. Stop it anywhere, kill it anywhere: the next one commits what the receipts of
the dead one say is done, and plans the rest.
"""

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any

from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.executors import Executor
from fanfold.executors.local import Local, cores
from fanfold.index import Index
from fanfold.job import Failure, Item, Job, spec
from fanfold.ledger import Ledger, classified
from fanfold.plan import Standing, cut
from fanfold.report import Report
from fanfold.runs import ALIVE_EVERY, Outcome, RunDirectory, Task
from fanfold.source import Bucket, Folder, Ids, Source, open_source
from fanfold.storage import absolute, exists, is_url, join
from fanfold.worker import write_failures

TRIES = {"failed": 3, "unwritable": 3, "crashed": 2}
"""Tries of a task, by how it ends. One that crashes its worker is then split, until the culprit is alone."""

COMMIT_EVERY = 1.0
"""Seconds at least between two commits: each makes a new version of the table."""


@dataclass(frozen=True)
class Options:
    """How a run is done, whatever the job."""

    task_size: int = 1000
    """Items a task at most: what is done again when a worker dies, and what a commit publishes."""
    ids: Ids = "key"
    """What names an item: its path (`key`), or its file name without ending (`stem`, as in the article)."""
    retry_failed: bool = False
    """Whether items that failed before, at the version they still have, are tried again."""

    @property
    def wanted(self) -> frozenset[Standing]:
        """The standings of the items to work on."""
        return frozenset({Standing.NEW, Standing.CHANGED} | ({Standing.FAILED} if self.retry_failed else set()))

    def __post_init__(self) -> None:
        if self.task_size < 1:
            raise UsageError(f"A task needs at least one item, not {self.task_size}.")
        if self.ids not in ("key", "stem"):
            raise UsageError(f"Items are named by key or by stem, not by {self.ids}.")


def run(
    job: Job,
    *,
    source: str,
    database: str,
    table: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    **options: Any,
) -> "Run":
    """Do `job` for every item of `source` that is not in `database` yet.

        for outcome in fanfold.run(Images(), source="photos", database="db"):
            print(outcome.ok, outcome.failed)

    Args:
        job: What to do.
        source: A folder, a file, a text file of addresses, or a URL.
        database: A folder or a URL; made if need be.
        table: The table's name; the job's own by default.
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
    collection, ledger = prepare(job, source, database, table, chosen.ids)
    return Run(job, collection, ledger, executor, chosen)


def prepare(job: Job, source: str, database: str, table: str | None, ids: Ids) -> tuple[Source, Ledger]:
    """Open the source and the ledger, see that they go together, and make the ledger if it is new."""
    collection, where, name = addressed(source, database, table or job.name)
    ledger = Ledger.open(where, name) or Ledger.create(where, name, job, collection.root, ids)
    return ledger.fit(job, collection, ids), ledger


def addressed(source: str, database: str, table: str) -> tuple[Source, str, str]:
    """The source, kept out of the database where that lies inside it; the database's address; the table's name.

    Raises UsageError when they cannot be what they are said to be.
    """
    collection, where = open_source(source), absolute(database)
    if not re.fullmatch(r"[\w][\w.-]*", table) or table == "failures":
        raise UsageError(f"'{table}' is no name for a table: use letters, digits, '_', '-' and '.'.")
    if is_url(where) and re.search("[%?#]", where):
        raise UsageError(f"Lance reads '%', '?' and '#' in a database's URL otherwise than it is written: {where}")
    if isinstance(collection, (Folder, Bucket)):
        if join(collection.root, collection.below) == where:
            raise UsageError(f"{where} is the source: the database needs a place of its own, there or elsewhere.")
        collection.skip = where
    return collection, where, table


@dataclass(frozen=True)
class Preview:
    """What a run would do."""

    new: int
    changed: int
    unchanged: int
    failed_before: int
    """Failed before at this version: not tried again unless asked."""
    left_out: dict[str, int]
    bytes: int
    """To be read: of the items a run would work on."""
    seconds: float | None
    """Estimated, from a sample done here and now; None when nothing is to be done."""
    workers: int


SAMPLE = 24  # items: enough for a rate within some 20 %, few enough to take a second or two


def preview(
    job: Job, *, source: str, database: str, table: str | None = None, workers: int | None = None, **options: Any
) -> Preview:
    """Say what `run` would do with the same arguments; nothing is written. Raises what `run` raises."""
    chosen = Options(**options)
    collection, where, name = addressed(source, database, table or job.name)
    ledger = Ledger.open(where, name) if exists(where) else None
    rows = failures = Index()
    if ledger:
        collection = ledger.fit(job, collection, chosen.ids)
        ledger.rows.refresh()
        ledger.failures.refresh()
        rows, failures = ledger.rows.index, ledger.failures.index
    standings: Counter[Standing] = Counter()
    size = 0
    sample: list[Item] = []
    for item, standing in classified(collection, job.suffixes, chosen.ids, rows, failures):
        standings[standing] += 1
        if standing in chosen.wanted:
            size += item.size
            if len(sample) < SAMPLE:
                sample.append(item)
    hands = workers or cores()
    todo = sum(standings[standing] for standing in chosen.wanted)
    return Preview(
        standings[Standing.NEW],
        standings[Standing.CHANGED],
        standings[Standing.UNCHANGED],
        standings[Standing.FAILED],
        dict(collection.left_out),
        size,
        _seconds_an_item(job, collection, sample) * todo / min(hands, todo) if todo else None,
        hands,
    )


def _seconds_an_item(job: Job, source: Source, sample: list[Item]) -> float:
    """Do a sample in this process, and time it without the set-up."""
    work = job.open()
    list(work(sample[:1], source))
    started = time.monotonic()
    list(work(sample, source))
    return (time.monotonic() - started) / len(sample)


@dataclass
class Tally:
    """How far a run is. Read it at any time, from any thread."""

    listed: int = 0
    listing: bool = True
    """Whether the source is still being listed, so that `listed` may grow."""
    standings: Counter[Standing] = field(default_factory=Counter)
    planned: int = 0
    """Items this run has to work on, as far as they are listed."""
    bytes: int = 0
    """Of the items planned."""
    ok: int = 0
    failed: int = 0
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Task number -> items done and failed, of tasks not committed yet."""

    @property
    def done(self) -> int:
        """Items done so far, those of unfinished tasks included."""
        return self.ok + sum(ok for ok, _ in list(self.under_way.values()))

    @property
    def unsuccessful(self) -> int:
        """Items that failed so far, those of unfinished tasks included."""
        return self.failed + sum(failed for _, failed in list(self.under_way.values()))


class Feed:
    """The tasks still to be handed out: the lister adds, executors take, failed ones come back."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._open = 0  # tasks added and not settled
        self._more = True  # whether the lister may add
        self._changed = threading.Condition()

    def add(self, task: Task) -> None:
        """Add a task to do."""
        with self._changed:
            self._tasks.append(task)
            self._open += 1
            self._changed.notify_all()

    def settle(self) -> None:
        """Say that one of the tasks handed out needs nothing more."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Say that the lister adds no more."""
        with self._changed:
            self._more = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._tasks.clear()
            self._open, self._more = 0, False
            self._changed.notify_all()

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Task:
        """Wait for a task; there are none left when all are settled and the lister has ended."""
        with self._changed:
            while not self._tasks:
                if not self._more and self._open <= 0:
                    raise StopIteration
                self._changed.wait()
            return self._tasks.popleft()


class Run:
    """A run about to be: iterate over it to make it happen, then look at its `report`."""

    def __init__(self, job: Job, source: Source, ledger: Ledger, executor: Executor, options: Options) -> None:
        self.source, self.ledger, self.executor, self.options = source, ledger, executor, options
        self.suffixes = job.suffixes
        self.tally = Tally()
        self._began = time.monotonic()
        self._ended: float | None = None
        self.directory = RunDirectory.create(
            ledger.database,
            job=spec(job),
            recipe=dict(job.recipe()),
            table=ledger.name,
            root=source.root,
            options=asdict(options),
        )
        self._feed = Feed()
        self._numbers = count()
        self._trouble: BaseException | None = None
        self._begun = False
        self._stop = threading.Event()

    @property
    def id(self) -> str:
        """The run's name: its directory under `_runs`."""
        return self.directory.id

    @property
    def report(self) -> Report:
        """The account so far; final once the iteration has ended."""
        failed_before = 0 if self.options.retry_failed else self.tally.standings[Standing.FAILED]
        return Report(
            run=self.id,
            listed=self.tally.listed,
            unchanged=self.tally.standings[Standing.UNCHANGED],
            ok=self.tally.ok,
            failed=self.tally.failed + failed_before,
            left_out=dict(self.source.left_out),
            seconds=(self._ended or time.monotonic()) - self._began,
            database=self.ledger.database,
            table=self.ledger.name,
            complete=not self.tally.listing,
        )

    def __iter__(self) -> Generator[Outcome, None, None]:
        """Do the work; yield each task's outcome once it is committed.

        Raises StorageError when the source or the database fail for good, FanfoldError when workers cannot start.
        """
        if self._begun:
            raise UsageError("This run has been iterated over before. Make another one with fanfold.run(...).")
        self._begun = True
        threading.Thread(target=self._stay_alive, daemon=True).start()
        try:
            self.ledger.recover(but=self.id)
        except BaseException:
            self._stop.set()
            raise
        threading.Thread(target=self._list, daemon=True).start()
        waiting: list[Outcome] = []
        committed = 0.0
        outcomes = self.executor.map(self.directory, self._feed, self._progress)
        try:
            for outcome in outcomes:
                if settled := self._settle(outcome):
                    waiting.append(settled)
                if waiting and time.monotonic() - committed >= COMMIT_EVERY:
                    done, waiting = self._commit(waiting), []
                    committed = time.monotonic()
                    yield from done
        finally:  # also when the caller stops early: what is done stays done
            self._stop.set()
            self._feed.stop()
            outcomes.close()
            rest = self._commit(waiting)
        yield from rest
        if self._trouble:
            raise self._trouble
        self.ledger.refresh()  # another driver may have seen the same items end otherwise
        self._ended = time.monotonic()
        self.directory.put("report.json", self.report.to_json() | {"ended": "complete"})

    def _list(self) -> None:
        """List the source and plan tasks, ahead of the work."""
        try:
            for items in cut(self._wanted(), self.options.task_size, self.executor.workers):
                self._feed.add(self.directory.write_manifest(next(self._numbers), self._distinct(items)))
            self.tally.listing = False
        except OSError as error:  # what was there when the source was opened is not any more
            self._trouble = StorageError(f"Cannot list {self.source.root}: {error}")
        except BaseException as error:
            self._trouble = error
        finally:
            self._feed.end()

    def _distinct(self, items: list[Item]) -> list[Item]:
        """The items, each key once: a folder gives a file twice that is replaced by renaming while it is listed."""
        distinct = {item.key: item for item in items}
        self.tally.listed -= len(items) - len(distinct)
        self.tally.planned -= len(items) - len(distinct)
        return list(distinct.values())

    def _wanted(self) -> Iterator[Item]:
        # Commits go on meanwhile: the listing is compared with what the tables held when it began.
        rows, failures = self.ledger.rows.index.snapshot(), self.ledger.failures.index.snapshot()
        for item, standing in classified(self.source, self.suffixes, self.options.ids, rows, failures):
            if self._stop.is_set():
                raise FanfoldError("The run was stopped while listing.")
            self.tally.listed += 1
            self.tally.standings[standing] += 1
            if standing in self.options.wanted:
                self.tally.planned += 1
                self.tally.bytes += item.size
                yield item

    def _settle(self, outcome: Outcome) -> Outcome | None:
        """What to commit and tell, or None: decide on further tries, on splitting, on giving up."""
        if outcome.status == "crashed":  # perhaps after it had left its receipt
            outcome = self.directory.receipt(outcome.task) or outcome
        if outcome.status == "done":
            self._feed.settle()
            return outcome
        self.tally.under_way.pop(outcome.task, None)
        final: Outcome | None = None
        if outcome.attempt < TRIES[outcome.status]:
            self._feed.add(Task(outcome.task, outcome.items, outcome.attempt + 1))
        elif outcome.status == "unwritable":
            raise StorageError(outcome.error)
        elif outcome.status == "failed":
            final = outcome
        elif outcome.items > 1:
            self._split(outcome)
        else:
            final = self._culprit(outcome)
        self._feed.settle()
        return final

    def _split(self, outcome: Outcome) -> None:
        """Two tasks of half the items, to find the one that crashes workers."""
        items = self.directory.read_manifest(outcome.task)
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            self._feed.add(self.directory.write_manifest(next(self._numbers), half))

    def _culprit(self, outcome: Outcome) -> Outcome:
        """The receipt of a task of one item that no worker survives: a failure like any other."""
        (item,) = self.directory.read_manifest(outcome.task)
        failure = Failure(item.key, item.version, "crash", "WorkerCrash", outcome.error[:1000])
        fragments = write_failures(self.ledger.failures, self.ledger.name, self.id, [failure])
        return self.directory.write_receipt(replace(outcome, status="done", failed=1, failures=fragments, error=""))

    def _commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        self.ledger.publish(outcomes)
        for outcome in outcomes:
            self.tally.under_way.pop(outcome.task, None)
            self.tally.ok += outcome.ok
            self.tally.failed += outcome.failed
        return outcomes

    def _progress(self, task: int, ok: int, failed: int) -> None:
        self.tally.under_way[task] = (ok, failed)

    def _stay_alive(self) -> None:
        while True:
            with suppress(StorageError):
                self.directory.sign_of_life()
            if self._stop.wait(ALIVE_EVERY):
                return
