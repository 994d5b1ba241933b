"""Pages of tables for the tests: a server in this process, a client that sends what it likes, and Chromium."""

import http.client
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, sync_playwright
from playwright.sync_api import Page as Tab

from fanfold.images.viewer.app import Viewer
from fanfold.images.viewer.guard import Access
from fanfold.images.viewer.server import listen, serving
from fanfold.images.viewer.tables import Tables
from fanfold.storage import absolute

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = 'it\'s "quoted" <img src=x onerror=alert(1)>.png'
DIMENSION = 8


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


@dataclass
class Page:
    """A page that is served."""

    access: Access
    viewer: Viewer
    stop: Any

    @property
    def host(self) -> str:
        """What a browser would call the server."""
        return f"127.0.0.1:{self.access.port}"

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str | None) -> Answer:
        """Ask as the page does; `headers` change what it sends, and None leaves one out."""
        sent = {"Host": self.host, "Cookie": f"{self.access.cookie}={self.access.token}"}
        if method == "POST":
            sent |= {"Origin": f"http://{self.host}", "X-Fanfold": "1"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.access.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def rows(self) -> dict[str, int]:
        """The table's rows by key."""
        return {row["key"]: row["row"] for row in self.ask("/api/rows?count=500").json["rows"]}


@contextmanager
def viewing(
    database: str | Path, *, port: int | None = 0, token: str = "", fetch: bool = False, **access: Any
) -> Iterator[Page]:
    """Serve the page of a database's pictures while the block runs."""
    viewer = Viewer(Tables(absolute(str(database)), "images"), fetch=fetch, on_disk=False)
    viewer.live._every = 0.25  # as often as it can
    listener = listen(access.get("host", "127.0.0.1"), port)
    allowed = Access(listener.getsockname()[1], **access, **({"token": token} if token else {}))
    with serving(viewer, allowed, listener) as stop:
        yield Page(allowed, viewer, stop)


def table_of(database: Path, root: str, uris: Mapping[str, str], **columns: Sequence[Any]) -> Path:
    """A database whose table `images` has these keys at these addresses, as a stranger could make it."""
    schema = pa.schema(
        [
            *(pa.field(name, pa.string()) for name in ("key", "version", "uri")),
            pa.field("vector", pa.list_(pa.float32(), DIMENSION)),
        ],
        metadata={"fanfold.job": "images", "fanfold.root": root},
    )
    vectors = pa.array(np.random.default_rng(0).normal(size=len(uris) * DIMENSION).astype(np.float32))
    texts = [pa.array(list(values), pa.string()) for values in (uris, "1" * len(uris), uris.values())]
    made = pa.table([*texts, pa.FixedSizeListArray.from_arrays(vectors, DIMENSION)], schema=schema)
    for name, values in columns.items():
        made = made.append_column(name, pa.array(values))
    lance.write_dataset(made, str(database / "images.lance"))
    return database


def coloured(folder: Path, count: int) -> dict[str, str]:
    """Small pictures of different colours, and their addresses by key."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour = (number * 37 % 256, number * 91 % 256, number * 53 % 256)
        Image.new("RGB", (40, 30), colour).save(folder / f"{number:02d}.png")
    return {file.name: file.as_uri() for file in sorted(folder.iterdir())}


WATCH = """addEventListener('securitypolicyviolation', event =>
    console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI));
window.alerted = 0; window.alert = () => window.alerted++;"""
BLANK = "about:blank"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium, while the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        browser.new_context(locale="en-GB").add_init_script(WATCH)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, page: Page, hash: str = "") -> Iterator[Tab]:
    """A tab at the page. It must end without errors and violations, save for pictures that are gone."""
    context, errors = browser.contexts[0], []
    # A new tab takes as long as all else, so the tabs of tests that have passed are used again.
    tab = next((tab for tab in context.pages if tab.url == BLANK), None) or context.new_page()
    tab.set_viewport_size({"width": 1200, "height": 800})
    tab.emulate_media(color_scheme="light", reduced_motion="reduce")
    listeners = {
        "pageerror": lambda error: errors.append(str(error)),
        "console": lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    try:
        tab.goto(page.access.address)
        if hash:
            tab.goto(f"http://{page.host}/#{hash}")
        yield tab
        assert tab.evaluate("window.alerted") == 0
        assert [error for error in errors if "404 (Not Found)" not in error] == []
    except BaseException:
        tab.close()
        raise
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    tab.goto(BLANK)


VIOLATIONS = {"resultTypes": ["violations"]}
COLOURS = {**VIOLATIONS, "runOnly": ["color-contrast", "link-in-text-block"]}
"""The rules of axe that depend on colours, without those that are off by default."""


def clean(tab: Tab) -> None:
    """axe finds nothing, wide and narrow, in light and dark colours, and nothing is wider than the window."""
    for width, scheme, rules in ((1200, "dark", COLOURS), (400, "light", VIOLATIONS), (1200, "light", VIOLATIONS)):
        tab.set_viewport_size({"width": width, "height": 700})
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(tab, options=rules)
        assert found.violations_count == 0, (tab.url, width, scheme, found.generate_report())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def cells(tab: Tab) -> Locator:
    """The pictures in view."""
    return tab.locator("[role=gridcell]:visible")


def named(tab: Tab, key: str) -> Locator:
    """The picture of a name."""
    return cells(tab).filter(has=tab.locator(".name", has_text=key))
