"""Search by words: how good it is on pictures that the model has not seen, and how fast at a million rows.

    .venv/bin/python benches/words.py [--rows 1000000] [--folder DB]

Quality: the photos among Tux Paint's stamps (Debian's tuxpaint-stamps-default: objects cut out of photos, over white;
their folders say what they show) and scikit-image's photos. Average precision of all pictures ranked by each word, and
the precision of the first ten, or of as many as there are. By chance, both are the fraction of pictures that show it.

Speed: made-up vectors (vectors.py). Labels are made by a new process; then words are asked of labels that are loaded.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median

import lance
import measure
import numpy as np
import results
import vectors

import fanfold
from fanfold.images import Images
from fanfold.images.calibration import calibrated
from fanfold.images.models.efficientnet_lite import LITE0
from fanfold.images.search.rows import matrix
from fanfold.images.words.classifier import classifier_of
from fanfold.images.words.labels import load
from fanfold.images.words.search import ClassWords
from fanfold.images.words.vocabulary import understood

STAMPS = Path("/usr/share/tuxpaint/stamps")
DRAWN = {"cartoon", "symbols", "seasonal"}
"""Folders of drawings, and of pictures that no folder describes."""

WORDS: dict[str, tuple[str, str]] = {
    "animal": ("animals/ chelsea", "edward_bear"),
    "bird": ("animals/birds/", ""),
    "fish": ("animals/fish/", "lobster shrimp"),
    "insect": ("animals/insects/", "Brown_slug Woodlouse"),
    "mammal": ("animals/mammals/ animals/marsupials/ chelsea", "edward_bear"),
    "ungulate": (
        "mammals/bovines/ mammals/camel/ mammals/deer/ mammals/equines/ giraffe /pig hippopotamus rhino wildboar",
        "pigeon",
    ),
    "cat": ("mammals/cats/ chelsea", ""),
    "rodent": ("mammals/rodents/", "rabbit"),
    "food": ("food/", ""),
    "fruit": ("food/fruit/", ""),
    "vegetable": ("food/vegetables/", ""),
    "mushroom": ("plants/mushrooms/ vegetables/mushroom", ""),
    "flower": ("plants/flowers/", ""),
    "musical instrument": ("hobbies/music/", ""),
    "guitar": ("string/guitar", ""),
    "vehicle": ("vehicles/ motorcycle apollo_lander voyager2", "7spoke256 ww2_german_gun"),
    "car": ("auto/beetle auto/sedan auto/sportscar sedan_police indycar", ""),
    "truck": ("auto/truck garbagetruck dumper firetruck", ""),
    "clothing": ("clothes/", "button clothespin"),
    "hat": ("clothes/hats/ baseballcap", ""),
    "tool": ("household/tools/", "cementmixer toolbox"),
    "ball": ("football basketball cricketball soccer tennis_ball", ""),
}
"""What pictures show, by words: parts of the paths of pictures that show it, and of those that do not."""


@dataclass(frozen=True)
class Quality:
    """How well one word finds its pictures."""

    precision: float
    """Average precision."""
    first: float
    """Precision of the first ten, or of as many as there are."""


def photos(folder: Path) -> Path:
    """A folder of the pictures."""
    spec = find_spec("skimage")
    if not STAMPS.exists() or spec is None or not spec.submodule_search_locations:
        raise SystemExit("Type first: apt-get install tuxpaint-stamps-default")
    for file in STAMPS.rglob("*.png"):
        path = file.relative_to(STAMPS)
        if not DRAWN.intersection(path.parts):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / path)
    shutil.copytree(Path(spec.submodule_search_locations[0]) / "data", folder / "photos")
    return folder


def embedded(job: Images, source: Path, database: Path) -> lance.LanceDataset:
    """A table of the pictures."""
    job = calibrated(job, str(source), str(database), "images")
    for _ in fanfold.run(job, source=str(source), database=str(database), workers=2):
        pass
    return fanfold.open_table(str(database), "images")


def showing(word: str, keys: Sequence[str]) -> np.ndarray:
    """bool[rows]: which pictures show it."""
    wanted, unwanted = (parts.split() for parts in WORDS[word])
    return np.array([any(part in key for part in wanted) and not any(part in key for part in unwanted) for key in keys])


def quality(order: np.ndarray, shown: np.ndarray) -> Quality:
    """How good an order of the rows is, the best first."""
    right = shown[order]
    precisions = np.cumsum(right) / np.arange(1, len(right) + 1)
    return Quality(float(precisions[right].mean()), float(right[: min(10, right.sum())].mean()))


def by_labels(dataset: lance.LanceDataset) -> Callable[[str], np.ndarray]:
    """The order of the rows for a word, as a search finds them."""
    side, rows = ClassWords(dataset), dataset.count_rows()
    return lambda word: side.find(word, rows, 0.0).rows


def by_all_classes(dataset: lance.LanceDataset) -> Callable[[str], np.ndarray]:
    """The same by the probabilities of all classes, not only of those that are kept."""
    last = classifier_of(dataset)
    scores = matrix(dataset.to_table(columns=["vector"])["vector"].combine_chunks()) @ last.weight + last.bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return lambda word: np.argsort(-shares[:, list(understood(word)[0].classes)].sum(axis=1), kind="stable")


def qualities(source: Path, folder: Path) -> Iterator[list[str]]:
    """A line a word, and their means."""
    lite0, lite2, int8 = (
        embedded(job, source, folder / name)
        for name, job in {
            "lite0": Images(),
            "lite2": Images(model="efficientnet-lite2"),
            "int8": Images(precision="int8"),
        }.items()
    )
    tables = [(table, order(table)) for table, order in ((lite0, by_labels), (lite2, by_labels), (int8, by_labels))]
    tables.append((lite0, by_all_classes(lite0)))
    sums: list[list[float]] = []
    for word in WORDS:
        found = []
        for table, order in tables:
            keys = table.to_table(columns=["key"])["key"].to_pylist()
            found.append(quality(order(word), shown := showing(word, keys)))
        kinds = len(understood(word)[0].classes)
        sums.append([shown.mean(), *(value for one in found for value in (one.precision, one.first))])
        yield [word, f"{kinds}", f"{shown.sum()}", *(f"{value:.2f}" for value in sums[-1])]
    means = [mean(column) for column in zip(*sums, strict=True)]
    yield ["**mean**", "", f"of {len(shown)}", *(f"**{value:.2f}**" for value in means)]


# -- speed ------------------------------------------------------------------------------------------------------------

LABEL = """
import sys, time, lance
from fanfold.images.words.labels import refresh
dataset = lance.dataset(sys.argv[1])
began = time.perf_counter()
refresh(dataset)
print(time.perf_counter() - began)
"""


def speed(rows: int, folder: Path) -> str:
    """How long it takes to label a table, to load its labels, and to search them."""
    table = folder / "images.lance"
    if not table.exists():
        made = vectors.make(table, rows, 1280)
        made.update_schema_metadata({"fanfold.sha256": LITE0.sha256, "fanfold.id": "bench"})
    shutil.rmtree(folder / "_view", ignore_errors=True)
    done = measure.checked(measure.run([sys.executable, "-c", LABEL, table], memory=True))
    dataset = lance.dataset(str(table))
    began = time.perf_counter()
    labels = load(dataset)
    loaded = time.perf_counter() - began
    assert labels is not None
    assert not len(labels.missing)
    side = ClassWords(dataset, labels)
    asked = []
    for word in [*WORDS, "animal", "tabby", "cat and motorcycle"]:
        began = time.perf_counter()
        side.find(word, 60)
        asked.append(1000 * (time.perf_counter() - began))
    size = (folder / "_view" / "images" / "labels.npz").stat().st_size
    return (
        f"{rows:,} made-up vectors are labelled in {float(done.out):.0f} s ({done.cpu:.0f} s of CPU time), with "
        f"{done.peak / 1e6:.0f} MB; the labels take {size / 1e6:.0f} MB on disk and are loaded in {loaded:.1f} s. "
        f"A word then takes {median(asked):.0f} ms, at most {max(asked):.0f} ms."
    )


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the table for speed; 0: quality only")
    parser.add_argument("--folder", type=Path, help="a database for it, or where an earlier run left one")
    chosen = parser.parse_args()
    load_before = measure.idle() if chosen.rows else "quality only, which does not depend on load"
    with tempfile.TemporaryDirectory(prefix="fanfold-bench-") as work:
        lines = list(qualities(photos(Path(work) / "photos"), Path(work)))
        told = speed(chosen.rows, chosen.folder or Path(work) / "made-up") if chosen.rows else ""
    head = ["word", "kinds", "pictures", "chance"]
    for name in ("lite0", "lite2", "lite0 INT8", "lite0, all 1000 classes"):
        head += [f"{name}: AP", "P@10"]
    count = lines[-1][2].removeprefix("of ")
    readme = (
        f"Search by words, {len(WORDS)} words on {count} photos that the model has not seen: "
        f"mAP {lines[-1][4].strip('*')} with efficientnet-lite0, {lines[-1][6].strip('*')} with efficientnet-lite2 "
        f"(by chance {lines[-1][3].strip('*')}). {told}"
    )
    print(results.record("words", readme, results.markdown(head, lines), load_before))


if __name__ == "__main__":
    main()
