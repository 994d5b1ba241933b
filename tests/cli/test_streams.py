"""The command line as a process: terminals, pipes, signals, encodings, limits, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nursery
from commands import FANFOLD, fanfold, objects, on_terminal, process
from faults import fill, hold, wait_for
from image_files import picture

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
"""An environment in which Python reads and writes ASCII."""
TESTS = Path(__file__).parents[1]


def forked(*words: object, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run a command in a separate process, where it does not matter how Python starts and ends."""
    return nursery.run([*FANFOLD, *words], **options)


@pytest.mark.parametrize(("command", "columns"), [(["runs", "DB"], 80), (["images", "models"], 60)])
def test_lists_fit_a_terminal(command: list[str], columns: int, embedded: str) -> None:
    """No line is wider than the terminal, no cell is cut off, and columns without room are named."""
    code, lines = on_terminal(columns, *(embedded if word == "DB" else word for word in command))
    assert code == 0
    assert max(map(len, lines)) <= columns
    assert "…" not in "".join(lines)
    assert len(lines) == 1 + len(objects(*(embedded if word == "DB" else word for word in command))) + 1
    assert lines[-1].startswith("No room for ")


def test_nothing_is_cut_off_in_a_pipe(embedded: str, tmp_path: Path) -> None:
    """In a pipe, every row is one line of any length: of models, of runs, of long keys."""
    models = forked("images", "models").stdout
    assert all(model["source"] in models for model in objects("images", "models"))
    run = objects("runs", embedded)[-1]
    (head, row) = (line.split() for line in forked("runs", embedded).stdout.splitlines())
    assert head == ["run", "table", "ended", "listed", "unchanged", "ok", "failed", "lost", "time"]
    assert row[:8] == [run["run"], "images", "complete", "4", "0", "4", "0", "0"]
    key = "/".join(["a-folder-with-a-long-name" * 5] * 4 + ["red.jpg"])
    picture(tmp_path / "photos" / key)
    assert forked("images", "embed", tmp_path / "photos", tmp_path / "db").returncode == 0
    assert key in forked("images", "search", tmp_path / "db", key).stdout


def test_exit_code_0_when_all_is_done(photos: Path, database: str) -> None:
    """A run without failures exits with 0 and accounts for every item."""
    done = process("images", "embed", photos, database, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert (told["listed"], told["ok"], told["failed"], told["lost"]) == (4, 4, 0, 0)
    assert told["left_out"] == {"empty": 1, "other type": 1}
    assert {"run", "unchanged", "seconds", "items_per_second", "database", "table"} <= told.keys()


def test_exit_code_1_when_the_database_cannot_be_made(photos: Path) -> None:
    """A database that cannot be written ends the run with exit code 1 and a sentence."""
    done = forked("images", "embed", photos, "/proc/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("fanfold: Cannot use /proc/nowhere")
    assert "Traceback" not in done.stderr


def test_completion_is_set_up_for_a_shell(tmp_path: Path) -> None:
    """`--install-completion` writes a script with the commands and their flags, and the shell's profile loads it."""
    done = process("--install-completion", "--shell", "bash", env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".local" / "share" / "bash-completion" / "completions" / "fanfold"
    asked = f"source {script}; complete -p fanfold"
    assert "fanfold" in subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
    for word in ("duplicates", "--threshold", "plan", "doctor", "--follow"):
        assert word in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


def test_exit_code_3_when_items_failed(photos: Path, database: str) -> None:
    """Failed items are counted, listed with their reason, and retried only on request."""
    (photos / "bad.jpg").write_bytes(b"not a picture at all")
    done = forked("images", "embed", photos, database, "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (3, 1)
    again = json.loads(fanfold("images", "embed", photos, database, "--json").stdout)
    assert (again["unchanged"], again["failed"], again["ok"]) == (4, 1, 0)
    (row,) = objects("failures", database)
    assert (row["key"], row["stage"]) == ("bad.jpg", "decode")
    retried = fanfold("images", "embed", photos, database, "--retry-failed", "--json")
    assert (retried.returncode, json.loads(retried.stdout)["failed"]) == (3, 1)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_what_is_done(sign: signal.Signals, code: int, tmp_path: Path, database: str) -> None:
    """An interrupted or terminated run ends with one sentence, and the next run does only the rest."""
    source = tmp_path / "source"
    fill(source, 12, failing=99)
    hold(source, 4, until=tmp_path / "stopped")
    command = [*FANFOLD, "run", "jobs:Scripted", str(source), database, "--task-size", "2", "--workers", "1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=TESTS)
    wait_for(lambda: len(list(Path(database).glob("_runs/*/receipts/*"))) == 2 or first.poll() is not None)
    first.send_signal(sign)
    _, said = first.communicate(timeout=60)
    assert first.returncode == code
    assert "Run the same command again" in said
    (tmp_path / "stopped").touch()
    told = json.loads(fanfold(*command[1:], "--json", cwd=TESTS).stdout)
    assert (told["unchanged"], told["ok"]) == (4, 8)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 0)])
def test_a_signal_while_it_exits_shows_no_traceback(sign: signal.Signals, code: int) -> None:
    """A command that has done its work ends quietly when it is stopped in its last moments."""
    script = f"import atexit, os; atexit.register(os.kill, os.getpid(), {sign:d}); from fanfold.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_progress_is_plain_lines_off_a_terminal(photos: Path, database: str) -> None:
    """Without a terminal, stderr gets lines without control codes, and stdout only the report."""
    done = forked("images", "embed", photos, database)
    assert "\x1b" not in done.stderr + done.stdout
    assert "all done" in done.stdout


def piped(command: str, reader: str) -> "subprocess.CompletedProcess[str]":
    """Pipe a command's output into another one, as a shell does; the exit code is the first command's."""
    line = f"{FANFOLD[0]} {command} | {reader}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "runs DB --json",
        "failures DB 2>&-",
        "images search DB red.jpg",
        "images embed PHOTOS DB 2>&1",
    ],
)
def test_a_reader_that_leaves_ends_a_command_with_0(command: str, embedded: str, shared_photos: Path) -> None:
    """A command whose reader stops early, such as `head`, exits with 0 and prints nothing about it."""
    done = piped(command.replace("DB", embedded).replace("PHOTOS", str(shared_photos)), "true")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "roken pipe" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "--version",
        "images embed --help",
        "runs DB",
        "report DB",
        "doctor",
        "images models",
        "images search DB red.jpg --json",
        "images duplicates DB",
        "images vectors DB red.jpg green.png --json",
        "images embed PHOTOS DB",
        "plan images PHOTOS DB",
    ],
)
def test_a_reader_that_has_left_is_nothing_to_any_verb(command: str, embedded: str, shared_photos: Path) -> None:
    """Every verb that prints, text or JSON, ends the same way if stdout has no reader from the start."""
    reader, writer = os.pipe()
    os.close(reader)
    words = command.replace("DB", embedded).replace("PHOTOS", str(shared_photos)).split()
    with nursery.Popen([*FANFOLD, *words], stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert "roken pipe" not in said


def test_a_mistake_stays_one_when_nobody_reads_it(tmp_path: Path) -> None:
    """A wrong command exits with 2 even if the reader of stderr has left."""
    assert piped(f"runs {tmp_path}/absent 2>&1", "true").returncode == 2
    assert piped("images bogus 2>&1", "true").returncode == 2


def test_head_gets_its_line(embedded: str) -> None:
    """A reader gets what it reads before it leaves."""
    done = piped(f"images search {embedded} red.jpg --json", "head -n 1")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_keys_are_the_same_in_every_locale(tmp_path: Path, database: str) -> None:
    """With an ASCII stdout, names are read as UTF-8, text has escapes, and JSON stays JSON."""
    picture(tmp_path / "photos" / "é☃😀.jpg")
    latin = ASCII | {"PYTHONIOENCODING": "latin-1"}
    done = process("images", "embed", tmp_path / "photos", database, "--json", env=os.environ | ASCII)
    assert done.returncode == 0, done.stderr
    assert objects("images", "embed", tmp_path / "photos", database)[0]["unchanged"] == 1
    for verb, environment in (("search", ASCII), ("vectors", latin)):
        text = process("images", verb, database, "é☃😀.jpg", env=os.environ | environment, encoding="latin-1")
        assert text.returncode == 0, text.stderr
        assert "\\u2603" in text.stdout
    told = process("images", "search", database, "é☃😀.jpg", "--json", env=os.environ | ASCII)
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
    """Relative names in a deleted working directory are an error in one sentence, with exit code 2."""
    (tmp_path / "gone").mkdir()
    gone = os.open(tmp_path / "gone", os.O_RDONLY)
    (tmp_path / "gone").rmdir()
    done = forked(*command, cwd=f"/proc/{os.getpid()}/fd/{gone}")
    os.close(gone)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the working directory is gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_absolute_names_need_no_working_directory(embedded: str, tmp_path: Path) -> None:
    """A command with only absolute names works in a deleted working directory."""
    line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {FANFOLD[0]} runs {embedded}"
    assert subprocess.run(["bash", "-c", line], capture_output=True, timeout=60).returncode == 0


def test_libraries_that_find_no_memory_are_a_sentence() -> None:
    """If `ulimit -v` leaves too little memory to load anything, a sentence says so, without a traceback."""
    limited = f"ulimit -v 100000; exec {FANFOLD[0]} runs /"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("fanfold: There is not enough memory.")
    assert "Traceback" not in done.stderr


def test_a_limit_of_open_files_is_a_sentence() -> None:
    """If the system gives no more sockets, pipes or files, the sentence says which limit to raise."""
    code = "import os, resource; from fanfold.cli import exit_code; from fanfold.cli import show\n"
    code += "def last(*_): resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); os.pipe()\n"
    code += "show.runs = last; print(exit_code(['runs', '.']))"
    done = nursery.run([sys.executable, "-c", code])
    assert (done.stdout, done.stderr) == (
        "1\n",
        "fanfold: No more files can be opened. Raise the limit that `ulimit -n` shows.\n",
    )


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-"])
def test_streams_that_take_nothing(redirection: str, embedded: str) -> None:
    """A closed or full stdout or stderr causes no traceback."""
    done = subprocess.run(["bash", "-c", f"{FANFOLD[0]} runs {embedded} {redirection}"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr + done.stdout


def test_a_container_takes_its_share_from_the_environment(embedded: str) -> None:
    """The share defaults to the index that AWS Batch gives a child of an array."""
    run = min(path.name for path in Path(embedded, "_runs").iterdir())
    done = forked("work", embedded, run, "--of", 3, env=os.environ | {"AWS_BATCH_JOB_ARRAY_INDEX": "2"})
    assert (done.returncode, done.stdout) == (0, "Share 2 of 3: 0 ok, 0 failed, 0 lost.\n")
