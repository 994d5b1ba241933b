"""Shared helpers of the core's tests: running a job to its end, reading the tables, and doing things concurrently."""

import contextlib
import fcntl
import functools
import http.server
import os
import pickle
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

import fanfold
import nursery
from fanfold import Report
from fanfold.core.executor import TaskProgress
from fanfold.core.ledger import Ledger
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.core.table import Table
from fanfold.core.worker import Worker
from fanfold.job import Job, spec
from fanfold.source import Folder, Source
from jobs import SCHEMA, Scripted

TXT = frozenset({".txt"})


def free_port() -> int:
    """A free port, which stays free, for a server that cannot choose one by itself and report it.

    It is below the ports that the system assigns automatically, and locked against other processes that use this
    function, so that it is still free when the server starts.
    """
    locks = Path(tempfile.gettempdir(), f"fanfold-ports-{os.getuid()}")
    locks.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(range(12_000, 32_000), 1000):
        lock = os.open(locks / str(port), os.O_CREAT | os.O_RDWR)  # this process holds it until it ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            os.close(lock)
    raise RuntimeError("no port is free")


class Here:
    """The simplest executor: it performs tasks in this process, one after the other."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def reach(self, _job: Job, source: Source, _database: str) -> Source:
        return source

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        worker = Worker(run.database, run.id)
        for task in tasks:
            yield worker.perform(task, functools.partial(progress, task.number))


def begun(folder: Path, database: str, tasks: list[list[str]], job: Scripted | None = None) -> RunDirectory:
    """A run whose tasks have items with these texts, which script what happens to the worker."""
    job = job or Scripted()
    for task, items in enumerate(tasks):
        for number, text in enumerate(items):
            file = folder / f"{task}" / f"{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    Ledger.create(database, job.name, job, str(folder), "key")
    run = RunDirectory.create(
        database, job=spec(job), recipe=dict(job.recipe()), table=job.name, root=str(folder), options={}
    )
    for task in range(len(tasks)):
        source = Folder(str(folder), f"{task}")
        run.write_manifest(task, sorted(source.list(TXT), key=lambda item: item.key))
    return run


def tasks_of(tasks: list[list[str]]) -> Iterator[Task]:
    """The tasks to hand out."""
    return (Task(number, len(items)) for number, items in enumerate(tasks))


def ignore(*_: object) -> None:
    """Ignore the progress."""


def embed(source: object, database: str, job: Any = None, **options: Any) -> Report:
    """Run a job to its end in this process; return its report."""
    run = fanfold.run(job or Scripted(), source=str(source), database=database, executor=Here(), **options)
    for _ in run:
        pass
    return run.report


def rows(database: str, table: str = "scripted") -> dict[str, dict[str, Any]]:
    """A table's rows by key; no key may be there twice."""
    found = fanfold.open_table(database, table).to_table().to_pylist()
    assert len({row["key"] for row in found}) == len(found)
    return {row["key"]: row for row in found}


def texts_of(database: str, table: str = "scripted") -> dict[str, str]:
    """The texts of a table by key."""
    return {key: row["text"] for key, row in rows(database, table).items()}


def failures(database: str) -> dict[str, dict[str, Any]]:
    """The failures by key; no key may be there twice."""
    return rows(database, "failures")


def batch(some: dict[str, str], version: str = "1") -> pa.RecordBatch:
    """A batch of keys and texts, all at one version."""
    listed = [{"key": key, "version": version, "text": text} for key, text in some.items()]
    return pa.RecordBatch.from_pylist(listed, schema=SCHEMA)


def written(table: Table, some: dict[str, str], version: str = "1") -> list[dict[str, Any]]:
    """The uncommitted fragments of keys and texts."""
    return table.write(iter([batch(some, version)]))


STARTED = """
import pickle, sys
what, arguments = pickle.loads(bytes.fromhex(sys.argv[1]))
print(end="ready", flush=True)
sys.stdin.read()
what(*arguments)
"""


def together(what: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call `what` with each of the arguments at the same time, each in a new process; all must succeed."""
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, "-c", STARTED, pickle.dumps((what, some)).hex()] for some in arguments]
    with contextlib.ExitStack() as ended:
        processes = [ended.enter_context(nursery.Popen(command, **options)) for command in commands]
        for process in processes:
            assert process.stdout.read(5) == b"ready"
        for process in processes:
            process.stdin.close()
        assert [process.wait(300) for process in processes] == [0] * len(processes)


@contextlib.contextmanager
def watching(look: Callable[[], object]) -> Iterator[list[object]]:
    """Look repeatedly in a thread; the list is complete when the block has ended."""
    seen: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address of a web server for a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def workers_of(run: str) -> list[psutil.Process]:
    """The processes that work for a run, whatever their parent is."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):  # a zombie does not count, either
            if run.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(psutil.Process(pid))
    return found


def changed(file: Path, text: str) -> None:
    """Change a file's content, and give it a new modification time."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1_000_000, before + 1_000_000))
