"""What pyOpenSSL leaves to its callers: all that a connection has to send, and what an error says."""

from contextlib import suppress

import OpenSSL
from OpenSSL import SSL

_MOST = 1 << 18


def output(tls: SSL.Connection) -> bytes:
    """All that OpenSSL has to send; a connection without a socket keeps it in memory."""
    found = []
    with suppress(SSL.WantReadError):
        while True:
            found.append(tls.bio_read(_MOST))
    return b"".join(found)


def reasons(error: SSL.Error) -> str:
    """What OpenSSL says, as it says it, the cause first; empty if it does not say anything."""
    listed = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return "; ".join(reason for _, _, reason in listed if reason)


def stack() -> str:
    """What does the handshakes here, with its versions."""
    library = " ".join(SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[:2])
    return f"pyOpenSSL {OpenSSL.__version__} / {library}"
