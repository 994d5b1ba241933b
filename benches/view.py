"""The page of a table: how long until it shows something, and what it holds, at any number of rows.

    .venv/bin/python benches/view.py [--rows 1000000] [--dimension 1280] [--folder bench-data]

All rows have the same few pictures, so that thumbnails cost what they do with a warm cache. The table has its index,
and with 1280 dimensions, those of the default model, its labels. Headless Chromium, by Playwright; the times of the
server include HTTP, and are medians of --tries questions about random rows.
"""

import argparse
import json
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import lance
import measure
import numpy as np
import pyarrow as pa
import results
import vectors
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from fanfold.images import maps
from fanfold.images.models.efficientnet_lite import DIMENSION, LITE0
from fanfold.images.search import vector_index
from fanfold.images.words import labels
from fanfold.images.words.vocabulary import vocabulary

PICTURES = 50
FRAMES = """window.frames_ms = [];
const request = requestAnimationFrame;
window.requestAnimationFrame = draw => request(time => {
    const began = performance.now();
    draw(time);
    frames_ms.push(performance.now() - began);
});"""
"""Notes the milliseconds of each frame that the page draws."""


def table(folder: Path, rows: int, dimension: int) -> Path:
    """A table of made-up vectors, whose rows are pictures in a folder; with its index, labels and map. The database."""
    database = folder / f"view-{rows}-{dimension}"
    uri = database / "images.lance"
    if not uri.exists():
        photos = folder / "view-photos"
        photos.mkdir(parents=True, exist_ok=True)
        for number in range(PICTURES):
            noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
            Image.fromarray(noise).resize((800, 600)).save(photos / f"{number}.jpg")
        dataset = vectors.make(uri, rows, dimension)
        dataset.add_columns({"version": "'1'"})
        dataset = lance.dataset(str(uri))
        _address(dataset, photos)
    dataset = lance.dataset(str(uri))
    if not vector_index.has_index(dataset):
        vector_index.build(dataset)
    if dimension == DIMENSION:
        labels.refresh(dataset)
    if maps.due(dataset):
        maps.build(dataset)
    return database


def _address(dataset: lance.LanceDataset, photos: Path) -> None:
    """Give each row the address of a picture, and the table its root."""
    root = str(photos.resolve())

    def uris(batch: pa.RecordBatch) -> pa.RecordBatch:
        names = [f"file://{root}/{int(key[:8]) % PICTURES}.jpg" for key in batch["key"].to_pylist()]
        return pa.RecordBatch.from_pydict({"address": names})

    dataset.add_columns(uris, read_columns=["key"])
    dataset.drop_columns(["uri"])
    dataset.alter_columns({"path": "address", "name": "uri"})
    dataset.update_schema_metadata({"fanfold.job": "images", "fanfold.root": root, "fanfold.id": "bench"})
    if dataset.schema.field("vector").type.list_size == DIMENSION:
        dataset.update_schema_metadata({"fanfold.sha256": LITE0.sha256})


class Served:
    """A server of the page, in a process of its own."""

    def __init__(self, database: Path) -> None:
        began = time.perf_counter()
        command = [measure.OURS / "fanfold", "images", "view", database, "--no-open", "--port", "0", "--json"]
        self.process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = json.loads(self.process.stdout.readline())["address"]
        self.base, _, token = self.address.partition("?t=")
        port = self.base.rstrip("/").rpartition(":")[2]
        self.cookie = f"fanfold-{port}={token}"
        self.ask("api/table")
        self.ready = time.perf_counter() - began

    def ask(self, path: str) -> bytes:
        """The answer to a question."""
        with urlopen(Request(self.base + path, headers={"Cookie": self.cookie})) as answer:
            content: bytes = answer.read()
            return content

    def memory(self) -> int:
        """Bytes of the server and its helpers."""
        return sum(map(measure.pss, [self.process.pid, *measure.descendants(self.process.pid)]))


def median_ms(question: Callable[[], object], tries: int) -> str:
    """The median of the milliseconds of a question."""
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        question()
        seconds.append(time.perf_counter() - began)
    return f"{1000 * statistics.median(seconds):.0f} ms"


def seen(page: Page, began: float) -> str:
    """The seconds until every picture in view is shown."""
    expect(page.locator("[role=gridcell]:visible img:not(.wait)").first).to_be_visible(timeout=60_000)
    page.wait_for_function(
        "[...document.querySelectorAll('[role=row]:not([hidden]) [role=gridcell]:not([hidden]) img')]"
        ".every(image => image.complete && image.naturalWidth && !image.className)"
    )
    return f"{time.perf_counter() - began:.2f} s"


def in_chromium(served: Served, rows: int) -> list[list[str]]:
    """What a reader waits for, and what the page holds."""
    lines = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        page = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True).new_page()
        began = time.perf_counter()
        page.goto(served.address)
        lines.append(["first screen of thumbnails", seen(page, began)])
        began = time.perf_counter()
        page.locator("[role=gridcell][tabindex='0']").focus()
        page.keyboard.press("Control+End")
        expect(page.locator(".name", has_text=f"{rows - 1:08d}")).to_be_visible()
        lines.append(["jump to the last row", seen(page, began)])
        for share in np.linspace(0, 1, 200):
            page.evaluate("share => main.scrollTo(0, share * main.scrollHeight)", share)
            page.wait_for_timeout(20)
        lines.append(["cells in the page", str(page.locator("[role=gridcell]").count())])
        lines.append(["heap of the page", f"{page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.0f} MB"])
        page.close()
        lines += of_the_map(
            browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True).new_page(), served, rows
        )
        browser.close()
    return lines


def of_the_map(page: Page, served: Served, rows: int) -> list[list[str]]:
    """How long until the map is shown, and how long its frames take."""
    page.add_init_script(FRAMES)
    page.goto(served.address)
    expect(page.get_by_role("status")).not_to_be_empty()
    began = time.perf_counter()
    page.goto(f"{served.base}#map")
    expect(page.get_by_role("status")).to_have_text(f"{rows:,} pictures on the map", timeout=60_000)
    lines = [["the map", f"{time.perf_counter() - began:.2f} s"]]
    box = page.locator("canvas").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lines.append(["pixels of the map", f"{box['width']:.0f} x {box['height']:.0f}"])
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("() => { frames_ms.length = 0 }")
    page.mouse.move(x + 200, y + 100, steps=60)
    dragged = page.evaluate("frames_ms")
    page.evaluate("() => { frames_ms.length = 0 }")
    page.mouse.up()
    page.wait_for_timeout(500)
    high = statistics.quantiles(dragged, n=20)[-1]
    lines.append(["a frame of a drag: median, 95 %", f"{statistics.median(dragged):.1f} ms, {high:.1f} ms"])
    lines.append(["a frame at rest, all points", f"{max(page.evaluate('frames_ms')):.1f} ms"])
    lines.append(["heap with the map", f"{page.evaluate('performance.memory.usedJSHeapSize') / 1e6:.0f} MB"])
    return lines


def main() -> None:
    """Make the table, serve it, ask, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("bench-data"))
    asked = parser.parse_args()
    busy = measure.idle()
    database = table(asked.folder, asked.rows, asked.dimension)
    served = Served(database)
    try:
        row = lambda: random.randrange(asked.rows)  # noqa: E731
        lines = [["ready to answer", f"{served.ready:.2f} s"]]
        for name, path in (
            ("200 rows in a row", "api/rows?count=200&from={}"),
            ("a row by its key", "api/row?key={:08d}.jpg"),
            ("60 neighbours", "api/near?k=60&row={}"),
            ("500 neighbours", "api/near?k=500&row={}"),
            ("names with a text (new each time)", "api/rows?find={:05d}"),
            ("a thumbnail", "thumb/{}"),
        ):
            lines.append([name, median_ms(lambda path=path: served.ask(path.format(row())), asked.tries)])
        if asked.dimension == DIMENSION:
            words = random.sample(sorted(vocabulary()), asked.tries + 1)
            word = lambda: served.ask(f"api/rows?count=60&words={quote(words.pop())}")  # noqa: E731
            word()  # loads the labels
            lines.append(["a word (new each time)", median_ms(word, asked.tries)])
        lines += in_chromium(served, asked.rows)
        lines.append(["memory of the server and its helpers", f"{served.memory() / 1e6:.0f} MB"])
    finally:
        served.process.terminate()
    found = dict(lines)
    readme = (
        f"The page of {asked.rows:,} pictures: its first screen after {found['first screen of thumbnails']}, "
        f"60 neighbours in {found['60 neighbours']}"
        + (f", a word in {found['a word (new each time)']}" if "a word (new each time)" in found else "")
        + f"; {found['memory of the server and its helpers']} of memory."
    )
    print(results.record("view", readme, results.markdown([f"{asked.rows:,} x {asked.dimension}", ""], lines), busy))


if __name__ == "__main__":
    main()
