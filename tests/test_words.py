"""The example `examples/words.py`: a row per file, a detail row per word; killed and resumed."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from words import Words

import fanfold
import nursery
import rays
from commands import example
from faults import Driver, assert_no_workers, wait_for
from helpers import changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Text files of 0 to 39 lines."""
    (tmp_path / "source").mkdir()
    for number in range(40):
        lines = [f"line {n} of file {number}" + " word" * (n % 4) for n in range(number)]
        (tmp_path / "source" / f"{number:02d}.txt").write_text("\n".join(["Title", *lines]))
    return tmp_path / "source"


def expected(folder: Path) -> dict[str, list[tuple[int, int, str]]]:
    """The words of each file: line, place and word."""
    found = {}
    for file in folder.iterdir():
        lines = enumerate(file.read_text().splitlines(), 1)
        found[file.name] = [
            (number, place, word.lower())
            for number, line in lines
            for place, word in enumerate(re.findall(r"\w+", line))
        ]
    return found


def assert_whole(folder: Path, database: str) -> None:
    """Check that every file has a row and all its words, once and at the row's version, and nothing else is there."""
    rows: list[dict[str, Any]] = fanfold.open_table(database, "words").to_table().to_pylist()
    details = fanfold.open_table(database, "words_occurrences").to_table().to_pylist()
    words = expected(folder)
    assert {row["key"]: row["occurrences_count"] for row in rows} == {key: len(some) for key, some in words.items()}
    versions = {row["key"]: row["version"] for row in rows}
    assert len(rows) == len(words)
    assert sorted((row["key"], row["version"], row["line"], row["place"], row["word"]) for row in details) == sorted(
        (key, versions[key], *word) for key, some in words.items() for word in some
    )


def test_tables_join_by_key_and_version(folder: Path, database: str) -> None:
    """The join in docs/table-format.md gives every word beside the row of its file."""
    for _ in fanfold.run(Words(), source=str(folder), database=database):
        pass
    page = (Path(__file__).parents[1] / "docs" / "table-format.md").read_text()
    block = page.split("key *and* version")[1].split("```py\n")[1].split("```")[0]
    space: dict[str, Any] = {}
    exec(block.replace("db/", f"{database}/"), space)
    assert len(space["joined"]) == sum(map(len, expected(folder).values()))
    assert {row["occurrences_count"] for row in space["joined"].to_pylist() if row["key"] == "03.txt"} == {
        len(expected(folder)["03.txt"])
    }


@pytest.mark.parametrize("on", ["local", "ray"])
def test_killed_and_resumed(on: str, folder: Path, database: str) -> None:
    """A `fanfold run examples.words:Words` that is killed at its first receipts is finished by the same command."""
    command = ("examples.words:Words", folder, database)
    driver = Driver(database, example(*command, on=on))
    rays.wait_for_receipts(driver, 1)
    driver.kill()
    assert_no_workers(database)
    wait_for(lambda: not rays.busy(), 60)  # a cluster that the command started has ended with it
    code, out, _ = Driver(database, example(*command, on=on)).end(240)
    report = json.loads(out)
    assert (code, report["listed"], report["lost"]) == (0, 40, 0)
    assert report["unchanged"] + report["ok"] == 40
    assert report["unchanged"] > 0
    assert_whole(folder, database)


def test_a_changed_file_has_its_new_words(folder: Path, database: str) -> None:
    """The old words of a changed file are gone, other files keep theirs, and a file without words has none."""
    for _ in fanfold.run(Words(), source=str(folder), database=database):
        pass
    changed(folder / "07.txt", "short now")
    changed(folder / "08.txt", "...")
    run = fanfold.run(Words(), source=str(folder), database=database)
    assert sum(outcome.ok for outcome in run) == 2
    assert_whole(folder, database)


def test_it_runs_as_a_script(folder: Path, database: str) -> None:
    """`python examples/words.py FOLDER DATABASE` does the same."""
    script = Path(__file__).parents[1] / "examples" / "words.py"
    done = nursery.run([sys.executable, script, folder, database])
    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(folder, database)
