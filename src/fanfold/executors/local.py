"""The local executor: one worker process a core, each tended by a thread of the driver.

    driver ── thread 1 ══pipe══ worker process 1       a thread sends a task, then listens until its outcome;
           ├─ thread 2 ══pipe══ worker process 2       a worker that dies is an outcome, too, and is replaced
           └─ ...

Processes, since a picture that crashes its decoder must not take the run with it. Plain subprocesses of
`python -m fanfold.executors.local` rather than multiprocessing's, since those import the caller's script again
and so need the `if __name__ == "__main__"` that scripts and notebooks forget.

A worker dies with its driver: its pipe ends, and the thread that listens there ends the process.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from fanfold import errors
from fanfold.errors import FanfoldError, UsageError
from fanfold.executors import TaskProgress
from fanfold.runs import Outcome, RunDirectory, Task

PROGRESS_EVERY = 0.2
"""Seconds between two messages of a worker's progress."""

# A worker has one core: libraries that start a thread a core would multiply, and so would glibc's arenas.
_THRIFT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LANCE_CPU_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}


class Local:
    """Runs tasks on this machine's cores."""

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"A run needs at least one worker, not {workers}.")
        self.workers = workers or cores()

    @classmethod
    def open(cls, where: str, workers: int | None) -> "Local":
        """See `open_executor`."""
        if where:
            raise UsageError(f"The executor 'local' is this machine; it has no '{where}'.")
        return cls(workers)

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`. Workers start when there is a task for them."""
        results: queue.Queue[Outcome | BaseException | None] = queue.Queue()
        hands = [_Hand(run, tasks, progress, results) for _ in range(self.workers)]
        for hand in hands:
            threading.Thread(target=hand.tend, daemon=True).start()
        working = len(hands)
        try:
            while working:
                match results.get():
                    case None:
                        working -= 1
                    case Outcome() as outcome:
                        yield outcome
                    case BaseException() as error:
                        raise error
        finally:
            for hand in hands:
                hand.stop()


class _Hand:
    """One thread of the driver and the worker process it tends."""

    def __init__(
        self,
        run: RunDirectory,
        tasks: Iterator[Task],
        progress: TaskProgress,
        results: "queue.Queue[Outcome | BaseException | None]",
    ) -> None:
        self.run, self.tasks, self.progress, self.results = run, tasks, progress, results
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self.starting = threading.Lock()

    def tend(self) -> None:
        """Take tasks and have them performed, until there are none."""
        try:
            for task in self.tasks:
                self.results.put(self._perform(task))
                if self.stopped:
                    return
        except BaseException as error:
            self.results.put(error)
        finally:
            self.stop()
            self.results.put(None)

    def stop(self) -> None:
        """End the worker now. Half-written fragments are litter; whole ones are in receipts."""
        with self.starting:
            self.stopped = True
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _perform(self, task: Task) -> Outcome:
        if self.process is None or self.process.poll() is not None:
            self._start()
        started = time.time()
        self.said.seek(0)
        self.said.truncate()  # so that what a crash leaves behind is of this task
        try:
            self.pipe.send_bytes(json.dumps(asdict(task)).encode())
            while True:
                kind, content = json.loads(self.pipe.recv_bytes())
                if kind == "progress":
                    self.progress(task.number, *content)
                elif kind == "outcome":
                    return Outcome(**content)
        except (EOFError, OSError):
            number, attempt, items = task.number, task.attempt, task.items
            why = self._last_words()
            return Outcome(number, attempt, items, "crashed", started=started, ended=time.time(), error=why)

    def _start(self) -> None:
        """Start a worker process and wait until it is ready. Raises FanfoldError if it can never be."""
        for _ in range(2):  # one that is killed while starting gets a second chance
            with self.starting:  # so that `stop` either prevents the process or ends it
                if self.stopped:
                    raise FanfoldError("The run was stopped.")
                try:
                    self.process = self._spawn()
                except OSError as error:  # no more processes, memory or open files; no room for its words
                    raise FanfoldError(f"A worker cannot start: {error}") from error
            try:
                kind, content = json.loads(self.pipe.recv_bytes())
            except (EOFError, OSError):
                continue
            if kind == "ready":
                return
            raise _error_from(content)
        raise FanfoldError(f"A worker cannot start: {self._last_words()}")

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.pipe, theirs = Pipe()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-X", "faulthandler", "-m", __name__]
        with theirs:
            return subprocess.Popen(
                [*command, str(theirs.fileno()), self.run.database, self.run.id],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=self.said,
                env=os.environ | _THRIFT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )

    def _last_words(self) -> str:
        """How the process ended, and the beginning of what it said (the cause comes before the backtrace)."""
        assert self.process is not None
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.said.seek(0)
        said = " ".join(self.said.read(4096).decode(errors="replace").split())
        return f"{how}: {said[:300]}" if said else how


def cores() -> int:
    """The cores this process may use: its affinity, cut down to the quota of its control group (Linux)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


def _error_from(content: list[Any]) -> FanfoldError:
    """The error a worker met while starting, as raised there."""
    name, args = content
    kind = getattr(errors, name, None)
    return kind(*args) if kind else FanfoldError(f"A worker cannot start: {name}: {' '.join(map(str, args))}")


def serve(pipe: Connection, database: str, run: str) -> None:
    """Be a worker: perform the tasks that come through the pipe, until it ends."""
    inbox: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    try:
        from fanfold.worker import Worker  # here, so that an error while importing reaches the driver

        worker = Worker(database, run)
    except Exception as error:
        _send(pipe, "error", [type(error).__name__, [str(arg) for arg in error.args]])
        return
    _send(pipe, "ready", None)
    while True:
        task = Task(**json.loads(inbox.get()))
        last = time.monotonic()

        def progress(ok: int, failed: int) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_EVERY:
                last = time.monotonic()
                _send(pipe, "progress", [ok, failed])

        _send(pipe, "outcome", asdict(worker.perform(task, progress)))


def _listen(pipe: Connection, inbox: "queue.Queue[bytes]") -> None:
    try:
        while True:
            inbox.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # the driver is gone; whatever is half done will be done again


def _send(pipe: Connection, kind: str, content: Any) -> None:
    pipe.send_bytes(json.dumps([kind, content]).encode())


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3])
