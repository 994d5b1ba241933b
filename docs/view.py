"""The pictures of the page: a photo of the demo and its neighbours, and the map of all of them, in Chromium.

python docs/view.py DATABASE docs/view.png docs/map.png
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

SHOWN = "motorcycle_left.png"
WIDTH, HEIGHT = 1200, 720  # pixels
ANONYMOUS = """() => {
    const source = document.getElementById("source"), root = source.textContent;
    for (const one of [source, ...document.querySelectorAll("dd")])
        one.textContent = one.textContent.replace(root, "/home/you/photos");
}"""
"""Leaves out where the photos are on this machine."""


def main() -> None:
    """Serve the page, look at it, and keep what is seen."""
    database, *pictures = sys.argv[1:]
    fanfold = str(Path(sys.executable).parent / "fanfold")
    command = [fanfold, "images", "view", database, "--no-open", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            take(json.loads(server.stdout.readline())["address"], *pictures)
        finally:
            server.terminate()


def take(address: str, picture: str, of_the_map: str) -> None:
    """Open the page at an address, and write the pictures of it."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB")
        page.goto(address)
        page.get_by_role("gridcell").filter(has_text=SHOWN).click()
        expect(page.get_by_role("heading", level=2)).to_have_text(SHOWN)
        for image in page.locator("img:visible").all():
            expect(image).to_have_js_property("complete", True, timeout=30_000)
        _keep(page, picture)
        page.get_by_role("link", name="Pictures").click()
        page.get_by_role("link", name="Map").click()
        expect(page.get_by_role("status")).to_contain_text("on the map")
        page.wait_for_load_state("networkidle")
        _keep(page, of_the_map)
        browser.close()


def _keep(page: Page, picture: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until the last has faded in
    page.evaluate(ANONYMOUS)
    page.screenshot(path=picture)


if __name__ == "__main__":
    main()
