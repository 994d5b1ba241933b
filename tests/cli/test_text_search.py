"""`fanfold images search --text` and `labels`: words in, pictures out."""

import json
import subprocess
from pathlib import Path

import pytest

from commands import FANFOLD, fanfold, objects
from labelled_tables import ESPRESSO, MOPED, TABBY, TENCH, commit, made, opened


@pytest.fixture
def pictures(database: str) -> str:
    """A database of four pictures of known classes."""
    made(database, [TABBY, MOPED, ESPRESSO, TABBY])
    return database


def test_search_by_words(pictures: str) -> None:
    """A word finds pictures of its classes, best first; stderr says what was understood."""
    done = fanfold("images", "search", pictures, "--text", "cats")
    assert done.returncode == 0
    assert "understood as: cat (13 kinds)\n" in done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["key", "k0", "k3"]
    done = fanfold("images", "search", pictures, "--text", "cat", "--json", "-k", 1)
    (line,) = done.stdout.splitlines()
    score = pytest.approx(1, abs=0.01)
    assert json.loads(line) == {"key": "k0", "uri": "file:///k0", "score": score, "cosine": None, "columns": {}}
    assert "understood as: cat (13 kinds)\n" in done.stderr


def test_a_filter(pictures: str, tmp_path: Path) -> None:
    """With --where, only rows that meet the condition are found; joined columns are shown."""
    (tmp_path / "stars.csv").write_text("key,stars\nk0,3\nk3,5\nk1,5\n")
    assert fanfold("images", "join", pictures, tmp_path / "stars.csv").returncode == 0
    (hit,) = objects("images", "search", pictures, "--text", "cat", "--where", "stars > 4")
    assert (hit["key"], hit["columns"]) == ("k3", {"stars": 5})
    assert fanfold("images", "search", pictures, "--text", "cat", "--where", "nonsense").returncode == 2


def test_new_pictures_are_found(pictures: str) -> None:
    """A picture that was added after the labels were made is labelled by the next search."""
    assert [hit["key"] for hit in objects("images", "search", pictures, "--text", "fish")] == []
    table = made(pictures, [])
    commit(table, ["new"], [TENCH])
    assert [hit["key"] for hit in objects("images", "search", pictures, "--text", "fish")] == ["new"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "PICTURE, or --text WORDS"),
        (["k0", "--text", "cat"], "PICTURE, or --text WORDS"),
        (["--text", ""], "--text needs a word"),
        (["--text", "   "], "--text needs a word"),
        (["--text", "🐈"], "'🐈' is not one of the"),
        (["--text", "caat"], "Similar words that are: cat"),
        (["--text", "x" * 10_000], "at most 500 characters"),
        (["--text", "cat", "-k", "0"], "-k takes a whole number"),
        (["--text", "cat", "--min-score", "2"], "--min-score takes a number from 0 to 1, not 2.0"),
        (["--text", "cat", "--min-score", "nan"], "--min-score takes a number, not nan"),
        (["--text", "cat", "--exact"], "--exact is for a search by a picture"),
        (["k0", "--min-score", "0.5"], "--min-score is for a search by --text"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else None,
)
def test_wrong_searches(words: list[str], says: str, pictures: str) -> None:
    """What cannot be searched for is refused in a sentence, before anything is labelled."""
    done = fanfold("images", "search", pictures, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert not (Path(pictures) / "_view").exists()


def test_nothing_found(pictures: str) -> None:
    """A word without pictures prints nothing, and says on stderr what to change."""
    done = fanfold("images", "search", pictures, "--text", "fish")
    assert (done.returncode, done.stdout) == (0, "")
    assert "--min-score" in done.stderr
    assert len(objects("images", "search", pictures, "--text", "fish", "--min-score", 0)) == 4


def test_labels(pictures: str) -> None:
    """`labels` counts the pictures of each label, the most frequent first."""
    assert objects("images", "labels", pictures) == [
        {"label": "tabby", "pictures": 2},
        {"label": "moped", "pictures": 1},
        {"label": "espresso", "pictures": 1},
    ]
    done = fanfold("images", "labels", pictures, "--top", 1)
    assert [line.split() for line in done.stdout.splitlines()] == [["pictures", "label"], ["2", "tabby"]]
    assert "4 pictures have 3 different labels; --top 3 shows all." in done.stderr
    assert fanfold("images", "labels", pictures, "--top", 0).returncode == 2


def test_labels_of_an_empty_table(database: str) -> None:
    """An empty table has no labels; a search of it says that it is empty."""
    made(database, [])
    done = fanfold("images", "labels", database)
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 pictures" in done.stderr
    assert "is empty" in fanfold("images", "search", database, "--text", "cat").stderr


def test_a_table_of_another_model(database: str) -> None:
    """A model without words is refused with the models that have them."""
    made(database, [TABBY], **{"fanfold.model": "resnet18", "fanfold.sha256": "ab" * 32})
    for words in (["labels", database], ["search", database, "--text", "cat"]):
        done = fanfold("images", *words)
        assert done.returncode == 2
        assert "efficientnet-lite0 or efficientnet-lite2" in done.stderr


def test_a_read_only_database(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that may only be read is searched by words; its labels are kept in the user's cache."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    for path in (Path(pictures), *Path(pictures).rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    powers = "-dac_override,-dac_read_search"  # root is bound by permissions, too
    bound = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", *FANFOLD]
    for _ in range(2):
        words = [*bound, "images", "search", pictures, "--text", "cat", "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert [json.loads(line)["key"] for line in done.stdout.splitlines()] == ["k0", "k3"]
    assert not (Path(pictures) / "_view").exists()
    assert len(list((tmp_path / "cache" / "view").glob("*/labels.npz"))) == 1
    assert opened(pictures).count_rows() == 4


def test_photos(embedded: str, shared_photos: Path) -> None:
    """A table that `embed` made is labelled and searched; its vectors come from the same model."""
    assert sum(label["pictures"] for label in objects("images", "labels", embedded)) == 4
    found = objects("images", "search", embedded, "--text", "animals", "--min-score", 0)
    assert {hit["key"] for hit in found} == {hit["key"] for hit in objects("images", "search", embedded, "red.jpg")}
    assert fanfold("images", "search", embedded, shared_photos / "red.jpg").returncode == 0
