"""Ray clusters of several nodes: killed processes, unreachable paths and leftovers."""

import json
import re
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import fanfold
import rays
from fanfold import FanfoldError, UsageError
from fanfold.core.executor import Size, TaskProgress
from fanfold.core.runs import Outcome, RunDirectory, Task
from fanfold.executors import open_executor
from fanfold.executors.fan_out import fan_out
from fanfold.executors.ray import Ray
from fanfold.executors.ray.node import NodeWorker
from fanfold.executors.ray.worker import RemoteWorker
from faults import TABLE, Driver, assert_clean, assert_no_workers, drive, fill, once, settle, wait_for
from helpers import begun, ignore, tasks_of, workers_of
from jobs import Marked, Scripted
from rays import ITEMS, TASK


def driven(source: Path, database: str, cluster: Cluster, receipts: int) -> Driver:
    """A driver in a separate process, whose run on the whole cluster has this many receipts."""
    fill(source, ITEMS)
    driver = drive(source, database, on=f"ray:{cluster.address}", workers=None, task_size=TASK, pause=0.1)
    rays.wait_for_receipts(driver, receipts)
    return driver


def test_a_node_dies(three: Cluster, tmp_path: Path, database: str) -> None:
    """A run survives a dead node: Ray performs its tasks elsewhere, and nothing is lost, done twice or printed."""
    driver = driven(tmp_path / "source", database, three, receipts=2)
    rays.kill(three, next(iter(three.worker_nodes)))
    code, out, err = driver.end(240)
    report = json.loads(out)
    assert (code, report["listed"], report["ok"] + report["failed"], report["lost"]) == (3, ITEMS, ITEMS, 0)
    assert all(line.startswith("task ") for line in err.splitlines()), err
    assert_no_workers(database)
    again = settle(tmp_path / "source", database)
    assert (again.unchanged, again.ok) == (report["ok"], 0)
    assert_clean(database)


def test_a_node_dies_and_then_the_driver(three: Cluster, tmp_path: Path, database: str) -> None:
    """A driver that dies takes its workers on all nodes with it; a rerun on the same cluster does the rest."""
    driver = driven(tmp_path / "source", database, three, receipts=2)
    rays.kill(three, next(iter(three.worker_nodes)))
    rays.wait_for_receipts(driver, rays.done(database) + 3)
    driver.kill()
    assert_no_workers(database)
    wait_for(lambda: not rays.busy())
    kept = rays.done(database)
    run = fanfold.run(Scripted(), source=str(tmp_path / "source"), database=database, executor=Ray(three.address))
    for _ in run:
        pass
    report = settle(tmp_path / "source", database)
    assert (report.ok, 3 <= kept < ITEMS // TASK) == (0, True)
    assert_clean(database)


def test_a_cluster_that_was_joined_is_left_as_it_was(three: Cluster, texts: Path, database: str) -> None:
    """A run leaves no process and no actor on the nodes, and the next run works as well."""
    code, out, err = rays.rerun(texts, f"{database}-1", f"ray:{three.address}", workers=2)
    assert (code, json.loads(out)["ok"], err.count("\n")) == (0, 40, 8)
    assert_no_workers(f"{database}-1", within=0.5)
    wait_for(lambda: not rays.busy())
    run = fanfold.run(Scripted(), source=str(texts), database=f"{database}-2", executor=Ray(three.address, workers=2))
    assert sum(outcome.ok for outcome in run) == 40
    assert_no_workers(f"{database}-2", within=0.5)
    wait_for(lambda: not rays.busy())
    assert len(rays.ray_nodes(three)) == 3


def test_by_ray_client(three: Cluster, texts: Path, database: str) -> None:
    """A run through Ray Client, from outside the cluster, works the same, and so does a worker's error at its start."""
    address = rays.client_address(three)
    code, out, err = rays.rerun(texts, database, address, task_size=10)
    assert (code, json.loads(out)["ok"]) == (0, 40)
    assert sum(map(int, re.findall(r"(\d+) ok, 0 failed", err))) == 40
    assert_no_workers(database, within=0.5)
    settle(texts, database)
    job = Scripted(open_error="no model")
    with pytest.raises(FanfoldError, match=r"^On the Ray node 127\.0\.0\.1: no model$"):
        list(fanfold.run(job, source=str(texts), database=f"{database}-other", executor=Ray(address, workers=1)))
    wait_for(lambda: not rays.busy())


def test_a_worker_process_loads_its_model_once(three: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A worker process opens the job once for any number of tasks, and stays for the next task."""
    job = Marked(marks=str(tmp_path / "marks"))
    with rays.joined(three):
        run = fanfold.run(job, source=str(texts), database=database, executor=Ray("auto", workers=2), task_size=4)
        assert len(list(run)) == 10
    opened = (tmp_path / "marks").read_text().split()
    assert 1 <= len(opened) == len(set(opened)) <= 3


class Nowhere(Ray):
    """Ray with a worker that belongs on a node that there is not."""

    def map(self, run: RunDirectory, tasks: Iterator[Task], progress: TaskProgress) -> Generator[Outcome, None, None]:
        worker = RemoteWorker(run, self.size, 1, [])
        strategy = NodeAffinitySchedulingStrategy("e" * 56, soft=False)
        remote = ray.remote(NodeWorker).options(scheduling_strategy=strategy)
        worker.start = lambda: remote.remote("", run.database, run.id, 1, [])
        yield from fan_out([worker], tasks, progress)


def test_what_no_task_could_survive(three: Cluster, tmp_path: Path, database: str) -> None:
    """If Ray cannot start a worker for reasons of its own, the run ends, and the items are not blamed."""
    fill(tmp_path / "source", 4, failing=99)
    with rays.joined(three):
        run = fanfold.run(Scripted(), source=str(tmp_path / "source"), database=database, executor=Nowhere("auto", 1))
        with pytest.raises(FanfoldError, match="Ray cannot"):
            list(run)
    assert (once(database, TABLE), once(database, "failures")) == ({}, {})
    assert settle(tmp_path / "source", database).ok == 4


def test_a_worker_without_a_place_holds_no_task(three: Cluster, tmp_path: Path, database: str) -> None:
    """If there are more workers than the cluster has room for, the workers that are placed do everything."""
    run = begun(tmp_path / "source", database, [["x"]] * 12)
    with rays.joined(three):
        outcomes = list(Ray("auto", workers=9).map(run, iter(tasks_of([["x"]] * 12)), ignore))
    assert sorted(outcome.task for outcome in outcomes) == [*range(12)]
    assert {outcome.status for outcome in outcomes} == {"done"}


def test_no_thread_stays_when_a_run_is_stopped(three: Cluster, tmp_path: Path, database: str) -> None:
    """A run that is stopped early leaves no thread behind."""
    tasks = [["x"]] * 20
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.1))
    with rays.joined(three):
        outcomes = Ray("auto", workers=1).map(run, tasks_of(tasks), ignore)
        assert next(outcomes).status == "done"
        assert any(thread.name.startswith("fanfold") for thread in threading.enumerate())
        outcomes.close()
        wait_for(lambda: not any(thread.name.startswith("fanfold") for thread in threading.enumerate()))


def test_a_node_that_is_silent_does_not_keep_a_run(
    three: Cluster, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that does not respond to a stop request is killed."""
    monkeypatch.setattr("fanfold.executors.ray.worker.STOPS_WITHIN", 0.5)
    tasks = [["x"], ["x"] * 200]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.05))
    with rays.joined(three):
        outcomes = Ray("auto", workers=1).map(run, tasks_of(tasks), ignore)
        assert next(outcomes).status == "done"
        (actor,) = rays.titled("ray::NodeWorker")
        actor.suspend()
        outcomes.close()
        wait_for(lambda: not workers_of(run.id) and not rays.busy())


def test_a_worker_is_stopped_by_one_thread_at_a_time(
    three: Cluster, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops a worker while it is being stopped waits, since the connection to the cluster may end next."""
    here, goes_on, killed, kill = threading.Event(), threading.Event(), [], ray.kill

    def slow(actor: object) -> None:
        killed.append(actor)
        here.set()
        goes_on.wait()
        kill(actor)

    with rays.joined(three):
        worker = RemoteWorker(begun(tmp_path / "source", database, [["x"]]), Size(1, 1, 0), 1, [])
        assert worker.ready(threading.Event())
        monkeypatch.setattr(ray, "kill", slow)
        first, second = (threading.Thread(target=worker.stop) for _ in range(2))
        first.start()
        here.wait()
        second.start()
        second.join(0.2)
        assert second.is_alive()
        goes_on.set()
        first.join()
        second.join()
    assert len(killed) == 1


class Elsewhere(Scripted):
    """A job that only this process can import."""


def test_a_refusal_ends_the_connection(three: Cluster, texts: Path, database: str) -> None:
    """A run that was refused, or never started, leaves no connection that the next run would use by mistake."""
    mine, client = Ray(three.address, workers=1), Ray(rays.client_address(three), workers=1)
    with pytest.raises(UsageError, match="has room for a worker with 64 CPUs"):
        _ = Ray(three.address, worker_cpus=64).workers
    assert not ray.is_initialized()
    with pytest.raises(UsageError, match=r"(?s)On the Ray node 127\.0\.0\.1: Cannot import the job .*Every node needs"):
        list(fanfold.run(Elsewhere(), source=str(texts), database=f"{database}-elsewhere", executor=mine))
    assert not ray.is_initialized()
    fanfold.run(Scripted(), source=str(texts), database=database, executor=client)
    assert ray.util.client.ray.is_connected()
    outcomes = iter(fanfold.run(Scripted(), source=str(texts), database=database, executor=mine, task_size=4))
    assert not ray.util.client.ray.is_connected()
    next(outcomes)
    with pytest.raises(UsageError, match=f"has a run in progress on the Ray cluster {three.address}"):
        fanfold.run(Scripted(), source=str(texts), database=database, executor=client)
    outcomes.close()
    assert not ray.is_initialized()


def test_a_worker_larger_than_any_node_is_refused(three: Cluster, texts: Path, database: str) -> None:
    """A cluster without room for a worker says so."""
    with pytest.raises(UsageError, match="No node of the Ray cluster has room for a worker with 64 CPUs"):
        list(fanfold.run(Scripted(), source=str(texts), database=database, executor=Ray(three.address, worker_cpus=64)))
    assert not ray.is_initialized()


def test_addresses_that_are_none() -> None:
    """The address of a Ray cluster is a host and a port, or absent."""
    for on in ("ray:somewhere", "ray://somewhere", "ray:http://127.0.0.1:8265"):
        with pytest.raises(UsageError, match=r"is not the address of a Ray cluster\. Use --on ray, "):
            open_executor(on)
