"""The map of a table: seconds, memory, and how many neighbours stay neighbours, beside PaCMAP and UMAP.

    .venv/bin/python benches/map.py [--rows 20000 100000 1000000] [--peer-rows 100000] [--crops 50] [--folder F]

Kept: of the 15 rows nearest to a row by cosine, the share that is among the 15 nearest on the map; the mean of --asked
rows. By chance it is 15 / rows. Vectors are made up (vectors.py), and those of --crops crops of each photo of
benches/words.py. Times are of whole commands. Peers get vectors, not a table, and only up to --peer-rows of them;
--alone leaves them out.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import lance
import measure
import numpy as np
import pyarrow.parquet as pq
import results
import vectors
from PIL import Image
from search import as_array, truth
from words import photos

import fanfold
from fanfold.cli.show import duration
from fanfold.images import Images, maps
from fanfold.images.search.rows import units

NEAREST = 15
SMALLEST = 40
"""Pixels of the short side of a photo that is cropped."""


@dataclass(frozen=True)
class Judge:
    """The true neighbours of some rows of a table."""

    asked: np.ndarray
    true: np.ndarray
    """int64[asked, NEAREST + 1], with the row itself as a rule."""

    @classmethod
    def of(cls, dataset: lance.LanceDataset, count: int) -> "Judge":
        """Of rows drawn by lot."""
        rows = dataset.count_rows()
        asked = np.sort(np.random.default_rng(0).choice(rows, min(count, rows), replace=False))
        return cls(asked, truth(dataset, units(dataset, asked), NEAREST + 1))

    def kept(self, places: np.ndarray) -> float:
        """The share of the neighbours that are neighbours on the map."""
        flat, shares = places.astype(np.float32), []
        for row, near in zip(self.asked.tolist(), self.true.tolist(), strict=True):
            apart = np.square(flat - flat[row]).sum(axis=1)
            apart[row] = np.inf
            there = np.argpartition(apart, NEAREST)[:NEAREST].tolist()
            shares.append(len(set(near).difference([row]) & set(there)) / NEAREST)
        return float(np.mean(shares))


def ours(database: Path, judge: Judge) -> tuple[list[str], str]:
    """A line for fanfold, and what it said before that it would take."""
    dataset = fanfold.open_table(str(database), "images")
    said = maps.needs(dataset, "make")
    out = database / "map.parquet"
    command = [measure.OURS / "fanfold", "images", "map", database, "--rebuild", "--out", out]
    done = measure.checked(measure.run(command, memory=True))
    table = pq.read_table(out, columns=["x", "y"])
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    told = f"{duration(said.seconds)}, {said.memory / 1e9:.1f} GB"
    return line("fanfold", done, judge.kept(places)), told


def peer(which: str, given: Path, judge: Judge) -> list[str]:
    """A line for a peer in its own environment."""
    out = given.with_name("places.npy")
    script = measure.ROOT / "benches" / "peers" / "map.py"
    done = measure.checked(measure.run([measure.PEERS / "python", script, which, given, out], memory=True))
    return line({"pacmap": "PaCMAP", "umap": "UMAP"}[which], done, judge.kept(np.load(out)))


def line(name: str, done: measure.Measured, kept: float) -> list[str]:
    """Cells of the table."""
    return [name, f"{done.wall:.0f}", f"{done.cpu:.0f}", f"{done.peak / 1e9:.1f}", f"{kept:.3f}"]


def cropped(folder: Path, crops: int) -> Path:
    """A folder of crops of photos: of 30 to 100 % of the area, at random."""
    random = np.random.default_rng(5)
    (out := folder / "crops").mkdir(parents=True)
    for number, file in enumerate(sorted(photos(folder / "photos").rglob("*.*"))):
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGBA")
        except OSError:  # not a picture
            continue
        if min(image.size) < SMALLEST:
            continue
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        for crop in range(crops):
            area, shape = random.uniform(0.3, 1) * image.width * image.height, random.uniform(0.75, 1.33)
            width = min(image.width, round((area * shape) ** 0.5))
            height = min(image.height, round((area / shape) ** 0.5))
            left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
            part = image.crop((left, top, left + width, top + height))
            part.thumbnail((400, 400))
            part.save(out / f"{number:04d}-{crop:03d}.jpg", quality=92)
    return out


def real(folder: Path, crops: int) -> Path:
    """A database of the crops."""
    database = folder / f"crops-{crops}"
    if not database.exists():
        source = cropped(folder / "pictures", crops)
        for _ in fanfold.run(Images(), source=str(source), database=str(database), workers=2):
            pass
        shutil.rmtree(source)
    return database


def made_up(folder: Path, rows: int, dimension: int) -> Path:
    """A database of made-up vectors."""
    database = folder / f"map-{rows}-{dimension}"
    if not (database / "images.lance").exists():
        vectors.make(database / "images.lance", rows, dimension)
    return database


def measured(database: Path, what: str, asked: int, peers: int) -> list[list[str]]:
    """The lines of one table."""
    dataset = fanfold.open_table(str(database), "images")
    rows, judge = dataset.count_rows(), Judge.of(dataset, asked)
    first, said = ours(database, judge)
    lines = [[f"{rows:,} {what}", *first, said]]
    if rows <= peers:
        given = as_array(dataset, database / "vectors.npy")
        lines += [[f"{rows:,} {what}", *peer(which, given, judge), ""] for which in ("pacmap", "umap")]
        given.unlink()
    for cells in lines[-3:]:
        print(" | ".join(cells), file=sys.stderr)
    return lines


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[20_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--crops", type=int, default=50, help="of each photo; 0: made-up vectors only")
    parser.add_argument("--asked", type=int, default=1000)
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--folder", help="where to make the tables, or where an earlier run left them")
    chosen = parser.parse_args()
    load, peers = measure.idle(), 0 if chosen.alone else chosen.peer_rows
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="fanfold-bench-"))
    try:
        lines = measured(real(folder, chosen.crops), "crops of photos", chosen.asked, peers) if chosen.crops else []
        for rows in chosen.rows:
            lines += measured(made_up(folder, rows, chosen.dimension), "made-up vectors", chosen.asked, peers)
    finally:
        if not chosen.folder:
            shutil.rmtree(folder, ignore_errors=True)
    head = ["", "", "seconds", "CPU seconds", "GB", "kept", "said before"]
    told = [
        f"{one[0]}: {one[2]} s, {one[4]} GB, {one[5]} of the neighbours kept" for one in lines if one[1] == "fanfold"
    ]
    print(results.record("map", f"A map of {'; of '.join(told)}.", results.markdown(head, lines), load))


if __name__ == "__main__":
    main()
