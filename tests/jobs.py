"""A job whose items script their own faults: what a file says is what happens to the worker that reads it."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from fanfold import Failure, FanfoldError, Item, Opener
from fanfold.job import key_field

SCHEMA = pa.schema(
    [key_field(), pa.field("version", pa.string(), nullable=False), pa.field("text", pa.string())],
)


@dataclass(frozen=True)
class Scripted:
    """Keeps each file's text, unless the text says otherwise."""

    name: ClassVar[str] = "scripted"
    suffixes: ClassVar[frozenset[str]] = frozenset({".txt", ".md"})

    recipe_name: str = "plain"
    pause: float = 0.0
    """Seconds an item takes."""
    open_error: str = ""
    """What `open` raises, if anything."""
    reason: str = "told to fail"
    failing: bool = False
    """Whether every item fails."""
    memory: int = 0
    """Bytes that a worker may take beyond what it has when it opens the job; 0 for all there are."""

    def schema(self) -> pa.Schema:
        return SCHEMA

    def recipe(self) -> dict[str, str]:
        return {"recipe": self.recipe_name}

    def open(self) -> "Work":
        if self.open_error == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.open_error == "exit":
            os._exit(7)
        if self.memory:
            has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (has + self.memory, resource.RLIM_INFINITY))
        if self.open_error:
            raise FanfoldError(self.open_error)
        return Work(self)


@dataclass(frozen=True)
class Marked(Scripted):
    """The same, which writes down who opens it."""

    marks: str = ""
    """A file: a line with a process's id for every time."""

    def open(self) -> "Work":
        with open(self.marks, "a") as file:  # noqa: PTH123
            file.write(f"{os.getpid()}\n")
        return super().open()


class Work:
    def __init__(self, job: Scripted) -> None:
        self.job = job
        self.seconds: dict[str, float] = {"read": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure]:
        for item in items:
            began = time.perf_counter()
            try:
                text = source.read(item, limit=1 << 20).decode()
            except (OSError, UnicodeDecodeError) as error:
                yield Failure.of(item, "read", error)
                continue
            finally:
                self.seconds["read"] += time.perf_counter() - began
            time.sleep(self.job.pause)
            yield from self._answer(item, text)

    def _answer(self, item: Item, text: str) -> Iterator[pa.RecordBatch | Failure]:
        if self.job.failing:
            text = "fail"
        if text == "cores":
            text = os.environ["OMP_NUM_THREADS"]
        row = pa.RecordBatch.from_pylist([{"key": item.key, "version": item.version, "text": text}], schema=SCHEMA)
        match text.split():
            case ["fail", *_]:
                yield Failure(item.key, item.version, "decode", "Told", self.job.reason)
            case ["crash", *_]:
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["kill", *_]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["exit", *_]:
                os._exit(7)
            case ["hog", *_]:
                hoard = [bytes(1 << 20) for _ in range(1 << 20)]
                yield Failure(item.key, item.version, "decode", "Fed", f"{len(hoard)} MiB")
            case ["swell", *_]:
                swell()
                yield row
            case ["bear", *_]:  # a child that does the same, and ends with its parent
                subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE).wait()
                yield row
            case ["stranger", *_]:
                yield Failure("a stranger", item.version, "decode", "Told", "told to answer for another")
            case ["crash-once", marker]:
                if not os.path.exists(marker):  # noqa: PTH110
                    open(marker, "w").close()  # noqa: PTH123
                    os.kill(os.getpid(), signal.SIGKILL)
                yield row
            case ["wait", marker]:  # until the test has done what it has to do meanwhile
                while not os.path.exists(marker):  # noqa: PTH110
                    time.sleep(0.02)
                yield row
            case ["raise", *_]:
                raise RuntimeError("told to raise")
            case ["forget", *_]:
                return
            case ["twice", *_]:
                yield row
                yield row
            case _:
                yield row


def swell() -> None:
    """Take memory until something ends this process, or 12 GiB."""
    hoard = []
    for _ in range(192):
        hoard.append(bytearray(b"x") * (64 << 20))
        time.sleep(0.01)


def end_with_parent() -> None:
    """Its end of the pipe is gone when it is."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    swell()
