"""Nodes of a Ray cluster that lack something: each makes a preflight check before its first task."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import fanfold
import rays
from fanfold import FanfoldError, Report, UsageError
from fanfold.executors.ray import Ray
from faults import fill, settle, upload
from jobs import Scripted


@pytest.fixture(scope="module")
def head(s3_server: str) -> Iterator[Cluster]:  # noqa: ARG001
    """A cluster whose only node performs no tasks, so that all go to the next node that joins."""
    with rays.several(1, num_cpus=0) as cluster:
        yield cluster


def on_the_node(source: Path | str, database: Path | str, cluster: Cluster, **options: object) -> Report:
    """A run whose worker is on the node that has joined last."""
    executor = Ray(cluster.address, workers=1)
    run = fanfold.run(Scripted(), source=str(source), database=str(database), executor=executor, **options)
    for _ in run:
        pass
    return run.report


def test_a_node_with_its_own_credentials(head: Cluster, tmp_path: Path, texts: Path, bucket: str) -> None:
    """A node that shares no folder with the driver does what is in an object store."""
    upload(texts, f"{bucket}/texts")
    (tmp_path / "own").mkdir()
    with rays.stranger(head, tmp_path / "own"):
        assert on_the_node(f"{bucket}/texts", f"{bucket}/db", head, task_size=20).ok == 40


def test_a_node_with_another_fanfold(head: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A node with another version of fanfold ends the run, and the error has both versions."""
    other = tmp_path / "other" / "fanfold"
    shutil.copytree(Path(fanfold.__file__).parent, other)
    (other / "version.txt").write_text("0.0.1")
    init = (other / "__init__.py").read_text()
    (other / "__init__.py").write_text(re.sub("__version__ = .*", '__version__ = "0.0.1"', init))
    (tmp_path / "empty").mkdir()
    with (
        rays.stranger(head, tmp_path / "empty", str(other.parent)),
        pytest.raises(UsageError, match="Every node needs the driver's version of fanfold") as raised,
    ):
        on_the_node(texts, database, head)
    assert f"It has fanfold 0.0.1, but the driver has {fanfold.__version__}." in str(raised.value)


def test_a_node_without_fanfold(head: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A node that cannot import fanfold ends the run, with Ray's message and what to do."""
    broken = tmp_path / "broken" / "fanfold"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'fanfold'\")")
    (tmp_path / "empty").mkdir()
    with (
        rays.stranger(head, tmp_path / "empty", str(broken.parent)),
        pytest.raises(FanfoldError, match="Every node needs the driver's version of fanfold") as raised,
    ):
        on_the_node(texts, database, head)
    assert "No module named 'fanfold'" in str(raised.value)
    assert raised.value.exit_code == 1


@pytest.fixture(scope="module")
def unseen(head: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the only node with room for tasks does not have; that node has the wrong credentials, too."""
    folder = tmp_path_factory.mktemp("unseen")
    with rays.stranger(head, folder, AWS_SECRET_ACCESS_KEY="another"):
        yield folder


def test_what_a_node_cannot_see(head: Cluster, unseen: Path, tmp_path: Path) -> None:
    """A source or database that a node does not have ends the run at the node's first task, with both names."""
    for folder in (unseen, tmp_path):
        fill(folder / "texts", 40, failing=99)
    for source, database, message in (
        (unseen / "texts", tmp_path / "db", f"It cannot read {unseen / 'texts'}"),
        (tmp_path / "texts", unseen / "deep" / "db", f"in {unseen / 'deep' / 'db'}, which is another folder there"),
    ):
        with pytest.raises(UsageError, match=r"^On the Ray node 127\.0\.0\.1: ") as raised:
            on_the_node(source, database, head)
        assert message in str(raised.value)
        report = settle(source, str(database))
        assert (report.listed, report.failed) == (40, 0)


def test_a_node_without_credentials(head: Cluster, unseen: Path, tmp_path: Path, bucket: str) -> None:  # noqa: ARG001
    """A source or database that the driver can use and a node cannot ends the run, with the store's message."""
    fill(tmp_path / "texts", 4)
    upload(tmp_path / "texts", f"{bucket}/texts")
    for source, database in ((f"{bucket}/texts", tmp_path / "db"), (tmp_path / "texts", f"{bucket}/db")):
        with pytest.raises(FanfoldError, match="its own credentials") as raised:
            on_the_node(source, database, head)
        said = str(raised.value)
        assert said.startswith("On the Ray node 127.0.0.1: ")
        assert "SignatureDoesNotMatch" in said or "403 Forbidden" in said
