"""The executor on AWS Batch: an array job performs a run's tasks, and a job that depends on it commits them.

    tasks   0  1  2  3  4  5  6         child i of an array of n performs tasks i, i + n, i + 2n, ...
            │  │  │  │  │  │  │         An array has 2 to 10,000 children: a run of one task is a plain job,
    child   0  1  2  0  1  2  0         and a run of a million still is one array.

Children are told apart by AWS_BATCH_JOB_ARRAY_INDEX. Limits and states: the AWS Batch user guide, "Array jobs",
"Job dependencies" and "Job states" (docs.aws.amazon.com/batch/latest/userguide/).
"""

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fanfold.aws.client import connect, errors_of
from fanfold.aws.deployment import Deployment
from fanfold.errors import StorageError, UsageError
from fanfold.executors import Size
from fanfold.job import Job, spec
from fanfold.runs import RunDirectory
from fanfold.source import Source
from fanfold.storage import is_url, split_url
from fanfold.table import Table

MOST_CHILDREN = 10_000
TASK_SECONDS, ITEM_SECONDS = 3600, 4
"""A worker that takes longer than both allow for a task of its share is taken to hang, and ended. AWS Batch does not
repeat what it has timed out (user guide, "Job timeouts"): the rest is committed, the next run does what is missing."""

CANCELLED = "fanfold cancel"
"""The reason that AWS Batch is given, and gives."""

GIVEN_UP = "JobStateTimeLimit"
"""In the reason that AWS Batch gives for a job that it cancelled itself, since no machine came (infra/machines.py)."""

_ENDED = {"SUCCEEDED", "FAILED"}
_END_WITHIN = 300.0  # seconds: containers have 30 after their SIGTERM, and an array may have thousands
_KNOWN_AFTER = 86400.0  # seconds; AWS Batch forgets a job some days after it ended, and may not know a new one at once
_SAID = {"SUBMITTED": "waiting", "PENDING": "waiting", "RUNNABLE": "waiting for machines"}


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
            raise UsageError("AWS Batch has as many workers as its deployment allows: cdk deploy -c max_vcpus=NUMBER")
        return cls(Deployment.load(where))

    def table(self, job: Job) -> str:
        """The job's own table, or where another model has filled that, one that is called after the model.

        So the first model of a deployment keeps the table, and each goes on with its own when it is deployed again.
        """
        model = self._model(spec(job)["options"])
        taken = Table.open(self.deployment.database, job.name)
        options = json.loads(taken.metadata.get("fanfold.options", "{}")) if taken else {}
        return job.name if self._model(options) == model else _called_after(model)

    def _model(self, options: Mapping[str, Any]) -> str:
        return str(options.get("model", self.deployment.model))

    def mirror(self, table: str) -> str:
        """The DynamoDB table of a Lance table, if the deployment has any."""
        return self.deployment.mirror_of(table)

    def provide(self, mirror: str) -> None:
        """See that the deployment may write to a DynamoDB table, and make it if it did not come with the deployment.

        Raises UsageError, StorageError.
        """
        there = self.deployment
        if mirror == there.mirror:
            return
        if not there.mirror or not mirror.startswith(there.made):
            own = f"{there.mirror}, and {there.made}NAME with any NAME" if there.mirror else "no DynamoDB table"
            raise UsageError(f"The deployment '{there.name}' may write to {own}, not to {mirror}.")
        from fanfold.aws.dynamodb import DynamoTable

        DynamoTable.create(mirror)

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source with keys from the bucket's top on, as whoever else works on this deployment has them.

        Raises UsageError for addresses that containers may not reach and models they do not have.
        """
        for address in (*source.addresses, database):
            if not address.startswith("s3://"):
                raise UsageError(f"AWS Batch cannot see {address}: copy it to S3, and give its s3:// address.")
        self._check_places(source.addresses, database)
        self._check_options(spec(job)["options"])
        return source.within(split_url(source.root)[0]) or source if is_url(source.root) else source

    def _check_places(self, sources: Sequence[str], database: str) -> None:
        """Raise UsageError for what the deployment's roles may not read or write."""
        there = self.deployment
        if database != there.database:
            raise UsageError(
                f"The deployment '{there.name}' writes to {there.database} alone, not to {database}. Use that, and for "
                "another table in it: --table NAME"
            )
        for address in sources:
            if split_url(address)[0] != f"s3://{there.bucket}":
                raise UsageError(
                    f"The deployment '{there.name}' reads s3://{there.bucket} alone, not {address}. Copy it there, or "
                    f"deploy another one: cdk deploy --all -c name=NAME -c bucket={split_url(address)[0][5:]}"
                )

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise UsageError for what the deployment's container image cannot do: where it runs nothing is fetched."""
        there = self.deployment
        if (precision := options.get("precision", "fp32")) != "fp32":
            raise UsageError(
                f"The deployment '{there.name}' has the model in fp32, not in {precision}: leave --precision out."
            )
        if (model := options.get("model", there.model)) != there.model:
            raise UsageError(
                f"The deployment '{there.name}' has the model {there.model}, not {model}. "
                f"Use --model {there.model}, or deploy another: cdk deploy --all -c model={model}"
            )
        if (provider := options.get("provider", "cpu")) not in ("cpu", there.provider):
            raise UsageError(
                f"The deployment '{there.name}' has no {provider}: leave --provider out, or deploy one with GPUs: "
                "cdk deploy --all -c compute=gpu"
            )

    def submit(self, run: RunDirectory, tasks: int) -> None:
        """Submit the array and the job that commits. Raises StorageError."""
        cores = max(1, math.floor(self.deployment.vcpus))
        workers = 1 if self._on_gpu(run) else cores
        crew = ["--workers", str(workers), *(["--worker-cpus", str(cores)] if workers < cores else [])]
        children = min(MOST_CHILDREN, math.ceil(tasks / cores))
        shares = math.ceil(tasks / children / workers)  # tasks that one worker process performs, one after another
        array = {"arrayProperties": {"size": children}} if children > 1 else {}
        work = self._submit(
            run,
            "work",
            self.deployment.worker,
            ["--of", str(children), *crew],
            timeout={"attemptDurationSeconds": _longest(run) * shares},
            **array,
        )
        self._submit(run, "commit", self.deployment.driver, [], dependsOn=[{"jobId": work}])

    def _on_gpu(self, run: RunDirectory) -> bool:
        """Whether the run's job works on the container's GPU: one worker has it then, and all cores decode for it."""
        options = (run.get("run.json") or {})["job"]["options"]
        return bool(options.get("provider", self.deployment.provider) in ("cuda", "tensorrt"))

    def plan_later(self, run: RunDirectory) -> None:
        """Submit a job that plans the run and then submits it."""
        self._submit(run, "launch", self.deployment.driver, [])

    def commit_again(self, run: RunDirectory) -> None:
        """Submit a job that commits what there is: when the array has failed, AWS Batch drops what depends on it."""
        self._submit(run, "commit", self.deployment.driver, [])

    def state(self, run: RunDirectory) -> str | None:
        """What the first job that has not ended is doing; None when all have."""
        for known, job in zip(self._submitted(run), self._jobs(run), strict=True):
            if job["status"] not in _ENDED:
                counts = job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1}
                said = [f"{n:,} {_SAID.get(status, status.lower())}" for status, n in counts.items() if n]
                return f"AWS Batch, {known['verb']}: {', '.join(said)}"
        return None

    def ended(self, run: RunDirectory) -> float:
        """When the last of the run's jobs ended, as far as AWS Batch remembers (Unix, s)."""
        return max((job.get("stoppedAt", 0) / 1000 for job in self._jobs(run)), default=0.0)

    def cancel(self, run: RunDirectory) -> None:
        """Terminate the run's jobs, and wait until they have ended. Raises StorageError if they do not."""
        ids = [job["id"] for job in self._submitted(run)]
        for id in reversed(ids):  # what waits for another goes first, so that it does not begin
            with errors_of(f"the AWS Batch job {id}"):
                self._batch.terminate_job(jobId=id, reason=CANCELLED)
        deadline = time.monotonic() + _END_WITHIN
        while any(job["status"] not in _ENDED for job in self._jobs(run)):
            if time.monotonic() > deadline:
                raise StorageError(f"The AWS Batch jobs {', '.join(ids)} do not end. Look at them, and cancel again.")
            time.sleep(1.0)

    def _submit(self, run: RunDirectory, verb: str, definition: str, options: list[str], **more: Any) -> str:
        with errors_of(self._queue):
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
        """What was submitted for a run, in that order: `verb` and `id` of each job, and when (Unix, s)."""
        jobs: list[dict[str, Any]] = (run.get("jobs.json") or {"jobs": []})["jobs"]
        return jobs

    def _jobs(self, run: RunDirectory) -> list[dict[str, Any]]:
        """The run's jobs as AWS Batch describes them, in the order in which they were submitted."""
        submitted = self._submitted(run)
        with errors_of(self._queue):
            answer = self._batch.describe_jobs(jobs=[job["id"] for job in submitted])
        described = {job["jobId"]: job for job in answer["jobs"]}
        return [described.get(job["id"]) or {"status": _unknown(job["submitted"])} for job in submitted]


def _called_after(model: str) -> str:
    """A name for a table of a model's results: resnet18, Xenova-resnet-50-onnx-model."""
    name = model.partition("@")[0].removesuffix(".onnx")
    name = name.partition("://")[2] or name.rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "other"


def _longest(run: RunDirectory) -> int:
    """Seconds that a task of a run may take."""
    asked = run.get("run.json") or {}
    return max(TASK_SECONDS, ITEM_SECONDS * int(asked["options"]["task_size"]))


def _unknown(submitted: float) -> str:
    """The status of a job that AWS Batch does not know: it is not known yet, or has ended and been forgotten."""
    return "SUBMITTED" if time.time() - submitted < _KNOWN_AFTER else "SUCCEEDED"
