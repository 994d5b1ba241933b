"""The command line: what it prints where, and with which exit code it ends."""

import json
import os
import signal
import subprocess
import sys
import time
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


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--on", "nonsense"], "no executor 'nonsense'"),
        (["--mirror", "nonsense://x"], "'nonsense://x' is no mirror"),
        (["--task-size", "0"], "A task needs at least one item"),
        (["--table", "a/b"], "'a/b' is no name"),
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
        (["optimize", "DB", "--keep", "-1"], "from 0 up"),
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
