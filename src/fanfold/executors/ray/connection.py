"""This process's connection to a Ray cluster. Ray allows one at a time, so all executors share it."""

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
from fanfold.job import required_extra
from fanfold.machine import cores

# Ray prints what happens to its nodes on the driver's stdout, whatever `log_to_driver` is; read when it is imported.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
# Seconds for a node to start: on a busy machine the default, 30, is not enough.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
try:
    import ray
except ModuleNotFoundError as error:
    raise required_extra(error, "ray", ("ray", "grpc"), "The executor 'ray'") from error

_PAUSES = (1.0, 5.0, None)  # seconds between two tries to connect
CONNECTS_WITHIN = 5.0
"""Seconds for a connection to the GCS, the cluster's control service."""
CHECK_EVERY = 5.0
"""Seconds between two checks of the GCS."""
GONE_AFTER = 0.75 * float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", 60))  # noqa: SIM112 - its name
"""Seconds that the GCS may be unreachable: it may come back. A little later Ray itself ends the driver's process (it
reads the same variable), without a helpful message."""


class Connection:
    """A connection to one cluster or none. A connection that the caller made is used as it is, and never ended."""

    def __init__(self) -> None:
        self.to: tuple[str, int] | None = None
        """The address, and the CPUs of a cluster that was started; None without a connection, or if it is the
        caller's."""
        self.runs = 0
        self.lock = threading.Lock()
        self.checking = threading.Lock()
        self.checked = self.answered = 0.0
        """When the GCS was last asked, and when it last answered (s, monotonic)."""
        self.lost = False
        """Whether the GCS has not answered for too long."""

    @property
    def ours(self) -> bool:
        """Whether an executor made it."""
        return self.to is not None

    def join(self, address: str, cpus: int) -> bool:
        """Connect to a cluster; without an address, to a new one of this machine with room for so many CPUs.

        Returns whether the connection is a new one. Raises FanfoldError if there is no such cluster, UsageError while
        a run uses another one.
        """
        wanted = (address, 0 if address else max(cores(), cpus))
        with self.lock:
            if ray.is_initialized():
                if self.to in (None, wanted):
                    return False
                self._leave_for(wanted[0])
            _init(*wanted)
            self.to = wanted
            return True

    def _leave_for(self, wanted: str) -> None:
        """End the connection of a run that never began."""
        if self.runs:
            raise UsageError(
                f"This process has a run in progress on {_named(self.to)}, and Ray allows one cluster at a time. "
                f"Start the run on {_named((wanted, 0))} after it, or in another process."
            )
        self._end()

    def leave(self) -> None:
        """End the connection if it is ours and no run needs it, and with it a cluster that was started for it."""
        with self.lock:
            if self.ours and not self.runs:
                self._end()

    def _end(self) -> None:
        self.to = None
        ray.shutdown()

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Keep the connection while the block runs, and leave it afterwards."""
        self.runs += 1
        self.checked = self.answered = time.monotonic()
        self.lost = False
        try:
            yield
        finally:
            self.runs -= 1
            self.leave()

    def check(self) -> None:
        """Raise FanfoldError if the GCS has not been reachable for a while. Cheap: asks every few seconds only.

        Ray Client notices by itself, and raises ConnectionError.
        """
        if self.lost:
            raise gone(ConnectionError("its GCS cannot be reached"))
        if time.monotonic() - self.checked < CHECK_EVERY or not self.checking.acquire(blocking=False):
            return
        try:
            self.checked = time.monotonic()
            if ray.util.client.ray.is_connected() or _is_reachable(ray.get_runtime_context().gcs_address):
                self.answered = time.monotonic()
            self.lost = time.monotonic() - self.answered > GONE_AFTER
        finally:
            self.checking.release()


CONNECTION = Connection()


def gone(error: BaseException) -> FanfoldError:
    """The error for a cluster that does not answer any more."""
    why = f" ({words})" if (words := first_words(error)) else ""
    return FanfoldError(f"The Ray cluster is gone{why}. Run the same command again: finished work is kept.")


def first_words(error: BaseException) -> str:
    """The beginning of one of Ray's errors, which are often a page long."""
    return " ".join(str(error).split())[:300]


def alive() -> list[dict[str, Any]]:
    """The nodes that are alive; see `ray.nodes`."""
    return [node for node in ray.nodes() if node["Alive"]]


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECTS_WITHIN).close()
    except OSError:
        return False
    return True


def _init(address: str, cpus: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    environment: dict[str, str] = {}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 100 << 20}
        # Modules are found there as they are here; nothing about the run is sent to anybody.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_USAGE_STATS_ENABLED": "0"}
    with _settings(environment):
        try:
            _connect(address or "local", **options)
        except Exception as error:  # Ray raises many kinds, and bare ones
            raise FanfoldError(_unreachable(address, error)) from error


def _connect(address: str, **options: Any) -> None:
    """`ray.init`, repeated while the cluster is too slow to start a process for one more Ray Client."""
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
    why = first_words(error)
    if not address:
        return f"A Ray cluster cannot be started on this machine: {why}"
    hint = "Is it up, and is its port open from here?" if "://" in address else "Is this one of its machines?"
    return f"Cannot join the Ray cluster {address}: {why} {hint} Run `ray status` there to see."


@contextmanager
def _settings(environment: dict[str, str]) -> Iterator[None]:
    """Set variables while Ray starts, and put back its SIGTERM handler afterwards: Ray replaces it."""
    handler, before = signal.getsignal(signal.SIGTERM), dict(os.environ)
    os.environ.update(environment)
    try:
        with warnings.catch_warnings():
            # What Ray forks becomes another program at once.
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            yield
    finally:
        for name in environment:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in environment.keys() & before.keys()})
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
