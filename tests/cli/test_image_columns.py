"""The verbs of columns of one's own: join, columns, and --where over both kinds."""

import json
from pathlib import Path

import pytest

from commands import fanfold, objects
from image_files import picture


@pytest.fixture(name="labels")
def _labels(tmp_path: Path) -> Path:
    """Labels of some of the photos, and of one that is not there."""
    file = tmp_path / "labels.csv"
    file.write_text(
        'key,label,stars\nred.jpg,warm,5\n"sub/red again.png",warm,3\n[blue].png,cold,\nnew.png,new,1\nno,x,1\n'
    )
    return file


def test_labels_from_a_file_to_a_search(photos: Path, database: str, labels: Path) -> None:
    """Labels are joined, listed, filtered with the table's columns, shown in JSON, kept by later runs, and removed."""
    assert fanfold("images", "embed", photos, database).returncode == 0
    done = fanfold("images", "join", database, labels)
    assert (done.returncode, done.stdout) == (0, "label, stars: joined to 3 of 4 rows of table 'images'.\n")
    assert "2 rows of the file have keys that are not in the table, such as " in done.stderr
    assert f"fanfold images columns {database} --remove labels" in done.stderr

    listed = {row["column"]: row for row in objects("images", "columns", database)}
    assert (listed["stars"]["kind"], listed["stars"]["file"]) == ("whole number", "labels.csv")
    assert listed["width"] == {"column": "width", "kind": "whole number", "from": "the table"}
    assert "labels (labels.csv)" in fanfold("images", "columns", database).stdout

    where = "label = 'warm' AND stars >= 3 AND format = 'JPEG'"
    (hit,) = objects("images", "search", database, "red.jpg", "--where", where)
    assert (hit["key"], hit["columns"]) == ("red.jpg", {"label": "warm", "stars": 5})
    (group,) = objects("images", "duplicates", database, "--threshold", 0.9, "--where", "label = 'warm'")
    assert sorted(group["keys"]) == ["red.jpg", "sub/red again.png"]
    assert objects("images", "duplicates", database, "--threshold", 0.9, "--where", "stars > 4") == []

    picture(photos / "new.png", (1, 2, 3), 3)
    again = json.loads(fanfold("images", "embed", photos, database, "--json").stdout)
    assert (again["ok"], again["unchanged"], again["lost"]) == (1, 4, 0)
    assert fanfold("optimize", database, "--keep", "0").returncode == 0
    (hit,) = objects("images", "search", database, "red.jpg", "--where", "label = 'new'")
    assert hit["key"] == "new.png"

    assert fanfold("images", "columns", database, "--remove", "labels").returncode == 0
    refused = fanfold("images", "search", database, "red.jpg", "--where", where)
    assert refused.returncode == 2
    assert "the column 'label' is not known" in refused.stderr


def test_what_a_file_may_not_have(embedded: str, tmp_path: Path) -> None:
    """A file that cannot be joined exits with 2 and a sentence; characters that move the cursor are not printed."""
    file = tmp_path / "bad\x1b[2J.csv"
    file.write_text("key,width\nred.jpg,3\n")
    done = fanfold("images", "join", embedded, file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has a column 'width', but the table has one, too" in done.stderr
    assert "\x1b" not in done.stderr
    file.write_text("file,mine\nred.jpg,3\n")
    assert "Name the column that holds the keys with: --by NAME" in fanfold("images", "join", embedded, file).stderr
    done = fanfold("images", "join", embedded, file, "--by", "file", "--name", "good", "--json")
    assert json.loads(done.stdout)["joined"]["columns"] == {"mine": "whole number"}


def test_nothing_is_joined_to_another_jobs_table(sums: str, tmp_path: Path) -> None:
    """A table without pictures is refused, as by every verb of the job."""
    (tmp_path / "labels.csv").write_text("key,label\nred.jpg,x\n")
    done = fanfold("images", "join", sums, tmp_path / "labels.csv")
    assert done.returncode == 2
    assert "was made by the job" in done.stderr
