"""Who may ask the page of a table: the token, Host and Origin; and what every answer forbids."""

import gzip
import re
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from viewing import Page, coloured, table_of, viewing

from commands import FANFOLD
from fanfold.images.viewer.guard import Access, is_loopback
from fanfold.images.viewer.server import CONNECTIONS, listen


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of three small pictures."""
    folder = tmp_path_factory.mktemp("guard")
    return table_of(folder / "db", str(folder / "photos"), coloured(folder / "photos", 3))


@pytest.fixture(name="page", scope="module")
def _page(database: Path) -> Iterator[Page]:
    with viewing(database, names=("pictures.example",)) as page:
        yield page


def test_the_token_becomes_a_cookie(page: Page) -> None:
    """The printed address sets a cookie that scripts and other sites cannot use, and leads to an address without it."""
    answer = page.ask(f"/?t={page.access.token}", Cookie=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == f"fanfold-{page.access.port}"
    assert {part.strip().lower() for part in rest.split(";")[1:]} == {"httponly", "path=/", "samesite=strict"}
    assert page.ask("/").status == 200
    assert len(page.access.token) * 6 >= 128


@pytest.mark.parametrize("path", ["/", "/?t=", "/?t=wrong", "/static/main.js", "/api/table", "/thumb/0", "/events"])
@pytest.mark.parametrize("cookie", [None, "fanfold-1=x", "other=1; fanfold"])
def test_nothing_without_the_token(page: Page, path: str, cookie: str | None) -> None:
    """Without the cookie, or with a wrong token, every address is refused with a sentence that says what to do."""
    answer = page.ask(path, Cookie=cookie)
    assert answer.status == 403
    assert "Open the address that" in answer.json["error"]
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "", "127.0.0.1.evil.example:{port}"])
def test_another_name_is_refused(page: Page, host: str) -> None:
    """A Host that is not this server's is refused, with the right token too: a name may lead here (DNS rebinding)."""
    answer = page.ask("/api/table", Host=host.format(port=page.access.port))
    assert answer.status == 403
    assert "not called" in answer.json["error"]


@pytest.mark.parametrize("host", ["localhost:{port}", "[::1]:{port}", "pictures.example:{port}", "pictures.example"])
def test_names_of_this_server(page: Page, host: str) -> None:
    """This machine's names work, and those of --allow-host."""
    assert page.ask("/api/table", Host=host.format(port=page.access.port)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": None},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"X_Fanfold": None},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_post_comes_from_the_page(page: Page, headers: dict[str, str | None]) -> None:
    """A POST without the page's Origin and header is refused, before its body is looked at."""
    assert page.ask("/api/near", "POST", b"x", **headers).status == 403
    assert page.ask("/api/near", "POST", b"x").status == 415


def test_another_site_cannot_embed(page: Page) -> None:
    """A browser says where a request comes from; one from another site's page is refused, pictures included."""
    for site in ("cross-site", "same-site"):
        assert page.ask("/thumb/0", Sec_Fetch_Site=site).status == 403
    assert page.ask("/thumb/0", Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "path", ["/", "/static/main.js", "/api/table", "/thumb/0", "/picture/0", "/nothing", "/thumb/x"]
)
def test_every_answer_says_what_is_allowed(page: Page, path: str) -> None:
    """Each answer, errors included, forbids scripts from elsewhere, framing, and guessing of types; none has CORS."""
    for answer in (page.ask(path), page.ask(path, Cookie=None)):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "server"]


def test_the_page_is_small(page: Page) -> None:
    """All files of the page together are less than 28 kB as they are sent, and no file names another server."""
    folder = files("fanfold.images.viewer") / "static"
    names = [file.name for file in folder.iterdir()]
    answers = [page.ask(f"/static/{name}", Accept_Encoding="gzip") for name in names]
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert sum(len(answer.body) for answer in answers) < 28_000
    for name, answer in zip(names, answers, strict=True):
        text = gzip.decompress(answer.body)
        assert text == (folder / name).read_bytes()
        assert set(re.findall(rb"https?://[^\"'\s)]+", text)) <= {b"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_only_get_and_post(page: Page, method: str) -> None:
    """Other methods are refused."""
    assert page.ask("/api/table", method).status == 405


def test_a_server_for_others_knows_numbers_only(database: Path) -> None:
    """A server that listens everywhere may be called by any number, which leads nowhere else later, but by no name."""
    with viewing(database, host="0.0.0.0") as page:
        assert page.ask("/api/table", Host=f"192.0.2.7:{page.access.port}").status == 200
        assert page.ask("/api/table", Host=f"evil.example:{page.access.port}").status == 403
        assert page.access.address.startswith("http://127.0.0.1:")


def test_what_is_loopback() -> None:
    """Only addresses of this machine count as such."""
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example")))
    assert Access(8686, "::1").address.startswith("http://[::1]:8686/?t=")


def test_too_many_connections(database: Path) -> None:
    """Above the limit of connections a client is sent away; when they are gone, the page works again."""
    with viewing(database) as page:
        held = [socket.create_connection(("127.0.0.1", page.access.port)) for _ in range(CONNECTIONS)]
        for one in held:
            one.sendall(b"GET /api/table HTTP/1.1\r\n")  # and no end of the head
        assert page.ask("/api/table").status == 503
        for one in held:
            one.close()
        assert any(page.ask("/api/table").status == 200 for _ in range(50))


def test_ports() -> None:
    """The first free port is taken; one that is in use is an error that says so."""
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
        with pytest.raises(Exception, match="is in use"):
            listen("127.0.0.1", first.getsockname()[1])


def test_the_command_prints_an_address_and_ends_at_ctrl_c(database: Path) -> None:
    """It listens on loopback, prints what it serves and where, and Ctrl-C ends it with exit code 0."""
    command = [*FANFOLD, "images", "view", str(database), "--no-open", "--no-cache", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        what, address = process.stdout.readline(), process.stdout.readline()
        assert what.startswith("Table 'images': 3 pictures from ")
        assert address.startswith("http://127.0.0.1:")
        assert "/?t=" in address
        process.send_signal(2)
        _, notes = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Traceback" not in notes
