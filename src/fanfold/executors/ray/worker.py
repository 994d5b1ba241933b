"""The driver's side of one worker on a Ray cluster."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import fanfold
from fanfold.core.executor import Size, TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.errors import FanfoldError
from fanfold.executors.ray.connection import CONNECTION, first_words, gone
from fanfold.executors.ray.node import ADVICE, NodeWorker

# isort: split
import ray  # after `connection`, which says what to install when it is absent
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

DIED = (RayActorError, OutOfMemoryError)
"""Ray's errors for an actor that has died."""
POLLS = 250
"""Questions for progress a second, of all workers together."""
STOPS_WITHIN = 10.0
"""Seconds that a worker has to end its process before its actor is killed."""
STARTS = 5
"""Times that an actor may die before it has a place."""


class RemoteWorker:
    """One worker on some node: an actor, which is started again elsewhere when its node dies."""

    def __init__(self, run: RunDirectory, size: Size, workers: int, sample: Sequence[Mapping[str, Any]]) -> None:
        self.every = max(0.25, workers / POLLS)
        """Seconds between two questions for progress."""
        # Three threads: one performs the task, one answers for its progress, one can end it.
        options = {"num_cpus": size.worker_cpus, "num_gpus": size.worker_gpus, "max_concurrency": 3}
        arguments = (fanfold.__version__, run.database, run.id, size.worker_cpus, sample)
        self.start: Callable[[], Any] = lambda: ray.remote(NodeWorker).options(**options).remote(*arguments)
        self.actor: Any = None
        self.placed = self.stopped = self.ended = False
        self.starting, self.ending, self.in_use = threading.Lock(), threading.Lock(), threading.Lock()

    def ready(self, ended: threading.Event) -> bool:
        """See `fan_out.Worker.ready`. Waits until Ray has placed the actor on a node."""
        with self.in_use:
            for _ in range(STARTS):
                try:
                    return self._place(ended)
                except DIED as error:
                    self.actor, why = None, first_words(error)
        raise FanfoldError(f"Ray cannot start a worker: {why}")

    def perform(self, task: Task, progress: TaskProgress) -> Outcome:
        """See `fan_out.Worker.perform`. Raises FanfoldError for what would end any other task, too."""
        with self.in_use:
            started, actor = time.time(), self.actor
            if self.stopped:
                raise FanfoldError("The run was stopped.")
            poll = _Poll(actor, task, progress)
            try:
                performed = actor.perform.remote(asdict(task)).future()
                if done := self._wait(performed, lambda: not self.stopped and poll()):
                    return Outcome(**done)
                raise FanfoldError("The run was stopped.")
            except DIED as error:
                self.actor, self.placed = None, False
                now, why = time.time(), f"its node or its Ray worker process died: {first_words(error)}"
                return Outcome(task.number, task.attempt, task.items, "lost", started=started, ended=now, error=why)

    def stop(self) -> None:
        """See `fan_out.Worker.stop`. No thread asks Ray for anything afterwards: Ray would end the process, or begin a
        connection of its own. So a second call asks nothing, and waits for the first."""
        with self.starting:
            self.stopped, actor = True, self.actor
        with self.ending:
            if actor and not self.ended and not CONNECTION.lost:
                self._end(actor)
            self.ended = True
        with self.in_use:
            self.actor = None

    def _end(self, actor: Any) -> None:
        """End an actor, and before it the worker process that it has."""
        with suppress(Exception):  # the node may be gone
            if self.placed:
                actor.stop.remote().future().result(STOPS_WITHIN)
        with suppress(Exception):
            ray.kill(actor)

    def _place(self, ended: threading.Event) -> bool:
        """Start the actor if there is none, and wait for its place. False when it is not wanted any more."""
        with self.starting:
            if self.placed or self.stopped:
                return not self.stopped
            self.actor = self.actor or self.start()
        placed = self.actor.ready.remote().future()
        self.placed = self._wait(placed, lambda: not (self.stopped or ended.is_set()))
        return bool(self.placed)

    def _wait(self, answer: "Future[Any]", goes_on: Callable[[], bool]) -> Any:
        """An actor's answer; None if `goes_on`, which is asked every now and then, says otherwise.

        Raises one of `DIED` when the actor has died, else FanfoldError.
        """
        try:
            while not answer.done() and goes_on():
                CONNECTION.check()
                with suppress(TimeoutError):
                    answer.exception(self.every)
            return answer.result() if answer.done() else None
        except RayTaskError as error:
            if isinstance(error.cause, FanfoldError):
                raise error.cause from None
            raise FanfoldError(f"The Ray node {error.ip} failed: {first_words(error)}\n{ADVICE}") from error
        except (*DIED, FanfoldError) as error:
            if getattr(error, "actor_init_failed", False):
                reason = str(error).strip().splitlines()[-1]  # below the traceback
                raise FanfoldError(f"A Ray node cannot start a worker: {reason}\n{ADVICE}") from error
            raise
        except RayError as error:
            raise FanfoldError(f"Ray cannot perform tasks: {first_words(error)}") from error
        except Exception as error:  # Ray Client raises more than RayErrors
            raise gone(error) from error


class _Poll:
    """Asks an actor for its progress, one question at a time, and passes the answers on."""

    def __init__(self, actor: Any, task: Task, progress: TaskProgress) -> None:
        self.actor, self.task, self.progress = actor, task, progress
        self.answer: Future[tuple[int, int]] | None = None

    def __call__(self) -> bool:
        if self.answer is None or self.answer.done():
            if self.answer and not self.answer.exception():
                self.progress(self.task.number, *self.answer.result())
            self.answer = self.actor.progress.remote().future()
        return True
