"""Ray clusters for tests: of a single node, shared by the tests of a file, and of several nodes on loopback."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

# Without the first, several nodes on one machine wait for each other for ever; Ray reads it when it is imported.
# The last is for nodes that are started one by one: since 2.59 local clusters have a token, each its own.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

import ray_node
from fanfold.executors.ray import At, Board, Ray
from faults import MOMENTS, Driver, signs, wait_for

HERE = Path(__file__).parent
ITEMS = 72
TASK = 6  # items
OURS = {"FANFOLD_TEST_CLUSTER": str(os.getpid())}
"""In the environment of all processes that this one starts, those of its clusters included."""

os.environ |= OURS


def on_ray(workers: int) -> Ray:
    """An executor that uses this process's cluster; that is started for the first one, and ended by `end`."""
    if not ray.is_initialized():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
            patch.setattr(*ray_node.BARE)
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return Ray(workers=workers)


@contextmanager
def several(nodes: int, **head: object) -> Iterator[Cluster]:
    """A cluster of so many nodes of one CPU on loopback, whose workers find the tests' jobs; the first has options.

    Without a dashboard they are as if `ray[default]` were not installed: they start in two thirds of the time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
        if not head.get("include_dashboard"):
            patch.setattr(*ray_node.BARE)
        cluster = Cluster()
        try:
            add(cluster, **head)
            for _ in range(nodes - 1):
                add(cluster)
            yield cluster
        finally:
            cluster.shutdown()


def add(cluster: Cluster, **options: object) -> Node:
    """Another node."""
    return cluster.add_node(**{"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False, **options})


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """This process as a driver on a cluster."""
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


class Deaf(Board):
    """A board that cannot be reached, once, while a hand is at a task."""

    failed = False

    def beat(self, hand: str, at: At) -> bool:
        """Fail when the first items of a task are done."""
        if at[2] and not self.failed:
            self.failed = True
            raise ConnectionError("told to fail")
        return super().beat(hand, at)


def kill(cluster: Cluster, node: Node) -> None:
    """End a node as a Spot machine ends: at once."""
    (raylet,) = node.all_processes["raylet"]
    raylet.process.kill()
    raylet.process.wait()  # Ray's worker processes take one that nobody has waited for to be alive, and stay
    cluster.worker_nodes.remove(node)


@contextmanager
def stranger(cluster: Cluster, folder: Path, path: str = "", **variables: str) -> Iterator[None]:
    """A node that has another file system where this machine has `folder`, `path` before all else to import, and
    other variables in its environment."""
    mount = f"mount -t tmpfs none {folder} && exec {sys.executable} {HERE}/ray_node.py {cluster.address}"
    environment = os.environ | variables
    if path:
        environment["PYTHONPATH"] = path
    before = len(ray_nodes(cluster))
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mount],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(ray_nodes(cluster)) > before, 120)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: len(ray_nodes(cluster)) == before, 120)


def ray_nodes(cluster: Cluster) -> list[object]:
    """The nodes that are alive."""
    return [node for node in cluster.global_state.node_table() if node["Alive"]]


def busy() -> list[psutil.Process]:
    """The Ray worker processes that are still an actor of ours, or at a task; idle ones Ray keeps for whoever comes."""
    return [process for name in ("Board", "Deaf", "perform", "missing") for process in titled(f"ray::{name}")]


def titled(name: str) -> Iterator[psutil.Process]:
    """The processes of this one's clusters whose title begins so."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(name) and OURS.items() <= process.environ().items():
                yield process


def wait_for_receipts(driver: Driver, count: int) -> None:
    """Wait until so many tasks are done."""
    wait_for(lambda: driver.process.poll() is not None or done(driver.database) >= count, 240)
    assert driver.process.poll() is None, driver.end(240)


def done(database: str) -> int:
    """How many tasks are done."""
    return len(signs(database, MOMENTS["receipt"]))
