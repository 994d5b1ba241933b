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

Everything is written once and small; any worker anywhere may perform any task, twice if need be: the first
receipt counts, and fragments without a receipt are invisible litter (`Table.optimize` sweeps it).

A power cut may leave a file of these that is empty, cut off or full of zeros. Such a file counts as none, whichever
it is: what was in it is found out again, or done again.
"""

import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore

from fanfold import storage
from fanfold.errors import Damaged, StorageError, UsageError
from fanfold.job import Item
from fanfold.storage import errors_of, exists, join, open_store

ALIVE_EVERY = 20.0
"""Seconds between two signs of life of a driver."""
DEAD_AFTER = 120.0
"""Seconds of silence after which a run counts as dead."""
DETACHED_DEAD_AFTER = 7 * 86400.0
"""The same, of one that goes on without its driver: its tasks may wait for machines for days."""

_COLUMNS: "list[pa.Field[Any]]" = [
    pa.field("key", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("version", pa.string()),
    pa.field("path", pa.string()),
]
_MANIFEST = pa.schema(_COLUMNS)

_NEEDED: Mapping[str, Mapping[str, type]] = {
    "plan.json": dict.fromkeys(("listed", "planned", "bytes", "tasks"), int),
    "report.json": {"run": str, "ended": str, **dict.fromkeys(("listed", "unchanged", "ok", "failed"), int)},
    "receipts": {"status": str, **dict.fromkeys(("task", "attempt", "items", "ok", "failed"), int)},
    "jobs.json": {"executor": str, "jobs": list},
    "lost": {"items": int, "error": str},
}
"""What a file must say, or it is torn: its name, or its folder's, and the types of its values."""
_POSSIBLE: Mapping[str, Mapping[str, type]] = {
    "run.json": {"table": str, "driver": dict, "job": dict, "options": dict},
    "plan.json": {"unchanged": int, "failed_before": int, "left_out": dict},
    "report.json": {"left_out": dict, "stages": dict, "mirror": dict, "reasons": dict, "unread": int},
    "receipts": {"rows": list, "failures": list, "seconds": dict, "unread": int},
}
"""The same of values that may be absent."""


@dataclass(frozen=True, slots=True)
class Task:
    """The unit of retry and commit: a slice of the items, listed in its manifest."""

    number: int
    items: int
    attempt: int = 1


Status = Literal["done", "failed", "unusable", "crashed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a task ended. A successful one is also its receipt."""

    task: int
    attempt: int
    items: int
    status: Status
    """`failed`: the task raised; `unusable`: the database took no fragment, or the source was gone; `crashed`: its
    worker died."""
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
    """Of the items that failed, those that could not be read: the next run tries them again."""


class RunDirectory:
    """One run's directory."""

    def __init__(self, database: str, id: str) -> None:
        self.database, self.id = database, id
        self.address = join(database, "_runs", id)
        self.store: ObjectStore = open_store(self.address, create=True)

    @classmethod
    def create(cls, database: str, **asked: Any) -> "RunDirectory":
        """Begin a run's directory by writing down what was asked."""
        pid = os.getpid()
        driver = {"machine": _machine(), "pid": pid, "began": _began(pid)}
        while True:
            now = datetime.now(UTC)
            # The last four digits are 65,536ths of a second, so that ids sort by when their runs began.
            run = cls(database, f"{now:%Y-%m-%dT%H-%M-%S}-{now.microsecond * 2**16 // 10**6:04x}")
            run.sign_of_life()  # before there is a run that could be taken for dead
            content = {"id": run.id, "started": now.isoformat(), "driver": driver, **asked}
            if run.put("run.json", content, create=True):  # else another run has begun in the same instant
                return run

    def put(self, name: str, content: Mapping[str, Any], *, create: bool = False) -> bool:
        """Write a JSON file; with `create`, only if it is absent. Returns whether it was written."""
        data = json.dumps(content, ensure_ascii=False).encode()
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
        return content if _is_whole(name, content) else None

    def write_manifest(self, number: int, items: Sequence[Item]) -> Task:
        """Write down the items of a task, for whichever worker performs it."""
        columns = [list(map(attrgetter(name), items)) for name in _MANIFEST.names]
        buffer = io.BytesIO()
        # No dictionaries, no statistics: hardly a value comes twice, and nobody searches a manifest.
        table = pa.table(columns, schema=_MANIFEST)
        pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
        with errors_of(self.address):
            self.store.put(f"tasks/{number:06d}.parquet", buffer.getvalue())
        return Task(number, len(items))

    def read_manifest(self, number: int) -> list[Item]:
        """The items of a task. Raises Damaged when they cannot be made out, StorageError when they cannot be had."""
        name = f"tasks/{number:06d}.parquet"
        with errors_of(self.address):
            data = bytes(self.store.get(name).bytes())
        try:
            columns = pq.read_table(pa.BufferReader(data)).select(_MANIFEST.names).cast(_MANIFEST).to_pydict()
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise Damaged(f"{join(self.address, name)} is damaged: {storage.first_line(error)}") from error
        return [Item(*row) for row in zip(*(columns[name] for name in _MANIFEST.names), strict=True)]

    def write_receipt(self, outcome: Outcome) -> Outcome:
        """Make `outcome` the receipt of its task, unless there is one; return the one that counts."""
        name = f"receipts/{outcome.task:06d}.json"
        if self.put(name, asdict(outcome), create=True):
            return outcome
        if earlier := self.receipt(outcome.task):
            return earlier
        self.put(name, asdict(outcome))  # over a torn one; of several writers any may win, as all did the same items
        return outcome

    def receipt(self, number: int) -> Outcome | None:
        """The receipt of a task, if it has one."""
        content = self.get(f"receipts/{number:06d}.json")
        return _outcome(content) if content and content["task"] == number else None

    def withdraw(self, outcome: Outcome) -> None:
        """Take a task's receipt away, whose fragments cannot be used, and keep the reason: it has not been done."""
        with errors_of(self.address), suppress(FileNotFoundError, NotFoundError):
            self.store.delete(f"receipts/{outcome.task:06d}.json")
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
            if name == f"receipts/{content['task']:06d}.json":
                yield _outcome(content)

    def _contents(self, folder: str, seen: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The names and contents of a folder's files that are whole and not `seen`, to which their names are added."""
        with errors_of(self.address), ThreadPoolExecutor(8) as pool:
            for chunk in self.store.list(folder, chunk_size=256):
                new = [meta["path"] for meta in chunk if meta["path"] not in seen]
                for name, content in zip(new, pool.map(self.get, new), strict=True):
                    if content:
                        seen.add(name)
                        yield name, content

    def stop(self, why: str = "") -> None:
        """Say that nobody drives this run any more, though the process that did may live on, and why."""
        self.put("stopped.json", {"why": why[:1000]})

    def sign_of_life(self) -> None:
        """Touch `alive`."""
        self.put("alive", {})

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Give signs of life while the block runs."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(ALIVE_EVERY):
                with suppress(StorageError):
                    self.sign_of_life()

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            stop.set()

    def is_alive(self) -> bool:
        """Whether a run without a report is still being driven."""
        if self.get("stopped.json") is not None:
            return False
        asked = self.get("run.json") or {}
        driver = asked.get("driver", {})
        detached = asked.get("detached") and self.get("jobs.json") is not None  # until then it needs its driver
        if not detached and driver.get("machine") and driver["machine"] == _machine():
            return bool(driver.get("began") == _began(driver.get("pid", 0)))
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
        with errors_of(self.address):
            try:
                return self.store.head(name)["last_modified"]
            except (FileNotFoundError, NotFoundError):
                return None


def _is_whole(name: str, content: object) -> bool:
    """Whether what a file says is what such a file says."""
    kind = name if name in _NEEDED or name in _POSSIBLE else name.partition("/")[0]
    if not isinstance(content, dict):
        return False
    needed, possible = _NEEDED.get(kind, {}), _POSSIBLE.get(kind, {})
    return (
        all(isinstance(content.get(key), what) for key, what in needed.items())
        and all(isinstance(content[key], what) for key, what in possible.items() if key in content)
        and (kind != "receipts" or all(map(_is_fragment, [*content.get("rows", []), *content.get("failures", [])])))
    )


def _is_fragment(content: Any) -> bool:
    """Whether this is what Lance says of a fragment: its files, at least."""
    files = content.get("files") if isinstance(content, dict) else None
    if not files or not isinstance(files, list):
        return False
    if not all(isinstance(file, dict) and isinstance(file.get("path"), str) for file in files):
        return False
    sums = content.get("crc32", files)
    return isinstance(sums, list) and len(sums) == len(files)


def _outcome(receipt: Mapping[str, Any]) -> Outcome:
    return Outcome(**{name: receipt[name] for name in Outcome.__dataclass_fields__ if name in receipt})


def _machine() -> str:
    """This machine since it was started, and this container of it: where a process id means something. Linux only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in clock ticks since the machine was started; empty if there is none of this id."""
    try:
        # Field 22 of /proc/PID/stat, see proc(5); counted from behind the name, which may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def list_runs(database: str) -> list[str]:
    """The ids of a database's runs, oldest first. Raises UsageError when there is no database."""
    if not exists(database):
        raise UsageError(f"There is no database at {database}. `fanfold images embed SOURCE {database}` makes one.")
    with errors_of(database):
        found = open_store(database).list_with_delimiter("_runs")
    return sorted(prefix.rsplit("/", 1)[-1] for prefix in found["common_prefixes"])


def find_run(database: str, id: str | None) -> RunDirectory:
    """The run called `id`, or the newest. Raises UsageError when there is none."""
    ids = list_runs(database)
    if not ids:
        raise UsageError(f"There are no runs in {database}.")
    if id is not None and id not in ids:
        raise UsageError(f"There is no run {id} in {database}. The newest is {ids[-1]}.")
    return RunDirectory(database, id or ids[-1])
