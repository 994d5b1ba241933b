"""`examples/grid.py`: a job whose items are the cells of a grid, killed and resumed, here and on Ray."""

import json
import math
import sys
from pathlib import Path

import pytest
from grid import Grid

import fanfold
import nursery
import rays
from commands import ROOT, example, objects
from faults import Driver, assert_no_workers, once
from helpers import Here, failures, rows

EXAMPLES = ROOT / "examples"
STEPS = range(3000, 3100)


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of three hundred cells, which takes a few seconds."""
    return written(tmp_path, ["midpoint", "trapezoid", "simpson"], STEPS)


def written(folder: Path, rules: list[str], steps: range | list[int]) -> Path:
    """Write a grid to a file."""
    (folder / "grid.toml").write_text(f"rules = {json.dumps(rules)}\nsteps = {[*steps]}\n")
    return folder / "grid.toml"


@pytest.mark.parametrize("on", ["local", "ray"])
def test_a_grid_is_killed_and_resumed(grid: Path, database: str, on: str, request: pytest.FixtureRequest) -> None:
    """A killed `fanfold run examples.grid:Grid` is finished by the same command: each cell is done once, and the fold
    has its summary."""
    if on == "ray":
        on = f"ray:{request.getfixturevalue('three').address}"
    driver = Driver(database, example("examples.grid:Grid", grid, database, on=on))
    rays.wait_for_receipts(driver, 2)
    driver.kill()
    assert_no_workers(database)
    code, out, _ = Driver(database, example("examples.grid:Grid", grid, database, on=on)).end(240)
    assert (code, json.loads(out)["unchanged"] > 0) == (0, True)
    assert len(once(database, "grid")) == 3 * len(STEPS)
    assert failures(database) == {}
    again = objects("run", "examples.grid:Grid", grid, database, cwd=ROOT)
    assert [(report["unchanged"], report["lost"]) for report in again] == [(3 * len(STEPS), 0)]
    assert rows(database, "grid")["simpson/3000"]["error"] < 1e-12
    assert len(fanfold.open_table(database, "grid_summary").to_table()) == 3


def test_cells_are_added_to_a_grid(tmp_path: Path, database: str) -> None:
    """A grid that has grown gets its new cells, and a cell that cannot be computed is a failed item."""
    for rules, done in ((["midpoint"], 2), (["midpoint", "simpson"], 2), (["midpoint", "simpson", "guess"], 0)):
        run = fanfold.run(Grid(), source=str(written(tmp_path, rules, [2, 4])), database=database, executor=Here())
        assert sum(outcome.ok for outcome in run) == done
    assert {key: row["stage"] for key, row in failures(database).items()} == {
        "guess/2": "compute",
        "guess/4": "compute",
    }
    assert math.isclose(rows(database, "grid")["midpoint/2"]["error"], 0.01776, rel_tol=1e-3)


def test_a_grid_elsewhere_is_another_source(tmp_path: Path, database: str) -> None:
    """A table is bound to the grid it was made from, since cells of another one may have the same names."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, ["simpson"], [2])
    list(fanfold.run(Grid(), source=str(tmp_path / "one" / "grid.toml"), database=database, executor=Here()))
    with pytest.raises(fanfold.SourceMismatch, match="holds the items of"):
        fanfold.run(Grid(), source=str(tmp_path / "two" / "grid.toml"), database=database, executor=Here())


def test_the_fold_of_a_grid(tmp_path: Path, database: str) -> None:
    """The summary has one row per rule, that of its smallest error; the summary of an empty table is empty."""
    grid = written(tmp_path, ["midpoint", "simpson"], [2, 4, 8])
    run = fanfold.run(Grid(), source=str(grid), database=database, executor=Here())
    empty = Grid().fold({"rows": fanfold.open_table(database, "grid")})["summary"]
    assert (len(empty), empty.schema.names) == (0, ["rule", "steps", "error"])
    list(run)
    summary = Grid().fold({"rows": fanfold.open_table(database, "grid")})["summary"].to_pylist()
    assert [(row["rule"], row["steps"]) for row in summary] == [("midpoint", 8), ("simpson", 8)]


def test_the_example_as_a_script(tmp_path: Path, database: str) -> None:
    """`python examples/grid.py GRID DATABASE` does the cells, and none of them a second time."""
    grid = written(tmp_path, ["midpoint"], [2, 4])
    command = [sys.executable, str(EXAMPLES / "grid.py"), str(grid), database]
    for report in ("'ok': 2", "'unchanged': 2"):
        assert report in nursery.run(command).stdout
