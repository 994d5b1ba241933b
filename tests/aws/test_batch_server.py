"""The AWS Batch of the tests behaves like the real one, as far as other tests rely on it, as seen through boto3."""

import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_server import LOST_HOST, TIMED_OUT, BatchServer
from botocore.exceptions import ClientError

RULES = [
    {"onExitCode": "2", "action": "EXIT"},
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onExitCode": "*", "action": "RETRY"},
]
Submit = Callable[..., str]


@pytest.fixture(name="server")
def _server(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    """A server whose containers run a line of Python."""
    entrypoint = [sys.executable, "-c", "import os, sys, time; from pathlib import Path; exec(sys.argv[1])"]
    with BatchServer(aws, entrypoint=entrypoint) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BATCH", server.url)
        yield server


@pytest.fixture(name="submit")
def _submit(server: BatchServer) -> Submit:  # noqa: ARG001 - it sets the environment
    """Submit a job that runs a line of Python; return its id."""
    name = f"line-{uuid.uuid4().hex[:8]}"
    boto3.client("batch").register_job_definition(
        jobDefinitionName=name,
        type="container",
        containerProperties={
            "image": "none",
            "vcpus": 1,
            "memory": 128,
            "command": ["Ref::line"],
            "environment": [{"name": "COLOUR", "value": "blue"}],
        },
        retryStrategy={"attempts": 3, "evaluateOnExit": RULES},
    )

    def submit(line: str, **more: Any) -> str:
        asked = {"jobName": "test", "jobQueue": "any", "jobDefinition": name, "parameters": {"line": line}, **more}
        return str(boto3.client("batch").submit_job(**asked)["jobId"])

    return submit


def described(*ids: str) -> list[dict[str, Any]]:
    """The result of DescribeJobs."""
    jobs: list[dict[str, Any]] = boto3.client("batch").describe_jobs(jobs=list(ids))["jobs"]
    return jobs


def test_a_job_runs_its_command(server: BatchServer, submit: Submit) -> None:
    """Parameters are filled in, the definition's environment is set, and the output is kept."""
    id = submit("print(os.environ['COLOUR'], os.environ['AWS_BATCH_JOB_ATTEMPT'])")
    assert server.wait(id) == "SUCCEEDED"
    assert server.output(id) == "blue 1\n"
    (job,) = described(id)
    assert job["startedAt"] <= job["stoppedAt"]
    assert job["attempts"][0]["container"] == {"exitCode": 0}


def test_children_know_their_index(server: BatchServer, submit: Submit) -> None:
    """Each child of an array has its own index, and the parent counts the children."""
    id = submit("print(os.environ['AWS_BATCH_JOB_ARRAY_INDEX'])", arrayProperties={"size": 3})
    assert server.wait(id) == "SUCCEEDED"
    assert [server.output(id, index) for index in range(3)] == ["0\n", "1\n", "2\n"]
    parent, child = described(id, f"{id}:1")
    assert parent["arrayProperties"] == {"size": 3, "statusSummary": {"SUCCEEDED": 3}}
    assert child["arrayProperties"] == {"index": 1}
    listed = boto3.client("batch").list_jobs(arrayJobId=id, jobStatus="SUCCEEDED", maxResults=2)
    rest = boto3.client("batch").list_jobs(arrayJobId=id, jobStatus="SUCCEEDED", nextToken=listed["nextToken"])
    assert [len(page["jobSummaryList"]) for page in (listed, rest)] == [2, 1]


@pytest.mark.parametrize(("code", "attempts"), [(1, 3), (2, 1)])
def test_rules_decide_on_retries(server: BatchServer, submit: Submit, code: int, attempts: int) -> None:
    """The definition's rules decide whether an exit code is retried, and how often."""
    id = submit(f"sys.exit({code})")
    assert server.wait(id) == "FAILED"
    assert [attempt["container"]["exitCode"] for attempt in described(id)[0]["attempts"]] == [code] * attempts


def test_lost_hosts_and_kills(server: BatchServer, submit: Submit) -> None:
    """A lost host leaves no exit code, and a signal leaves 128 plus its number; both are retried."""
    id = submit("int(os.environ['AWS_BATCH_JOB_ATTEMPT']) < 3 and time.sleep(60)")
    server.lose_host(id)
    while len(described(id)[0]["attempts"]) < 1:
        time.sleep(0.05)
    server.kill(id, None, signal.SIGTERM)
    assert server.wait(id) == "SUCCEEDED"
    first, second, third = described(id)[0]["attempts"]
    assert (first["statusReason"], first["container"]) == (LOST_HOST, {"reason": ""})
    assert (second["container"]["exitCode"], third["container"]["exitCode"]) == (128 + signal.SIGTERM, 0)


def test_dependencies(server: BatchServer, submit: Submit, tmp_path: Path) -> None:
    """A job waits for all children of its dependency, and fails without starting if the dependency fails."""
    heard: list[dict[str, Any]] = []
    server.on_failed = heard.append
    mark = f"Path({str(tmp_path)!r}, os.environ['AWS_BATCH_JOB_ARRAY_INDEX']).touch()"
    array = submit(f"time.sleep(0.3); {mark}", arrayProperties={"size": 2})
    after = submit(f"print(len(list(Path({str(tmp_path)!r}).iterdir())))", dependsOn=[{"jobId": array}])
    assert server.wait(after) == "SUCCEEDED"
    assert server.output(after) == "2\n"
    failing = submit("sys.exit(2)")
    never = submit("print('begun')", dependsOn=[{"jobId": failing}])
    assert server.wait(never) == "FAILED"
    (job,) = described(never)
    assert (job["statusReason"], job["attempts"], "startedAt" in job) == ("Dependent Job failed", [], False)
    assert {event["detail"]["jobId"] for event in heard} == {failing, never}
    assert {event["detail-type"] for event in heard} == {"Batch Job State Change"}


def test_terminating(server: BatchServer, submit: Submit) -> None:
    """Running jobs get a SIGTERM, waiting jobs never start, and nothing is retried."""
    array = submit("time.sleep(60)", arrayProperties={"size": 4})
    server.kill(array, 0, signal.SIGCONT)  # this waits until it runs
    boto3.client("batch").terminate_job(jobId=array, reason="enough")
    assert server.wait(array) == "FAILED"
    children = described(*(f"{array}:{index}" for index in range(4)))
    assert {child["statusReason"] for child in children} == {"enough"}
    assert sum(len(child["attempts"]) for child in children) <= 2


def test_timeouts(server: BatchServer, submit: Submit) -> None:
    """An attempt that exceeds its timeout is killed, and its job is not retried, whatever its rules are."""
    id = submit("time.sleep(60)", timeout={"attemptDurationSeconds": 1})
    assert server.wait(id) == "FAILED"
    (job,) = described(id)
    assert (job["statusReason"], len(job["attempts"])) == (TIMED_OUT, 1)


def test_each_job_has_the_definition_it_names(server: BatchServer, submit: Submit) -> None:
    """A job runs the definition of its name, its revision or its ARN, among others with more revisions."""
    stem, told = f"said-{uuid.uuid4().hex[:8]}", {}
    for name, line in (("a", "print(1)"), ("b", "print(2)"), ("a", "print(3)"), ("a", "print(4)")):
        container = {"image": "none", "vcpus": 1, "memory": 128, "command": [line]}
        made = boto3.client("batch").register_job_definition(
            jobDefinitionName=f"{stem}-{name}", type="container", containerProperties=container
        )
        told[line] = made["jobDefinitionArn"]
    asked = {f"{stem}-a": "4", f"{stem}-b": "2", f"{stem}-a:2": "3", told["print(1)"]: "1"}
    jobs = {submit("pass", jobDefinition=definition): said for definition, said in asked.items()}
    assert {id: (server.wait(id), server.output(id)) for id in jobs} == {
        id: ("SUCCEEDED", f"{said}\n") for id, said in jobs.items()
    }


@pytest.mark.parametrize(
    "more", [{"arrayProperties": {"size": 1}}, {"arrayProperties": {"size": 10_001}}, {"jobName": "no name!"}]
)
def test_what_aws_would_refuse(submit: Submit, more: dict[str, Any]) -> None:
    """Arrays must have 2 to 10,000 children, and names only certain characters."""
    with pytest.raises(ClientError):
        submit("pass", **more)
