"""What happens in a worker, wherever it runs: a process of this machine, a Ray actor, an AWS Batch container.

A worker needs two words, the database and the run's id; `run.json` tells it the rest.

    manifest ──▶ items ──work──▶ record batches ──▶ a fragment of the table     ┐
                            └──▶ failures ────────▶ a fragment of the failures  ├──▶ receipt
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pyarrow as pa

from fanfold.errors import Damaged, FanfoldError, StorageError, UsageError
from fanfold.job import Failure, Item, load
from fanfold.runs import Outcome, RunDirectory, Status, Task
from fanfold.source import Places, reader
from fanfold.storage import first_line
from fanfold.table import FAILURES, Table

Progress = Callable[[int, int], None]
"""Called with how many items of the task are done and have failed so far."""


def _unwatched(_ok: int, _failed: int) -> None: ...


class Worker:
    """Holds what is costly to set up, and performs tasks of one run."""

    def __init__(self, database: str, run: str) -> None:
        self.run = RunDirectory(database, run)
        asked = self.run.get("run.json")
        if asked is None:
            raise StorageError(f"There is no run {run} in {database}.")
        self.table_name: str = asked["table"]
        self.rows = _existing(database, self.table_name)
        self.failures = _existing(database, "failures")
        self.source = reader(asked["root"])
        self.places = Places(asked.get("sources", []))
        job = load(asked["job"]["name"], asked["job"]["options"])
        if dict(job.recipe()) != asked["recipe"]:
            raise UsageError(f"This worker would do the job otherwise than run {run} asks: its fanfold is another one.")
        self.work = job.open()
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def perform(self, task: Task, progress: Progress = _unwatched) -> Outcome:
        """Do a task and leave its receipt. Never raises for what happens to the task: that is its outcome."""
        started = time.time()
        try:
            if receipt := self.run.receipt(task.number):
                return receipt
            return self._perform(task, started, progress)
        except Exception as error:
            fatal = isinstance(error, StorageError) and not isinstance(error, Damaged)
            status: Status = "unusable" if fatal else "failed"
            said = str(error) if isinstance(error, FanfoldError) else f"{type(error).__name__}: {first_line(error)}"
            return Outcome(
                task.number,
                task.attempt,
                task.items,
                status,
                started=started,
                ended=time.time(),
                worker=self.name,
                error=said,
            )

    def _perform(self, task: Task, started: float, progress: Progress) -> Outcome:
        answers = Answers(self.run.read_manifest(task.number), progress, self.places.doubt)
        before = dict(self.work.seconds)
        rows = self.rows.write(answers.batches(self.work(answers.items, self.source)))
        if answers.unread:
            self.places.check()
        failures = write_failures(self.failures, self.table_name, self.run.id, answers.all_failures())
        spent = {stage: s - before.get(stage, 0.0) for stage, s in self.work.seconds.items()}
        spent["write"] = max(0.0, time.time() - started - sum(spent.values()))  # and all else that is not the job's
        outcome = Outcome(
            task.number,
            task.attempt,
            task.items,
            "done",
            ok=answers.ok,
            failed=task.items - answers.ok,
            unread=answers.unread,
            rows=rows,
            failures=failures,
            seconds={stage: round(s, 4) for stage, s in spent.items()},
            started=started,
            ended=time.time(),
            worker=self.name,
        )
        return self.run.write_receipt(outcome)


class Answers:
    """Counts the answers of a job, and holds it to one for every item."""

    def __init__(self, items: list[Item], progress: Progress, doubt: Callable[[], None] = lambda: None) -> None:
        """`doubt` is called for each item that could not be read, and may raise what ends the task."""
        self.items = items
        self.waiting = {item.key: item for item in items}
        self.failures: list[Failure] = []
        self.ok = self.unread = 0
        self.progress, self.doubt = progress, doubt

    def batches(self, answers: Iterator[pa.RecordBatch | Failure]) -> Iterator[pa.RecordBatch]:
        """Pass the rows on; keep the failures. Raises ValueError for an answer nobody asked for."""
        for answer in answers:
            if isinstance(answer, Failure):
                self._take(answer.key)
                self.failures.append(answer)
                if answer.passing:
                    self.unread += 1
                    self.doubt()
            elif answer.num_rows:
                for key, version in zip(*(answer.column(name).to_pylist() for name in ("key", "version")), strict=True):
                    if self._take(str(key)).version != version:
                        raise ValueError(f"the job gave {key!r} the version {version!r}, which is not the item's")
                self.ok += answer.num_rows
                yield answer
            self.progress(self.ok, len(self.failures))

    def _take(self, key: str) -> Item:
        if (item := self.waiting.pop(key, None)) is None:
            raise ValueError(f"the job answered for {key!r}, which was not asked or was answered before")
        return item

    def all_failures(self) -> list[Failure]:
        """The failures, with one for every item the job forgot."""
        forgotten = [
            Failure(item.key, item.version, "job", "Unanswered", "the job gave no answer for this item")
            for item in self.waiting.values()
        ]
        return self.failures + forgotten


def write_failures(table: Table, name: str, run: str, failures: list[Failure]) -> list[dict[str, object]]:
    """Write a fragment of the failures table; nothing for no failures."""
    if not failures:
        return []
    now = datetime.now(UTC)
    rows = [
        {
            "table": name,
            "key": failure.key,
            "version": failure.version,
            "stage": failure.stage,
            "error": failure.error,
            "message": failure.message,
            "run": run,
            "when": now,
        }
        for failure in failures
    ]
    return table.write(iter(pa.Table.from_pylist(rows, schema=FAILURES).to_batches()))


def _existing(database: str, name: str) -> Table:
    if table := Table.open(database, name):
        return table
    raise StorageError(f"There is no table '{name}' in {database}.")
