"""How many bytes a server's first flight will have, before it is sent.

    flight = what every handshake has + signatures and keys (a profile's, or those of a plain chain) + dummies

A certificate more takes 5 bytes beside its own in TLS 1.3 (its length, and the length of its extensions), 3 in TLS 1.2.
A record of 16,384 bytes has 22 bytes of its own.
"""

from fanfold.tls.cells import Cell, Chain
from fanfold.tls.sizes import FIXED, of_scheme
from fanfold.tls.zoo import Zoo

PLAIN_FIXED = 1778
"""Bytes of a first flight with a plain chain (a leaf and an intermediate, without SCTs and staple) that are neither
signatures nor keys. Measured, as `FIXED` is."""
_HYBRID = 1088
"""Bytes of a server's part of X25519MLKEM768 that X25519 alone does not have (FIPS 203, table 3)."""
_PLAIN = {"signatures": 3, "keys": 2}
_BEFORE_CERTIFICATES = 1400  # bytes of a flight that are no part of the message with the certificates
_RECORD, _RECORD_HEAD = 16_384, 22


def predicted(cell: Cell, zoo: Zoo) -> tuple[int, int]:
    """Bytes of the first flight of a cell, and of its control."""
    return _flight(cell, cell.parsed, zoo), _flight(cell, cell.parsed.control, zoo)


def _flight(cell: Cell, chain: Chain, zoo: Zoo) -> int:
    less = _HYBRID if cell.kex == "x25519" else 0
    if chain.profile:
        return FIXED - less + of_scheme(zoo, chain.scheme, chain.profile).size
    scheme = zoo.scheme(chain.scheme)
    plain = PLAIN_FIXED - less + _PLAIN["signatures"] * scheme.sig + _PLAIN["keys"] * scheme.pk
    return plain + added(cell, chain, plain)


def added(cell: Cell, chain: Chain, plain: int) -> int:
    """Bytes that a chain's dummies add to a flight that has `plain` bytes without them."""
    more = chain.dummies * (chain.dummy_bytes + (5 if cell.tls == "1.3" else 3))
    if cell.tls != "1.3":
        return more
    message = max(0, plain - _BEFORE_CERTIFICATES)
    return more + _RECORD_HEAD * (-(-(message + more) // _RECORD) - -(-message // _RECORD))
