"""The Lambda: what it accepts, plans, submits and refuses; AWS Batch runs its jobs as local processes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_server import BatchServer
from lambda_server import Context

import fanfold
import jobs
from fanfold import StorageError, UsageError
from fanfold.aws.deployment import Deployment
from fanfold.aws.trigger import handler
from fanfold.core.catalog import list_runs
from fanfold.core.runs import RunDirectory
from fanfold.storage import exists


@pytest.fixture(name="deployment")
def _deployment(batch: BatchServer, monkeypatch: pytest.MonkeyPatch) -> Deployment:  # noqa: ARG001 - sets the environment
    """A deployment with a working AWS Batch, whose job needs no model: a file's text is its row."""
    monkeypatch.setenv("PYTHONPATH", str(Path(jobs.__file__).parent))
    configure(monkeypatch, job="jobs:Scripted")
    return Deployment.load()


def configure(patch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Change settings of the deployment."""
    patch.setenv("FANFOLD_DEPLOYMENT", json.dumps(json.loads(os.environ["FANFOLD_DEPLOYMENT"]) | settings))


@pytest.fixture(name="upload")
def _upload(deployment: Deployment) -> Callable[..., None]:
    """Put a text under the given keys of the bucket."""
    s3 = boto3.client("s3")

    def upload(*keys: str) -> None:
        for key in keys:
            s3.put_object(Bucket=deployment.bucket, Key=key, Body=b"text")

    return upload


def keys_of(deployment: Deployment, table: str = "scripted") -> set[str]:
    """The keys of a table."""
    found = fanfold.open_table(deployment.database, table).to_table(columns=["key"])["key"].to_pylist()
    assert len(found) == len(set(found))
    return set(found)


def ask(**request: Any) -> dict[str, Any]:
    """Invoke the Lambda with an event, and return an answer, that survive JSON."""
    answer: dict[str, Any] = json.loads(json.dumps(handler(json.loads(json.dumps(request)), Context())))
    return answer


def test_it_plans_submits_and_answers(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """The answer has the run, counts and jobs; the jobs do the rest."""
    upload(*(f"images/{n}.txt" for n in range(5)), "images/notes.pdf", "other/0.txt")
    told = ask(Paths=["images"], TaskSize=2)
    assert told["Counts"]["listed"] == told["Counts"]["planned"] == 5
    assert told["Counts"]["left_out"] == {"other type": 1}
    assert told["Counts"]["tasks"] == 3
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.txt" for n in range(5)}
    report = RunDirectory(deployment.database, told["Run"]).get("report.json")
    assert report
    assert (report["ended"], report["ok"], report["lost"]) == ("complete", 5, 0)
    again = ask(Paths=["images"])
    assert (again["Counts"]["unchanged"], again["Counts"]["planned"], again["Jobs"]) == (5, 0, {})


def test_odd_keys_are_planned_and_done(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """Keys of a bucket that are not paths are listed by the Lambda and read by the containers."""
    upload("images//0.txt", "images/1.txt", "images/1.txt/", "images/../2.txt", "logs//")
    told = ask(Paths=["images"])
    assert told["Counts"]["listed"] == 2
    assert told["Counts"]["left_out"] == {"named like a folder": 1, "hidden": 1}
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {"images//0.txt", "images/1.txt"}


def test_one_task_is_a_plain_job(deployment: Deployment, upload: Callable[..., None], batch: BatchServer) -> None:
    """AWS Batch has no arrays of one job."""
    upload("images/only.md")
    told = ask(Paths=["images/only.md"])
    (job,) = boto3.client("batch").describe_jobs(jobs=[told["Jobs"]["work"]])["jobs"]
    assert "arrayProperties" not in job
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {"images/only.md"}


@pytest.mark.usefixtures("upload")
@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({}, "Paths: null"),
        (["images"], r"not \["),
        (None, "not null"),
        ({"Paths": ["images"], "TaskSize": -1}, "at least 1"),
        ({"Paths": ["images"], "Pause": "long"}, 'Pause: "long" is not valid: it should be a valid number'),
        ({"Paths": ["images"], "Tabel": "images"}, "did you mean Table"),
        ({"Paths": ["images"], "Model": "resnet18"}, "the fields are Paths, .*, RecipeName, Pause"),
        ({"Paths": ["images"], "Table": "failures"}, "'failures' is reserved"),
        ({"Paths": ["images"], "Table": "../images"}, "is not a valid table name"),
        ({"Paths": ["s3://other/images"]}, "not in the deployment's bucket"),
        (
            {"Paths": ["images"], "Mirror": "dynamodb://theirs"},
            "may write to no DynamoDB table, not to dynamodb://theirs",
        ),
        (
            {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
            "type .Scheduled Event.*has no Paths.*constant inp",
        ),
        ({"source": "aws.batch", "detail-type": "Batch Job State Change"}, "detail: null is not valid"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}, "Records of aws:sns do not start a run"),
        ({"Records": {}}, "it takes a list of objects"),
        ({"Run": 7}, 'Run: 7 is not valid: it takes the "Run" of an answer'),
        ({"Run": ""}, 'Run: "" is not valid'),
        ({"Run": "x", "Paths": ["images"]}, r'is {"Run": ID} and nothing else.*\(Paths\)'),
    ],
)
def test_what_is_not_understood_is_refused(event: Any, said: str) -> None:
    """A mistake starts no run and is one sentence that names it; Lambda shows that error alone."""
    with pytest.raises(UsageError, match=said) as raised:
        handler(event, Context())
    assert "\n" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__suppress_context__) == (None, True)


@pytest.mark.usefixtures("batch")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"Model": "resnet18"}, r'Use "Model": "efficientnet-lite0", or .*cdk deploy .*{"model": "resnet18"}'),
        ({"Provider": "cuda"}, 'has provider cpu, not cuda. Use "Provider": "cpu", or deploy another'),
        ({"BatchSize": 0}, "batch_size must be at least 1"),
    ],
)
def test_options_that_the_container_image_does_not_have(options: dict[str, Any], said: str) -> None:
    """Options that the container image lacks are refused in terms of request fields, with the options to use."""
    deployment = Deployment.load()
    boto3.client("s3").put_object(Bucket=deployment.bucket, Key="images/0.jpg", Body=b"x")
    with pytest.raises(UsageError, match=said):
        ask(Paths=["images"], **options)
    assert not exists(deployment.database)


def test_a_request_sets_options_of_the_job(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """The run has the request's options as well as the deployment's."""
    upload("images/0.txt")
    answer = ask(Paths=["images"], Failing=True, Reason="as asked")
    assert batch.wait(answer["Jobs"]["commit"]) == "SUCCEEDED"
    (failure,) = fanfold.open_table(deployment.database, "failures").to_table().to_pylist()
    assert "as asked" in failure["message"]


def test_a_path_with_nothing_in_it(deployment: Deployment) -> None:
    """A prefix without objects is an error that names it."""
    with pytest.raises(StorageError, match=f"s3://{deployment.bucket}/nothing"):
        ask(Paths=["nothing"])


def test_paths_that_overlap_are_listed_once(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """A prefix inside another one adds nothing."""
    upload("images/a/0.txt", "images/1.txt", "images2/2.txt")
    told = ask(Paths=["images", "images/a", "images/"])
    assert told["Counts"]["listed"] == 2
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {"images/a/0.txt", "images/1.txt"}


def test_planning_that_takes_too_long_goes_on_in_a_job(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """If the Lambda runs out of time, an AWS Batch job plans the same run and submits it."""
    upload(*(f"images/{n}.txt" for n in range(3)))
    told = handler({"Paths": ["images"]}, Context(seconds=0))
    assert (told["Planned"], list(told["Jobs"])) == (False, ["launch"])
    assert batch.wait(told["Jobs"]["launch"]) == "SUCCEEDED", batch.output(told["Jobs"]["launch"])
    run = RunDirectory(deployment.database, told["Run"])
    jobs = {job["verb"]: job["id"] for job in (run.get("jobs.json") or {})["jobs"]}
    assert batch.wait(jobs["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.txt" for n in range(3)}
    assert list_runs(deployment.database) == [told["Run"]]


def sqs_event(*ids: str) -> dict[str, Any]:
    """The event with which SQS invokes a Lambda."""
    return {"Records": [{"messageId": id, "eventSource": "aws:sqs", "body": "{}"} for id in ids]}


def test_uploads_start_a_run_and_then_wait_for_it(
    upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of uploads start one run; later ones are handed back while it is in progress, and come again."""
    configure(monkeypatch, uploads=["images", "nothing-there-yet"])
    upload("images/0.txt")
    with batch.idle():
        first = handler(sqs_event("a", "b"), Context())
        assert (first["batchItemFailures"], first["Counts"]["planned"]) == ([], 1)
        second = handler(sqs_event("c"), Context())
        assert second == {"batchItemFailures": [{"itemIdentifier": "c"}]}
    assert batch.wait(first["Jobs"]["commit"]) == "SUCCEEDED"
    upload("images/1.txt")
    third = handler(sqs_event("c"), Context())
    assert (third["Counts"]["unchanged"], third["Counts"]["planned"]) == (1, 1)


def test_uploads_do_not_wait_for_a_run_that_nobody_will_end(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run's jobs have all ended without a report, the next run commits its work and continues."""
    configure(monkeypatch, uploads=["images"])
    upload(*(f"images/{n}.txt" for n in range(4)))
    with batch.idle():
        first = ask(Paths=["images"], TaskSize=2)
        # One task's manifest is gone, so the array fails, and with it the commit; nothing receives the event.
        s3 = boto3.client("s3")
        s3.delete_object(Bucket=deployment.bucket, Key=f"db/_runs/{first['Run']}/tasks/000001.parquet")
    assert batch.wait(first["Jobs"]["commit"]) == "FAILED"
    second = handler(sqs_event("a"), Context())
    assert (second["batchItemFailures"], second["Counts"]["unchanged"], second["Counts"]["planned"]) == ([], 2, 2)
    assert batch.wait(second["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {f"images/{n}.txt" for n in range(4)}


def s3_event(key: str) -> dict[str, Any]:
    """The event with which S3 invokes a Lambda without EventBridge or SQS."""
    told = {"s3SchemaVersion": "1.0", "bucket": {"name": "b"}, "object": {"key": key, "size": 1}}
    return {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": told}]}


def test_uploads_that_s3_itself_tells_of(
    upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads start a run; during a run, the answer says so. Without upload prefixes, it says how to set them."""
    assert "-c uploads=PREFIX" in handler(s3_event("images/0.txt"), Context())["Ignored"]
    configure(monkeypatch, uploads=["images"])
    upload("images/0.txt")
    with batch.idle():
        first = handler(s3_event("images/0.txt"), Context())
        assert first["Counts"]["planned"] == 1
        by_event_bridge = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"object": {"key": "images/1.txt"}},
        }
        for event in (s3_event("images/1.txt"), by_event_bridge):
            assert handler(event, Context())["Ignored"].startswith("A run is under way. The next run does this upload.")
    assert batch.wait(first["Jobs"]["commit"]) == "SUCCEEDED"
    assert handler(by_event_bridge, Context())["Counts"]["unchanged"] == 1


@pytest.mark.usefixtures("upload")
def test_what_s3_sends_before_any_upload_starts_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test event of new notifications starts nothing, and neither does an empty list of records."""
    configure(monkeypatch, uploads=["images"])
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": deployment.bucket}
    message = {"messageId": "a", "eventSource": "aws:sqs", "body": json.dumps(test)}
    assert handler({"Records": [message]}, Context()) == {"batchItemFailures": []}
    assert handler({"Records": []}, Context()) == {"batchItemFailures": []}
    assert handler(test, Context()) == {"Ignored": "s3:TestEvent"}
    assert not exists(deployment.database)


def over_http(body: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request through API Gateway, which needs a status, headers and a text."""
    answer = handler({"httpMethod": "POST", "requestContext": {}, "body": body, **more}, Context())
    assert set(answer) == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["headers"] == {"content-type": "application/json"}
    return answer["statusCode"], json.loads(answer["body"])


def test_over_http_the_request_is_the_body_and_the_answer_has_a_status(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 for a run, 400 for a mistake, 404 for a missing path, 500 for a failure; long planning moves to AWS Batch."""
    upload("images/0.txt")
    status, told = over_http('{"Paths": ["images"]}')
    assert (status, told["Counts"]["planned"]) == (200, 1)
    assert batch.wait(told["Jobs"]["commit"]) == "SUCCEEDED"
    status, told = over_http('{"Paths": ["images"], "Ids": "stem"}')
    assert status == 400
    assert told["Error"].startswith(
        'Table \'scripted\' was made with "Ids": "key", not with "Ids": "stem". Use "Ids": "key", or'
    )
    assert over_http("images")[0] == 400
    failed = {"source": "aws.batch", "detail": {"jobName": f"fanfold-commit-{list_runs(deployment.database)[0]}"}}
    assert over_http(json.dumps(failed))[0] == 400  # a message that only AWS may send
    status, told = over_http('{"Paths": ["nothing"]}')
    assert (status, f"s3://{deployment.bucket}/nothing" in told["Error"]) == (404, True)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_BATCH", "http://127.0.0.1:9")
        upload("images/1.txt")
        status, told = over_http('{"Paths": ["images"]}')
    assert (status, "Cannot use the AWS Batch queue" in told["Error"]) == (500, True)
    monkeypatch.setattr("fanfold.aws.trigger.HTTP_SECONDS", 0)
    status, told = over_http('{"Paths": ["images"]}')
    assert (status, told["Planned"], list(told["Jobs"])) == (200, False, ["launch"])


def test_stems_can_be_asked_for(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Ids` gives the article's keys; later runs and uploads continue with the table's."""
    upload("images/cats/001.txt", "images/dogs/002.md")
    first = ask(Paths=["images"], Ids="stem")
    assert batch.wait(first["Jobs"]["commit"]) == "SUCCEEDED"
    assert keys_of(deployment) == {"001", "002"}
    assert ask(Paths=["images"])["Counts"]["unchanged"] == 2
    configure(monkeypatch, uploads=["images"])
    assert handler(s3_event("images/cats/001.txt"), Context())["Counts"]["unchanged"] == 2
    with pytest.raises(UsageError, match='made with "Ids": "stem", not with "Ids": "key"'):
        ask(Paths=["images"], Ids="key")
    upload("images/birds/001.txt")
    with pytest.raises(UsageError, match=r'1 stems are shared by several items\. Use "Ids": "key"'):
        ask(Paths=["images"])


def test_a_run_whose_array_fails_is_committed_all_the_same(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer
) -> None:
    """If a child fails for good, AWS Batch drops the commit; the Lambda gets the event and submits another."""
    upload(*(f"images/{n}.txt" for n in range(4)))
    heard: list[dict[str, Any]] = []
    batch.on_failed = heard.append
    s3 = boto3.client("s3")
    with batch.idle():
        told = ask(Paths=["images"], TaskSize=2)
        # The second task's manifest is gone, as if deleted by hand, so its child fails at every attempt.
        s3.delete_object(Bucket=deployment.bucket, Key=f"db/_runs/{told['Run']}/tasks/000001.parquet")
    assert batch.wait(told["Jobs"]["commit"]) == "FAILED"
    events = [event for event in heard if event["detail"]["jobName"].startswith("fanfold-commit-")]
    answers = [handler(event, Context()) for event in events]
    assert answers == [{"Run": told["Run"], "Committing": True}]
    run = RunDirectory(deployment.database, told["Run"])
    again = (run.get("jobs.json") or {})["jobs"][-1]
    assert batch.wait(again["id"]) == "SUCCEEDED"
    report = run.get("report.json")
    assert report
    assert (report["listed"], report["ok"], report["lost"]) == (4, 2, 2)
    assert handler(events[0], Context()) == {"Ignored": f"fanfold-commit-{told['Run']}"}


def test_it_says_how_a_run_stands(
    deployment: Deployment, upload: Callable[..., None], batch: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is in progress, has succeeded, or lost items; a run without a commit counts as failed after a while."""
    upload(*(f"images/{n}.txt" for n in range(4)))
    heard: list[dict[str, Any]] = []
    batch.on_failed = heard.append
    with batch.idle():
        told = ask(Paths=["images"], TaskSize=2)
        key = f"db/_runs/{told['Run']}/tasks/000001.parquet"
        boto3.client("s3").delete_object(Bucket=deployment.bucket, Key=key)
        found = ask(Run=told["Run"])
        assert (found["State"], 5 <= found["AskAgain"] <= 300) == ("running", True)
        assert found["Doing"].startswith("AWS Batch, work: ")
    assert batch.wait(told["Jobs"]["commit"]) == "FAILED"
    assert ask(Run=told["Run"])["Doing"] == "AWS Batch, commit: to be submitted"
    with monkeypatch.context() as patch:
        patch.setattr("fanfold.aws.standing.COMMIT_WITHIN", 0)
        found = ask(Run=told["Run"])
        assert (found["State"], "ended without a commit" in found["Cause"]) == ("failed", True)
    for event in heard:
        handler(event, Context())
    again = (RunDirectory(deployment.database, told["Run"]).get("jobs.json") or {})["jobs"][-1]
    assert batch.wait(again["id"]) == "SUCCEEDED"
    found = ask(Run=told["Run"])
    assert found["State"] == "failed"
    assert found["Cause"].startswith(f"Run {told['Run']} lost 2 of 4 items. The next run does them.")
    assert f"fanfold report {deployment.database} {told['Run']}" in found["Cause"]
    rest = ask(Paths=["images"])
    assert batch.wait(rest["Jobs"]["commit"]) == "SUCCEEDED"
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
    """Only a commit that never started, and that neither a user nor AWS Batch cancelled, is submitted again."""
    event = {"source": "aws.batch", "detail": {"jobName": name, "status": "FAILED", **more}}
    assert handler(event, Context()) == {"Ignored": name}
