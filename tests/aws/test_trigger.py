"""The Lambda: what it understands, plans, submits and refuses; AWS Batch runs its jobs as processes here."""

import io
import json
import os
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from batch_server import BatchServer
from PIL import Image

import fanfold
from fanfold import StorageError, UsageError
from fanfold.aws.deployment import Deployment
from fanfold.aws.trigger import handler
from fanfold.runs import RunDirectory, list_runs


class Context:
    """What AWS gives a handler, as far as ours looks."""

    def __init__(self, seconds: float = 900.0) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


@pytest.fixture(name="picture", scope="module")
def _picture() -> bytes:
    """A JPEG file."""
    file = io.BytesIO()
    Image.effect_noise((64, 48), 80).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(name="deployment")
def _deployment(batch: BatchServer) -> Deployment:  # noqa: ARG001 - it sets the environment
    """The deployment that the environment tells of, whose AWS Batch works."""
    return Deployment.load()


@pytest.fixture(name="upload")
def _upload(deployment: Deployment, picture: bytes) -> Callable[..., None]:
    """Puts a picture (or other bytes) under some keys of the bucket."""
    s3 = boto3.client("s3")

    def upload(*keys: str, body: bytes = picture) -> None:
        for key in keys:
            s3.put_object(Bucket=deployment.bucket, Key=key, Body=body)

    return upload


def keys_of(deployment: Deployment, table: str = "images") -> set[str]:
    """The keys of a table."""
    found = fanfold.open_table(deployment.database, table).to_table(columns=["key"])["key"].to_pylist()
    assert len(found) == len(set(found))
    return set(found)


def ask(**request: Any) -> dict[str, Any]:
    """Invoke the Lambda, with an event and an answer that are JSON."""
    answer: dict[str, Any] = json.loads(json.dumps(handler(json.loads(json.dumps(request)), Context())))
    return answer


def test_it_plans_submits_and_answers(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """The answer tells run, counts and jobs; the jobs do the rest."""
    upload(*(f"images/{n}.jpg" for n in range(5)), "images/notes.txt", "other/0.jpg")
    told = ask(Paths=["images"], TaskSize=2)
    assert told["Counts"]["listed"] == told["Counts"]["planned"] == 5
    assert told["Counts"]["left_out"] == {"other type": 1}
    assert told["Counts"]["tasks"] == 3
    assert batch.wait(told["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.jpg" for n in range(5)}
    report = RunDirectory(deployment.database, told["Run"]).get("report.json")
    assert report
    assert (report["ended"], report["ok"], report["lost"]) == ("complete", 5, 0)
    again = ask(Paths=["images"])
    assert (again["Counts"]["unchanged"], again["Counts"]["planned"], again["Jobs"]) == (5, 0, {})


def test_one_task_is_a_plain_job(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """AWS Batch has no arrays of one."""
    upload("images/only.jpg")
    told = ask(Paths=["images/only.jpg"])
    (job,) = boto3.client("batch").describe_jobs(jobs=[told["Jobs"]["work"]])["jobs"]
    assert "arrayProperties" not in job
    assert batch.wait(told["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {"images/only.jpg"}


@pytest.mark.usefixtures("upload")
@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({}, "Paths: null"),
        ({"Paths": "images"}, 'Paths: "images"'),
        ({"Paths": []}, r"Paths: \[\]"),
        ({"Paths": [1]}, r"Paths: \[1\]"),
        ({"Paths": ["images"], "TaskSize": "many"}, 'TaskSize: "many"'),
        ({"Paths": ["images"], "TaskSize": True}, "TaskSize: true"),
        ({"Paths": ["images"], "Tabel": "images"}, "Tabel"),
        ({"Paths": ["images"], "Model": "resnet18"}, "has the model efficientnet-lite0, not resnet18"),
        ({"Paths": ["images"], "TaskSize": -1}, "at least one item"),
        ({"Paths": ["images"], "Table": "failures"}, "no name for a table"),
    ],
)
def test_what_is_not_understood_is_refused(event: dict[str, Any], said: str) -> None:
    """A request with a mistake in it is no run, but one sentence that names the mistake."""
    with pytest.raises(UsageError, match=said):
        handler(event, Context())


def test_a_path_with_nothing_in_it(deployment: Deployment) -> None:
    """A prefix without objects is an error that names it."""
    with pytest.raises(StorageError, match=f"s3://{deployment.bucket}/nothing"):
        ask(Paths=["nothing"])


def test_paths_that_overlap_are_listed_once(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """A prefix inside another, given too, adds nothing."""
    upload("images/a/0.jpg", "images/1.jpg", "images2/2.jpg")
    told = ask(Paths=["images", "images/a", "images/"])
    assert told["Counts"]["listed"] == 2
    assert batch.wait(told["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {"images/a/0.jpg", "images/1.jpg"}


def test_planning_that_takes_too_long_goes_on_in_a_job(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """When the Lambda's time is up, an AWS Batch job plans the same run and submits it."""
    upload(*(f"images/{n}.jpg" for n in range(3)))
    told = handler({"Paths": ["images"]}, Context(seconds=0))
    assert (told["Planned"], list(told["Jobs"])) == (False, ["launch"])
    assert batch.wait(told["Jobs"]["launch"], 120) == "SUCCEEDED", batch.output(told["Jobs"]["launch"])
    run = RunDirectory(deployment.database, told["Run"])
    jobs = {job["verb"]: job["id"] for job in (run.get("jobs.json") or {})["jobs"]}
    assert batch.wait(jobs["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.jpg" for n in range(3)}
    assert list_runs(deployment.database) == [told["Run"]]


def sqs_event(*ids: str) -> dict[str, Any]:
    """What SQS invokes a Lambda with."""
    return {"Records": [{"messageId": id, "eventSource": "aws:sqs", "body": "{}"} for id in ids]}


def test_uploads_start_a_run_and_then_wait_for_it(
    upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of uploads start one run; those that come while it is under way are handed back, to come again."""
    told = json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"uploads": ["images", "nothing-there-yet"]}
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(told))
    upload("images/0.jpg")
    first = handler(sqs_event("a", "b"), Context())
    assert (first["batchItemFailures"], first["Counts"]["planned"]) == ([], 1)
    second = handler(sqs_event("c"), Context())
    assert second == {"batchItemFailures": [{"itemIdentifier": "c"}]}
    assert batch.wait(first["Jobs"]["commit"], 120) == "SUCCEEDED"
    upload("images/1.jpg")
    third = handler(sqs_event("c"), Context())
    assert (third["Counts"]["unchanged"], third["Counts"]["planned"]) == (1, 1)


def test_uploads_do_not_wait_for_a_run_that_nobody_will_end(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs have all ended, and there is no report: the next run commits what it did, and goes on."""
    told = json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"uploads": ["images"]}
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(told))
    upload(*(f"images/{n}.jpg" for n in range(4)))
    first = ask(Paths=["images"], TaskSize=2)
    # One task's manifest is gone, and with it the array, the commit that waits for it, and whoever should hear of it.
    s3 = boto3.client("s3")
    s3.delete_object(Bucket=deployment.bucket, Key=f"db/_runs/{first['Run']}/tasks/000001.parquet")
    assert batch.wait(first["Jobs"]["commit"], 180) == "FAILED"
    second = handler(sqs_event("a"), Context())
    assert (second["batchItemFailures"], second["Counts"]["unchanged"], second["Counts"]["planned"]) == ([], 2, 2)
    assert batch.wait(second["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.jpg" for n in range(4)}


def test_a_run_whose_array_fails_is_committed_all_the_same(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """When a child fails for good, AWS Batch drops the commit; the Lambda hears of it and submits another."""
    upload(*(f"images/{n}.jpg" for n in range(4)))
    heard: list[dict[str, Any]] = []
    batch.on_failed = heard.append
    s3 = boto3.client("s3")
    told = ask(Paths=["images"], TaskSize=2)
    # The second task's manifest is gone, as if a tidy person had removed it: its child fails whenever it is tried.
    s3.delete_object(Bucket=deployment.bucket, Key=f"db/_runs/{told['Run']}/tasks/000001.parquet")
    assert batch.wait(told["Jobs"]["commit"], 180) == "FAILED"
    events = [event for event in heard if event["detail"]["jobName"].startswith("fanfold-commit-")]
    answers = [handler(event, Context()) for event in events]
    assert answers == [{"Run": told["Run"], "Committing": True}]
    run = RunDirectory(deployment.database, told["Run"])
    again = (run.get("jobs.json") or {})["jobs"][-1]
    assert batch.wait(again["id"], 120) == "SUCCEEDED"
    report = run.get("report.json")
    assert report
    assert (report["listed"], report["ok"], report["lost"]) == (4, 2, 2)
    assert handler(events[0], Context()) == {"Ignored": f"fanfold-commit-{told['Run']}"}


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("fanfold-work-2026-11-23T00-00-00-0000", {}),
        ("somebody-elses", {}),
        ("fanfold-commit-2026-11-23T00-00-00-0000", {"startedAt": 1}),
        ("fanfold-commit-2026-11-23T00-00-00-0000", {"attempts": [{"container": {"exitCode": 1}}]}),
        ("fanfold-commit-2026-11-23T00-00-00-0000", {"statusReason": "fanfold cancel"}),
        (
            "fanfold-commit-2026-11-23T00-00-00-0000",
            {"statusReason": "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:..."},
        ),
    ],
)
def test_other_jobs_that_fail_are_left_alone(name: str, more: dict[str, Any]) -> None:
    """Only a commit that never began, and that nobody cancelled (AWS Batch neither), is submitted again."""
    event = {"source": "aws.batch", "detail": {"jobName": name, "status": "FAILED", **more}}
    assert handler(event, Context()) == {"Ignored": name}
