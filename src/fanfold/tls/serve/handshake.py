"""Does a handshake on a connection, and times it.

    connection ─ accept_to_hello_ms ─ first byte of the hello ─ handshake_ms ─ the client's Finished is read

OpenSSL reads and writes memory, and this sends and receives: so each flight is sent at once, and its size is known.
"""

import socket
import time
from dataclasses import dataclass

from OpenSSL import SSL

from fanfold.tls.openssl import output, reasons
from fanfold.tls.serve.limits import Limits
from fanfold.tls.serve.names import BROKEN, Meaning
from fanfold.tls.tcp import Tcp, tcp_info

_UNRECOGNIZED_NAME = bytes.fromhex("15 0303 0002 02 70")
"""A fatal alert in a record (RFC 8446, 6.2). Nothing is encrypted yet."""
_READ = 1 << 16


class Ended(Exception):
    """A connection ended before it was of use. `args`: why, as it is counted."""


class Refused(Ended):
    """The name is not one of ours. `args`: why, as it is counted."""


@dataclass(frozen=True)
class Handshake:
    """A handshake that was done."""

    meaning: Meaning
    handshake_ms: float
    accept_to_hello_ms: float
    before: Tcp
    """What TCP knew before the first byte."""
    after: Tcp
    tls: str
    group: str | None
    hello_bytes: int
    """Of the first hello."""
    hello_reads: int
    is_retried: bool
    """The client was asked for another hello."""
    first_flight_bytes: int


@dataclass
class Stream:
    """A socket, with the time until which it may be used."""

    socket: socket.socket
    until: float
    """Seconds of the monotonic clock."""

    def receive(self) -> bytes:
        """Some bytes; none at the end. Raises Ended when time is up."""
        self._wait()
        try:
            return self.socket.recv(_READ)
        except TimeoutError:
            raise Ended("too slow") from None
        except OSError:
            raise Ended("client went away") from None

    def send(self, content: bytes) -> None:
        """Send all. Raises Ended."""
        self._wait()
        try:
            self.socket.sendall(content)
        except TimeoutError:
            raise Ended("too slow") from None
        except OSError:
            raise Ended("client went away") from None

    def _wait(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise Ended("too slow")
        self.socket.settimeout(left)


def shake(stream: Stream, tls: SSL.Connection, accepted: float, limits: Limits) -> Handshake:
    """Do a handshake. `accepted`: seconds of `time.perf_counter` when the connection came. Raises Ended, Refused."""
    before = tcp_info(stream.socket)
    received, reads, begun = 0, 0, 0.0
    hello = (0, 0)
    flights: list[int] = []
    while True:
        some = stream.receive()
        now = time.perf_counter()
        begun = begun or now
        if not some:
            raise Ended("client went away")
        received, reads = received + len(some), reads + 1
        if received > limits.handshake_bytes:
            raise Ended("too many bytes")
        tls.bio_write(some)
        is_done = _advance(stream, tls)
        now = time.perf_counter()
        if flight := output(tls):
            hello = hello if flights else (received, reads)
            stream.send(flight)
            flights.append(len(flight))
        if is_done:
            break
    version = tls.get_protocol_version_name()
    # With TLS 1.3 the server waits once more if it has asked for another hello; with 1.2 its Finished comes last.
    is_retried = version == "TLSv1.3" and len(flights) > 1
    return Handshake(
        meaning=tls.get_app_data(),
        handshake_ms=(now - begun) * 1000,
        accept_to_hello_ms=(begun - accepted) * 1000,
        before=before,
        after=tcp_info(stream.socket),
        tls=version,
        group=tls.get_group_name(),
        hello_bytes=hello[0],
        hello_reads=hello[1],
        is_retried=is_retried,
        first_flight_bytes=flights[1 if is_retried else 0],
    )


def _advance(stream: Stream, tls: SSL.Connection) -> bool:
    """Let OpenSSL handle what has come. Returns whether the handshake is done. Raises Ended, Refused."""
    try:
        tls.do_handshake()
        return True
    except SSL.WantReadError:
        return False
    except SSL.Error as error:
        alert = output(tls)
        if isinstance(refused := tls.get_app_data(), str):  # OpenSSL says that it has no certificate: not the reason
            stream.send(_UNRECOGNIZED_NAME)
            raise Refused(refused) from None
        if alert:
            stream.send(alert)
        if len(alert) == len(_UNRECOGNIZED_NAME) and alert.endswith(_UNRECOGNIZED_NAME[-2:]):  # OpenSSL's own
            raise Refused(BROKEN) from None
        why = reasons(error).rpartition("; ")[2]
        raise Ended(f"handshake failed: {why}" if why else "handshake failed") from None
