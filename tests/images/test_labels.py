"""Labels of a table: always those of its rows as they are, whatever is kept, changed or damaged meanwhile."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest

import nursery
from fanfold.core.index import digests, words
from fanfold.core.optimize import optimize_table
from fanfold.core.table import Drop
from fanfold.errors import UsageError
from fanfold.images import kept as keeping
from fanfold.images.models.efficientnet_lite import LITE0, LITE2
from fanfold.images.search.by_text import highest, hits, text_side
from fanfold.images.words import labels
from fanfold.images.words.classifier import KEPT, Classifier, classifier_of
from fanfold.images.words.labels import Labels, load, refresh
from fanfold.images.words.search import ClassWords
from labelled_tables import ESPRESSO, GOLDFISH, MOPED, TABBY, TENCH, commit, made, opened, shown

HERE = str(Path(__file__).parent.parent)


def kept(database: str) -> Path:
    """Where labels are kept."""
    return Path(database) / "_view" / "images" / "labels.npz"


def truth(classes: list[int]) -> dict[str, int]:
    """The best class of k0, k1, ..."""
    return {f"k{row}": kind for row, kind in enumerate(classes)}


def test_nothing_is_kept_at_first(database: str) -> None:
    """Without labels there is nothing to load; afterwards there is, and it is the same."""
    classes = [TABBY, GOLDFISH, TENCH, MOPED] * 5
    made(database, classes)
    assert load(opened(database)) is None
    fresh = refresh(opened(database))
    again = load(opened(database))
    assert again is not None
    assert shown(opened(database), fresh) == shown(opened(database), again) == truth(classes)
    assert np.array_equal(fresh.classes, again.classes)
    assert np.allclose(fresh.probabilities, again.probabilities, atol=1e-3)  # kept as float16


def test_against_plain_softmax(database: str) -> None:
    """Classes and probabilities are those of a plain softmax over all classes, the best first."""
    made(database, [TABBY])
    last = classifier_of(opened(database))
    vectors = np.maximum(np.random.default_rng(0).normal(size=(300, 1280)), 0).astype(np.float32)
    classes, probabilities = last.best(vectors)
    scores = (vectors @ last.weight + last.bias).astype(np.float64)
    plain = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert np.array_equal(classes, np.argsort(-plain, axis=1, kind="stable")[:, :KEPT])
    assert np.allclose(probabilities, -np.sort(-plain, axis=1)[:, :KEPT], rtol=1e-4)


def test_odd_vectors() -> None:
    """Ties give KEPT different classes; values that are not finite have no probability."""
    last = Classifier("", np.eye(40, dtype=np.float32), np.zeros(40, np.float32))
    vectors = np.zeros((4, 40), np.float32)
    vectors[1, :12], vectors[2, 5], vectors[3] = 3, np.nan, np.inf
    classes, probabilities = last.best(vectors)
    assert all(len(set(row)) == KEPT for row in classes.tolist())
    assert set(classes[1].tolist()) <= set(range(12))
    assert np.isfinite(probabilities).all()
    assert not probabilities[2:].any()


def test_changes(database: str) -> None:
    """New and changed rows have no labels until the next refresh, which does only them; rows that are gone vanish."""
    classes = [TABBY, GOLDFISH, TENCH, MOPED]
    table = made(database, classes)
    refresh(opened(database))
    commit(table, ["k1"], [MOPED], version="2")
    commit(table, ["new"], [ESPRESSO])
    table.commit([], Drop(digests(["k3"]), words(["1"])))
    between = load(opened(database))
    assert between is not None
    assert shown(opened(database), between) == {"k0": TABBY, "k2": TENCH}
    done: list[float] = []
    after = refresh(opened(database), done.append)
    assert shown(opened(database), after) == {"k0": TABBY, "k1": MOPED, "k2": TENCH, "new": ESPRESSO}
    assert done == [1.0]
    refresh(opened(database), done.append)
    assert done == [1.0]


def test_optimize(database: str) -> None:
    """After `optimize` changed the order of the rows, each has its own labels."""
    classes = [row % 1000 for row in range(60)]
    table = made(database, classes)
    refresh(opened(database))
    for row in range(0, 60, 3):
        commit(table, [f"k{row}"], [999 - classes[row]], version="2")
    expected = truth([999 - kind if row % 3 == 0 else kind for row, kind in enumerate(classes)])
    assert shown(opened(database), refresh(opened(database))) == expected
    fragments = len(opened(database).get_fragments())
    optimize_table(table, timedelta(0), lambda: True)
    assert len(opened(database).get_fragments()) < fragments
    found = load(opened(database))
    assert found is not None
    assert shown(opened(database), found) == expected


def test_another_table_in_its_place(database: str) -> None:
    """A table that was made again, with the same keys and versions, does not get the labels of the old one."""
    made(database, [TABBY, TENCH])
    refresh(opened(database))
    shutil.rmtree(Path(database) / "images.lance")
    made(database, [MOPED, ESPRESSO])
    assert load(opened(database)) is None
    assert shown(opened(database), refresh(opened(database))) == truth([MOPED, ESPRESSO])


# -- accidents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [1, 9, 20, 41, 63])
def test_killed(lines: int, database: str) -> None:
    """A process that is killed while it labels leaves only right labels, and the next one does the rest."""
    classes = [row % 1000 for row in range(64)]
    made(database, classes)
    program = f"import labelled_tables; labelled_tables.keep_labelling({database!r})"
    with nursery.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=HERE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
    found = load(opened(database))
    there = shown(opened(database), found) if found else {}
    assert len(there) >= (lines - 2) // 8 * 8
    assert there.items() <= truth(classes).items()
    assert shown(opened(database), refresh(opened(database))) == truth(classes)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_half_written(share: float, database: str) -> None:
    """A file that is cut off, empty or full of zeros counts as absent, and is made again."""
    classes = [TABBY, GOLDFISH, TENCH]
    made(database, classes)
    refresh(opened(database))
    content = kept(database).read_bytes()
    size = int(len(content) * share)
    for damaged in (content[:size], content[:size] + bytes(len(content) - size)):
        kept(database).write_bytes(damaged)
        found = load(opened(database))
        assert found is None or shown(opened(database), found).items() <= truth(classes).items()
        assert shown(opened(database), refresh(opened(database))) == truth(classes)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("classes", np.full((KEPT, 1), 1000, np.uint16)),
        ("classes", np.zeros((KEPT, 1), np.int64)),
        ("classes", np.zeros((3, 1), np.uint16)),
        ("probabilities", np.full((KEPT, 1), np.nan, np.float16)),
        ("probabilities", np.zeros((KEPT, 2), np.float16)),
        ("rows", np.zeros((1, 1), np.uint64)),
        ("more", np.zeros(1)),
    ],
)
def test_labels_of_a_stranger(name: str, wrong: np.ndarray, database: str) -> None:
    """Classes that do not exist, and arrays of other shapes and kinds, count as absent."""
    made(database, [TABBY])
    dataset = opened(database)
    refresh(dataset)
    arrays = keeping.read(dataset, labels.NAME, labels._recipe(dataset))
    assert arrays is not None
    keeping.write(dataset, labels.NAME, labels._recipe(dataset), arrays | {name: wrong})
    assert load(dataset) is None
    assert shown(dataset, refresh(dataset)) == {"k0": TABBY}


def test_two_at_once(database: str) -> None:
    """Two that label at once both get all labels, and what is kept is right."""
    classes = [row % 1000 for row in range(64)]
    made(database, classes)
    program = f"import labelled_tables; labelled_tables.keep_labelling({database!r})"
    running = [nursery.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, cwd=HERE) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        inside = list(pool.map(lambda _: shown(opened(database), refresh(opened(database))), range(3)))
    assert [process.wait() for process in running] == [0, 0, 0]
    assert inside == [truth(classes)] * 3
    found = load(opened(database))
    assert found is not None
    assert shown(opened(database), found).items() <= truth(classes).items()
    assert shown(opened(database), refresh(opened(database))) == truth(classes)


# -- what is asked of them --------------------------------------------------------------------------------------------


def test_search(database: str) -> None:
    """A word finds the rows of its classes, the most probable first; two words want both."""
    made(database, [TABBY, MOPED, GOLDFISH, ESPRESSO, TENCH])
    side = text_side(opened(database))
    dataset = opened(database)
    found = side.find("fish", 10, side.least, None, print)
    assert {hit.key for hit in hits(dataset, found)} == {"k2", "k4"}
    assert found.understood == side.understand("fish")
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert (found.scores > 0.9).all()
    (hit,) = hits(dataset, side.find("mopeds", 10, side.least, None, print))
    assert (hit.key, hit.uri) == ("k1", "file:///k1")
    assert not len(side.find("a cat on a motorcycle", 10, side.least, None, print).rows)
    assert len(side.find("cat", 10, 0.0, None, print).rows) == 5
    assert len(side.find("cat", 2, 0.0, None, print).rows) == 2


def test_scores_are_sums() -> None:
    """The score of a word is the sum over its classes; no labels, no score."""
    classes = np.array([[3, 7, labels.NO_CLASS], [5, 3, labels.NO_CLASS]], np.uint16)
    probabilities = np.array([[0.5, 0.9, 0], [0.25, 0.1, 0]], np.float32)
    some = Labels(classes, probabilities)
    assert some.scores([3, 5]).tolist() == pytest.approx([0.75, 0.1, 0])
    assert some.scores([]).tolist() == [0, 0, 0]
    assert some.missing.tolist() == [2]
    assert some.counts() == [(3, 1), (7, 1)]
    assert [[name for name, _ in row] for row in some.named([2, 1])] == [[], ["cock", "tiger shark"]]


def test_highest() -> None:
    """The highest scores come first, of equal ones the first row; low ones not at all."""
    scores = np.array([0.1, 0.5, 0.5, 0.9, 0.5, 0.0], np.float32)
    assert highest(scores, 3, 0.01).tolist() == [3, 1, 2]
    assert highest(scores, 10, 0.2).tolist() == [3, 1, 2, 4]
    assert highest(scores, 10, 0.0).tolist() == [3, 1, 2, 4, 0, 5]
    assert highest(scores, 1, 2.0).tolist() == []


def test_labels_at_hand(database: str) -> None:
    """Labels that are loaded already are used, and not made again."""
    made(database, [TABBY, MOPED])
    found = ClassWords(opened(database), refresh(opened(database))).find("cat", 5)
    assert found.rows.tolist() == [0]


def test_an_empty_table(database: str) -> None:
    """An empty table has no labels, and finds nothing."""
    made(database, [])
    assert refresh(opened(database)).rows == 0
    assert load(opened(database)) is None
    assert not len(text_side(opened(database)).find("cat", 5, 0.0, None, print).rows)


def test_another_model(database: str) -> None:
    """A table of a model without words is refused with those that have them; one of lite2 or INT8 has words."""
    made(database, [TABBY])
    for name, metadata, has in [
        ("resnet", {"fanfold.model": "resnet18", "fanfold.sha256": "ab" * 32}, False),
        ("lite2", {"fanfold.sha256": LITE2.sha256}, True),
        ("int8", {"fanfold.sha256": "cd" * 32, "fanfold.base": LITE0.sha256}, True),
    ]:
        lance.write_dataset(
            opened(database).to_table().replace_schema_metadata({"fanfold.model": "x"} | metadata),
            f"{database}/{name}.lance",
        )
        dataset = opened(database, name)
        assert load(dataset) is None
        if has:
            assert classifier_of(dataset).sha256 == metadata.get("fanfold.base", metadata["fanfold.sha256"])
            continue
        for look in (refresh, text_side):
            with pytest.raises(UsageError, match=r"model 'resnet18'.*efficientnet-lite0 or efficientnet-lite2"):
                look(dataset)
