"""Mirrors for the tests: a dictionary that lets others act in between, and a file that several processes share."""

import os
import signal
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

T = TypeVar("T")

MOST = 60
"""The maximum number of characters in a text; a longer row is refused."""


class Shelf:
    """Rows by key in memory: key -> (version, text)."""

    def __init__(self, unasked: bool = False) -> None:
        self.held: dict[str, tuple[str, str]] = {}
        self.refused: dict[str, str] = {}
        self.spent: dict[str, float] = {"written": 0}
        self.unasked = unasked
        """Whether a row with an unseen key overwrites whatever is there by then, as DynamoDB's batches do."""
        self.meanwhile: Callable[[str], None] = lambda _moment: None
        """What others do at a moment: after a read (`looked`), before and after a write (`writing`, `written`)."""

    def versions(self, keys: Sequence[str]) -> dict[str, str]:
        found = {key: self.held[key][0] for key in keys if key in self.held}
        self.meanwhile("looked")
        return found

    def put(self, rows: pa.Table, seen: Mapping[str, str]) -> None:
        self.meanwhile("writing")
        for row in rows.select(["key", "version", "text"]).to_pylist():
            key = row["key"]
            if len(row["text"]) > MOST:
                self.refused[key] = f"{len(row['text'])} characters"
            elif (key not in seen and self.unasked) or self._version(key) == seen.get(key):
                self.held[key] = row["version"], row["text"]
                self.spent["written"] += 1
        self.meanwhile("written")

    def delete(self, seen: Mapping[str, str]) -> None:
        self.meanwhile("writing")
        for key, version in seen.items():
            if self._version(key) == version:
                del self.held[key]
        self.meanwhile("written")

    def _version(self, key: str) -> str | None:
        return self.held[key][0] if key in self.held else None


class FileShelf(Shelf):
    """The same in an SQLite file: `shelf://PATH`; with `?dies=FILE`, a reader dies once FILE exists."""

    @classmethod
    def open(cls, address: str, _metadata: Mapping[str, str]) -> "FileShelf":
        """See `open_mirror`."""
        return cls(address)

    def __init__(self, address: str) -> None:
        super().__init__()
        self.path = urlsplit(address).path
        self.dies = parse_qs(urlsplit(address).query).get("dies", [""])[0]

    def versions(self, keys: Sequence[str]) -> dict[str, str]:
        if self.dies and Path(self.dies).exists():
            Path(self.dies).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._locked(lambda: super(FileShelf, self).versions(keys))

    def put(self, rows: pa.Table, seen: Mapping[str, str]) -> None:
        self._locked(lambda: super(FileShelf, self).put(rows, seen))

    def delete(self, seen: Mapping[str, str]) -> None:
        self._locked(lambda: super(FileShelf, self).delete(seen))

    def _locked(self, act: Callable[[], T]) -> T:
        """Act on the file's content under an exclusive lock."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as file:
            file.execute("BEGIN EXCLUSIVE")
            file.execute("CREATE TABLE IF NOT EXISTS held (key TEXT PRIMARY KEY, version TEXT, text TEXT)")
            self.held = {key: (version, text) for key, version, text in file.execute("SELECT * FROM held")}
            result = act()
            file.execute("DELETE FROM held")
            file.executemany("INSERT INTO held VALUES (?, ?, ?)", [(key, *rest) for key, rest in self.held.items()])
            file.execute("COMMIT")
            return result


def held(path: Path) -> dict[str, tuple[str, str]]:
    """The content of a `FileShelf`'s file: key -> (version, text)."""
    shelf = FileShelf(f"shelf://{path}")
    shelf.versions([])
    return shelf.held
