"""This process's connection to a Ray cluster. Ray knows one at a time, so that all its executors share it."""

import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fanfold.errors import FanfoldError, UsageError
from fanfold.executors.local import cores
from fanfold.job import required_extra

# Ray prints what befalls its nodes on the driver's stdout, whatever `log_to_driver` says; read when it is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
try:
    import ray
    from ray import exceptions
except ModuleNotFoundError as error:
    raise required_extra(error, "ray", ("ray", "grpc"), "The executor 'ray'") from error

DIED = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)
"""What Ray says of a task whose process or node has died."""
_PAUSES = (1.0, 5.0, None)  # seconds between two tries to connect
CONNECTS_WITHIN = 5.0
"""Seconds that a cluster's centre has for being connected to."""


class Connection:
    """To one cluster or none. One that the caller made is used as it is, and never ended."""

    def __init__(self) -> None:
        self.to: tuple[str, int] | None = None
        """The address, and the CPUs of a cluster that was started; None if there is none, or it is the caller's."""
        self.runs = 0
        self.lock = threading.Lock()

    @property
    def ours(self) -> bool:
        """Whether it is one that executors made."""
        return self.to is not None

    def join(self, address: str, cpus: int) -> bool:
        """Be connected to a cluster; without an address, to one of our own with room for so many CPUs.

        Whether the connection is a new one.

        Raises FanfoldError when that cannot be, UsageError while runs are under way on another cluster.
        """
        wanted = (address, 0 if address else max(cores(), cpus))
        with self.lock:
            if ray.is_initialized():
                if self.to in (None, wanted):
                    return False
                self._part(wanted[0])
            _init(*wanted)
            self.to = wanted
            return True

    def _part(self, wanted: str) -> None:
        """Leave the cluster that a run that never began was to use."""
        if self.runs:
            raise UsageError(
                f"This process has a run under way on {_named(self.to)}, and Ray knows one cluster at a time: "
                f"start the one on {_named((wanted, 0))} when that has ended, or from another process."
            )
        self._end()

    def leave(self) -> None:
        """End the connection, if it is ours and no run needs it, and with it a cluster that was started."""
        with self.lock:
            if self.ours and not self.runs:
                self._end()

    def _end(self) -> None:
        self.to = None
        ray.shutdown()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """It stays for as long as this lasts."""
        self.runs += 1
        try:
            yield
        finally:
            self.runs -= 1
            self.leave()


CONNECTION = Connection()


def _init(address: str, cpus: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    environment: dict[str, str] = {}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 100 << 20}
        # Modules are found there as they are here; nothing about the run is told to anybody.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0"}
    with _settings(environment):
        try:
            _connect(address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            raise FanfoldError(_unreachable(address, error)) from error


def _connect(address: str, **options: Any) -> None:
    """`ray.init`, tried again where a cluster is there but does not get a process ready for one more Ray Client."""
    for pause in _PAUSES:
        try:
            ray.init(address, **options)
            return
        except ConnectionAbortedError:
            if pause is None:
                raise
            time.sleep(pause)


def _named(to: tuple[str, int] | None) -> str:
    return f"the Ray cluster {to[0]}" if to and to[0] else "a Ray cluster of its own"


def _unreachable(address: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:300]
    if not address:
        return f"A Ray cluster cannot be started on this machine: {said}"
    hint = "Is it up, and is its port open from here?" if "://" in address else "Is this one of its machines?"
    return f"Cannot join the Ray cluster {address}: {said} {hint} `ray status`, run there, tells."


@contextmanager
def _settings(environment: dict[str, str]) -> Iterator[None]:
    """This process's environment while Ray starts. Its SIGTERM, too, is afterwards what it was: Ray takes it."""
    handler, before = signal.getsignal(signal.SIGTERM), dict(os.environ)
    os.environ.update(environment)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "lance is not fork-safe"
            )  # what Ray forks becomes another program at once
            yield
    finally:
        for name in environment:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in environment.keys() & before.keys()})
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def alive() -> list[dict[str, Any]]:
    """The nodes that are alive; see `ray.nodes`."""
    return [node for node in ray.nodes() if node["Alive"]]


def answers() -> bool:
    """Whether the cluster's GCS, its centre, can be connected to. Ray Client notices by itself, and says so."""
    if ray.util.client.ray.is_connected():
        return True
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECTS_WITHIN).close()
    except OSError:
        return False
    return True
