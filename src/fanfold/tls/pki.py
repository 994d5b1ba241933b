"""Certificates for measuring: real chains, dummies of an exact size, and stand-ins for schemes we cannot sign with.

root (the client has it) ──signs──▶ intermediate ──signs──▶ leaf, with SCTs ──signs──▶ the handshake
"""

import datetime
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fanfold.tls import staple
from fanfold.tls.cells import Chain
from fanfold.tls.sizes import Handshake, of_scheme
from fanfold.tls.zoo import Scheme, Zoo

Key = (
    ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

DOMAIN = "live.test"
_KEYS: Mapping[str, Callable[[], Key]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
_STAND_IN = "ed25519"
"""What signs for a scheme that we have no code of: its sizes never vary."""
_RAW = {"ed25519": (32, 64), "ecdsa-p256": (64, 64)}
"""Bytes of a key and of a signature, raw, of what can stand in."""
_DER = {"ecdsa-p256": 72}
"""Bytes of a signature where it is not sent raw: the most that it takes."""
_PADDING = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
_SERIAL = 16  # bytes of a serial number
_LONGEST_SERIAL = 20
_DAYS = 90
_PLAIN = {"handshake": (1, 1), "leaf": (1, 1), "intermediate": (1, 0)}
"""The slots of a chain without a profile: signatures, and keys."""


@dataclass(frozen=True)
class Credentials:
    """What a server has to show."""

    certificates: tuple[x509.Certificate, ...]
    """The leaf first."""
    key: bytes
    """The leaf's, as PEM."""
    root: x509.Certificate
    """What a client must trust."""
    signature: int
    """Bytes of a signature in the handshake, at most."""
    signature_varies: bool
    staple: bytes = b""
    unverified: tuple[str, ...] = ()
    """Slots whose bytes are there, but not as what a client can check."""
    dummies: int = 0
    dummy: x509.Certificate | None = None

    @property
    def chain(self) -> list[x509.Certificate]:
        """All certificates that are sent."""
        return [*self.certificates, *([self.dummy] * self.dummies if self.dummy else [])]

    @property
    def certificate_bytes(self) -> list[int]:
        """Bytes of each certificate that is sent, as DER."""
        own = [len(one.public_bytes(Encoding.DER)) for one in self.certificates]
        return own + ([len(self.dummy.public_bytes(Encoding.DER))] * self.dummies if self.dummy else [])


class TooSmall(ValueError):
    """A chain cannot be made as small as asked."""


@dataclass(frozen=True)
class Issuer:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key


def credentials(chain: Chain, zoo: Zoo) -> Credentials:
    """The credentials for a chain, made once for each scheme and profile. Raises TooSmall."""
    scheme = zoo.scheme(chain.scheme)
    made = own(scheme, of_scheme(zoo, scheme.name, chain.profile) if chain.profile else None)
    if not chain.dummies:
        return made
    return replace(made, dummies=chain.dummies, dummy=dummy(chain.dummy_bytes))


def own(
    scheme: Scheme, counted: Handshake | None, names: tuple[str, ...] = (f"*.{DOMAIN}",), stand_in: str = _STAND_IN
) -> Credentials:
    """The credentials for a handshake of a scheme, without dummies; made once. Raises TooSmall.

    Args:
        scheme: What signs, or what takes as many bytes.
        counted: The signatures and keys of a profile; None for those of a plain chain.
        names: Names and addresses of the server.
        stand_in: What signs where we have no code of the scheme: `ed25519` or `ecdsa-p256`.
    """
    return _own(scheme, *_frozen(counted), names, stand_in)


def signs(scheme: Scheme) -> bool:
    """Whether we have code of a scheme."""
    return scheme.name.lower() in _KEYS


@lru_cache(256)
def dummy(size: int) -> x509.Certificate:
    """A certificate of exactly so many bytes, signed by itself, that no chain needs. Raises TooSmall."""
    issuer = ed25519.Ed25519PrivateKey.generate()

    def make(serial: int, padding: int | None) -> x509.Certificate:
        return _certificate("d", issuer, "d", issuer, serial=serial, padding=padding)

    return _exactly(size, make)


_Slots = tuple[tuple[str, int, int], ...]
_Extra = tuple[tuple[str, int], ...]


def _frozen(counted: Handshake | None) -> tuple[_Slots, _Extra]:
    """The slots of a handshake with their signatures and keys, and the bytes beside; as a cache's key."""
    if counted is None:
        return tuple((name, *counts) for name, counts in _PLAIN.items()), ()
    return tuple((part.slot, part.signatures, part.keys) for part in counted.parts), tuple(counted.extra.items())


@lru_cache(256)
def _own(scheme: Scheme, slots: _Slots, extra: _Extra, names: tuple[str, ...], stand_in: str) -> Credentials:
    """The credentials for a handshake without dummies. Raises TooSmall."""
    counts = {name: (sigs, pks) for name, sigs, pks in slots}
    return _Maker(scheme, counts, dict(extra), names, stand_in).made()


class _Maker:
    """Makes the credentials for one scheme and its slots."""

    def __init__(
        self,
        scheme: Scheme,
        slots: Mapping[str, tuple[int, int]],
        extra: Mapping[str, int],
        names: tuple[str, ...],
        stand_in: str,
    ) -> None:
        self.scheme, self.slots, self.extra = scheme, slots, extra
        self.names, self.stand_in = names, stand_in
        self.name = scheme.name.lower()
        self.real = self.name in _KEYS
        self.signer = self.name if self.real and "handshake" in slots else stand_in
        self.issuer_signer = self.name if self.real and "leaf" in slots else stand_in

    def made(self) -> Credentials:
        """All of them."""
        root_key = _KEYS[self.issuer_signer]()
        root = Issuer(_certificate("root", root_key, "root", root_key, authority=True), root_key)
        above = root
        sent: list[x509.Certificate] = []
        if "intermediate" in self.slots:
            key = _KEYS[self.issuer_signer]()
            padded = self._filled(self._missing_above(), lambda *size: self._intermediate(key, root, *size))
            above = Issuer(padded, key)
            sent = [padded]
        leaf_key = _KEYS[self.signer]()
        leaf = self._filled(self._missing_in_leaf(), lambda *size: self._leaf(leaf_key, above, *size))
        return Credentials(
            certificates=(leaf, *sent),
            key=leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            root=root.certificate,
            signature=_DER.get(self.signer, 64) if self.signer == self.stand_in else self._signature,
            signature_varies=self.signer in _DER,
            staple=staple.staple(leaf, above.certificate, self._signature) if "ocsp" in self.slots else b"",
            unverified=self._unverified(),
        )

    @property
    def _signature(self) -> int:
        """Bytes of a signature by a log or a responder."""
        return _DER.get(self.name, self.scheme.sig)

    def _intermediate(self, key: Key, root: Issuer, serial: int, padding: int | None) -> x509.Certificate:
        return _certificate("issuing CA", key, "root", root.key, True, serial=serial, padding=padding)

    def _leaf(self, key: Key, above: Issuer, serial: int, padding: int | None) -> x509.Certificate:
        name = above.certificate.subject.rfc4514_string().removeprefix("CN=")
        names = x509.SubjectAlternativeName([_general(one) for one in self.names])
        more: list[x509.ExtensionType] = [names]
        if count := self.slots.get("sct", (0, 0))[0]:
            more.append(staple.scts(count, self._signature))
        return _certificate(DOMAIN, key, name, above.key, more=more, serial=serial, padding=padding)

    def _missing_above(self) -> int:
        """Bytes that an intermediate certificate lacks of those that the scheme would take."""
        return 0 if self.real else self.scheme.pk + self.scheme.sig - sum(_RAW[self.stand_in])

    def _missing_in_leaf(self) -> int:
        """Bytes that the leaf lacks: of its key, its signature, the handshake's, and of what we cannot make."""
        scheme, total = self.scheme, sum(self.extra.values())
        for sigs, pks in self.slots.values():
            total += sigs * scheme.sig + pks * scheme.pk
        sent = sum(self.slots.get(name, (0, 0))[0] for name in ("ocsp", "sct")) * scheme.sig
        sent += sum(_size_of(self.signer, scheme))  # the key, and the signature of the handshake
        sent += _size_of(self.issuer_signer, scheme)[1]
        if "intermediate" in self.slots:
            sent += sum(_size_of(self.issuer_signer, scheme)) + self._missing_above()
        return total - sent

    def _filled(self, missing: int, make: Callable[[int, int | None], x509.Certificate]) -> x509.Certificate:
        """A certificate with so many bytes more than it would have. Raises TooSmall."""
        plain = make(_SERIAL, None)
        return plain if not missing else _exactly(len(plain.public_bytes(Encoding.DER)) + missing, make, _SERIAL)

    def _unverified(self) -> tuple[str, ...]:
        """The slots that are there by their size alone."""
        if not self.real:
            return (*self.slots, *self.extra)
        signed = {name for name in _PLAIN if name != "handshake" or self.signer == self.name}
        return (*(name for name in self.slots if name not in signed), *self.extra)


def _size_of(signer: str, scheme: Scheme) -> tuple[int, int]:
    """Bytes of a key and of a signature that are really sent, as the zoo counts them."""
    return (scheme.pk, scheme.sig) if signer == scheme.name.lower() else _RAW[signer]


def _exactly(
    size: int, make: Callable[[int, int | None], x509.Certificate], longest_serial: int = _LONGEST_SERIAL
) -> x509.Certificate:
    """The certificate of exactly so many bytes. Raises TooSmall.

    A byte more of padding may take two, where a length in DER needs one byte more; then a shorter serial number helps.
    """
    for serial in range(longest_serial, 0, -1):
        padding: int | None = None
        for _ in range(8):
            found = make(serial, padding)
            lacking = size - len(found.public_bytes(Encoding.DER))
            if not lacking:
                return found
            padding = (padding or 0) + lacking
            if padding < 0:
                break
    raise TooSmall(f"no certificate can be made that has {size:,} bytes")


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str,
    key: Key,
    issuer: str,
    signer: Key,
    authority: bool = False,
    more: list[x509.ExtensionType] | None = None,
    serial: int = _SERIAL,
    padding: int | None = None,
) -> x509.Certificate:
    """A certificate whose serial number takes so many bytes, with so many bytes of padding."""
    begin = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(days=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(int.from_bytes(b"\x40" + os.urandom(serial - 1)))
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    if authority:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        built = built.add_extension(usage, critical=True)
    for extension in more or ():
        built = built.add_extension(extension, critical=False)
    if padding is not None:
        built = built.add_extension(x509.UnrecognizedExtension(_PADDING, bytes(padding)), critical=False)
    prehashed = isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return built.sign(signer, hashes.SHA256() if prehashed else None)
