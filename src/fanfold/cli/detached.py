"""The verbs of runs that go on without their driver: following and cancelling, and what their containers do."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter

from fanfold import detached
from fanfold.account import account
from fanfold.cli import Database, Json, RunId, draw
from fanfold.driver import Run
from fanfold.executors import open_executor
from fanfold.executors.local import Local
from fanfold.planner import Tally
from fanfold.runs import RunDirectory, find_run
from fanfold.storage import absolute


def follow(run: RunDirectory) -> None:
    """Show how far a run is, until it has ended. What it does not finish is committed here."""
    executor, tally = detached.executor_of(run), detached.planned(run)
    with leaving(run), draw.progress(tally):
        for _ in detached.follow(run, executor, tally):
            pass


@contextmanager
def leaving(run: RunDirectory) -> Iterator[None]:
    """Say, when the block is interrupted, how to come back to a run that was submitted and goes on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not run.get("jobs.json"):
            raise
        where = f"{run.database} {run.id}"
        draw.error(f"The run goes on. Follow it: fanfold report {where} --follow. End it: fanfold cancel {where}")
        sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])


def cancel(database: Database, run: RunId = None, /, *, json: Json = False) -> int:
    """End a run that goes on without its driver, and commit what it has done."""
    found = find_run(absolute(database), run)
    detached.cancel(found, detached.executor_of(found))
    draw.report(*account(found), json)
    return 0


def work(
    database: Database,
    run: str,
    /,
    *,
    share: Annotated[int, Parameter(env_var="AWS_BATCH_JOB_ARRAY_INDEX")] = 0,
    of: int = 1,
    workers: int = 1,
    worker_cpus: int = 1,
) -> int:
    """Perform a share of a run's tasks: what a container does. Exit code 1: try again, perhaps elsewhere.

    For example: `fanfold work db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    tally = Tally()
    lost = 0
    with draw.progress(tally):
        for outcome in detached.perform(found, share, of, Local(workers, worker_cpus), tally):
            if outcome.error:
                lost += outcome.items
                draw.error(f"task {outcome.task} failed after {outcome.attempt} tries: {outcome.error}")
    draw.out.print(f"Share {share} of {of}: {tally.ok:,} ok, {tally.failed:,} failed, {lost:,} lost.")
    return 1 if lost else 0


def commit(database: Database, run: str, /) -> int:
    """Commit what a run has done and write its report: what a run's last container does.

    For example: `fanfold commit db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    detached.commit(found)
    draw.report(*account(found), as_json=False)
    return 0


def launch(database: Database, run: str, /) -> int:
    """Plan a run and submit it: what a container does when planning takes longer than a Lambda may.

    For example: `fanfold launch db 2026-11-22T20-18-05-4f2a`
    """
    found = find_run(absolute(database), run)
    begun = Run.resume(found, open_executor("aws-batch"))
    with draw.progress(begun.tally):
        begun.launch()
    draw.out.print(f"{detached.planned(found).planned:,} items planned.")
    return 0
