"""The chains that a client is asked for.

added(n, 217)    a plain chain, and n of the smallest certificates       how many
added(1, size)   a plain chain, and one certificate of this size         how large
rows(zoo)        each scheme with each profile: real, or of its size     which of them
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fanfold.tls.cells import SMALLEST_DUMMY
from fanfold.tls.pki import Credentials, TooSmall, dummy, own, signs
from fanfold.tls.probe.client import NAMES
from fanfold.tls.sizes import CONTROL, Handshake, of_scheme
from fanfold.tls.zoo import Scheme, Zoo

PLAIN = "RSA-2048"
"""What signs a plain chain: all clients know it, and its signatures are of one length. Those of ECDSA differ by some
bytes from handshake to handshake, and there are clients whose limit counts them: it would not be found to the byte.
"""
_STAND_IN = CONTROL.lower()
"""All clients know it; Ed25519 is unknown to browsers."""
_STAND_IN_SIGNATURE = 64
_FRAME = {"TLSv1.3": (4, 5), "TLSv1.2": (3, 3)}
"""Bytes of a message of certificates beside them, and beside each of them."""


def added(zoo: Zoo, count: int, size: int = SMALLEST_DUMMY) -> Credentials:
    """A plain chain with so many certificates more, each of so many bytes."""
    plain = own(zoo.scheme(PLAIN), None, NAMES)
    return replace(plain, dummies=count, dummy=dummy(size)) if count else plain


def message(certificates: Sequence[int], tls: str) -> int:
    """Bytes of the handshake message that carries certificates of these sizes, without its type and its length."""
    once, each = _FRAME.get(tls, _FRAME["TLSv1.3"])
    return once + sum(certificates) + each * len(certificates)


@dataclass(frozen=True)
class Shown:
    """A scheme with a profile, and what a server shows for it."""

    scheme: Scheme
    profile: str
    credentials: Credentials

    @property
    def real(self) -> bool:
        """Whether the scheme signs; else bytes stand in for it."""
        return signs(self.scheme)

    @property
    def certificates(self) -> int:
        """Bytes of all certificates."""
        return sum(self.credentials.certificate_bytes)


def rows(zoo: Zoo) -> list[Shown]:
    """Each scheme that is not broken, with each profile; smallest first. What cannot be made so small is left out."""
    found = []
    for scheme in zoo.schemes.values():
        for profile in zoo.profiles if not scheme.is_broken else ():
            try:
                made = own(scheme, _in_certificates(scheme, of_scheme(zoo, scheme.name, profile)), NAMES, _STAND_IN)
            except TooSmall:
                continue
            found.append(Shown(scheme, profile, made))
    return sorted(found, key=lambda row: row.certificates)


def _in_certificates(scheme: Scheme, counted: Handshake) -> Handshake:
    """The same handshake, so that the certificates have its bytes even where another scheme signs the handshake.

    The bytes of a staple are in the leaf: clients would see that it is not signed.
    """
    staples = {part.slot: part.size for part in counted.parts if part.slot == "ocsp"}
    others = tuple(part for part in counted.parts if part.slot not in staples)
    signs_itself = signs(scheme) and any(part.online for part in counted.parts)
    signature = scheme.sig if signs_itself else _STAND_IN_SIGNATURE
    differs = {"signature of the handshake": signature - (counted.size - counted.certificates)}
    return replace(counted, parts=others, extra={**counted.extra, **staples, **differs})
