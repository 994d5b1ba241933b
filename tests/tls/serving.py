"""A server of `fanfold tls serve` for tests: as a command, or in this process; and clients of several kinds."""

import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nursery
from commands import fanfold

CONTROL, LIVE, PAGE = "0.c.localhost", "1.localhost", "1.localhost"
KEY = "0123456789abcdef0123456789abcdef"
ALERT_112 = bytes.fromhex("15030300020270")


def waited(seconds: float = 60.0) -> Iterator[None]:
    """Loop until something that must happen has happened; fail if it does not."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(0.05)
    raise AssertionError(f"it did not happen in {seconds} s")


@dataclass
class Serving:
    """A server that runs."""

    process: subprocess.Popen[str]
    folder: Path
    """Everything that it has written, and `log` and `out`: its stderr and stdout."""
    port: int

    @property
    def store(self) -> Path:
        return self.folder / "exp.sqlite"

    @property
    def authority(self) -> Path:
        return self.folder / "exp.sqlite-lab" / "ca.pem"

    def stop(self, number: int = signal.SIGTERM) -> dict[str, int]:
        """End it by a signal; returns its counts."""
        self.process.send_signal(number)
        assert self.process.wait(60) == 0, (self.folder / "log").read_text()
        counts: dict[str, int] = json.loads((self.folder / "out").read_text().splitlines()[-1])["counts"]
        return counts

    def rows(self, table: str = "handshakes") -> list[dict[str, Any]]:
        """What is in the store."""
        return rows(self.store, table)

    def everything(self) -> bytes:
        """All that it has written."""
        return b"\n".join(file.read_bytes() for file in self.folder.rglob("*") if file.is_file())


def rows(store: Path, table: str = "handshakes") -> list[dict[str, Any]]:
    """The rows of a table of a store."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as opened:
        opened.row_factory = sqlite3.Row
        return [dict(row) for row in opened.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]


@contextmanager
def serving(
    folder: Path, *flags: object, lab: bool = True, is_fresh: bool = False, **environment: str
) -> Iterator[Serving]:
    """Run the command on a free port.

    `is_fresh`: in a new interpreter. The OpenSSL of a fork has begun without the server's settings, and sends session
    tickets, so that flights are longer.
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fanfold", "tls", "serve", "--store", folder / "exp.sqlite", "--port", 0, "--json"]
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        process = (subprocess.Popen if is_fresh else nursery.Popen)(
            [*map(str, command), *(["--lab"] if lab else []), *map(str, flags)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"} | environment,
        )
        try:
            for _ in waited():
                assert process.poll() is None, (folder / "log").read_text()
                if (said := (folder / "out").read_text()).endswith("\n"):
                    break
            yield Serving(process, folder, json.loads(said)["port"])
        finally:
            process.kill()
            process.wait()


def refused(*flags: object) -> str:
    """What the command says when it does not start; its exit code must be 2."""
    code, said = not_started(*flags)
    assert code == 2, said
    return said


def not_started(*flags: object) -> tuple[int, str]:
    """The exit code of a command that does not start, and what it says."""
    environment = os.environ.get("OPENSSL_CONF")
    try:
        done = fanfold("tls", "serve", *flags)
    finally:
        os.environ.pop("OPENSSL_CONF", None)
        if environment:
            os.environ["OPENSSL_CONF"] = environment
    assert done.stdout == ""
    return done.returncode, done.stderr


def trusting(server: Serving | Path, **settings: Any) -> ssl.SSLContext:
    """A client's settings, with the lab's authority."""
    authority = server if isinstance(server, Path) else server.authority
    context = ssl.create_default_context(cafile=str(authority))
    if isinstance(server, Path):  # a test's own certificate has not all that a strict client wants; a lab's has
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    else:
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection from an address of this machine to the same family's."""
    there = "::1" if ":" in source else "127.0.0.1"
    return socket.create_connection((there, port), 30, (source, 0))


def ask(
    server: Serving,
    name: str,
    target: str = f"/s?k={KEY}",
    source: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
    request: bytes | None = None,
) -> tuple[int, bytes]:
    """Ask for something under a name: the status, and the whole answer."""
    with (
        connected(server.port, source) as plain,
        (context or trusting(server)).wrap_socket(plain, server_hostname=name) as secure,
    ):
        return answer(secure, request or f"GET {target} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())


def answer(secure: ssl.SSLSocket, request: bytes) -> tuple[int, bytes]:
    """Send a request; the status, and all until the server closes."""
    secure.sendall(request)
    received = b""
    while some := secure.recv(1 << 16):
        received += some
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    assert found, received
    return int(found[1]), received


def hello(name: bytes | None) -> bytes:
    """The first bytes of a client that asks for a name of any bytes; or for none."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="placeholder.example")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    message = outgoing.read()[9:]  # without the heads of record and message
    session = 34 + 1 + message[34]
    ciphers = session + 2 + int.from_bytes(message[session : session + 2])
    start = ciphers + 1 + message[ciphers]
    extensions, at = b"", start + 2
    while at < len(message):
        kind, size = int.from_bytes(message[at : at + 2]), int.from_bytes(message[at + 2 : at + 4])
        if kind:  # 0 is the name
            extensions += message[at : at + 4 + size]
        at += 4 + size
    if name is not None:
        entry = b"\0" + len(name).to_bytes(2) + name
        listed = len(entry).to_bytes(2) + entry
        extensions = b"\0\0" + len(listed).to_bytes(2) + listed + extensions
    body = message[:start] + len(extensions).to_bytes(2) + extensions
    whole = b"\1" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(whole).to_bytes(2) + whole


def reply(port: int, sent: bytes, source: str = "127.0.0.1") -> bytes:
    """All that the server sends back to some bytes, until it closes."""
    with connected(port, source) as plain:
        received = b""
        try:
            plain.sendall(sent)
            while some := plain.recv(1 << 16):
                received += some
        except ConnectionError:
            pass
        return received


@contextmanager
def in_process(folder: Path, **limits: Any) -> Iterator[Any]:
    """A server in this process, for limits that the command has no flags for; with its `log`, a list of sentences."""
    from fanfold.tls.serve.limits import Limits
    from fanfold.tls.serve.server import Server
    from fanfold.tls.serve.settings import settings

    log: list[str] = []
    chosen = settings(folder / "exp.sqlite", port=0, lab=True)
    chosen = type(chosen)(**{**vars(chosen), "limits": Limits(**{"per_minute": 0, **limits})})
    server = Server(chosen, log.append)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        server.log, server.authority, server.store_path = log, chosen.authority, chosen.store
        yield server
    finally:
        server.stop()
        thread.join()
        server.close()
