"""A deployment that gets another model, and then its first one again: each has a Lance table and a DynamoDB table.

S3 is a real server, DynamoDB is dynalite, and AWS Batch runs its jobs as processes here.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import onnx
import pytest
from batch_server import BatchServer
from dynamo_servers import ABSENT, dynalite
from onnx import TensorProto, helper, numpy_helper
from test_article import Context, photo

import fanfold
import nursery
from fanfold import UsageError
from fanfold.aws.deployment import Deployment
from fanfold.aws.dynamodb.table import DynamoTable
from fanfold.aws.trigger import handler

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
DEFAULT = "efficientnet-lite0"
FIRST = "dynamodb://fanfold-Storage-Vectors"
"""The DynamoDB table that the deployment starts with."""


@pytest.fixture
def batch(
    deployed: Callable[[str], AbstractContextManager[BatchServer]], s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BatchServer]:
    """A deployment with the default model, whose bucket holds four pictures."""
    with dynalite() as dynamodb:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb)
        DynamoTable.create(FIRST)
        with deployed(FIRST) as batch:
            for number in range(4):
                upload(number)
            yield batch


@pytest.fixture
def other(tmp_path: Path) -> str:
    """A model file with 512 numbers per picture, like the article's model."""
    return small_resnet18(tmp_path)


def small_resnet18(folder: Path) -> str:
    """Make the file; a model of this name that need not be downloaded."""
    weights = np.random.default_rng(0).standard_normal((512, 3, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "weights"], ["seen"], strides=[8, 8]),
        helper.make_node("Relu", ["seen"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "small", [x], [y], [numpy_helper.from_array(weights, "weights")])
    file = folder / "resnet18.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return str(file)


def upload(number: int) -> None:
    """Put a picture into the deployment's bucket."""
    body = photo("jpg", number)
    boto3.client("s3").put_object(Bucket=Deployment.load().bucket, Key=f"images/{number}.jpg", Body=body)


def deploy(patch: pytest.MonkeyPatch, model: str) -> None:
    """Deploy again with another model, which changes the container image and one option in the settings."""
    settings = json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"options": {"model": model}}
    patch.setenv("FANFOLD_DEPLOYMENT", json.dumps(settings))


def invoke(batch: BatchServer, **request: Any) -> dict[str, Any]:
    """Ask the Lambda for a run and wait for its end."""
    told = handler({"Paths": ["images"], **request}, Context())
    if told["Jobs"]:
        assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED", batch.output(told["Jobs"]["commit"])
    return told


def vectors(table: str) -> dict[str, np.ndarray]:
    """The vectors of a Lance table."""
    rows = fanfold.open_table(Deployment.load().database, table).to_table(columns=["key", "vector"]).to_pylist()
    return {row["key"]: np.array(row["vector"], np.float32) for row in rows}


def check_in_step(table: str, mirror: str, dimension: int, count: int) -> None:
    """Check that a Lance table and its DynamoDB table have the same content, of one model."""
    held, seen = vectors(table), {item["ImageId"]: item["Vector"] for item in DynamoTable.open(mirror).scan()}
    assert len(held) == count
    assert {len(vector) for vector in held.values()} == {dimension}
    assert {key: vector.tobytes() for key, vector in seen.items()} == {key: vec.tobytes() for key, vec in held.items()}


def read(mirror: str, key: str) -> list[float]:
    """A vector from `fanfold images vectors`."""
    command = [sys.executable, "-m", "fanfold", "images", "vectors", mirror, key, "--json"]
    done = nursery.run(command)
    assert done.returncode == 0, done.stderr
    vector: list[float] = json.loads(done.stdout)["vector"]
    return vector


def test_another_model_and_back(batch: BatchServer, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model continues with its own two tables and does only what is new; readers find both."""
    first = invoke(batch)
    assert (first["Table"], first["Mirror"], first["Counts"]["planned"]) == ("images", FIRST, 4)
    deploy(monkeypatch, other)
    second = invoke(batch)
    made = "dynamodb://fanfold.resnet18"
    assert (second["Table"], second["Mirror"], second["Counts"]["planned"]) == ("resnet18", made, 4)
    check_in_step("images", FIRST, 1280, 4)
    check_in_step("resnet18", made, 512, 4)
    upload(4)
    deploy(monkeypatch, DEFAULT)
    third = invoke(batch)
    assert (third["Table"], third["Mirror"], third["Counts"]["planned"]) == ("images", FIRST, 1)
    deploy(monkeypatch, other)
    assert invoke(batch)["Counts"]["planned"] == 1
    assert invoke(batch)["Counts"]["planned"] == 0
    check_in_step("images", FIRST, 1280, 5)
    check_in_step("resnet18", made, 512, 5)
    assert [len(read(mirror, "images/4.jpg")) for mirror in (FIRST, made)] == [1280, 512]


def test_the_first_model_keeps_the_first_table(batch: BatchServer, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that began with another model gives the default model a separate table."""
    deploy(monkeypatch, other)
    assert invoke(batch)["Table"] == "images"
    deploy(monkeypatch, DEFAULT)
    told = invoke(batch)
    assert (told["Table"], told["Mirror"]) == (DEFAULT, f"dynamodb://fanfold.{DEFAULT}")
    check_in_step("images", FIRST, 512, 4)
    check_in_step(DEFAULT, told["Mirror"], 1280, 4)


def test_from_a_laptop_the_same_tables_are_filled(
    batch: BatchServer, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--on aws-batch` uses the table of the deployment's model, and names that table if another is asked for."""
    invoke(batch)
    deploy(monkeypatch, other)
    there = Deployment.load()
    command = [sys.executable, "-m", "fanfold", "images", "embed", f"s3://{there.bucket}/images", there.database]
    command += ["--on", "aws-batch", "--model", other]
    done = nursery.run(command)
    assert done.returncode == 0, done.stderr
    check_in_step("resnet18", "dynamodb://fanfold.resnet18", 512, 4)
    refused = nursery.run([*command, "--table", "images"])
    assert refused.returncode == 2
    assert "Write to another table with: --table resnet18" in " ".join(refused.stderr.split())


def test_every_table_has_a_mirror_of_its_own(batch: BatchServer) -> None:
    """Two tables of one model have separate mirrors; a shared one is refused with the alternatives."""
    upload(0)
    told = invoke(batch, Table="s1", Ids="stem", Paths=["images/0.jpg"])
    assert told["Mirror"] == "dynamodb://fanfold.s1"
    body = photo("jpg", 99)
    boto3.client("s3").put_object(Bucket=Deployment.load().bucket, Key="more/0.jpg", Body=body)
    told = invoke(batch, Table="s2", Ids="stem", Paths=["more/0.jpg"])
    check_in_step("s1", "dynamodb://fanfold.s1", 1280, 1)
    check_in_step("s2", "dynamodb://fanfold.s2", 1280, 1)
    assert not np.array_equal(vectors("s1")["0"], vectors("s2")["0"])
    with pytest.raises(UsageError) as refused:
        invoke(batch, Table="s2", Paths=["more"], Mirror="dynamodb://fanfold.s1")
    assert 'Send "Mirror": "dynamodb://fanfold.s2-2". Or empty it' in str(refused.value)
    assert "--table s2 --replace" in str(refused.value)
    told = invoke(batch, Table="s2", Paths=["more"], Mirror="dynamodb://fanfold.again")
    assert (told["Mirror"], told["Counts"]["unchanged"]) == ("dynamodb://fanfold.again", 1)
    fill = ["mirror", Deployment.load().database, "dynamodb://fanfold.again", "--table", "s2"]
    assert nursery.run([sys.executable, "-m", "fanfold", *fill]).returncode == 0
    check_in_step("s2", "dynamodb://fanfold.again", 1280, 1)
    with pytest.raises(UsageError, match=rf"may write to {FIRST}, and dynamodb://fanfold\.NAME with any NAME, not to"):
        invoke(batch, Mirror="dynamodb://theirs")
