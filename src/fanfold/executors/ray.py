"""The executor on Ray: a Ray task per manifest, performed by a worker process that each of Ray's own keeps at hand.

    driver ──task──▶ Ray worker process ══ hand ══ worker process      on this node or that; see `hand.py`
       ▲                   │ every now and then: how far it is;
       │                   ▼ and back: whether the run goes on
       └─ how far all are ─ board                                      an actor that needs no core

Tasks rather than actors: those that wait make an autoscaler add nodes, and those whose node dies are performed again
elsewhere, by Ray itself. The worker process stays when its task ends, so that a model is loaded once; the board is how
the driver learns that the last one has gone. A board that dies is started anew by Ray; it holds nothing that the hands
do not say again. What must be remembered, such as how often a task was cut off, is the driver's to remember.

Nothing here is durable. A driver that dies takes its board with it, hands that find no board stop, and the next driver
starts from the receipts.
"""

import functools
import os
import queue
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fanfold.errors import FanfoldError, StorageError, UsageError
from fanfold.executors import Size, TaskProgress, memory
from fanfold.executors.cluster import CONNECTION, DIED, alive, answers
from fanfold.executors.hand import Hand
from fanfold.job import Job
from fanfold.runs import Outcome, RunDirectory, Task
from fanfold.source import Source

# isort: split
import ray  # after `cluster`, which says what to install when it is absent
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskCancelledError

RETRIES = 3
"""Times that Ray performs a task again whose node or Ray worker process has died, before it counts as crashed."""
SILENT = 5.0
"""Seconds between two looks at whether the cluster's centre, its GCS, is still there."""
GONE_AFTER = 0.75 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", 60))  # noqa: SIM112 - its name
"""Seconds for which it may be out of reach: it may come back. Ray itself ends the driver's process a little later (it
reads the same variable), without a word that helps."""
GONE_WITHIN = 10.0
"""Seconds that hands have for going, once told."""
DEAD_AFTER = 5.0
"""Seconds after which a silent hand counts as dead."""
HOPELESS = "its node was lost, or ran out of memory, again and again"


Attempt = tuple[int, int]
"""A task's number, and the number of the attempt at it."""
At = tuple[int, int, int, int]
"""What a hand is at: the same, and how many of the items are done, and how many have failed."""


class Ray:
    """Runs tasks on a Ray cluster: of this machine, started for the run, or one there is."""

    def __init__(
        self, address: str = "", workers: int | None = None, worker_cpus: int = 1, worker_gpus: float = 0
    ) -> None:
        self.address = address
        """`auto` or HOST:PORT from inside a cluster, ray://HOST:PORT from outside; empty to start one."""
        self.size = Size(workers, worker_cpus, worker_gpus)
        if address not in ("", "auto") and not re.fullmatch(r"(ray://)?[^/\s]+:\d+", address):
            raise UsageError(f"'{address}' is no Ray cluster. Use --on ray, --on ray://HOST:10001 or --on ray:auto.")

    @classmethod
    def open(cls, where: str, size: Size) -> "Ray":
        """See `open_executor`."""
        address = f"ray:{where}" if where.startswith("//") else where
        return cls(address, size.workers, size.worker_cpus, size.worker_gpus)

    @property
    def workers(self) -> int:
        """As many as asked for, or as the cluster has room for now. Raises what joining the cluster raises."""
        if self.size.workers:
            return self.size.workers
        self._join()
        return self._room()

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """See `Executor.reach`. Every node is asked; raises FanfoldError when there is no such cluster."""
        self._join()
        try:
            if self.address or not CONNECTION.ours:  # else the only node is this machine
                self._check(job, source, database)
        except BaseException:
            CONNECTION.leave()
            raise
        return source

    def _check(self, job: Job, source: Source, database: str) -> None:
        from fanfold.executors import reach

        nodes = alive()
        reach.check([node for node in nodes if self._fits(node)] or nodes, job, source, database)

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`. Nodes that join the cluster meanwhile take part."""
        self._join()
        with CONNECTION.needed():
            yield from _Fan(run, self.size, self.workers).out(tasks, progress)

    def _join(self) -> None:
        """Be connected, to a cluster of our own if none is named. A connection of the caller's is used as it is."""
        made = CONNECTION.join(self.address, (self.size.workers or 0) * self.size.worker_cpus)
        if made and not self.address:
            self._room()  # a worker larger than this machine is refused at once

    def _room(self) -> int:
        """How many workers fit on the nodes of the cluster joined. Raises UsageError if none does."""
        if room := sum(self._fits(node) for node in alive()):
            return room
        CONNECTION.leave()
        each = f"{self.size.worker_cpus} CPUs" + (f" and {self.size.worker_gpus} GPUs" if self.size.worker_gpus else "")
        raise UsageError(
            f"No node of the Ray cluster has room for a worker with {each}. Ask for smaller ones with --worker-cpus "
            "and --worker-gpus; of a cluster that grows, say how many workers there shall be: --workers 8"
        )

    def _fits(self, node: dict[str, Any]) -> int:
        """How many workers fit on a node."""
        has, size = node["Resources"], self.size
        rooms = [has.get("CPU", 0) / size.worker_cpus]
        if size.worker_gpus:
            rooms.append(has.get("GPU", 0) / size.worker_gpus)
        return int(min(rooms))


class _Fan:
    """The driver's side of one run: hands tasks to Ray, and collects what becomes of them."""

    def __init__(self, run: RunDirectory, size: Size, workers: int) -> None:
        self.every = max(0.25, workers / 1000)  # seconds: a board hears a thousand hands a quarter of a second each
        board = ray.remote(Board).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        self.board: Any = board.remote()
        self.token = secrets.token_hex(8)
        options = {"num_cpus": size.worker_cpus, "num_gpus": size.worker_gpus, "max_retries": RETRIES}
        # Unless told otherwise, Ray ends a process after one task that used a GPU.
        self.perform = ray.remote(max_calls=0)(perform).options(**options)
        self.run = (run.database, run.id, size.worker_cpus, self.token)
        self.free = threading.Semaphore(workers)
        self.under_way: dict[Any, Task] = {}
        self.tried: defaultdict[Attempt, set[str]] = defaultdict(set)
        """The Ray worker processes that were seen at it."""
        self.results: queue.Queue[Any] = queue.Queue()
        self.stopped = False
        self.lock = threading.Lock()

    def out(self, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`."""
        threading.Thread(target=self._submit, args=(tasks,), name="fanfold-submit", daemon=True).start()
        listener = threading.Thread(target=self._listen, args=(progress,), name="fanfold-listen", daemon=True)
        listener.start()
        more = True
        try:
            while more or self.under_way:
                match self.results.get():
                    case None:
                        more = False
                    case BaseException() as error:
                        raise error
                    case ref:
                        yield self._outcome(ref)
        finally:
            self._stop()
            # Whoever asks Ray for anything once the connection has ended, ends the process: Ray sees to that.
            listener.join(GONE_WITHIN)

    def _submit(self, tasks: Iterator[Task]) -> None:
        """Take tasks while there are workers for them, and give them to Ray."""
        try:
            for _, task in zip(self._places(), tasks, strict=False):  # no task is taken before there is a place for it
                with self.lock:
                    if self.stopped:
                        return
                    ref = self.perform.remote(*self.run, self.board, self.every, asdict(task))
                    self.under_way[ref] = task
                    ref.future().add_done_callback(functools.partial(self._ended, ref))
            self.results.put(None)
        except BaseException as error:
            self.results.put(error)

    def _places(self) -> Iterator[None]:
        """A place for a task, whenever there is one, until the end."""
        while self.free.acquire() and not self.stopped:
            yield

    def _ended(self, ref: Any, _future: object) -> None:
        self.results.put(ref)

    def _outcome(self, ref: Any) -> Outcome:
        """What became of a task. Raises FanfoldError for what no task survives."""
        with self.lock:  # no news of a task comes after its outcome
            task = self.under_way.pop(ref)
            hopeless = len(self.tried.pop((task.number, task.attempt), ())) > RETRIES + 1
        self.free.release()
        try:
            return Outcome(**ray.get(ref))
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, FanfoldError) else FanfoldError(_said(error)) from None
        except (*DIED, TaskCancelledError) as error:  # again and again
            now, why = time.time(), HOPELESS if hopeless else _said(error)
            return Outcome(task.number, task.attempt, task.items, "crashed", started=now, ended=now, error=why)
        except RayError as error:  # nothing that other items, or fewer of them, would change
            raise FanfoldError(f"Ray cannot perform tasks: {_said(error)}") from error
        except ConnectionError as error:
            raise _lost(error) from error

    def _listen(self, progress: TaskProgress) -> None:
        """Pass on what the board says, until the end; tell the driver if there is nobody to ask any more."""
        seen = looked = time.monotonic()
        while not self.stopped:
            try:
                with suppress(GetTimeoutError):
                    self._tell(ray.get(self.board.news.remote(), timeout=SILENT), progress)
                if time.monotonic() - looked >= SILENT:
                    looked = time.monotonic()
                    seen = looked if answers() else seen
                    if looked - seen > GONE_AFTER:
                        raise ConnectionError("its GCS cannot be reached")
            except Exception as error:  # Ray Client raises more than RayErrors
                self.results.put(_lost(error))
                return
            time.sleep(self.every)

    def _tell(self, news: "list[tuple[str, At]]", progress: TaskProgress) -> None:
        """Pass on how far tasks are, and give those up that took one Ray worker process after the other with them.

        Ray counts the times that a node dies on a task, but not those that it runs out of memory.
        """
        with self.lock:
            under_way = {(task.number, task.attempt): ref for ref, task in self.under_way.items()}
            for process, (number, attempt, ok, failed) in news:
                if (number, attempt) in under_way:
                    self.tried[number, attempt].add(process)
                    progress(number, ok, failed)
            hopeless = [under_way[task] for task, seen in self.tried.items() if len(seen) > RETRIES + 1]
        for ref in hopeless:
            with suppress(RayError, ValueError):  # it is tried again soon; a cluster that is gone is noticed elsewhere
                ray.cancel(ref, force=True)

    def _stop(self) -> None:
        """End all work at once: hands first, then what waits for a place."""
        with self.lock:
            self.stopped = True
        self.free.release()  # whoever waits for a place shall see it
        cancel = [functools.partial(ray.cancel, ref, force=True) for ref in self.under_way]
        steps: list[Callable[[], object]] = [self._end_hands, *cancel, functools.partial(ray.kill, self.board)]
        for step in steps:
            with suppress(Exception):  # each for itself: a board that is silent keeps nobody at work
                step()

    def _end_hands(self) -> None:
        ray.get(self.board.end.remote(), timeout=GONE_WITHIN)
        deadline = time.monotonic() + GONE_WITHIN
        while time.monotonic() < deadline and ray.get(self.board.hands.remote(), timeout=GONE_WITHIN):
            time.sleep(0.02)


def _lost(error: BaseException) -> FanfoldError:
    said = f" ({said})" if (said := _said(error)) else ""
    return FanfoldError(f"The Ray cluster is gone{said}. What is done is kept: the same command goes on from here.")


def _said(error: BaseException) -> str:
    """The first lines of an error of Ray's, which are often a page."""
    return " ".join(str(error).split())[:300]


class Board:
    """An actor: where hands say how far their tasks are, and hear whether the run goes on."""

    def __init__(self) -> None:
        self.heard: dict[str, tuple[float, At]] = {}
        """Hand -> when it was last heard of (s, this process's clock), and what it said."""
        self.ended = False

    def beat(self, hand: str, at: At) -> bool:
        """Note how far a hand's task is. Whether the run goes on."""
        if not self.ended:
            self.heard[hand] = (time.monotonic(), at)
        return not self.ended

    def leave(self, hand: str) -> None:
        """Note that a hand has stopped."""
        self.heard.pop(hand, None)

    def news(self) -> list[tuple[str, At]]:
        """What every hand is at."""
        return [(hand, at) for hand, (_, at) in self._there().items()]

    def end(self) -> None:
        """From now on, whoever asks shall stop."""
        self.ended = True

    def hands(self) -> int:
        """How many hands there are."""
        return len(self._there())

    def _there(self) -> dict[str, tuple[float, At]]:
        """What hands said last; those that are silent have died with their node."""
        now = time.monotonic()
        self.heard = {hand: said for hand, said in self.heard.items() if now - said[0] < DEAD_AFTER}
        return self.heard


def _cpus_here() -> float:
    """The CPUs that Ray has to give on this node: not always as many as there are."""
    here = ray.get_runtime_context().get_node_id()
    return next((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["NodeID"] == here), 0.0)


_IDLE = (-1, 0, 0, 0)
"""What a hand is at that has no task."""


class _Post:
    """What a Ray worker process keeps from one task to the next: a hand, and a thread that talks to the board."""

    def __init__(self, database: str, run: str, cpus: int, board: Any, every: float) -> None:
        self.hand = Hand(database, run, cpus)
        self.board, self.every = board, every
        self.share = cpus / max(cpus, _cpus_here())
        self.at = _IDLE
        self.at_work = False

    def perform(self, task: Task) -> Outcome | None:
        """Have a task performed, unless the board says otherwise; nothing if the hand was stopped meanwhile."""
        self.at = (task.number, task.attempt, 0, 0)
        # Not `ray.get`: a task that waits in it lends its core to another one.
        if not self.board.beat.remote(_HERE, self.at).future().result():
            raise FanfoldError("The run was stopped.")
        if not self.at_work:
            self.at_work = True
            for what in (self._talk, self._guard):
                threading.Thread(target=what, name=f"fanfold-{what.__name__[1:]}", daemon=True).start()
        try:
            outcome = self.hand.perform(task, self._watch)
            return None if self.hand.stopped and outcome.status == "crashed" else outcome
        except FanfoldError as error:
            if self.hand.stopped:
                return None
            raise _there(error, ray.util.get_node_ip_address()) from None
        finally:
            self.at = _IDLE

    def stop(self) -> None:
        """End the worker process."""
        self.hand.stop()

    def _watch(self, _task: int, ok: int, failed: int) -> None:
        self.at = (*self.at[:2], ok, failed)

    def _talk(self) -> None:
        """Tell the board how far the task is, until it says that the run has ended, or is gone with its driver."""
        with suppress(Exception):
            while not self.hand.stopped and ray.get(self.board.beat.remote(_HERE, self.at)):
                time.sleep(self.every)
        self.hand.stop()
        with suppress(Exception):
            ray.get(self.board.leave.remote(_HERE))

    def _guard(self) -> None:
        """End the hand's worker when it has too much of the node's memory; it counts as crashed, and is replaced."""
        while not self.hand.stopped:
            if (process := self.hand.process) and (why := memory.complaint(process.pid, self.share)):
                self.hand.abort(why)
            time.sleep(memory.EVERY)


_HERE = secrets.token_hex(8)
"""This process's name, to the board: addresses and numbers of processes come again when a node is replaced."""
_posts: dict[tuple[Any, ...], _Post] = {}
"""The post of this Ray worker process, by what it is for: one at most."""


def perform(
    database: str, run: str, cpus: int, token: str, board: Any, every: float, task: dict[str, Any]
) -> dict[str, Any]:
    """What Ray runs, on some node: perform a task, by the hand that is there or a new one."""
    wanted = (database, run, cpus, token, os.environ.get("CUDA_VISIBLE_DEVICES"))
    while True:
        # A hand stops whose board is not to be reached; that does not mean that the run has ended. The board tells.
        if wanted not in _posts or _posts[wanted].hand.stopped:
            while _posts:
                _posts.popitem()[1].stop()
            _posts[wanted] = _Post(database, run, cpus, board, every)
        if outcome := _posts[wanted].perform(Task(**task)):
            return asdict(outcome)


def _there(error: FanfoldError, node: str) -> FanfoldError:
    """An error that says on which node it happened."""
    kind = next(kind for kind in (StorageError, UsageError, FanfoldError) if isinstance(error, kind))
    return kind(f"On the Ray node {node}: {error}")
