"""A certificate authority for trying an experiment on one machine, with names under `localhost`.

Browsers look these names up by themselves: they are the machine's own addresses, 127.0.0.1 and ::1.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fanfold.errors import StorageError, UsageError
from fanfold.tls.serve.certificates import read
from fanfold.tls.serve.names import Names

CONTROL, LIVE = "0.c.localhost", "1.localhost"
_DAYS = 30


def hosts() -> Sequence[str]:
    """The addresses of this machine that names under localhost have: 127.0.0.1, and ::1 if there is IPv6."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return ("127.0.0.1", "::1")
    return ("127.0.0.1",)


class Lab(NamedTuple):
    """The files of a lab."""

    authority: Path
    """What a client must trust."""
    certificate: Path
    key: Path


def lab(folder: Path, names: Names) -> Lab:
    """The files in a folder; they are made if they are not there, or not fit for these names. Raises StorageError."""
    made = Lab(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    with suppress(UsageError):
        if made.authority.exists():
            read(made.certificate, made.key, names)
            return made
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("fanfold lab", authority_key, None, authority_key)
    covered = [f"*.{names.control.partition('.')[2]}", f"*.{names.live}", names.page]
    server = _certificate(names.page, key, authority, authority_key, covered)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        folder.mkdir(exist_ok=True)
        made.key.unlink(missing_ok=True)  # and written last: if the disk gets full, all are made again the next time
        made.authority.write_bytes(authority.public_bytes(Encoding.PEM))
        made.certificate.write_bytes(server.public_bytes(Encoding.PEM))
        made.key.touch(0o600)
        made.key.write_bytes(private)
    except OSError as error:
        raise StorageError(f"Cannot write the lab's certificates to {folder}: {error.strerror}.") from error
    return made


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[str] = (),
) -> x509.Certificate:
    """A certificate for a server; without an issuer, for an authority."""
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    now = datetime.now(UTC).replace(microsecond=0)
    is_authority = issuer is None
    built = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(issuer.subject if issuer else named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if is_authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        built = built.add_extension(usage, critical=True)
    else:
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        built = built.add_extension(usage, critical=True)
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        built = built.add_extension(alternatives, critical=False)
    return built.sign(signer, SHA256())
