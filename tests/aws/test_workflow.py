"""The state machine's definition, run by an interpreter whose Lambda is our handler."""

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_server import BatchServer
from lambda_server import LambdaServer, step_functions
from PIL import Image

from fanfold.aws import standing
from fanfold.aws.batch import CANCELLED
from fanfold.aws.deployment import Deployment
from fanfold.aws.trigger import handler
from fanfold.core import detached
from fanfold.core.runs import RunDirectory
from fanfold.executors import executor_of

sys.path.insert(0, str(Path(__file__).parent.parent / "infra"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # for `infra`

import emulator

pytestmark = pytest.mark.skipif(bool(emulator.ABSENT), reason=emulator.ABSENT)
FUNCTION = f"arn:aws:lambda:us-east-1:{0:012}:function:fanfold"
BUSY = (429, "TooManyRequestsException")


@dataclass
class Machine:
    """The running state machine."""

    client: Any
    arn: str
    functions: LambdaServer

    def start(self, **given: Any) -> str:
        """Start an execution with this input; return its ARN."""
        name = uuid.uuid4().hex  # AWS would make one up
        answer = self.client.start_execution(stateMachineArn=self.arn, name=name, input=json.dumps(given))
        return str(answer["executionArn"])

    def wait(self, execution: str) -> dict[str, Any]:
        """Wait for an execution; return how it ended."""
        deadline = time.monotonic() + 600
        while (found := self.client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told: dict[str, Any] = found
        return told

    def run(self, **given: Any) -> dict[str, Any]:
        """Run an execution with this input; return how it ended."""
        return self.wait(self.start(**given))


def defined() -> str:
    """The state machine's definition as AWS receives it."""
    from aws_cdk import App, Stack, assertions, aws_lambda
    from infra.workflow import Workflow

    stack = Stack(App(), "Alone")
    Workflow(stack, "fanfold", aws_lambda.Function.from_function_arn(stack, "Function", FUNCTION))
    machine = assertions.Template.from_stack(stack).find_resources("AWS::StepFunctions::StateMachine").popitem()[1]
    parts = machine["Properties"]["DefinitionString"]["Fn::Join"][1]
    return "".join(part if isinstance(part, str) else "aws" for part in parts)  # the partition


@pytest.fixture(scope="module")
def running() -> Iterator[Machine]:
    """The unchanged definition in a server that runs executions."""
    with LambdaServer(handler) as functions, step_functions(functions) as address:
        client = boto3.client(
            "stepfunctions",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        made = client.create_state_machine(
            name="fanfold", definition=defined(), roleArn=f"arn:aws:iam::{0:012}:role/fanfold"
        )
        yield Machine(client, made["stateMachineArn"], functions)


@pytest.fixture
def machine(running: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The same machine with an empty log, which asks every second."""
    monkeypatch.setattr(standing, "SOONEST", 1)
    running.functions.heard.clear()
    return running


@pytest.fixture
def upload(batch: BatchServer, tmp_path: Path) -> Callable[..., None]:  # noqa: ARG001 - it sets the environment
    """Put a picture under the given keys of the bucket."""
    Image.effect_noise((64, 48), 80).convert("RGB").save(tmp_path / "0.jpg")

    def upload(*keys: str) -> None:
        for key in keys:
            boto3.client("s3").upload_file(str(tmp_path / "0.jpg"), Deployment.load().bucket, key)

    return upload


def test_an_execution_ends_with_the_report_of_its_run(machine: Machine, upload: Callable[..., None]) -> None:
    """It starts one run although Lambda is busy at first, asks until the end, and succeeds even with failed items."""
    upload("images/0.jpg", "images/1.jpg")
    boto3.client("s3").put_object(Bucket=Deployment.load().bucket, Key="images/bad.jpg", Body=b"no picture")
    machine.functions.declines = [BUSY, (500, "ServiceException")]
    ended = machine.run(Paths=["images"])
    assert ended["status"] == "SUCCEEDED", ended["cause"]
    told = json.loads(ended["output"])
    assert (told["State"], told["Report"]["ok"], told["Report"]["failed"]) == ("succeeded", 2, 1)
    asked = [event for event in machine.functions.heard if event != {"Paths": ["images"]}]
    assert len(machine.functions.heard) == len(asked) + 1
    assert asked == [{"Run": told["Run"]}] * len(asked)
    again = json.loads(machine.run(Paths=["images"])["output"])
    assert (again["Report"]["unchanged"], again["Report"]["ok"]) == (2, 0)
    assert json.loads(machine.run(Run=told["Run"])["output"]) == told


def test_a_run_that_is_cancelled_fails_its_execution_and_raises_no_alarm(
    machine: Machine, upload: Callable[..., None], batch: BatchServer
) -> None:
    """The cause says so; every event of AWS Batch about it, except the array's, has the reason that raises no alarm."""
    events: list[dict[str, Any]] = []
    batch.on_failed = events.append
    batch.entrypoint = [sys.executable, "-c", "import time; time.sleep(600)"]
    upload("images/0.jpg", "images/1.jpg", "images/2.jpg")
    execution = machine.start(Paths=["images"], TaskSize=1)
    run = _asked_about(machine)
    detached.cancel(run, executor_of(run))
    ended = machine.wait(execution)
    assert (ended["status"], ended["error"]) == ("FAILED", "RunFailed")
    assert ended["cause"].startswith(f"Run {run.id} was cancelled.")
    assert {event["detail"]["jobName"].split("-")[1] for event in events} == {"work", "commit"}
    alone = [event["detail"] for event in events if "arrayProperties" not in event["detail"]]
    assert {job["statusReason"] for job in alone} == {CANCELLED}


def _asked_about(machine: Machine) -> RunDirectory:
    """The run that an execution has started and now asks about."""
    deadline = time.monotonic() + 600
    while not any("Run" in event for event in machine.functions.heard):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return RunDirectory(Deployment.load().database, machine.functions.heard[-1]["Run"])


@pytest.mark.usefixtures("batch")
def test_what_begins_no_run_fails_at_once(machine: Machine) -> None:
    """A mistake is not retried, and its sentence is the cause; so is an answer of the Lambda without a run."""
    ended = machine.run(Paths=["images"], Tabel="x")
    assert (ended["status"], ended["error"]) == ("FAILED", "UsageError")
    assert "did you mean Table?" in json.loads(ended["cause"])["errorMessage"]
    assert len(machine.functions.heard) == 1
    ended = machine.run(source="aws.s3", detail={})
    assert (ended["status"], ended["error"]) == ("FAILED", "NothingBegun")
    assert "Uploads do not start runs here" in json.loads(ended["cause"])["Ignored"]


def test_a_report_that_names_many_refused_rows_is_shortened(machine: Machine, upload: Callable[..., None]) -> None:
    """An output holds 256 KiB, so it has the number of rows that a mirror refused, and names only the first ones."""
    upload("images/0.jpg")
    told = json.loads(machine.run(Paths=["images"])["output"])
    run = RunDirectory(told["Database"], told["Run"])
    refused = {f"{uuid.uuid4()}{'x' * 2000}": "too long" for _ in range(1000)}
    run.put("report.json", (run.get("report.json") or {}) | {"mirror": {"dynamodb://t": {"refused": refused}}})
    output = machine.run(Run=told["Run"])["output"]
    assert len(output) < 256 * 1024
    mirror = json.loads(output)["Report"]["mirror"]["dynamodb://t"]
    assert (len(mirror["refused"]), mirror["refused_in_all"]) == (20, 1000)
