"""The map on the page of a table: what is sent of it, and what it does in headless Chromium."""

import re
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, FloatRect, expect
from playwright.sync_api import Page as Tab
from viewing import CHROMIUM, DIMENSION, Page, cells, chromium, clean, coloured, opened, table_of, viewing

from fanfold.images import maps
from fanfold.images.viewer.mapped import within

in_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
ROWS = 40
WHOLE = "0,0,65535,0,65535,65535,0,65535"


def table(folder: Path) -> Path:
    """A database of small pictures in two folders, without a map."""
    uris = coloured(folder / "photos", ROWS)
    keys = {f"{'ab'[number % 4 == 0]}/{key}": uri for number, (key, uri) in enumerate(uris.items())}
    return table_of(folder / "db", str(folder / "photos"), keys)


def dataset(database: Path) -> lance.LanceDataset:
    """The newest version of its table."""
    return lance.dataset(str(database / "images.lance"))


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = table(tmp_path_factory.mktemp("mapped"))
    maps.build(dataset(database))
    return database


@pytest.fixture(name="page", scope="module")
def _page(database: Path) -> Iterator[Page]:
    with viewing(database) as page:
        yield page


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def bits(page: Page, question: str) -> list[int]:
    """The rows that a question chooses."""
    body = np.frombuffer(page.ask(f"/api/chosen?{question}").body, np.uint8)
    return np.flatnonzero(np.unpackbits(body, bitorder="little")).tolist()


def test_places_and_groups_are_sent_as_bytes(page: Page, database: Path) -> None:
    """The places of all rows come in the table's order, two bytes a number; the groups a byte each, by facet."""
    about = page.ask("/api/map").json
    assert (about["rows"], about["placed"], about["due"], about["by"]) == (ROWS, ROWS, None, ["folder"])
    kept = maps.load(dataset(database))
    assert kept
    places = np.frombuffer(page.ask("/api/map/places").body, "<u2").reshape(-1, 2)
    assert np.array_equal(places, kept.places)
    (facet,) = page.ask("/api/facets").json["facets"]
    groups = page.ask("/api/map/colours?by=folder").body
    rows = {row: key for key, row in page.rows().items()}
    assert [facet["values"][group - 1]["value"] for group in groups] == [rows[row][:2] for row in range(ROWS)]


def test_an_area_is_a_selection(page: Page) -> None:
    """Rows in an area of the map are listed, and joined with a text in the name; a bit for each says the same."""
    places = np.frombuffer(page.ask("/api/map/places").body, "<u2").reshape(-1, 2).astype(int)
    x, y = places[7]
    corners = f"{x - 1},{y - 1},{x + 1},{y - 1},{x + 1},{y + 1},{x - 1},{y + 1}"
    assert 7 in [row["row"] for row in page.ask(f"/api/rows?area={corners}").json["rows"]]
    assert bits(page, f"area={WHOLE}") == list(range(ROWS))
    assert len(bits(page, f"area={WHOLE}&find=b/")) == ROWS // 4
    assert bits(page, "") == list(range(ROWS))


@pytest.mark.parametrize(
    "area", ["", "1,2", "1,2,3,4", "1,2,3,4,5", "a,1,2,3,4,5", "-1,0,2,3,4,5", ",".join("12" * 201)]
)
def test_a_wrong_area_is_refused(page: Page, area: str) -> None:
    """An area that is not three corners or more, each two numbers, is refused with a sentence; so is a wrong facet."""
    answer = page.ask(f"/api/rows?area={area}")
    assert (answer.status, "corners" in answer.json["error"]) == (400, True)
    assert page.ask("/api/map/colours?by=%3Cb%3E").status == 400
    assert page.ask("/api/rows?label=%3Cb%3E").status == 400


@given(st.lists(st.tuples(st.integers(0, 65534), st.integers(0, 65534)), min_size=1, max_size=20))
def test_which_places_an_area_holds(places: list[tuple[int, int]]) -> None:
    """A rectangle holds what is between its sides; an arrow not what is in its notch; nothing holds the unplaced."""
    found = np.array([*places, (maps.NOWHERE, maps.NOWHERE)], np.uint16)
    box = np.array([[10_000, 20_000], [50_000, 20_000], [50_000, 40_000], [10_000, 40_000]])
    between = [row for row, (x, y) in enumerate(places) if 10_000 <= x < 50_000 and 20_000 < y <= 40_000]
    edges = [row for row, (x, y) in enumerate(places) if x in (10_000, 50_000) or y in (20_000, 40_000)]
    assert set(within(found, box)) - set(edges) == set(between) - set(edges)
    arrow = np.array([[0, 0], [60_000, 30_000], [0, 60_000], [30_000, 30_000]])
    assert within(np.array([[20_000, 30_000], [40_000, 30_000]], np.uint16), arrow).tolist() == [1]


@in_chromium
def test_the_map_is_accessible_and_works_by_keyboard(browser: Browser, page: Page) -> None:
    """axe finds nothing, wide and narrow; keys move, zoom and say what is in the middle, and Enter opens it."""
    with opened(browser, page, "map") as tab:
        expect(tab.get_by_role("status")).to_have_text(f"{ROWS} pictures on the map")
        expect(tab.locator(".limits")).to_contain_text("distances between far groups mean little")
        clean(tab)
        canvas = tab.get_by_role("application")
        canvas.focus()
        for key in ("+", "ArrowLeft", "-", "0"):
            tab.keyboard.press(key)
        expect(tab.get_by_role("status")).to_have_text(re.compile(r"^[ab]/\d\d\.png$"))
        name = tab.get_by_role("status").inner_text()
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("heading", level=2)).to_have_text(name)
        tab.keyboard.press("m")
        expect(tab.get_by_role("status")).to_contain_text("of 40 pictures on the map like")
        tab.get_by_role("link", name="All").click()
        expect(tab.get_by_role("status")).to_have_text(f"{ROWS} pictures on the map")


def box_of(tab: Tab) -> FloatRect:
    """Where the map is on the page, once it is drawn there."""
    canvas = tab.locator("canvas")
    expect(canvas).to_be_visible()
    box = canvas.bounding_box()
    assert box
    return box


@in_chromium
def test_an_area_leads_to_the_grid_and_a_search_to_the_map(browser: Browser, page: Page) -> None:
    """What is drawn around becomes a grid; a search, a chip and an area are highlighted on the map; a click opens."""
    with opened(browser, page, "map") as tab:
        status = tab.get_by_role("status")
        expect(status).to_have_text(f"{ROWS} pictures on the map")
        box = box_of(tab)
        corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
        tab.get_by_role("button", name="Select an area").click()
        tab.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 0.02 * box["height"])
        tab.mouse.down()
        for x, y in corners:
            tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        tab.mouse.up()
        expect(status).to_have_text(f"{ROWS} pictures in an area of the map")
        expect(cells(tab)).to_have_count(ROWS)
        tab.get_by_role("link", name="Map").click()
        expect(status).to_have_text("40 of 40 pictures on the map in an area of the map")
        tab.get_by_role("searchbox").fill("03.png")
        tab.keyboard.press("Enter")
        expect(status).to_have_text("1 of 40 pictures on the map with “03.png” in the name")
        tab.get_by_role("link", name="Show them").click()
        expect(cells(tab)).to_have_count(1)
        tab.go_back()
        tab.get_by_role("link", name="All").click()
        tab.get_by_role("combobox").select_option("folder")
        tab.get_by_role("button", name="b/ 10").click()
        expect(status).to_have_text("10 of 40 pictures on the map where starts_with(key, 'b/')")
        tab.get_by_role("button", name="List what is in view").click()
        expect(status).to_contain_text("10 pictures in an area of the map where")


def middle_of(page: Page, row: int) -> tuple[int, int]:
    """The place of a row."""
    x, y = np.frombuffer(page.ask("/api/map/places").body, "<u2").reshape(-1, 2)[row]
    return int(x), int(y)


@in_chromium
def test_wheel_and_drag(browser: Browser, page: Page) -> None:
    """The wheel zooms to the pointer, a drag moves the map; the pointer shows a picture, a click opens it."""
    with opened(browser, page, "map") as tab:
        expect(tab.get_by_role("status")).to_have_text(f"{ROWS} pictures on the map")
        box = box_of(tab)
        zoom = min(box["width"], box["height"]) / 65536 / 1.05
        x, y = middle_of(page, 5)
        at = (box["x"] + box["width"] / 2 + (x - 32768) * zoom, box["y"] + box["height"] / 2 + (y - 32768) * zoom)
        tab.mouse.move(*at)
        expect(tab.locator(".tip")).to_be_visible()
        tab.mouse.wheel(0, -600)
        tab.mouse.move(at[0] + 2, at[1])
        expect(tab.locator(".tip .name")).to_have_text(re.compile(r"05\.png"))
        tab.mouse.down()
        tab.mouse.move(at[0] + 62, at[1] + 40, steps=3)
        tab.mouse.up()
        expect(tab.locator(".plane")).to_be_visible()  # a drag is not a click
        tab.mouse.click(at[0] + 60, at[1] + 40)
        expect(tab.get_by_role("heading", level=2)).to_contain_text("05.png")


@in_chromium
def test_two_fingers(browser: Browser, page: Page) -> None:
    """Two fingers that part zoom: fewer pictures are in view then."""
    with opened(browser, page, "map") as tab:
        status = tab.get_by_role("status")
        expect(status).to_have_text(f"{ROWS} pictures on the map")
        box, fingers = box_of(tab), tab.context.new_cdp_session(tab)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind, apart in (("touchStart", 20), ("touchMove", 50), ("touchMove", 100), ("touchEnd", 0)):
            points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        tab.get_by_role("button", name="List what is in view").click()
        expect(status).to_have_text(re.compile(r"^[12]?\d pictures in an area of the map$"))


@in_chromium
def test_a_map_that_is_made_and_grows(browser: Browser, tmp_path: Path) -> None:
    """Without a map the page says what it costs and what to type, and shows it when it is made; new rows are named."""
    database = table(tmp_path)
    with viewing(database) as page, opened(browser, page, "map") as tab:
        expect(tab.locator(".empty")).to_contain_text(f"fanfold images map {database}")
        expect(tab.locator(".empty")).to_contain_text("of memory")
        assert page.ask("/api/map/places").status == page.ask(f"/api/rows?area={WHOLE}").status == 400
        maps.build(dataset(database))
        expect(tab.get_by_role("status")).to_have_text(f"{ROWS} pictures on the map")
        rows = dataset(database).to_table(limit=2).to_pylist()
        for number, row in enumerate(rows):
            row |= {"key": f"new {number}", "vector": np.ones(DIMENSION, np.float32)}
        lance.write_dataset(rows, str(database / "images.lance"), schema=dataset(database).schema, mode="append")
        tab.get_by_role("button", name="Show").click()
        expect(tab.locator(".lead")).to_contain_text("2 pictures are not on the map yet")
        maps.build(dataset(database))
        tab.get_by_role("button", name="Look again").click()
        expect(tab.get_by_role("status")).to_have_text("42 pictures on the map")
        expect(tab.locator(".lead")).to_be_hidden()
