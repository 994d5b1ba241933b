"""The server's process: a port, the address to open, and the end at Ctrl-C."""

import errno
import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from fanfold.errors import UsageError
from fanfold.images.viewer.app import Viewer, app
from fanfold.images.viewer.guard import Access, is_loopback

FIRST_PORT, PORTS = 8686, 100
CONNECTIONS = 32
"""At a time; a page takes up to seven."""
IDLE = 30
"""Seconds that a connection may wait for its next request."""


class Server(uvicorn.Server):
    """A uvicorn server whose open pages learn of its end."""

    def __init__(self, viewer: Viewer, access: Access) -> None:
        self.viewer = viewer
        super().__init__(
            uvicorn.Config(
                app(viewer, access),
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=IDLE,
                timeout_graceful_shutdown=2,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: `serve` takes them, from before the address is printed."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open, and the helpers."""
        self.viewer.close()
        await super().shutdown(sockets)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket at a port, or at the first that is free. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + PORTS), 0]:
        try:
            return socket.create_server((host.strip("[]"), number), family=family)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"Port {number} is in use. Choose another one with --port, or none.") from error
            why = (error.strerror or str(error)).partition(" (")[0]
            raise UsageError(f"Cannot listen at {host}, port {number}: {why}.") from error
    raise AssertionError("port 0 is free, or an error")


def serve(viewer: Viewer, access: Access, listener: socket.socket, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. `started` is called when these end it as they should."""
    server = Server(viewer, access)

    def stop(*_: object) -> None:
        server.force_exit = server.should_exit  # the second time
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        started()
        server.run(sockets=[listener])
    finally:
        viewer.close()
        listener.close()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serving(viewer: Viewer, access: Access, listener: socket.socket) -> Iterator[Callable[[], None]]:
    """Serve in a thread while the block runs. Yields a call that stops at once."""
    server = Server(viewer, access)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()
        listener.close()

    try:
        yield stop
    finally:
        stop()


def open_browser(address: str) -> bool:
    """Open the user's browser, if there is a display to show it. Returns whether there is."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        return False
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    return True


def warning(host: str) -> str:
    """What to know about an address that others can reach; empty for this machine's own."""
    if is_loopback(host):
        return ""
    where = "this machine" if host in ("0.0.0.0", "::") else host
    return (
        f"Anyone who can reach {where} and has the address below, token included, sees these pictures. "
        "The connection is not encrypted."
    )
