"""The page of `fanfold tls serve` in a real browser: headless Chromium."""

import base64
import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from serving import LIVE, Serving, in_process, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


def opened(folder: Path, certificate: Path, address: str, *flags: str) -> str:
    """The document of a page, as it is when its script is done."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--no-proxy-server",
            f"--user-data-dir={folder}",
            f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}",
            "--virtual-time-budget=60000",
            *flags,
            "--dump-dom",
            address,
        ],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_chromium_leaves_a_pair(tmp_path: Path) -> None:
    """The page leaves a control and a live row under one key, with the n that was issued, and says that it is done."""
    with serving(tmp_path / "s", is_fresh=True) as server:
        certificate = server.authority.with_name("server.pem")
        text = opened(tmp_path / "profile", certificate, f"https://{LIVE}:{server.port}/")
        found = re.search(r'<p id="fanfold-handshakes">done: n (\d+), control stored, live stored</p>', text)
        assert found, text
        control, live = server.rows()
        (issued,) = server.rows("issued")
        n = int(found[1])
        assert (control["role"], live["role"]) == ("control", "live")
        assert control["key"] == live["key"] == issued["key"]
        assert control["n"] == live["n"] == issued["n"] == n
        longer = live["first_flight_bytes"] - control["first_flight_bytes"]
        assert 1005 * n - 6 <= longer <= 1005 * n + 6 + 22 * 4  # ECDSA's signatures vary; records have heads
        for row in (control, live):
            assert row["tls"] == "TLSv1.3"
            assert row["group"] == "X25519MLKEM768"  # of the OpenSSL that serves, and of Chromium
            assert row["hello_bytes"] > 1200
            assert row["prefix"] in ("127.0.0.0/24", "::/48")
        counts = server.stop()
    assert counts["stored: control"] == counts["stored: live"] == counts["issued"] == 1
    assert counts.get("replays", 0) == 0


def test_names_of_an_operator(tmp_path: Path) -> None:
    """With names of its own, which only the browser maps to this machine, the page works as well."""
    names = ("--control", "c.example", "--live", "1.example", "--page", "www.example")
    with serving(tmp_path / "s", *names) as server:
        certificate = server.authority.with_name("server.pem")
        rules = f"--host-resolver-rules=MAP *.example 127.0.0.1:{server.port}"
        text = opened(tmp_path / "profile", certificate, "https://www.example/", rules)
        assert "control stored, live stored" in text
        assert {row["prefix"] for row in server.rows()} == {"127.0.0.0/24"}


class Page(BaseHTTPRequestHandler):
    """Another site's page, which embeds the script."""

    script = ""

    def do_GET(self) -> None:
        text = f'<!doctype html><p id="fanfold-handshakes">-</p><script src="{self.script}"></script>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def site() -> Iterator[HTTPServer]:
    """A server of such a page."""
    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_script_in_another_page(tmp_path: Path, site: HTTPServer) -> None:
    """A page of another site that embeds /pair.js leaves a pair, too."""
    with serving(tmp_path / "s") as server:
        Page.script = f"https://{LIVE}:{server.port}/pair.js"
        certificate = server.authority.with_name("server.pem")
        text = opened(tmp_path / "profile", certificate, f"http://127.0.0.1:{site.server_port}/")
        assert "control stored, live stored" in text
        assert len(server.rows()) == 2
        assert len(server.rows("issued")) == 1


def test_a_pair_without_a_store(tmp_path: Path) -> None:
    """When pairs cannot be stored, the script draws its own, and the page says that nothing was stored."""
    with in_process(tmp_path) as server:
        server._store._opened.execute("PRAGMA query_only = 1")  # every write fails
        served = Serving(None, tmp_path, server.port)
        certificate = served.authority.with_name("server.pem")
        text = opened(tmp_path / "profile", certificate, f"https://{LIVE}:{server.port}/")
        assert re.search(r"done: n [1-9]\d?, control not stored, live not stored", text), text
        assert served.rows() == served.rows("issued") == []
        assert server.counts.now()["not stored"] == 3
        assert len(server.log) == 1
        assert server.log[0].startswith("Cannot store: attempt to write a readonly database.")
