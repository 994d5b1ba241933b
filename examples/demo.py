"""Embed a folder of pictures and show each one's nearest neighbours: a table, a contact sheet, and a page to look at.

python examples/demo.py [FOLDER]       without FOLDER: the pictures that ship inside scikit-image
"""

import hashlib
import importlib.util
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import lance
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.console import Console
from rich.table import Table

import fanfold
from fanfold.images.search.neighbours import nearest, vectors

QUERIES, NEIGHBOURS = 6, 5
TILE, GAP, CAPTION = 150, 10, 34  # pixels


@dataclass
class Shown:
    """A picture on the sheet. The first of a row is the query; its cosine is 1."""

    key: str
    uri: str
    cosine: float


def main() -> int:
    """Embed, search, draw."""
    photos = Path(sys.argv[1]).expanduser().resolve() if len(sys.argv) > 1 else bundled_pictures()
    database = Path("demo") / f"{photos.name}-{hashlib.sha256(str(photos).encode()).hexdigest()[:6]}"
    code = call("fanfold", "images", "embed", str(photos), str(database))
    if code == 3:  # some pictures failed; the others are there to be shown
        call("fanfold", "failures", str(database))
    elif code:
        return code
    dataset = fanfold.open_table(str(database))
    rows = [neighbours(dataset, key) for key in varied(dataset)]
    print_table(rows)
    sheet = Path("demo") / "neighbours.png"
    draw(rows).save(sheet)
    print(f"Contact sheet: {sheet}")
    print(f"Search with any picture: {Path(sys.executable).parent}/fanfold images search {database} PICTURE")
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("See all of them in your browser, until Ctrl-C:")
        return call("fanfold", "images", "view", str(database))
    print(f"See all of them in your browser: {Path(sys.executable).parent}/fanfold images view {database}")
    return 0


def call(*command: str) -> int:
    """Show a command, run it, and return its exit code."""
    print("$", shlex.join(command), flush=True)
    code = subprocess.call([str(Path(sys.executable).parent / command[0]), *command[1:]])
    print(flush=True)
    return code


def bundled_pictures() -> Path:
    """The folder of pictures inside scikit-image, found without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit("The demo's pictures ship inside scikit-image: pip install --no-deps scikit-image")
    return Path(spec.origin).parent / "data"


def varied(dataset: lance.LanceDataset) -> list[str]:
    """Keys of different pictures, each with a near neighbour to show.

    Farthest-point sampling among the third of (at most 2,000) pictures whose nearest neighbour is nearest.
    """
    keys = sorted(dataset.to_table(columns=["key"], limit=2000)["key"].to_pylist())
    _, matrix, _ = vectors(dataset, keys)  # float32[n, dimension]
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -1)
    candidates = np.argsort(-cosines.max(axis=1))[: max(2 * QUERIES, len(keys) // 3)]
    chosen = [int(candidates[0])]
    while len(chosen) < min(QUERIES, len(candidates)):
        closeness = cosines[np.ix_(candidates, chosen)].max(axis=1)
        closeness[np.isin(candidates, chosen)] = np.inf
        chosen.append(int(candidates[np.argmin(closeness)]))
    return [keys[index] for index in chosen]


def neighbours(dataset: lance.LanceDataset, key: str) -> list[Shown]:
    """The picture itself and those most similar to it, nearest first."""
    _, (vector,), _ = vectors(dataset, [key])
    found = [Shown(hit.key, hit.uri, hit.cosine) for hit in nearest(dataset, vector, NEIGHBOURS + 1)]
    itself = next((shown for shown in found if shown.key == key), found[0])
    return [itself, *(shown for shown in found if shown is not itself)][: NEIGHBOURS + 1]


def print_table(rows: list[list[Shown]]) -> None:
    """The rows as text."""
    table = Table("picture", "nearest neighbours (cosine)", title="Nearest neighbours", title_justify="left")
    for query, *others in rows:
        table.add_row(query.key, ", ".join(f"{shown.key} {shown.cosine:.2f}" for shown in others[:2]))
    Console(markup=False, highlight=False).print(table)


def draw(rows: list[list[Shown]]) -> Image.Image:
    """A contact sheet: a row per query, the query framed, each neighbour with its cosine."""
    width = GAP + max(map(len, rows)) * (TILE + GAP)
    sheet = Image.new("RGB", (width, GAP + len(rows) * (TILE + CAPTION + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, pictures in enumerate(rows):
        for column, shown in enumerate(pictures):
            x, y = GAP + column * (TILE + GAP), GAP + row * (TILE + CAPTION + GAP)
            sheet.paste(thumbnail(shown.uri), (x, y))
            if not column:
                pen.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline="#d33", width=3)
            caption = "query" if not column else f"{shown.cosine:.3f}"
            pen.text((x, y + TILE + 3), Path(shown.key).name[:22], "black", font)
            pen.text((x, y + TILE + 17), caption, "#d33" if not column else "#555", font)
    return sheet


def thumbnail(uri: str) -> Image.Image:
    """A tile of the picture at a file:// address; grey if Pillow alone cannot draw it."""
    tile = Image.new("RGB", (TILE, TILE), "#eee")
    try:
        with Image.open(unquote(urlsplit(uri).path)) as picture:
            small = ImageOps.contain(ImageOps.exif_transpose(picture).convert("RGBA"), (TILE, TILE))
        tile.paste(small, ((TILE - small.width) // 2, (TILE - small.height) // 2), small)
    except (OSError, ValueError):
        pass
    return tile


if __name__ == "__main__":
    sys.exit(main())
