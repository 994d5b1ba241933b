"""The server: it accepts connections, within limits, and gives each a thread."""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fanfold.errors import UsageError
from fanfold.tls.serve.asn import Numbers
from fanfold.tls.serve.certificates import read
from fanfold.tls.serve.connection import Conversation
from fanfold.tls.serve.contexts import Contexts
from fanfold.tls.serve.counts import Counts
from fanfold.tls.serve.http import Endpoints
from fanfold.tls.serve.limits import Rates
from fanfold.tls.serve.prefix import Prefix, address_of, cut
from fanfold.tls.serve.settings import Settings
from fanfold.tls.serve.store import Store

_BACKLOG = 1024
_PAUSE = 0.1
"""Seconds without accepting, when the system has no more sockets or threads."""
_GRACE = 3.0
"""Seconds in which connections may end by themselves when the server stops."""


class Server:
    """A server that listens. Everything that can be wrong at the start is found by its constructor."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        """Check, open the store and listen. `say` gets sentences for the operator.

        Raises UsageError, StorageError.
        """
        self.counts = Counts()
        self._limits, self._say = settings.limits, say
        self._rates = Rates(settings.limits)
        self._numbers = Numbers.read(settings.asn) if settings.asn else None
        contexts = Contexts(read(settings.certificate, settings.key, settings.names), settings.names)
        self._listeners = _listeners(settings.hosts, settings.port)
        try:
            self._store = Store(settings.store, say)
        except BaseException:
            _close(self._listeners)
            raise
        self._conversation = Conversation(
            contexts, Endpoints(settings.names, self._store, self.counts), self.counts, settings.limits
        )
        self._held: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._awake, self._wake = socket.socketpair()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listeners[0].getsockname()[1]
        return port

    def serve(self) -> None:
        """Accept connections until `stop` is called."""
        with selectors.DefaultSelector() as selector:
            for one in [*self._listeners, self._awake]:
                selector.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._awake:
                        return
                    if isinstance(key.fileobj, socket.socket):
                        self._accept(key.fileobj)

    def stop(self) -> None:
        """Let `serve` return. May be called from any thread."""
        with suppress(OSError):  # it is closed already
            self._wake.send(b"x")

    def close(self) -> None:
        """Stop listening, let clients finish for a moment, and store what is left. May be called again."""
        _close(self._listeners)
        with self._changed:
            self._changed.wait_for(lambda: not self._held, _GRACE)
            for one in self._held:
                _shut(one)
            self._changed.wait_for(lambda: not self._held, _GRACE)
        self._store.close()
        _close([self._awake, self._wake])

    def held(self) -> int:
        """Connections at this moment."""
        return len(self._held)

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection, and give it a thread if limits allow it."""
        try:
            connection, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self.counts.add("over: the system has no more sockets")
                time.sleep(_PAUSE)
            return
        accepted = time.perf_counter()
        self.counts.add("connections")
        try:
            whole = address_of(address[0])
        except ValueError:  # some systems have no address for a client that is gone again
            connection.close()
            return
        prefix = cut(whole)
        asn = self._numbers.of(whole) if self._numbers else None
        del address, whole
        if len(self._held) >= self._limits.connections:
            over = "over: too many at a time"
        elif not self._rates.take(prefix.text, time.monotonic()):
            over = "over: too many of one network"
        else:
            over = self._start(connection, accepted, prefix, asn)
        if over:
            self.counts.add(over)
            connection.close()

    def _start(self, connection: socket.socket, accepted: float, prefix: Prefix, asn: int | None) -> str:
        """Start a thread for a connection. Returns what was over its limit, if it cannot."""
        with self._changed:
            self._held.add(connection)
        try:
            threading.Thread(target=self._hold, args=(connection, accepted, prefix, asn), daemon=True).start()
        except RuntimeError:  # can't start new thread
            with self._changed:
                self._held.discard(connection)
            time.sleep(_PAUSE)
            return "over: the system has no more threads"
        return ""

    def _hold(self, connection: socket.socket, accepted: float, prefix: Prefix, asn: int | None) -> None:
        """Serve a connection in this thread, to its end."""
        try:
            self._conversation.hold(connection, accepted, prefix, asn)
        except Exception as error:  # its text might say who the client is
            self.counts.add("ended: error of the server")
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            line = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else "?"
            self._say(f"{type(error).__name__} at {line}; the connection was closed.")
        finally:
            connection.close()
            with self._changed:
                self._held.discard(connection)
                if not self._held:
                    self._changed.notify_all()


def _listeners(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets that listen at a port of these addresses. Raises UsageError."""
    found: list[socket.socket] = []
    try:
        for host in hosts or (["::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]):
            at = found[0].getsockname()[1] if found else port
            found.append(_listener(host, at, dual=not hosts))
    except OSError as error:
        _close(found)
        if port == 0 and found and error.errno == errno.EADDRINUSE:  # free at one address, and not at the other
            return _listeners(hosts, port)
        raise UsageError(_unbound(error, host, at)) from error
    return found


def _listener(host: str, port: int, dual: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server(
        (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=dual and family == socket.AF_INET6
    )
    listener.setblocking(False)
    return listener


def _unbound(error: OSError, host: str, port: int) -> str:
    """Why a port cannot be used, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use. Stop what listens there, or choose another one: --port {port % 65535 + 1}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"Port {port} is for the administrator alone. Use a port from 1024 on (--port 8443), and let the firewall "
            f"send port {port} there; or allow it: sysctl net.ipv4.ip_unprivileged_port_start={port}"
        )
    return f"Cannot listen at {host}, port {port}: {error.strerror or error}."


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
