"""Ray clusters for single tests: one with submitted jobs, one short of memory, one whose head dies."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster
from ray.job_submission import JobSubmissionClient

import fanfold
import rays
from commands import FANFOLD
from fanfold.core.tasks import TRIES
from fanfold.executors.ray import Ray
from faults import assert_clean, assert_no_workers, drive, fill, hold, settle, wait_for
from helpers import failures, free_port
from image_files import make_photos
from jobs import Scripted
from rays import ITEMS, TASK

RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def job_server() -> Iterator[str]:
    """The job server's address of a cluster with one node of two CPUs."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with rays.several(1, num_cpus=2, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=port):
        wait_for(lambda: takes_jobs(address))
        yield address


def takes_jobs(job_server: str) -> bool:
    """Whether a job server has the agent that starts jobs, which comes up after the nodes."""
    with suppress(RuntimeError):
        return bool(JobSubmissionClient(job_server).submit_job(entrypoint="true"))
    return False


def submit(job_server: str, name: str, *words: str) -> "subprocess.Popen[str]":
    """Run the command in docs/ray.md under a submission id."""
    command = [RAY, "job", "submit", "--address", job_server, "--submission-id", name, "--", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")


def ended(job: "subprocess.Popen[str]") -> tuple[int, str]:
    """The job's exit code and output."""
    try:
        out, _ = job.communicate(timeout=240)
    finally:
        job.kill()
    return job.returncode, out


def status(job_server: str, name: str) -> tuple[str, str]:
    """The job server's status of a job, and its message about it."""
    job = JobSubmissionClient(job_server).get_job_info(name)
    return str(job.status), job.message or ""


def test_a_job_is_submitted(job_server: str, tmp_path: Path, database: str) -> None:
    """`ray job submit` runs a command on the cluster and shows its progress and report. A failed item fails the job."""
    photos = make_photos(tmp_path / "photos")
    (photos / "bad.jpg").write_bytes(b"not a picture at all")
    entry = [sys.executable, "-m", "fanfold", "images", "embed", str(photos), database, "--on", "ray:auto"]
    code, out = ended(submit(job_server, "one-fails", *entry, "--workers", "1"))
    assert code == 1, out
    assert " of 5 done" in out
    assert "4    ok" in out
    assert "exit code 3" in status(job_server, "one-fails")[1]
    wait_for(lambda: not rays.busy())


def test_a_job_is_stopped(job_server: str, tmp_path: Path, database: str) -> None:
    """`ray job stop` ends a run and its workers; the same job, submitted again, does the rest. Its failed items do not
    fail it, since its entry point says so."""
    fill(tmp_path / "source", ITEMS)
    options = {"on": "ray:auto", "workers": 2, "task_size": TASK, "pause": 0.1}
    entry = [sys.executable, str(rays.HERE / "faults.py"), str(tmp_path / "source"), database, json.dumps(options)]
    job = submit(job_server, "cut-short", *entry)
    wait_for(lambda: job.poll() is not None or rays.done(database) >= 2)
    JobSubmissionClient(job_server).stop_job("cut-short")  # as `ray job stop` does
    ended(job)
    assert status(job_server, "cut-short")[0] == "STOPPED"
    assert_no_workers(database)
    wait_for(lambda: not rays.busy())
    code, out = ended(submit(job_server, "again", "sh", "-c", f"{shlex.join(entry)} || test $? -eq 3"))
    assert code == 0, out
    assert '"failed": ' in out  # some fail on purpose
    assert status(job_server, "again")[0] == "SUCCEEDED"
    assert settle(tmp_path / "source", database).ok == 0
    assert_clean(database)


@pytest.fixture(scope="module")
def short_of_memory() -> Iterator[Cluster]:
    """A cluster of one node that sees only a few gigabytes of memory."""
    memory = psutil.virtual_memory()
    room = min(6 << 30, memory.available - (1 << 30))  # Ray itself takes one of them; other tests take and free some
    assert room > 4 << 30, "this needs some five gigabytes of memory that nobody uses"
    limit = memory.total - memory.available + room
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # which is not for the clusters that tests start themselves
            patch.setenv("RAY_memory_usage_threshold", f"{limit / memory.total:.4f}")
            patch.setenv("RAY_memory_monitor_refresh_ms", "50")
            patch.setenv("RAY_task_oom_retry_delay_base_ms", "50")
            cluster = stack.enter_context(rays.several(1))
        yield cluster


@pytest.mark.parametrize(("text", "task_size"), [("swell", 2), ("bear", 1)])
def test_a_node_runs_out_of_memory(
    short_of_memory: Cluster,
    text: str,
    task_size: int,
    tmp_path: Path,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An item that uses up a node's memory, in its worker process or in a child of it, is found and fails, and all
    others are done."""
    monkeypatch.setitem(TRIES, "lost", 1 if task_size > 1 else 2)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.txt").write_text(text if number == 5 else f"text {number}")
    executor = Ray(short_of_memory.address, workers=1)
    run = fanfold.run(Scripted(), source=str(source), database=database, executor=executor, task_size=task_size)
    for _ in run:
        pass
    assert (run.report.ok, run.report.failed, run.report.lost) == (5, 1, 0)
    ((key, failure),) = failures(database).items()
    assert (key, failure["stage"]) == ("5.txt", "crash")
    assert "Ray worker process died" in failure["message"]
    assert_no_workers(database)
    assert_clean(database)


def test_a_cluster_that_is_gone(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the cluster's head dies, the run ends with one line that says so, and a rerun continues."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    with rays.several(1) as cluster:
        fill(tmp_path / "source", ITEMS)
        hold(tmp_path / "source", 12, until=tmp_path / "noticed")  # however long that takes, there is more to do
        options = {"workers": None, "task_size": TASK}
        driver = drive(tmp_path / "source", database, on=f"ray:{cluster.address}", **options)
        rays.wait_for_receipts(driver, 1)
        cluster.head_node.kill_gcs_server(False)
        code, out, err = driver.end(240)
        assert (code, out) == (1, "")
        assert "The Ray cluster is gone" in err, err
        assert "Run the same command again" in err
    (tmp_path / "noticed").touch()
    assert_no_workers(database)
    settle(tmp_path / "source", database)


def test_the_command_line_says_the_same(tmp_path: Path, database: str) -> None:
    """`fanfold images embed --on ray` ends with the report and the exit code of a local run."""
    photos = make_photos(tmp_path / "photos")
    (photos / "bad.jpg").write_bytes(b"not a picture at all")
    told = []
    for on in ("ray", "local"):
        command = [*FANFOLD, "images", "embed", str(photos), f"{database}-{on}", "--on", on, "--workers", "1"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert finished.returncode == 3
        assert all(" of 5 done" in line for line in finished.stderr.splitlines()), finished.stderr
        other = re.compile("Run |/s|Time of the workers|Database")
        told.append([line for line in finished.stdout.splitlines() if not other.search(line)])
    assert told[0] == told[1]


def test_the_driver_takes_its_cluster_with_it(tmp_path: Path, database: str) -> None:
    """The cluster that a command started ends with the command. (If it is killed, too: tests/test_words.py.)"""
    fill(tmp_path / "source", ITEMS)
    driver = drive(tmp_path / "source", database, on="ray", workers=1, task_size=TASK, pause=0.1)
    rays.wait_for_receipts(driver, 1)
    driver.process.terminate()
    code, _, _ = driver.end(240)
    assert code == -signal.SIGTERM
    assert_no_workers(database)
    wait_for(lambda: not rays.busy())
    settle(tmp_path / "source", database)
