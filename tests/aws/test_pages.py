"""The pages about AWS are run like the others, on a deployment whose names are filled in."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import boto3
import pytest
from batch_server import BatchServer
from test_article import Context, photo
from test_models import DEFAULT, deploy, small_resnet18

import nursery
from fanfold.aws.deployment import Deployment
from fanfold.aws.dynamodb.table import DynamoTable
from fanfold.aws.trigger import handler
from test_docs import ROOT, blocks, call, commands

KEY = "images/cats/001.jpg"


@pytest.mark.parametrize("name", ["docs/aws.md", "docs/article.md", "README.md"])
def test_what_pages_say_of_aws(
    deployed: Callable[[str], AbstractContextManager[BatchServer]],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every fanfold command runs, `cdk deploy` sets the model, the Lambda gets the payload shown; then the Python."""
    page = ROOT / name
    mirror = f"dynamodb://pages-{page.stem}"
    DynamoTable.create(mirror)
    with deployed(mirror) as batch:
        deployment = Deployment.load()
        boto3.client("s3").put_object(Bucket=deployment.bucket, Key=KEY, Body=photo("jpg", 1))
        if name == "docs/article.md":  # this page reads what the other one makes
            _invoke(batch, '{"Paths": ["images"]}')
        models = {"model=resnet18": small_resnet18(tmp_path)}
        ran = []
        for command in commands(page):
            if command[:2] == ["cdk", "deploy"]:
                deploy(monkeypatch, models.get(command[-1], DEFAULT))
            ran.append(_run(command, deployment, batch, tmp_path))
        assert any(ran) or name == "docs/article.md"
        if name != "README.md":
            code = _with_names("\n".join(blocks(page, "python")), deployment)
            done = nursery.run([sys.executable, "-c", code], cwd=tmp_path)
            assert done.returncode == 0, done.stderr


def _run(command: list[str], deployment: Deployment, batch: BatchServer, folder: Path) -> bool:
    """Run a command about AWS, if it can be run here; return whether it was."""
    if command[:3] == ["aws", "lambda", "invoke"]:
        _invoke(batch, command[command.index("--payload") + 1])
        return True
    words = [_with_names(word, deployment) for word in command]
    if command[0] != "fanfold" or (words == command and not any(word.startswith("dynamodb:") for word in words)):
        return False
    done = call(words, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return True


def _invoke(batch: BatchServer, payload: str) -> None:
    told = handler(json.loads(payload), Context())
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"


def _with_names(text: str, deployment: Deployment) -> str:
    table = deployment.mirror.removeprefix("dynamodb://")
    return text.replace("BUCKET", deployment.bucket).replace("TABLE", table)
