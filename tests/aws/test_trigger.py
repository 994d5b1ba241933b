"""The Lambda: what it understands, plans, submits and refuses; AWS Batch runs its jobs as processes here."""

import io
import json
import os
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from batch_server import BatchServer
from lambda_server import Context
from PIL import Image

import fanfold
from fanfold import StorageError, UsageError
from fanfold.aws.deployment import Deployment
from fanfold.aws.trigger import handler
from fanfold.runs import RunDirectory, list_runs
from fanfold.storage import exists


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


def test_odd_keys_are_planned_and_done(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """A bucket may have keys that are not paths: the Lambda lists them, the containers read them."""
    upload("images//0.jpg", "images/1.jpg", "images/1.jpg/", "images/../2.jpg", "logs//")
    told = ask(Paths=["images"])
    assert told["Counts"]["listed"] == 2
    assert told["Counts"]["left_out"] == {"named like a folder": 1, "hidden": 1}
    assert batch.wait(told["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {"images//0.jpg", "images/1.jpg"}


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
        (["images"], r"not \["),
        (None, "not null"),
        ({"Paths": ["images"], "TaskSize": -1}, "at least one item"),
        ({"Paths": ["images"], "Tabel": "images"}, "did you mean Table"),
        ({"Paths": ["images"], "Model": "resnet18"}, r'Use "Model": "efficientnet-lite0", or .* -c model=resnet18'),
        ({"Paths": ["images"], "Table": "failures"}, "'failures' is reserved"),
        ({"Paths": ["images"], "Table": "../images"}, "is not a valid table name"),
        ({"Paths": ["s3://other/images"]}, "not in the deployment's bucket"),
        (
            {"Paths": ["images"], "Mirror": "dynamodb://theirs"},
            "may write to no DynamoDB table, not to dynamodb://theirs",
        ),
        (
            {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
            "kind .Scheduled Event.*constant inp",
        ),
        ({"source": "aws.batch", "detail-type": "Batch Job State Change"}, "detail: null is not understood"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "Records of aws:sns are not understood"),
        ({"Records": {}}, "it takes a list of objects"),
        ({"Run": 7}, 'Run: 7 is not understood: it takes the "Run" of an answer'),
        ({"Run": ""}, 'Run: "" is not understood'),
        ({"Run": "x", "Paths": ["images"]}, r'is {"Run": ID} alone.*\(Paths\)'),
    ],
)
def test_what_is_not_understood_is_refused(event: Any, said: str) -> None:
    """A mistake makes no run, but one sentence that names it, and Lambda shows that error alone."""
    with pytest.raises(UsageError, match=said) as raised:
        handler(event, Context())
    assert "\n" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__suppress_context__) == (None, True)


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


def s3_event(key: str) -> dict[str, Any]:
    """What S3 invokes a Lambda with that it tells of uploads itself."""
    told = {"s3SchemaVersion": "1.0", "bucket": {"name": "b"}, "object": {"key": key, "size": 1}}
    return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": told}]}


def test_uploads_that_s3_itself_tells_of(
    upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They start a run; while one is under way the answer says so, and where uploads wait by themselves."""
    assert "-c uploads=PREFIX" in handler(s3_event("images/0.jpg"), Context())["Ignored"]
    told = json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"uploads": ["images"]}
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(told))
    upload("images/0.jpg")
    first = handler(s3_event("images/0.jpg"), Context())
    assert first["Counts"]["planned"] == 1
    by_event_bridge = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"object": {"key": "images/1.jpg"}},
    }
    for event in (s3_event("images/1.jpg"), by_event_bridge):
        assert handler(event, Context())["Ignored"].startswith(
            "A run is under way, and the next one embeds this upload."
        )
    assert batch.wait(first["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert handler(by_event_bridge, Context())["Counts"]["unchanged"] == 1


@pytest.mark.usefixtures("upload")
def test_what_s3_sends_before_any_upload_starts_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turning notifications on sends a test event; no message at all is no upload, either."""
    told = json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"uploads": ["images"]}
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(told))
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": deployment.bucket}
    message = {"messageId": "a", "eventSource": "aws:sqs", "body": json.dumps(test)}
    assert handler({"Records": [message]}, Context()) == {"batchItemFailures": []}
    assert handler({"Records": []}, Context()) == {"batchItemFailures": []}
    assert handler(test, Context()) == {"Ignored": "s3:TestEvent"}
    assert not exists(deployment.database)


def over_http(body: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request that API Gateway passes on, which wants a status, headers and a text back."""
    answer = handler({"httpMethod": "POST", "requestContext": {}, "body": body, **more}, Context())
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["headers"] == {"content-type": "application/json"}
    return answer["statusCode"], json.loads(answer["body"])


def test_over_http_the_request_is_the_body_and_the_answer_has_a_status(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 for a run, 400 for a mistake, 404 for what is not there, 500 for what fails; Batch plans what takes long."""
    upload("images/0.jpg")
    status, told = over_http('{"Paths": ["images"]}')
    assert (status, told["Counts"]["planned"]) == (200, 1)
    assert batch.wait(told["Jobs"]["commit"], 120) == "SUCCEEDED"
    status, told = over_http('{"Paths": ["images"], "Ids": "stem"}')
    assert status == 400
    assert told["Error"].startswith('Table \'images\' has "Ids": "key", not "Ids": "stem". Ask with "Ids": "key", or')
    assert over_http("images")[0] == 400
    failed = {"source": "aws.batch", "detail": {"jobName": f"fanfold-commit-{list_runs(deployment.database)[0]}"}}
    assert over_http(json.dumps(failed))[0] == 400  # what AWS alone may say
    status, told = over_http('{"Paths": ["nothing"]}')
    assert (status, f"s3://{deployment.bucket}/nothing" in told["Error"]) == (404, True)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_BATCH", "http://127.0.0.1:9")
        upload("images/1.jpg")
        status, told = over_http('{"Paths": ["images"]}')
    assert (status, "Cannot use the AWS Batch queue" in told["Error"]) == (500, True)
    monkeypatch.setattr("fanfold.aws.trigger.HTTP_SECONDS", 0)
    status, told = over_http('{"Paths": ["images"]}')
    assert (status, told["Planned"], list(told["Jobs"])) == (200, False, ["launch"])


def test_stems_can_be_asked_for(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Ids` gives keys as the article had them; later runs, and uploads, go on with what the table has."""
    upload("images/cats/001.jpg", "images/dogs/002.png")
    first = ask(Paths=["images"], Ids="stem")
    assert batch.wait(first["Jobs"]["commit"], 120) == "SUCCEEDED"
    assert keys_of(deployment) == {"001", "002"}
    assert ask(Paths=["images"])["Counts"]["unchanged"] == 2
    monkeypatch.setenv(
        "FANFOLD_DEPLOYMENT", json.dumps(json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | {"uploads": ["images"]})
    )
    assert handler(s3_event("images/cats/001.jpg"), Context())["Counts"]["unchanged"] == 2
    with pytest.raises(UsageError, match='has "Ids": "stem", not "Ids": "key"'):
        ask(Paths=["images"], Ids="key")
    upload("images/birds/001.jpg")
    with pytest.raises(UsageError, match=r'1 stems are shared by several items\. Use "Ids": "key"'):
        ask(Paths=["images"])


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


def test_it_says_how_a_run_stands(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs, it has succeeded, or items were lost; one that nobody will end has failed, too, after a while."""
    upload(*(f"images/{n}.jpg" for n in range(4)))
    heard: list[dict[str, Any]] = []
    batch.on_failed = heard.append
    told = ask(Paths=["images"], TaskSize=2)
    key = f"db/_runs/{told['Run']}/tasks/000001.parquet"
    boto3.client("s3").delete_object(Bucket=deployment.bucket, Key=key)
    found = ask(Run=told["Run"])
    assert (found["State"], found["AskAgain"]) == ("running", 5)
    assert found["Doing"].startswith("AWS Batch, work: ")
    assert batch.wait(told["Jobs"]["commit"], 180) == "FAILED"
    assert ask(Run=told["Run"])["Doing"] == "AWS Batch, commit: to be submitted"
    with monkeypatch.context() as patch:
        patch.setattr("fanfold.aws.standing.COMMIT_WITHIN", 0)
        found = ask(Run=told["Run"])
        assert (found["State"], "has ended without a commit" in found["Cause"]) == ("failed", True)
    for event in heard:
        handler(event, Context())
    again = (RunDirectory(deployment.database, told["Run"]).get("jobs.json") or {})["jobs"][-1]
    assert batch.wait(again["id"], 120) == "SUCCEEDED"
    found = ask(Run=told["Run"])
    assert found["State"] == "failed"
    assert found["Cause"].startswith(f"Run {told['Run']} lost 2 of 4 items: the next run does them.")
    assert f"fanfold report {deployment.database} {told['Run']}" in found["Cause"]
    rest = ask(Paths=["images"])
    assert batch.wait(rest["Jobs"]["commit"], 120) == "SUCCEEDED"
    status, found = over_http(json.dumps({"Run": rest["Run"]}))
    assert (status, found["State"], found["Report"]["ok"]) == (200, "succeeded", 2)
    with pytest.raises(UsageError, match=f"There is no run x in {deployment.database}"):
        ask(Run="x")


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
