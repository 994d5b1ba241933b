"""Processes that start at once: forks of one that has loaded fanfold's libraries already.

    pytest, or a driver ──words, environment, streams──▶ nursery ──fork──▶ process
                        ◀──────── process id, exit status ──

A command takes half a second of a core to load its libraries, and the suite starts a thousand of them. A fork has its
own id, session, streams, environment and command line; it is killed like any other process. What a new interpreter
does differently (locales, limits, extras that are missing) is tested with `commands.process`, and worker processes as
users have them in tests/executors.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL as DEVNULL  # what `fanfold.executors.process` uses of the module subprocess
from typing import Any, NoReturn

HERE = Path(__file__).parent
WHERE = "FANFOLD_TEST_NURSERY"
"""The variable with the address of the nursery's socket."""
LOADED = (
    *("fanfold.api", "fanfold.cli.clusters", "fanfold.cli.jobs", "fanfold.core.worker", "fanfold.estimate.preview"),
    *("fanfold.executors.local", "fanfold.images.cli", "fanfold.aws.batch", "fanfold.aws.dynamodb.table", "faults"),
)
WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Variables with which NumPy and Arrow start no threads when they are imported."""
ROOM = 16_000
"""Bytes for the command line of a fork."""
OUT_OF_THE_WAY = 500
"""No descriptor that a fork is given has this number or a higher one."""


class Popen(subprocess.Popen):
    """A process that runs `python ...` or `fanfold ...`, with everything else that subprocess's class can do."""

    def _execute_child(
        self, args: Any, _executable: Any, _preexec: Any, _close: Any, pass_fds: Any, cwd: Any, env: Any, *rest: Any
    ) -> None:
        (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite), new_session = rest[3:9], rest[14]
        streams = [given if given != -1 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        asked = {"words": list(map(os.fspath, args)), "environment": dict(os.environ if env is None else env)}
        asked |= {"folder": str(cwd or Path.cwd()), "session": new_session, "passed": list(pass_fds)}
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as note:
            note.write(json.dumps(asked).encode())
            note.flush()
            self._told.connect(_address())
            socket.send_fds(self._told, [b"."], [note.fileno(), *streams, *pass_fds])
        self.pid = int(self._told.recv(20))
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, flags: int) -> tuple[int, int]:
        """The process's id and status, like waitpid; (0, 0) while it runs and waiting is not wanted."""
        self._told.setblocking(not flags & os.WNOHANG)
        try:
            status = self._told.recv(20)
        except BlockingIOError:
            return 0, 0
        self._told.close()
        return self.pid, int(status or 9)  # nothing: the nursery was killed

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(command: Sequence[object], timeout: float = 300, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; its streams are captured as text."""
    pipe = subprocess.PIPE
    with Popen(list(map(str, command)), stdout=pipe, stderr=pipe, text=True, **options) as process:
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _address() -> str:
    """The nursery's socket; the first call in pytest's process starts it."""
    return os.environ.get(WHERE) or _started()[0]


@functools.cache
def _started() -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start the nursery, which ends with this process."""
    address = str(Path(tempfile.mkdtemp(prefix="nursery-")) / "socket")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, __file__, address, " " * ROOM],
        env=environment | WITHOUT_THREADS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    atexit.register(_end, process, Path(address).parent)
    return address, process


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.kill()
    with process:
        shutil.rmtree(folder)


# --- the nursery ----------------------------------------------------------------------------------------------


def main(address: str) -> None:
    """Fork whenever asked, and report how the forks end, until stdin closes."""
    sys.path[0] = str(HERE)
    for name in LOADED:
        importlib.import_module(name)
    del sys.path[0]
    gc.freeze()  # so that no fork's collection touches, and so copies, what all of them share
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "a process with threads cannot be forked"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    wakes.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, selectors.DefaultSelector() as ready:
        listener.bind(address)
        listener.listen(100)
        for source in (listener, wakes, sys.stdin):
            ready.register(source, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is wakes:
                    wakes.recv(1000)
                    _reap(children)
                else:
                    asker, _ = listener.accept()
                    children[_fork(asker)] = asker


def _reap(children: dict[int, socket.socket]) -> None:
    """Tell who asked for them how children have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with children.pop(ended[0]) as asker, contextlib.suppress(OSError):
                asker.send(str(ended[1]).encode())


def _fork(asker: socket.socket) -> int:
    """Start a child; return its id."""
    _, (note, *given), _, _ = socket.recv_fds(asker, 1, 20)
    with open(note, "rb") as file:  # noqa: PTH123
        file.seek(0)
        asked = json.loads(file.read())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lance warns of forks; it has not begun anything here
        pid = os.fork()
    if not pid:
        _be_child(asker, given, **asked)
    for descriptor in given:
        os.close(descriptor)
    return pid


def _be_child(
    asker: socket.socket,
    given: list[int],
    words: list[str],
    environment: dict[str, str],
    folder: str,
    session: bool,
    passed: list[int],
) -> NoReturn:
    """Become the process that was asked for."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if session:
            os.setsid()
        _show(words)
        asker.send(str(os.getpid()).encode())
        _place(given, [0, 1, 2, *passed])
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        os.environ.setdefault(WHERE, sys.argv[1])
        time.tzset()
        tempfile.tempdir = None
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            mode, errors = "w" if number else "r", "backslashreplace" if number == 2 else None
            stream = os.fdopen(number, mode, buffering=1 if number == 2 else -1, errors=errors, closefd=False)
            setattr(sys, name, stream)
        code = _run(words)
    finally:
        with contextlib.suppress(Exception):
            threading._shutdown()
            atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
        except OSError:
            code = 120  # as Python does
        os._exit(code)


def _place(given: list[int], wanted: list[int]) -> None:
    """Give descriptors the numbers wanted, and close all others."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, OUT_OF_THE_WAY) for descriptor in given]
    os.closerange(3, OUT_OF_THE_WAY)
    for descriptor, number in zip(high, wanted, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _show(words: list[str]) -> None:
    """Replace the command line that /proc shows."""
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    line = b"".join(os.fsencode(word) + b"\0" for word in words)[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _run(words: list[str]) -> int:
    """Do what Python does with a command line; return the exit code."""
    words = words[1:] if words[0] == sys.executable else words
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    safe = False
    while words[0] in ("-P", "-X"):
        if words[0] == "-X":
            faulthandler.enable(2)
        else:
            safe = True
        words = words[2 if words[0] == "-X" else 1 :]
    if words[0] not in ("-m", "-c"):
        paths.insert(0, os.path.dirname(words[0]))  # noqa: PTH120
    elif not safe:
        paths.insert(0, os.getcwd())  # noqa: PTH109
    sys.path[:0] = filter(None, paths)
    importlib.invalidate_caches()
    import fanfold.executors.process

    fanfold.executors.process.subprocess = sys.modules[Popen.__module__]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            sys.modules.pop(words[1], None) if "." in words[1] else None
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(words[1], {"__name__": "__main__"})
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, str):
            return int(end.code or 0)
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.modules["nursery"] = sys.modules["__main__"]
    main(sys.argv[1])
