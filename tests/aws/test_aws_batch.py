"""The executor on AWS Batch, with jobs as local processes, through `fanfold.run` and the command line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from batch_server import BatchServer
from PIL import Image

import fanfold
import jobs
import nursery
from fanfold import UsageError
from fanfold.aws.batch import MOST_CHILDREN, AwsBatch
from fanfold.aws.deployment import Deployment
from fanfold.core.catalog import list_runs
from fanfold.core.executor import Size
from fanfold.core.run import Run
from fanfold.core.runs import RunDirectory
from fanfold.executors import open_executor
from fanfold.images import Images


@pytest.fixture(name="source")
def _source(batch: BatchServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:  # noqa: ARG001 - sets the environment
    """Put items into the deployment's bucket, pictures or texts (`said` instead of "text"); return their prefix."""
    monkeypatch.setenv("PYTHONPATH", str(Path(jobs.__file__).parent))
    bucket, s3 = Deployment.load().bucket, boto3.client("s3")

    def make(count: int, suffix: str = "txt", said: Mapping[int, str] | None = None) -> str:
        for number in range(count):
            file = io.BytesIO((said or {}).get(number, "text").encode())
            if suffix != "txt":
                Image.new("RGB", (64, 48), (number * 7 % 256, number, 90)).save(file, suffix)
            s3.put_object(Bucket=bucket, Key=f"items/{number:03d}.{suffix}", Body=file.getvalue())
        return f"s3://{bucket}/items"

    return make


def begun(source: str, **options: Any) -> Run:
    """A run on AWS Batch."""
    job, executor = jobs.Scripted(), open_executor("aws-batch")
    return fanfold.run(job, source=source, database=Deployment.load().database, executor=executor, **options)


def keys_of(database: str, table: str = "scripted") -> list[str]:
    """The keys of a table."""
    return sorted(fanfold.open_table(database, table).to_table(columns=["key"])["key"].to_pylist())


def cli(*words: str, **options: Any) -> "subprocess.Popen[str]":
    """Start the command line."""
    command = [sys.executable, "-m", "fanfold", *words]
    return nursery.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def until(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    """Wait until a condition is true; return its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_run_is_followed_to_its_end(source: Callable[..., str]) -> None:
    """Outcomes come as tasks end, and the report is the committing job's."""
    run = begun(source(9), task_size=3)
    outcomes = list(run)
    assert sorted(outcome.task for outcome in outcomes) == [0, 1, 2]
    assert (run.report.listed, run.report.ok, run.report.lost, run.report.exit_code) == (9, 9, 0, 0)
    assert keys_of(run.directory.database) == [f"items/{n:03d}.txt" for n in range(9)]
    report = run.directory.get("report.json")
    assert report
    assert (report["ended"], report["ok"]) == ("complete", 9)


def test_a_child_performs_several_tasks_where_there_are_too_many(
    source: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One array does any number of tasks: its children take every n-th."""
    monkeypatch.setattr("fanfold.aws.batch.MOST_CHILDREN", 2)
    assert MOST_CHILDREN == 10_000
    run = begun(source(10), task_size=2)
    assert sum(outcome.ok for outcome in run) == 10
    work = (run.directory.get("jobs.json") or {})["jobs"][0]["id"]
    (job,) = boto3.client("batch").describe_jobs(jobs=[work])["jobs"]
    assert job["arrayProperties"]["size"] == 2
    assert len(keys_of(run.directory.database)) == 10


def test_children_that_are_killed_are_repeated(source: Callable[..., str], batch: BatchServer, tmp_path: Path) -> None:
    """A lost host, a kill and a Spot machine's SIGTERM cost only time."""
    run = begun(source(60, said={20 * index: f"wait {tmp_path}/{index}" for index in range(3)}), task_size=20)
    run.launch()
    work = (run.directory.get("jobs.json") or {})["jobs"][0]["id"]
    for index, fault in ((0, "lose"), (1, signal.SIGTERM), (2, signal.SIGKILL)):
        until(lambda index=index: batch.status(f"{work}:{index}") == "RUNNING")
        if fault == "lose":
            batch.lose_host(work, index)
        else:
            batch.kill(work, index, fault)
        (tmp_path / f"{index}").touch()
    for outcome in run_followed(run):
        assert not outcome.error
    attempts = boto3.client("batch").describe_jobs(jobs=[f"{work}:{index}" for index in range(3)])["jobs"]
    assert [len(job["attempts"]) for job in attempts] == [2, 2, 2]
    assert attempts[0]["attempts"][0]["statusReason"].startswith("Host EC2")
    assert len(keys_of(run.directory.database)) == 60


def run_followed(run: Run) -> list[fanfold.Outcome]:
    """The outcomes of a launched run, once it has ended."""
    from fanfold.core import detached

    executor = run.executor
    assert isinstance(executor, AwsBatch)
    return list(detached.follow(run.directory, executor, run.tally))


def test_ctrl_c_leaves_it_going(source: Callable[..., str]) -> None:
    """The command says how to follow and how to cancel, and `report --follow` sees the end."""
    database = Deployment.load().database
    embed = cli("images", "embed", source(30, "png"), database, "--on", "aws-batch", "--task-size", "10")
    run = until(lambda: _submitted(database))
    embed.send_signal(signal.SIGINT)
    _, said = embed.communicate(timeout=600)
    assert embed.returncode == 130
    assert f"fanfold report {database} {run.id} --follow" in said
    assert f"fanfold cancel {database} {run.id}" in said
    out, _ = cli("report", database, run.id, "--follow", "--json").communicate(timeout=600)
    assert (json.loads(out)["ended"], json.loads(out)["ok"]) == ("complete", 30)


def _submitted(database: str) -> RunDirectory | None:
    from fanfold.storage import exists

    if not exists(database):
        return None
    runs = [RunDirectory(database, id) for id in list_runs(database)]
    return next((run for run in runs if len((run.get("jobs.json") or {"jobs": []})["jobs"]) == 2), None)


def test_cancel(source: Callable[..., str], tmp_path: Path) -> None:
    """Cancelling ends the jobs and keeps finished work, and a rerun does the rest."""
    run = begun(source(40, said={39: f"wait {tmp_path}/go"}), task_size=10)
    run.launch()
    database = run.directory.database
    until(lambda: run.directory.receipt(0))
    cancelled = cli("cancel", database, run.id, "--json")
    out, err = cancelled.communicate(timeout=600)
    assert cancelled.returncode == 0, err
    told = json.loads(out)
    assert told["ended"] == "cancelled"
    assert 10 <= told["ok"] < 40
    assert len(keys_of(database)) == told["ok"]
    jobs = boto3.client("batch").describe_jobs(
        jobs=[job["id"] for job in (run.directory.get("jobs.json") or {})["jobs"]]
    )
    assert {job["status"] for job in jobs["jobs"]} == {"FAILED"}
    (tmp_path / "go").touch()
    again = begun(f"s3://{Deployment.load().bucket}/items", task_size=20)
    assert sum(outcome.ok for outcome in again) == 40 - told["ok"]
    assert len(keys_of(database)) == 40
    out, err = cli("cancel", database, run.id).communicate(timeout=600)
    assert "has ended already" in err


def test_a_bad_option_is_not_repeated(source: Callable[..., str], batch: BatchServer) -> None:
    """A worker whose recipe differs from the plan exits with 2 and is not retried."""
    run = begun(source(2))
    asked = run.directory.get("run.json")
    assert asked
    run.directory.put("run.json", asked | {"recipe": {"recipe": "another"}})
    run.launch()
    work = (run.directory.get("jobs.json") or {})["jobs"][0]["id"]
    assert batch.wait(work) == "FAILED"
    (job,) = boto3.client("batch").describe_jobs(jobs=[work])["jobs"]
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [2]
    assert "would give other results" in batch.output(work)


def test_what_containers_cannot_reach_is_refused(tmp_path: Path, batch: BatchServer) -> None:
    """Local paths that containers cannot reach are refused before anything is submitted."""
    deployment = Deployment.load()
    (tmp_path / "0.jpg").write_bytes(b"x")
    executor = open_executor("aws-batch")
    for source, database in (
        (str(tmp_path), deployment.database),
        (f"s3://{deployment.bucket}/x", str(tmp_path / "db")),
    ):
        with pytest.raises(UsageError, match=f"cannot reach {re.escape(str(tmp_path))}.*Copy it to S3"):
            fanfold.run(Images(), source=source, database=database, executor=executor)
    assert batch.jobs == {}


@pytest.mark.parametrize(
    ("job", "source", "database", "said"),
    [
        (Images(), "s3://elsewhere/x", "", "reads only s3://tests-.*, not s3://elsewhere/x.*-c bucket=elsewhere"),
        (Images(), "", "s3://elsewhere/db", "writes only to s3://tests-.*/db, not to s3://elsewhere/db.*--table"),
        (Images(precision="fp16"), "", "", "has precision fp32, not fp16. Use --precision fp32, or deploy another"),
        (
            Images(provider="cuda"),
            "",
            "",
            r'cpu, not cuda. Use --provider cpu, .*{"provider": "cuda"}',
        ),
    ],
)
def test_what_the_deployment_may_not_or_cannot_is_refused(
    batch: BatchServer, job: Images, source: str, database: str, said: str
) -> None:
    """Another bucket, another database, and a precision or provider that the containers lack are refused."""
    there = Deployment.load()
    source, database = source or f"s3://{there.bucket}/x", database or there.database
    with pytest.raises(UsageError, match=said):
        fanfold.run(job, source=source, database=database, executor=AwsBatch(there))
    assert batch.jobs == {}


@pytest.mark.parametrize(("ago", "stands"), [(0.0, "AWS Batch, work: 1 waiting"), (2 * 86400.0, None)])
def test_a_job_that_aws_batch_does_not_know(source: Callable[..., str], ago: float, stands: str | None) -> None:
    """An unknown job counts as waiting soon after it was submitted; days later it has ended and was forgotten."""
    run, executor = begun(source(1)), open_executor("aws-batch")
    job = {"verb": "work", "id": "unknown", "submitted": time.time() - ago}
    run.directory.put("jobs.json", {"executor": "aws-batch:fanfold", "jobs": [job]})
    assert isinstance(executor, AwsBatch)
    assert executor.state(run.directory) == stands


@pytest.mark.parametrize(("task_size", "seconds"), [(2, 3600), (10_000, 40_000)])
def test_a_child_may_take_longer_for_larger_tasks(
    source: Callable[..., str], batch: BatchServer, task_size: int, seconds: int
) -> None:
    """The limit is an hour per task, or four seconds per item if that is more."""
    run = begun(source(2), task_size=task_size)
    run.launch()
    work = (run.directory.get("jobs.json") or {})["jobs"][0]["id"]
    assert batch.jobs[work].seconds == seconds
    run_followed(run)


@pytest.mark.usefixtures("batch")
def test_how_many_workers_there_are_is_the_deployments_to_say() -> None:
    """The number of workers cannot be chosen on the command line."""
    with pytest.raises(UsageError, match="max_vcpus"):
        open_executor("aws-batch", Size(workers=3))


@pytest.mark.usefixtures("batch")
def test_a_gpu_has_one_worker_of_all_cores(source: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a GPU has one worker of all its cores, unless the job needs no GPU."""
    settings, prefix = json.loads(os.environ["FANFOLD_DEPLOYMENT"]), source(8, said=dict.fromkeys(range(8), "cores"))
    for gpus, cores in ((1, "2"), (0, "1")):
        monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(settings | {"gpus": gpus, "vcpus": 2}))
        run = begun(prefix, table=f"table{gpus}", task_size=2)
        assert sum(outcome.ok for outcome in run) == 8
        texts = fanfold.open_table(run.directory.database, f"table{gpus}").to_table(columns=["text"])["text"]
        assert set(texts.to_pylist()) == {cores}
        assert worker_of(run)["arrayProperties"]["size"] == 2


def test_a_job_on_the_cpu_of_a_machine_with_a_gpu(source: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures to embed on the CPU have a worker per core, even on a machine with a GPU."""
    settings = json.loads(os.environ["FANFOLD_DEPLOYMENT"])
    settings |= {"options": {"provider": "cuda"}, "gpus": 1, "vcpus": 2}
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(settings))
    executor = open_executor("aws-batch")
    run = fanfold.run(Images(), source=source(2, "png"), database=settings["database"], executor=executor)
    run.launch()
    assert worker_of(run)["container"]["command"][-2:] == ["--workers", "2"]
    assert sum(outcome.ok for outcome in run_followed(run)) == 2


def worker_of(run: Run) -> dict[str, Any]:
    """The job that performs a run's tasks, as AWS Batch describes it."""
    work = (run.directory.get("jobs.json") or {})["jobs"][0]["id"]
    (job,) = boto3.client("batch").describe_jobs(jobs=[work])["jobs"]
    return dict(job)


def test_int8_is_refused_before_it_is_calibrated(source: Callable[..., str], batch: BatchServer) -> None:
    """Containers have only the deployment's model, so INT8 is refused before any picture is read for it."""
    database = Deployment.load().database
    asked = cli("images", "embed", source(2, "png"), database, "--on", "aws-batch", "--precision", "int8")
    _, said = asked.communicate(timeout=600)
    assert asked.returncode == 2
    assert "has precision fp32, not int8. Use --precision fp32, or deploy another one: " in said
    assert batch.jobs == {}
    assert _submitted(database) is None


OLDER = {"name": "old", "bucket": "b", "database": "s3://b/db", "queue": "q", "worker": "w", "driver": "d"}
OLDER |= {
    "mirror": "dynamodb://t",
    "model": "resnet18",
    "provider": "cuda",
    "task_size": 50,
    "vcpus": 4,
    "memory": 14336,
}


def test_a_deployment_from_before_there_were_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings from before there were options become options of the job `images`."""
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", json.dumps(OLDER | {"uploads": ["images"]}))
    there = Deployment.load()
    assert (there.job, there.options) == ("images", {"model": "resnet18", "provider": "cuda"})
    assert there.new_job() == Images(model="resnet18", provider="cuda")
    assert (there.vcpus, there.uploads, there.mirror_of("images")) == (4, ("images",), "dynamodb://t")
    assert there.mirror_of("other") == "dynamodb://old.other"
    assert Images(**there.options).choices() == {
        "model": ("resnet18",),
        "precision": ("fp32",),
        "provider": ("cpu", "cuda"),
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("no JSON", "'no JSON' is not JSON"),
        ('"text"', "FANFOLD_DEPLOYMENT does not describe a deployment: "),
        (json.dumps({**OLDER, "queue": None}), "queue: it should be a valid string, not None. Type: cdk deploy --all"),
        (json.dumps({**OLDER, "uploads": ["a", 7]}), r"uploads\[2\]: it should be a valid string, not 7"),
        (json.dumps({name: OLDER[name] for name in ("name", "bucket")}), "database: it is missing"),
    ],
)
def test_settings_that_are_not_valid(settings: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence names the setting, what is wrong with it, and what to type."""
    monkeypatch.setenv("FANFOLD_DEPLOYMENT", settings)
    with pytest.raises(UsageError, match=said):
        Deployment.load()


@pytest.mark.usefixtures("batch")
def test_no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deployment the error says how to get one, or how to name its region."""
    with pytest.raises(UsageError, match=r"parameter /fanfold/other does not exist in us-east-1.*cdk deploy --all"):
        open_executor("aws-batch:other")
    monkeypatch.delenv("FANFOLD_DEPLOYMENT")
    boto3.client("ssm").put_parameter(Name="/fanfold/fanfold", Value="[1]", Type="String")
    with pytest.raises(UsageError, match="does not describe a deployment: "):
        open_executor("aws-batch")
    settings = {"name": "third", "bucket": "b", "database": "s3://b/db", "queue": "q", "worker": "w", "driver": "d"}
    newer = json.dumps(settings | {"job": "images", "options": {}, "news": 1})
    boto3.client("ssm").put_parameter(Name="/fanfold/third", Value=newer, Type="String")
    executor = open_executor("aws-batch:third")
    assert isinstance(executor, AwsBatch)
    assert executor.deployment.queue == "q"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(UsageError, match="export AWS_REGION"):
        open_executor("aws-batch:third")
