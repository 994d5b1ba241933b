"""`fanfold tls report`: plots, a table and a page on the cells of a table."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from serving import waited

import fanfold
import nursery
from commands import fanfold as command
from fanfold.errors import StorageError, UsageError
from fanfold.tls import Tls, plots
from fanfold.tls.palette import BLUE, INK, PAPER
from fanfold.tls.report.claims import judged
from fanfold.tls.report.write import report

GRID = """
[grid]
rtt_ms = [100]
down_mbit = [100]
initcwnd = [10, 30]
chain = ["ed25519", "ed25519+1x9000", "ed25519+1x20000", "ed25519+1x50000", "ml-dsa-44:2021", "slh-dsa-128s:2021"]
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    (folder / "a.grid.toml").write_text(GRID)
    for _ in fanfold.run(
        Tls(backend="simulate"), source=str(folder / "a.grid.toml"), database=str(folder / "db"), workers=1
    ):
        pass
    return str(folder / "db")


@pytest.fixture(scope="module")
def drawn(database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on it."""
    folder = tmp_path_factory.mktemp("drawn")
    report(database, folder)
    return folder


class Tags(HTMLParser):
    """Counts the tags of a page, and keeps what it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def cell(added: int, slowdown: float, trips: int | None, window: int = 30, **more: object) -> dict[str, object]:
    """A row of a link of 100 ms and 100 Mbit/s; its control's first flight has 2,000 bytes."""
    row: dict[str, object] = {
        "rtt_ms": 100.0, "down_mbit": 100.0, "up_mbit": 0.0, "initcwnd": window, "mss": 1448, "scheme": "ed25519",
        "profile": None, "dummies": 1, "dummy_bytes": 0, "crypto_bytes": 0, "control_flight_bytes": 2000,
        "first_flight_bytes": 2000 + added, "slowdown_p50": slowdown, "extra_round_trips": trips,
    }  # fmt: skip
    return row | more


def six(scheme: str, added: int, crypto: int, trips: int) -> dict[str, object]:
    """A row of six signatures of a scheme."""
    return cell(added, 0.1, trips, 10, scheme=scheme, profile="2021", dummies=0, crypto_bytes=crypto)


@pytest.mark.parametrize(
    ("topic", "rows", "verdict", "words"),
    [
        ("added", [], "cannot be tested", "No cell has one of these schemes"),
        ("added", [six("falcon-512", 5187, 5790, 0)], "reproduced", "falcon-512:2021 +5,187 B"),
        ("added", [six("ml-dsa-44", 18_187, 5790, 1)], "not reproduced", "ml-dsa-44:2021 +18,187 B"),
        ("budget", [six("ml-dsa-44", 16_591, 17_144, 1)], "cannot be tested", "No cell has the profile 2021, up to 9"),
        ("budget", [six("falcon-512", 5187, 5790, 0)], "reproduced", "1 of 1 such cells"),
        ("budget", [six("falcon-512", 5187, 5790, 1)], "not reproduced", "0 of 1 such cells"),
        ("walls", [cell(9000, 0.1, 0, 10)], "cannot be tested", "of 10: no cells on both sides; window of 30: no"),
        ("walls", [cell(12_480, 0.1, 0, 10), cell(12_481, 1, 1, 10)], "reproduced", "14,480 and 14,481 B"),
        ("walls", [cell(12_480, 1, 1, 10), cell(9000, 0, 0, 10)], "not reproduced", "11,000 and 14,480 B"),
        ("walls", [cell(9000, 0, 0), cell(90_000, 1, 0, down_mbit=1.0), cell(50_000, 1, 1)], "reproduced", "52,000 B"),
        ("slowdowns", [cell(17_000, 0.2, 0)], "cannot be tested", "17 kB more: +20% on 1 link. No link has cells of"),
        ("slowdowns", [cell(17_000, 0.22, 0), cell(35_000, 0.41, 0)], "reproduced", "+22% and +41% at 100 ms, 100"),
        ("slowdowns", [cell(17_000, 0.02, 0), cell(35_000, 0.05, 0)], "not reproduced", "+2% and +5% at 100 ms"),
        ("slowdowns", [], "cannot be tested", "No link has cells of both sizes"),
        ("guess", [cell(17_500, 0.7, 1, 10)], "reproduced", "17 kB more: +70% on 1 link."),
        ("guess", [cell(17_500, 1.01, 1, 10)], "not reproduced", "17 kB more: +101% on 1 link."),
        ("guess", [cell(17_500, 0.7, 1)], "cannot be tested", "No cell adds some 17 kB with a window of 10."),
        ("slope", [cell(20_000, -0.004, 0)], "cannot be tested", "10 kB more cost +0% below the wall (1 cell): "),
        ("bumps", [], "cannot be tested", "Cells are of one client"),
    ],
)
def test_cells_judge_the_articles_claims(topic: str, rows: list[dict[str, object]], verdict: str, words: str) -> None:
    """Each claim is held against what was measured: reproduced, not reproduced, or no cell can tell."""
    (found,) = (one for one in judged(rows) if one.claim.topic == topic)
    assert (found.verdict, words in found.cells) == (verdict, True), found.cells


def test_a_report_has_plots_a_table_and_one_page(database: str, tmp_path: Path) -> None:
    """SVG and PNG of each plot, every cell in the table, and a page that needs nothing else: no script, no network."""
    done = command("tls", "report", database, "--out", tmp_path / "out", "--article")
    assert done.returncode == 0, done.stderr
    assert "12 cells" in done.stdout
    for name in ("curves", "walls", "schemes"):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.width > 700
        assert (tmp_path / "out" / f"{name}.svg").read_text().count("<svg") == 1
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    page = (tmp_path / "out" / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("svg") == 2 * 3  # for wide screens, and for narrow ones
    assert not {"script", "img", "link"} & set(tags.tags)
    assert all(link.startswith("#") for link in tags.links)
    assert len(tags.ids) == len(set(tags.ids))
    assert page.count("<dt>") == page.count("In these cells: <b>") == 7
    assert "reproduced: Six signatures" not in done.stdout  # no cell of up to 9 kB
    assert "cannot be tested: Six signatures and two public keys" in done.stdout
    found = json.loads(command("tls", "report", database, "--out", tmp_path / "out", "--article", "--json").stdout)
    assert (found["cells"], len(found["claims"])) == (12, 7)
    assert "ml-dsa-44:2021" in page
    assert "prefers-color-scheme: dark" in page
    assert not [colour for colour in (INK, PAPER, BLUE) if colour in page.partition("</style>")[2]]  # plots have those
    assert len(page) < 1_000_000


def test_the_curves_have_their_walls_and_names(drawn: Path) -> None:
    """The plot names its lines and its walls: windows of 10 and 30, at 14.5 and 43.4 kB."""
    text = re.sub(r"<!--.*?-->", "", (drawn / "curves.svg").read_text())
    for word in ("iw10", "iw30", "14.5", "43.4", "100 ms, 100 Mbit/s"):
        assert f">{word}<" in text, word


def test_equal_tables_give_equal_files(database: str, drawn: Path, tmp_path: Path) -> None:
    """Nothing in a report depends on when it was written."""
    report(database, tmp_path)
    for file in drawn.iterdir():
        if file.suffix != ".png":
            assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_one_cell_is_enough(tmp_path: Path) -> None:
    """A table of a single cell has its report, too."""
    grid = tmp_path / "one.grid.toml"
    grid.write_text('[[cells]]\nrtt_ms = 10\ndown_mbit = 10\ninitcwnd = 10\nchain = "p256"\n')
    for _ in fanfold.run(Tls(backend="simulate"), source=str(grid), database=str(tmp_path / "db"), workers=1):
        pass
    assert len(report(str(tmp_path / "db"), tmp_path / "out")) == 1


def test_what_cannot_be_reported_is_a_sentence(database: str, tmp_path: Path) -> None:
    """No table, a table of another job, and a folder that cannot be made or written to."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="Cannot make the folder"):
        report(database, tmp_path / "file" / "out")
    (tmp_path / "out" / "table.csv").mkdir(parents=True)
    with pytest.raises(StorageError, match="Cannot write to"):
        report(database, tmp_path / "out")
    assert command("tls", "report", tmp_path / "none").returncode == 2
    with pytest.raises(UsageError, match="was not made by the job 'tls'"):
        report(database, tmp_path / "other", table="failures")


def test_names_that_the_font_lacks_are_no_warning() -> None:
    """A scheme of somebody's file may have a name in any script: it stays as it is, and nothing is said on stderr."""
    with plots.figure(1, 1) as (made, (axes,)), warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.set_title("\N{CJK UNIFIED IDEOGRAPH-65B9}")
        assert "\N{CJK UNIFIED IDEOGRAPH-65B9}" in plots.as_svg(made, "")


def test_an_interrupted_report_may_not_be_complete(database: str, tmp_path: Path) -> None:
    """A signal while it is written: the sentence says neither that all is there, nor that nothing is."""
    os.mkfifo(tmp_path / "table.csv")  # whose reader never comes
    words = [sys.executable, "-m", "fanfold", "tls", "report", database, "--out", str(tmp_path)]
    with nursery.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        for _ in waited():
            if (tmp_path / "walls.svg").exists():
                break
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1] == f"fanfold: Stopped. The files in {tmp_path} may not be complete.\n"
        assert process.returncode == 128 + signal.SIGTERM
