"""The page of a table in a real browser: headless Chromium, by Playwright."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from viewing import (
    CHROMIUM,
    DIMENSION,
    HOSTILE,
    Page,
    cells,
    chromium,
    clean,
    coloured,
    named,
    opened,
    table_of,
    viewing,
)

from commands import fanfold

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

SHOWN = ("motorcycle_left", "motorcycle_right", "chelsea", "coffee", "rocket", "horse", "chessboard_GRAY")
expect.set_options(timeout=20_000)


@pytest.fixture(name="album", scope="module")
def _album(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, Path]) -> Path:
    """A database of photos, of odd names, of a file that is gone, and of files that are not pictures."""
    folder = tmp_path_factory.mktemp("album")
    pictures = folder / "<script>alert(1)</script>"
    pictures.mkdir(parents=True)
    for name in SHOWN:
        shutil.copy(photos[name], pictures)
    shutil.copy(photos["chessboard_RGB"], pictures / "chess again.png")
    shutil.copy(photos["coffee"], pictures / HOSTILE)
    shutil.copy(photos["camera"], bytes(pictures) + b"/caf\xe9.png")
    shutil.copy(photos["color"], pictures / "deleted.png")
    (pictures / "<b>text.jpg").write_text("<script>alert(2)</script>")
    (pictures / "cut.png").write_bytes(photos["coffee"].read_bytes()[:300])
    assert fanfold("images", "embed", folder, folder / "db", "--workers", 1).returncode == 3
    (pictures / "deleted.png").unlink()
    return folder / "db"


@pytest.fixture(name="served", scope="module")
def _served(album: Path) -> Iterator[Page]:
    with viewing(album) as page:
        yield page


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


SCRIPT = "%3Cscript%3Ealert(1)%3C%2Fscript%3E"


def test_every_view_is_accessible_and_keeps_the_policy(browser: Browser, served: Page, photos: dict[str, Path]) -> None:
    """axe finds nothing in any view and dialog, in light and dark, wide and narrow; nothing breaks the policy."""
    with opened(browser, served) as tab:
        for hash, heading in (
            ("", None),
            (f"near={SCRIPT}%2Fmotorcycle_left.png", "motorcycle_left.png"),
            ("q=moto", "“moto”"),
            ("q=cat&where=width%20>%20100", "“cat”"),
            ("map", None),
            ("failures", "Failures"),
            ("duplicates", "Near-duplicates"),
        ):
            tab.goto(f"http://{served.host}/#{hash}")
            if heading:
                expect(tab.get_by_role("heading", level=2)).to_contain_text(heading)
            if hash == "duplicates":
                expect(tab.locator(".group").first).to_be_visible()
            clean(tab)
        tab.get_by_role("button", name="Compare").first.click()
        clean(tab)
        tab.keyboard.press("Escape")
        tab.locator("#file").set_input_files(photos["coffee"])
        expect(cells(tab).first).to_be_visible()
        clean(tab)
        tab.get_by_role("button", name="in full").click()
        clean(tab)


def test_dialogs_with_the_keyboard_alone(browser: Browser, served: Page) -> None:
    """A dialog takes the focus and gives it back; the border between two pictures moves by arrows."""
    with opened(browser, served, "duplicates=0.99") as tab:
        button = tab.get_by_role("button", name="Compare").first
        button.focus()
        tab.keyboard.press("Enter")
        slider = tab.get_by_role("slider")
        expect(slider).to_be_visible()
        for _ in range(4):
            if slider.evaluate("one => one === document.activeElement"):
                break
            tab.keyboard.press("Tab")
        expect(slider).to_be_focused()
        tab.keyboard.press("ArrowLeft")
        expect(slider).to_have_value("49")
        tab.keyboard.press("Escape")
        expect(button).to_be_focused()


def test_a_picture_leads_to_the_next(browser: Browser, served: Page) -> None:
    """A click shows a picture, its facts and its neighbours with cosines; the way is kept; the back button works."""
    with opened(browser, served) as tab:
        expect(tab.get_by_role("status")).to_have_text("11 pictures")
        named(tab, "motorcycle_left.png").click()
        expect(tab.get_by_role("heading", level=2)).to_contain_text("motorcycle_left.png")
        expect(tab.locator("dl")).to_contain_text("741 × 500 px")
        first = cells(tab).first
        expect(first.locator(".name")).to_contain_text("motorcycle_right.png")
        expect(first.locator(".score")).to_have_text(re.compile(r"0\.(8[5-9]|9\d)"))
        first.click()
        expect(tab.locator(".trail li")).to_have_count(2)
        tab.go_back()
        expect(tab.get_by_role("heading", level=2)).to_contain_text("motorcycle_left.png")
        expect(tab.locator(".trail")).to_have_count(0)
        tab.get_by_role("button", name="in full").click()
        expect(tab.locator("dialog img")).to_have_js_property("naturalWidth", 741)
        tab.keyboard.press("Escape")
        tab.keyboard.press("Escape")
        expect(tab.get_by_role("status")).to_have_text("11 pictures")


def test_with_the_keyboard_alone(browser: Browser, served: Page) -> None:
    """Arrows move, Enter opens, Escape goes back, / goes to the search; one picture is in the order of Tab."""
    with opened(browser, served) as tab:
        expect(cells(tab)).to_have_count(11)
        expect(tab.locator("[role=gridcell][tabindex='0']")).to_have_count(1)
        cells(tab).first.focus()
        for key, index in (
            ("ArrowRight", 1),
            ("End", 6),
            ("ArrowDown", 10),
            ("Home", 7),
            ("ArrowUp", 0),
            ("ArrowLeft", 0),
        ):
            tab.keyboard.press(key)
            expect(cells(tab).nth(index)).to_be_focused()
        name = cells(tab).first.locator(".name").inner_text()
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("heading", level=2)).to_have_text(name)
        expect(cells(tab).first).to_be_focused()
        tab.keyboard.press("Escape")
        expect(tab.get_by_role("status")).to_have_text("11 pictures")
        tab.keyboard.press("/")
        expect(tab.get_by_role("searchbox")).to_be_focused()
        tab.keyboard.type("ROCK")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("status")).to_have_text("1 picture with “ROCK” in the name")


def test_words_find_what_is_shown(browser: Browser, served: Page) -> None:
    """A word finds the pictures that show it, and says as what it was understood; an unknown one is part of a name."""
    with opened(browser, served) as tab:
        tab.get_by_role("searchbox").fill("cat")
        tab.keyboard.press("Enter")
        expect(tab.locator(".lead")).to_contain_text("understood as: cat")
        expect(cells(tab).first.locator(".name")).to_contain_text("chelsea.png")
        expect(cells(tab).first.locator("img")).to_have_attribute("alt", re.compile(r"chelsea\.png, .*cat"))
        tab.get_by_role("button", name="Filter").click()
        tab.get_by_role("group", name="looks like").get_by_role("button", name="moped").click()
        expect(tab.get_by_role("status")).to_contain_text("of “moped”")
        tab.go_back()
        cells(tab).first.click()
        expect(tab.locator("dl")).to_contain_text("looks like")
        tab.get_by_role("searchbox").fill("_left")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("status")).to_have_text("1 picture with “_left” in the name")
        tab.goto(f"http://{served.host}/#q=vehicle&where=format = 'PNG'")
        for number in range(2):
            expect(cells(tab).nth(number).locator(".name")).to_contain_text("motorcycle")
        tab.goto(f"http://{served.host}/#name=cat")
        expect(tab.locator(".empty")).to_contain_text("No picture's name contains “cat”")


def test_a_filter_narrows_every_view(browser: Browser, served: Page) -> None:
    """A value or a condition chooses pictures, in the grid and among neighbours; a wrong one says what is wrong."""
    with opened(browser, served) as tab:
        tab.get_by_role("button", name="Filter").click()
        tab.get_by_role("button", name="JPEG 1").click()
        expect(tab.get_by_role("status")).to_have_text("1 picture where format = 'JPEG'")
        tab.get_by_role("textbox", name="Condition").fill("width > 600")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("status")).to_have_text("3 pictures where width > 600")
        named(tab, "motorcycle_left").click()
        expect(cells(tab)).to_have_count(2)
        assert served.ask("/api/rows?where=nonsense").json["error"].startswith("This condition cannot be used")
        found = Axe().run(tab)
        assert found.violations_count == 0, found.generate_report()


def test_names_are_text(browser: Browser, served: Page) -> None:
    """Keys with markup, quotation marks and bytes that are not UTF-8 are shown as they are, and run nothing."""
    with opened(browser, served) as tab:
        for name in (HOSTILE, "caf\\xE9.png"):
            named(tab, name).click()
            expect(tab.get_by_role("heading", level=2)).to_have_text(f"<script>alert(1)</script>/{name}")
            expect(tab.locator(".card img")).to_have_js_property("complete", True)
            assert tab.locator(".card img").evaluate("image => image.naturalWidth") > 0
            tab.go_back()
        tab.goto(f"http://{served.host}/#name={SCRIPT}")
        expect(cells(tab)).to_have_count(11)
        tab.goto(f"http://{served.host}/#near=%3Cimg src=x onerror=alert(1)%3E")
        expect(tab.locator(".empty")).to_contain_text("no picture called <img src=x")
        tab.goto(f"http://{served.host}/#failures")
        expect(tab.locator("tbody")).to_contain_text("<script>")


def test_a_picture_that_is_gone_says_so(browser: Browser, served: Page) -> None:
    """A file that was deleted has a grey tile with the reason, in the grid and in full; it has neighbours still."""
    with opened(browser, served) as tab:
        expect(named(tab, "deleted.png").locator(".why")).to_contain_text("not there any more")
        named(tab, "deleted.png").click()
        expect(tab.locator(".card .why")).to_contain_text("not there any more")
        expect(cells(tab)).to_have_count(10)


def test_failures_have_reasons(browser: Browser, served: Page) -> None:
    """Failed pictures are listed with stage and reason, and chosen by stage."""
    with opened(browser, served) as tab:
        tab.get_by_role("link", name="Failures 2").click()
        expect(tab.locator("tbody tr")).to_have_count(2)
        expect(tab.locator("tbody")).to_contain_text("not a picture: the file is text")
        tab.get_by_role("button", name="decode 2").click()
        expect(tab.get_by_role("button", name="decode 2")).to_have_attribute("aria-pressed", "true")
        assert tab.url.endswith("#failures=decode")


def test_near_duplicates_are_compared(browser: Browser, served: Page) -> None:
    """Groups are shown without a click in a small table; two pictures can be laid on top of each other."""
    with opened(browser, served, "duplicates=0.99") as tab:
        expect(tab.locator(".group")).to_have_count(2)
        tab.get_by_role("button", name="Compare").first.click()
        expect(tab.locator("dialog img")).to_have_count(2)
        tab.get_by_role("slider").fill("10")
        assert "10%" in tab.locator("dialog img").nth(1).get_attribute("style")
        tab.get_by_role("button", name="Swap").click()
        tab.get_by_role("button", name="Close").click()
        tab.get_by_role("combobox").select_option("0.9")
        expect(tab.get_by_role("status")).to_contain_text("groups of near-duplicates")


def test_a_picture_of_ones_own(browser: Browser, served: Page, photos: dict[str, Path], tmp_path: Path) -> None:
    """A chosen or dropped picture is shown with its neighbours, and written nowhere; bad ones have a reason."""
    before = sorted(map(str, Path(served.viewer.tables.database).parent.rglob("*")))
    with opened(browser, served) as tab:
        tab.locator("#file").set_input_files(photos["motorcycle_left"])
        expect(tab.get_by_role("heading", level=2)).to_have_text("motorcycle_left.png")
        expect(cells(tab).first.locator(".score")).to_have_text("1.00")
        expect(cells(tab).first.locator(".name")).to_contain_text("motorcycle_left.png")
        cells(tab).first.click()
        expect(tab.locator(".trail img")).to_have_count(2)
    assert sorted(map(str, Path(served.viewer.tables.database).parent.rglob("*"))) == before
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "large.png").write_bytes(bytes(33 << 20))
    tab = browser.new_page()
    tab.goto(served.access.address)
    for name, says in (("text.png", "the file is text"), ("large.png", "is too large")):
        tab.locator("#file").set_input_files(tmp_path / name)
        expect(tab.locator(".empty")).to_contain_text(says)
    tab.close()


def appended(database: Path, folder: Path, names: list[str]) -> None:
    """Commit rows, as a run would."""
    dataset = lance.dataset(str(database / "images.lance"))
    rows = [
        {"key": name, "version": "1", "uri": (folder / "00.png").as_uri(), "vector": np.ones(DIMENSION, np.float32)}
        for name in names
    ]
    lance.write_dataset(
        pa.Table.from_pylist(rows, schema=dataset.schema), str(database / "images.lance"), mode="append"
    )


def test_two_tabs_see_a_run(browser: Browser, tmp_path: Path) -> None:
    """New rows are offered, not forced, in every tab; pictures that are shown stay right meanwhile."""
    photos = tmp_path / "photos"
    database = table_of(tmp_path / "db", str(photos), coloured(photos, 3))
    with viewing(database) as page, opened(browser, page) as one, opened(browser, page) as two:
        for tab in (one, two):
            expect(tab.get_by_role("status")).to_have_text("3 pictures")
        appended(database, photos, [f"new {number}.png" for number in range(1204)])
        for tab in (one, two):
            expect(tab.locator("#new")).to_contain_text("1,204 new pictures")
            expect(cells(tab)).to_have_count(3)
        one.get_by_role("button", name="Show").click()
        expect(one.get_by_role("status")).to_have_text("1,207 pictures")
        expect(one.locator("#new")).to_have_count(0)
        cells(two).first.click()
        expect(two.get_by_role("heading", level=2)).to_have_text("00.png")


def test_a_server_that_stops_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    """The page says that its server has stopped, and goes on by itself when it is back."""
    database = table_of(tmp_path / "db", str(tmp_path / "photos"), coloured(tmp_path / "photos", 2))
    context = browser.new_context()
    tab = context.new_page()
    try:
        with viewing(database) as page:
            tab.goto(page.access.address)
            expect(cells(tab)).to_have_count(2)
        expect(tab.locator("#lost")).to_contain_text("The server has stopped")
        with viewing(database, port=page.access.port) as again:
            expect(tab.locator("#lost")).to_contain_text("started again")
            other = context.new_page()
            other.goto(again.access.address)
            tab.bring_to_front()
            expect(tab.locator("#lost")).to_have_count(0)
            expect(cells(tab)).to_have_count(2)
    finally:
        context.close()


def test_a_hundred_thousand_rows(browser: Browser, tmp_path: Path) -> None:
    """However many rows, few elements: the page jumps to the end and back, and each name stands at its place."""
    photos = tmp_path / "photos"
    uri = next(iter(coloured(photos, 1).values()))
    database = table_of(tmp_path / "db", str(photos), {f"{number:06d}": uri for number in range(100_000)})
    with viewing(database) as page, opened(browser, page) as tab:
        expect(tab.get_by_role("status")).to_have_text("100,000 pictures")
        main = tab.locator("main")
        cells(tab).first.focus()
        tab.keyboard.press("Control+End")
        expect(named(tab, "099999")).to_be_focused()
        for share in (0.25, 0.75, 0.0):
            main.evaluate("(main, share) => main.scrollTo(0, share * main.scrollHeight)", share)
            expect(cells(tab).first.locator(".name")).not_to_be_empty()
            expect(cells(tab).first.locator("img")).to_have_js_property("complete", True)
            assert tab.locator("[role=gridcell]").count() <= 200
        expect(named(tab, "000000")).to_be_visible()
        tab.set_viewport_size({"width": 2500, "height": 2000})
        expect(named(tab, "000000")).to_be_visible()
        assert tab.locator("[role=gridcell]").count() <= 200


@pytest.mark.parametrize("rows", [0, 1, 59])
def test_few_rows(browser: Browser, tmp_path: Path, rows: int) -> None:
    """Tables of no rows, of one and of 59 have a page; an empty one says what to type."""
    database = table_of(tmp_path / "db", str(tmp_path / "photos"), coloured(tmp_path / "photos", rows))
    with viewing(database) as page, opened(browser, page) as tab:
        expect(tab.get_by_role("status")).to_have_text({0: "No pictures", 1: "1 picture"}.get(rows, "59 pictures"))
        if not rows:
            return expect(tab.locator(".empty")).to_contain_text("fanfold images embed")
        cells(tab).first.click()
        if rows == 1:
            return expect(tab.locator(".empty")).to_contain_text("no other pictures")
        return expect(cells(tab).first).to_be_visible()


def test_a_database_that_goes_while_it_is_open(browser: Browser, tmp_path: Path) -> None:
    """The page says that the table is not there, and starts over when there is one again."""
    photos = tmp_path / "photos"
    database = table_of(tmp_path / "db", str(photos), coloured(photos, 2))
    with viewing(database) as page:
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(page.access.address)
        expect(cells(tab)).to_have_count(2)
        shutil.move(database, tmp_path / "away")
        expect(tab.locator("#error")).to_contain_text("is not in")
        table_of(tmp_path / "db", str(photos), {**coloured(photos, 2), "third": (photos / "00.png").as_uri()})
        expect(tab.locator("#error")).to_have_count(0)
        tab.get_by_role("button", name="Show").click()
        expect(cells(tab)).to_have_count(3)
        context.close()
