"""What `fanfold tls serve` finds wrong before it starts: each with exit code 2, a sentence, and what to do."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from serving import KEY, ask, connected, refused, serving, trusting

import nursery
from fanfold.errors import StorageError
from fanfold.tls.serve.lab import lab
from fanfold.tls.serve.names import Names
from fanfold.tls.wire import Seen, handshake

NAMES = ("--control", "0.c.example", "--live", "1.example")
COVERED = ("*.c.example", "*.1.example", "1.example")
NOW = datetime.now(UTC)


def credentials(
    folder: Path, names: Sequence[str] = COVERED, days: tuple[int, int] = (-1, 30), kind: str = "p256"
) -> tuple[Path, Path]:
    """The files of a certificate that is signed by itself, and of its key."""
    kinds = {
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    }
    key = kinds[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    certificate = built.sign(key, SHA256() if kind == "p256" else None)
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def flags(folder: Path, cert: Path, key: Path, *more: object) -> tuple[object, ...]:
    """The flags of a server with these files."""
    return (*NAMES, "--cert", cert, "--key", key, "--store", folder / "exp.sqlite", "--port", 0, *more)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_certificates_of_an_operator(tmp_path: Path, kind: str) -> None:
    """A certificate and a key in files serve the names, at all addresses; the flight grows by the dummies' bytes.

    When both files are renewed meanwhile, every name still has the certificate of the start.
    """
    cert, key = credentials(tmp_path / "pki", kind=kind)
    trusted = trusting(cert)
    with serving(tmp_path / "s", *NAMES, "--cert", cert, "--key", key, lab=False, is_fresh=True) as server:
        credentials(tmp_path / "pki", kind=kind)
        for host in ("0.c.example", "9.1.example"):
            assert ask(server, host, source="127.0.7.9", context=trusted)[0] == 204
        control, live = server.rows()
        assert (control["prefix"], control["family"]) == ("127.0.7.0/24", 4)  # though it may listen at :: for both
        assert b"127.0.7.9" not in server.everything()
    slack = 0 if kind == "ed25519" else 6
    assert abs(live["first_flight_bytes"] - control["first_flight_bytes"] - 9 * 1005) <= slack


def test_a_certificate_of_ml_dsa(tmp_path: Path) -> None:
    """An ML-DSA certificate is served, with a hybrid group, and its handshake stored."""
    cert, key = credentials(tmp_path / "pki", kind="ml-dsa-44")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(cert))
    context.set_verify(SSL.VERIFY_PEER)
    with serving(tmp_path / "s", *NAMES, "--cert", cert, "--key", key, lab=False, is_fresh=True) as server:
        client = SSL.Connection(context, None)
        client.set_connect_state()
        client.set_tlsext_host_name(b"9.1.example")
        with connected(server.port) as plain:
            handshake(client, plain, Seen(), begins=True)
            client.sendall(f"GET /s?k={KEY} HTTP/1.1\r\n\r\n".encode())
            plain.sendall(client.bio_read(1 << 16))
            client.bio_write(plain.recv(1 << 16))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 204 ")
        (row,) = server.rows()
    assert row["group"] == "X25519MLKEM768"
    assert row["first_flight_bytes"] > 9 * 1005 + 1312 + 2 * 2420 + 1088  # dummies, key, signatures, the hybrid group


@pytest.mark.parametrize(
    ("names", "days", "says"),
    [
        (COVERED, (-30, -1), "pki/cert.pem has expired on "),
        (COVERED, (1, 30), "pki/cert.pem is not valid before "),
        (("*.c.example", "1.example"), (-1, 30), "is not for *.1.example. It is for *.c.example, 1.example."),
        (("*.1.example", "1.example"), (-1, 30), "is not for *.c.example."),
        (("*.1.example", "*.c.example"), (-1, 30), "is not for 1.example."),
        (("*.example",), (-1, 30), "is not for *.c.example."),
        ((), (-1, 30), "It has no names (SAN)."),
    ],
)
def test_certificates_that_are_not_fit(tmp_path: Path, names: Sequence[str], days: tuple[int, int], says: str) -> None:
    """A certificate that has expired, is not valid yet, or lacks a name, is refused with which."""
    assert says in refused(*flags(tmp_path, *credentials(tmp_path / "pki", names, days)))
    assert not (tmp_path / "exp.sqlite").exists()


def test_names_may_be_given_one_by_one(tmp_path: Path) -> None:
    """Without a wildcard, all names up to --max must be there."""
    each = [f"{n}.1.example" for n in range(1, 5)]
    cert, key = credentials(tmp_path / "pki", ["0.c.example", "1.example", *each])
    assert "is not for *.1.example" in refused(*flags(tmp_path, cert, key, "--max", 5))
    with serving(tmp_path / "s", *NAMES, "--cert", cert, "--key", key, "--max", 4, lab=False):
        pass


def test_files_that_are_not_fit(tmp_path: Path) -> None:
    """Another key, one with a password, files that are none of both or are not there: each has its sentence."""
    cert, key = credentials(tmp_path / "pki")
    _, other = credentials(tmp_path / "other")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no PEM\n")
    locked = tmp_path / "locked.pem"
    secret = ec.generate_private_key(ec.SECP256R1())
    locked.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")))
    for used, says in (
        ((cert, other), f"The key in {other} is not the key of the certificate in {cert}."),
        ((cert, locked), f"The key in {locked} has a password. Write it without: openssl pkey -in {locked}"),
        ((nothing, key), f"--cert {nothing} has no certificates in PEM"),
        ((cert, nothing), f"--key {nothing} has no private key in PEM that OpenSSL "),
        ((cert, cert), f"--key {cert} has no private key in PEM that OpenSSL "),
        ((tmp_path / "gone", key), f"Cannot read --cert {tmp_path / 'gone'}: No such file or directory."),
        ((cert, tmp_path / "gone"), f"Cannot read --key {tmp_path / 'gone'}: No such file or directory."),
    ):
        assert says in refused(*flags(tmp_path, *used))


def test_an_intermediate_certificate_that_has_expired(tmp_path: Path) -> None:
    """The other certificates of the chain are looked at, too."""
    cert, key = credentials(tmp_path / "pki")
    old, _ = credentials(tmp_path / "old", days=(-30, -2))
    cert.write_bytes(cert.read_bytes() + old.read_bytes())
    assert f"Certificate 2 of {cert} has expired on " in refused(*flags(tmp_path, cert, key))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use(tmp_path: Path, host: str) -> None:
    """A port that another server listens at is named, with another one to use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        says = refused("--lab", "--store", tmp_path / "exp.sqlite", "--port", port)
        assert (
            f"Port {port} is in use. Stop what listens there, or choose another one: --port {port % 65535 + 1}" in says
        )


def without_rights(*words: object) -> str:
    """What `fanfold tls serve` says to a user without rights."""
    # Containers often let everyone use all ports; a new network does not.
    other = ["unshare", "--net", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [sys.executable, "-m", "fanfold", "tls", "serve", *map(str, words)]
    done = subprocess.run(
        [*(other if os.geteuid() == 0 else []), *command], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_a_port_for_the_administrator(public: Path) -> None:
    """For a user without rights, the command says how to serve at port 443."""
    says = without_rights("--lab", "--store", public / "exp.sqlite", "--port", 443)
    assert "Port 443 is for the administrator alone. Use a port from 1024 on (--port 8443)" in says


def test_a_store_out_of_reach(public: Path) -> None:
    """A store in a folder that the user may not enter is refused, with its name."""
    (public / "closed").mkdir()
    (public / "closed").chmod(0)
    store = public / "closed" / "exp.sqlite"
    assert f"Cannot use --store {store}: Permission denied" in without_rights("--lab", "--store", store)


def test_addresses_that_are_not_ours(tmp_path: Path) -> None:
    """An address that this machine does not have, or that is none, is named."""
    for host in ("192.0.2.1", "nowhere.invalid"):
        says = refused("--lab", "--store", tmp_path / "exp.sqlite", "--port", 0, "--host", host)
        assert f"Cannot listen at {host}, port 0: " in says


def test_what_a_command_needs(tmp_path: Path) -> None:
    """Without names or files, the command says what to type; a lab has its own, and options have ranges."""
    store = tmp_path / "exp.sqlite"
    cert, key = credentials(tmp_path / "pki")
    (tmp_path / "empty").write_text("\n")
    for given, says in (
        ((), "To try it on this machine: fanfold tls serve --lab --store "),
        ((*NAMES, "--cert", cert), "Serving needs names and a certificate"),
        (("--lab", "--cert", cert, "--key", key), "--lab makes a certificate of its own."),
        (("--lab", "--port", 65536), "--port takes a number from 0 to 65535, not 65536."),
        (("--lab", "--per-minute", -1), "--per-minute takes a number from 0 on, not -1."),
        (("--lab", "--max", 100), "--max takes a number from 1 to 99, not 100."),
        (("--lab", "--asn", tmp_path / "gone"), "Cannot read --asn "),
        (("--lab", "--asn", tmp_path / "empty"), "empty has no ranges. The table to use is ip2asn-combined.tsv"),
        (("--lab", "--asn", "/dev/zero"), "--asn /dev/zero is not a file."),
        (("--lab", "--host", ""), "--host is empty."),
        ((*NAMES, "--cert", "/dev/zero", "--key", key), "--cert /dev/zero is not a file of certificates or keys"),
    ):
        assert says in refused("--store", store, *given)


def test_a_store_must_be_a_file(tmp_path: Path) -> None:
    """A folder, a device, an empty name and a folder that is not there are refused, and nothing is written beside."""
    for store, says in (
        (tmp_path, "--store takes the name of a file, such as exp.sqlite; "),
        ("", "--store is empty. If it came from a shell variable, that variable is not set."),
        (".", "--store takes the name of a file, such as exp.sqlite; . is not a file."),
        ("/dev/null", "/dev/null is not a file."),
        (tmp_path / "gone" / "exp.sqlite", "gone of --store does not exist. Make it first: mkdir -p "),
        ("s3://bucket/exp.sqlite", "--store takes a path on this machine, not s3://bucket/exp.sqlite."),
    ):
        assert says in refused("--lab", "--port", 0, "--store", store)
    assert [*tmp_path.iterdir()] == []


def test_the_files_of_a_lab_are_used_again(tmp_path: Path) -> None:
    """The authority stays, so that a browser must learn to trust it once; other names get other files."""
    with serving(tmp_path / "s") as server:
        first = server.authority.read_bytes()
        key = server.authority.with_name("server.key")
        assert key.stat().st_mode & 0o777 == 0o600
    with serving(tmp_path / "s") as server:
        assert server.authority.read_bytes() == first
        assert ask(server, "0.c.localhost")[0] == 204
    with serving(tmp_path / "s", "--live", "2.localhost") as server:
        assert server.authority.read_bytes() != first
        assert ask(server, "5.2.localhost")[0] == 204


def test_files_of_a_lab_that_a_full_disk_has_cut_short(tmp_path: Path) -> None:
    """What could not be written as a whole is made again, with room."""
    authority = tmp_path / "ca.pem"
    authority.symlink_to("/dev/full")
    names = Names.of("c.localhost", "1.localhost")
    with pytest.raises(StorageError, match="No space left on device"):
        lab(tmp_path, names)
    authority.unlink()
    authority.touch()
    assert lab(tmp_path, names).authority.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")


def test_without_the_extra(tmp_path: Path) -> None:
    """Without pyOpenSSL the command says which extra to install."""
    code = (
        "import sys; sys.modules['OpenSSL'] = None\n"
        "from fanfold.cli import exit_code\n"
        f"sys.exit(exit_code(['tls', 'serve', '--lab', '--store', {str(tmp_path / 'exp.sqlite')!r}]))"
    )
    done = nursery.run([sys.executable, "-c", code])
    assert done.returncode == 2
    assert "`fanfold tls serve` needs the extra 'tls'. Install it with: pip install 'fanfold[tls]'" in done.stderr
