"""How many handshakes a server of `fanfold tls serve` does, and how long they take, with its clients beside it.

    .venv/bin/python benches/tls_serve.py [--handshakes 20000] [--clients 16]

Each client connects, does a handshake, verifies the chain, sends the key of a pair and waits until its row is stored.
It is pyOpenSSL, too: an older OpenSSL needs three times as long to read 30 certificates, and would be what is measured.
Clients come from a network each (127.a.b.1), so the limits of the server are those of every day. First a few
handshakes for each number of certificates, then many with 30: the server's memory must stay as it is.
"""

import argparse
import json
import multiprocessing
import secrets
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import measure
import numpy as np
import psutil
import results
from OpenSSL import SSL

from fanfold.tls.wire import Broken, Seen, handshake, prepare

PROCESSES = 2
SIZES = (0, 30, 59)
FEW = 600
BARS = {"handshakes/s": 200, "p99, ms": 150}
"""At 30 certificates: at least, at most."""


@contextmanager
def server(folder: Path) -> Iterator[tuple[psutil.Process, int, Path]]:
    """A server: its process, its port, and what to trust."""
    command = [
        measure.OURS / "fanfold",
        "tls",
        "serve",
        "--lab",
        "--store",
        folder / "exp.sqlite",
        "--port",
        "0",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        said = json.loads(process.stdout.readline())
        try:
            yield psutil.Process(process.pid), said["port"], Path(said["ca"])
        finally:
            process.terminate()
            process.stdout.read()


def visit(port: int, context: SSL.Context, source: str, n: int) -> float:
    """One handshake with n certificates, and its row stored: how many seconds it takes."""
    name = f"{n}.1.localhost" if n else "0.c.localhost"
    request = f"GET /s?k={secrets.token_hex(16)}&n={n or 1} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    tls.set_tlsext_host_name(name.encode())
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 30, (source, 0)) as plain:
        prepare(plain, 30)  # as browsers do; else the request waits until the server has acknowledged the Finished
        handshake(tls, plain, Seen(), begins=True)
        tls.sendall(request)
        plain.sendall(tls.bio_read(1 << 16))
        tls.bio_write(plain.recv(1 << 16))
        if not tls.recv(1 << 16).startswith(b"HTTP/1.1 204 "):
            raise OSError("not stored")
    return time.perf_counter() - begun


def clients(port: int, authority: Path, n: int, networks: range, threads: int) -> tuple[list[float], int]:
    """Visit from each of these networks: the seconds of each visit, and how many failed."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(authority))
    context.set_verify(SSL.VERIFY_PEER)
    took: list[float] = []
    failed: list[str] = []
    left = iter(networks)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                network = next(left, None)
            if network is None:
                return
            try:
                took.append(visit(port, context, f"127.{1 + network // 250 % 250}.{1 + network % 250}.1", n))
            except (OSError, Broken, SSL.Error) as error:
                failed.append(repr(error))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    if failed:
        print(f"  {len(failed)} failed: {failed[0]}")
    return took, len(failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=20_000, help="in the long run, with 30 certificates")
    parser.add_argument("--clients", type=int, default=16, help="at a time")
    args = parser.parse_args()
    busy = measure.idle()
    rows = []
    steps = [(n, FEW) for n in SIZES] + [(30, args.handshakes)]
    with (
        tempfile.TemporaryDirectory(prefix="bench-tls-") as folder,
        server(Path(folder)) as (process, port, authority),
        multiprocessing.get_context("spawn").Pool(PROCESSES) as pool,
    ):
        start = 0
        for n, count in [(n, 60) for n in SIZES] + steps:  # the first ones are to warm up
            before, begun, rss = sum(process.cpu_times()[:2]), time.perf_counter(), process.memory_info().rss
            each = count // PROCESSES
            parts = [range(start + part * each, start + (part + 1) * each) for part in range(PROCESSES)]
            start += count
            done = pool.starmap(clients, [(port, authority, n, part, args.clients // PROCESSES) for part in parts])
            wall = time.perf_counter() - begun
            cpu = sum(process.cpu_times()[:2]) - before
            took = np.concatenate([found for found, _ in done]) * 1000
            if count == 60:
                continue
            p50, p99 = np.quantile(took, (0.5, 0.99))
            memory = f"{rss / 1e6:.0f} to {process.memory_info().rss / 1e6:.0f}"
            rows.append([
                f"{count:,} with {n} certificates", f"{len(took) / wall:,.0f}", f"{p50:.1f}", f"{p99:.1f}",
                f"{cpu / count * 1e6:,.0f}", memory, sum(errors for _, errors in done),
            ])  # fmt: skip
            print(*rows[-1], sep="  ")
        with closing(sqlite3.connect(Path(folder, "exp.sqlite"))) as opened:
            (stored,) = opened.execute("SELECT count(*) FROM handshakes").fetchone()
    head = [
        "handshakes",
        "handshakes/s",
        "p50, ms",
        "p99, ms",
        "CPU µs of the server, each",
        "its memory, MB",
        "errors",
    ]
    last = rows[-1]
    first, end = str(last[5]).split(" to ")
    says = (
        f"`fanfold tls serve` does {last[1]} handshakes/s with 30 certificates more, with {args.clients} clients at a "
        f"time beside it on the same cores: half within {last[2]} ms, 99 % within {last[3]} ms; each is stored. "
        f"Its memory was {first} MB at first and {end} MB in the end."
    )
    rest = (
        f"{args.clients} clients at a time in {PROCESSES} processes beside the server; {stored:,} rows in its store. "
        f"Bars at 30 certificates: at least {BARS['handshakes/s']} handshakes/s, p99 at most {BARS['p99, ms']} ms, "
        "no errors, memory flat."
    )
    print(results.record("tls_serve", says, f"{results.markdown(head, rows)}\n\n{rest}", busy))


if __name__ == "__main__":
    main()
