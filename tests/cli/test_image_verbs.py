"""The verbs of `images`: embed and plan, search, duplicates, vectors."""

import json
from pathlib import Path

import numpy as np
import pytest

from commands import fanfold, objects
from image_files import picture


def test_more_neighbours_than_there_are(embedded: str) -> None:
    """Asking for more neighbours than there are shows all of them."""
    assert len(objects("images", "search", embedded, "red.jpg", "-k", 10**30)) == 4


def test_an_empty_table_is_said_to_be_empty(tmp_path: Path, shared_photos: Path) -> None:
    """A search of a table without rows exits with 2 and says so, for any query."""
    (tmp_path / "none").mkdir()
    assert fanfold("images", "embed", tmp_path / "none", tmp_path / "db").returncode == 0
    for query in ("red.jpg", shared_photos / "red.jpg"):
        done = fanfold("images", "search", tmp_path / "db", query)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is empty. There is nothing to find" in done.stderr
    assert "is empty. There is nothing to index" in fanfold("images", "index", tmp_path / "db").stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--on", "nonsense"], "no executor 'nonsense'"),
        (["--mirror", "nonsense://x"], "'nonsense://x' is not a mirror"),
        (["--task-size", "0"], "A task needs at least one item"),
        (["--table", "a/b"], "'a/b' is not a valid table name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_int8_is_not_calibrated_for_a_wrong_command(wrong: list[str], says: str, crops: Path, database: str) -> None:
    """A mistake ends a run of INT8 before a model is made, so no database is created."""
    done = fanfold("images", "embed", crops, database, "--precision", "int8", "--min-cosine", "0.5", *wrong)
    assert done.returncode == 2
    assert says in done.stderr
    assert "calibrated" not in done.stderr
    assert not Path(database).exists()


def test_search_by_key_and_by_picture(embedded: str, shared_photos: Path) -> None:
    """A key and a picture's path find the same neighbours, nearest first."""
    by_key = objects("images", "search", embedded, "red.jpg")
    by_path = objects("images", "search", embedded, shared_photos / "red.jpg", "-k", 2)
    assert [hit["key"] for hit in by_key[:2]] == ["red.jpg", "sub/red again.png"]
    assert [hit["key"] for hit in by_path] == ["red.jpg", "sub/red again.png"]
    assert by_path[0]["cosine"] == pytest.approx(1, abs=1e-4)


def test_search_says_when_the_query_is_nothing(embedded: str) -> None:
    """A query that is neither a key nor a picture exits with 2."""
    done = fanfold("images", "search", embedded, "nothing")
    assert done.returncode == 2
    assert "neither a key" in done.stderr


def test_duplicates_finds_the_pair(embedded: str) -> None:
    """The two red pictures form a group."""
    (group,) = objects("images", "duplicates", embedded, "--threshold", 0.9)
    assert sorted(group["keys"]) == ["red.jpg", "sub/red again.png"]


def test_vectors_reads_back(embedded: str, tmp_path: Path) -> None:
    """Vectors come back in the order asked, as text, JSON or .npy."""
    file = tmp_path / "out.npy"
    assert fanfold("images", "vectors", embedded, "[blue].png", "red.jpg", "--npy", file).returncode == 0
    line = fanfold("images", "vectors", embedded, "[blue].png", "--json").stdout
    assert np.load(file).shape == (2, 1280)
    assert np.allclose(np.load(file)[0], json.loads(line)["vector"], atol=1e-6)
    assert "[blue].png" in fanfold("images", "vectors", embedded, "[blue].png").stdout


def test_vectors_names_missing_keys(embedded: str) -> None:
    """A missing key exits with 2 and is named."""
    done = fanfold("images", "vectors", embedded, "red.jpg", "absent.jpg")
    assert done.returncode == 2
    assert "absent.jpg" in done.stderr


def test_search_wants_one_picture(embedded: str, tmp_path: Path) -> None:
    """A list of pictures, or an empty one, is not a query."""
    for text in ("", "a.jpg\nb.jpg\n"):
        (tmp_path / "some.list").write_text(text)
        done = fanfold("images", "search", embedded, tmp_path / "some.list")
        assert done.returncode == 2
        assert "is not a single picture" in done.stderr


def test_another_recipe_is_refused_with_the_command_that_works(embedded: str, shared_photos: Path) -> None:
    """Vectors of another recipe are kept out of the table; --table takes them."""
    refused = fanfold("images", "embed", shared_photos, embedded, "--fast")
    assert refused.returncode == 2
    assert "--table images_2" in refused.stderr
    assert fanfold("images", "embed", shared_photos, embedded, "--fast", "--table", "images_2").returncode == 0


def test_plan_writes_nothing(photos: Path, database: str) -> None:
    """`plan` counts and estimates, and leaves no database behind."""
    told = json.loads(fanfold("plan", "images", photos, database, "--json").stdout)
    assert (told["new"], told["unchanged"], told["left_out"]["empty"]) == (4, 0, 1)
    assert told["seconds"] > 0
    assert not Path(database).exists()


def test_plan_of_int8_writes_nothing(crops: Path, database: str) -> None:
    """For INT8, `plan` calibrates as the run would and keeps nothing; a table's own model is used as it is."""
    asked = (crops, database, "--precision", "int8", "--workers", "1", "--min-cosine", "0.5")
    planned = fanfold("plan", "images", *asked, "--json")
    assert (planned.returncode, json.loads(planned.stdout)["new"]) == (0, 20), planned.stderr
    assert "INT8 calibrated on" in planned.stderr
    assert not Path(database).exists()
    assert fanfold("images", "embed", *asked).returncode == 0
    before = sorted(Path(database).rglob("*"))
    again = fanfold("plan", "images", *asked, "--json")
    assert (again.returncode, json.loads(again.stdout)["unchanged"]) == (0, 20), again.stderr
    assert "calibrated" not in again.stderr
    assert sorted(Path(database).rglob("*")) == before


def test_stem_ids_refuse_collisions(photos: Path, database: str) -> None:
    """With --id stem, two pictures with the same stem are refused by name before any work."""
    picture(photos / "sub" / "red.png")
    done = fanfold("images", "embed", photos, database, "--id", "stem")
    assert done.returncode == 2
    assert "red.jpg" in done.stderr
    assert "sub/red.png" in done.stderr


def test_search_among_the_rows_that_match(embedded: str) -> None:
    """--where keeps a search to the rows that meet a condition; a bad one exits with 2 and names the columns."""
    found = objects("images", "search", embedded, "red.jpg", "--where", "format = 'PNG'", "--exact")
    assert sorted(hit["key"] for hit in found) == sorted(
        key for key in (hit["key"] for hit in objects("images", "search", embedded, "red.jpg")) if key.endswith("png")
    )
    refused = fanfold("images", "search", embedded, "red.jpg", "--where", "format = PNG")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "the column 'PNG' is not known" in refused.stderr
    assert "width (whole number)" in refused.stderr
    assert "vector" not in refused.stderr
    nothing = fanfold("images", "search", embedded, "red.jpg", "--where", "width < 0")
    assert (nothing.returncode, nothing.stderr) == (0, "No row meets the condition.\n")
