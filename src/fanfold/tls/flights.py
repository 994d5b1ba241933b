"""How many bytes a server's first flight will have, before it is sent.

    flight = what every handshake has + signatures and keys (a profile's, or those of a plain chain) + dummies

A certificate more takes 5 bytes beside its own in TLS 1.3 (its length, and the length of its extensions), 3 in TLS 1.2.
A record of at most 16,384 bytes has a head of its own: 22 bytes in TLS 1.3, 5 in TLS 1.2.
"""

from collections.abc import Sequence

from fanfold.tls.cells import Cell, Chain
from fanfold.tls.sizes import of_scheme
from fanfold.tls.zoo import Zoo

PLAIN_FIXED = 1743
"""Bytes of a first flight with a plain chain (a leaf and an intermediate, without SCTs and staple) that are neither
signatures nor keys.

Calibrated like `sizes.FIXED`, and exact for Ed25519: the flight has 1,999 B, of which 3 signatures and 2 keys are 256.
Other schemes have more in DER beside their keys and signatures: up to 90 B (RSA-2048).
"""
_HYBRID = 1088
"""Bytes of a server's part of X25519MLKEM768 that X25519 alone does not have (FIPS 203, table 3)."""
_NEWER = 161
"""Bytes that the same flight has more in TLS 1.3 than in TLS 1.2: 911 and 750 for Ed25519 and X25519."""
_PLAIN = {"signatures": 3, "keys": 2}
_BESIDE = {"1.3": 1443, "1.2": 1287}
"""Bytes of a flight outside of the message with the certificates, by TLS's version, with X25519MLKEM768."""
_RECORD = 16_384
_HEADS = {"1.3": 22, "1.2": 5}


def predicted(cell: Cell, zoo: Zoo) -> tuple[int, int]:
    """Bytes of the first flight of a cell, and of its control."""
    return _flight(cell, cell.parsed, zoo), _flight(cell, cell.parsed.control, zoo)


def _less(cell: Cell) -> int:
    """Bytes that a flight lacks of those in TLS 1.3 with X25519MLKEM768."""
    return (_HYBRID if cell.kex == "x25519" else 0) + (_NEWER if cell.tls == "1.2" else 0)


def _flight(cell: Cell, chain: Chain, zoo: Zoo) -> int:
    if chain.profile:
        counted = of_scheme(zoo, chain.scheme, chain.profile)
        return counted.fixed - _less(cell) + counted.size
    plain = PLAIN_FIXED - _less(cell) + crypto(chain, zoo)
    return plain + added(cell, chain, plain)


def crypto(chain: Chain, zoo: Zoo) -> int:
    """Bytes of a chain's signatures and keys, and of a profile's extras; without dummies."""
    if chain.profile:
        return of_scheme(zoo, chain.scheme, chain.profile).size
    scheme = zoo.scheme(chain.scheme)
    return _PLAIN["signatures"] * scheme.sig + _PLAIN["keys"] * scheme.pk


def added(cell: Cell, chain: Chain, plain: int) -> int:
    """Bytes that a chain's dummies add to a flight that has `plain` bytes without them."""
    more = chain.dummies * (chain.dummy_bytes + (5 if cell.tls == "1.3" else 3))
    message = max(0, plain - _BESIDE[cell.tls] + (_HYBRID if cell.kex == "x25519" else 0))
    return _in_records(message + more, _HEADS[cell.tls]) - _in_records(message, _HEADS[cell.tls])


def certified(tls: str, certificates: Sequence[int], staple: int, signature: int) -> int:
    """Bytes of a flight that depend on the chain.

    Args:
        tls: Its version.
        certificates: Bytes of each certificate that is sent.
        staple: Bytes of the OCSP response; 0 for none.
        signature: Bytes of the signature in the handshake.
    """
    head = _HEADS[tls]
    if tls == "1.3":
        message = 8 + sum(certificates) + 5 * len(certificates) + (8 + staple if staple else 0)
        return _in_records(message, head) + _in_records(8 + signature, head)
    stapled = _in_records(8 + staple, head) if staple else 0
    return _in_records(7 + sum(certificates) + 3 * len(certificates), head) + stapled + signature


def _in_records(message: int, head: int) -> int:
    """Bytes of a message with the heads of its records."""
    return message + head * -(-message // _RECORD)
