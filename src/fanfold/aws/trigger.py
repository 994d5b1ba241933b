"""The Lambda: what makes a run begin on AWS, and go on where AWS Batch would leave it.

{"Paths": ["images"], ...}     somebody invokes it: plan and submit a run
SQS messages about S3          pictures were uploaded: the same, once no other run is under way
AWS Batch job state change     a run's array failed, so what should have committed it never began: commit now
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from fanfold.aws.deployment import Deployment
from fanfold.driver import Run, run
from fanfold.errors import UsageError
from fanfold.executors.aws_batch import CANCELLED, GIVEN_UP, AwsBatch
from fanfold.images import Images, Provider
from fanfold.ledger import is_under_way, unended
from fanfold.runs import RunDirectory
from fanfold.storage import exists

RESERVE = 90.0
"""Seconds before the Lambda's end at which planning that is not done is left to AWS Batch."""


@dataclass(frozen=True)
class Request:
    """What may be asked of the Lambda."""

    Paths: tuple[str, ...]
    """Prefixes of the bucket, objects in it, or text files in it that list addresses."""
    Model: str = ""
    TaskSize: int = 0
    Table: str = "images"
    RetryFailed: bool = field(default=False)

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "Request":
        """The request in an event. Raises UsageError for one that is not understood."""
        known = {field.name: type(field.default) for field in fields(cls) if field.name != "Paths"}
        for name, value in event.items():
            if name != "Paths" and (name not in known or type(value) is not known[name]):
                raise UsageError(f"{name}: {json.dumps(value)} is not understood. " + _USAGE)
        paths = event.get("Paths")
        if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
            raise UsageError(f"Paths: {json.dumps(paths)} is not understood. " + _USAGE)
        return cls(**{**event, "Paths": tuple(paths)})


_USAGE = (
    'Ask with {"Paths": ["images"]}, and optionally Model, TaskSize (a number), Table, RetryFailed (true or false).'
)


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Be the Lambda. Returns the run's id, its counts and its AWS Batch jobs.

    Raises UsageError for events that are not understood, StorageError when S3 or AWS Batch cannot be used.
    """
    deployment = Deployment.load()
    seconds = context.get_remaining_time_in_millis() / 1000 - RESERVE
    if event.get("source") == "aws.batch":
        return _failed(event["detail"], deployment)
    if "Records" in event:
        return _uploaded(event["Records"], deployment, seconds)
    return trigger(Request.of(event), deployment, seconds)


def trigger(request: Request, deployment: Deployment, seconds: float | None = None) -> dict[str, Any]:
    """Plan and submit a run; if planning takes longer than `seconds`, let AWS Batch do that, too."""
    begun = run(
        Images(model=request.Model or deployment.model, provider=cast(Provider, deployment.provider)),
        source=[f"s3://{deployment.bucket}/{path.strip('/')}" for path in request.Paths],
        database=deployment.database,
        table=request.Table,
        executor=AwsBatch(deployment),
        task_size=request.TaskSize or deployment.task_size,
        retry_failed=request.RetryFailed,
    )
    begun.launch(seconds)
    return told(begun)


def told(begun: Run) -> dict[str, Any]:
    """What a run that was launched comes to, as JSON can hold it."""
    plan = begun.directory.get("plan.json")
    jobs = (begun.directory.get("jobs.json") or {"jobs": []})["jobs"]
    return {
        "Run": begun.id,
        "Database": begun.directory.database,
        "Planned": plan is not None,
        "Counts": plan or {},
        "Jobs": {job["verb"]: job["id"] for job in jobs},
    }


def _uploaded(records: list[Mapping[str, Any]], deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Start a run over what uploads are watched for. While one is under way the messages wait, and so add up."""
    if _is_busy(deployment):
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in records]}
    filled = [prefix for prefix in deployment.uploads if exists(f"s3://{deployment.bucket}/{prefix}")]
    done = trigger(Request(Paths=tuple(filled)), deployment, seconds) if filled else {}
    return {"batchItemFailures": [], **done}


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
