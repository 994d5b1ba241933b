"""What happens in a worker, wherever it runs: a process of this machine, a Ray actor, an AWS Batch container.

A worker needs two words, the database and the run's id; the rest is in `run.json`.

    manifest ──▶ items ──work──▶ detail rows ─────▶ fragments of detail tables  ┐
                            ├──▶ record batches ──▶ a fragment of the table     ├──▶ receipt
                            └──▶ failures ────────▶ a fragment of the failures  ┘
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from fanfold.core.details import Collected
from fanfold.core.runs import Outcome, RunDirectory, Status, Task
from fanfold.core.table import FAILURES, Table
from fanfold.errors import Damaged, FanfoldError, StorageError, UsageError
from fanfold.job import Detail, Failure, Item, details_of
from fanfold.source import Places, worker_source
from fanfold.storage import first_line

Progress = Callable[[int, int], None]
"""Called with how many items of the task are done and have failed so far."""


class Worker:
    """Holds what is costly to set up, and performs tasks of one run."""

    def __init__(self, database: str, run: str) -> None:
        absent = StorageError(f"There is no run {run} in {database}.")
        try:
            # A worker that starts while its run is being removed (a plan that was stopped) must not make it again.
            self.run = RunDirectory(database, run, create=False)
        except StorageError as error:
            raise absent from error
        asked = self.run.asked
        if not asked.id:
            raise absent
        self.table_name = asked.table
        self.rows = _existing(database, self.table_name)
        self.failures = _existing(database, "failures")
        self.places = Places(asked.sources)
        job = asked.load_job()
        self.source = worker_source(job, asked.root, asked.sources)
        if dict(job.recipe()) != asked.recipe:
            raise UsageError(
                f"This worker's fanfold would give other results than run {run} asks for. "
                "Install the same version on all machines."
            )
        self.details = {name: _existing(database, f"{self.table_name}_{name}") for name in details_of(job)}
        self.work = job.open()
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def perform(self, task: Task, progress: Progress = lambda _ok, _failed: None) -> Outcome:
        """Do a task and leave its receipt. Never raises for what happens to the task: that is its outcome."""
        started = time.time()
        try:
            if receipt := self.run.receipt(task.number):
                return receipt
            return self._perform(task, started, progress)
        except Exception as error:
            fatal = isinstance(error, StorageError) and not isinstance(error, Damaged)
            status: Status = "unusable" if fatal else "failed"
            why = str(error) if isinstance(error, FanfoldError) else f"{type(error).__name__}: {first_line(error)}"
            return self._outcome(task, status, started, error=why)

    def _outcome(self, task: Task, status: Status, started: float, **more: Any) -> Outcome:
        more |= {"started": started, "ended": time.time(), "worker": self.name}
        return Outcome(task.number, task.attempt, task.items, status, **more)

    def _perform(self, task: Task, started: float, progress: Progress) -> Outcome:
        details = Collected(self.details) if self.details else None
        answers = Answers(self.run.read_manifest(task.number), progress, self.places.doubt, details)
        before = dict(self.work.seconds)
        rows = self.rows.write(self._counted(answers))
        if answers.unread:
            self.places.check()
        failures = write_failures(self.failures, self.table_name, self.run.id, answers.all_failures())
        spent = {stage: s - before.get(stage, 0.0) for stage, s in self.work.seconds.items()}
        spent["write"] = max(0.0, time.time() - started - sum(spent.values()))  # and all else that is not the job's
        outcome = self._outcome(
            task,
            "done",
            started,
            ok=answers.ok,
            failed=task.items - answers.ok,
            unread=answers.unread,
            rows=rows,
            failures=failures,
            details=details.end() if details else {},
            seconds={stage: round(s, 4) for stage, s in spent.items()},
        )
        return self.run.write_receipt(outcome)

    def _counted(self, answers: "Answers") -> Iterator[pa.RecordBatch]:
        """The rows that answer the items of a task; with their counts of detail rows, if the job has such."""
        schema = self.rows.dataset.schema
        for batch in answers.batches(self.work(answers.items, self.source)):
            yield answers.details.counted(batch, schema) if answers.details else batch


class Answers:
    """Counts the answers of a job, and holds it to one for every item."""

    def __init__(
        self,
        items: list[Item],
        progress: Progress,
        doubt: Callable[[], None] = lambda: None,
        details: Collected | None = None,
    ) -> None:
        """`doubt` is called for each item that could not be read, and may raise what ends the task."""
        self.items = items
        self.waiting = {item.key: item for item in items}
        self.failures: list[Failure] = []
        self.ok = self.unread = 0
        self.progress, self.doubt, self.details = progress, doubt, details

    def batches(self, answers: Iterator[pa.RecordBatch | Failure | Detail]) -> Iterator[pa.RecordBatch]:
        """Pass the rows on; keep the failures and the details. Raises ValueError for an answer nobody asked for."""
        for answer in answers:
            if isinstance(answer, Detail):
                self._keep(answer)
            elif isinstance(answer, Failure):
                self._take(answer.key)
                if self.details:
                    self.details.drop(answer.key)
                self.failures.append(answer)
                if answer.passing:
                    self.unread += 1
                    self.doubt()
            elif answer.num_rows:
                for key, version in zip(*(answer.column(name).to_pylist() for name in ("key", "version")), strict=True):
                    if self._take(str(key)).version != version:
                        raise ValueError(f"the job gave {key!r} the wrong version, {version!r}")
                self.ok += answer.num_rows
                yield answer
            self.progress(self.ok, len(self.failures))

    def _keep(self, detail: Detail) -> None:
        """Take detail rows, all of one item that waits for its row."""
        named = [detail.rows.column(name).unique().to_pylist() for name in ("key", "version")]
        if not len(detail.rows):
            return
        if not self.details:
            raise ValueError(f"the job gave details called {detail.name!r}, but it has no details()")
        if any(len(values) > 1 for values in named):
            raise ValueError(f"the job gave details of several items at once: {named[0][:2]}")
        key, version = (str(values[0]) for values in named)
        if (item := self.waiting.get(key)) is None:
            raise ValueError(f"the job gave details of {key!r}, which is not in the task or was answered before")
        if item.version != version:
            raise ValueError(f"the job gave {key!r} the wrong version, {version!r}")
        self.details.add(detail.name, detail.rows, key)

    def _take(self, key: str) -> Item:
        if (item := self.waiting.pop(key, None)) is None:
            raise ValueError(f"the job answered for {key!r}, which is not in the task or was answered before")
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
    rows = [{"table": name, **_as_text(asdict(failure)), "run": run, "when": now} for failure in failures]
    return table.write(iter(pa.Table.from_pylist(rows, schema=FAILURES).to_batches()))


def _as_text(failure: dict[str, str]) -> dict[str, str]:
    """A failure that can be stored: the text of an error may have the surrogates that stand for undecodable bytes."""
    texts = {name: failure[name].encode(errors="backslashreplace").decode() for name in ("stage", "error", "message")}
    return failure | texts


def _existing(database: str, name: str) -> Table:
    if table := Table.open(database, name):
        return table
    raise StorageError(f"There is no table '{name}' in {database}.")
