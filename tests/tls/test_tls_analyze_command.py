"""`fanfold tls analyze` as a command: what it prints, its plots and its page."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from cyclopts import App
from handshakes import experiment, write_csv, write_parquet
from PIL import Image

from fanfold.errors import UsageError
from fanfold.tls.analysis.cli import analyze

NAMES = ("missing", "times", "slowdown", "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment in which 4 % of the clients cannot do more than 9 certificates."""
    columns = experiment(3, clients=500, pairs=40, limits={9: 0.04}, max_n=30)
    columns["initcwnd"] = np.full(len(columns["key"]), 10)
    columns["first_flight_bytes"] = 2645 + 1000 * columns["n"] * (columns["role"] == "live")
    return write_parquet(tmp_path_factory.mktemp("data") / "<b>&.parquet", columns)


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with its plots."""
    folder = tmp_path_factory.mktemp("out") / "deep" / "report"
    assert run(data, "--out", folder, "--draws", 49, "--json") == 0
    return folder


def run(*words: object) -> int:
    """The exit code of the command."""
    app = App(result_action="return_value")
    app.command(analyze)
    code: int = app(["analyze", *map(str, words)])
    return code


def test_what_a_person_sees(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the bins, and sentences on what goes missing and which sizes hurt."""
    assert run(data, "--bins", "1-9,10-30", "--draws", 99) == 0
    head, first, second, _, *sentences = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", head.strip()) == [
        "n", "pairs", "control p50", "live p50", "slowdown p50", "control p75", "live p75", "slowdown p75",
        "live missing", "control missing", "excess",
    ]  # fmt: skip
    assert re.match(r"1-9 +5,\d{3} +3\d\.\d ms +3\d\.\d ms +\+\d+\.\d % \(\+\d+\.\d to \+\d+\.\d\) +4", first)
    assert re.match(r"10-30 +1\d,\d{3} ", second)
    assert sentences[0].startswith("38,")
    assert "20,000 pairs" in sentences[0]
    assert "from 500 prefixes" in sentences[0]
    assert sentences[1] == "Rows dropped: 0."
    assert re.match(
        r"Live connections missing: 1,\d{3} of 20,000 controls \(5\.\d\d %, 95 % 4\.1\d to 6\.5", sentences[2]
    )
    assert any(
        re.match(
            r"Live connections go missing above 9 certificates, 9 kB \(\d\.\d % more, 95 % \d\.\d to \d\.\d, p 0\.001, "
            r"comparing n from 1 to 30\)\. \d\d of \d{3} prefixes \(\d\.\d %\) lose all above that, and none up to it",
            sentence,
        )
        for sentence in sentences
    )
    assert any(re.match(r"A jump of this size would be found in 8 of 10 .*: [\d.]+ % above \d", s) for s in sentences)
    assert any("kB in a round trip, with an initial window of 10 segments" in sentence for sentence in sentences)


def test_what_a_script_sees(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object, with all numbers and the seed."""
    assert (
        run(data, "--by", "kB", "--bins", 10, "--quantile", 0.9, "--paired", "--seed", 5, "--draws", 99, "--json") == 0
    )
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["seed"], found["quantiles"], found["paired"], found["by"]) == (5, [0.9], True, "kB")
    assert [one["label"] for one in found["bins"]] == ["0-10", "10-20", "20-30"]
    for one in found["bins"]:
        (slowdown,) = one["slowdown"]
        assert slowdown["low"] < slowdown["value"] < slowdown["high"]
        assert one["missing"]["live"]["of"] == one["pairs"] + one["missing"]["live"]["lost"]
    assert found["splits"][0]["found"]["above"] == 9
    assert found["visible"]["9"] < 0.02


def test_many_dropped_rows_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More than a tenth of the rows is too much to pass over: the warning is on stderr, also with --json."""
    rows = [[f"k{number}", "live", 1, "10.0.0.1", 5] for number in range(9)]
    run(write_csv(tmp_path / "a.csv", [*rows, ["x", "live", 1, "10.0.0.1", "fast"]]), "--json")
    assert capsys.readouterr().err == ""
    run(write_csv(tmp_path / "a.csv", [*rows[1:], ["x", "live", 1, "10.0.0.1", "fast"]]), "--json")
    assert capsys.readouterr().err == (
        "Warning: 11 % of the rows were dropped, so the numbers may say little. "
        "Rows dropped: 1 (cannot be parsed: 1).\n"
    )


def test_the_plots_are_there(report: Path) -> None:
    """Each plot is an SVG without script or links, and a PNG that is not empty."""
    assert {file.name for file in report.iterdir()} == {
        "index.html", *(f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")),
    }  # fmt: skip
    for name in NAMES:
        root = ElementTree.parse(report / f"{name}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [one for one in root.iter() if one.tag.endswith("script")]
        colours = Image.open(report / f"{name}.png").convert("RGB").getcolors(1 << 24) or []
        assert max(colours)[1] == (255, 255, 255)
        assert len(colours) > 50


def test_the_plots_name_their_lines(report: Path) -> None:
    """Each line has its name beside it, each split and each wall has one, and there is no legend."""
    texts = {name: " ".join(ElementTree.parse(report / f"{name}.svg").getroot().itertext()) for name in NAMES}
    for name, words in {
        "missing": ("live", "control", "above 9: +"),
        "times": ("live p50", "live p75", "control p50", "control p75", "+1 round trip"),
        "slowdown": ("p50", "p75", "+1 round trip"),
        "model": ("p50", "kB in a round trip"),
    }.items():
        assert all(word in texts[name] for word in words), name
    assert not any("legend" in (report / f"{name}.svg").read_text() for name in NAMES)


class _Page(HTMLParser):
    """Elements, ids and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]


def test_the_page_needs_nothing_else(report: Path) -> None:
    """One file without script or network has the plots, whose ids do not clash, and the numbers."""
    text = (report / "index.html").read_text()
    page = _Page(text)
    assert page.tags.count("svg") == 2 * 4  # for wide screens, and for narrow ones
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert len(set(page.ids)) == len(page.ids)
    assert all(address.startswith("#") and address[1:] in page.ids for address in page.addresses)
    assert "<td>30</td>" in text
    assert "&lt;b&gt;&amp;.parquet" in text  # the name of the file, which is no markup
    assert "<b>&" not in text
    assert "Which sizes hurt" in text


def test_the_same_data_give_the_same_plots(report: Path, data: Path, tmp_path: Path) -> None:
    """Plots have no date and no random names, so they can be compared."""
    run(data, "--out", tmp_path, "--draws", 49, "--json")
    for name in NAMES:
        assert (tmp_path / f"{name}.svg").read_bytes() == (report / f"{name}.svg").read_bytes()


def test_a_folder_that_cannot_be_made(data: Path, tmp_path: Path) -> None:
    """Where a file is in the way, the command says so before it reads anything."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot make the folder"):
        analyze(str(data), out=tmp_path / "file")


ABSENT = ("matplotlib", "OpenSSL", "cryptography", "pyroute2")


def alone(first: Path, second: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    """The command in a Python that lacks some modules: for numbers, then for plots."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "from pathlib import Path\nfrom fanfold.errors import FanfoldError\n"
        "from fanfold.tls.analysis.cli import analyze\n"
        "first, second, out = sys.argv[1:]\n"
        "analyze(first, draws=9, json=True)\n"
        "try:\n    analyze(second, out=Path(out))\n"
        "except FanfoldError as error:\n    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", program, *map(str, (first, second, out))]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_numbers_need_no_extra(data: Path, tmp_path: Path) -> None:
    """Without matplotlib there are numbers; plots are an error that names the extra, before anything is read."""
    done = alone(data, tmp_path / "none.csv", tmp_path / "out")
    assert (done.returncode, json.loads(done.stdout)["keys"]) == (1, 20_000)
    assert done.stderr == (
        "MissingExtra: Drawing plots needs the extra 'tls'. Install it with: pip install 'fanfold[tls]'\n"
    )


def test_numbers_load_no_plots(data: Path) -> None:
    """Without --out, matplotlib is not loaded."""
    program = (
        "import sys; from fanfold.tls.analysis.analyze import analyze; "
        f"analyze({str(data)!r}, draws=0); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "PIL", "rich", "cyclopts", "OpenSSL"} & set(done.stdout.split())
