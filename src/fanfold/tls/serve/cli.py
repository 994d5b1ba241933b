"""`fanfold tls serve`: the command."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fanfold.cli import Json
from fanfold.errors import MissingExtra
from fanfold.tls.serve import show
from fanfold.tls.serve.limits import Limits


def serve(
    *,
    store: Annotated[Path, Parameter(help="The SQLite file to write to; a new one, or that of an earlier time.")],
    control: Annotated[
        str | None, Parameter(help="The name without additional certificates, such as 0.c.example.")
    ] = None,
    live: Annotated[
        str | None, Parameter(help="What follows the number in the other names, such as 1.example for 17.1.example.")
    ] = None,
    page: Annotated[str | None, Parameter(help="The name of the page; by default what --live says.")] = None,
    cert: Annotated[
        Path | None, Parameter(help="Certificates in PEM, the server's own first; it has to cover all names.")
    ] = None,
    key: Annotated[Path | None, Parameter(help="The server's private key in PEM.")] = None,
    max: Annotated[int, Parameter(help="The largest number of additional certificates; at most 99.")] = 59,
    port: Annotated[int, Parameter(help="The port to listen at; 0 for any.")] = 8443,
    host: Annotated[
        list[str] | None,
        Parameter(negative="", help="An address to listen at, all by default; repeat the flag for several."),
    ] = None,
    per_minute: Annotated[
        int, Parameter(help="Connections a minute that a network (/24 or /48) may make; 0 for any number.")
    ] = Limits.per_minute,
    asn: Annotated[
        Path | None, Parameter(help="A table of networks, to store their numbers: ip2asn-combined.tsv of iptoasn.com.")
    ] = None,
    lab: Annotated[
        bool, Parameter(negative="", help="Try it on this machine: with its own authority, and names of localhost.")
    ] = False,
    json: Json = False,
) -> int:
    """Serve a page whose visitors make two handshakes, one of them with additional certificates; store how long.

    For example: `fanfold tls serve --lab --store exp.sqlite`
    """
    # OpenSSL reads it when it is loaded. With a file of the operator's own, tickets are sent, and none is accepted.
    os.environ.setdefault("OPENSSL_CONF", str(files(__package__) / "openssl.cnf"))
    try:
        from fanfold.tls.serve.server import Server
        from fanfold.tls.serve.settings import settings
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("OpenSSL", "cryptography"):
            raise MissingExtra("tls", "`fanfold tls serve`") from error
        raise
    chosen = settings(store, control, live, page, cert, key, max, port, host or (), per_minute, asn, lab)
    server = Server(chosen, show.say)
    try:
        with _stopping(server.stop):
            show.started(chosen.names, server.port, str(chosen.authority) if chosen.authority else None, json)
            with show.progress(lambda: show.line(server.counts.now(), server.held())):
                server.serve()
            server.close()
    finally:
        server.close()
    show.ended(server.counts.now(), str(store), json)
    return 0


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at Ctrl-C and SIGTERM while the block runs. It ends a server as it should end: nothing is lost."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as for a shell's job in the background
            signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
