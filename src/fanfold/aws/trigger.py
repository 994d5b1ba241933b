"""The Lambda: what makes a run begin on AWS, and go on where AWS Batch would leave it.

    a request                      plan and submit a run
    a question about a run         how it stands (`standing.py`)
    uploads                        the same, once no other run is under way
    a job of AWS Batch has failed  if it is the array of a run, its commit never began: commit now

`events.py` knows these events by their looks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from fanfold.account import is_under_way
from fanfold.aws import events
from fanfold.aws.deployment import Deployment
from fanfold.aws.events import Request
from fanfold.aws.standing import standing
from fanfold.driver import Run, run
from fanfold.errors import FanfoldError, MirrorMismatch, UsageError
from fanfold.executors.aws_batch import CANCELLED, GIVEN_UP, AwsBatch
from fanfold.images import Images, Provider
from fanfold.ledger import unended
from fanfold.runs import RunDirectory, find_run
from fanfold.storage import exists
from fanfold.table import Table

RESERVE = 90.0
"""Seconds before the Lambda's end at which planning that is not done is left to AWS Batch."""
HTTP_SECONDS = 15.0
"""The same for a request over HTTP, counted from its beginning: API Gateway waits for 29 seconds at most."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Be the Lambda. Returns the run's id, its table, its counts and its AWS Batch jobs.

    Raises UsageError for events that are not understood, StorageError when S3 or AWS Batch cannot be used; over HTTP
    those are answers, too.
    """
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE
    try:
        if isinstance(event, Mapping) and events.is_http(event):
            return _over_http(event, min(seconds, HTTP_SECONDS))
        return _answer(event, Deployment.load(), seconds)
    except FanfoldError as error:
        raise events.in_fields(error) from None  # so that Lambda shows a sentence, and no chain of tracebacks


def _over_http(event: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Answer a request over HTTP; no other event may come that way."""
    try:
        return events.over_http(200, _asked(events.body_of(event), Deployment.load(), seconds))
    except FanfoldError as error:
        return events.over_http(_status(error), {"Error": str(events.in_fields(error))})


def _status(error: FanfoldError) -> int:
    """The status that HTTP has for an error."""
    if isinstance(error, UsageError):
        return 400
    return 404 if isinstance(error.__cause__, FileNotFoundError) else 500


def _answer(event: Any, deployment: Deployment, seconds: float) -> dict[str, Any]:
    if not isinstance(event, Mapping):
        return _asked(event, deployment, seconds)
    if event.get("source") == "aws.batch":
        return _failed(events.failed_job(event), deployment)
    if "Records" in event and events.is_from_queue(events.records_of(event)):
        return _uploaded(event["Records"], deployment, seconds)
    if events.is_test(event):
        return {"Ignored": "s3:TestEvent"}
    if "Records" in event or event.get("source") == "aws.s3":
        return _told_directly(event, deployment, seconds)
    if "detail-type" in event:
        raise events.not_for_us(event)
    return _asked(event, deployment, seconds)


def _asked(content: Any, deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Answer what a person, or a program of theirs, asks: a question about a run, or a request."""
    if isinstance(content, Mapping) and (id := events.run_of(content)):
        return standing(find_run(deployment.database, id), deployment)
    return trigger(Request.of(content), deployment, seconds)


def trigger(request: Request, deployment: Deployment, seconds: float | None = None) -> dict[str, Any]:
    """Plan and submit a run; if planning takes longer than `seconds`, let AWS Batch do that, too."""
    job = Images(model=request.Model or deployment.model, provider=cast(Provider, deployment.provider))
    executor = AwsBatch(deployment)
    table = request.Table or executor.table(job)
    try:
        begun = run(
            job,
            source=request.sources(deployment.bucket),
            database=deployment.database,
            table=table,
            executor=executor,
            task_size=request.TaskSize or deployment.task_size,
            ids=request.Ids or _ids_of(table, deployment),
            mirror=request.Mirror,
            retry_failed=request.RetryFailed,
        )
    except MirrorMismatch as error:
        _, wrong, command = error.args
        other = f'"Mirror": "{deployment.made}{table}-2"'
        raise UsageError(f"{wrong} Ask with {other}. Or give it to this table, which empties it: {command}") from None
    begun.launch(seconds)
    return told(begun)


def _ids_of(table: str, deployment: Deployment) -> str:
    """What names items in a table, if there is one already."""
    found = Table.open(deployment.database, table)
    return found.metadata.get("fanfold.ids", "key") if found else "key"


def told(begun: Run) -> dict[str, Any]:
    """What a run that was launched comes to, as JSON can hold it."""
    plan = begun.directory.get("plan.json")
    jobs = (begun.directory.get("jobs.json") or {"jobs": []})["jobs"]
    return {
        "Run": begun.id,
        "Database": begun.directory.database,
        "Table": begun.ledger.name,
        "Mirror": begun.options.mirror,
        "Planned": plan is not None,
        "Counts": plan or {},
        "Jobs": {job["verb"]: job["id"] for job in jobs},
    }


def _uploaded(records: Sequence[Mapping[str, Any]], deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Start a run over what uploads are watched for. While one is under way the messages wait, and so add up."""
    if all(map(events.is_test_message, records)):
        return {"batchItemFailures": []}
    if _is_busy(deployment):
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}
    return {"batchItemFailures": [], **_run_over_uploads(deployment, seconds)}


def _told_directly(event: Mapping[str, Any], deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Start a run when S3 or EventBridge tells the Lambda itself of an upload: nobody tells it again."""
    if not events.tells_of_upload(event):
        raise events.not_for_us(event)
    if not deployment.uploads:
        return {"Ignored": "No prefix is watched for uploads: cdk deploy --all -c uploads=PREFIX"}
    if _is_busy(deployment):
        return {
            "Ignored": "A run is under way, and the next one embeds this upload. With -c uploads=PREFIX the deployment "
            "has a queue in which uploads wait by themselves: have S3 tell EventBridge, not the Lambda."
        }
    return _run_over_uploads(deployment, seconds)


def _run_over_uploads(deployment: Deployment, seconds: float) -> dict[str, Any]:
    filled = [prefix for prefix in deployment.uploads if exists(f"s3://{deployment.bucket}/{prefix}")]
    return trigger(Request(Paths=tuple(filled)), deployment, seconds) if filled else {}


def _is_busy(deployment: Deployment) -> bool:
    """Whether a run is under way that will come to an end by itself.

    One that was submitted, and whose jobs have all ended without a report, will not: the next run commits what it did.
    """
    if not exists(deployment.database):
        return False
    executor = AwsBatch(deployment)
    runs = filter(is_under_way, unended(deployment.database, but=""))
    return any(run.get("jobs.json") is None or executor.state(run) is not None for run in runs)


def _failed(job: Mapping[str, Any], deployment: Deployment) -> dict[str, Any]:
    """Commit a run whose committing job failed because what it waited for had: it never began."""
    verb, _, id = job["jobName"].removeprefix("fanfold-").partition("-")
    why = job.get("statusReason") or ""
    unwanted = why == CANCELLED or GIVEN_UP in why  # another one would wait for machines in vain, too, and so for ever
    if verb != "commit" or job.get("startedAt") or job.get("attempts") or unwanted:
        return {"Ignored": job["jobName"]}
    directory = RunDirectory(deployment.database, id)
    if directory.get("report.json"):
        return {"Ignored": job["jobName"]}
    AwsBatch(deployment).commit_again(directory)
    return {"Run": id, "Committing": True}
