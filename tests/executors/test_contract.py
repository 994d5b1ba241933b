"""The contract of executors: the same cases for every executor there is, their failures scripted as data."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fanfold import FanfoldError, UsageError
from fanfold.executors import Executor
from fanfold.executors.local import Local
from fanfold.runs import Task
from helpers import begun, ignore, tasks_of, workers_of
from jobs import Scripted
from rays import on_ray

EXECUTORS: dict[str, Callable[[int], Executor]] = {"local": Local, "ray": on_ray}
"""Every executor there is, made for a number of workers."""


@pytest.fixture(params=EXECUTORS)
def make(request: pytest.FixtureRequest) -> Callable[[int], Executor]:
    """How to make the executor under test."""
    return EXECUTORS[request.param]


SCRIPTS: dict[str, tuple[list[list[str]], list[tuple[str, int, int]]]] = {
    # tasks with their items' texts -> of each task: status, ok, failed
    "all good": ([["a", "b"], ["c"], ["d", "e", "f"]], [("done", 2, 0), ("done", 1, 0), ("done", 3, 0)]),
    "failed items": ([["a", "fail"], ["fail"]], [("done", 1, 1), ("done", 0, 1)]),
    "forgotten items": ([["a", "forget"]], [("done", 1, 1)]),
    "a task that raises": ([["a", "raise"], ["b"]], [("failed", 0, 0), ("done", 1, 0)]),
    "a task that answers twice": ([["twice"], ["b"]], [("failed", 0, 0), ("done", 1, 0)]),
    "a worker that crashes": ([["crash"], ["b"], ["c"]], [("crashed", 0, 0), ("done", 1, 0), ("done", 1, 0)]),
    "a worker that is killed": ([["a", "kill"], ["b"]], [("crashed", 0, 0), ("done", 1, 0)]),
    "a worker that exits": ([["exit"], ["b"]], [("crashed", 0, 0), ("done", 1, 0)]),
    "crash after crash": ([["crash"], ["kill"], ["exit"]], [("crashed", 0, 0)] * 3),
    "no tasks": ([], []),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_exactly_one_outcome_a_task(
    make: Callable[[int], Executor], script: str, tmp_path: Path, database: str
) -> None:
    """Whatever happens to a task or to its worker is that task's one outcome."""
    tasks, expected = SCRIPTS[script]
    run = begun(tmp_path / "source", database, tasks)
    outcomes = sorted(make(2).map(run, tasks_of(tasks), ignore), key=lambda outcome: outcome.task)
    assert [outcome.task for outcome in outcomes] == list(range(len(tasks)))
    assert [(outcome.status, outcome.ok, outcome.failed) for outcome in outcomes] == expected
    for outcome, items in zip(outcomes, tasks, strict=True):
        assert outcome.items == len(items)
        assert outcome.attempt == 1
        assert outcome.started <= outcome.ended
        assert bool(outcome.error) == (outcome.status != "done")
        assert (run.receipt(outcome.task) is not None) == (outcome.status == "done")
    assert not workers_of(run.id)


def test_an_attempt_is_repeated_as_asked(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """A task handed out again is tried again, and its outcome says which attempt it was."""
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
    """Tasks stay where they are until a worker is free, so that planning need not be far ahead."""
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
    """A generator that several threads may ask."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks, self.lock = tasks, threading.Lock()

    def __iter__(self) -> "Guarded":
        return self

    def __next__(self) -> Task:
        with self.lock:
            return next(self.tasks)


def test_an_outcome_comes_while_others_work(make: Callable[[int], Executor], tmp_path: Path, database: str) -> None:
    """Outcomes come as tasks end: a fast task is not held back by a slow one, nor by a source of tasks that waits."""
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
    """While a task is under way its number, and how many items are done and failed, are told."""
    tasks = [["x", "fail"] + ["x"] * 10]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.1))
    told: list[tuple[int, int, int]] = []
    list(make(1).map(run, tasks_of(tasks), lambda *what: told.append(what)))
    assert told
    assert all(task == 0 and 0 <= ok <= 11 and failed <= 1 for task, ok, failed in told)
    assert told == sorted(told)


@pytest.mark.parametrize("moment", ["while a worker starts", "while all work"])
def test_closing_stops_all_work(make: Callable[[int], Executor], moment: str, tmp_path: Path, database: str) -> None:
    """Closing the iterator ends every worker at once, and none comes up afterwards."""
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
    """When no worker can ever start, the iterator raises what the job raised, and leaves nobody behind."""
    run = begun(tmp_path / "source", database, [["x"], ["x"]], Scripted(open_error="no model"))
    with pytest.raises(FanfoldError, match="no model"):
        list(make(2).map(run, tasks_of([["x"], ["x"]]), ignore))
    assert not workers_of(run.id)


@pytest.mark.parametrize("error", ["kill", "exit"])
def test_workers_that_die_while_starting(
    make: Callable[[int], Executor], error: str, tmp_path: Path, database: str
) -> None:
    """Workers that never come up are no endless loop, but an error that says how they ended."""
    run = begun(tmp_path / "source", database, [["x"]], Scripted(open_error=error))
    with pytest.raises(FanfoldError, match="SIGKILL" if error == "kill" else "exit code 7"):
        list(make(1).map(run, tasks_of([["x"]]), ignore))


def test_what_workers_print_is_nobodys_output(
    make: Callable[[int], Executor], tmp_path: Path, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A crash, with its dump, does not reach the terminal."""
    run = begun(tmp_path / "source", database, [["crash"], ["x"]])
    list(make(1).map(run, tasks_of([["crash"], ["x"]]), ignore))
    assert capfd.readouterr() == ("", "")


def test_a_worker_count_of_nothing_is_refused(make: Callable[[int], Executor]) -> None:
    """An executor without workers would never end."""
    for workers in (0, -1):
        with pytest.raises(UsageError, match="at least one worker"):
            make(workers)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import fanfold
from jobs import Scripted
from rays import on_ray
{helpers}
run = fanfold.run(Scripted(), source={source!r}, database={database!r}, executor={executor})
print(sum(outcome.ok for outcome in run), run.report.lost)
"""
IN_SCRIPTS = {
    "local": ("from fanfold.executors.local import Local", "Local(2)"),
    "ray": ("from fanfold.executors.ray import Ray", "Ray(workers=2)"),
}
"""How a script makes each executor."""


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_script_needs_no_main_guard(name: str, texts: Path, database: str, tmp_path: Path) -> None:
    """A script that just runs, as notebooks do, is neither imported again nor run twice, wherever it is called from."""
    imports, makes = IN_SCRIPTS[name]
    script = tmp_path / "script.py"
    tests = str(Path(__file__).parent.parent)
    script.write_text(SCRIPT.format(tests=tests, helpers=imports, source=str(texts), database=database, executor=makes))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, cwd="/")
    assert (done.stdout, done.stderr, done.returncode) == ("40 0\n", "", 0)


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_program_from_a_pipe_works(name: str, texts: Path, database: str) -> None:
    """So does a program that is in no file at all."""
    imports, makes = IN_SCRIPTS[name]
    tests = str(Path(__file__).parent.parent)
    program = SCRIPT.format(tests=tests, helpers=imports, source=str(texts), database=database, executor=makes)
    done = subprocess.run([sys.executable], input=program, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("40 0\n", "", 0)
