"""The Ray executor: one actor per worker, and in it one worker process.

    driver ── thread ──task──▶ NodeWorker (actor) ══pipe══ worker process      on some node of the cluster
                     ◀─────── progress, outcome

Ray places the actors, and asks an autoscaler for nodes while some have no place. It also says when one dies. The rest
is as on one machine: the driver hands out tasks, repeats those that were lost with their node, and commits.

Nothing here is durable. Ray ends the actors of a driver that dies, and the next driver starts from the receipts.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

from fanfold.core.executor import Size, TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.errors import UsageError
from fanfold.executors.fan_out import fan_out
from fanfold.executors.ray.connection import CONNECTION, alive
from fanfold.executors.ray.node import sample
from fanfold.executors.ray.worker import RemoteWorker
from fanfold.job import Job
from fanfold.source import Source


class Ray:
    """Runs tasks on a Ray cluster: one that exists, or one of this machine that is started for the run."""

    def __init__(
        self, address: str = "", workers: int | None = None, worker_cpus: int = 1, worker_gpus: float = 0
    ) -> None:
        self.address = address
        """`auto` or HOST:PORT from inside a cluster, ray://HOST:PORT from outside; empty to start one."""
        self.size = Size(workers, worker_cpus, worker_gpus)
        self.sample: list[dict[str, Any]] = []
        """Items that every node must be able to read."""
        if address not in ("", "auto") and not re.fullmatch(r"(ray://)?[^/\s]+:\d+", address):
            raise UsageError(
                f"'{address}' is not the address of a Ray cluster. "
                "Use --on ray, --on ray:auto, --on ray:HOST:PORT or --on ray://HOST:10001."
            )

    @classmethod
    def open(cls, where: str, size: Size) -> "Ray":
        """See `open_executor`."""
        address = f"ray:{where}" if where.startswith("//") else where
        return cls(address, size.workers, size.worker_cpus, size.worker_gpus)

    @property
    def workers(self) -> int:
        """The number asked for, else the number that the cluster has room for now. Raises what joining it raises."""
        if self.size.workers:
            return self.size.workers
        self._join()
        return self._room()

    def reach(self, job: Job, source: Source, database: str) -> Source:  # noqa: ARG002
        """See `Executor.reach`. Each node makes its own preflight check, at its first task: see `NodeWorker`."""
        self._join()
        if self.address or not CONNECTION.ours:  # else the only node is this machine
            try:
                self.sample = [asdict(item) for item in sample(job, source)]
            except BaseException:
                CONNECTION.leave()
                raise
        return source

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        """See `Executor.map`. Nodes that join the cluster during the run take part."""
        self._join()
        with CONNECTION.needed():
            count = self.workers
            workers = [RemoteWorker(run, self.size, count, self.sample) for _ in range(count)]
            yield from fan_out(workers, tasks, progress)

    def _join(self) -> None:
        """Connect to the cluster; start one if no address is given. A connection of the caller's is used as it is."""
        is_new = CONNECTION.join(self.address, (self.size.workers or 0) * self.size.worker_cpus)
        if is_new and not self.address:
            self._room()  # refuse a worker larger than this machine now

    def _room(self) -> int:
        """How many workers fit on the nodes of the cluster. Raises UsageError if none does."""
        if room := sum(self._fits(node["Resources"]) for node in alive()):
            return room
        CONNECTION.leave()
        each = f"{self.size.worker_cpus} CPUs" + (f" and {self.size.worker_gpus} GPUs" if self.size.worker_gpus else "")
        raise UsageError(
            f"No node of the Ray cluster has room for a worker with {each}. Use smaller workers (--worker-cpus, "
            "--worker-gpus). For a cluster that grows on demand, give the number of workers: --workers 8"
        )

    def _fits(self, resources: dict[str, Any]) -> int:
        """How many workers fit on a node with these resources."""
        rooms = [resources.get("CPU", 0) / self.size.worker_cpus]
        if self.size.worker_gpus:
            rooms.append(resources.get("GPU", 0) / self.size.worker_gpus)
        return int(min(rooms))
