"""The certificate and the key of a server, and whether they are fit for an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL, crypto

from fanfold.errors import UsageError
from fanfold.tls.openssl import reasons
from fanfold.tls.serve.names import Names

_LARGEST = 1 << 20
"""Bytes of a file in PEM."""


@dataclass(frozen=True)
class Credentials:
    """What a server shows in every handshake."""

    chain: Sequence[x509.Certificate]
    """The server's own certificate first."""
    key: Path
    """A file, as pyOpenSSL takes keys of some kinds (ML-DSA) from files alone."""


def read(certificate: Path, key: Path, names: Names) -> Credentials:
    """The certificates and the key in two files. Raises UsageError if they are not fit for these names, or expired."""
    chain = _chain(certificate)
    _check_dates(certificate, chain)
    _check_names(certificate, chain[0], names)
    _check_key(certificate, chain[0], key)
    return Credentials(chain, key)


def _chain(path: Path) -> list[x509.Certificate]:
    found = _read("--cert", path)
    try:
        return x509.load_pem_x509_certificates(found)
    except ValueError as error:
        raise UsageError(
            f"--cert {path} has no certificates in PEM (-----BEGIN CERTIFICATE-----) that can be read. It must have "
            "the server's own first, then the intermediate ones."
        ) from error


def _read(option: str, path: Path) -> bytes:
    try:
        if path.exists() and not (path.is_file() and path.stat().st_size <= _LARGEST):  # a device may never end
            raise UsageError(f"{option} {path} is not a file of certificates or keys, of at most {_LARGEST:,} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {option} {path}: {error.strerror}.") from error


def _check_dates(path: Path, chain: Sequence[x509.Certificate]) -> None:
    now = datetime.now(UTC)
    for number, one in enumerate(chain, 1):
        which = f"The certificate in {path}" if number == 1 else f"Certificate {number} of {path}"
        if now > one.not_valid_after_utc:
            raise UsageError(f"{which} has expired on {one.not_valid_after_utc:%Y-%m-%d}. Renew it first.")
        if now < one.not_valid_before_utc:
            raise UsageError(
                f"{which} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC. Is the clock right?"
            )


def _check_names(path: Path, leaf: x509.Certificate, names: Names) -> None:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        there = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        there = []
    live = [names.live_name(n) for n in range(1, names.most + 1)]
    control = f"*.{names.control.partition('.')[2]}"
    for wanted, needed in ((control, [names.control]), (f"*.{names.live}", live), (names.page, [names.page])):
        if not all(any(covers(pattern, name) for pattern in there) for name in needed):
            have = f"It is for {', '.join(there)}." if there else "It has no names (SAN)."
            raise UsageError(f"The certificate in {path} is not for {wanted}. {have} Get one that has this name, too.")


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate covers the name of a host: a * stands for the first part (RFC 9525, 6.3)."""
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern


def _check_key(path: Path, leaf: x509.Certificate, key: Path) -> None:
    if b"ENCRYPTED" in _read("--key", key):
        raise UsageError(f"The key in {key} has a password. Write it without: openssl pkey -in {key} -out plain.key")
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        context.use_certificate(leaf)
    except SSL.Error as error:
        raise UsageError(f"OpenSSL refuses the certificate in {path}: {_said(error)}.") from error
    try:
        context.use_privatekey_file(str(key), crypto.FILETYPE_PEM)
        context.check_privatekey()
    except SSL.Error as error:
        reason = _said(error)
        if "mismatch" in reason:
            raise UsageError(
                f"The key in {key} is not the key of the certificate in {path}. "
                "If the file has several certificates, the server's own must be the first."
            ) from error
        library = SSL.OpenSSL_version(SSL.SSLEAY_VERSION).decode()
        raise UsageError(f"--key {key} has no private key in PEM that {library} can read: {reason}.") from error


def _said(error: SSL.Error) -> str:
    return reasons(error) or "it does not say why"
