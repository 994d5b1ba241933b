"""A TCP proxy in front of an S3 server that makes some requests fail, by a plan with a fixed seed.

Requests pass unchanged except for one unsigned header, so their signatures (for the proxy's address) stay valid.
"""

import random
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

FAULTS = ("500 before", "503 before", "reset before", "500 after", "503 after", "reset after", "cut", "stall")
"""Before or after the server has done the request; `cut` ends the answer in its middle."""


@dataclass
class Plan:
    """Which requests fail, by their first line and how often they were made, in any order; faults take turns."""

    seed: int
    rate: float = 0.1
    """The fraction of requests that fail."""
    faults: tuple[str, ...] = FAULTS
    always: Mapping[str, str] = field(default_factory=dict)
    """Requests whose first line contains this text always get this fault."""
    stall: float = 0.5
    """Seconds that a stalled request waits."""
    met: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, request: str) -> str:
        """The fault for this request, or none."""
        with self._lock:
            self._asked[request] += 1
            rng = random.Random(f"{self.seed} {request} {self._asked[request]}")
            turn = (self.seed + self.met.total() - self.met[""]) % max(1, len(self.faults))
            fault = self.faults[turn] if self.faults and rng.random() < self.rate else ""
            fault = next((fault for text, fault in self.always.items() if text in request), fault)
            self.met[fault] += 1
            return fault


class BreaksOffTwice(Plan):
    """Every request's connection breaks first before the server has done the request, and then after."""

    def fault(self, request: str) -> str:
        with self._lock:
            self._asked[request] += 1
            fault = {1: "reset before", 2: "reset after"}.get(self._asked[request], "")
            self.met[fault] += 1
            return fault


@contextmanager
def flaky(server: str, plan: Plan) -> Iterator[str]:
    """Run the proxy; the address to use instead of the server's. Meanwhile requests are retried for as long as users'
    requests."""
    proxy = _Proxy(("127.0.0.1", 0), _Connection)
    proxy.host, port = server.removeprefix("http://").split(":")
    proxy.port, proxy.plan = int(port), plan
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("FANFOLD_RETRY_SECONDS", raising=False)
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    host: str
    port: int
    plan: Plan


class _Connection(socketserver.BaseRequestHandler):
    """A connection, which serves one request."""

    server: _Proxy

    def handle(self) -> None:
        with suppress(OSError):
            if request := _request(self.request):
                self._serve(request)

    def _serve(self, request: bytes) -> None:
        first, _, rest = request.partition(b"\r\n")
        fault = self.server.plan.fault(first.decode())
        kind, _, when = fault.partition(" ")
        if kind == "stall":
            time.sleep(self.server.plan.stall)
        # Without this the server would keep the connection open, and only a parser could find the answer's end.
        answer = b"" if when == "before" else self._forward(first + b"\r\nConnection: close\r\n" + rest)
        if kind.isdigit():
            answer = b"HTTP/1.1 %s Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % kind.encode()
        elif kind == "cut":
            answer = answer[: len(answer) // 2]
        if kind in ("reset", "cut"):  # a linger time of zero makes the close a reset
            self.request.sendall(answer if kind == "cut" else b"")
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()
        else:
            self.request.sendall(answer)

    def _forward(self, request: bytes) -> bytes:
        with socket.create_connection((self.server.host, self.server.port)) as backend:
            backend.sendall(request)
            return b"".join(iter(lambda: backend.recv(1 << 16), b""))


def _request(connection: socket.socket) -> bytes:
    """A whole request: its head, and a body of its Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(1 << 16)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    length = int(next((value for name, _, value in lines if name == b"content-length"), b"0"))
    while len(body) < length:
        if not (more := connection.recv(1 << 16)):
            return b""
        body += more
    return head + b"\r\n\r\n" + body
