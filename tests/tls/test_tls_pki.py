"""Certificates of exact sizes, chains of every kind, SCTs and staples; handshakes over a pair of sockets."""

import socket
import threading
from contextlib import suppress

import pytest

pytest.importorskip("OpenSSL", reason="the extra 'tls' is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from OpenSSL import SSL, crypto

from fanfold.tls import staple
from fanfold.tls.cells import SMALLEST_DUMMY, Cell, Chain
from fanfold.tls.flights import certified, predicted
from fanfold.tls.pki import Credentials, TooSmall, credentials, dummy
from fanfold.tls.server import context
from fanfold.tls.wire import Broken, Seen, handshake
from fanfold.tls.zoo import load

SIX = ("p256:2021", "ml-dsa-44:2021", "ml-dsa-65:2021")


def shown(chain: str) -> Credentials:
    """The credentials for a chain."""
    return credentials(Chain.of(chain).known(load()), load())


def shaken(server: Credentials, root: x509.Certificate) -> tuple[Seen, SSL.Connection, list[bytes]]:
    """A handshake: what the server saw, the client's connection, and the staples that it got. Raises Broken."""
    theirs, ours = socket.socketpair()
    there = SSL.Connection(context(server), None)
    there.set_accept_state()
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.get_cert_store().add_cert(crypto.X509.from_cryptography(root))
    made.set_verify(SSL.VERIFY_PEER)
    staples: list[bytes] = []
    made.set_ocsp_client_callback(lambda _tls, response, _data: staples.append(response) or True)
    here = SSL.Connection(made, None)
    here.set_connect_state()
    here.set_tlsext_host_name(b"0.live.test")
    here.request_ocsp()
    seen = Seen()

    def serve() -> None:
        with theirs, suppress(Broken):
            handshake(there, theirs, seen, begins=False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            handshake(here, ours, Seen(), begins=True)
    finally:
        thread.join(30)
    return seen, here, [one for one in staples if one]


SIZES = [*range(SMALLEST_DUMMY, 259), *range(260, 270), 383, 384, 510, 513, 17_000, 65_535, 65_537, 65_539, 65_541]


@pytest.mark.parametrize("size", SIZES)
def test_dummies_have_exactly_the_size_asked_for(size: int) -> None:
    """Every size from the smallest on, over all places where a length in DER needs a byte more."""
    assert len(dummy(size).public_bytes(Encoding.DER)) == size


def test_no_dummy_is_smaller_than_the_smallest() -> None:
    """The number that grids are checked against is the number that can be made."""
    with pytest.raises(TooSmall, match="no certificate can be made that has 216 bytes"):
        dummy(SMALLEST_DUMMY - 1)


@pytest.mark.parametrize("size", [259, 65_540])
def test_sizes_that_no_certificate_has_are_refused_before(size: int) -> None:
    """DER has no value of this size: the length of the length changes there."""
    with pytest.raises(TooSmall):
        dummy(size)
    with pytest.raises(ValueError, match=f"no certificate has {size:,} bytes in DER: take {size - 1:,} or"):
        Chain.of(f"ed25519+1x{size}")


@pytest.mark.parametrize("scheme", ["p256", "ed25519", "rsa-2048", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_a_client_verifies_a_chain_of_each_scheme(scheme: str) -> None:
    """Chain and handshake are verified against the root; the same chain under another root is refused."""
    server = shown(f"{scheme}:2026")
    assert (server.unverified, len(server.certificates)) == (("sct",), 2)
    seen, client, _ = shaken(server, server.root)
    assert [len(client.get_verified_chain() or ()), seen.sent != []] == [3, True]
    with pytest.raises(Broken, match="certificate verify failed"):
        shaken(server, shown("ed25519:2021").root)


@pytest.mark.parametrize("chain", SIX)
def test_six_signatures_are_sent(chain: str) -> None:
    """Leaf, intermediate, handshake, two SCTs and a staple: each has its scheme's size, and the client gets all."""
    server, scheme = shown(chain), load().scheme(chain.split(":")[0])
    leaf, intermediate = server.certificates
    raw = 72 if scheme.sig_varies else scheme.sig
    for certificate in (leaf, intermediate):
        assert len(certificate.signature) in (range(64, 73) if scheme.sig_varies else [scheme.sig])
    (listed,) = (one.value for one in leaf.extensions if one.oid == staple.SCT_LIST)
    assert [len(sct.signature) for sct in listed] == [raw, raw]
    seen, _, staples = shaken(server, server.root)
    assert (staples, server.unverified) == ([server.staple], ("ocsp", "sct"))
    response = ocsp.load_der_ocsp_response(server.staple)
    assert len(response.signature) == raw
    assert response.serial_number == leaf.serial_number
    estimate = predicted(Cell(20, 100, 10, f"{scheme.name.lower()}:2021"), load())[0]
    assert abs(seen.sent[0] - estimate) <= 64


def test_a_staple_for_another_certificate_is_not_sent() -> None:
    """OpenSSL drops it in silence: so a staple that a client got was one of the certificate that it got."""
    server, other = shown("ed25519:2021"), shown("ed25519:2026")
    foreign = staple.staple(other.certificates[0], other.certificates[1], 64)
    assert shaken(server, server.root)[2] == [server.staple]
    changed = Credentials(**{**vars(server), "staple": foreign})
    assert shaken(changed, server.root)[2] == []


def test_certificates_of_a_staple() -> None:
    """The response is of the leaf: its name, its issuer's key, its serial number."""
    leaf, intermediate = shown("ml-dsa-44:2021").certificates
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, intermediate, hashes.SHA1()).build()
    response = ocsp.load_der_ocsp_response(shown("ml-dsa-44:2021").staple)
    for name in ("issuer_name_hash", "issuer_key_hash", "serial_number"):
        assert getattr(response, name) == getattr(asked, name)


@pytest.mark.parametrize(
    ("chain", "unverified"),
    [
        ("falcon-512:2021", ("handshake", "leaf", "intermediate", "ocsp", "sct")),
        ("slh-dsa-128s:2021", ("handshake", "leaf", "intermediate", "ocsp", "sct")),
        ("falcon-512", ("handshake", "leaf", "intermediate")),
        ("mayo-one:suppressed", ("handshake", "leaf", "sct")),
        ("ml-dsa-44:mtc-landmark", ("inclusion proof",)),
        ("ml-dsa-44:mtc-standalone", ("cosigners", "inclusion proof")),
        ("ml-dsa-65:kemtls", ("sct", "ML-KEM-768 key in the leaf")),
    ],
)
def test_stand_ins_have_the_sizes_of_their_schemes(chain: str, unverified: tuple[str, ...]) -> None:
    """What we cannot sign with is there by its size, in the same places; the flight is as large as its bytes say."""
    same = f"ed25519:{chain.split(':')[1]}" if ":" in chain else "ed25519"
    server, plain = shown(chain), shown(same)
    assert server.unverified == unverified
    seen, usual = (shaken(one, one.root)[0].sent[0] for one in (server, plain))
    parts = [certified("1.3", one.certificate_bytes, len(one.staple), one.signature) for one in (server, plain)]
    assert seen - usual == parts[0] - parts[1]
    wanted, other = (predicted(Cell(20, 100, 10, one), load())[0] for one in (chain, same))
    assert abs((seen - usual) - (wanted - other)) <= 90  # what DER has beside keys and signatures


@pytest.mark.parametrize("profile", [*load().profiles])
@pytest.mark.parametrize("scheme", ["ecdsa-p256", "ml-dsa-44", "ml-dsa-65", "falcon-512"])
def test_the_estimate_of_each_profile_is_near(scheme: str, profile: str) -> None:
    """Without a staple, an intermediate certificate or SCTs, the estimate has not the bytes around them either."""
    server = shown(f"{scheme}:{profile}")
    seen = shaken(server, server.root)[0].sent[0]
    wanted = predicted(Cell(20, 100, 10, f"{scheme}:{profile}"), load())[0]
    assert abs(seen - wanted) <= 64


def test_a_client_that_cannot_take_a_chain_says_so() -> None:
    """OpenSSL's limit of 102,400 bytes of certificates; the words are its own."""
    large = shown("ed25519+1x102400")
    with pytest.raises(Broken) as raised:
        shaken(large, large.root)
    assert raised.value.args == ("SSLError", "excessive message size")


def test_chains_without_and_with_dummies_are_one() -> None:
    """A cell and its control have the same certificates: what differs is what was added."""
    plain, more = shown("ed25519"), shown("ed25519+2x1000")
    assert more.certificates == plain.certificates
    assert more.certificate_bytes == [*plain.certificate_bytes, 1000, 1000]
