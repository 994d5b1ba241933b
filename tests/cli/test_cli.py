"""The command line: its output, its streams and its exit codes."""

from pathlib import Path

import pytest

from commands import fanfold, objects
from fanfold.core.runs import RunDirectory


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["images", "embed", "absent", "db"], "no file or folder"),
        (["images", "embed", "ftp://host/x", "db"], "not ftp://"),
        (["images", "embed", ".", "db", "--model", "nope"], "nope"),
        (["images", "embed", ".", "db", "--task-size", "0"], "at least one"),
        (["images", "embed", ".", "db", "--batch-size", "0"], "at least 1"),
        (["images", "embed", ".", "db", "--table", "a/b"], "a/b"),
        (["images", "embed", ".", "db", "--workers", "-1"], "worker"),
        (["images", "embed", "."], "DATABASE"),
        (["images", "bogus"], "bogus"),
        (["images", "search", "absent-db", "x"], "no table"),
        (["report", "absent-db"], "absent-db"),
        (["runs", "absent-db"], "absent-db"),
        (["failures", "absent-db"], "absent-db"),
        (["optimize", "absent-db"], "absent-db"),
        (["mirror", "absent-db", "dynamodb://x"], "There is no table in absent-db"),
        (["work", "absent-db", "run"], "absent-db"),
        (
            ["images", "embed", ".", "db", "--on", "nonsense"],
            "There is no executor 'nonsense'. Use one of: local, ray, aws-batch",
        ),
        (["images", "embed", ".", "db", "--mirror", "nonsense://x"], "'nonsense://x' is not a mirror"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_code_2_when_the_command_is_wrong(command: list[str], says: str, tmp_path: Path) -> None:
    """A mistake exits with 2, says what is wrong on stderr, and creates nothing."""
    done = fanfold(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["search", "-k", "1.5"], "-k takes a whole number, not 1.5"),
        (["search", "-k", "2.0"], "-k takes a whole number, not 2.0"),
        (["search", "-k", "0"], "-k takes a whole number of at least 1, not 0"),
        (["search", "-k", "nan"], '"nan"'),
        (["duplicates", "--threshold", "0"], "--threshold takes a cosine above 0 and at most 1, not 0"),
        (["duplicates", "--threshold", "1.1"], "--threshold takes a cosine above 0 and at most 1, not 1.1"),
        (["duplicates", "--threshold", "nan"], "--threshold takes a number, not nan"),
        (["embed", "--workers", "1.5"], "--workers takes a whole number, not 1.5"),
        (["embed", "--workers", "0"], "at least one worker, not 0"),
        (["embed", "--workers", "99999999"], "at most 100,000 workers, not 99,999,999"),
        (["embed", "--task-size", "0"], "at least one item"),
        (["embed", "--task-size", "9" * 26], "at most 10,000,000 items"),
        (["embed", "--worker-gpus", "nan"], "--worker-gpus takes a number, not nan"),
        (["embed", "--worker-gpus", "-1"], "--worker-gpus takes a number of at least 0, not -1"),
        (["embed", "--batch-size", "2.5"], "--batch-size takes a whole number, not 2.5"),
        (["embed", "--min-cosine", "nan", "--precision", "int8"], "--min-cosine takes a number, not nan"),
        (["embed", "--min-cosine", "2", "--precision", "int8"], "--min-cosine takes a cosine from 0 to 1, not 2"),
        (["optimize", "--keep", "nan"], "--keep takes a number, not nan"),
        (["optimize", "--keep", "inf"], "--keep takes a number, not inf"),
        (["optimize", "--keep", "-1"], "--keep takes a number of hours from 0 to 1,000,000, not -1"),
        (["optimize", "--keep", "1e300"], "--keep takes a number of hours from 0 to 1,000,000, not 1e+300"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_numbers_out_of_range_are_refused(flags: list[str], says: str, embedded: str, shared_photos: Path) -> None:
    """A number outside a flag's documented range exits with 2 and the flag's name; no number is rounded."""
    verb, *rest = flags
    before = {"search": ["images", verb, embedded, "red.jpg"], "duplicates": ["images", verb, embedded]}
    before |= {"embed": ["images", verb, shared_photos, embedded], "optimize": [verb, embedded]}  # type: ignore[dict-item]
    done = fanfold(*before[verb], *rest)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", ".x", "-", "x" * 201, "a\nb"])
def test_odd_table_names_are_refused_by_every_verb(name: str, embedded: str, shared_photos: Path) -> None:
    """An invalid table name exits with 2, and the sentence says which characters are allowed."""
    for verb in (
        ["images", "embed", shared_photos, embedded],
        ["images", "search", embedded, "red.jpg"],
        ["mirror", embedded, "dynamodb://x"],
    ):
        done = fanfold(*verb, f"--table={name}")
        assert done.returncode == 2
        assert "is not a valid table name. Use letters, digits, '_', '-' and '.'" in done.stderr


def test_the_name_failures_is_reserved(embedded: str, shared_photos: Path) -> None:
    """No job writes into the table of failures, and the sentence says that the name is reserved."""
    for verb in (["images", "embed"], ["plan", "images"]):
        done = fanfold(*verb, shared_photos, embedded, "--table", "failures")
        assert done.returncode == 2
        assert "'failures' is reserved" in done.stderr


def test_a_mismatch_of_ids_names_the_flag(embedded: str, shared_photos: Path) -> None:
    """A table whose keys are paths refuses stems and says what to type."""
    done = fanfold("images", "embed", shared_photos, embedded, "--id", "stem")
    assert done.returncode == 2
    assert "Use --id key, or write to another table with: --table images_2" in done.stderr


def test_runs_and_report_tell_of_the_run(embedded: str) -> None:
    """Both commands show the same run with its counts."""
    run = objects("runs", embedded)[-1]
    assert (run["ok"], run["ended"]) == (4, "complete")
    (told,) = objects("report", embedded, run["run"])
    assert told == run
    assert "all done" in fanfold("report", embedded).stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["images", "embed", ".", ""], "empty"),
        (["images", "vectors", "DB", "red.jpg", "--npy", "/nowhere/x.npy"], "Cannot write /nowhere/x.npy"),
        (["images", "search", "DB", "odd\udcff.png"], "neither a key"),
        (["cancel", "DB"], "has ended already: fanfold report"),
        (["mirror", "DB", "nonsense"], "'nonsense' is not a mirror"),
        (["work", "DB", "no-such-run"], "There is no run no-such-run"),
        (["work", "DB", "RUN", "--share", "2", "--of", "2"], "Share 2 of 2 does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes_of_other_kinds(command: list[str], says: str, embedded: str) -> None:
    """A request that cannot be fulfilled is one sentence with exit code 2."""
    run = min(path.name for path in Path(embedded, "_runs").iterdir())
    done = fanfold(*({"DB": embedded, "RUN": run}.get(word, word) for word in command))
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("below", ["", "db"])
@pytest.mark.parametrize(
    "verb", ["runs", "report", "failures", "optimize", "cancel", "images search", "images vectors", "images embed"]
)
def test_a_file_is_no_database(verb: str, below: str, tmp_path: Path, shared_photos: Path) -> None:
    """With a file in the place of a database, or above it, every verb ends with a sentence that names the path."""
    (tmp_path / "file").write_text("no database")
    where = tmp_path / "file" / below
    words = verb.split()
    asked = {"search": [where, "x"], "vectors": [where, "x"], "embed": [shared_photos, where]}.get(words[-1], [where])
    done = fanfold(*words, *asked)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("fanfold: ")
    assert str(where) in done.stderr
    assert "Traceback" not in done.stderr


def test_following_what_has_ended_is_reporting_it(embedded: str) -> None:
    """`report --follow` of a run that has ended prints the same as `report`, at once."""
    assert fanfold("report", embedded, "--follow").stdout == fanfold("report", embedded).stdout


@pytest.mark.parametrize("verb", [["report", "--follow"], ["cancel"]], ids=lambda words: words[0])
def test_a_run_that_goes_on_elsewhere_by_its_command(verb: list[str], tmp_path: Path) -> None:
    """A local run cannot be followed or cancelled from outside; the message says that it runs in its own command."""
    run = RunDirectory.create(str(tmp_path), table="images")
    done = fanfold(verb[0], tmp_path, run.id, *verb[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Run {run.id} runs inside its own command" in done.stderr


def test_failures_cannot_steer_a_terminal(tmp_path: Path, database: str) -> None:
    """Escape sequences in names are printed as text."""
    (tmp_path / "list.txt").write_text("red\x1b[31m.png\n")
    assert fanfold("images", "embed", tmp_path / "list.txt", database).returncode == 3
    assert "\x1b" not in fanfold("failures", database).stdout


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (MemoryError(), "not enough memory"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory"),
        (RuntimeError("can't start new thread"), "No more threads can be started"),
    ],
    ids=repr,
)
def test_a_limit_of_the_machine_is_a_sentence(
    raised: BaseException, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's errors about memory or threads exit with 1 and say what to do."""

    def full(*_: object) -> None:
        raise raised

    monkeypatch.setattr("fanfold.core.catalog.list_runs", full)
    done = fanfold("runs", "/")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
