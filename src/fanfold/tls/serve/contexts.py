"""The settings of TLS for each name: the server's certificates, then as many dummies as the name says.

A name is refused by leaving the connection without certificates: the context that it begins with has none.
"""

from OpenSSL import SSL, crypto

from fanfold.tls import pki
from fanfold.tls.serve.certificates import Credentials
from fanfold.tls.serve.names import Meaning, Names

DUMMY = 1000
"""Bytes of a dummy certificate, as in the article."""
_PROTOCOL = b"http/1.1"
"""The only one: with h2, a browser might use the control's connection for the live name, and make no handshake."""


class Contexts:
    """The contexts of a server.

    All are made at the start (60 of them in 0.1 s): later the key's file may be that of a renewed certificate.
    """

    def __init__(self, credentials: Credentials, names: Names) -> None:
        self._names = names
        self._made = [_with_dummies(n, credentials) for n in range(names.most + 1)]
        self._first = _context()
        self._first.set_tlsext_servername_callback(self._choose)

    def connection(self) -> SSL.Connection:
        """A connection without a socket. Its app data will be the meaning of its name, or why that is refused."""
        connection = SSL.Connection(self._first, None)
        connection.set_accept_state()
        return connection

    def _choose(self, connection: SSL.Connection) -> None:
        """Called by OpenSSL when it has read a hello."""
        meaning = self._names.meaning(connection.get_servername())
        if isinstance(meaning, Meaning):
            connection.set_context(self._made[meaning.n])
        connection.set_app_data(meaning)


def _with_dummies(n: int, credentials: Credentials) -> SSL.Context:
    """A context with so many dummy certificates."""
    context = _context()
    leaf, *others = credentials.chain
    context.use_certificate(leaf)
    context.use_privatekey_file(str(credentials.key), crypto.FILETYPE_PEM)
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
