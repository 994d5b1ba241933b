"""A job whose items script their own faults: a file's text is what happens to the worker that reads it."""

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

from fanfold import Detail, Failure, FanfoldError, Item, Opener
from fanfold.job import detail_key_field, key_field

SCHEMA = pa.schema(
    [key_field(), pa.field("version", pa.string(), nullable=False), pa.field("text", pa.string())],
)


WORDS = pa.schema(
    [
        detail_key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("place", pa.int32()),
        pa.field("word", pa.string()),
    ]
)
LETTERS = pa.schema(
    [detail_key_field(), pa.field("version", pa.string(), nullable=False), pa.field("letter", pa.string())]
)


@dataclass(frozen=True)
class Scripted:
    """Keeps each file's text, unless the text says otherwise."""

    name: ClassVar[str] = "scripted"
    suffixes: ClassVar[frozenset[str]] = frozenset({".txt", ".md"})

    recipe_name: str = "plain"
    pause: float = 0.0
    """Seconds per item."""
    open_error: str = ""
    """The error that `open` raises, if any."""
    reason: str = "told to fail"
    failing: bool = False
    """Whether every item fails."""
    memory: int = 0
    """Bytes that a worker may use beyond its memory when it opens the job; 0 for no limit."""

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
class Detailed(Scripted):
    """The same with two detail tables: a row per word, and a row per letter of texts with an even number of words."""

    def details(self) -> dict[str, pa.Schema]:
        return {"words": WORDS, "letters": LETTERS}

    def open(self) -> "Work":
        super().open()
        return DetailedWork(self)


@dataclass(frozen=True)
class Marked(Scripted):
    """The same, but it records which process opens it."""

    marks: str = ""
    """A file with the process's id on a line for each time."""

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
            case ["wait", marker]:  # until the test has finished its part
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


class DetailedWork(Work):
    """Gives the details, in two parts, before any answer."""

    def _answer(self, item: Item, text: str) -> Iterator[pa.RecordBatch | Failure]:
        yield from details_of_text(item.key, item.version, text)  # type: ignore[misc]
        yield from super()._answer(item, text)


def details_of_text(key: str, version: str, text: str) -> Iterator[Detail]:
    """The details of an item whose row has this text."""
    words, letters = detail_rows(key, version, text)
    half = len(words) // 2
    for part in (words[:half], words[half:]):
        yield Detail("words", pa.RecordBatch.from_pylist(part, schema=WORDS))
    yield Detail("letters", pa.RecordBatch.from_pylist(letters, schema=LETTERS))


def detail_rows(key: str, version: str, text: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The rows of both detail tables that belong to a text."""
    known = {"key": key, "version": version}
    words = text.split()
    letters = text if len(words) % 2 == 0 else ""
    return (
        [known | {"place": place, "word": word} for place, word in enumerate(words)],
        [known | {"letter": letter} for letter in letters],
    )


def swell() -> None:
    """Use up memory until the process is ended, or 12 GiB."""
    hoard = []
    for _ in range(192):
        hoard.append(bytearray(b"x") * (64 << 20))
        time.sleep(0.01)


def end_with_parent() -> None:
    """End this process when the parent's end of the pipe is closed."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    swell()
