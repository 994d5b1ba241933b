"""`fanfold run` and `fanfold plan` for any job, and verbs of one job on the tables of another."""

import ast
import functools
import json
import re
from pathlib import Path

import pytest

from commands import Done, fanfold, objects, process
from fanfold.job import JOBS

SRC = Path(__file__).parents[2] / "src" / "fanfold"

MODULE = '''
"""Jobs of one's own."""

from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from fanfold.job import key_field


@dataclass(frozen=True)
class Loud:
    """Keep each name in capitals."""

    name: ClassVar[str] = "loud"
    suffixes: ClassVar[frozenset[str]] = frozenset({".txt"})

    times: int = field(default=1, metadata={"help": "How often each name is repeated."})

    def schema(self):
        text = pa.string()
        return pa.schema([key_field(), pa.field("version", text, nullable=False), pa.field("loud", text)])

    def recipe(self):
        return {"times": str(self.times)}

    def open(self):
        return Work(self)


class Work:
    def __init__(self, job):
        self.job, self.seconds = job, {}

    def __call__(self, items, source):
        for item in items:
            row = {"key": item.key, "version": item.version, "loud": item.key.upper() * self.job.times}
            yield pa.RecordBatch.from_pylist([row], schema=self.job.schema())


@dataclass(frozen=True, kw_only=True)
class Needy(Loud):
    """Needs a word."""

    word: str = field(metadata={"help": "A word."})


@dataclass(frozen=True)
class Clashing(Loud):
    """Has an option that every run has."""

    task_size: int = 3


value = 3
'''


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a module of jobs and three files."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "loud_jobs.py").write_text(MODULE)
    (folder / "broken_jobs.py").write_text("import no_such_library\n")
    (folder / "texts").mkdir()
    for name in ("a", "b", "c"):
        (folder / "texts" / f"{name}.txt").write_text(name)
    return folder


def in_folder(folder: Path, *words: object) -> Done:
    """Run a command in that folder; it must not end in a traceback."""
    done = fanfold(*words, cwd=folder)
    assert "Traceback" not in done.stderr
    return done


def test_a_job_of_ones_own_runs_from_its_module(folder: Path) -> None:
    """A module in the working directory is found by the command and by its workers, even in a separate process."""
    asked = ("run", "loud_jobs:Loud", "texts", "process-db", "--times", "2", "--workers", "1", "--json")
    done = process(*asked, cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, 3), done.stderr
    assert json.loads(in_folder(folder, *asked).stdout)["unchanged"] == 3
    refused = in_folder(folder, "run", "loud_jobs:Loud", "texts", "process-db")
    assert refused.returncode == 2
    assert "--table loud_2" in refused.stderr


def test_several_sources_go_before_the_database(folder: Path) -> None:
    """The last word is the database; all words before it are sources."""
    for name in ("one", "two"):
        (folder / "several" / name).mkdir(parents=True)
        (folder / "several" / name / f"{name}.txt").write_text(name)
    done = in_folder(folder, "run", "loud_jobs:Loud", "several/one", "several/two", "several-db", "--json")
    assert (done.returncode, json.loads(done.stdout)["listed"]) == (0, 2), done.stderr


def test_a_plan_of_a_job_of_ones_own(folder: Path) -> None:
    """`plan` takes the same words, measures a sample and leaves nothing behind."""
    done = in_folder(folder, "plan", "loud_jobs:Loud", "texts", "planned", "--times", "3", "--workers", "1", "--json")
    assert (done.returncode, json.loads(done.stdout)["new"]) == (0, 3), done.stderr
    assert not (folder / "planned").exists()


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_help_of_a_job_of_ones_own(verb: str, folder: Path) -> None:
    """`--help` shows the job's purpose, its options with their help, and the options of every run."""
    done = in_folder(folder, verb, "loud_jobs:Loud", "--help")
    assert done.returncode == 0
    assert f"Usage: fanfold {verb} loud_jobs:Loud [OPTIONS] SOURCE... DATABASE" in done.stdout
    for shown in ("Keep each name in capitals.", "--times", "How often each name is repeated.", "--table", "--workers"):
        assert shown in done.stdout
    assert "PREPARATION" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nope"], "There is no job 'nope'. Use one of: images, evidence, tls; or your own job as module:Class."),
        (["no_such_module:Loud"], "Cannot import the job 'no_such_module:Loud': ModuleNotFoundError"),
        (
            ["broken_jobs:Loud"],
            "Cannot import the job 'broken_jobs:Loud': ModuleNotFoundError: No module named 'no_such",
        ),
        (["loud_jobs:Quiet"], "The module 'loud_jobs' has no class 'Quiet'."),
        (["loud_jobs:"], "The module 'loud_jobs' has no class ''."),
        (["loud_jobs:value"], "'loud_jobs:value' is not a job: it has no name, schema, recipe, open."),
        (["loud_jobs:Work"], "'loud_jobs:Work' is not a job: it has no name, schema, recipe"),
        (["loud_jobs:Clashing"], "The job 'loud' has an option 'task_size', but every run has an option of that name."),
        (["loud_jobs:Loud", "texts", "db", "--bogus"], "Unknown option: --bogus"),
        (["loud_jobs:Loud", "texts", "db", "--times", "1.5"], "--times takes a whole number, not 1.5"),
        (["loud_jobs:Loud", "texts"], "Name a source and a DATABASE: fanfold"),
        (["loud_jobs:Needy", "texts", "db"], "--word requires an argument"),
        (["--times", "2", "loud_jobs:Loud", "texts", "db"], "Name the job first: fanfold"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_wrong_job_is_a_sentence(verb: str, words: list[str], says: str, folder: Path) -> None:
    """An unknown job, module, class or flag exits with 2, says what is wrong, and creates nothing."""
    done = in_folder(folder, verb, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in re.sub(r"[│╭╮╰╯─\s]+", " ", done.stderr)
    assert not (folder / "db").exists()


def test_an_option_without_a_default(folder: Path) -> None:
    """A job may require an option, and runs if it is given."""
    done = in_folder(folder, "run", "loud_jobs:Needy", "texts", "needy-db", "--word", "x", "--workers", "1", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, 3), done.stderr


@pytest.mark.parametrize("name", JOBS)
def test_a_job_of_fanfold_has_its_verbs(name: str) -> None:
    """`run NAME` and `plan NAME` exist for each job, and the top-level help has the job's purpose."""
    for verb in ("run", "plan"):
        done = fanfold(verb, name, "--help")
        assert done.returncode == 0
        assert f"Usage: fanfold {verb} {name} [OPTIONS] SOURCE... DATABASE" in done.stdout
    assert JOBS[name].help in re.sub(r"[│\s]+", " ", fanfold("--help").stdout)


def test_run_images_is_images_embed(embedded: str, shared_photos: Path) -> None:
    """Both names are the same command: what one has done is unchanged for the other."""
    flags = [
        set(re.findall(r"--[\w-]+", fanfold(*verb, "--help").stdout))
        for verb in (["run", "images"], ["images", "embed"])
    ]
    assert flags[0] == flags[1]
    assert json.loads(fanfold("run", "images", shared_photos, embedded, "--json").stdout)["unchanged"] == 4


# -- verbs of one job on tables of another ------------------------------------------------------------------------


def test_another_jobs_table_is_refused_by_the_jobs_name(sums: str, shared_photos: Path) -> None:
    """Pictures do not go into a table of checksums, and the sentence is about jobs, not models."""
    done = fanfold("images", "embed", shared_photos, sums)
    assert done.returncode == 2
    assert "Table 'images' was made by the job 'checksums', but this run is of the job 'images'" in done.stderr
    assert "--table images_2" in done.stderr


VERBS = [["search", "DB", "red.jpg"], ["search", "DB", "red.jpg", "--exact"], ["duplicates", "DB"], ["index", "DB"]]
VERBS += [["vectors", "DB", "red.jpg"], ["index", "DB", "--rebuild"], ["search", "DB", "PHOTO"]]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("table", ["checksums", "images"])
def test_verbs_of_images_refuse_another_jobs_table(verb: list[str], table: str, sums: str, shared_photos: Path) -> None:
    """The error names the job that made the table and the command that makes a table of pictures, for any name."""
    words = [{"DB": sums, "PHOTO": str(shared_photos / "red.jpg")}.get(word, word) for word in verb]
    done = fanfold("images", *words, "--table", table)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"fanfold: Table '{table}' was made by the job 'checksums', not by 'images'. "
        f"Make a table of pictures with: fanfold images embed SOURCE {sums}\n"
    )


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_verbs_of_images_refuse_the_failures(verb: list[str], sums: str, shared_photos: Path) -> None:
    """The table of failures has no vectors, and the sentence says so."""
    words = [{"DB": sums, "PHOTO": str(shared_photos / "red.jpg")}.get(word, word) for word in verb]
    done = fanfold("images", *words, "--table", "failures")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fanfold: Table 'failures' has no vectors.")


def test_a_database_of_two_jobs(sums: str, shared_photos: Path) -> None:
    """Runs, reports, failures and optimize serve both jobs; verbs of images name the tables that they can use."""
    done = fanfold("images", "embed", shared_photos, sums, "--table", "photos")
    assert done.returncode == 0, done.stderr
    assert {run["table"] for run in objects("runs", sums)} == {"checksums", "images", "photos"}
    assert objects("report", sums)[0]["table"] == "photos"
    assert objects("failures", sums) == objects("failures", sums, "--table", "checksums") == []
    refused = fanfold("images", "duplicates", sums, "--table", "checksums")
    assert "Choose a table of pictures with --table: photos." in refused.stderr
    assert objects("optimize", sums)[0].keys() == {"checksums", "failures", "images", "photos"}
    assert objects("repair", sums)[0].keys() == {"checksums", "failures", "images", "photos"}
    assert objects("images", "search", sums, "red.jpg", "--table", "photos")[0]["key"] == "red.jpg"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mirror", "DB", "dynamodb://x"], "has several tables: checksums, images"),
        (["mirror", "DB", "dynamodb://x", "--table", "absent"], "There is no table 'absent' in"),
        (["mirror", "DB", "dynamodb://x", "--table", "failures"], "is not filled by runs"),
        (["failures", "DB", "--table", "absent"], "There is no table 'absent' in"),
        (["failures", "DB", "--table", "a/b"], "'a/b' is not a valid table name"),
        (["fold", "DB"], "has several tables: checksums, images"),
        (["report", "DB", "absent"], "There is no run absent in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_tables_are_refused_by_the_other_verbs(words: list[str], says: str, sums: str) -> None:
    """A table that is missing, or of the wrong kind, exits with 2 and a sentence."""
    done = fanfold(*(sums if word == "DB" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


# -- nothing outside a job names it -------------------------------------------------------------------------------

WORDS = {
    "images": re.compile(r"\bimages\b|\bImages\b|pictures?\b|\bembed|onnx|pillow", re.IGNORECASE),
    "evidence": re.compile(r"\bevidence\b|\bevtx|event logs?\b", re.IGNORECASE),
    "tls": re.compile(r"\btls\b|handshakes?\b|certificate chains?\b|pyopenssl", re.IGNORECASE),
}
"""Words of each job."""


@functools.cache
def _code_of(file: Path) -> list[tuple[int, str]]:
    """The names and strings in a module's code, with their lines; no docstrings and comments."""
    found = []
    nodes = [*ast.walk(ast.parse(file.read_text()))]
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.Name):
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, node.module or ""))
    return found


@pytest.mark.parametrize("name", JOBS)
def test_nothing_outside_a_job_names_it(name: str) -> None:
    """No code outside a job's folder has its words, except its entry in `JOBS`."""
    outside = [file for file in SRC.rglob("*.py") if SRC / name not in file.parents]
    found = [
        f"{file.relative_to(SRC)}:{line}: {text}"
        for file in outside
        for line, text in _code_of(file)
        if WORDS[name].search(text) and text != '{"Paths": ["images"]}'  # a folder, in the article's request
    ]
    assert [one for one in found if not one.startswith("job.py:")] == []
    assert len([one for one in found if one.startswith("job.py:")]) == 3  # the name, the address, the help


def test_an_option_that_a_job_refuses(tmp_path: Path) -> None:
    """An exception in a job's `__post_init__` is a command-line error."""
    (tmp_path / "picky.py").write_text(
        "from dataclasses import dataclass\n"
        "from jobs import Scripted\n"
        "@dataclass(frozen=True)\n"
        "class Picky(Scripted):\n"
        "    pages: int = 1\n"
        "    def __post_init__(self):\n"
        "        if self.pages < 1:\n"
        "            raise ValueError(f'pages must be at least 1, not {self.pages}')\n"
    )
    done = fanfold("run", "picky:Picky", ".", "db", "--pages", 0, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "fanfold: pages must be at least 1, not 0\n")
