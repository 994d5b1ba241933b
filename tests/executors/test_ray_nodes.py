"""Nodes of a Ray cluster that lack something: each makes a preflight check before its first task."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

import fanfold
import rays
from faults import settle, upload


@pytest.fixture(scope="module")
def head(s3_server: str) -> Iterator[Cluster]:  # noqa: ARG001
    """A cluster whose only node performs no tasks, so that all go to the next node that joins."""
    with rays.several(1, num_cpus=0) as cluster:
        yield cluster


def test_what_a_node_cannot_see(head: Cluster, tmp_path: Path, texts: Path) -> None:
    """A source or database that a node does not have ends the run at the node's first task, with both names."""
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    shutil.copytree(texts, elsewhere / "texts")
    mine = tmp_path / "deep" / "db"
    with rays.stranger(head, tmp_path):
        for source, database, message in (
            (texts, elsewhere / "db", f"It cannot read {texts}"),
            (elsewhere / "texts", mine, f"in {mine}, which is another folder there"),
        ):
            code, out, err = on_the_node(source, database, head)
            assert (code, out) == (2, "")
            assert "UsageError: On the Ray node 127.0.0.1: " in err
            assert message in err
            report = settle(source, str(database))
            assert (report.listed, report.failed) == (40, 0)


def on_the_node(source: Path | str, database: Path | str, cluster: Cluster, **options: object) -> tuple[int, str, str]:
    """A run whose worker is on the node that has joined last."""
    return rays.rerun(source, database, f"ray:{cluster.address}", workers=1, **options)


def test_a_node_with_another_fanfold(head: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A node with another version of fanfold ends the run, and the error has both versions."""
    other = tmp_path / "other" / "fanfold"
    shutil.copytree(Path(fanfold.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "version.txt").write_text("0.0.1")
    init = (other / "__init__.py").read_text()
    (other / "__init__.py").write_text(re.sub("__version__ = .*", '__version__ = "0.0.1"', init))
    (tmp_path / "empty").mkdir()
    with rays.stranger(head, tmp_path / "empty", str(other.parent)):
        code, _, err = on_the_node(texts, database, head)
    assert code == 2
    assert f"It has fanfold 0.0.1, but the driver has {fanfold.__version__}." in err
    assert "Every node needs the driver's version of fanfold" in err


def test_a_node_without_fanfold(head: Cluster, tmp_path: Path, texts: Path, database: str) -> None:
    """A node that cannot import fanfold ends the run, with Ray's message and what to do."""
    broken = tmp_path / "broken" / "fanfold"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'fanfold'\")")
    (tmp_path / "empty").mkdir()
    with rays.stranger(head, tmp_path / "empty", str(broken.parent)):
        code, _, err = on_the_node(texts, database, head)
    assert code == 1
    assert "No module named 'fanfold'" in err
    assert "Every node needs the driver's version of fanfold" in err


def test_a_node_without_credentials(head: Cluster, tmp_path: Path, texts: Path, database: str, bucket: str) -> None:
    """A source or database that the driver can use and a node cannot ends the run, with the store's message."""
    upload(texts, f"{bucket}/texts")
    own = tmp_path / "own"
    own.mkdir()
    with rays.stranger(head, own, AWS_SECRET_ACCESS_KEY="another"):
        for source, where in ((f"{bucket}/texts", database), (str(texts), f"{bucket}/db")):
            code, out, err = on_the_node(source, where, head)
            assert (code in (1, 2), out) == (True, "")
            assert "On the Ray node 127.0.0.1: " in err
            assert "SignatureDoesNotMatch" in err or "403 Forbidden" in err
            assert "its own credentials" in err
    with rays.stranger(head, own):
        code, out, err = on_the_node(f"{bucket}/texts", f"{bucket}/db2", head, task_size=20)
    assert (code, json.loads(out)["ok"]) == (0, 40), err
