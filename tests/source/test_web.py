"""Web pages: the requests, what servers may do, and the timeouts."""

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

import fanfold
from fanfold.job import UNKNOWN
from fanfold.source.web import Web, _pool, version_of
from fanfold.storage import TooLarge, side_by_side
from faults import wait_for
from pages import LAST_MODIFIED, Site, site

PATIENT = Web(connect=60, silence=60, whole=120, pause=0.02, longest_pause=0.1)
"""For all servers that answer: long enough even on a slow machine."""
HURRIED = {"hang": replace(PATIENT, silence=0.2), "drip": replace(PATIENT, whole=0.5)}
"""For servers that never finish, by their manner."""
TIME = "2026-11-02T10:00:00+00:00"


@pytest.fixture
def server() -> Iterator[Site]:
    """A web server whose pages all have the same text."""
    with site() as running:
        yield running


@pytest.mark.parametrize(
    "manner",
    [
        *("HEAD 405", "HEAD 404", "HEAD 403", "HEAD 501", "HEAD 500", "HEAD 200", "HEAD 204", "plain", "chunked"),
        *("unending", "etag", "etag alone", "etag now", "gzip", "busy 2 0", "busy 1 9999", "reset 2", "cut 1"),
    ],
)
def test_pages_of_every_manner_are_read(server: Site, manner: str) -> None:
    """A page that is available is read whole, for every manner of a server."""
    page = server.page(manner)
    assert PATIENT.look(page)["size"] in (4, 0)
    assert PATIENT.read(page, 4) == b"text"


@pytest.mark.parametrize(
    ("manner", "kind", "words"),
    [
        ("GET 404", FileNotFoundError, "not found: http"),
        ("GET 410", FileNotFoundError, "not found: http"),
        ("GET 403", OSError, "answered 403"),
        ("GET 503", OSError, "answered 503"),
        ("reset", ConnectionError, "reset by peer"),
        ("hang", TimeoutError, "no answer for 0.2 s"),
        ("to ", ConnectionError, "too many redirects"),
        ("to ftp:%2F%2Fhost%2Fx", OSError, "ftp"),
    ],
)
def test_what_cannot_be_had(server: Site, manner: str, kind: type[OSError], words: str) -> None:
    """A page that a server does not return is an OSError with the reason, for look and for read."""
    web = HURRIED.get(manner, PATIENT)
    for ask in (web.look, web.read):
        with pytest.raises(kind, match=words):
            ask(server.page(manner))


@pytest.mark.parametrize(
    ("manner", "kind", "words"),
    [
        ("short", ConnectionError, "broke off"),
        ("cut 9", ConnectionError, "reset|broke"),
        ("drip", TimeoutError, "took more than 0.5 s"),
    ],
)
def test_a_body_that_is_not_whole_is_not_read(server: Site, manner: str, kind: type[OSError], words: str) -> None:
    """A body that is shorter than announced, breaks off every time, or never ends, is a failure and not a page."""
    with pytest.raises(kind, match=words):
        HURRIED.get(manner, PATIENT).read(server.page(manner))


@pytest.mark.parametrize("manner", ["plain", "chunked", "unending", "gzip"])
def test_a_page_over_the_limit_is_not_read(manner: str) -> None:
    """A page is given up as soon as it is known to be too large, even if its server does not announce its size."""
    with site(bytes(1 << 20)) as server:
        with pytest.raises(TooLarge, match="over the limit of 1,000 bytes"):
            PATIENT.read(server.page(manner), 1000)
        assert len(PATIENT.read(server.page(manner), 1 << 20)) == 1 << 20


@pytest.mark.parametrize(
    ("spelled", "asked"),
    [
        ("/iiif/a%2Fb%3Ac/full/max/0/default.jpg", "/iiif/a%2Fb%3Ac/full/max/0/default.jpg"),
        ("//x.jpg", "//x.jpg"),
        ("/a//b///c", "/a//b///c"),
        ("/x.jpg#top", "/x.jpg"),
        ("/x.jpg?size=3&y=/z//w#a?b", "/x.jpg?size=3&y=/z//w"),
        ("?x=1", "/?x=1"),
        ("/a b/é.jpg?q=ü x", "/a%20b/%C3%A9.jpg?q=%C3%BC%20x"),
        ("/100%/a%20b%zz", "/100%25/a%20b%25zz"),
        ("/caf\udce9.jpg", "/caf%E9.jpg"),
        ("/+&;,='(x)!*~", "/+&;,='(x)!*~"),
        ("/dir/", "/dir/"),
    ],
)
def test_an_address_is_asked_for_as_it_is_written(server: Site, spelled: str, asked: str) -> None:
    """Only characters that an address cannot have are escaped in path and query; the fragment is not sent."""
    PATIENT.look(server.address + spelled)
    PATIENT.read(server.address + spelled)
    assert server.asked == [f"HEAD {asked}", f"GET {asked}"]


def test_redirects_are_followed(server: Site) -> None:
    """A page may be at another host, which does not get the login."""
    with site(b"moved") as other:
        page = server.page(f"to {other.address.replace('/', '%2F')}%2Fx").replace("//", "//me:secret@", 1)
        assert PATIENT.read(page) == b"moved"
        assert server.heads[0]["authorization"] == "Basic bWU6c2VjcmV0"
        assert "authorization" not in other.heads[0]


def test_servers_see_who_asks(server: Site) -> None:
    """Requests name the program, and ask for unencoded bodies."""
    PATIENT.read(server.page("plain"))
    assert server.heads[0]["user-agent"] == f"fanfold/{fanfold.__version__}"
    assert server.heads[0]["accept-encoding"] == "identity"


def test_a_proxy_of_the_environment_is_used(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """http_proxy and no_proxy work as in urllib, including a login."""
    monkeypatch.setenv("http_proxy", server.address.replace("//", "//me:secret@"))
    assert PATIENT.read("http://nowhere.invalid/x.jpg") == b"text"
    assert server.asked == ["GET http://nowhere.invalid/x.jpg"]
    assert server.heads[0]["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    with pytest.raises(ConnectionError, match="host is not known"):
        PATIENT.read("http://nowhere.invalid/x.jpg")


@pytest.mark.parametrize("address", ["http://", "http://[bad/x", "https:///x.jpg", "http://host:port/", "http://a b/"])
def test_an_address_that_is_none(address: str) -> None:
    """An invalid address is an OSError."""
    with pytest.raises(OSError):
        PATIENT.read(address)


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a trusted certificate is not read, unless SSL_CERT_FILE trusts it."""
    with site() as server:
        certify(server, tmp_path / "certificate.pem")
        page = server.page("plain").replace("http:", "https:")
        _pool.cache_clear()
        with pytest.raises(ConnectionError, match=r"no secure connection.*CERTIFICATE_VERIFY_FAILED"):
            PATIENT.read(page)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        _pool.cache_clear()
        assert PATIENT.read(page) == b"text"
    _pool.cache_clear()


def certify(server: Site, file: Path) -> None:
    """Make a server use TLS with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2099, 1, 1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = file.with_name("private.pem")
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


def error_of(page: str) -> OSError:
    """The error from reading a page."""
    with pytest.raises(OSError) as caught:
        PATIENT.read(page)
    return caught.value


def test_a_server_that_resets_is_asked_thrice(server: Site) -> None:
    """Sixteen pages whose connections reset are given up in parallel, after three requests each."""
    pages = [server.page("reset", f"{number}.txt") for number in range(16)]
    assert {type(error) for error in side_by_side(error_of, pages, 16)} == {ConnectionError}
    assert set(server.times.values()) == {3}
    assert len(server.times) == 16


def test_a_server_that_hangs_is_asked_thrice(server: Site) -> None:
    """A page whose server does not answer is given up after three requests, and HEAD is not followed by GET."""
    page, web = server.page("hang"), HURRIED["hang"]
    for ask in (web.look, web.read):
        with pytest.raises(TimeoutError, match="no answer for"):
            ask(page)
    wait_for(lambda: server.times.total() >= 6)  # the server may see a request after its client has given up
    assert sorted(server.times.values()) == [3, 3]


def test_a_body_is_asked_for_once_more(server: Site) -> None:
    """A body that breaks off is requested twice."""
    error_of(server.page("cut 9"))
    assert list(server.times.values()) == [2]


# Versions


def version(headers: dict[str, str], size: int = 255) -> str:
    """The version of a page with these headers, in an answer one day after `LAST_MODIFIED`."""
    return version_of({"Date": "Tue, 03 Nov 2026 10:00:00 GMT"} | headers, size)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Last-Modified": LAST_MODIFIED, "ETag": '"a"'}, f"{TIME}-ff"),
        ({"Last-Modified": LAST_MODIFIED, "ETag": '"b"'}, f"{TIME}-ff"),
        ({"Last-Modified": LAST_MODIFIED}, f"{TIME}-ff"),
        ({"ETag": '"a"'}, "a"),
        ({"ETag": 'W/"a"'}, "a"),
        ({"ETag": '"a"', "Last-Modified": "Tue, 03 Nov 2026 09:59:59 GMT"}, "a"),
        ({"ETag": '"a"', "Last-Modified": "Thu, 01 Jan 1970 00:00:01 GMT"}, "a"),
        ({"ETag": '"a"', "Last-Modified": "Tue, 01 Jan 1980 00:00:00 GMT"}, "a"),
        ({"ETag": '"a"', "Last-Modified": "yesterday"}, "a"),
        ({"ETag": "", "Last-Modified": "yesterday"}, "-ff"),
        ({}, "-ff"),
    ],
)
def test_versions(headers: dict[str, str], expected: str) -> None:
    """The version is time and length, if the time can be the page's; else the ETag; else the length."""
    assert version(headers) == expected


@given(st.dictionaries(st.sampled_from(["ETag", "Last-Modified", "Date"]), st.text()), st.integers(0, 1 << 40))
def test_a_version_of_whatever_a_server_says(headers: dict[str, str], size: int) -> None:
    """For any headers, a page has a version, and it differs from that of a missing page."""
    assert version_of(headers, size) not in ("", UNKNOWN)


@pytest.mark.parametrize(("manner", "same"), [("etag", True), ("tagged a", True), ("etag alone", False)])
def test_a_version_lasts(server: Site, manner: str, same: bool) -> None:
    """An unchanged page keeps its version if its time or ETag does; without a time, the ETag must be stable."""
    versions = {PATIENT.look(server.page(manner))["version"] for _ in range(3)}
    assert (len(versions) == 1) == same
