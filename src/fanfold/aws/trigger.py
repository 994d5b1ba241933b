"""The Lambda: it starts runs on AWS, and commits those that AWS Batch does not.

    a request                      plan and submit a run
    a question about a run         answer with its state (`standing.py`)
    uploads                        start a run over the uploads, once no other run is under way
    a job of AWS Batch has failed  if a run's array failed, its committing job never began: submit another

`events.py` recognises these events.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from fanfold.aws import events
from fanfold.aws.batch import CANCELLED, GIVEN_UP, AwsBatch
from fanfold.aws.deployment import Deployment
from fanfold.aws.events import Request
from fanfold.aws.standing import standing
from fanfold.core.catalog import find_run, unended
from fanfold.core.plan import Options
from fanfold.core.report import is_under_way
from fanfold.core.run import Run, begin
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Table
from fanfold.errors import FanfoldError, MirrorMismatch, UsageError
from fanfold.source import Ids
from fanfold.storage import exists

RESERVE = 90.0
"""Seconds before the Lambda's time limit at which AWS Batch takes over unfinished planning."""
HTTP_SECONDS = 15.0
"""Seconds after the start of a request over HTTP at which AWS Batch does: API Gateway waits at most 29 seconds."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """The entry point of the Lambda. Returns the run's id, its table, its counts and its AWS Batch jobs.

    Raises UsageError for events that are not valid, StorageError when S3 or AWS Batch cannot be used. Over HTTP, errors
    are answers.
    """
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE
    try:
        if isinstance(event, Mapping) and events.is_http(event):
            return _over_http(event, min(seconds, HTTP_SECONDS))
        return _answer(event, Deployment.load(), seconds)
    except FanfoldError as error:
        raise events.in_fields(error) from None  # so that Lambda shows one sentence, and no traceback


def _over_http(event: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Answer a request over HTTP. No other event is allowed there."""
    try:
        return events.over_http(200, _asked(events.body_of(event), Deployment.load(), seconds))
    except FanfoldError as error:
        return events.over_http(_status(error), {"Error": str(events.in_fields(error))})


def _status(error: FanfoldError) -> int:
    """The HTTP status of an error."""
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
    if events.is_upload(event):
        return _uploaded_directly(deployment, seconds)
    if "detail-type" in event:
        raise events.other_event(event)
    return _asked(event, deployment, seconds)


def _asked(content: Any, deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Answer a question about a run, or a request."""
    if isinstance(content, Mapping) and (id := events.run_of(content)):
        return standing(find_run(deployment.database, id), deployment)
    job = type(deployment.new_job())
    try:
        return trigger(Request.of(content, job), deployment, seconds)
    except FanfoldError as error:
        raise events.in_fields(error, job) from error.__cause__


def trigger(request: Request, deployment: Deployment, seconds: float | None = None) -> dict[str, Any]:
    """Plan and submit a run. If planning takes longer than `seconds`, AWS Batch plans it."""
    job, executor = deployment.new_job(request.options), AwsBatch(deployment)
    table = request.Table or executor.table(job)
    try:
        options = Options(
            task_size=request.TaskSize or deployment.task_size,
            ids=cast(Ids, request.Ids or _ids_of(table, deployment)),
            mirror=request.Mirror,
            retry_failed=request.RetryFailed,
        )
        begun = begin(job, request.sources(deployment.bucket), deployment.database, table, options, executor)
    except MirrorMismatch as error:
        _, wrong, command = error.args
        other = f'"Mirror": "{deployment.made}{table}-2"'
        raise UsageError(f"{wrong} Send {other}. Or empty it and use it for this table: {command}") from None
    begun.launch(seconds)
    return answer_of(begun)


def _ids_of(table: str, deployment: Deployment) -> str:
    """What identifies the items of a table; `key` if the table does not exist."""
    found = Table.open(deployment.database, table)
    return found.metadata.get("fanfold.ids", "key") if found else "key"


def answer_of(begun: Run) -> dict[str, Any]:
    """The answer for a run that was launched, ready for JSON."""
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
    """Start a run over the prefixes of uploads. While a run is under way, the messages wait in the queue."""
    if all(map(events.is_test, records)):
        return {"batchItemFailures": []}
    if _is_busy(deployment):
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}
    return {"batchItemFailures": [], **_run_over_uploads(deployment, seconds)}


def _uploaded_directly(deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Start a run for an event that S3 or EventBridge sent directly to the Lambda. Such an event comes only once."""
    if not deployment.uploads:
        return {"Ignored": "Uploads do not start runs here. To change that: cdk deploy --all -c uploads=PREFIX"}
    if _is_busy(deployment):
        return {
            "Ignored": "A run is under way. The next run does this upload. With -c uploads=PREFIX the deployment "
            "has a queue where uploads wait: let S3 notify EventBridge, not the Lambda."
        }
    return _run_over_uploads(deployment, seconds)


def _run_over_uploads(deployment: Deployment, seconds: float) -> dict[str, Any]:
    filled = [prefix for prefix in deployment.uploads if exists(f"s3://{deployment.bucket}/{prefix}")]
    return trigger(Request(Paths=tuple(filled)), deployment, seconds) if filled else {}


def _is_busy(deployment: Deployment) -> bool:
    """Whether a run is under way that will end by itself.

    A run whose jobs have all ended without a report will not: the next run commits what it did.
    """
    if not exists(deployment.database):
        return False
    executor = AwsBatch(deployment)
    runs = filter(is_under_way, unended(deployment.database))
    return any(run.get("jobs.json") is None or executor.state(run) is not None for run in runs)


def _failed(job: Mapping[str, Any], deployment: Deployment) -> dict[str, Any]:
    """Commit a run whose committing job never began, because the job that it waited for failed."""
    verb, _, id = job["jobName"].removeprefix("fanfold-").partition("-")
    why = job.get("statusReason") or ""
    unwanted = why == CANCELLED or GIVEN_UP in why  # another job would also wait for machines in vain
    if verb != "commit" or job.get("startedAt") or job.get("attempts") or unwanted:
        return {"Ignored": job["jobName"]}
    directory = RunDirectory(deployment.database, id)
    if directory.get("report.json"):
        return {"Ignored": job["jobName"]}
    AwsBatch(deployment).commit_again(directory)
    return {"Run": id, "Committing": True}
