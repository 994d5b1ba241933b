"""A worker process, and its parent's side of the pipe between them.

    WorkerProcess ─run, task─▶ pipe ──▶ serve()      python -m fanfold.executors.process
                  ◀───── progress, outcome           a process that dies is an outcome, too, and is replaced

Tasks are performed in a separate process because a picture that crashes its decoder must not end the run. The process
is a plain subprocess: those of multiprocessing import the caller's script again, and so need the
`if __name__ == "__main__"` that scripts and notebooks forget.

The process ends with its parent: the pipe closes, and the thread that listens to it ends the process.
"""

import gc
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from typing import Any

from fanfold import errors
from fanfold.core.executor import TaskProgress
from fanfold.core.runs import Outcome, Task
from fanfold.errors import FanfoldError

PROGRESS_EVERY = 0.2
"""Seconds between two messages of a worker's progress."""

_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LANCE_CPU_THREADS",
    "MALLOC_ARENA_MAX",
)
"""Variables that limit libraries to the threads of a worker's cores. By default each library starts a thread for every
core of the machine, and glibc makes as many arenas."""


class WorkerProcess:
    """A worker process of one run, or of several, one after the other.

    It starts at its first task, if it was not started before, and again after a crash.
    """

    def __init__(self, database: str, run: str = "", cpus: int = 1) -> None:
        self.database, self.run, self.cpus = database, run, cpus
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False
        self.starting = threading.Lock()
        self._at = ""  # the run that the process is ready for

    def ready(self, _ended: threading.Event) -> bool:
        """See `fan_out.Worker.ready`. There is always a place for it on this machine."""
        return not self.stopped

    def perform(self, task: Task, progress: TaskProgress) -> Outcome:
        """Perform a task. Raises FanfoldError if the process cannot start, or after `stop`."""
        if not self._lives() or self._at != self.run:
            self._start()
        started = time.time()
        self.output.seek(0)
        self.output.truncate()  # so that a crash's dump is of this task
        try:
            self._say("task", asdict(task))
            while True:
                kind, content = json.loads(self.pipe.recv_bytes())
                if kind == "progress":
                    progress(task.number, *content)
                elif kind == "outcome":
                    outcome = Outcome(**content)
                    break
        except (EOFError, OSError):
            number, attempt, items = task.number, task.attempt, task.items
            why = self._how_it_ended()
            return Outcome(number, attempt, items, "crashed", started=started, ended=time.time(), error=why)
        if outcome.status == "failed":  # perhaps the process is broken, and would fail the next tasks, too
            self._end()
        return outcome

    def stop(self) -> None:
        """End the process now. Half-written fragments are litter; whole ones are in receipts."""
        with self.starting:
            self.stopped = True
        self._end()

    def start(self) -> None:
        """Start the process, and do not wait until it is ready. Raises FanfoldError if it cannot start."""
        with self.starting:  # so that `stop` either prevents the process or ends it
            if self.stopped:
                raise FanfoldError("The run was stopped.")
            if not self._lives():
                try:
                    self.process = self._spawn()
                except OSError as error:  # no more processes, memory or open files; no room for its output
                    raise FanfoldError(f"A worker cannot start: {error}") from error

    def _lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _end(self) -> None:
        if self.process and self._lives():
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        """Start the process and wait until it is ready for the run. Raises FanfoldError if it cannot start."""
        for _ in range(2):  # a process that is killed while it starts gets a second try
            self.start()
            try:
                with suppress(OSError):  # it has ended, and may have said why
                    self._say("run", self.run)
                kind, content = json.loads(self.pipe.recv_bytes())
            except (EOFError, OSError):
                assert self.process is not None
                self.process.wait()
                continue
            if kind == "ready":
                self._at = self.run
                return
            raise _error_from(content)
        raise FanfoldError(f"A worker cannot start: {self._how_it_ended()}")

    def _say(self, kind: str, content: Any) -> None:
        self.pipe.send_bytes(json.dumps([kind, content]).encode())

    def _spawn(self) -> "subprocess.Popen[bytes]":
        self.pipe, theirs = Pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # -P: a file in the working directory that is called like a module of Python's own is not that module.
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", __name__]
        with theirs:
            return subprocess.Popen(
                [*command, str(theirs.fileno()), self.database, self.run],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)  # noqa: PTH109
        return os.environ | dict.fromkeys(_THREADED, str(self.cpus)) | {"PYTHONPATH": path}

    def _how_it_ended(self) -> str:
        """How the process ended, and the beginning of its output (the cause comes before the backtrace)."""
        assert self.process is not None
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.output.seek(0)
        output = " ".join(self.output.read(4096).decode(errors="replace").split())
        return f"{how}: {output[:300]}" if output else how


class Lent:
    """A worker process that goes on after this run, and is ended with it only in the middle of a task."""

    def __init__(self, process: WorkerProcess, run: str) -> None:
        self.process, self.run = process, run
        self.busy, self.stopped = False, False
        self.changing = threading.Lock()

    def ready(self, _ended: threading.Event) -> bool:
        """See `fan_out.Worker.ready`."""
        return not self.stopped

    def perform(self, task: Task, progress: TaskProgress) -> Outcome:
        """See `WorkerProcess.perform`."""
        with self.changing:
            if self.stopped:
                raise FanfoldError("The run was stopped.")
            self.busy = True
        try:
            self.process.run = self.run
            return self.process.perform(task, progress)
        finally:
            self.busy = False

    def stop(self) -> None:
        """End the work for this run now."""
        with self.changing:
            self.stopped = True
        if self.busy:
            self.process.stop()


def _error_from(content: list[Any]) -> FanfoldError:
    """The error that the process raised while it started."""
    name, args = content
    kind = getattr(errors, name, None)
    return kind(*args) if kind else FanfoldError(f"A worker cannot start: {name}: {' '.join(map(str, args))}")


def serve(pipe: Connection, database: str) -> None:
    """Be a worker process: perform the tasks that come through the pipe, until it closes."""
    inbox: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    worker: Any = None
    try:
        from fanfold.core.worker import Worker  # here, so that an error while importing reaches the driver

        while True:
            kind, content = json.loads(inbox.get())
            if kind == "run":
                worker = None  # what it holds is not needed any more
                worker = Worker(database, content)
                gc.freeze()  # modules and models: never garbage, and to look through them again takes long
                _send(pipe, "ready", None)
            else:
                _perform(worker, Task(**content), pipe)
    except Exception as error:
        _send(pipe, "error", [type(error).__name__, [str(arg) for arg in error.args]])


def _perform(worker: Any, task: Task, pipe: Connection) -> None:
    """Have a worker perform a task, and send its progress and its outcome."""
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
    serve(Connection(int(sys.argv[1])), sys.argv[2])  # the run, if one follows, is for those who list processes
