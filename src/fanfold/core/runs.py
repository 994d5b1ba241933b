"""The durable side of a run: a directory in the database that survives every crash.

    DATABASE/_runs/2026-11-22T20-18-05-4f2a/
      run.json                  what was asked; everything a worker needs to know
      tasks/000017.parquet      the manifest of a task: key, size, version, path
      plan.json                 what the listing found, and how many tasks that makes; written once it is complete
      jobs.json                 what was submitted to a cluster, if the run goes on without its driver
      receipts/000017.json      how a task ended; created once (create-if-absent), never overwritten
      splits/000017.json        the tasks that one was split into that crashed workers, of a run on a cluster
      lost/000017.json          why a task was given up
      alive, looked             touched now and then by the driver; by others, who wonder whether it lives
      stopped.json              left by a driver that ended before the run did, with the reason
      report.json               the end: written by the driver, or by a later one that found it dead
    DATABASE/_ended/2026-11-22T20-18-05-4f2a   written after a report: one listing finds the runs that need recovery

Everything is written once and small; any worker anywhere may perform any task, twice if need be: the first
receipt counts, and fragments without a receipt are invisible litter (`fanfold optimize` sweeps it).

A power cut may leave a file of these that is empty, cut off or full of zeros. Such a file counts as none, whichever
it is: what was in it is found out again, or done again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore

from fanfold import storage
from fanfold.core import driver, manifest
from fanfold.core.asked import Asked
from fanfold.core.whole import is_whole
from fanfold.errors import StorageError
from fanfold.job import Item
from fanfold.storage import errors_of, join, open_store, side_by_side

DEAD_AFTER = 120.0
"""Seconds of silence after which a run counts as dead."""
DETACHED_DEAD_AFTER = 7 * 86400.0
"""The same, of one that goes on without its driver: its tasks may wait for machines for days."""

_READS = 8  # files read at once
ENDED = "_ended"
"""The folder of the database with a file for each run that has a report."""


@dataclass(frozen=True, slots=True)
class Task:
    """The unit of retry and commit: a slice of the items, listed in its manifest."""

    number: int
    items: int
    attempt: int = 1


Status = Literal["done", "failed", "unusable", "crashed", "lost"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a task ended. A successful one is also its receipt."""

    task: int
    attempt: int
    items: int
    status: Status
    """`failed`: the task raised; `unusable`: the database took no fragment, or the source was gone; `crashed`: its
    worker process died; `lost`: the machine under it did."""
    ok: int = 0
    failed: int = 0
    rows: Sequence[dict[str, Any]] = ()
    """Uncommitted fragments of the job's table, as Lance describes them."""
    failures: Sequence[dict[str, Any]] = ()
    """Uncommitted fragments of the failures table."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Where the worker's time went, by stage."""
    started: float = 0.0
    """Unix time in seconds, as are all times here."""
    ended: float = 0.0
    worker: str = ""
    error: str = ""
    """Why the task failed; empty when it is done."""
    unread: int = 0
    """Failed items that could not be read: the next run tries them again."""
    details: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    """Uncommitted fragments of the job's detail tables, by their short names."""

    @property
    def fragments(self) -> list[dict[str, Any]]:
        """All of them, of whichever table."""
        return [*self.rows, *self.failures, *chain.from_iterable(self.details.values())]


class RunDirectory:
    """One run's directory."""

    def __init__(self, database: str, id: str, *, create: bool = True) -> None:
        """Without `create`, raises StorageError if it is not there any more."""
        self.database, self.id = database, id
        self.address = join(database, "_runs", id)
        self.store: ObjectStore = open_store(self.address, create=create)
        self.withdrawn: set[int] = set()
        """Tasks whose receipts were taken away here."""
        self._asked: Asked | None = None

    @classmethod
    def create(cls, database: str, **asked: Any) -> "RunDirectory":
        """Begin a run's directory by writing down what was asked: fields of `Asked`."""
        while True:
            now = datetime.now(UTC)
            # The last four digits are 65,536ths of a second, so that ids sort by when their runs began.
            run = cls(database, f"{now:%Y-%m-%dT%H-%M-%S}-{now.microsecond * 2**16 // 10**6:04x}")
            run.sign_of_life()  # before there is a run that could be taken for dead
            content = {"id": run.id, "started": now.isoformat(), "driver": driver.this_process(), **asked}
            if run.put("run.json", content, create=True):  # else another run has begun in the same instant
                return run

    @property
    def asked(self) -> Asked:
        """What the run was asked to do; read once, since `run.json` is never overwritten."""
        if self._asked is None:
            content = self.get("run.json")
            if content is None:  # not there yet, or torn
                return Asked()
            known = {name: content[name] for name in Asked.__dataclass_fields__ if name in content}
            self._asked = Asked(**{"id": self.id} | known)
        return self._asked

    def put(self, name: str, content: Mapping[str, Any], *, create: bool = False) -> bool:
        """Write a JSON file; with `create`, only if it is absent. Returns whether it was written."""
        data = json.dumps(content, ensure_ascii=False).encode()
        if name == "run.json":
            self._asked = None
        with errors_of(self.address):
            if create:
                return storage.create(self.store, name, data)
            self.store.put(name, data)
        return True

    def get(self, name: str) -> dict[str, Any] | None:
        """A JSON file's content, or None if there is no such file (or a torn one)."""
        with errors_of(self.address):
            try:
                content = json.loads(bytes(self.store.get(name).bytes()))
            except (FileNotFoundError, NotFoundError, ValueError, RecursionError):
                return None
        return content if is_whole(name, content) else None

    def write_manifest(self, number: int, items: Sequence[Item]) -> Task:
        """Write down the items of a task, for any worker."""
        with errors_of(self.address):
            self.store.put(_manifest(number), manifest.to_parquet(items))
        return Task(number, len(items))

    def read_manifest(self, number: int) -> list[Item]:
        """The items of a task. Raises Damaged when they cannot be made out, StorageError when they cannot be had."""
        with errors_of(self.address):
            data = bytes(self.store.get(_manifest(number)).bytes())
        return manifest.from_parquet(data, join(self.address, _manifest(number)))

    def write_receipt(self, outcome: Outcome) -> Outcome:
        """Make `outcome` the receipt of its task, unless there is one; return the one that counts."""
        if self.put(_receipt(outcome.task), asdict(outcome), create=True):
            return outcome
        if earlier := self.receipt(outcome.task):
            return earlier
        # Over a torn one. Of several writers any may win: all did the same items.
        self.put(_receipt(outcome.task), asdict(outcome))
        return outcome

    def receipt(self, number: int) -> Outcome | None:
        """The receipt of a task, if it has one."""
        content = self.get(_receipt(number))
        return _outcome(content) if content and content["task"] == number else None

    def withdraw(self, outcome: Outcome) -> None:
        """Take a task's receipt away, whose fragments cannot be used, and keep the reason: it has not been done."""
        self.withdrawn.add(outcome.task)
        with errors_of(self.address), suppress(FileNotFoundError, NotFoundError):
            self.store.delete(_receipt(outcome.task))
        self.give_up(outcome)

    def give_up(self, outcome: Outcome) -> None:
        """Write down why a task was not done."""
        lost = outcome.items - outcome.ok - outcome.failed
        self.put(f"lost/{outcome.task:06d}.json", {"items": lost, "error": outcome.error[:1000]})

    def given_up(self) -> Iterator[tuple[int, int, str]]:
        """Every task that was given up: its number, its items that are in no table, and the reason."""
        for name, content in self._contents("lost", set()):
            yield int(Path(name).stem), content["items"], content["error"]

    def receipts(self, seen: set[str] | None = None) -> Iterator[Outcome]:
        """Every receipt there is, read a few at a time; none of those in `seen`, to which their names are added."""
        for name, content in self._contents("receipts", set() if seen is None else seen):
            if name == _receipt(content["task"]):
                yield _outcome(content)

    def _contents(self, folder: str, seen: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The names and contents of a folder's files that are whole and not `seen`, to which their names are added."""
        with errors_of(self.address):
            for chunk in self.store.list(folder, chunk_size=256):
                new = [meta["path"] for meta in chunk if meta["path"] not in seen]
                for name, content in zip(new, side_by_side(self.get, new, _READS), strict=True):
                    if content:
                        seen.add(name)
                        yield name, content

    def end(self, report: Mapping[str, Any], ended: str) -> None:
        """Write the report and how the run ended: `complete`, `cancelled` or `interrupted`. Then mark it as ended."""
        self.put("report.json", {**report, "ended": ended})
        self.mark_ended()

    def mark_ended(self) -> None:
        """Let recovery pass over this run without a look at it. Only once it has a report."""
        with suppress(StorageError), errors_of(self.database):  # the next recovery looks, and marks it
            if not storage.is_url(self.address):
                storage.sync(join(self.address, "report.json"))  # a power cut may not leave the mark alone
            open_store(self.database).put(f"{ENDED}/{self.id}", b"")

    def stop(self, why: str = "") -> None:
        """Write down that this run is not driven any more, though its process may live on, and why."""
        self.put("stopped.json", {"why": why[:1000]})

    def sign_of_life(self) -> None:
        """Touch `alive`."""
        self.put("alive", {})

    def is_alive(self) -> bool:
        """Whether a run without a report is still being driven."""
        if self.get("stopped.json") is not None:
            return False
        detached = self.asked.detached and self.get("jobs.json") is not None  # until then it needs its driver
        if not detached and driver.is_here(self.asked.driver):
            return driver.lives(self.asked.driver)
        last = self._touched("alive")
        if last is None:
            return False
        self.put("looked", {})  # the store's own clock: no two machines' clocks are compared
        now = self._touched("looked")
        return now is not None and now - last < timedelta(seconds=DETACHED_DEAD_AFTER if detached else DEAD_AFTER)

    def prune(self) -> None:
        """Delete what only recovery needs, of a run that has ended."""
        with errors_of(self.address):
            for folder in ("tasks", "receipts", "lost"):
                for chunk in self.store.list(folder):
                    self.store.delete([meta["path"] for meta in chunk])

    def _touched(self, name: str) -> datetime | None:
        with errors_of(self.address), suppress(FileNotFoundError, NotFoundError):
            return self.store.head(name)["last_modified"]
        return None


def _manifest(task: int) -> str:
    return f"tasks/{task:06d}.parquet"


def _receipt(task: int) -> str:
    return f"receipts/{task:06d}.json"


def _outcome(receipt: Mapping[str, Any]) -> Outcome:
    return Outcome(**{name: receipt[name] for name in Outcome.__dataclass_fields__ if name in receipt})
