"""The store of `fanfold tls serve`: what survives a kill, a full disk and another server, and what is no store."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from serving import CONTROL, LIVE, PAGE, ask, not_started, rows, serving, trusting, waited

from fanfold.errors import StorageError
from fanfold.tls.serve.store import Row, Store


def row(key: str, role: str = "control", n: int | None = 5, ms: float = 10.0) -> Row:
    """A row of a store."""
    return Row(
        key, role, n, "192.0.2.0/24", 4, None, ms, 1.0, 20.0, "TLSv1.3", "x25519", 517, 1, 0, 2645, 10, 1448, 0,
        "2026-11-27T22:44Z",
    )  # fmt: skip


def test_the_first_row_stays(tmp_path: Path) -> None:
    """A row of the same key and role is there again; one of the other role is new. A pair is handed out once."""
    store = Store(tmp_path / "s", print)
    assert [store.handshake(row("a", ms=ms)) for ms in (1.0, 2.0)] == ["new", "again"]
    assert store.handshake(row("a", "live")) == "new"
    assert [store.issued("a", n, "2026-11-27T22:44Z") for n in (1, 2)] == ["new", "again"]
    store.close()
    store.close()
    assert store.handshake(row("b")) == "not"
    assert [(one["key"], one["role"], one["handshake_ms"]) for one in rows(tmp_path / "s")] == [
        ("a", "control", 1.0),
        ("a", "live", 10.0),
    ]
    assert rows(tmp_path / "s", "issued") == [{"key": "a", "n": 1, "at": "2026-11-27T22:44Z"}]


def test_a_store_goes_on(tmp_path: Path) -> None:
    """A store that was closed is opened again, with its rows; others may read while it is open."""
    for number in range(3):
        store = Store(tmp_path / "s", print)
        assert store.handshake(row(str(number))) == "new"
        assert len(rows(tmp_path / "s")) == number + 1
        store.close()


def test_a_store_that_is_removed(tmp_path: Path) -> None:
    """Nothing is stored in a file that nobody can open any more, and the operator is warned; a new file is not used."""
    said: list[str] = []
    store = Store(tmp_path / "s", said.append)
    assert store.handshake(row("a")) == "new"
    (tmp_path / "s").unlink()
    assert store.handshake(row("b")) == "not"
    (tmp_path / "s").write_text("")
    assert store.handshake(row("c")) == "not"
    store.close()
    assert said == [
        "Cannot store: the file was removed or replaced. Clients are answered, and their handshakes are not stored."
    ]


def test_many_threads(tmp_path: Path) -> None:
    """2,000 rows of 20 threads are all there; of each key that all threads try, one is new."""
    store = Store(tmp_path / "s", print)
    ends: list[str] = []

    def write(thread: int) -> None:
        for number in range(100):
            ends.append(store.handshake(row(f"{thread} {number}")))
            ends.append(store.handshake(row(f"same {number}")))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    store.close()
    assert (ends.count("new"), ends.count("again")) == (2100, 1900)
    assert len(rows(tmp_path / "s")) == 2100


def test_other_files_are_no_store(tmp_path: Path) -> None:
    """A file of SQLite with other tables, one of another version, and a file of another kind are left as they are."""
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as opened:
        opened.execute("CREATE TABLE cookies (key, role, n, prefix, handshake_ms)")
    old = tmp_path / "old.sqlite"
    Store(old, print).close()
    with closing(sqlite3.connect(old)) as opened:
        opened.execute("ALTER TABLE handshakes ADD COLUMN more")
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be one" * 100)
    for file, says in (
        (other, "is an SQLite file, but not a store of `fanfold tls serve`: its tables are cookies. Use another"),
        (old, "is of another version of fanfold. Use another --store."),
        (text, "file is not a database"),
        (tmp_path / "gone" / "s", "No such file or directory"),
        (tmp_path, "unable to open database file"),
    ):
        before = file.read_bytes() if file.is_file() else b""
        with pytest.raises(StorageError, match=says):
            Store(file, print)
        assert not before or file.read_bytes() == before
    code, said = not_started("--lab", "--store", other, "--port", 0)
    assert (code, "its tables are cookies" in said) == (1, True)


def test_two_servers(tmp_path: Path) -> None:
    """A second server refuses a store that the first one has, and says who that is; later it may have it.

    The files of the first one's lab stay, even if the second one is for other names.
    """
    with serving(tmp_path / "s") as first:
        authority = first.authority.read_bytes()
        code, said = not_started("--lab", "--store", first.store, "--port", 0, "--live", "2.localhost")
        assert (code, first.authority.read_bytes()) == (1, authority)
        assert f"A server is writing to the store {first.store} already (process {first.process.pid})." in said
        assert ask(first, CONTROL)[0] == 204
        first.stop()
    with serving(tmp_path / "s") as second:
        assert ask(second, f"5.{LIVE}")[0] == 204
        assert len(second.rows()) == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """A server is killed while clients store. Each that got its answer has its row, and the next server goes on."""
    chance = random.Random(seed)
    with serving(tmp_path / "s", "--per-minute", 0) as server:
        context = trusting(server)
        acknowledged: list[list[tuple[str, str]]] = [[] for _ in range(6)]

        def visit(mine: list[tuple[str, str]], start: int) -> None:
            with suppress(OSError, AssertionError):  # when the server is gone
                for number in range(start, 1 << 20, 6):
                    key, role = f"{number:032x}", "live" if number % 2 else "control"
                    host = f"9.{LIVE}" if number % 2 else CONTROL
                    if ask(server, host, f"/s?k={key}", context=context)[0] == 204:
                        mine.append((key, role))

        threads = [threading.Thread(target=visit, args=(mine, at)) for at, mine in enumerate(acknowledged)]
        for one in threads:
            one.start()
        wanted = chance.randrange(20, 120)
        for _ in waited():
            if sum(map(len, acknowledged)) >= wanted:
                break
        time.sleep(chance.random() / 10)
        server.process.kill()
        for one in threads:
            one.join()
        server.process.wait()
    wal = server.store.with_name("exp.sqlite-wal")
    if seed == 1:  # a frame of the log is half written
        with wal.open("ab") as file:
            file.write(os.urandom(2000))
    elif seed == 2:
        with wal.open("ab") as file:
            file.write(wal.read_bytes()[-4120:][:3000])
    with serving(tmp_path / "s", "--per-minute", 0) as server:
        assert ask(server, CONTROL, f"/s?k={'f' * 32}")[0] == 204
        there = {(one["key"], one["role"]) for one in server.rows()}
        server.stop()
    expected = {one for mine in acknowledged for one in mine}
    assert len(expected) >= wanted
    assert expected <= there
    assert len(there) <= len(expected) + 6 + 1  # at most one of each client was not acknowledged yet


def fill(disk: Path) -> Path:
    """Leave nothing of a disk free."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk(disk: Path) -> None:
    """Clients are answered although their rows cannot be stored; it is said once; with room, rows are stored again."""
    said: list[str] = []
    store = Store(disk / "s", said.append)
    assert store.handshake(row("before")) == "new"
    filler = fill(disk)
    ends = [store.handshake(row(str(number))) for number in range(300)]
    assert ends[-1] == "not"
    assert said == [
        "Cannot store: database or disk is full. Clients are answered, and their handshakes are not stored."
    ]
    filler.unlink()
    assert store.handshake(row("after")) == "new"
    assert said[1:] == ["Handshakes are stored again."]
    store.close()
    there = {one["key"] for one in rows(disk / "s")}
    assert there == {"before", "after", *(str(number) for number, end in enumerate(ends) if end == "new")}


def test_a_server_on_a_full_disk(disk: Path) -> None:
    """The server goes on while its disk is full: it answers 503, says why, and counts what it has not stored."""
    with serving(disk / "s", "--per-minute", 0) as server:
        server.folder.joinpath("log").read_text()
        assert ask(server, CONTROL, "/s?k=" + "a" * 32)[0] == 204
        fill(disk)
        codes = [ask(server, CONTROL, f"/s?k={number:032x}")[0] for number in range(60)]
        assert codes[-1] == 503
        assert ask(server, PAGE, "/pair")[0] == 503
        assert ask(server, PAGE, "/")[0] == 200
        (disk / "filler").unlink()
        assert ask(server, CONTROL, "/s?k=" + "b" * 32)[0] == 204
        counts = server.stop()
        assert counts["not stored"] == codes.count(503) + 1
        assert len(server.rows()) == codes.count(204) + 2


def test_a_disk_that_is_full_at_the_start(disk: Path) -> None:
    """A store that cannot be made is an error at the start."""
    fill(disk)
    with pytest.raises(StorageError, match=r"as a store: |Cannot write beside"):
        Store(disk / "s", print)


def test_sqlite_that_others_lock(tmp_path: Path) -> None:
    """While another program holds the file's lock for long, rows are not stored; afterwards they are."""
    said: list[str] = []
    store = Store(tmp_path / "s", said.append)
    with closing(sqlite3.connect(tmp_path / "s", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.handshake(row("a")) == "not"
        other.execute("ROLLBACK")
    assert store.handshake(row("a")) == "new"
    assert said[0].startswith("Cannot store: database is locked.")
    store.close()


def test_imports() -> None:
    """The job, its command line, its sizes, its known clients and its store are imported without TLS and plots."""
    code = (
        "import sys, fanfold.tls, fanfold.tls.cli, fanfold.tls.serve.cli, fanfold.tls.serve.store\n"
        "import fanfold.tls.sizes, fanfold.tls.probe.cli\n"
        "print({'OpenSSL', 'cryptography', 'matplotlib', 'pyroute2'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "set()\n"
