"""The executor on AWS Batch: an array job performs a run's tasks, and a job that depends on it commits them.

    tasks   0  1  2  3  4  5  6         child i of an array of n performs tasks i, i + n, i + 2n, ...
            │  │  │  │  │  │  │         An array has 2 to 10,000 children: a run of one task is a plain job,
    child   0  1  2  0  1  2  0         and a run of a million still is one array.

Children are told apart by AWS_BATCH_JOB_ARRAY_INDEX. Limits and states: the AWS Batch user guide, "Array jobs",
"Job dependencies" and "Job states" (docs.aws.amazon.com/batch/latest/userguide/).
"""

import math
import time
from typing import Any

from fanfold.aws.client import connect, errors_of
from fanfold.aws.deployment import Deployment
from fanfold.errors import StorageError, UsageError
from fanfold.executors import Size
from fanfold.job import Job, spec
from fanfold.runs import RunDirectory
from fanfold.source import Source
from fanfold.storage import is_url, split_url

MOST_CHILDREN = 10_000
TASK_SECONDS = 3600
"""A worker that takes longer than this for a task of its share is taken to hang, and ended. AWS Batch does not repeat
what it has timed out (user guide, "Job timeouts"): the rest is committed, and the next run does what is missing."""

CANCELLED = "fanfold cancel"
"""The reason that AWS Batch is given, and gives."""

_ENDED = {"SUCCEEDED", "FAILED"}
_END_WITHIN = 90.0  # seconds: containers have 30 after their SIGTERM
_SAID = {"SUBMITTED": "waiting", "PENDING": "waiting", "RUNNABLE": "waiting for machines"}


class AwsBatch:
    """Runs tasks in containers of AWS Batch; a `fanfold.executors.Detached`."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.mirror = deployment.mirror
        self._queue = f"the AWS Batch queue {deployment.queue}"
        self._batch: Any = connect("batch", self._queue)

    @classmethod
    def open(cls, where: str, size: Size) -> "AwsBatch":
        """See `open_executor`; `where` is the deployment's name."""
        if size != Size():
            raise UsageError("AWS Batch has as many workers as its deployment allows: cdk deploy -c max_vcpus=NUMBER")
        return cls(Deployment.load(where))

    def reach(self, job: Job, source: Source, database: str) -> Source:
        """The source with keys from the bucket's top on, as whoever else works on this deployment has them.

        Raises UsageError for addresses that containers cannot reach and models they do not have.
        """
        for address in (*source.addresses, database):
            if not address.startswith("s3://"):
                raise UsageError(f"AWS Batch cannot see {address}: copy it to S3, and give its s3:// address.")
        options = spec(job)["options"]
        if (model := options.get("model", self.deployment.model)) != self.deployment.model:
            calibrated = options.get("precision") == "int8"  # a model of this database's own
            raise UsageError(
                f"The deployment '{self.deployment.name}' has the model {self.deployment.model}, not {model}. "
                f"Use --model {self.deployment.model}"
                + (
                    " without --precision int8."
                    if calibrated
                    else f", or deploy another: cdk deploy --all -c model={model}"
                )
            )
        return source.within(split_url(source.root)[0]) or source if is_url(source.root) else source

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
            timeout={"attemptDurationSeconds": TASK_SECONDS * shares},
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
        jobs = {job["jobId"]: job for job in self._jobs(run)}
        for known in self._submitted(run):
            job = jobs.get(known["id"], {"status": "SUCCEEDED"})  # one that AWS Batch has forgotten ended long ago
            if job["status"] not in _ENDED:
                counts = job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1}
                said = [f"{n:,} {_SAID.get(status, status.lower())}" for status, n in counts.items() if n]
                return f"AWS Batch, {known['verb']}: {', '.join(said)}"
        return None

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
        jobs = self._submitted(run)
        executor = f"aws-batch:{self.deployment.name}"
        run.put("jobs.json", {"executor": executor, "jobs": [*jobs, {"verb": verb, "id": answer["jobId"]}]})
        return str(answer["jobId"])

    def _submitted(self, run: RunDirectory) -> list[dict[str, str]]:
        """What was submitted for a run, in that order: `verb` and `id` of each job."""
        jobs: list[dict[str, str]] = (run.get("jobs.json") or {"jobs": []})["jobs"]
        return jobs

    def _jobs(self, run: RunDirectory) -> list[dict[str, Any]]:
        """The run's jobs as AWS Batch describes them; it forgets them some days after they have ended."""
        ids = [job["id"] for job in self._submitted(run)]
        with errors_of(self._queue):
            jobs: list[dict[str, Any]] = self._batch.describe_jobs(jobs=ids)["jobs"]
            return jobs
