"""The executor on AWS Batch: an array job does a run's tasks, and a job that depends on it commits them.

    tasks   0  1  2  3  4  5  6         child i of an array of n does tasks i, i + n, i + 2n, ...
            │  │  │  │  │  │  │         An array has 2 to 10,000 children. A run of one task is a plain job;
    child   0  1  2  0  1  2  0         a run of a million tasks is still one array.

AWS_BATCH_JOB_ARRAY_INDEX numbers the children. Limits and states: the AWS Batch user guide, "Array jobs",
"Job dependencies" and "Job states" (docs.aws.amazon.com/batch/latest/userguide/).
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from fanfold.aws.client import aws_errors, connect
from fanfold.aws.deployment import Deployment
from fanfold.core.executor import Size
from fanfold.core.runs import RunDirectory
from fanfold.core.table import Table
from fanfold.errors import StorageError, UsageError
from fanfold.job import Job, spec
from fanfold.source import Source, places_of
from fanfold.storage import is_url, split_url

MOST_CHILDREN = 10_000
TASK_SECONDS, ITEM_SECONDS = 3600, 4
"""Time limits of a worker, per task: the larger of the two counts. A worker that takes longer hangs, and is ended.
AWS Batch does not repeat jobs that timed out (user guide, "Job timeouts"). The rest is committed, and the next run does
what is missing."""

CANCELLED = "fanfold cancel"
"""The reason of a job that was cancelled."""

GIVEN_UP = "JobStateTimeLimit"
"""Part of the reason of a job that AWS Batch itself cancelled because no machine came (infra/machines.py)."""

_ENDED = {"SUCCEEDED", "FAILED"}
_END_WITHIN = 300.0  # seconds: containers have 30 after their SIGTERM, and an array may have thousands
_KNOWN_AFTER = 86400.0  # seconds; AWS Batch forgets a job some days after its end, and may not know a new one yet
_PLAIN = {"SUBMITTED": "waiting", "PENDING": "waiting", "RUNNABLE": "waiting for machines"}


class AwsBatch:
    """Runs tasks in containers of AWS Batch; a `fanfold.executors.Detached`."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._queue = f"the AWS Batch queue {deployment.queue}"
        self._batch: Any = connect("batch", self._queue)

    @classmethod
    def open(cls, where: str, size: Size) -> "AwsBatch":
        """See `open_executor`; `where` is the deployment's name."""
        if size != Size():
            raise UsageError("The deployment sets how many workers AWS Batch has. Type: cdk deploy -c max_vcpus=NUMBER")
        return cls(Deployment.load(where))

    def table(self, job: Job) -> str:
        """The job's own table; if other options fill it, a table with the label of these options.

        So the first options of a deployment keep the job's table, and other options have tables of their own.
        """
        taken = Table.open(self.deployment.database, job.name)
        theirs = json.loads(taken.metadata.get("fanfold.options", "{}")) if taken else {}
        if not theirs or not hasattr(job, "label"):
            return job.name
        known = {field.name for field in fields(job)}  # type: ignore[arg-type]
        other: Any = replace(job, **{name: theirs[name] for name in known & theirs.keys()})  # type: ignore[type-var]
        return job.name if other.label() == job.label() else str(job.label())

    def mirror(self, table: str) -> str:
        """The DynamoDB table of a Lance table, if the deployment has DynamoDB tables."""
        return self.deployment.mirror_of(table)

    def provide(self, mirror: str) -> None:
        """Check that the deployment may write to a DynamoDB table, and make one that is not the deployment's own.

        Raises UsageError, StorageError.
        """
        there = self.deployment
        if mirror == there.mirror:
            return
        if not there.mirror or not mirror.startswith(there.made):
            own = f"{there.mirror}, and {there.made}NAME with any NAME" if there.mirror else "no DynamoDB table"
            raise UsageError(f"The deployment '{there.name}' may write to {own}, not to {mirror}.")
        from fanfold.aws.dynamodb.table import DynamoTable

        DynamoTable.create(mirror)

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source with keys from the top of the bucket, as in every run of this deployment.

        Raises UsageError for addresses that containers may not reach, and for options that they do not have.
        """
        places = [*places_of(job, source.addresses)]
        for address in (*places, database):
            if not address.startswith("s3://"):
                raise UsageError(f"AWS Batch cannot reach {address}. Copy it to S3, and use its s3:// address.")
        self._check_places(places, database)
        self._check_options(job)
        return source.within(split_url(source.root)[0]) or source if is_url(source.root) else source

    def _check_places(self, sources: Sequence[str], database: str) -> None:
        """Raise UsageError for addresses that the deployment's roles may not read or write."""
        there = self.deployment
        if database != there.database:
            raise UsageError(
                f"The deployment '{there.name}' writes only to {there.database}, not to {database}. Use that database, "
                "and for another table in it: --table NAME"
            )
        for address in sources:
            if split_url(address)[0] != f"s3://{there.bucket}":
                raise UsageError(
                    f"The deployment '{there.name}' reads only s3://{there.bucket}, not {address}. Copy it there, or "
                    f"deploy another one: cdk deploy --all -c name=NAME -c bucket={split_url(address)[0][5:]}"
                )

    def _check_options(self, job: Job) -> None:
        """Raise UsageError for options that the container image does not support: containers can fetch nothing."""
        there, asked = self.deployment, spec(job)
        if asked["name"] != there.job or not hasattr(ready := there.new_job(), "choices"):
            return
        for option, values in ready.choices().items():
            if (value := asked["options"][option]) not in values:
                raise UsageError(
                    f"The deployment '{there.name}' has {option} {' or '.join(map(str, values))}, not {value}. "
                    f"Use --{option.replace('_', '-')} {values[0]}, or deploy another one: "
                    f"cdk deploy --all -c options='{json.dumps({option: value})}'"
                )

    def submit(self, run: RunDirectory, tasks: int) -> None:
        """Submit the array and the job that commits. Raises StorageError."""
        cores = max(1, math.floor(self.deployment.vcpus))
        gpus = getattr(run.asked.load_job(), "gpus", self.deployment.gpus)
        workers = 1 if gpus else cores  # on a GPU all cores decode for one worker
        flags = ["--workers", str(workers), *(["--worker-cpus", str(cores)] if workers < cores else [])]
        children = min(MOST_CHILDREN, math.ceil(tasks / cores))
        seconds = max(TASK_SECONDS, ITEM_SECONDS * int(run.asked.options["task_size"]))
        tasks_of_worker = math.ceil(tasks / children / workers)  # one after another
        array = {"arrayProperties": {"size": children}} if children > 1 else {}
        timeout = {"timeout": {"attemptDurationSeconds": seconds * tasks_of_worker}}
        options = ["--of", str(children), *flags]
        work = self._submit(run, "work", self.deployment.worker, options, **timeout, **array)
        self._submit(run, "commit", self.deployment.driver, [], dependsOn=[{"jobId": work}])

    def plan_later(self, run: RunDirectory) -> None:
        """Submit a job that plans the run and then submits it."""
        self._submit(run, "launch", self.deployment.driver, [])

    def commit_again(self, run: RunDirectory) -> None:
        """Submit another committing job: when an array fails, AWS Batch drops the job that depends on it."""
        self._submit(run, "commit", self.deployment.driver, [])

    def state(self, run: RunDirectory) -> str | None:
        """The state of the first job that has not ended; None when all have ended."""
        for known, job in zip(self._submitted(run), self._jobs(run), strict=True):
            if job["status"] not in _ENDED:
                counts = job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1}
                states = [f"{n:,} {_PLAIN.get(status, status.lower())}" for status, n in counts.items() if n]
                return f"AWS Batch, {known['verb']}: {', '.join(states)}"
        return None

    def ended(self, run: RunDirectory) -> float:
        """The time when the last of the run's jobs ended, as far as AWS Batch remembers (Unix, s)."""
        return max((job.get("stoppedAt", 0) / 1000 for job in self._jobs(run)), default=0.0)

    def cancel(self, run: RunDirectory) -> None:
        """Terminate the run's jobs, and wait until they have ended. Raises StorageError if they do not."""
        ids = [job["id"] for job in self._submitted(run)]
        for id in reversed(ids):  # first the jobs that wait for others, so that they do not begin
            with aws_errors(f"the AWS Batch job {id}"):
                self._batch.terminate_job(jobId=id, reason=CANCELLED)
        deadline = time.monotonic() + _END_WITHIN
        while any(job["status"] not in _ENDED for job in self._jobs(run)):
            if time.monotonic() > deadline:
                raise StorageError(f"The AWS Batch jobs {', '.join(ids)} have not ended. Check them, and cancel again.")
            time.sleep(1.0)

    def _submit(self, run: RunDirectory, verb: str, definition: str, options: list[str], **more: Any) -> str:
        with aws_errors(self._queue):
            answer = self._batch.submit_job(
                jobName=f"fanfold-{verb}-{run.id}",
                jobQueue=self.deployment.queue,
                jobDefinition=definition,
                containerOverrides={"command": [verb, run.database, run.id, *options]},
                tags={"fanfold:run": run.id},
                **more,
            )
        job = {"verb": verb, "id": answer["jobId"], "submitted": time.time()}
        executor = f"aws-batch:{self.deployment.name}"
        run.put("jobs.json", {"executor": executor, "jobs": [*self._submitted(run), job]})
        return str(answer["jobId"])

    def _submitted(self, run: RunDirectory) -> list[dict[str, Any]]:
        """The jobs submitted for a run, in that order: `verb`, `id`, and time `submitted` (Unix, s)."""
        jobs: list[dict[str, Any]] = (run.get("jobs.json") or {"jobs": []})["jobs"]
        return jobs

    def _jobs(self, run: RunDirectory) -> list[dict[str, Any]]:
        """The run's jobs as AWS Batch describes them, in the order in which they were submitted."""
        submitted = self._submitted(run)
        with aws_errors(self._queue):
            answer = self._batch.describe_jobs(jobs=[job["id"] for job in submitted])
        described = {job["jobId"]: job for job in answer["jobs"]}
        return [described.get(job["id"]) or {"status": _unknown(job["submitted"])} for job in submitted]


def _unknown(submitted: float) -> str:
    """The status of a job that AWS Batch does not know: it is too new, or it ended and was forgotten."""
    return "SUBMITTED" if time.time() - submitted < _KNOWN_AFTER else "SUCCEEDED"
