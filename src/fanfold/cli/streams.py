"""The command line's stdout and stderr, wherever they go: a terminal, a pipe that closes, another encoding."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import SpinnerColumn

PIPE_WIDTH = 100_000
"""Columns of a stream that is not a terminal: nothing is cut off there."""


class Out(Console):
    """Stdout, whose reader may leave. Rich would exit with code 1; here `main` decides."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the BrokenPipeError that Rich is handling when it calls this."""
        raise


class Err(Console):
    """Stderr, whose reader may leave, and whose disk may be full. A run continues without it."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True
        into_nothing(2)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if stderr can be written."""
        try:
            super().print(*objects, **options)
        except OSError:
            self.on_broken_pipe()


# User text (paths, messages) is never markup: `[ray]` in a file name must stay there.
_width = None if sys.stdout and sys.stdout.isatty() else PIPE_WIDTH
out = Out(markup=False, highlight=False, emoji=False, width=_width)
err = Err(stderr=True, markup=False, highlight=False, emoji=False)
help_out, help_err = Out(), Err(stderr=True)
"""The same for Cyclopts, whose texts have markup and fill a page."""


def in_utf8() -> None:
    """Start the command again in Python's UTF-8 mode, unless Python reads file names as UTF-8 already.

    Keys are UTF-8. In another locale Python decodes a file name differently, so the same file would get another key.
    Output stays in the locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", _encoding())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def take_any_text() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # None: it is closed
            reconfigure(errors="backslashreplace")


def _encoding() -> str:
    return sys.stdout.encoding if sys.stdout else "utf-8"


def into_nothing(descriptor: int) -> None:
    """Redirect a stream to nowhere, so that Python can flush it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def even_unread() -> Iterator[None]:
    """Print in the block, or nothing more if the reader of stdout has left: what is done beside that goes on."""
    try:
        yield
    except BrokenPipeError:
        into_nothing(sys.stdout.fileno())


def put_json(content: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    if sys.stdout:  # else it is closed
        ascii_only = not _encoding().lower().startswith("utf")
        sys.stdout.write(json.dumps(content, ensure_ascii=ascii_only, default=str) + "\n")
        sys.stdout.flush()


def spinner() -> SpinnerColumn:
    """The spinner beside a progress bar."""
    return SpinnerColumn("dots" if err.encoding.lower().startswith("utf") else "line")
