"""The command line for tests, in this process, or in a separate one for tests of signals, pipes or encodings."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, NamedTuple

import nursery
from fanfold.cli import exit_code

ROOT = Path(__file__).parents[1]
FANFOLD = [str(Path(sys.executable).parent / "fanfold")]


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def fanfold(*words: object, cwd: str | Path = ".") -> Done:
    """Run a command in this process, which takes three seconds less than to start one."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    path = sys.path.copy()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd):
        try:
            code = exit_code(list(map(str, words)))
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.path[:] = path  # `run JOB` adds the working directory
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def process(*words: object, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command in a separate process."""
    return subprocess.run([*FANFOLD, *map(str, words)], capture_output=True, text=True, timeout=120, **kwargs)


def example(*words: object, on: str = "local") -> "subprocess.Popen[str]":
    """Start `fanfold run examples...` in the repository's folder, as the first lines of the examples say."""
    command = [*FANFOLD, "run", *map(str, words), "--on", on, "--workers", "1", "--task-size", "4", "--json"]
    pipe = subprocess.PIPE
    return nursery.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def objects(*words: object, cwd: str | Path = ".") -> list[dict[str, Any]]:
    """The output of a command with --json, one JSON object per line."""
    return [json.loads(line) for line in fanfold(*words, "--json", cwd=cwd).stdout.splitlines()]


def on_terminal(columns: int, *args: object) -> tuple[int, list[str]]:
    """The exit code of a command on a terminal of this width, and the lines that it shows there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    shower = subprocess.Popen([*FANFOLD, *map(str, args)], env=environment | {"TERM": "xterm"}, **streams)
    os.close(theirs)
    shown = b""
    # On Linux, the end is an error (EIO): the last writer has left.
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while more := terminal.read(1 << 16):
            shown += more
    return shower.wait(60), re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
