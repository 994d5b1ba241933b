"""`fanfold images labels --labels FILE`: labels of one's own, as columns beside the table; files of all kinds."""

import json
from pathlib import Path
from typing import Any

import pytest

from commands import fanfold, objects
from fanfold.images.labels.file import LONGEST, MOST, read
from labelled_tables import ESPRESSO, GOLDFISH, MOPED, TABBY, TENCH, commit, made, opened


@pytest.fixture
def pictures(database: str) -> str:
    """A database of five pictures of known classes."""
    made(database, [TABBY, MOPED, ESPRESSO, GOLDFISH, TABBY])
    return database


def labels(database: str, folder: Path, text: str | bytes, *words: object, name: str = "subject.txt") -> Any:
    """How labelling by a file with this content ends."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return fanfold("images", "labels", database, "--labels", folder / name, *words)


def found(database: str, folder: Path, column: str = "subject") -> dict[str, Any]:
    """The label of each picture, as an export has it."""
    done = fanfold("images", "export", database, "--to", folder / "out.jsonl", "--columns", f"key,{column}")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return {row["key"]: row[column] for row in rows}


def test_words_of_the_model(pictures: str, tmp_path: Path) -> None:
    """The narrowest word of the file fits; what is not known, or has no kinds of its own, is named."""
    done = labels(pictures, tmp_path, "Animals\ncat\nvehicle\nmy sofa\ncats and dogs\ndomestic cat\nhouse cat\n")
    assert done.returncode == 0, done.stderr
    assert found(pictures, tmp_path) == {
        "k0": "domestic cat",
        "k1": "vehicle",
        "k2": None,
        "k3": "Animals",
        "k4": "domestic cat",
    }
    assert "2 labels are not words that the model knows: my sofa, cats and dogs." in done.stderr
    assert "since narrower ones or synonyms do: house cat." in done.stderr
    assert "4 pictures have 3 different labels, 1 has none" in done.stderr
    assert "Kept as the columns subject and subject_score" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["2", "1", "1"]
    scores = found(pictures, tmp_path, "subject_score")
    assert scores["k0"] > 0.9
    assert scores["k2"] is None


def test_filters_and_columns(pictures: str, tmp_path: Path) -> None:
    """The labels are columns: filters take them, lists show them, and they can be taken away."""
    assert labels(pictures, tmp_path, "cat\nvehicle").returncode == 0
    where = ["--where", "subject = 'cat' AND subject_score > 0.9"]
    assert {hit["key"] for hit in objects("images", "search", pictures, "k0", *where)} == {"k0", "k4"}
    known = {column["column"]: column for column in objects("images", "columns", pictures)}
    assert (known["subject"]["kind"], known["subject_score"]["kind"]) == ("text", "number")
    assert known["subject"]["file"] == "subject.txt"
    assert fanfold("images", "columns", pictures, "--remove", "subject").returncode == 0
    assert "'subject' is not known" in fanfold("images", "search", pictures, "k0", *where).stderr


def test_changes(pictures: str, tmp_path: Path) -> None:
    """A picture that is new or has changed has no label until the next time."""
    assert labels(pictures, tmp_path, "cat\nvehicle\nfish").returncode == 0
    table = made(pictures, [])
    commit(table, ["k0"], [MOPED], version="2")
    commit(table, ["new"], [TENCH])
    before = {"k1": "vehicle", "k2": None, "k3": "fish", "k4": "cat"}
    assert found(pictures, tmp_path) == before | {"k0": None, "new": None}
    assert labels(pictures, tmp_path, "cat\nvehicle\nfish").returncode == 0
    assert found(pictures, tmp_path) == before | {"k0": "vehicle", "new": "fish"}


def test_damage(pictures: str, tmp_path: Path) -> None:
    """Labels that are damaged are an error that says what to do; labelling again replaces them."""
    assert labels(pictures, tmp_path, "cat\nvehicle").returncode == 0
    (Path(pictures) / "_view" / "images" / "columns-subject.parquet").write_bytes(b"noise")
    done = fanfold("images", "export", pictures, "--to", tmp_path / "out.csv")
    assert (done.returncode, "Join or label by their file again" in done.stderr) == (1, True)
    assert labels(pictures, tmp_path, "cat\nvehicle").returncode == 0
    assert found(pictures, tmp_path)["k0"] == "cat"


def test_names(pictures: str, tmp_path: Path) -> None:
    """The columns are named after the file; two files give two pairs, and neither touches what is there."""
    assert labels(pictures, tmp_path, "cat\nvehicle", name="My Subjects (2).txt").returncode == 0
    assert labels(pictures, tmp_path, "cat\nvehicle").returncode == 0
    assert labels(pictures, tmp_path, "cat\nvehicle", name="63").returncode == 0
    assert {"my_subjects_2", "subject_score", "label_63"} <= {
        column["column"] for column in objects("images", "columns", pictures)
    }
    assert "Give the file another name" in labels(pictures, tmp_path, "cat", name="uri.txt").stderr
    (tmp_path / "stars.csv").write_text("key,stars\nk0,3\n")
    assert fanfold("images", "join", pictures, tmp_path / "stars.csv").returncode == 0
    done = labels(pictures, tmp_path, "cat", name="stars.txt")
    assert (done.returncode, "stars.csv, which is joined to the table, has one already" in done.stderr) == (2, True)
    (tmp_path / "more.csv").write_text("key,subject\nk0,3\n")
    assert (
        "'subject', which is joined to the table, has one, too"
        in fanfold("images", "join", pictures, tmp_path / "more.csv").stderr
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is empty"),
        (b" \r\n\n\t", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not a text file"),
        (b"cat\n\x1b[31mred\n", "is not a text file: see line 2"),
        (b"cat\ncaf\xe9\n", "is not in UTF-8: see line 2"),
        ("cat".encode("utf-16"), "is in UTF-16"),
        (b"cat\n" + b"x" * 201, "Line 2 of"),
        (b"\n".join(b"%d" % number for number in range(100_000)), "has 100,000 labels, but at most 10,000"),
        (b"x" * 5_000_000, "more than 10,000 labels"),
        (b"nothing known\nof these", "knows none of the labels"),
    ],
)
def test_wrong_files(text: bytes, says: str, pictures: str, tmp_path: Path) -> None:
    """A file that is not a list of labels is refused in a sentence."""
    done = labels(pictures, tmp_path, text)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--labels", "nowhere.txt"], "does not exist"),
        (["--labels", "."], "is a folder"),
        (["--prompt", "a {}"], "go with --labels FILE"),
        (["--min-score", "0.5"], "go with --labels FILE"),
        (["--labels", __file__, "--prompt", "a {}"], "knows words only"),
    ],
)
def test_wrong_words(words: list[str], says: str, pictures: str) -> None:
    """Options that do not fit are refused in a sentence."""
    done = fanfold("images", "labels", pictures, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_lines(tmp_path: Path) -> None:
    """Blank lines, ends of lines, a byte order mark and repeated labels do not matter."""
    file = tmp_path / "labels.txt"
    file.write_bytes(b"\xef\xbb\xbfcat\r\n\r\n  red \t bicycle\nCAT\r\xc3\xa9t\xc3\xa9\n\n")
    assert read(file) == (["cat", "red bicycle", "été"], 1)
    file.write_text("\n".join(f"{number:0{LONGEST}}" for number in range(MOST)))
    assert len(read(file).labels) == MOST


def test_repeated_labels(pictures: str, tmp_path: Path) -> None:
    """A note says how many lines repeat others."""
    assert "has 1 line that repeats another" in labels(pictures, tmp_path, "cat\nvehicle\nCat").stderr


def test_an_empty_table(database: str, tmp_path: Path) -> None:
    """An empty table has no labels, and can be labelled."""
    made(database, [])
    done = labels(database, tmp_path, "cat\nvehicle")
    assert (done.returncode, done.stdout) == (0, "")
    assert opened(database).count_rows() == 0


def test_in_an_object_store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, words, columns and the map of a database in S3 are kept beside it; in the cache, if it is read-only."""
    monkeypatch.setenv("FANFOLD_CACHE", str(tmp_path / "cache"))
    made(bucket, [TABBY, MOPED, ESPRESSO, GOLDFISH])
    for access in ("key", "reader"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
        assert [hit["key"] for hit in objects("images", "search", bucket, "--text", "cat")] == ["k0"]
        assert labels(bucket, tmp_path, "cat\nvehicle").returncode == 0
        (hit,) = objects("images", "search", bucket, "k0", "--where", "subject = 'vehicle'")
        assert hit["columns"]["subject"] == "vehicle"
        assert objects("images", "map", bucket, "--rebuild")[0]["rows"] == 4
        assert (tmp_path / "cache" / "view").exists() == (access == "reader")
    cached = {file.name.partition("-")[0] for file in (tmp_path / "cache" / "view").glob("*/*")}
    assert cached == {"map.npz", "columns", "joined"}  # labels of words were there already
