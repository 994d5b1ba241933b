"""The documentation is executed: its commands, its Python, its includes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from cyclopts import App
from PIL import Image

import nursery
from commands import fanfold
from disk_images import ewf, mbr, windows_volume, write_ewf
from fanfold.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_AWS = {"aws.md", "article.md"}
"""Pages that need a deployment: tests/aws/test_pages.py runs them."""
NOT_HERE = (
    "make",
    "pip",
    "git",
    "cd",
    "cdk",
    "aws",
    "npm",
    "ray",
)  # commands that CI runs elsewhere, or that set up a machine


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced code blocks of one kind in a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.fixture
def playground(tmp_path: Path) -> Path:
    """A folder like the one in the docs: some photos and the example job."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    (tmp_path / "photos").mkdir()
    for name in ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "motorcycle_right.png", "brick.png"):
        shutil.copy(Path(spec.origin).parent / "data" / name, tmp_path / "photos" / name)
    shutil.copy(tmp_path / "photos" / "chelsea.png", tmp_path / "photos" / "cat.png")
    shutil.copy(tmp_path / "photos" / "chelsea.png", tmp_path / "cat.png")
    for number in range(3):  # more than INT8 needs for calibration
        shutil.copytree(tmp_path / "photos", tmp_path / "pictures" / str(number))
    shutil.copy(ROOT / "examples" / "checksums.py", tmp_path)
    (tmp_path / "examples").mkdir()
    for folder in (tmp_path, tmp_path / "examples"):
        shutil.copy(ROOT / "examples" / "first.grid.toml", folder)
    pairs = [
        f"{n:032x},{role},{n % 40},198.51.{n % 90}.7,{20 + n % 11 + (role == 'live') * (n % 40)}"
        for n in range(2000)
        for role in ("control", "live")
    ]
    (tmp_path / "labels.csv").write_text("key,label,stars\ncat.png,animal,5\ncoffee.png,drink,4\n")
    (tmp_path / "subject.txt").write_text("cat\ncoffee\nvehicle\n")
    (tmp_path / "pairs.csv").write_text("\n".join(["key,role,n,ip,handshake_ms", *pairs]))
    write_ewf(tmp_path / "disk.E01", ewf(mbr(windows_volume("mesa"))))
    return tmp_path


def call(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command with this environment's programs first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)


def commands(page: Path) -> list[list[str]]:
    """The commands that a page's console blocks show, in order."""
    text = "".join(blocks(page, "console")).replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True) for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ON_AWS], ids=lambda page: page.name)
def test_every_command_and_snippet_runs(page: Path, playground: Path) -> None:
    """Every console line of a page runs, in order, in one folder; then its Python, as one script.

    The blocks of docs/python.md run one by one, below.
    """
    if page.name == "table-format.md":
        call(["fanfold", "images", "embed", "photos", "db"], playground)
    here = [command for command in commands(page) if command[0] not in NOT_HERE and not _needs_aws(command)]
    for command in here:
        done = fanfold(*command[1:], cwd=playground) if command[0] == "fanfold" else call(command, playground)
        assert done.returncode in (0, 3), f"{command}\n{done.stdout}\n{done.stderr}"
    if (script := "\n".join(blocks(page, "python"))) and page.name != "python.md":
        ran = nursery.run([sys.executable, "-c", script], cwd=playground)
        assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.parametrize("number", range(4))
def test_each_block_of_python_runs_alone(number: int, tmp_path: Path) -> None:
    """A block of docs/python.md, pasted into a file by itself, runs in a folder that has only pictures."""
    found = blocks(ROOT / "docs" / "python.md", "python")
    assert len(found) == 4
    (tmp_path / "photos").mkdir()
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30)), ("blue", (30, 30, 200))):
        Image.new("RGB", (64, 48), colour).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "block.py").write_text(found[number])
    done = call([sys.executable, "block.py"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def _needs_aws(command: list[str]) -> bool:
    return any(word.startswith(("s3://BUCKET", "dynamodb://")) for word in command)


def test_console_blocks_name_commands_that_exist() -> None:
    """The pages show every verb at least once."""
    shown = " ".join(block for page in PAGES for block in blocks(page, "console"))
    for verb in (
        "images embed",
        "images search",
        "images duplicates",
        "images vectors",
        "images export",
        "images join",
        "images columns",
        "images models",
        "images quantize",
        "plan images",
        "evidence scan",
        "evidence events",
        "evidence coverage",
        "evidence show",
        "evidence report",
        "evidence timeline",
        "evidence verify",
        "evidence extract",
        "tls sizes",
        "tls model",
        "tls measure",
        "tls report",
        "tls probe",
        "tls analyze",
    ):
        assert f"fanfold {verb}" in shown
    for verb in ("run", "plan", "runs", "report", "failures", "optimize", "repair", "mirror", "doctor"):
        assert f"fanfold {verb}" in shown


def test_generated_pages_are_what_the_code_says(tmp_path: Path) -> None:
    """The generated parts of the docs match docs/generate.py; `make docs` renews them."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    done = nursery.run([sys.executable, "docs/generate.py"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("cli.md", "images.md", "tls.md"):
        assert (ROOT / "docs" / name).read_text() == (tmp_path / "docs" / name).read_text()


def verbs(parent: App, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command that does something, as a tuple of words."""
    for name in parent:
        if name not in ("--help", "-h", "--version"):
            below = list(verbs(parent[name], *path, name))
            yield from below or [(*path, name)]


@pytest.mark.parametrize("path", list(verbs(app)), ids=" ".join)
def test_every_command_says_what_it_does_and_gives_an_example(path: tuple[str, ...]) -> None:
    """The help of every command has a sentence and an example of that command."""
    command = app
    for name in path:
        command = command[name]
    sentence, _, rest = command.help.partition("\n")
    assert sentence.endswith(".")
    (example,) = re.findall(r"^ *For example: `fanfold (.+)`$", rest, re.M)
    words = shlex.split(example)
    assert tuple(words[: len(path)]) == path
    app.parse_args(words, exit_on_error=False, print_error=False)
    shown = fanfold(*path, "--help")
    assert f"For example: fanfold {example}" in shown.stdout


def test_links_between_pages_lead_somewhere() -> None:
    """Relative links in the pages point at files that exist."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_adding_a_job_shows_the_example_as_it_is() -> None:
    """The worked example in the docs is the file that CI runs."""
    assert (ROOT / "examples" / "checksums.py").read_text() in (ROOT / "docs" / "adding-a-job.md").read_text()
