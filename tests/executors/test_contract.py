"""The contract of executors: the same cases for every executor, with failures scripted as data."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fanfold import FanfoldError, UsageError
from fanfold.core.executor import Executor
from fanfold.core.runs import Task
from fanfold.executors.local import Local
from helpers import begun, ignore, tasks_of, workers_of
from jobs import Detailed, Scripted
from rays import on_ray


@pytest.fixture(params=["local", "ray"])
def make(request: pytest.FixtureRequest) -> Callable[[int], Executor]:
    """A factory of every executor, for a number of workers."""
    if request.param == "local":
        return Local
    return partial(on_ray, request.getfixturevalue("three"))


SCRIPTS: dict[str, tuple[list[list[str]], list[tuple[str, int, int]]]] = {
    # tasks with their items' texts -> for each task: status, ok, failed
    "all good": ([["a", "b"], ["c"], ["d", "e", "f"]], [("done", 2, 0), ("done", 1, 0), ("done", 3, 0)]),
    "failed items": ([["a", "fail"], ["fail"]], [("done", 1, 1), ("done", 0, 1)]),
    "forgotten items": ([["a", "forget"]], [("done", 1, 1)]),
    "a task that raises": ([["a", "raise"], ["b"]], [("failed", 0, 0), ("done", 1, 0)]),
    "a task that answers twice": ([["twice"], ["b"]], [("failed", 0, 0), ("done", 1, 0)]),
    "a worker that crashes": ([["crash"], ["b"], ["c"]], [("crashed", 0, 0), ("done", 1, 0), ("done", 1, 0)]),
    "a worker that is killed": ([["a", "kill"], ["b"]], [("crashed", 0, 0), ("done", 1, 0)]),
    "a worker that exits": ([["exit"], ["b"]], [("crashed", 0, 0), ("done", 1, 0)]),
    "crash after crash": ([["crash"], ["kill"], ["exit"]], [("crashed", 0, 0)] * 3),
}


def test_exactly_one_outcome_a_task(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """A task has exactly one outcome, with the details of its items, whatever happens to it or to its worker."""
    tasks = [task for some, _ in SCRIPTS.values() for task in some]
    expected = [(name, *outcome) for name, (_, some) in SCRIPTS.items() for outcome in some]
    run = begun(tmp_path / "source", database, tasks, Detailed())
    outcomes = sorted(make(2).map(run, tasks_of(tasks), ignore), key=lambda outcome: outcome.task)
    assert [outcome.task for outcome in outcomes] == list(range(len(tasks)))
    assert expected == [
        (name, outcome.status, outcome.ok, outcome.failed)
        for (name, *_), outcome in zip(expected, outcomes, strict=True)
    ]
    for outcome, items in zip(outcomes, tasks, strict=True):
        assert outcome.items == len(items)
        assert outcome.attempt == 1
        assert outcome.started <= outcome.ended
        assert bool(outcome.error) == (outcome.status != "done")
        assert (run.receipt(outcome.task) is not None) == (outcome.status == "done")
        assert bool(outcome.details.get("words")) == (outcome.ok > 0)
    assert not workers_of(run.id)


def test_no_tasks_at_all(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """A run with nothing to do has no outcomes and ends."""
    run = begun(tmp_path / "source", database, [])
    assert list(make(2).map(run, tasks_of([]), ignore)) == []
    assert not workers_of(run.id)


def test_an_attempt_is_repeated_as_asked(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """A task that is handed out again is tried again, and its outcome has the attempt's number."""
    tasks = [[f"crash-once {tmp_path}/marker"]]
    run = begun(tmp_path / "source", database, tasks)
    again = iter([Task(0, 1, attempt=1), Task(0, 1, attempt=2)])
    outcomes = list(make(1).map(run, again, ignore))
    assert [(outcome.attempt, outcome.status) for outcome in outcomes] == [(1, "crashed"), (2, "done")]


def test_how_a_worker_died_is_said(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """The outcome of a crash names what ended the worker."""
    tasks = [["crash"], ["kill"], ["exit"]]
    run = begun(tmp_path / "source", database, tasks)
    said = {outcome.task: outcome.error for outcome in make(1).map(run, tasks_of(tasks), ignore)}
    assert "SIGSEGV" in said[0]
    assert "SIGKILL" in said[1]
    assert "exit code 7" in said[2]


def test_tasks_are_taken_as_they_can_be_done(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """Tasks are not taken until a worker is free, so that planning need not be far ahead."""
    tasks = [["x"] for _ in range(24)]
    run = begun(tmp_path / "source", database, tasks)
    ahead: list[int] = []

    def counted() -> Iterator[Task]:
        for taken, task in enumerate(tasks_of(tasks)):
            ahead.append(taken - sum(run.receipt(number) is not None for number in range(24)))
            yield task

    assert len(list(make(2).map(run, Guarded(counted()), ignore))) == 24
    assert max(ahead) <= 4


class Guarded:
    """A generator that several threads may use."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks, self.lock = tasks, threading.Lock()

    def __iter__(self) -> "Guarded":
        return self

    def __next__(self) -> Task:
        with self.lock:
            return next(self.tasks)


def test_an_outcome_comes_while_others_work(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """Outcomes come as tasks end: neither a slow task nor a waiting source of tasks holds back a fast one."""
    run = begun(tmp_path / "source", database, [["x"]])
    goon = threading.Event()

    def waiting() -> Iterator[Task]:
        yield Task(0, 1)
        goon.wait(60)

    outcomes = make(1).map(run, waiting(), ignore)
    assert next(outcomes).status == "done"
    goon.set()
    assert list(outcomes) == []


def test_progress_is_passed_on(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """While a task is in progress, its number and its counts of done and failed items are reported."""
    tasks = [["x", "fail"] + ["x"] * 10]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.1))
    told: list[tuple[int, int, int]] = []
    list(make(1).map(run, tasks_of(tasks), lambda *what: told.append(what)))
    assert told
    assert all(task == 0 and 0 <= ok <= 11 and failed <= 1 for task, ok, failed in told)
    assert told == sorted(told)


@pytest.mark.parametrize("moment", ["while a worker starts", "while all work"])
def test_closing_stops_all_work(make: Callable[[int], Executor], moment: str, tmp_path: Path, database: str) -> None:
    """Closing the iterator ends every worker at once, and none starts afterwards."""
    tasks = [["x"], ["x"] * 200, ["x"] * 200]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.05))
    go_on, at_work = threading.Event(), set()

    def numbers() -> Iterator[Task]:
        yield Task(0, 1)
        go_on.wait(60)
        yield Task(1, 200)
        yield Task(2, 200)

    outcomes = make(2).map(run, Guarded(numbers()), lambda task, *_: at_work.add(task))
    assert next(outcomes).task == 0
    go_on.set()
    while len(workers_of(run.id)) < 2 or (moment == "while all work" and not at_work >= {1, 2}):
        time.sleep(0.005)
    outcomes.close()
    assert not workers_of(run.id)
    time.sleep(1)
    assert not workers_of(run.id)
    assert run.receipt(1) is run.receipt(2) is None


def test_a_backend_that_cannot_go_on_raises(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """If no worker can ever start, the iterator raises the job's error and leaves no worker behind."""
    run = begun(tmp_path / "source", database, [["x"], ["x"]], Scripted(open_error="no model"))
    with pytest.raises(FanfoldError, match="no model"):
        list(make(2).map(run, tasks_of([["x"], ["x"]]), ignore))
    assert not workers_of(run.id)


@pytest.mark.parametrize("error", ["kill", "exit"])
def test_workers_that_die_while_starting(
    make: Callable[[int], Executor], error: str, tmp_path: Path, database: str
) -> None:
    """Workers that never start cause an error that says how they ended, not an endless loop."""
    run = begun(tmp_path / "source", database, [["x"]], Scripted(open_error=error))
    with pytest.raises(FanfoldError, match="SIGKILL" if error == "kill" else "exit code 7"):
        list(make(1).map(run, tasks_of([["x"]]), ignore))


def test_what_workers_print_is_nobodys_output(
    make: Callable[[int], Executor], tmp_path: Path, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A crash and its dump do not reach the terminal."""
    run = begun(tmp_path / "source", database, [["crash"], ["x"]])
    list(make(1).map(run, tasks_of([["crash"], ["x"]]), ignore))
    assert capfd.readouterr() == ("", "")


def test_a_worker_count_of_nothing_is_refused(make: Callable[[int], Executor]) -> None:
    """An executor without workers is refused, because it would never end."""
    for workers in (0, -1):
        with pytest.raises(UsageError, match="at least one worker"):
            make(workers)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import fanfold
from jobs import Scripted
{helpers}
run = fanfold.run(Scripted(), source={source!r}, database={database!r}, executor={executor})
print(sum(outcome.ok for outcome in run), run.report.lost)
"""


@pytest.fixture(params=["local", "ray"])
def program(request: pytest.FixtureRequest, texts: Path, database: str) -> str:
    """A program that runs a job with an executor."""
    helpers, executor = "from fanfold.executors.local import Local", "Local(2)"
    if request.param == "ray":
        address = request.getfixturevalue("three").address
        helpers, executor = "from fanfold.executors.ray import Ray", f"Ray({address!r}, workers=2)"
    tests = str(Path(__file__).parent.parent)
    return SCRIPT.format(tests=tests, helpers=helpers, source=str(texts), database=database, executor=executor)


def test_a_script_needs_no_main_guard(program: str, tmp_path: Path) -> None:
    """A script without a main guard, like a notebook, is neither imported again nor run twice, from any folder."""
    (tmp_path / "script.py").write_text(program)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/")
    assert (done.stdout, done.stderr, done.returncode) == ("40 0\n", "", 0)


def test_a_program_from_a_pipe_works(program: str) -> None:
    """A program that is not in a file works the same way."""
    done = subprocess.run([sys.executable], input=program, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("40 0\n", "", 0)
