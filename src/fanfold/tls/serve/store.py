"""The store of `serve`: an SQLite file with a row for each handshake whose client then sent the key of a pair.

Table `handshakes`, one row a key and role; a time is in milliseconds, and null means that the system does not say:

    key                  of the pair, 32 hexadecimal digits
    role                 control or live
    n                    dummy certificates: of the live handshake, also in the control's row; null if it did not say
    prefix, family, asn  the client's network (/24 or /48), its version of IP, the number of its network if looked up
    handshake_ms         from the first byte of the client's hello to the end of the handshake, its Finished
    accept_to_hello_ms   from the connection to the first byte
    rtt_ms               round trip as TCP knew it before the hello
    tls, "group"         version of TLS; group of the key exchange
    hello_bytes, hello_reads  the hello, and in how many reads it came
    hello_retry          1 if the client was asked for another hello, which takes a round trip
    first_flight_bytes   what the server sent before it waited for the client
    initcwnd, mss        congestion window in segments before anything was sent, and their size in bytes
    retransmitted        segments
    at                   minute, in UTC

Table `issued`: the pairs that a page has asked for: key, n, at (minute).

SQLite writes ahead (WAL), so others may read at any time. A row whose client has its answer survives the end of this
process by any signal; a power cut may cost the last seconds.
"""

import io
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fanfold.errors import StorageError

Stored = Literal["new", "again", "not"]
"""A row is new; or one with its key and role was there; or it could not be stored."""


class Row(NamedTuple):
    """A row of `handshakes`."""

    key: str
    role: str
    n: int | None
    prefix: str
    family: int
    asn: int | None
    handshake_ms: float
    accept_to_hello_ms: float
    rtt_ms: float | None
    tls: str
    group: str | None
    hello_bytes: int
    hello_reads: int
    hello_retry: int
    first_flight_bytes: int
    initcwnd: int | None
    mss: int | None
    retransmitted: int | None
    at: str


_TYPES: dict[Any, str] = {str: "TEXT", int: "INTEGER", float: "REAL"}
_COLUMNS = {
    "handshakes": list(Row._fields),
    "issued": ["key", "n", "at"],
}
_APPLICATION = 0x66666C73
"""Marks the file as a store."""
_MOST = 500
"""Rows of a transaction."""
_WAITING = 10_000
"""Rows that wait, at most."""
_PATIENCE = 15.0
"""Seconds that a client waits for its row to be stored."""
_BUSY = 5.0
"""Seconds that SQLite waits for others that write."""


class Store:
    """An open store. One thread writes; rows that come together share a transaction."""

    def __init__(self, path: Path, trouble: Callable[[str], None]) -> None:
        """Open a store, or make one. `trouble` gets a sentence when rows cannot be stored, and when they can again.

        Raises StorageError.
        """
        self._trouble = trouble
        self._is_failing = False
        self._closed = False
        self._path = path
        self._lock = locked(path)
        self._waiting: queue.Queue[tuple[str, Sequence[object], Future[Stored]] | None] = queue.Queue(_WAITING)
        try:
            self._opened = _opened(path)
        except BaseException:
            self._lock.close()
            raise
        self._identity = _identity(path)
        self._writer = threading.Thread(target=self._write, name="store", daemon=True)
        self._writer.start()

    def handshake(self, row: Row) -> Stored:
        """Store a row of `handshakes`, and wait until it is. The first one of a key and a role stays."""
        return self._put("handshakes", row)

    def issued(self, key: str, n: int, at: str) -> Stored:
        """Store a pair that was asked for, and wait until it is."""
        return self._put("issued", (key, n, at))

    def close(self) -> None:
        """Store what is waiting, and close."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        self._writer.join()
        with suppress(sqlite3.Error):  # a full disk: what was not moved into the file stays in its log
            self._opened.close()
        self._lock.close()

    def _put(self, table: str, values: Sequence[object]) -> Stored:
        stored: Future[Stored] = Future()
        try:
            if self._closed:
                return "not"
            self._waiting.put((table, values, stored), timeout=_PATIENCE)
            return stored.result(_PATIENCE)
        except (queue.Full, TimeoutError):
            return "not"

    def _write(self) -> None:
        """Write what waits, until there is a None."""
        is_last = False
        while not is_last:
            some = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(some) < _MOST:
                    some.append(self._waiting.get_nowait())
            is_last = None in some
            rows = [one for one in some if one]
            for (_, _, stored), result in zip(rows, self._results([(t, v) for t, v, _ in rows]), strict=True):
                stored.set_result(result)

    def _results(self, rows: list[tuple[str, Sequence[object]]]) -> list[Stored]:
        """Write rows in one transaction."""
        try:
            if _identity(self._path) != self._identity:  # SQLite would write on, into a file that nobody can open
                raise sqlite3.OperationalError("the file was removed or replaced")
            self._opened.execute("BEGIN IMMEDIATE")
            results: list[Stored] = []
            for table, values in rows:
                marks = ", ".join("?" * len(values))
                done = self._opened.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)
                results.append("new" if done.rowcount else "again")
            self._opened.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._opened.execute("ROLLBACK")
            if not self._is_failing:
                self._is_failing = True
                self._trouble(f"Cannot store: {error}. Clients are answered, and their handshakes are not stored.")
            return ["not"] * len(rows)
        if self._is_failing:
            self._is_failing = False
            self._trouble("Handshakes are stored again.")
        return results


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has this name; None if none has."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def locked(path: Path) -> io.FileIO:
    """A lock until it is closed, so that one server writes to a store. Raises StorageError if another one has it.

    It is on a file of its own, as SQLite has locks on others.
    """
    try:
        file = path.with_name(f"{path.name}-lock").open("ab+", buffering=0)
    except OSError as error:
        raise StorageError(f"Cannot write beside the store {path}: {error.strerror}.") from error
    try:
        _take(file)
    except OSError as error:
        file.seek(0)
        process = file.read(20).decode(errors="replace").strip()
        file.close()
        raise StorageError(
            f"A server is writing to the store {path} already{f' (process {process})' if process else ''}. "
            "Stop that one, or use another --store."
        ) from error
    with suppress(OSError):  # a full disk: the number is there to help, and the lock is what counts
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    return file


def _take(file: io.FileIO) -> None:
    """Take the lock on a file; the system releases it when this process ends. Raises OSError if another one has it."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 30)  # nobody else may read what is locked, so not the beginning
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _opened(path: Path) -> sqlite3.Connection:
    """Open a store, or make one. Raises StorageError."""
    try:
        opened = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(f"Cannot open the store {path}: {error}.") from error
    try:
        _check(path, opened)
        opened.execute("PRAGMA journal_mode = WAL")
        opened.execute("PRAGMA synchronous = NORMAL")
        opened.execute("BEGIN IMMEDIATE")
        for table, columns in _created().items():
            opened.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}) WITHOUT ROWID")
        opened.execute(f"PRAGMA application_id = {_APPLICATION}")
        opened.execute("COMMIT")
    except BaseException as error:
        opened.close()
        if isinstance(error, sqlite3.Error):
            raise StorageError(f"Cannot use {path} as a store: {error}.") from error
        raise
    return opened


def _check(path: Path, opened: sqlite3.Connection) -> None:
    """Raise StorageError for a file of SQLite that is not a store of this version."""
    names = [name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    if not names:
        return
    (mark,) = opened.execute("PRAGMA application_id").fetchone()
    if mark != _APPLICATION:
        have = ", ".join(names[:8])
        raise StorageError(
            f"{path} is an SQLite file, but not a store of `fanfold tls serve`: its tables are {have}. "
            "Use another --store."
        )
    for table, columns in _COLUMNS.items():
        there = [name for (name,) in opened.execute("SELECT name FROM pragma_table_info(?)", (table,))]
        if there != columns:
            raise StorageError(f"The store {path} is of another version of fanfold. Use another --store.")


def _created() -> dict[str, str]:
    """What the tables have."""
    kinds = {name: (get_args(kind) or (kind,))[0] for name, kind in Row.__annotations__.items()}
    columns = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in kinds.items())
    return {
        "handshakes": f"{columns}, PRIMARY KEY (key, role)",
        "issued": "key TEXT PRIMARY KEY, n INTEGER, at TEXT",
    }
