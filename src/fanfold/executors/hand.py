"""A hand: one worker process, at the other end of a pipe from whoever has work for it.

    executor ── hand ══pipe══ worker process      sends a task, then listens until its outcome;
                                                  a worker that dies is an outcome, too, and is replaced

A process of its own, since a picture that crashes its decoder must not take the run with it. A plain subprocess of
`python -m fanfold.executors.hand` rather than multiprocessing's, since those import the caller's script again
and so need the `if __name__ == "__main__"` that scripts and notebooks forget.

A worker dies with whoever holds its hand: its pipe ends, and the thread that listens there ends the process.
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
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from typing import Any

from fanfold import errors
from fanfold.errors import FanfoldError
from fanfold.executors import TaskProgress
from fanfold.runs import Outcome, Task

PROGRESS_EVERY = 0.2
"""Seconds between two messages of a worker's progress."""

_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "MALLOC_ARENA_MAX",
)
"""What tells libraries how many threads a worker's cores are good for: left alone, each would start one for every core
of the machine, and so would glibc with its arenas."""


class Hand:
    """Holds a worker process of one run, which starts when there is a first task for it."""

    def __init__(self, database: str, run: str, cpus: int = 1) -> None:
        self.database, self.run, self.cpus = database, run, cpus
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self.starting = threading.Lock()
        self.aborting = threading.Lock()
        self.at_work = False
        self.aborted = ""

    def perform(self, task: Task, progress: TaskProgress) -> Outcome:
        """Have a task performed. Raises FanfoldError if no worker can ever start, or after `stop`."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        started = time.time()
        self.said.seek(0)
        self.said.truncate()  # so that what a crash leaves behind is of this task
        try:
            self.at_work = True
            self.pipe.send_bytes(json.dumps(asdict(task)).encode())
            while True:
                kind, content = json.loads(self.pipe.recv_bytes())
                if kind == "progress":
                    progress(task.number, *content)
                elif kind == "outcome":
                    outcome = Outcome(**content)
                    break
        except (EOFError, OSError):
            number, attempt, items = task.number, task.attempt, task.items
            why = self._last_words()
            return Outcome(number, attempt, items, "crashed", started=started, ended=time.time(), error=why)
        finally:
            with self.aborting:
                self.at_work = False
        if outcome.status == "failed":  # perhaps it is the worker that is sick, and would fail the next ones, too
            self._end()
        return outcome

    def abort(self, why: str) -> None:
        """End the worker if it is at a task, which has then crashed for this reason; the next one gets another."""
        with self.aborting:
            if self.at_work and self.process:
                self.aborted = why
                self.process.kill()
                self.process.wait()

    def stop(self) -> None:
        """End the worker now. Half-written fragments are litter; whole ones are in receipts."""
        with self.starting:
            self.stopped = True
        self._end()

    def _end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

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
        self.aborted = ""
        command = [sys.executable, "-X", "faulthandler", "-m", __name__]
        with theirs:
            return subprocess.Popen(
                [*command, str(theirs.fileno()), self.database, self.run],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.said,
                stderr=self.said,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, sys.path))
        return os.environ | dict.fromkeys(_THREADED, str(self.cpus)) | {"PYTHONPATH": path}

    def _last_words(self) -> str:
        """How the process ended, and the beginning of what it said (the cause comes before the backtrace)."""
        assert self.process is not None
        code = self.process.wait()
        how = self.aborted or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}")
        self.said.seek(0)
        said = " ".join(self.said.read(4096).decode(errors="replace").split())
        return f"{how}: {said[:300]}" if said else how


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
