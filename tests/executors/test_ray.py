"""Ray clusters of several nodes: what is killed, what cannot be seen, what is left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
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
from fanfold.runs import Task
from fanfold.source import open_source
from fanfold.storage import exists, open_store
from faults import MOMENTS, Driver, assert_clean, assert_no_workers, drive, fill, settle, signs, upload, wait_for
from helpers import begun, free_port, ignore, tasks_of, workers_of
from jobs import Marked, Scripted
from test_cli import FANFOLD, make_photos

ITEMS = 72
TASK = 6  # items


@pytest.fixture(scope="module")
def client_port() -> int:
    """Where the cluster listens to Ray Clients."""
    return free_port()


@pytest.fixture(scope="module")
def cluster(client_port: int, s3_server: str) -> Iterator[Cluster]:  # noqa: ARG001 - its keys are in the environment
    """Three nodes of one CPU each, which may use the S3 server."""
    with rays.several(3, client_port) as cluster:
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
    wait_for_receipts(driver, receipts)
    return driver


def wait_for_receipts(driver: Driver, count: int) -> None:
    """Wait until so many tasks are done."""
    wait_for(lambda: driver.process.poll() is not None or done(driver) >= count, 240)
    assert driver.process.poll() is None, driver.end(240)


def end_of_post() -> None:
    """End the hand that this process has kept as if it were Ray's, and its talk."""
    _posts.popitem()[1].stop()
    wait_for(lambda: not any(thread.name == "fanfold-talk" for thread in threading.enumerate()))


def done(driver: Driver) -> int:
    return len(signs(driver.database, MOMENTS["receipt"]))


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
    wait_for_receipts(driver, done(driver) + 3)
    driver.kill()
    assert_no_workers(database, within=60)
    wait_for(lambda: not rays.busy(), 60)
    kept = done(driver)
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
    run = begun(tmp_path / "source", database, tasks, Scripted(pause=0.1))
    with rays.joined(three):
        board = ray.remote(rays.Deaf if moment == "at a task" else Board).options(num_cpus=0).remote(4)
        for task in tasks_of(tasks):
            done = perform(database, run.id, 1, "token", board, 0.1, asdict(task))
            assert (done["status"], done["ok"]) == ("done", 5)
            if moment == "between two tasks":
                next(iter(_posts.values())).stop()
        end_of_post()


def test_a_task_that_is_begun_too_often(three: Cluster, tmp_path: Path, database: str) -> None:
    """A task that took one hand after the other with it, which Ray does not count where memory ran out, is given up;
    a hand that comes back from it has not died of it."""
    run = begun(tmp_path / "source", database, [["x"]])
    with rays.joined(three):
        board = ray.remote(Board).options(num_cpus=0).remote(2)
        told = [ray.get(board.begin.remote(hand, task)) for hand, task in (("a", 0), ("a", 1), ("b", 0), ("c", 0))]
        assert told == ["go on"] * 4
        outcome = perform(database, run.id, 1, "token", board, 0.1, asdict(Task(0, 1)))
        end_of_post()
    assert (outcome["status"], outcome["ok"]) == ("crashed", 0)
    assert "ran out of memory, again and again" in outcome["error"]


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


def test_a_cluster_that_is_gone(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the cluster's centre dies, the run ends in one line that says so; a rerun goes on."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    with rays.several(1) as cluster:
        fill(tmp_path / "source", ITEMS)
        options = {"workers": None, "task_size": TASK, "pause": 1.0}  # far more than it takes to notice
        driver = drive(tmp_path / "source", database, on=f"ray:{cluster.address}", **options)
        wait_for_receipts(driver, 1)
        cluster.head_node.kill_gcs_server(False)
        code, out, err = driver.end(240)
        assert (code, out) == (1, "")
        assert "The Ray cluster is gone" in err
        assert "goes on from here" in err
    assert_no_workers(database)
    settle(tmp_path / "source", database)


def test_the_command_line_says_the_same(tmp_path: Path, database: str) -> None:
    """`fanfold images embed --on ray` ends with the report and the exit code of a local run."""
    photos = make_photos(tmp_path / "photos")
    (photos / "bad.jpg").write_bytes(b"not a picture at all")
    told = []
    for on in ("ray", "local"):
        command = [*FANFOLD, "images", "embed", str(photos), f"{database}-{on}", "--on", on, "--workers", "1"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert finished.returncode == 3
        assert all(" of 5 done" in line for line in finished.stderr.splitlines()), finished.stderr
        told.append([line for line in finished.stdout.splitlines() if not re.search("Run |/s|Where|Database", line)])
    assert told[0] == told[1]


def test_as_a_job(three: Cluster, tmp_path: Path, database: str) -> None:
    """The entry point that docs/ray.md gives to `ray job submit` runs on the cluster whose job server started it.

    The server itself is in no package that fanfold needs; its environment is what it would be.
    """
    photos = make_photos(tmp_path / "photos")
    entry = [sys.executable, "-m", "fanfold", "images", "embed", str(photos), database, "--on", "ray:auto", "--json"]
    config = {"runtime_env": {"env_vars": {}}, "metadata": {"job_submission_id": "raysubmit_1", "job_name": "1"}}
    server = {"RAY_ADDRESS": three.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(config), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [*entry, "--workers", "1"], env=os.environ | server, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 4
    assert any(database in job["Entrypoint"] for job in three.global_state.job_table())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_driver_takes_its_cluster_with_it(number: signal.Signals, tmp_path: Path, database: str) -> None:
    """However a command ends, the cluster it started ends as well."""
    fill(tmp_path / "source", ITEMS)
    driver = drive(tmp_path / "source", database, on="ray", workers=1, task_size=TASK, pause=0.1)
    wait_for_receipts(driver, 1)
    driver.process.send_signal(number)
    code, _, _ = driver.end(240)
    assert code == -number
    assert_no_workers(database, within=60)
    wait_for(lambda: not rays.busy(), 60)
    settle(tmp_path / "source", database)
