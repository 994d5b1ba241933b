"""Ray clusters of several nodes: what is killed, what cannot be seen, what is left behind."""

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import fanfold
import rays
from fanfold import FanfoldError, UsageError
from fanfold.executors import Size, open_executor, reach
from fanfold.executors.cluster import alive
from fanfold.executors.ray import Board, Ray, _Fan, _posts, perform
from fanfold.source import open_source
from fanfold.storage import exists, open_store
from faults import Driver, assert_clean, assert_no_workers, drive, fill, settle, upload, wait_for
from helpers import begun, free_port, ignore, tasks_of, workers_of
from jobs import Marked, Scripted
from rays import ITEMS, TASK


@pytest.fixture(scope="module")
def client_port() -> int:
    """Where the cluster listens to Ray Clients."""
    return free_port()


@pytest.fixture(scope="module")
def cluster(client_port: int, s3_server: str) -> Iterator[Cluster]:  # noqa: ARG001 - its keys are in the environment
    """Three nodes of one CPU each, which may use the S3 server."""
    with rays.several(3, ray_client_server_port=client_port) as cluster:
        yield cluster


@pytest.fixture
def three(cluster: Cluster) -> Cluster:
    """The same, with as many nodes as in the beginning."""
    while len(cluster.worker_nodes) < 2:
        rays.add(cluster)
    return cluster


def driven(source: Path, database: str, cluster: Cluster, receipts: int) -> Driver:
    """A driver in a process of its own, whose run on all of the cluster has come so far."""
    fill(source, ITEMS)
    driver = drive(source, database, on=f"ray:{cluster.address}", workers=None, task_size=TASK, pause=0.1)
    rays.wait_for_receipts(driver, receipts)
    return driver


def end_of_post() -> None:
    """End the hand that this process has kept as if it were Ray's, and its talk."""
    _posts.popitem()[1].stop()
    wait_for(lambda: not any(thread.name == "fanfold-talk" for thread in threading.enumerate()))


def test_a_node_dies(three: Cluster, tmp_path: Path, database: str) -> None:
    """A run outlives a node: Ray performs its tasks elsewhere, and nothing is lost, nor done twice, nor printed."""
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
    """A driver that dies takes its workers with it, on all nodes; a rerun on the same cluster does the rest."""
    driver = driven(tmp_path / "source", database, three, receipts=2)
    rays.kill(three, next(iter(three.worker_nodes)))
    rays.wait_for_receipts(driver, rays.done(database) + 3)
    driver.kill()
    assert_no_workers(database, within=60)
    wait_for(lambda: not rays.busy(), 60)
    kept = rays.done(database)
    rerun(tmp_path / "source", database, f"ray:{three.address}")
    report = settle(tmp_path / "source", database)
    assert (report.ok, 3 <= kept < ITEMS // TASK) == (0, True)
    assert_clean(database)


def rerun(source: Path | str, database: Path | str, on: str, **options: object) -> tuple[int, str, str]:
    """A run from start to end, in a process of its own: exit code, stdout, stderr."""
    return drive(source, str(database), on=on, **{"workers": None, **options}).end(240)


def test_a_cluster_that_was_joined_is_left_as_it_was(three: Cluster, texts: Path, database: str) -> None:
    """After a run no process and no actor of ours is left on the nodes, and the next run goes as well."""
    for number in range(2):
        code, out, err = rerun(texts, f"{database}{number}", f"ray:{three.address}", workers=2)
        assert (code, json.loads(out)["ok"], err.count("\n")) == (0, 40, 8)
        assert_no_workers(f"{database}{number}", within=0.5)
        wait_for(lambda: not rays.busy(), 60)
    wait_for(lambda: len(rays.ray_nodes(three)) == 3, 60)  # that one has died is soon known


def test_by_ray_client(three: Cluster, client_port: int, texts: Path, database: str) -> None:
    """From outside of a cluster, by its client port, all is the same; also the error when a worker cannot start."""
    wait_for(lambda: len(rays.ray_nodes(three)) == 3, 60)  # that one has died is soon known
    address = f"ray://127.0.0.1:{client_port}"
    code, out, err = rerun(texts, database, address, task_size=10)
    assert (code, json.loads(out)["ok"]) == (0, 40)
    assert sum(map(int, re.findall(r"(\d+) ok, 0 failed", err))) == 40
    assert_no_workers(database, within=0.5)
    settle(texts, database)
    code, _, err = rerun(texts, f"{database}-other", address, open_error="no model")
    assert (code, err) == (1, "FanfoldError: On the Ray node 127.0.0.1: no model\n")
    wait_for(lambda: not rays.busy(), 60)


def test_what_a_node_cannot_see_is_refused(three: Cluster, tmp_path: Path, texts: Path) -> None:
    """A source, a database or a model that is not on every node is refused by name, and nothing is written."""
    model = tmp_path / "model.onnx"
    model.touch()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    shutil.copytree(texts, elsewhere / "texts")
    mine = tmp_path / "deep" / "db"
    with rays.stranger(three, tmp_path):
        for source, database, recipe, path in (
            (texts, elsewhere / "db", "plain", texts),
            (elsewhere / "texts", mine, "plain", mine),
            (elsewhere / "texts", elsewhere / "db", str(model), model),
        ):
            code, out, err = rerun(source, database, f"ray:{three.address}", recipe_name=recipe)
            assert (code, out) == (2, "")
            assert f"node 127.0.0.1: {str(path)!r}" in err
            assert "Use an object store (s3://...), or a file system" in err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "texts"]
        assert [path.name for path in elsewhere.iterdir()] == ["texts"]


def test_a_node_with_another_fanfold_is_refused(three: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A node whose fanfold is another one is refused, with what it has."""
    other = tmp_path / "other" / "fanfold"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "0.0.1"')
    (other / "job.py").write_text("load = None")
    (tmp_path / "empty").mkdir()
    with rays.stranger(three, tmp_path / "empty", str(other.parent)):
        code, _, err = rerun(texts, database, f"ray:{three.address}")
    assert (code, Path(database).exists()) == (2, False)
    assert f"node 127.0.0.1: it has fanfold 0.0.1, and this is {fanfold.__version__}" in err


def test_a_node_without_credentials_is_refused(
    three: Cluster, tmp_path: Path, texts: Path, database: str, bucket: str
) -> None:
    """A source or a database that the driver can use and a node cannot is refused by its URL, with the store's words;
    nodes that can use it do, and nothing is left where they tried."""
    upload(texts, f"{bucket}/texts")
    own = tmp_path / "own"
    own.mkdir()
    with rays.stranger(three, own, AWS_SECRET_ACCESS_KEY="another"):
        for source, where, said in (
            (f"{bucket}/texts", database, f"'{bucket}/texts' cannot be read: "),
            (str(texts), f"{bucket}/db", f"'{bucket}/db' cannot be written: "),
        ):
            code, out, err = rerun(source, where, f"ray:{three.address}")
            assert (code, out) == (2, "")
            assert f"node 127.0.0.1: {said}SignatureDoesNotMatch" in err
            assert "Nodes need credentials" in err
            assert "object store" not in err
    assert not exists(f"{bucket}/db")
    code, out, err = rerun(f"{bucket}/texts", f"{bucket}/db", f"ray:{three.address}", task_size=20)
    assert (code, json.loads(out)["ok"]) == (0, 40), err
    assert not [name for chunk in open_store(f"{bucket}/db").list() for name in chunk if ".reach" in name["path"]]


def test_a_node_that_dies_while_it_is_asked(three: Cluster, texts: Path, database: str) -> None:
    """Nothing is asked of a node that is gone before it has answered."""
    with rays.joined(three), ThreadPoolExecutor() as pool:
        nodes = alive()
        (victim, *_) = three.worker_nodes
        (raylet,) = victim.all_processes["raylet"]
        raylet.process.send_signal(signal.SIGSTOP)
        checked = pool.submit(reach.check, nodes, Scripted(), open_source(str(texts)), database)
        time.sleep(2)
        assert not checked.done()
        rays.kill(three, victim)
        checked.result(120)
    assert not Path(database).exists()


def test_a_worker_process_loads_its_model_once(three: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """Whatever the number of tasks, a worker process opens the job once, and stays for the next task."""
    job = Marked(marks=str(tmp_path / "marks"))
    with rays.joined(three):
        run = fanfold.run(job, source=str(texts), database=database, executor=Ray("auto", workers=2), task_size=4)
        assert len(list(run)) == 10
    opened = (tmp_path / "marks").read_text().split()
    assert 1 <= len(opened) == len(set(opened)) <= 3


def test_what_no_task_could_survive_is_no_crash(three: Cluster, tmp_path: Path, database: str) -> None:
    """A task that Ray cannot perform for reasons of its own ends the run, and is not taken for the items' doing."""
    run = begun(tmp_path / "source", database, [["x"]])
    nowhere = NodeAffinitySchedulingStrategy("e" * 56, soft=False)
    with rays.joined(three):
        fan = _Fan(run, Size(workers=1), 1)
        fan.perform = ray.remote(perform).options(scheduling_strategy=nowhere)
        with pytest.raises(FanfoldError, match="Ray cannot perform tasks: The task is not schedulable"):
            list(fan.out(tasks_of([["x"]]), ignore))


def test_no_thread_stays_when_a_run_is_stopped(three: Cluster, tmp_path: Path, database: str) -> None:
    """Who stops a run early is left with the threads there were."""
    tasks = [["x"]] * 20
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.1))
    with rays.joined(three):
        outcomes = Ray("auto", workers=1).map(run, tasks_of(tasks), ignore)
        assert next(outcomes).status == "done"
        assert any(thread.name.startswith("fanfold") for thread in threading.enumerate())
        outcomes.close()
        wait_for(lambda: not any(thread.name.startswith("fanfold") for thread in threading.enumerate()))


def test_a_silent_board_keeps_nobody_at_work(
    three: Cluster, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks are cancelled, and workers end, when the board does not answer that they shall."""
    monkeypatch.setattr("fanfold.executors.ray.GONE_WITHIN", 0.5)
    tasks = [["x"], ["x"] * 200]
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.05))
    with rays.joined(three):
        outcomes = Ray("auto", workers=1).map(run, tasks_of(tasks), ignore)
        assert next(outcomes).status == "done"
        wait_for(lambda: run.receipt(0) and next(rays.titled("ray::perform"), None), 60)
        (board,) = rays.titled("ray::Board")
        board.suspend()
        outcomes.close()
        wait_for(lambda: not workers_of(run.id) and not rays.busy(), 20)


@pytest.mark.parametrize("moment", ["between two tasks", "at a task"])
def test_a_hand_whose_board_was_away(three: Cluster, moment: str, tmp_path: Path, database: str) -> None:
    """A hand that stops since it could not reach the board is replaced, when the board says that the run goes on."""
    tasks = [["x"] * 5, ["x"] * 5]
    run = begun(tmp_path / "source", database, tasks, Marked(pause=0.1, marks=str(tmp_path / "marks")))
    with rays.joined(three):
        board = ray.remote(rays.Deaf if moment == "at a task" else Board).options(num_cpus=0).remote()
        for task in tasks_of(tasks):
            done = perform(database, run.id, 1, "token", board, 0.1, asdict(task))
            assert (done["status"], done["ok"]) == ("done", 5)
            if moment == "between two tasks":
                next(iter(_posts.values())).stop()
        end_of_post()
    assert len((tmp_path / "marks").read_text().split()) == 2


class Elsewhere(Scripted):
    """A job that only this process can import."""


def test_a_refusal_ends_the_connection(three: Cluster, client_port: int, texts: Path, database: str) -> None:
    """What was refused, or never begun, keeps no connection that the next run would take for its own."""
    mine, client = Ray(three.address, workers=1), Ray(f"ray://127.0.0.1:{client_port}", workers=1)
    with pytest.raises(UsageError, match="has room for a worker with 64 CPUs"):
        _ = Ray(three.address, worker_cpus=64).workers
    assert not ray.is_initialized()
    with pytest.raises(UsageError, match="it cannot load the job: No module named 'test_ray'"):
        fanfold.run(Elsewhere(), source=str(texts), database=database, executor=mine)
    assert not ray.is_initialized()
    fanfold.run(Scripted(), source=str(texts), database=database, executor=client)
    assert ray.util.client.ray.is_connected()
    outcomes = iter(fanfold.run(Scripted(), source=str(texts), database=database, executor=mine, task_size=4))
    assert not ray.util.client.ray.is_connected()
    next(outcomes)
    with pytest.raises(UsageError, match=f"has a run under way on the Ray cluster {three.address}"):
        fanfold.run(Scripted(), source=str(texts), database=database, executor=client)
    outcomes.close()
    assert not ray.is_initialized()


def test_a_worker_larger_than_any_node_is_refused(three: Cluster, texts: Path, database: str) -> None:
    """A cluster without room says so."""
    code, _, err = rerun(texts, database, f"ray:{three.address}", worker_cpus=64)
    assert code == 2
    assert "No node of the Ray cluster has room for a worker with 64 CPUs" in err


def test_addresses_that_are_none() -> None:
    """A Ray cluster is named by a host and a port, or not at all."""
    for on in ("ray:somewhere", "ray://somewhere", "ray:http://127.0.0.1:8265"):
        with pytest.raises(UsageError, match=r"is no Ray cluster\. Use --on ray, --on ray://HOST:10001"):
            open_executor(on)
