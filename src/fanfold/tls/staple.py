"""What others sign for a server: SCTs of logs, and a staple, its OCSP response. Sizes are true, signatures random.

OpenSSL staples a response only if it can be parsed and its CertID is that of the certificate; it looks no further, and
neither do clients that only ask for it. So a signature may be as long as that of any scheme.
"""

import os
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509 import ocsp

SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_SCT = 43
"""Bytes of an SCT before its algorithm: version, log, time, and the length of its extensions (RFC 6962, 3.2)."""
_ECDSA = b"\x04\x03"  # with SHA-256, as logs of today sign; RFC 6962 has no number for other schemes
_BASIC = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
_SUCCESSFUL = bytes.fromhex("0a0100")
_ALGORITHM = bytes.fromhex("300b0609608648016503040311")  # ML-DSA-44's; those of other schemes are as long


def der(tag: int, content: bytes) -> bytes:
    """A value of DER."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (octets if size < 128 else bytes([0x80 | len(octets)]) + octets) + content


def scts(count: int, signature: int) -> x509.UnrecognizedExtension:
    """The extension of a certificate that has so many SCTs, with signatures of so many bytes."""
    one = b"\0" + os.urandom(_SCT - 3) + b"\0\0" + _ECDSA + struct.pack(">H", signature) + os.urandom(signature)
    listed = (struct.pack(">H", len(one)) + one) * count
    return x509.UnrecognizedExtension(SCT_LIST, der(4, struct.pack(">H", len(listed)) + listed))


def staple(leaf: x509.Certificate, issuer: x509.Certificate, signature: int) -> bytes:
    """An OCSP response for a certificate, with a signature of so many bytes."""
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    key = ed25519.Ed25519PrivateKey.generate()  # its signature is replaced by a random one
    named = x509.CertificateBuilder().subject_name(issuer.subject).issuer_name(issuer.subject).serial_number(1)
    responder = named.public_key(key.public_key()).not_valid_before(begin).not_valid_after(end).sign(key, None)
    good = ocsp.OCSPCertStatus.GOOD
    builder = ocsp.OCSPResponseBuilder().add_response(leaf, issuer, hashes.SHA1(), good, begin, end, None, None)
    made = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder).sign(key, None)
    basic = der(0x30, made.tbs_response_bytes + _ALGORITHM + der(3, b"\0" + os.urandom(signature)))
    return der(0x30, _SUCCESSFUL + der(0xA0, der(0x30, _BASIC + der(4, basic))))
