"""The server that a client is run against: it shows a chain, answers a request, and keeps how each connection ended.

It reads while it writes: a client that refuses a chain by its length sends an alert, and then reads no more.
"""

import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from OpenSSL import SSL

from fanfold.tls.openssl import output, reasons

HOST = "localhost"
ADDRESS = "127.0.0.1"
_MOST = 1 << 18
_LARGEST_REQUEST = 1 << 16
_ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446, section 6, and what TLS 1.2 has beside."""
_HARMLESS = {0, 90}
"""close_notify and user_canceled: the end of a connection, not of a handshake."""


@dataclass
class Visit:
    """A connection, as the server saw it."""

    finished: bool = False
    """Whether the client's Finished came."""
    answered: bool = False
    """Whether a request came, and was answered."""
    tls: str = ""
    alert: str = ""
    """The client's fatal alert."""
    error: str = ""
    """What our own OpenSSL did not take."""

    @property
    def is_done(self) -> bool:
        """Whether the handshake came to its end, and the client did not take it back."""
        return self.finished and not self.alert


@dataclass
class Listener:
    """Listens on the loopback interface. Use it as a context manager; then `visits` is complete."""

    context: SSL.Context
    seconds: float
    """How long a connection may be silent."""
    visits: list[Visit] = field(default_factory=list)

    def __enter__(self) -> "Listener":
        first = socket.create_server((ADDRESS, 0), backlog=64)
        self.port: int = first.getsockname()[1]
        self._sockets = [first]
        with suppress(OSError):  # some clients try ::1 alone; elsewhere there is none
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6, backlog=64))
        for one in self._sockets:
            one.setblocking(False)
        self._ended, self._end = socket.socketpair()
        self._threads: list[threading.Thread] = []
        self.context.set_info_callback(_note_alert)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The client has gone, and so has its side of all connections: each is read to its end."""
        self._end.close()
        self._acceptor.join()
        for one in self._sockets:
            one.close()
        self._ended.close()
        until = time.monotonic() + self.seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _accept(self) -> None:
        """Accept connections until the end, and then those that wait."""
        while True:
            ready, _, _ = select.select([*self._sockets, self._ended], [], [])
            waiting = [one for one in self._sockets if one in ready]
            if not waiting:
                return
            for one in waiting:
                with suppress(OSError):  # it has gone again
                    self._start(one.accept()[0])

    def _start(self, connected: socket.socket) -> None:
        visit = Visit()
        self.visits.append(visit)
        thread = threading.Thread(target=self._serve, args=(connected, visit), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, connected: socket.socket, visit: Visit) -> None:
        with connected:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = SSL.Connection(self.context, None)
            tls.set_accept_state()
            tls.set_app_data(visit)
            with suppress(OSError):  # that the client has gone is seen by what it left out
                _Talk(tls, connected, visit, self.seconds).run()


def _note_alert(tls: SSL.Connection, where: int, value: int) -> None:
    """Keep the client's alert; OpenSSL calls this."""
    visit, number = tls.get_app_data(), value & 0xFF
    if where == SSL.SSL_CB_READ_ALERT and number not in _HARMLESS and isinstance(visit, Visit):
        visit.alert = visit.alert or _ALERTS.get(number, str(number))


class _Talk:
    """A connection under way."""

    def __init__(self, tls: SSL.Connection, connected: socket.socket, visit: Visit, seconds: float) -> None:
        self.tls, self.socket, self.visit, self.seconds = tls, connected, visit, seconds
        self.pending = bytearray()
        self.request = b""
        self.goes_on = True

    def run(self) -> None:
        """Talk until the client closes, is silent for too long, or breaks a rule. Raises OSError where it resets."""
        while True:
            if self.goes_on:
                self._act()
            self.pending += output(self.tls)
            if not self.goes_on and not self.pending:
                if not self.visit.finished:
                    return
                self.socket.shutdown(socket.SHUT_WR)  # there are clients that wait for it
            writing = [self.socket] if self.pending else []
            readable, writable, _ = select.select([self.socket], writing, [], self.seconds)
            if not readable and not writable:
                if not self.goes_on or not self.visit.finished:
                    return
                self._say_goodbye()  # a client that waits for the server to speak
            if readable and not self._read():
                return
            if writable:
                self._write()

    def _act(self) -> None:
        """Let OpenSSL go on with what has come."""
        try:
            if not self.visit.finished:
                self.tls.do_handshake()
                self.visit.finished = True
            while not self.visit.answered:
                self.request += self.tls.recv(_MOST)
                if b"\r\n\r\n" in self.request:
                    self._answer()
                elif len(self.request) > _LARGEST_REQUEST:
                    self._say_goodbye()
                    return
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._say_goodbye()
        except SSL.Error as error:
            self.goes_on = False
            if not self.visit.alert:
                self.visit.error = reasons(error) or "the connection ended"
        finally:
            self.visit.tls = self.tls.get_protocol_version_name()

    def _answer(self) -> None:
        body = b"" if self.request.startswith(b"HEAD ") else b"ok\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        self.tls.send(head + body)
        self.visit.answered = True
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Say that nothing more will come; the client closes."""
        with suppress(SSL.Error):
            self.tls.shutdown()
        self.goes_on = False

    def _read(self) -> bool:
        data = self.socket.recv(_MOST)
        if data and (self.goes_on or self.visit.finished):
            self.tls.bio_write(data)
            if not self.goes_on:
                with suppress(SSL.Error):  # an alert may come after the end
                    self.tls.recv(_MOST)
        return bool(data)

    def _write(self) -> None:
        try:
            del self.pending[: self.socket.send(self.pending)]
        except BlockingIOError:
            pass
        except ConnectionError:  # what the client sent before it went is there to be read
            self.pending.clear()
            self._drain()
            raise

    def _drain(self) -> None:
        """Read what is left of a client that has gone: its alert."""
        with suppress(OSError):
            while self._read():
                self._act()
        if self.goes_on:
            self._act()
