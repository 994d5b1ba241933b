"""The durable side of a run: a directory in the database that survives every crash.

    DATABASE/_runs/2026-11-22T20-18-05-4f2a/
      run.json                  what was asked; everything a worker needs to know
      tasks/000017.parquet      the manifest of a task: key, size, version, path
      plan.json                 what the listing found, and how many tasks that makes; written once it is complete
      jobs.json                 what was submitted to a cluster, if the run goes on without its driver
      receipts/000017.json      how a task ended; created once (create-if-absent), never overwritten
      splits/000017.json        the tasks that one was split into that crashed workers, of a run on a cluster
      alive, looked             touched now and then by the driver; by others, who wonder whether it lives
      stopped.json              left by a driver that was stopped before the end
      report.json               the end: written by the driver, or by a later one that found it dead

Everything is written once and small; any worker anywhere may perform any task, twice if need be: the first
receipt counts, and fragments without a receipt are invisible litter (`Table.optimize` sweeps it).
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
from fanfold.errors import StorageError, UsageError
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


@dataclass(frozen=True, slots=True)
class Task:
    """The unit of retry and commit: a slice of the items, listed in its manifest."""

    number: int
    items: int
    attempt: int = 1


Status = Literal["done", "failed", "unwritable", "crashed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a task ended. A successful one is also its receipt."""

    task: int
    attempt: int
    items: int
    status: Status
    """`failed`: the task raised; `unwritable`: the database took no fragment; `crashed`: the worker died of it."""
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
                content: dict[str, Any] = json.loads(bytes(self.store.get(name).bytes()))
            except (FileNotFoundError, NotFoundError, ValueError):
                return None
        return content

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
        """The items of a task."""
        with errors_of(self.address):
            data = bytes(self.store.get(f"tasks/{number:06d}.parquet").bytes())
        columns = pq.read_table(pa.BufferReader(data)).to_pydict()
        return [Item(*row) for row in zip(*(columns[name] for name in _MANIFEST.names), strict=True)]

    def write_receipt(self, outcome: Outcome) -> Outcome:
        """Make `outcome` the receipt of its task, unless there is one; return the one that counts."""
        if self.put(f"receipts/{outcome.task:06d}.json", asdict(outcome), create=True):
            return outcome
        return self.receipt(outcome.task) or outcome

    def receipt(self, number: int) -> Outcome | None:
        """The receipt of a task, if it has one."""
        content = self.get(f"receipts/{number:06d}.json")
        return Outcome(**content) if content else None

    def receipts(self, seen: set[str] | None = None) -> Iterator[Outcome]:
        """Every receipt there is, read a few at a time; none of those in `seen`, to which their names are added."""
        seen = set() if seen is None else seen
        with errors_of(self.address), ThreadPoolExecutor(8) as pool:
            for chunk in self.store.list("receipts", chunk_size=256):
                new = [meta["path"] for meta in chunk if meta["path"] not in seen]
                for name, content in zip(new, pool.map(self.get, new), strict=True):
                    if content:
                        seen.add(name)
                        yield Outcome(**content)

    def stop(self) -> None:
        """Say that nobody drives this run any more, though the process that did may live on."""
        self.put("stopped.json", {})

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
            return bool(driver["began"] == _began(driver["pid"]))
        last = self._touched("alive")
        if last is None:
            return False
        self.put("looked", {})  # the store's own clock: no two machines' clocks are compared
        now = self._touched("looked")
        return now is not None and now - last < timedelta(seconds=DETACHED_DEAD_AFTER if detached else DEAD_AFTER)

    def prune(self) -> None:
        """Delete what only recovery needs, of a run that has ended."""
        with errors_of(self.address):
            for folder in ("tasks", "receipts"):
                for chunk in self.store.list(folder):
                    self.store.delete([meta["path"] for meta in chunk])

    def _touched(self, name: str) -> datetime | None:
        with errors_of(self.address):
            try:
                return self.store.head(name)["last_modified"]
            except (FileNotFoundError, NotFoundError):
                return None


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
