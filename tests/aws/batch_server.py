"""A test tool: an AWS Batch endpoint that runs its jobs as local processes.

boto3 finds it through AWS_ENDPOINT_URL_BATCH and uses it like AWS (the REST JSON of botocore's service model):
SubmitJob, DescribeJobs, ListJobs, TerminateJob, CancelJob. Every other call is forwarded to another endpoint (moto's),
which also has the job definitions. States, retries, arrays and dependencies are those of the AWS Batch user guide.

    SUBMITTED ─▶ PENDING ─▶ RUNNABLE ─▶ RUNNING ─▶ SUCCEEDED           an array's children go from RUNNABLE on;
                    │ a dependency failed   │ ▲ retry                  their parent is PENDING until all have ended
                    └───────────▶ FAILED ◀──┘─┘
"""

import fnmatch
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nursery

ENDED = ("SUCCEEDED", "FAILED")
LOST_HOST = "Host EC2 (instance i-0123456789abcdef0) terminated."
TIMED_OUT = "Job attempt duration exceeded timeout"
POLL = 0.05
"""Seconds until a server notices that it should end."""


class Refused(Exception):
    """A request that AWS Batch would refuse."""


@dataclass
class Job:
    """A job, an array of jobs, or one of an array's children."""

    id: str
    asked: Mapping[str, Any]
    definition: Mapping[str, Any]
    index: int | None = None
    status: str = "PENDING"
    reason: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    children: "list[Job]" = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None
    lost: bool = False
    """Whether its host was taken away."""
    terminated: str = ""
    """The reason, if the job was terminated."""
    created: int = field(default_factory=lambda: _now())
    started: int = 0
    stopped: int = 0

    @property
    def retry(self) -> Mapping[str, Any]:
        return self.asked.get("retryStrategy") or self.definition.get("retryStrategy") or {"attempts": 1}

    @property
    def seconds(self) -> float | None:
        """The longest time that an attempt may take."""
        timeout = self.asked.get("timeout") or self.definition.get("timeout") or {}
        return timeout.get("attemptDurationSeconds")

    def command(self) -> list[str]:
        """The container's command with its parameters filled in."""
        given = {**self.definition.get("parameters", {}), **self.asked.get("parameters", {})}
        words = self.asked.get("containerOverrides", {}).get("command")
        words = words or self.definition["containerProperties"].get("command", [])
        return [str(given.get(word[5:], word)) if word.startswith("Ref::") else word for word in words]

    def environment(self) -> dict[str, str]:
        """The variables that the container adds to the machine's environment."""
        listed = [
            *self.definition["containerProperties"].get("environment", []),
            *self.asked.get("containerOverrides", {}).get("environment", []),
        ]
        own = {"AWS_BATCH_JOB_ID": self.id, "AWS_BATCH_JOB_ATTEMPT": str(len(self.attempts) + 1)}
        if self.index is not None:
            own["AWS_BATCH_JOB_ARRAY_INDEX"] = str(self.index)
        return {pair["name"]: pair["value"] for pair in listed} | own

    def repeats(self, code: int | None, why: str) -> bool:
        """Whether another attempt follows one that failed like this."""
        if self.terminated or why == TIMED_OUT or len(self.attempts) >= self.retry.get("attempts", 1):
            return False  # user guide, "Job timeouts": a job that is ended by its timeout is not retried
        for rule in self.retry.get("evaluateOnExit", []):
            seen = {"onExitCode": "" if code is None else str(code), "onStatusReason": why, "onReason": ""}
            if all(fnmatch.fnmatchcase(seen[on].lower(), rule[on].lower()) for on in seen if on in rule):
                return str(rule["action"]).upper() == "RETRY"
        return True

    def told(self) -> dict[str, Any]:
        """The job as DescribeJobs returns it."""
        told = {
            "jobId": self.id,
            "jobArn": f"arn:aws:batch:us-east-1:{0:012}:job/{self.id}",
            "jobName": self.asked["jobName"],
            "jobQueue": self.asked["jobQueue"],
            "jobDefinition": self.asked["jobDefinition"],
            "status": self.status,
            "statusReason": self.reason,
            "createdAt": self.created,
            "dependsOn": self.asked.get("dependsOn", []),
            "attempts": self.attempts,
            "container": {"command": self.command(), **(self.attempts[-1]["container"] if self.attempts else {})},
            "isTerminated": bool(self.terminated),
            "tags": self.asked.get("tags", {}),
        }
        if self.started:
            told["startedAt"] = self.started
        if self.stopped:
            told["stoppedAt"] = self.stopped
        if self.children:
            counts = dict(Counter(child.status for child in self.children))
            told["arrayProperties"] = {"size": len(self.children), "statusSummary": counts}
        elif self.index is not None:
            told["arrayProperties"] = {"index": self.index}
        return told


class BatchServer:
    """The endpoint and its machines; a context manager."""

    def __init__(self, forward_to: str, concurrency: int = 2, entrypoint: Sequence[str] | None = None) -> None:
        self.forward_to, self.concurrency = forward_to, concurrency
        self.entrypoint = list(entrypoint or [sys.executable, "-m", "fanfold"])
        self.jobs: dict[str, Job] = {}
        """By id, in the order of submission, children included."""
        self.on_failed: Callable[[dict[str, Any]], Any] = dict
        """Called with the EventBridge event of a failed job or array before `wait` ends; may not call the server."""
        self.faults: dict[int, signal.Signals | None] = {}
        """What ends the first attempt of an array's child when it starts, by its index; None: its host is lost."""
        self.grace = 30.0
        """Seconds between a SIGTERM and a SIGKILL."""
        self._changed = threading.Condition()
        self._closed = self._idle = False
        self._folder = tempfile.TemporaryDirectory(prefix="batch-")
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "BatchServer":
        threading.Thread(target=self._http.serve_forever, args=(POLL,), daemon=True).start()
        for _ in range(self.concurrency):
            threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for job in self.jobs.values():
            self._signal(job, signal.SIGKILL)
        self._http.shutdown()
        self._http.server_close()
        self._folder.cleanup()

    # -- for tests ----------------------------------------------------------------------------------------------------

    @contextmanager
    def idle(self) -> Iterator[None]:
        """No machine takes a job while the block runs."""
        self._idle = True
        try:
            yield
        finally:
            with self._changed:
                self._idle = False
                self._changed.notify_all()

    def status(self, id: str) -> str:
        """The status of a job, or of a child as `ID:INDEX`."""
        return self.jobs[id].status

    def wait(self, id: str, timeout: float = 600.0) -> str:
        """Wait until a job has ended; return its status."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.jobs[id].status in ENDED, timeout), self.output(id)
        return self.jobs[id].status

    def output(self, id: str, index: int | None = None) -> str:
        """The output of all attempts of a job or of a child."""
        name = id if index is None else f"{id}:{index}"
        return "".join(file.read_text() for file in sorted(Path(self._folder.name).glob(f"{name}.*")))

    def kill(self, id: str, index: int | None, number: signal.Signals) -> None:
        """Send a signal to a running attempt's first process, as a container runtime does."""
        self._signal(self._running(id, index), number)

    def lose_host(self, id: str, index: int | None = None) -> None:
        """End an attempt as if its machine were taken away: all its processes at once, without an exit code."""
        self._lose_host(self._running(id, index))

    def _running(self, id: str, index: int | None) -> Job:
        job = self.jobs[id if index is None else f"{id}:{index}"]
        with self._changed:
            assert self._changed.wait_for(lambda: job.process or job.status in ENDED, 600)
        assert job.process, f"{job.id} has {job.status}"
        return job

    def _lose_host(self, job: Job) -> None:
        job.lost = True
        assert job.process
        os.killpg(job.process.pid, signal.SIGKILL)

    def _signal(self, job: Job, number: signal.Signals) -> None:
        if job.process:
            with suppress(ProcessLookupError):
                job.process.send_signal(number)

    # -- what AWS Batch does ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Act as one of the machines: take a runnable job and run it."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._runnable())
                if self._closed:
                    return
                job = self._runnable()
                assert job
                job.status = "RUNNING"
                self._changed.notify_all()
            self._attempt(job)

    def _runnable(self) -> Job | None:
        return next((job for job in self.jobs.values() if job.status == "RUNNABLE" and not self._idle), None)

    def _attempt(self, job: Job) -> None:
        began, code, why = _now(), None, ""
        with (Path(self._folder.name) / f"{job.id}.{len(job.attempts)}").open("wb") as out:
            process = nursery.Popen(
                [*self.entrypoint, *job.command()],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | job.environment(),
                start_new_session=True,
            )
            with self._changed:
                job.process, job.started = process, job.started or began
                if job.terminated:  # while the process was being made
                    self._signal(job, signal.SIGTERM)
                self._changed.notify_all()
            if job.index in self.faults and not job.attempts:
                if fault := self.faults[job.index]:
                    self._signal(job, fault)
                else:
                    self._lose_host(job)
            try:
                status = process.wait(job.seconds)
                code = status if status >= 0 else 128 - status
            except subprocess.TimeoutExpired:
                why = TIMED_OUT
                process.kill()
                process.wait()
            with suppress(ProcessLookupError):  # a container's end is the end of all that is in it
                os.killpg(process.pid, signal.SIGKILL)
        with self._changed:
            why = why or ("" if not job.lost else LOST_HOST) or "Essential container in task exited"
            code = None if job.lost else code
            container = {"reason": ""} if code is None else {"exitCode": code}
            job.attempts.append({"container": container, "startedAt": began, "stoppedAt": _now(), "statusReason": why})
            job.process, job.lost = None, False
            if code != 0 and job.repeats(code, why):
                job.status = "RUNNABLE"
                self._changed.notify_all()
            else:
                self._end(job, "SUCCEEDED" if code == 0 and not job.terminated else "FAILED", job.terminated or why)

    def _end(self, job: Job, status: str, why: str) -> None:
        """End a job, and perhaps its array and the jobs that depend on it."""
        job.status, job.reason, job.stopped = status, why, _now()
        if status == "FAILED" and job.index is None:
            self._tell(job)
        if job.index is not None:
            parent = self.jobs[job.id.rpartition(":")[0]]
            if all(child.status in ENDED for child in parent.children) and parent.status not in ENDED:
                failed = any(child.status == "FAILED" for child in parent.children)
                self._end(parent, "FAILED" if failed else "SUCCEEDED", "Array Child Job failed" if failed else "")
        self._settle()

    def _settle(self) -> None:
        """Start or fail the jobs that have waited for others."""
        for job in list(self.jobs.values()):
            if job.status == "PENDING" and job.index is None and not any(c.status != "PENDING" for c in job.children):
                waits = [self.jobs[one["jobId"]].status for one in job.asked.get("dependsOn", [])]
                if "FAILED" in waits:
                    self._end(job, "FAILED", "Dependent Job failed")
                elif all(status == "SUCCEEDED" for status in waits):
                    for ready in job.children or [job]:
                        ready.status = "RUNNABLE"
        self._changed.notify_all()

    def _tell(self, job: Job) -> None:
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Batch Job State Change",
            "source": "aws.batch",
            "region": "us-east-1",
            "resources": [job.told()["jobArn"]],
            "detail": job.told(),
        }
        self.on_failed(event)

    # -- its API ------------------------------------------------------------------------------------------------------

    def submitjob(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        size = asked.get("arrayProperties", {}).get("size")
        if size is not None and not 2 <= size <= 10_000:
            raise Refused(f"Array size must be between 2 and 10000, not {size}.")
        if len(asked.get("dependsOn", [])) > 20:
            raise Refused("A job can depend on 20 jobs at most.")
        if not set(asked["jobName"]) <= set(_NAME) or not 0 < len(asked["jobName"]) <= 128:
            raise Refused(f"{asked['jobName']} is no name for a job.")
        definition = self._definition(asked["jobDefinition"])
        with self._changed:
            if any(one["jobId"] not in self.jobs for one in asked.get("dependsOn", [])):
                raise Refused("A job it depends on does not exist.")
            job = Job(str(uuid.uuid4()), asked, definition)
            self.jobs[job.id] = job
            for index in range(size or 0):
                child = Job(f"{job.id}:{index}", asked, definition, index)
                job.children.append(child)
                self.jobs[child.id] = child
            self._settle()
        return {"jobArn": job.told()["jobArn"], "jobName": asked["jobName"], "jobId": job.id}

    def describejobs(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if len(asked["jobs"]) > 100:
            raise Refused("100 jobs at most.")
        with self._changed:
            return {"jobs": [self.jobs[id].told() for id in asked["jobs"] if id in self.jobs]}

    def listjobs(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wanted = asked.get("jobStatus", "RUNNING")
        with self._changed:
            among = self.jobs[asked["arrayJobId"]].children if "arrayJobId" in asked else self.jobs.values()
            found = [
                job.told() for job in among if job.status == wanted and (job.index is None or "arrayJobId" in asked)
            ]
        names = ("jobId", "jobArn", "jobName", "createdAt", "startedAt", "stoppedAt", "status", "statusReason")
        start, most = int(asked.get("nextToken", 0)), asked.get("maxResults", 100)
        page = [{name: job[name] for name in names if name in job} for job in found[start : start + most]]
        more = {"nextToken": str(start + most)} if start + most < len(found) else {}
        return {"jobSummaryList": page, **more}

    def terminatejob(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        with self._changed:
            job = self.jobs[asked["jobId"]]
            for one in job.children or [job]:
                if one.status in ENDED:
                    continue
                one.terminated = asked["reason"]
                if one.process is None and one.status != "RUNNING":
                    self._end(one, "FAILED", asked["reason"])
                    continue
                self._signal(one, signal.SIGTERM)
                clock = threading.Timer(self.grace, self._signal, (one, signal.SIGKILL))
                clock.daemon = True
                clock.start()
        return {}

    def canceljob(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        with self._changed:
            job = self.jobs[asked["jobId"]]
            for one in job.children or [job]:
                if one.status in ("SUBMITTED", "PENDING", "RUNNABLE"):
                    self._end(one, "FAILED", asked["reason"])
        return {}

    def _definition(self, name: str) -> Mapping[str, Any]:
        """A job definition by name, name:revision or ARN, from the endpoint where it is registered."""
        stem, _, revision = name.rpartition("/")[2].partition(":")
        asked = {"jobDefinitionName": stem, "status": "ACTIVE"}
        listed = json.loads(self.forward("/v1/describejobdefinitions", json.dumps(asked).encode(), {})[1])
        found = [one for one in listed["jobDefinitions"] if revision in ("", str(one["revision"]))]
        if not found:
            raise Refused(f"JobDefinition {name} does not exist.")
        definition: Mapping[str, Any] = max(found, key=lambda one: one["revision"])
        return definition

    def forward(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a request to the other endpoint."""
        kept = {name: value for name, value in headers.items() if name.lower() in ("authorization", "content-type")}
        request = urllib.request.Request(self.forward_to + path, body, kept or _SIGNED, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


_NAME = "".join(map(chr, itertools.chain(range(48, 58), range(65, 91), range(97, 123)))) + "-_"
# moto reads service and region from the signature and does not verify it.
_SCOPE = "Credential=key/20260101/us-east-1/batch/aws4_request"
_SIGNED = {
    "Authorization": f"AWS4-HMAC-SHA256 {_SCOPE}, SignedHeaders=host, Signature=0",
    "Content-Type": "application/json",  # moto takes urllib's default type for a form, and returns all definitions
}


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            verb = self.path.removeprefix("/v1/")
            own = verb in ("submitjob", "describejobs", "listjobs", "terminatejob", "canceljob")
            try:
                if own:
                    self._answer(200, json.dumps(getattr(server, verb)(json.loads(body))).encode())
                else:
                    self._answer(*server.forward(self.path, body, dict(self.headers)))
            except (Refused, KeyError) as error:
                self._answer(400, json.dumps({"message": str(error)}).encode(), "ClientException")

        do_GET = do_POST
        do_DELETE = do_POST

        def _answer(self, status: int, body: bytes, kind: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if kind:
                self.send_header("x-amzn-ErrorType", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    return Handler


def _now() -> int:
    """The time in milliseconds, like AWS."""
    return time.time_ns() // 1_000_000
