"""Grids of cells: listed, checked, done exactly once, and done again when they change."""

import contextlib
import json
import random
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanfold
import nursery
import rays
from commands import fanfold as command
from fanfold.errors import RecipeMismatch, UsageError
from fanfold.tls import Tls
from fanfold.tls.cells import Chain, cell_of, checked_cell
from fanfold.tls.grid import Grid
from fanfold.tls.zoo import load
from faults import Driver

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

GRID = """
[grid]
rtt_ms = [20, 100]
down_mbit = [10, 100.0]
initcwnd = [10, 30]
chain = ["ed25519", "ed25519+1x17000", "ed25519+17x1000", "ml-dsa-44:2021", "ML-DSA-65:2026"]
[fixed]
reps = 3
[[cells]]
rtt_ms = 300
down_mbit = 10
initcwnd = 10
chain = "Ed25519"
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    file = tmp_path / "first.grid.toml"
    file.write_text(GRID)
    return file


def keys(file: Path) -> list[str]:
    return [item.key for item in Grid.open(file).items()]


def test_a_grid_is_the_product_of_its_lists_and_its_single_cells(grid: Path) -> None:
    """2 x 2 x 2 x 5 cells and one; keys have what every cell has and what differs from the defaults."""
    found = keys(grid)
    assert len(found) == len(set(found)) == 41
    assert found[0] == "rtt_ms=20,down_mbit=10,initcwnd=10,chain=ed25519,reps=3"
    assert found[-1] == "rtt_ms=300,down_mbit=10,initcwnd=10,chain=ed25519,reps=3"
    links = [cell_of(key).link for key in found]
    assert len({*links}) == sum(one != before for before, one in zip([None, *links], links, strict=False))


def test_cells_that_are_listed_twice_are_done_once(grid: Path) -> None:
    """The same value twice, a cell of the grid named again, and a single cell named again."""
    again = '[[cells]]\nrtt_ms = 20.0\ndown_mbit = 10\ninitcwnd = 10\nchain = "ed25519"\n'
    grid.write_text(GRID.replace("[20, 100]", "[20, 100, 20.0]") + again + again)
    source = Grid.open(grid)
    assert len([*source.items()]) == 41
    assert source.left_out["listed twice"] == 2 + 20  # and the cells of 20.0 ms
    grid.write_text(GRID.replace('["ed25519"', '["ed25519", "ED25519", "ed25519+0"'))  # one chain
    source = Grid.open(grid)
    assert len([*source.items()]) == 41
    assert source.left_out["listed twice"] == 16


def test_a_grid_of_a_billion_cells_is_listed_one_by_one(tmp_path: Path) -> None:
    """Nothing is made before it is asked for: the first cells are there at once."""
    file, many = tmp_path / "large.grid.toml", [*range(1, 1001)]
    file.write_text(f'[grid]\nrtt_ms = {many}\ndown_mbit = {many}\ninitcwnd = {many}\nchain = ["p256"]\n')
    assert len({item.key for item in islice(Grid.open(file).items(), 1001)}) == 1001


numbers = st.one_of(st.integers(1, 500), st.floats(0.5, 500))
chains = st.one_of(
    st.sampled_from(["ed25519", "ml-dsa-44:2021", "falcon-512:mtc-landmark"]),
    st.builds("p256+{}x{}".format, st.integers(1, 40), st.integers(217, 9000)),
)


@given(
    rtt=numbers, down=numbers, window=st.integers(1, 1000), chain=chains, loss=st.floats(0, 0.5), reps=st.integers(1, 9)
)
def test_a_key_is_its_cell(rtt: float, down: float, window: int, chain: str, loss: float, reps: int) -> None:
    """A worker makes the same cell of a key, whatever its values are."""
    values = {"rtt_ms": rtt, "down_mbit": down, "initcwnd": window, "chain": chain, "reps": reps, "loss": loss}
    cell = checked_cell(values, load())
    assert cell_of(cell.key) == cell
    assert cell.parsed == Chain.of(chain).known(load())


def measured(file: Path, database: str, **options: str) -> fanfold.Report:
    run = fanfold.run(Tls(backend="simulate", **options), source=str(file), database=database, workers=2, task_size=8)
    for _ in run:
        pass
    return run.report


def rows(database: str) -> dict[str, dict[str, object]]:
    return {row["key"]: row for row in fanfold.open_table(database, "tls").to_table().to_pylist()}


def test_a_run_fills_a_row_a_cell(grid: Path, tmp_path: Path) -> None:
    """Every cell has its bytes, its time and its control's; walls show as round trips."""
    report = measured(grid, str(tmp_path / "db"))
    assert (report.listed, report.ok, report.failed) == (41, 41, 0)
    found = rows(str(tmp_path / "db"))
    assert len(found) == 41
    row = found["rtt_ms=100,down_mbit=100,initcwnd=10,chain=ed25519+1x17000,reps=3"]
    plain = found["rtt_ms=100,down_mbit=100,initcwnd=10,chain=ed25519,reps=3"]
    assert row["backend"] == "simulate"
    assert row["first_flight_bytes"] == plain["first_flight_bytes"] + 17_005 + 22
    assert row["control_flight_bytes"] == plain["first_flight_bytes"]
    assert (row["extra_round_trips"], plain["extra_round_trips"]) == (1, 0)
    assert row["slowdown_p50"] == pytest.approx(0.99, abs=0.03)
    assert found["rtt_ms=20,down_mbit=10,initcwnd=30,chain=ml-dsa-44:2021,reps=3"]["first_flight_bytes"] == 19_277


def test_only_what_changes_is_done_again(grid: Path, tmp_path: Path) -> None:
    """Another value on an axis adds its cells; another number of repetitions of one cell is another cell."""
    database = str(tmp_path / "db")
    measured(grid, database)
    assert measured(grid, database).unchanged == 41
    grid.write_text(GRID.replace("[20, 100]", "[20, 100, 200]"))
    report = measured(grid, database)
    assert (report.unchanged, report.ok) == (41, 20)
    other = tmp_path / "other.grid.toml"
    other.write_text(GRID.replace("[20, 100]", "[50]").replace("reps = 3", "reps = 4"))
    assert measured(other, database).ok == 21  # another grid's cells go into the same table
    assert len(rows(database)) == 41 + 20 + 21


def test_a_scheme_whose_sizes_change_is_done_again(grid: Path, tmp_path: Path) -> None:
    """Only the cells that use it are; the others are unchanged."""
    database, zoo = str(tmp_path / "db"), tmp_path / "zoo.toml"
    scheme = '[[scheme]]\nname = "ML-DSA-44"\nlevel = 2\nstatus = "standard"\npk = 1312\nsig = {}\nsizes = ["a", "b"]\n'
    zoo.write_text(scheme.format(2420))
    measured(grid, database, zoo=str(zoo))
    zoo.write_text(scheme.format(2500))
    report = measured(grid, database, zoo=str(zoo))
    assert (report.unchanged, report.ok) == (33, 8)
    key = "rtt_ms=20,down_mbit=10,initcwnd=10,chain=ml-dsa-44:2021,reps=3"
    assert rows(database)[key]["first_flight_bytes"] == 19_277 + 6 * 80


def test_what_cannot_be_measured_is_left_out_with_its_reason(grid: Path, tmp_path: Path) -> None:
    """Post-quantum certificates in TLS 1.2, and what the simulation does not know."""
    grid.write_text(GRID.replace("reps = 3", 'reps = 3\ntls = "1.2"'))
    report = measured(grid, str(tmp_path / "db"))
    assert (report.ok, dict(report.left_out)) == (25, {"post-quantum certificates need TLS 1.3": 16})
    grid.write_text(GRID.replace("reps = 3", "reps = 3\nloss = 0.01"))
    assert dict(measured(grid, str(tmp_path / "db")).left_out) == {"loss and queues cannot be simulated": 41}
    grid.write_text(GRID.replace("reps = 3", 'reps = 3\ncc = "bbr"'))
    left_out = {"the congestion control bbr cannot be simulated": 41}
    assert dict(measured(grid, str(tmp_path / "db")).left_out) == left_out


BASE = '[grid]\nrtt_ms = [20]\ndown_mbit = [1]\ninitcwnd = [10]\nchain = ["p256"]\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BASE.replace("20", "nan"), "line 2: rtt_ms: it should be a finite number, not nan."),
        (BASE.replace("20", "0"), "line 2: rtt_ms: it should be greater than or equal to 0.001, not 0."),
        (BASE.replace("20", "20000"), "line 2: rtt_ms: it should be less than or equal to 10000, not 20000."),
        (BASE.replace("[1]", "[0]"), "line 3: down_mbit: it should be greater than or equal to 0.001, not 0."),
        (BASE.replace("[10]", "[0]"), "line 4: initcwnd: it should be greater than or equal to 1, not 0."),
        (BASE.replace("[10]", "[1001]"), "line 4: initcwnd: it should be less than or equal to 1000, not 1001."),
        (BASE + "reps = 0", "line 6: reps: it should be greater than or equal to 1, not 0."),
        (BASE + "loss = 0.6", "line 6: loss: it should be less than or equal to 0.5, not 0.6."),
        (
            BASE.replace("p256", "ml-dsa-45"),
            "line 5: 'ml-dsa-45' is not a known signature scheme. Did you mean ML-DSA-",
        ),
        (BASE.replace("p256", "p256:2020"), "line 5: '2020' is not a known profile. Did you mean 2026 or 2021?"),
        (BASE.replace("p256", "p256+1x300:2021"), "'p256+1x300:2021' has certificates more and a profile. Leave one"),
        (BASE.replace("p256", "p256:2021+1x300"), "'p256:2021+1x300' has certificates more and a profile. Leave one"),
        (BASE.replace("p256", "p256+1x100"), "the smallest certificate that can be added has 217 bytes, not 100."),
        (BASE.replace("p256", "p256+1001x300"), "a chain has at most 1,000 certificates more, not 1,001."),
        (BASE.replace("p256", "p256+20x1000000"), "a flight of more than 16 MB is not measured: 20 x 1,000,000 bytes."),
        (BASE.replace("p256", ""), "'' is not a chain: write p256, p256+1x17000 or ml-dsa-44:2021."),
        (BASE.replace("rtt_ms", "rtt"), "line 2: 'rtt' is not a known field of a cell. Did you mean rtt_ms?"),
        (BASE.replace("p256", "p257"), "line 5: 'p257' is not a known signature scheme. Did you mean ECDSA-P256?"),
        (BASE.replace("p256", "p256+5"), "'p256+5' does not say how large its certificates are: write p256+5x1000."),
        (BASE.replace('"p256"', '["p256"]'), "line 5: chain: it should be a valid string, not ['p256']."),
        (BASE.replace('"p256"', "{a = 1}"), "line 5: chain: it should be a valid string, not {'a': 1}."),
        (BASE + "[fixed]\nrtt_ms = 30\n", "line 7: 'rtt_ms' is in [grid], too. Leave one of them out."),
        (BASE.replace("[20]", "[]"), "line 2: 'rtt_ms' has no values, so the grid has no cells."),
        (BASE.replace("rtt_ms = [20]\n", ""), "rtt_ms: it is missing."),
        (BASE + "[fixed]\nreps = 0\n", "line 7: reps: it should be greater than or equal to 1, not 0."),
        (BASE + "[fixd]\n", "line 6: 'fixd' is not a known table of a grid. Did you mean fixed or grid?"),
        (BASE + "[cells]\nrtt_ms = 3\n", "line 6: write [[cells]], with two brackets."),
        ("cells = [3]\n", "line 1: write [[cells]], with two brackets."),
        (BASE + "[[cells]]\nrtt_ms = 3\n", "line 6: down_mbit: it is missing."),
        (
            BASE.replace("p256", f"p256+{'9' * 5000}x1000"),
            "' is not a chain: write p256, p256+1x17000 or ml-dsa-44:2021.",
        ),
        (BASE.replace("20", "9" * 5000), "is not TOML: Exceeds the limit (4300 digits) for integer string conversion"),
        ("", "has no cells. Give it a [grid] or some [[cells]]."),
        ("rtt", "is not TOML"),
    ],
)
def test_a_grid_that_is_not_valid_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """Before anything is done: with the line, the value and the nearest known name."""
    file = tmp_path / "bad.grid.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        Grid.open(file)


def test_mistakes_on_the_command_line_end_with_a_sentence(grid: Path, tmp_path: Path) -> None:
    """No grid, two grids, and a table that another job made: exit code 2, and no traceback."""
    (tmp_path / "file").write_text("")
    for words, says in (
        (["absent.grid.toml", "db"], "Cannot read absent.grid.toml: No such file or directory."),
        ([grid, grid, "db"], "is one file, which describes a grid: first.grid.toml"),
        ([tmp_path, "db"], "it is not a file."),
        (
            ["s3://bucket/a.grid.toml", "db"],
            "s3://bucket/a.grid.toml is not a file on this machine. Copy it here first.",
        ),
        ([grid, "db", "--zoo", "s3://bucket/zoo.toml"], "s3://bucket/zoo.toml is not a file on this machine."),
        ([grid, "db", "--zoo", ""], "The option zoo is empty."),
        ([grid, "file"], "file is a file. A database is a folder, or a URL such as s3://b/db."),
    ):
        done = command("tls", "measure", *words, "--backend", "simulate", cwd=tmp_path)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "db").exists()


def test_measure_resumes_and_plan_tells(grid: Path, tmp_path: Path) -> None:
    """The commands do what the library does."""
    done = command("tls", "measure", grid, tmp_path / "db", "--backend", "simulate", "--workers", "1", "--json")
    assert json.loads(done.stdout)["ok"] == 41
    assert (
        json.loads(command("run", "tls", grid, tmp_path / "db", "--backend", "simulate", "--json").stdout)["unchanged"]
        == 41
    )
    words = ("plan", "tls", grid, tmp_path / "other", "--backend", "simulate", "--workers", "1", "--json")
    assert json.loads(command(*words).stdout)["new"] == 41


def test_tables_of_other_backends_do_not_mix(grid: Path, tmp_path: Path) -> None:
    """The recipe names the back end: rows that were simulated and rows that were measured never share a table."""
    database = str(tmp_path / "db")
    measured(grid, database)
    recipe = Tls(backend="simulate").recipe()
    assert recipe["backend"] == "simulate"

    class Other(Tls):
        def recipe(self) -> dict[str, str]:
            return dict(recipe) | {"backend": "emulate"}

    with pytest.raises(RecipeMismatch):
        fanfold.run(Other(backend="simulate"), source=str(grid), database=database)


def test_the_schema_has_every_axis(grid: Path, tmp_path: Path) -> None:
    """What a grid can set is a column of the table, so that each can be filtered by."""
    columns = Tls().schema().names
    axes = {"rtt_ms", "down_mbit", "up_mbit", "loss", "queue_kb", "initcwnd", "mss", "cc", "tls", "kex", "reps", "seed"}
    assert axes <= set(columns)
    assert isinstance(Tls().schema(), pa.Schema)
    table = measured(grid, str(tmp_path / "db")) and fanfold.open_table(str(tmp_path / "db"), "tls")
    assert table.count_rows("rtt_ms = 20 AND scheme = 'ml-dsa-44' AND profile = '2021'") == 4


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_runs_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    """The command is killed again and again in a grid of 2,000 cells; the next one does the rest, each once."""
    file, database, rng = tmp_path / "large.grid.toml", str(tmp_path / "db"), random.Random(seed)
    axes = f"rtt_ms = {[*range(1, 501)]}\ndown_mbit = [10, 20]\ninitcwnd = [10, 30]"
    file.write_text(f'[grid]\n{axes}\nchain = ["p256+1x17000"]\n')
    words = [sys.executable, "-m", "fanfold", "tls", "measure", file, database, "--backend", "simulate"]
    words += ["--workers", "2", "--task-size", "50"]
    for _ in range(4):
        with nursery.Popen([*map(str, words)], stdout=nursery.DEVNULL, stderr=nursery.DEVNULL) as driver:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(0.1 + rng.random())
            driver.kill()
    report = measured(file, database)
    assert (report.listed, report.ok + report.unchanged, report.failed) == (2000, 2000, 0)
    table = fanfold.open_table(database, "tls").to_table(["key"])["key"].to_pylist()
    assert len(table) == len(set(table)) == 2000


def test_a_grid_on_ray_is_killed_and_resumed(three: "Cluster", tmp_path: Path) -> None:
    """Workers on a cluster make the cells of the same grid; the command that follows a killed one does the rest."""
    file, database = tmp_path / "a.grid.toml", str(tmp_path / "db")
    axes = f"rtt_ms = {[*range(1, 101)]}\ndown_mbit = [10, 20]\ninitcwnd = [10, 30]"
    file.write_text(f'[grid]\n{axes}\nchain = ["p256+1x17000", "ml-dsa-44:2021"]\n')
    words = ["measure", file, database, "--backend", "simulate", "--task-size", "20"]
    words += ["--on", f"ray:{three.address}", "--workers", "1"]

    def started() -> Driver:
        pipe, command = subprocess.PIPE, [sys.executable, "-m", "fanfold", "tls", *map(str, words), "--json"]
        return Driver(database, nursery.Popen(command, stdout=pipe, stderr=pipe, text=True))

    rays.wait_for_receipts(driver := started(), 2)
    driver.kill()
    code, out, _ = started().end(240)
    report = json.loads(out)
    assert (code, report["listed"], report["failed"], report["lost"]) == (0, 800, 0, 0)
    assert len(rows(database)) == 800
