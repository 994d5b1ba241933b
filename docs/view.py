"""The picture of the page in the README: a photo of the demo and its neighbours, in Chromium.

python docs/view.py DATABASE docs/view.png
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

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
    database, picture = sys.argv[1:]
    fanfold = str(Path(sys.executable).parent / "fanfold")
    command = [fanfold, "images", "view", database, "--no-open", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            take(json.loads(server.stdout.readline())["address"], picture)
        finally:
            server.terminate()


def take(address: str, picture: str) -> None:
    """Open the page at an address, and write a picture of it."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en-GB")
        page.goto(address)
        page.get_by_role("gridcell").filter(has_text=SHOWN).click()
        expect(page.get_by_role("heading", level=2)).to_have_text(SHOWN)
        for image in page.locator("img:visible").all():
            expect(image).to_have_js_property("complete", True, timeout=30_000)
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(500)  # until the last has faded in
        page.evaluate(ANONYMOUS)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
