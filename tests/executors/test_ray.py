"""Ray clusters of several nodes: what is killed, what cannot be seen, what is left behind."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

import fanfold
import rays
from conftest import free_port
from fanfold import FanfoldError, UsageError
from fanfold.executors import Size, open_executor
from fanfold.executors.ray import Ray
from faults import MOMENTS, Driver, assert_clean, assert_no_workers, drive, fill, settle, signs, wait_for
from jobs import Scripted
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
    report = settle(tmp_path / "source", database, executor=Ray(three.address))
    assert 3 <= kept < ITEMS // TASK
    assert report.ok < ITEMS - kept
    assert_clean(database)


def test_a_cluster_that_was_joined_is_left_as_it_was(three: Cluster, texts: Path, database: str) -> None:
    """After a run no process and no actor of ours is left on the nodes, and the next run starts as well."""
    for _ in range(2):
        settle(texts, database, executor=Ray(three.address, workers=2))
        assert not ray.is_initialized()
        assert_no_workers(database, within=0.5)
        wait_for(lambda: not rays.busy(), 60)
        shutil.rmtree(database)
    assert len(rays.ray_nodes(three)) == 3


def test_a_connection_of_the_callers_stays(three: Cluster, texts: Path, database: str) -> None:
    """A program that is connected to Ray stays so."""
    ray.init(three.address, log_to_driver=False)
    settle(texts, database, executor=Ray("auto"))
    assert ray.is_initialized()
    ray.shutdown()


def test_by_ray_client(three: Cluster, client_port: int, texts: Path, database: str) -> None:
    """From outside of a cluster, by its client port, all is the same; also the error when a worker cannot start."""
    assert len(rays.ray_nodes(three)) == 3
    address = f"ray://127.0.0.1:{client_port}"
    told = []
    run = fanfold.run(Scripted(pause=0.1), source=str(texts), database=database, executor=Ray(address), task_size=10)
    for outcome in run:
        told.append((outcome.ok, outcome.failed))
    assert (told, run.report.exit_code) == ([(10, 0)] * 4, 0)
    assert_no_workers(database, within=0.5)
    (texts / "new.txt").write_text("new")
    with pytest.raises(FanfoldError, match=r"On the Ray node 127.0.0.1: no model"):
        list(fanfold.run(Scripted(open_error="no model"), source=str(texts), database=database, executor=Ray(address)))
    assert not ray.is_initialized()


def test_what_a_node_cannot_see_is_refused(three: Cluster, tmp_path: Path, texts: Path) -> None:
    """A source, a database or a model that is not on every node is refused by name, and nothing is written."""
    (tmp_path / "model.onnx").touch()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    shutil.copytree(texts, elsewhere / "texts")
    shared, mine = str(elsewhere / "db"), str(tmp_path / "deep" / "db")
    with rays.stranger(three, tmp_path):
        for source, database, job, path in (
            (texts, shared, Scripted(), texts),
            (elsewhere / "texts", mine, Scripted(), mine),
            (elsewhere / "texts", shared, Scripted(recipe_name=str(tmp_path / "model.onnx")), tmp_path / "model.onnx"),
        ):
            with pytest.raises(UsageError, match=r"node 127.0.0.1: (.|\n)*(s3://|shared)") as refused:
                fanfold.run(job, source=str(source), database=database, executor=Ray(three.address))
            assert str(path) in str(refused.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "texts"]
        assert [path.name for path in elsewhere.iterdir()] == ["texts"]
        ray.shutdown()


def test_a_node_with_another_fanfold_is_refused(three: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """Nodes without fanfold, or with another one, are refused with what they lack."""
    (tmp_path / "other" / "fanfold").mkdir(parents=True)
    (tmp_path / "other" / "fanfold" / "__init__.py").write_text('__version__ = "0.0.1"')
    (tmp_path / "other" / "fanfold" / "job.py").write_text("load = None")
    (tmp_path / "empty").mkdir()
    with (
        rays.stranger(three, tmp_path / "empty", str(tmp_path / "other")),
        pytest.raises(UsageError, match=f"it has fanfold 0.0.1, and this is {fanfold.__version__}"),
    ):
        fanfold.run(Scripted(), source=str(texts), database=database, executor=Ray(three.address))
    ray.shutdown()
    assert not Path(database).exists()


def test_a_cluster_that_is_gone(tmp_path: Path, database: str) -> None:
    """When the cluster's centre dies, the run ends in one line that says so; a rerun goes on."""
    with rays.several(1) as cluster:
        fill(tmp_path / "source", ITEMS)
        driver = drive(tmp_path / "source", database, on=f"ray:{cluster.address}", workers=None, pause=0.1)
        wait_for_receipts(driver, 2)
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
        assert (finished.returncode, finished.stderr) == (3, "")
        told.append([line for line in finished.stdout.splitlines() if "Run " not in line and "/s" not in line])
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


@pytest.mark.parametrize(
    ("on", "says"),
    [
        ("ray:somewhere", "'somewhere' is no Ray cluster. Use --on ray, --on ray://HOST:10001 or --on ray:auto."),
        ("ray:auto", "Cannot join the Ray cluster auto"),
        ("ray:127.0.0.1:1", "Cannot join the Ray cluster 127.0.0.1:1"),
    ],
)
def test_a_cluster_that_there_is_not(on: str, says: str, texts: Path, database: str) -> None:
    """An address that is none, or where nobody answers, ends in a sentence."""
    with pytest.raises(FanfoldError, match=says):
        fanfold.run(Scripted(), source=str(texts), database=database, executor=open_executor(on))
    assert not Path(database).exists()


def test_a_worker_larger_than_any_node_is_refused(three: Cluster) -> None:
    """A cluster without room says so, unless told how many workers it will have room for."""
    with pytest.raises(UsageError, match="No node of the Ray cluster has room for a worker with 64 CPUs"):
        open_executor(f"ray:{three.address}", Size(worker_cpus=64)).workers  # noqa: B018
    assert open_executor(f"ray:{three.address}", Size(workers=9, worker_cpus=64)).workers == 9
    ray.shutdown()
