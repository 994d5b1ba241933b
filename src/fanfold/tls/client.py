"""The client of an emulated link: connects, does a handshake, and verifies the chain."""

import time
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from OpenSSL import SSL, crypto

from fanfold.tls.link import PORT, SERVER, Link
from fanfold.tls.server import name_of
from fanfold.tls.wire import Broken, Seen, handshake, prepare

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


@dataclass(frozen=True)
class Done:
    """A handshake that the client has done."""

    seen: Seen
    connect_ms: float
    staple: int
    """Bytes of the OCSP response that came with it."""
    group: str
    """How the key was agreed on, in lower case."""


class Client:
    """Does handshakes over a link."""

    def __init__(self, link: Link, seconds: float) -> None:
        self.link, self.seconds = link, seconds
        self._stapled: list[int] = []
        self._context = lru_cache(None)(self._new_context)

    def handshake(self, number: int, root: x509.Certificate, version: str) -> Done:
        """Do a handshake with the server for its chain of this number. Raises Broken."""
        tls = SSL.Connection(self._context(root, version), None)
        tls.set_connect_state()
        tls.set_tlsext_host_name(name_of(number).encode())
        tls.request_ocsp()
        seen = Seen()
        self._stapled.clear()
        with self.link.client_socket() as connected:
            prepare(connected, self.seconds)
            begin = time.perf_counter()
            try:
                connected.connect((SERVER, PORT))
            except OSError as error:
                raise Broken(type(error).__name__, f"connecting: {error}") from error
            connect_ms = (time.perf_counter() - begin) * 1000
            handshake(tls, connected, seen, begins=True)
        return Done(seen, connect_ms, sum(self._stapled), (tls.get_group_name() or "").lower())

    def _new_context(self, root: x509.Certificate, version: str) -> SSL.Context:
        made = SSL.Context(SSL.TLS_CLIENT_METHOD)
        made.set_min_proto_version(_VERSIONS[version])
        made.set_max_proto_version(_VERSIONS[version])
        store = made.get_cert_store()
        if store is None:
            raise RuntimeError("OpenSSL gave a context without a store of certificates")
        store.add_cert(crypto.X509.from_cryptography(root))
        made.set_verify(SSL.VERIFY_PEER)
        made.set_ocsp_client_callback(self._take)
        return made

    def _take(self, _tls: SSL.Connection, response: bytes, _data: object) -> bool:
        self._stapled.append(len(response))
        return True
