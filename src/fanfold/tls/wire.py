"""A TLS handshake over a socket, with its bytes and its times.

Server and client do the same: they read, let OpenSSL go on, and write what it gives in one piece, so that a flight is
sent at once.
"""

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from OpenSSL import SSL

from fanfold.tls.openssl import output, reasons

_MOST = 1 << 18


class Broken(Exception):
    """A handshake that did not come to its end. `args`: the error's class, what it says."""


@dataclass
class Seen:
    """What one side saw of a handshake."""

    ms: float = 0.0
    """A server's begin with the first byte of the hello, a client's when it is connected."""
    cpu_ms: float = 0.0
    """In OpenSSL."""
    sent: list[int] = field(default_factory=list)
    """Bytes of each flight."""
    received: int = 0
    first_bytes: int = 0
    """Bytes that came before it sent anything: a server's hello."""
    first_reads: int = 0


def handshake(tls: SSL.Connection, peer: socket.socket, seen: Seen, begins: bool) -> None:
    """Do a handshake; a client begins it. `seen` is filled on the way. Raises Broken."""
    try:
        _handshake(tls, peer, seen, begins)
    except SSL.Error as error:
        with suppress(OSError):  # the other side may have gone; else it learns why
            if alert := output(tls):
                peer.sendall(alert)
        raise Broken("SSLError", reasons(error) or "the connection ended") from error
    except OSError as error:
        raise Broken(type(error).__name__, str(error)) from error


def _handshake(tls: SSL.Connection, peer: socket.socket, seen: Seen, begins: bool) -> None:
    start = time.perf_counter()
    done = begins and _step(tls, peer, seen)[0]
    while not done:
        data = peer.recv(_MOST)
        if not seen.received and not begins:
            start = time.perf_counter()
        if not data:
            raise ConnectionError("the other side closed the connection")
        seen.received += len(data)
        if not seen.sent:
            seen.first_bytes += len(data)
            seen.first_reads += 1
        tls.bio_write(data)
        done, end = _step(tls, peer, seen)
        seen.ms = (end - start) * 1000


def _step(tls: SSL.Connection, peer: socket.socket, seen: Seen) -> tuple[bool, float]:
    """Let OpenSSL go on, and send what it gives. Returns whether the handshake is done, and when that was."""
    before, done = time.thread_time(), True
    try:
        tls.do_handshake()
    except SSL.WantReadError:
        done = False
    end = time.perf_counter()
    sent = output(tls)
    seen.cpu_ms += (time.thread_time() - before) * 1000
    if sent:
        peer.sendall(sent)
        seen.sent.append(len(sent))
    return done, end


def prepare(connected: socket.socket, seconds: float) -> None:
    """Have a socket send at once, and wait for so long at most."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.settimeout(seconds)
