"""The server of an emulated link: a process that does one handshake after the other, and reports what it saw.

The name that a client asks for chooses the chain: 0.live.test, 1.live.test, ...
"""

import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, TextIO

from OpenSSL import SSL

from fanfold.tls.pki import DOMAIN, Credentials
from fanfold.tls.relay import end_with, stop
from fanfold.tls.tcp import tcp_info
from fanfold.tls.wire import Broken, Seen, handshake, prepare

_GRACE = 5.0  # s beyond what the client waits


def name_of(number: int) -> str:
    """The name to ask for, to get a chain."""
    return f"{number}.{DOMAIN}"


def context(shown: Credentials) -> SSL.Context:
    """A context that shows these credentials. Sessions cannot be resumed."""
    made = SSL.Context(SSL.TLS_SERVER_METHOD)
    made.use_certificate(shown.certificates[0])
    with _file(shown.key) as path:  # keys of ML-DSA are taken from files alone
        made.use_privatekey_file(path)
    for certificate in shown.chain[1:]:
        made.add_extra_chain_cert(certificate)
    made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    made.set_options(SSL.OP_NO_TICKET)
    # After a switch by name, the callback of the new context counts: so every one has its own.
    made.set_ocsp_server_callback(lambda *_: shown.staple)
    return made


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """The path of a file in memory with this content."""
    descriptor = os.memfd_create("key")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Server:
    """The server process. Use it as a context manager."""

    def __init__(self, listening: socket.socket, shown: Sequence[Credentials], seconds: float) -> None:
        self.listening, self.seconds = listening, seconds
        self.contexts = [context(one) for one in shown]
        self._process = 0

    def __enter__(self) -> "Server":
        ours, theirs = os.pipe()
        parent = os.getpid()
        self._process = os.fork()
        if not self._process:
            try:
                end_with(parent)
                with os.fdopen(theirs, "w", buffering=1) as reports:
                    self._serve(reports)
            except BaseException as error:
                sys.stderr.write(f"server: {error!r}\n")
            finally:
                os._exit(1)
        os.close(theirs)
        self.listening.close()
        self._reports = os.fdopen(ours)
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)
        self._reports.close()

    def check(self) -> None:
        """Raise RuntimeError if the process has ended by itself."""
        if self._process and os.waitpid(self._process, os.WNOHANG)[0]:
            self._process = 0
            raise RuntimeError("the server's process has ended")

    def report(self) -> dict[str, Any]:
        """What the server saw of the next handshake; waits for it. Raises RuntimeError when the process has ended."""
        line = self._reports.readline()
        if not line:
            raise RuntimeError("the server's process has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def _serve(self, reports: TextIO) -> None:
        base = SSL.Context(SSL.TLS_SERVER_METHOD)
        base.set_tlsext_servername_callback(self._choose)
        base.set_ocsp_server_callback(lambda *_: b"")
        while True:
            connected, _ = self.listening.accept()
            with connected:
                reports.write(json.dumps(self._one(base, connected)) + "\n")

    def _choose(self, tls: SSL.Connection) -> None:
        number = (tls.get_servername() or b"").split(b".")[0]
        with suppress(ValueError, IndexError):
            tls.set_context(self.contexts[int(number)])

    def _one(self, base: SSL.Context, connected: socket.socket) -> dict[str, Any]:
        """Do a handshake."""
        prepare(connected, self.seconds + _GRACE)
        begun, seen, broken = tcp_info(connected), Seen(), None
        tls = SSL.Connection(base, None)
        tls.set_accept_state()
        try:
            handshake(tls, connected, seen, begins=False)
        except Broken as error:
            broken = error.args
        found = {"window": begun.window, "mss": begun.mss, "retransmitted": tcp_info(connected).retransmitted}
        return asdict(seen) | found | {"broken": broken}
