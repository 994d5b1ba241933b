"""Shared fixtures of the AWS tests: the APIs of AWS from moto, and an AWS Batch that runs its jobs."""

import functools
import json
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import dynamo_servers
from batch_server import BatchServer

RETRIES = {
    "attempts": 5,
    "evaluateOnExit": [
        {"onExitCode": "2", "action": "EXIT"},
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onExitCode": "*", "action": "RETRY"},
    ],
}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server, whose own AWS Batch and Lambda run nothing."""
    with dynamo_servers.moto() as address:
        yield address


@pytest.fixture(scope="module")
def deployed(moto: str) -> Iterator[Callable[[str], AbstractContextManager[BatchServer]]]:
    """A factory of a deployment with a mirror, which lasts for the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        reach(moto, patch)
        yield lambda mirror: deployment(moto, patch, mirror)


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point every AWS client at moto; its address."""
    return reach(moto, monkeypatch)


@pytest.fixture
def batch(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """An AWS Batch that runs its jobs, with queue, definitions and bucket, as a deployment in the environment."""
    with deployment(aws, monkeypatch) as server:
        yield server


def reach(moto: str, patch: pytest.MonkeyPatch) -> str:
    """Set the environment variables that point every AWS client at moto."""
    settings = {
        "AWS_ENDPOINT_URL": moto,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    configuration = json.dumps({"batch": {"use_docker": False}, "lambda": {"use_docker": False}}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/config", configuration, method="POST")).close()
    return moto


@contextmanager
def deployment(aws: str, patch: pytest.MonkeyPatch, mirror: str = "") -> Iterator[BatchServer]:
    """A deployment without the CDK, and its AWS Batch."""
    name = f"tests-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    with BatchServer(aws) as server:
        patch.setenv("AWS_ENDPOINT_URL_BATCH", server.url)
        _define(aws)
        settings: dict[str, Any] = {"name": "fanfold", "bucket": name, "database": f"s3://{name}/db"}
        settings |= {"queue": "fanfold", "worker": "tests-worker", "driver": "tests-driver", "mirror": mirror}
        settings |= {"job": "images", "options": {}, "task_size": 50}
        patch.setenv("FANFOLD_DEPLOYMENT", json.dumps(settings))
        yield server


@functools.cache
def _define(aws: str) -> None:
    """Register the job definitions of every deployment with a server, once."""
    client = boto3.client("batch", endpoint_url=aws)
    for definition in ("tests-worker", "tests-driver"):
        client.register_job_definition(
            jobDefinitionName=definition,
            type="container",
            containerProperties={"image": "none", "vcpus": 1, "memory": 512, "command": ["--help"]},
            retryStrategy=RETRIES,
        )
