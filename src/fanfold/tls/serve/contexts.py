"""The settings of TLS for each name: the server's certificates, then as many dummies as the name says.

A name is refused by leaving the connection without certificates: the context that it begins with has none.
"""

import threading
import time
from dataclasses import dataclass

from OpenSSL import SSL, crypto

from fanfold.tls import pki
from fanfold.tls.serve.certificates import Credentials
from fanfold.tls.serve.names import Meaning, Names

DUMMY = 1000
"""Bytes of a dummy certificate, as in the article."""
_PROTOCOL = b"http/1.1"
"""The only one: with h2, a browser might use the control's connection for the live name, and make no handshake."""


@dataclass(frozen=True)
class Chosen:
    """What a connection is after its hello was read."""

    meaning: Meaning | str
    """Or the reason why its name is refused."""
    seconds: float = 0.0
    """Time to make the context, which does not belong to a handshake."""


class Contexts:
    """The contexts of a server, each made when a client first asks for it."""

    def __init__(self, credentials: Credentials, names: Names) -> None:
        self._credentials, self._names = credentials, names
        self._made: dict[int, SSL.Context] = {}
        self._lock = threading.Lock()
        self._first = _context()
        self._first.set_tlsext_servername_callback(self._choose)
        self.with_dummies(0)  # what is wrong with the chain shows now

    def connection(self) -> SSL.Connection:
        """A connection without a socket. Its app data will be what was `Chosen`."""
        connection = SSL.Connection(self._first, None)
        connection.set_accept_state()
        return connection

    def with_dummies(self, n: int) -> SSL.Context:
        """The context with so many dummy certificates."""
        if n not in self._made:
            with self._lock:
                if n not in self._made:
                    self._made[n] = self._make(n)
        return self._made[n]

    def _choose(self, connection: SSL.Connection) -> None:
        """Called by OpenSSL when it has read a hello."""
        meaning, begun = self._names.meaning(connection.get_servername()), time.perf_counter()
        if isinstance(meaning, Meaning):
            connection.set_context(self.with_dummies(meaning.n))
        connection.set_app_data(Chosen(meaning, time.perf_counter() - begun))

    def _make(self, n: int) -> SSL.Context:
        context = _context()
        leaf, *others = self._credentials.chain
        context.use_certificate(leaf)
        context.use_privatekey_file(str(self._credentials.key), crypto.FILETYPE_PEM)
        for certificate in [*others, *[pki.dummy(DUMMY)] * n]:
            context.add_extra_chain_cert(certificate)
        return context


def _context() -> SSL.Context:
    """A context without certificates, in which each handshake is a whole one: nothing is resumed, nothing is early."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_alpn_select_callback(
        lambda _, offered: _PROTOCOL if _PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    return context
