"""One connection, from the first byte to the last: a handshake, then requests."""

import socket
import time
from contextlib import suppress

from OpenSSL import SSL

from fanfold.tls.openssl import output
from fanfold.tls.serve.contexts import Contexts
from fanfold.tls.serve.counts import Counts
from fanfold.tls.serve.handshake import Ended, Refused, Stream, shake
from fanfold.tls.serve.http import TOO_LARGE, Endpoints, Visit
from fanfold.tls.serve.limits import Limits
from fanfold.tls.serve.prefix import Prefix

_END = b"\r\n\r\n"
_LINGER = 1.0
"""Seconds in which what a client still sends is read and dropped, so that it gets to see the answer."""


class Conversation:
    """What a server does with a connection."""

    def __init__(self, contexts: Contexts, endpoints: Endpoints, counts: Counts, limits: Limits) -> None:
        self._contexts, self._endpoints, self._counts, self._limits = contexts, endpoints, counts, limits

    def hold(self, connection: socket.socket, accepted: float, prefix: Prefix, asn: int | None) -> None:
        """Serve a client until it or a limit ends it. `accepted`: seconds of `time.perf_counter`."""
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._contexts.connection()
            stream = Stream(connection, time.monotonic() + self._limits.handshake_s)
            handshake = shake(stream, tls, accepted, self._limits)
            self._counts.add(f"handshakes: {handshake.meaning.role}")
            self._requests(stream, tls, Visit(handshake, prefix, asn))
        except Refused as refused:
            self._counts.add(f"refused: {refused}")
        except Ended as ended:
            self._counts.add(f"ended: {ended}")
        except OSError:  # of a client that is gone
            self._counts.add("ended: client went away")

    def _requests(self, stream: Stream, tls: SSL.Connection, visit: Visit) -> None:
        """Answer requests: one where a handshake is measured, so that it has one row, several at the page."""
        received = b""
        for number in range(self._limits.requests if visit.handshake.meaning.role == "page" else 1):
            stream.until = time.monotonic() + self._limits.request_s
            while _END not in received and len(received) <= self._limits.head_bytes:
                if not (some := _decrypted(stream, tls)):
                    if number == 0:
                        raise Ended("no request")
                    return
                received += some
            head, _, rest = received.partition(_END)
            if len(head) > self._limits.head_bytes:
                answer = TOO_LARGE
                self._counts.add(f"answers: {answer.status}")
            else:
                answer = self._endpoints.answer(head + _END, visit)
            with suppress(SSL.Error):
                tls.sendall(answer.encoded())
                if not answer.keep:
                    tls.shutdown()
            stream.send(output(tls))
            if not answer.keep:
                if answer.status >= 400:
                    _linger(stream)
                return
            received = rest


def _decrypted(stream: Stream, tls: SSL.Connection) -> bytes:
    """What a client sent next; nothing if it has closed. Raises Ended."""
    while True:
        try:
            return tls.recv(1 << 14)
        except SSL.WantReadError:
            if not (some := stream.receive()):
                return b""
            tls.bio_write(some)
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error:
            raise Ended("broken after the handshake") from None


def _linger(stream: Stream) -> None:
    """Read on for a moment. To close while there is something to read would reset the connection."""
    stream.until = time.monotonic() + _LINGER
    with suppress(OSError, Ended):
        stream.socket.shutdown(socket.SHUT_WR)
        while stream.receive():
            pass
