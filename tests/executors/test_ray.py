"""Ray clusters of several nodes: what is killed, what cannot be seen, what is left behind."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import fanfold
import rays
from fanfold import UsageError
from fanfold.executors import open_executor
from faults import MOMENTS, Driver, assert_clean, assert_no_workers, drive, fill, settle, signs, wait_for
from helpers import free_port
from test_cli import FANFOLD, make_photos

ITEMS = 72
TASK = 6  # items


@pytest.fixture(scope="module")
def client_port() -> int:
    """Where the cluster listens to Ray Clients."""
    return free_port()


@pytest.fixture(scope="module")
def cluster(client_port: int) -> Iterator[Cluster]:
    """Three nodes of one CPU each."""
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
        assert (code, json.loads(out)["ok"], err.count("\n")) == (0, 40, 7)
        assert_no_workers(f"{database}{number}", within=0.5)
        wait_for(lambda: not rays.busy(), 60)
    assert len(rays.ray_nodes(three)) == 3


def test_by_ray_client(three: Cluster, client_port: int, texts: Path, database: str) -> None:
    """From outside of a cluster, by its client port, all is the same; also the error when a worker cannot start."""
    assert len(rays.ray_nodes(three)) == 3
    address = f"ray://127.0.0.1:{client_port}"
    code, out, err = rerun(texts, database, address, task_size=10)
    assert (code, json.loads(out)["ok"], err.count("10 ok, 0 failed")) == (0, 40, 4)
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
