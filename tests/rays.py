"""Ray clusters for tests: nodes on loopback, and what happens to them."""

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

# Without the first, several nodes on one machine wait for each other for ever; Ray reads it at its import. The last is
# for nodes that are started one by one: since 2.59 local clusters have a token, each its own.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - its name

import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster

import ray_node
from fanfold.executors.ray import Ray
from faults import MOMENTS, Driver, drive, signs, wait_for

HERE = Path(__file__).parent
ROOT = HERE.parent
ITEMS = 72
TASK = 6  # items
OURS = {"FANFOLD_TEST_CLUSTER": str(os.getpid())}
"""A mark in the environment of all processes that this one starts, including those of its clusters."""

os.environ |= OURS


def on_ray(cluster: Cluster, workers: int) -> Ray:
    """An executor on a cluster that this process has joined, or joins now; the end of the test file leaves it."""
    if not ray.is_initialized():
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    return Ray("auto", workers=workers)


@contextmanager
def several(nodes: int, **head: object) -> Iterator[Cluster]:
    """A cluster of this many one-CPU nodes on loopback, whose workers find the tests' jobs; the first has options."""
    cluster = Cluster()
    try:
        add(cluster, **head)
        for _ in range(nodes - 1):
            add(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add(cluster: Cluster, **options: object) -> Node:
    """Add another node.

    Without a dashboard it starts as if `ray[default]` were not installed, and without processes that only
    autoscalers, logs and dashboards need: in half of the time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        if cluster.head_node or options.get("ray_client_server_port") or options.get("num_cpus") == 0:
            patch.setenv("RAY_health_check_period_ms", "500")  # a dead node is noticed after five
        if not options.get("include_dashboard"):
            patch.setattr(*ray_node.BARE)
            patch.setattr(Node, "start_api_server", lambda *_, **__: None)
            options = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True, **options}
        return cluster.add_node(**{"num_cpus": 1, "node_ip_address": "127.0.0.1", **options})


@contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Join a cluster with this process as a driver."""
    ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def client_address(cluster: Cluster) -> str:
    """The address of a cluster for Ray Client."""
    return f"ray://127.0.0.1:{cluster.head_node._ray_params.ray_client_server_port}"


def kill(cluster: Cluster, node: Node) -> None:
    """End a node at once, like a Spot machine."""
    (raylet,) = node.all_processes["raylet"]
    raylet.process.kill()
    raylet.process.wait()  # without this, Ray's worker processes consider it alive, and stay
    cluster.worker_nodes.remove(node)


@contextmanager
def stranger(cluster: Cluster, folder: Path, path: str = "", **variables: str) -> Iterator[None]:
    """A node with another file system in place of `folder`, `path` first on its import path, and other environment
    variables."""
    mount = f"mount -t tmpfs none {folder} && exec {sys.executable} {HERE}/ray_node.py {cluster.address}"
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(HERE)]))}
    before = len(ray_nodes(cluster))
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mount],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len(ray_nodes(cluster)) > before)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: len(ray_nodes(cluster)) == before)


def ray_nodes(cluster: Cluster) -> list[object]:
    """The nodes that are alive."""
    return [node for node in cluster.global_state.node_table() if node["Alive"]]


def busy() -> list[psutil.Process]:
    """The Ray worker processes that are still an actor of this process."""
    return [*titled("ray::NodeWorker")]


def titled(name: str) -> Iterator[psutil.Process]:
    """The processes of this one's clusters whose title begins like this."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(name) and OURS.items() <= process.environ().items():
                yield process


def rerun(source: Path | str, database: Path | str, on: str, **options: object) -> tuple[int, str, str]:
    """A whole run in a separate process: exit code, stdout, stderr."""
    return drive(source, str(database), on=on, **{"workers": None, **options}).end(240)


def wait_for_receipts(driver: Driver, count: int) -> None:
    """Wait until this many tasks are done."""
    wait_for(lambda: driver.process.poll() is not None or done(driver.database) >= count)
    assert driver.process.poll() is None, driver.end(240)


def done(database: str) -> int:
    """The number of finished tasks."""
    return len(signs(database, MOMENTS["receipt"]))
