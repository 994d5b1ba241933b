"""The command line: what it prints where, and with which exit code it ends."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fanfold.runs import RunDirectory

FANFOLD = [str(Path(sys.executable).parent / "fanfold")]


def fanfold(*args: object, **kwargs: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    return subprocess.run([*FANFOLD, *map(str, args)], capture_output=True, text=True, timeout=120, **kwargs)  # type: ignore[call-overload, no-any-return]


def objects(*args: object) -> list[dict[str, Any]]:
    """What a command prints with --json, a JSON object a line."""
    return [json.loads(line) for line in fanfold(*args, "--json").stdout.splitlines()]


def picture(file: Path, colour: tuple[int, int, int] = (200, 30, 30), seed: int = 0) -> Path:
    """A small noisy picture."""
    noise = np.random.default_rng(seed).integers(0, 60, (64, 80, 3))
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + np.array(colour)).clip(0, 255).astype(np.uint8)).save(file)
    return file


def make_photos(folder: Path) -> Path:
    """Four good pictures, two of them nearly the same, and things that are none."""
    picture(folder / "red.jpg")
    picture(folder / "sub" / "red again.png")
    picture(folder / "green.png", (20, 200, 40), 1)
    picture(folder / "[blue].png", (20, 40, 220), 2)
    (folder / "notes.txt").write_text("no picture")
    (folder / "empty.jpg").touch()
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos of one's own."""
    return make_photos(tmp_path / "photos")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """As many pictures as INT8 needs, and some more."""
    for number in range(20):
        picture(tmp_path / "crops" / f"{number:02d}.jpg", (10 * number, 200 - 10 * number, 100), number)
    return tmp_path / "crops"


@pytest.fixture(scope="module")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos for looking at."""
    return make_photos(tmp_path_factory.mktemp("shared") / "photos")


@pytest.fixture(scope="module")
def embedded(shared_photos: Path) -> str:
    """A database with those photos in it, for looking at."""
    database = str(shared_photos.parent / "db")
    assert fanfold("images", "embed", shared_photos, database).returncode == 0
    return database


def on_terminal(columns: int, *args: object) -> tuple[int, list[str]]:
    """The exit code of a command on a terminal so wide, and the lines it shows there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen([*FANFOLD, *map(str, args)], env=environment | {"TERM": "xterm"}, **streams)
    os.close(theirs)
    shown = b""
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:  # Linux: EIO when the last writer has left
        while more := terminal.read(1 << 16):
            shown += more
    return process.wait(60), re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("command", [["runs", "DB"], ["images", "models"]], ids=" ".join)
def test_lists_fit_a_terminal(command: list[str], columns: int, embedded: str) -> None:
    """No line is wider than the terminal, and no cell is cut off; what has no room is named."""
    code, lines = on_terminal(columns, *(embedded if word == "DB" else word for word in command))
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "…" not in "".join(lines)
    assert len(lines) == 1 + len(objects(*(embedded if word == "DB" else word for word in command))) + 1
    assert lines[-1].startswith("No room for ")


def test_nothing_is_cut_off_in_a_pipe(embedded: str, tmp_path: Path) -> None:
    """Where nobody reads at a terminal, every row is a line, however long: of models, of runs, of long keys."""
    models = fanfold("images", "models").stdout
    assert all(model["source"] in models for model in objects("images", "models"))
    run = objects("runs", embedded)[-1]
    (head, row) = (line.split() for line in fanfold("runs", embedded).stdout.splitlines())
    assert head == ["run", "table", "ended", "listed", "unchanged", "ok", "failed", "lost", "time"]
    assert row[:8] == [run["run"], "images", "complete", "4", "0", "4", "0", "0"]
    key = "/".join(["a-folder-with-a-long-name" * 5] * 4 + ["red.jpg"])
    picture(tmp_path / "photos" / key)
    assert fanfold("images", "embed", tmp_path / "photos", tmp_path / "db").returncode == 0
    assert key in fanfold("images", "search", tmp_path / "db", key).stdout


def test_exit_code_0_when_all_is_done(photos: Path, database: str) -> None:
    """A run without failures ends with 0 and accounts for every item."""
    done = fanfold("images", "embed", photos, database, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert (told["listed"], told["ok"], told["failed"], told["lost"]) == (4, 4, 0, 0)
    assert told["left_out"] == {"empty": 1, "other type": 1}
    assert {"run", "unchanged", "seconds", "items_per_second", "database", "table"} <= told.keys()


def test_exit_code_1_when_the_database_cannot_be_made(photos: Path) -> None:
    """A database that cannot be written ends the run with 1 and a sentence."""
    done = fanfold("images", "embed", photos, "/proc/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("fanfold: Cannot use /proc/nowhere")
    assert "Traceback" not in done.stderr


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
        (["mirror", "absent-db", "dynamodb://x"], "no table 'images' of fanfold's in absent-db"),
        (["work", "absent-db", "run"], "absent-db"),
        (
            ["images", "embed", ".", "db", "--on", "nonsense"],
            "no executor 'nonsense'. Use one of: local, ray, aws-batch.",
        ),
        (["images", "embed", ".", "db", "--mirror", "nonsense://x"], "'nonsense://x' is no mirror"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_code_2_when_the_command_is_wrong(command: list[str], says: str, tmp_path: Path) -> None:
    """A mistake ends with 2, says what is wrong on stderr, and makes nothing."""
    done = fanfold(*command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_completion_is_set_up_for_a_shell(tmp_path: Path) -> None:
    """`--install-completion` writes a script that knows the commands and their flags, and has the shell load it."""
    done = fanfold("--install-completion", "--shell", "bash", env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".local" / "share" / "bash-completion" / "completions" / "fanfold"
    asked = f"source {script}; complete -p fanfold"
    assert "fanfold" in subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
    for word in ("duplicates", "--threshold", "plan", "doctor", "--follow"):
        assert word in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["search", "-k", "1.5"], "-k takes a whole number, not 1.5"),
        (["search", "-k", "2.0"], "-k takes a whole number, not 2.0"),
        (["search", "-k", "0"], "-k takes a number from 1 up, not 0"),
        (["search", "-k", "nan"], '"nan"'),
        (["duplicates", "--threshold", "0"], "--threshold takes a cosine above 0 and up to 1, not 0"),
        (["duplicates", "--threshold", "1.1"], "--threshold takes a cosine above 0 and up to 1, not 1.1"),
        (["duplicates", "--threshold", "nan"], "--threshold takes a number, not nan"),
        (["embed", "--workers", "1.5"], "--workers takes a whole number, not 1.5"),
        (["embed", "--workers", "0"], "at least one worker, not 0"),
        (["embed", "--workers", "99999999"], "at most 100,000 workers, not 99,999,999"),
        (["embed", "--task-size", "0"], "at least one item"),
        (["embed", "--task-size", "9" * 26], "at most 10,000,000 items"),
        (["embed", "--worker-gpus", "nan"], "--worker-gpus takes a number, not nan"),
        (["embed", "--worker-gpus", "-1"], "--worker-gpus takes a number from 0 up, not -1"),
        (["embed", "--batch-size", "2.5"], "--batch-size takes a whole number, not 2.5"),
        (["embed", "--min-cosine", "nan", "--precision", "int8"], "--min-cosine takes a number, not nan"),
        (["embed", "--min-cosine", "2", "--precision", "int8"], "--min-cosine takes a cosine from 0 to 1, not 2"),
        (["optimize", "--keep", "nan"], "--keep takes a number, not nan"),
        (["optimize", "--keep", "inf"], "--keep takes a number, not inf"),
        (["optimize", "--keep", "-1"], "--keep takes hours, from 0 up to 1,000,000, not -1"),
        (["optimize", "--keep", "1e300"], "--keep takes hours, from 0 up to 1,000,000, not 1e+300"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_numbers_out_of_range_are_refused(flags: list[str], says: str, embedded: str, shared_photos: Path) -> None:
    """A number that a flag's help does not speak of ends a command with 2 and the flag's name; none is rounded."""
    verb, *rest = flags
    before = {"search": ["images", verb, embedded, "red.jpg"], "duplicates": ["images", verb, embedded]}
    before |= {"embed": ["images", verb, shared_photos, embedded], "optimize": [verb, embedded]}  # type: ignore[dict-item]
    done = fanfold(*before[verb], *rest)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.split())


def test_more_neighbours_than_there_are(embedded: str) -> None:
    """However many are asked for, those there are are shown."""
    assert len(objects("images", "search", embedded, "red.jpg", "-k", 10**30)) == 4


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", ".x", "-", "x" * 201, "a\nb"])
def test_odd_table_names_are_refused_by_every_verb(name: str, embedded: str, shared_photos: Path) -> None:
    """A name that no table can have ends with 2, and the sentence says which letters can be used."""
    for verb in (
        ["images", "embed", shared_photos, embedded],
        ["images", "search", embedded, "red.jpg"],
        ["mirror", embedded, "dynamodb://x"],
    ):
        done = fanfold(*verb, f"--table={name}")
        assert done.returncode == 2
        assert "is not a valid table name. Use letters, digits, '_', '-' and '.'" in done.stderr


def test_the_name_failures_is_reserved(embedded: str, shared_photos: Path) -> None:
    """No job writes into the table of failures, and the sentence does not speak of letters."""
    for verb in (["images", "embed"], ["plan", "images"]):
        done = fanfold(*verb, shared_photos, embedded, "--table", "failures")
        assert done.returncode == 2
        assert "'failures' is reserved" in done.stderr


def test_a_mismatch_of_ids_names_the_flag(embedded: str, shared_photos: Path) -> None:
    """A table whose keys are paths refuses stems, and says what to type."""
    done = fanfold("images", "embed", shared_photos, embedded, "--id", "stem")
    assert done.returncode == 2
    assert "Ask with --id key, or write to another table with: --table images_2" in done.stderr


@pytest.fixture(scope="module")
def sums(shared_photos: Path) -> str:
    """A database of another job: the example's checksums, without vectors."""
    database = str(shared_photos.parent / "sums")
    script = (
        "import sys, fanfold, checksums\n"
        "for _ in fanfold.run(checksums.Checksums(), source=sys.argv[1], database=sys.argv[2], table='images'): pass"
    )
    examples = Path(__file__).parent.parent / "examples"
    subprocess.run([sys.executable, "-c", script, str(shared_photos), database], cwd=examples, check=True)
    return database


def test_another_jobs_table_is_refused_by_the_jobs_name(sums: str, shared_photos: Path) -> None:
    """Pictures do not go into a table of checksums, and the sentence speaks of jobs, not of models."""
    done = fanfold("images", "embed", shared_photos, sums)
    assert done.returncode == 2
    assert "Table 'images' was made by another job, 'checksums'" in done.stderr
    assert "--table images_2" in done.stderr


@pytest.mark.parametrize(
    "verb", [["search"], ["search", "--exact"], ["duplicates"], ["vectors"], ["index"]], ids=" ".join
)
@pytest.mark.parametrize("table", ["failures", "images"])
def test_a_table_without_vectors_is_said_to_be_one(verb: list[str], table: str, sums: str) -> None:
    """What needs vectors ends with 2 for a table of failures and for one of another job."""
    name, *flags = verb
    asked = ["red.jpg"] if name in ("search", "vectors") else []
    done = fanfold("images", name, sums, *asked, *flags, "--table", table)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fanfold: Table '{table}' has no vectors.")


def test_an_empty_table_is_said_to_be_empty(tmp_path: Path, shared_photos: Path) -> None:
    """A search of a table without rows ends with 2 and says so, whatever is asked for."""
    (tmp_path / "none").mkdir()
    assert fanfold("images", "embed", tmp_path / "none", tmp_path / "db").returncode == 0
    for query in ("red.jpg", shared_photos / "red.jpg"):
        done = fanfold("images", "search", tmp_path / "db", query)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is empty: there is nothing to find" in done.stderr
    assert "is empty: there is nothing to index" in fanfold("images", "index", tmp_path / "db").stderr


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--on", "nonsense"], "no executor 'nonsense'"),
        (["--mirror", "nonsense://x"], "'nonsense://x' is no mirror"),
        (["--task-size", "0"], "A task needs at least one item"),
        (["--table", "a/b"], "'a/b' is not a valid table name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_int8_is_not_calibrated_for_a_wrong_command(wrong: list[str], says: str, crops: Path, database: str) -> None:
    """A mistake ends a run of INT8 before a model is made for it, so no database is."""
    done = fanfold("images", "embed", crops, database, "--precision", "int8", "--min-cosine", "0.5", *wrong)
    assert done.returncode == 2
    assert says in done.stderr
    assert "calibrated" not in done.stderr
    assert not Path(database).exists()


def test_exit_code_3_when_items_failed(photos: Path, database: str) -> None:
    """Failed items are counted, listed with their reason, and tried again only when asked."""
    (photos / "bad.jpg").write_bytes(b"not a picture at all")
    done = fanfold("images", "embed", photos, database, "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (3, 1)
    again = json.loads(fanfold("images", "embed", photos, database, "--json").stdout)
    assert (again["unchanged"], again["failed"], again["ok"]) == (4, 1, 0)
    (row,) = objects("failures", database)
    assert (row["key"], row["stage"]) == ("bad.jpg", "decode")
    retried = fanfold("images", "embed", photos, database, "--retry-failed", "--json")
    assert (retried.returncode, json.loads(retried.stdout)["failed"]) == (3, 1)


def test_search_by_key_and_by_picture(embedded: str, shared_photos: Path) -> None:
    """A key and a picture's path find the same neighbours, nearest first."""
    by_key = objects("images", "search", embedded, "red.jpg")
    by_path = objects("images", "search", embedded, shared_photos / "red.jpg", "-k", 2)
    assert [hit["key"] for hit in by_key[:2]] == ["red.jpg", "sub/red again.png"]
    assert [hit["key"] for hit in by_path] == ["red.jpg", "sub/red again.png"]
    assert by_path[0]["cosine"] == pytest.approx(1, abs=1e-4)


def test_search_says_when_the_query_is_nothing(embedded: str) -> None:
    """A query that is neither a key nor a picture ends with 2."""
    done = fanfold("images", "search", embedded, "nothing")
    assert done.returncode == 2
    assert "neither a key" in done.stderr


def test_duplicates_finds_the_pair(embedded: str) -> None:
    """The two red pictures form a group."""
    (group,) = objects("images", "duplicates", embedded, "--threshold", 0.9)
    assert sorted(group["keys"]) == ["red.jpg", "sub/red again.png"]


def test_vectors_reads_back(embedded: str, tmp_path: Path) -> None:
    """Vectors come back in the order asked for, as text, JSON or .npy."""
    file = tmp_path / "out.npy"
    assert fanfold("images", "vectors", embedded, "[blue].png", "red.jpg", "--npy", file).returncode == 0
    line = fanfold("images", "vectors", embedded, "[blue].png", "--json").stdout
    assert np.load(file).shape == (2, 1280)
    assert np.allclose(np.load(file)[0], json.loads(line)["vector"], atol=1e-6)
    assert "[blue].png" in fanfold("images", "vectors", embedded, "[blue].png").stdout


def test_vectors_names_missing_keys(embedded: str) -> None:
    """Asking for a key that is not there ends with 2 and names it."""
    done = fanfold("images", "vectors", embedded, "red.jpg", "absent.jpg")
    assert done.returncode == 2
    assert "absent.jpg" in done.stderr


def test_search_wants_one_picture(embedded: str, tmp_path: Path) -> None:
    """A list of pictures, or an empty one, is no query."""
    for text in ("", "a.jpg\nb.jpg\n"):
        (tmp_path / "some.list").write_text(text)
        done = fanfold("images", "search", embedded, tmp_path / "some.list")
        assert done.returncode == 2
        assert "is not one picture" in done.stderr


def test_another_recipe_is_refused_with_the_command_that_works(embedded: str, shared_photos: Path) -> None:
    """Vectors of another recipe do not get into the table; --table takes them."""
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
    """For INT8, `plan` calibrates as the run would and keeps nothing of it; a table's own model is used as it is."""
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


def test_runs_and_report_tell_of_the_run(embedded: str) -> None:
    """Both show the run that was, with its counts."""
    run = objects("runs", embedded)[-1]
    assert (run["ok"], run["ended"]) == (4, "complete")
    (told,) = objects("report", embedded, run["run"])
    assert told == run
    assert "all done" in fanfold("report", embedded).stdout


def test_stem_ids_refuse_collisions(photos: Path, database: str) -> None:
    """With --id stem, two pictures of one stem are refused by name before any work."""
    picture(photos / "sub" / "red.png")
    done = fanfold("images", "embed", photos, database, "--id", "stem")
    assert done.returncode == 2
    assert "red.jpg" in done.stderr
    assert "sub/red.png" in done.stderr


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_what_is_done(sign: signal.Signals, code: int, tmp_path: Path, database: str) -> None:
    """A run that is interrupted or told to end does so with one sentence, and the next one does only the rest."""
    for number in range(160):
        picture(tmp_path / "many" / f"{number}.png", seed=number)
    command = [*FANFOLD, "images", "embed", str(tmp_path / "many"), database, "--task-size", "10"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path(database).glob("_runs/*/receipts/*")) and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(sign)
    _, said = first.communicate(timeout=60)
    assert first.returncode == code
    assert "goes on from here" in said
    told = json.loads(fanfold(*command[1:], "--json").stdout)
    assert told["unchanged"] >= 10
    assert told["unchanged"] + told["ok"] == 160


def test_progress_is_plain_lines_off_a_terminal(photos: Path, database: str) -> None:
    """Without a terminal, stderr gets lines without control codes and stdout only the report."""
    done = fanfold("images", "embed", photos, database)
    assert "\x1b" not in done.stderr + done.stdout
    assert "all done" in done.stdout


def piped(command: str, reader: str) -> "subprocess.CompletedProcess[str]":
    """A command with its output read by another one, as a shell connects them; the exit code is the command's."""
    line = f"{FANFOLD[0]} {command} | {reader}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "images embed --help",
        "runs DB",
        "runs DB --json",
        "report DB",
        "failures DB 2>&-",
        "doctor",
        "images models",
        "images search DB red.jpg",
        "images search DB red.jpg --json",
        "images duplicates DB",
        "images vectors DB red.jpg green.png --json",
        "images embed PHOTOS DB",
        "images embed PHOTOS DB 2>&1",
        "plan images PHOTOS DB",
    ],
)
def test_a_reader_that_leaves_ends_a_command_with_0(command: str, embedded: str, shared_photos: Path) -> None:
    """A command whose reader does not read to the end, such as `head`, ends with 0 and says nothing about it."""
    done = piped(command.replace("DB", embedded).replace("PHOTOS", str(shared_photos)), "true")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "roken pipe" not in done.stderr


def test_a_mistake_stays_one_when_nobody_reads_it(tmp_path: Path) -> None:
    """Exit code 2 for a wrong command, also where stderr goes to a reader that has left."""
    assert piped(f"runs {tmp_path}/absent 2>&1", "true").returncode == 2
    assert piped("images bogus 2>&1", "true").returncode == 2


def test_head_gets_its_line(embedded: str) -> None:
    """A reader gets what it reads before it leaves."""
    done = piped(f"images search {embedded} red.jpg --json", "head -n 1")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["images", "embed", ".", ""], "empty"),
        (["images", "vectors", "DB", "red.jpg", "--npy", "/nowhere/x.npy"], "Cannot write /nowhere/x.npy"),
        (["images", "search", "DB", "odd\udcff.png"], "neither a key"),
        (["cancel", "DB"], "has ended already: fanfold report"),
        (["mirror", "DB", "nonsense"], "'nonsense' is no mirror"),
        (["work", "DB", "no-such-run"], "There is no run no-such-run"),
        (["work", "DB", "RUN", "--share", "2", "--of", "2"], "There is no share 2 of 2"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes_of_other_kinds(command: list[str], says: str, embedded: str) -> None:
    """What cannot be done is said in a sentence, with exit code 2."""
    run = min(path.name for path in Path(embedded, "_runs").iterdir())
    done = fanfold(*({"DB": embedded, "RUN": run}.get(word, word) for word in command), errors="replace")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
"""An environment in which Python reads and writes ASCII."""


def test_keys_are_the_same_in_every_locale(tmp_path: Path, database: str) -> None:
    """Where stdout takes ASCII only, names are read as UTF-8, text has escapes, and JSON stays JSON."""
    picture(tmp_path / "photos" / "é☃😀.jpg")
    for environment in (ASCII, {}, {**ASCII, "PYTHONIOENCODING": "latin-1"}):
        done = fanfold("images", "embed", tmp_path / "photos", database, "--json", env=os.environ | environment)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unchanged"] == 1
    for verb in (["search"], ["vectors"]):
        asked = ("images", *verb, database, "é☃😀.jpg")
        text = fanfold(*asked, env=os.environ | ASCII)
        assert text.returncode == 0, text.stderr
        assert "\\u2603" in text.stdout
        told = fanfold(*asked, "--json", env=os.environ | ASCII)
        assert json.loads(told.stdout)["key"] == "é☃😀.jpg"
        assert told.stdout.isascii()


@pytest.mark.parametrize(
    "command",
    [
        ["runs", "db"],
        ["images", "search", "db", "x"],
        ["images", "embed", "photos", "/tmp/db"],
        ["images", "embed", "/", "/tmp/db", "--model", "a.onnx"],
        ["optimize", "db"],
    ],
    ids=" ".join,
)
def test_a_working_directory_that_is_gone(command: list[str], tmp_path: Path) -> None:
    """Relative names cannot be found there, which is said in a sentence; exit code 2."""
    line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {FANFOLD[0]} {' '.join(command)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the working directory is gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_absolute_names_need_no_working_directory(embedded: str, tmp_path: Path) -> None:
    """A command that names everything in full works where the working directory is gone."""
    line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {FANFOLD[0]} runs {embedded}"
    assert subprocess.run(["bash", "-c", line], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("below", ["", "db"])
@pytest.mark.parametrize(
    "verb", ["runs", "report", "failures", "optimize", "cancel", "images search", "images vectors", "images embed"]
)
def test_a_file_is_no_database(verb: str, below: str, tmp_path: Path, shared_photos: Path) -> None:
    """A file in the place of a database, or above it, ends every verb with a sentence that names it."""
    (tmp_path / "file").write_text("no database")
    where = tmp_path / "file" / below
    words = verb.split()
    asked = {"search": [where, "x"], "vectors": [where, "x"], "embed": [shared_photos, where]}.get(words[-1], [where])
    done = fanfold(*words, *asked)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("fanfold: ")
    assert str(where) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        ("MemoryError()", "not enough memory"),
        ("ImportError('x.so: failed to map segment from shared object')", "not enough memory"),
        ('RuntimeError("can\'t start new thread")', "No more threads can be started"),
    ],
)
def test_a_limit_of_the_machine_is_a_sentence(raised: str, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What Python raises where memory or threads run out ends a command with 1 and what to do about it."""
    script = f"import fanfold.ledger, fanfold.cli\ndef full(*_): raise {raised}\nfanfold.runs.list_runs = full\n"
    done = subprocess.run([sys.executable, "-c", f"{script}fanfold.cli.main()", "runs", "/"], timeout=60)
    assert done.returncode == 1
    said = capfd.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_libraries_that_find_no_memory_are_a_sentence() -> None:
    """Where `ulimit -v` leaves too little to load anything, that is said, and there is no traceback."""
    limited = f"ulimit -v 100000; exec {FANFOLD[0]} runs /"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("fanfold: There is not enough memory.")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-"])
def test_streams_that_take_nothing(redirection: str, embedded: str) -> None:
    """A closed or full stdout or stderr causes no traceback."""
    done = subprocess.run(["bash", "-c", f"{FANFOLD[0]} runs {embedded} {redirection}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr + done.stdout


def test_failures_cannot_steer_a_terminal(tmp_path: Path, database: str) -> None:
    """Escape sequences in names come out as text."""
    (tmp_path / "list.txt").write_text("red\x1b[31m.png\n")
    assert fanfold("images", "embed", tmp_path / "list.txt", database).returncode == 3
    assert "\x1b" not in fanfold("failures", database).stdout


def test_following_what_has_ended_is_reporting_it(embedded: str) -> None:
    """`report --follow` of a run that has ended says at once what `report` says."""
    assert fanfold("report", embedded, "--follow").stdout == fanfold("report", embedded).stdout


@pytest.mark.parametrize("verb", [["report", "--follow"], ["cancel"]], ids=lambda words: words[0])
def test_a_run_that_goes_on_elsewhere_by_its_command(verb: list[str], tmp_path: Path) -> None:
    """A run of one's own machine can be neither followed nor cancelled from outside; it says where to stop it."""
    run = RunDirectory.create(str(tmp_path), table="images")
    done = fanfold(verb[0], tmp_path, run.id, *verb[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Run {run.id} goes on only where its command runs" in done.stderr


def test_a_container_takes_its_share_from_the_environment(embedded: str) -> None:
    """The share is the index that AWS Batch gives a child of an array."""
    run = min(path.name for path in Path(embedded, "_runs").iterdir())
    done = fanfold("work", embedded, run, "--of", 3, env=os.environ | {"AWS_BATCH_JOB_ARRAY_INDEX": "2"})
    assert (done.returncode, done.stdout) == (0, "Share 2 of 3: 0 ok, 0 failed, 0 lost.\n")
