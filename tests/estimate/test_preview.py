"""Previews: what a run would do and how long it would take, from a sample that is processed and leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import fanfold
from commands import Done
from commands import fanfold as command
from fanfold import UsageError
from fanfold.cli.planned import show_plan
from fanfold.core.progress import Tally
from fanfold.estimate import prices
from fanfold.estimate.pace import Pace
from fanfold.estimate.preview import ELSEWHERE, Todo, estimated
from fanfold.estimate.sample import Sample
from helpers import embed, web_server
from jobs import Scripted


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which samples are processed."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def preview(source: object, database: str, job: Any = None, **options: Any) -> fanfold.Preview:
    """A preview that must leave nothing behind."""
    before = tree(Path(database))
    told = fanfold.preview(job or Scripted(), source=str(source), database=database, **options)
    assert tree(Path(database)) == before
    assert not list(Path(tempfile.gettempdir()).glob("fanfold-*"))
    return told


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder, with its modification time."""
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_a_sample_is_measured(texts: Path, database: str) -> None:
    """The estimate has every stage of the outcomes with its share, as well as more workers and dollars."""
    told = preview(texts, database, Scripted(pause=0.01), workers=2)
    assert (told.todo, told.sampled, told.sample_failed, told.trouble) == (40, 40, 0, "")
    estimate = told.estimate
    assert estimate is not None
    assert {stage.name for stage in estimate.stages} == {"read", "write"}
    assert sum(stage.share for stage in estimate.stages) == pytest.approx(1)
    assert estimate.bottleneck == "write"  # the core counts a job's unreported time there
    assert estimate.stages[0].seconds > 0.01
    assert told.seconds is not None
    assert told.seconds > estimate.startup + 40 * 0.01 / 2
    assert tuple(scaled.workers for scaled in estimate.elsewhere) == ELSEWHERE
    assert [cost.name for cost in estimate.aws] == [
        one.name for one in prices.load().machines if one.name != "GPU, EC2 Spot"
    ]


def test_of_many_items_some_are_sampled(tmp_path: Path, database: str) -> None:
    """A sample is no larger than necessary."""
    for number in range(200):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number}.txt").write_text("text")
    told = preview(tmp_path / "many", database, workers=2)
    assert (told.todo, told.bytes, told.sampled) == (200, 800, 72)


def test_failing_items_are_counted_in_the_sample(texts: Path, database: str) -> None:
    """Failing items are part of the estimate and are counted."""
    for number in range(10):
        (texts / "a" / f"{number:02d}.txt").write_text("fail")
    told = preview(texts, database, workers=2)
    assert (told.sampled, told.sample_failed) == (40, 10)
    assert told.estimate is not None


def test_items_that_kill_workers_do_not_break_it(texts: Path, database: str) -> None:
    """A worker that dies is replaced, as in a run, and the item that killed it has failed."""
    (texts / "a" / "07.txt").write_text("kill")
    told = preview(texts, database, workers=2)
    assert (told.sample_failed, told.trouble) == (1, "")
    assert told.estimate is not None


def test_tasks_that_fail_leave_no_estimate(texts: Path, database: str) -> None:
    """If no task can be done, there is a reason instead of an estimate."""
    for file in texts.rglob("*.txt"):
        file.write_text("raise")
    told = preview(texts, database, workers=2)
    assert (told.estimate, told.seconds) == (None, None)
    assert (told.sampled, told.sample_failed) == (40, 40)
    assert "told to raise" in told.trouble


def test_nothing_is_sampled_when_there_is_nothing_to_do(texts: Path, database: str) -> None:
    """Neither an empty source nor a finished one opens the job."""
    never = Scripted(open_error="never opened")
    embed(texts, database)
    assert preview(texts, database, never).sampled == 0
    (texts.parent / "empty").mkdir()
    told = preview(texts.parent / "empty", f"{database}-absent", never)
    assert (told.todo, told.sampled, told.seconds, told.to_json()["bottleneck"]) == (0, 0, None, None)


def test_a_rerun_samples_only_what_is_to_do(texts: Path, database: str) -> None:
    """Unchanged items are not in the sample, and an existing database stays as it is."""
    embed(texts, database)
    for name in ("new", "newer", "newest"):
        (texts / f"{name}.txt").write_text("fail")
    told = preview(texts, database, workers=2)
    assert (told.new, told.unchanged, told.sampled, told.sample_failed) == (3, 40, 3, 3)


def test_a_worker_that_cannot_start_is_said(texts: Path, database: str) -> None:
    """An error that would end the run ends the preview."""
    with pytest.raises(fanfold.FanfoldError, match="no model here"):
        preview(texts, database, Scripted(open_error="no model here"))


def test_a_mistake_is_said_before_anything_is_listed(database: str) -> None:
    """Options, workers and prices are checked first."""
    for mistake in ({"workers": 0}, {"task_size": 0}, {"prices": "/absent.toml"}):
        with pytest.raises(UsageError):
            preview("/absent", database, **mistake)


def test_the_sample_of_a_list_is_read_from_the_web(texts: Path, tmp_path: Path, database: str) -> None:
    """Items are read from their own place, and missing ones fail."""
    with web_server(texts) as address:
        lines = [f"{address}/a/{number:02d}.txt" for number in range(10)] + [f"{address}/a/absent.txt"]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        told = preview(tmp_path / "list.txt", database, workers=1)
    assert (told.sampled, told.sample_failed) == (11, 1)
    assert told.estimate is not None


def test_the_sample_of_a_bucket_is_read_from_there(texts: Path, bucket: str) -> None:
    """On a real S3 server, reading takes time, and nothing is written to a database there."""
    store = fanfold.storage.open_store(bucket)
    for file in sorted(texts.rglob("*.txt"))[:12]:
        store.put(f"in/{file.name}", file.read_bytes())
    told = fanfold.preview(Scripted(), source=f"{bucket}/in", database=f"{bucket}/db", workers=1)
    assert (told.todo, told.sampled, told.sample_failed) == (12, 12, 0)
    assert told.estimate is not None
    assert next(stage for stage in told.estimate.stages if stage.name == "read").seconds > 0
    assert not [meta for chunk in store.list("db") for meta in chunk]


def test_somebody_may_watch(texts: Path, database: str) -> None:
    """A tally counts along, and has a note while a sample is being measured."""
    tally = Tally()
    preview(texts, database, workers=2, tally=tally)
    assert (tally.listing, tally.planned, tally.done, tally.note) == (False, 40, 40, "measuring a sample")


# The arithmetic, for a pace that is defined here

PACE = Pace(2.0, {"read": 0.0, "work": 0.0, "write": 0.5}, {"read": 0.01, "work": 0.08, "write": 0.01}, 0.1)
SAMPLE = Sample((), 64, 6400, 0.0, 1.0, 0.25)


def estimate_of(todo: Todo, workers: int = 1, pace: Pace = PACE) -> fanfold.estimate.preview.Estimate:
    """The estimate at a pace, with 0.25 s for the last commit and 1 s of preparation."""
    return estimated(pace, todo, workers, 1.0, SAMPLE, prices.load())


def test_the_time_here_is_the_sum_of_its_parts() -> None:
    """One worker, 2,000 items in tasks of 1,000: preparation, half the listing, start-up, tasks, items, commit."""
    told = estimate_of(Todo(2000, 10**6, 1000, 3.0))
    tasks = 10  # one of 1,000 and then 500, 250, 125, 63, 31, 16, 8, 4, 3: see `cut`
    assert told.seconds == pytest.approx(1.0 + 1.5 + 2.0 + tasks * 0.5 + 2000 * 0.1 + 0.25)
    assert told.margin == pytest.approx(2 * 0.1 * (1 - 64 / 2000) ** 0.5)


def test_more_workers_help_until_the_listing_holds_them_back() -> None:
    """More workers take less time, but never less than listing takes; then listing is named as the limit."""
    told = estimate_of(Todo(100_000, 10**8, 100, 500.0))
    seconds = [scaled.seconds for scaled in told.elsewhere]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] / seconds[1] == pytest.approx(8, rel=0.1)
    assert [scaled.limit for scaled in told.elsewhere] == ["", "", "listing", "listing"]
    assert seconds[-1] > 500


def test_workers_that_share_a_processor_are_faster_with_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight workers on two processors are four times as fast elsewhere, and AWS costs are for that speed."""
    monkeypatch.setattr("fanfold.estimate.preview.cores", lambda: 2)
    shared, alone = estimate_of(Todo(10_000, 10**6, 1000, 0.0), 8), estimate_of(Todo(10_000, 10**6, 1000, 0.0), 2)
    assert shared.elsewhere[0].seconds < alone.elsewhere[0].seconds / 3
    requests = prices.load().requests(1e6, 1e3)
    machines = [told.aws[0].per_million - requests for told in (shared, alone)]
    assert machines[0] == pytest.approx(machines[1] / 4, rel=0.1)


def test_waiting_for_the_network_here_is_not_paid_for_there() -> None:
    """Reading is not part of AWS's machine time."""
    slow = Pace(2.0, PACE.per_task, {**PACE.per_item, "read": 5.0}, None)
    assert estimate_of(Todo(1000, 10**6, 1000, 0.0), pace=slow).aws == estimate_of(Todo(1000, 10**6, 1000, 0.0)).aws


def test_a_small_sample_claims_no_margin_and_a_whole_one_a_modest_one() -> None:
    """Without an error there is no margin; a sample of all items has a margin of 0.1, because machines vary."""
    assert estimate_of(Todo(100, 100, 10, 0.0), pace=Pace(0.0, PACE.per_task, PACE.per_item, None)).margin is None
    assert estimate_of(Todo(64, 100, 10, 0.0)).margin == pytest.approx(0.1)


# The command line

FANFOLD = [sys.executable, "-m", "fanfold"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six small pictures and a broken one."""
    from image_files import picture

    for number in range(6):
        picture(tmp_path / "photos" / f"{number}.png", seed=number)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"broken")
    return tmp_path / "photos"


def plan(*words: object) -> Done:
    """Run `fanfold plan images`."""
    return command("plan", "images", *words)


def test_plan_prints_counts_stages_time_and_dollars(photos: Path, database: str, temporary: Path) -> None:
    """The text says what limits the run and what to do about it, in short lines."""
    done = plan(photos, database)
    assert done.returncode == 0, done.stderr
    for said in ("7  ", "new", "Measured on all 7", "1 of them failed", "the run takes about", "On AWS Batch"):
        assert said in done.stdout
    assert "of a worker's time.\nTo speed it up, use " in done.stdout
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 130
    assert not Path(database).exists()
    assert not list(temporary.glob("fanfold-*"))  # ONNX Runtime may leave another file


def test_plan_gives_all_numbers_as_json(photos: Path, database: str, tmp_path: Path) -> None:
    """Scripts get every number by name, and the user's own price table is used."""
    table = tmp_path / "mine.toml"
    table.write_text(prices.OURS.read_text().replace("2026-11-23", "2030-01-01"))
    done = plan(photos, database, "--json", "--prices", table, "--workers", 1)
    told = json.loads(done.stdout)
    assert (told["new"], told["todo"], told["sampled"], told["sample_failed"], told["workers"]) == (7, 7, 7, 1, 1)
    estimate = told["estimate"]
    assert estimate["seconds"] == told["seconds"] > 0
    assert estimate["prices"].startswith("2030-01-01")
    assert {stage["name"] for stage in estimate["stages"]} == {"read", "decode", "embed", "write"}
    assert {"workers", "seconds", "items_per_second", "bytes_per_second", "limit"} == estimate["elsewhere"][0].keys()
    assert {"name", "per_million", "this_run", "measured"} == estimate["aws"][0].keys()


def test_plan_refuses_a_bad_price_table(photos: Path, database: str, tmp_path: Path) -> None:
    """A bad price table exits with 2 and a sentence, before anything is done."""
    (tmp_path / "bad.toml").write_text("date = 3")
    done = plan(photos, database, "--prices", tmp_path / "bad.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_plan_that_is_stopped_leaves_nothing(
    sign: signal.Signals, code: int, photos: Path, database: str, temporary: Path
) -> None:
    """A plan that is stopped during the sample leaves no file and no process."""
    process = subprocess.Popen([*FANFOLD, "plan", "images", str(photos), database], stderr=subprocess.PIPE, text=True)
    while not list(temporary.glob("fanfold-plan-*/_runs/*/plan.json")) and process.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, sign)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert said.splitlines()[-1] == "fanfold: Stopped. Nothing was written."
    assert not list(temporary.glob("fanfold-*"))  # ONNX Runtime may leave another file
    assert not Path(database).exists()
    assert not psutil.wait_procs(children, timeout=60)[1]


class Foreseen(Scripted):
    """A job that knows what its items take."""

    def expected(self) -> Any:
        return lambda item: None if item.key == "unknown.txt" else 7.0


def test_a_job_may_say_what_its_items_take(texts: Path, database: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Then nothing is measured, and the estimate is their sum; one item that it cannot tell of, and a sample is."""
    told = preview(texts, database, Foreseen(), workers=2)
    assert (told.todo, told.sampled, told.trouble) == (40, 0, "")
    assert told.estimate is not None
    assert (told.estimate.bottleneck, told.estimate.margin) == ("work", None)
    assert 140 < told.estimate.seconds < 160  # tasks are not of one size
    show_plan(told, False, {})
    shown = capsys.readouterr().out
    assert "The job can tell without a sample: 7,000 ms per item on average." in shown
    assert "To speed it up" not in shown
    (texts / "unknown.txt").write_text("x")
    assert preview(texts, database, Foreseen(), workers=2).sampled == 41
