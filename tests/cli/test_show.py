"""The progress line of a run."""

from collections import Counter

import pytest

from fanfold.cli.progress import Speed, progress_line
from fanfold.core.plan import Standing
from fanfold.core.progress import RECENT, Tally
from fanfold.core.report import Report
from fanfold.core.runs import Outcome


def tally(planned: int, ok: int, **more: object) -> Tally:
    """A run whose listing is complete."""
    return Tally(listed=planned, listing=False, planned=planned, ok=ok, **more)  # type: ignore[arg-type]


def ended(seconds: dict[str, float], ok: int = 10) -> Outcome:
    """A task that has finished."""
    return Outcome(0, 1, ok, "done", ok=ok, seconds=seconds)


def test_it_says_how_long_and_what_holds_it_back() -> None:
    """The line has items done, rate, time left, and the stage that takes most of the time."""
    run = tally(100_000, 12_335)
    run.count(ended({"read": 1.0, "decode": 61.0, "embed": 38.0}))
    line = progress_line(run, 76.8)
    assert line == "12,345 of 100,000 done, 76.8/s, 0:19:01 left, mostly decode 61%"
    assert len(line) + len("⠋ ") + 10 + 1 <= 80  # with the bar of a narrow terminal


def test_it_says_nothing_of_stages_when_there_is_nothing_to_say() -> None:
    """No stage is named before a task has ended, or if no stage takes more than half of the time."""
    run = tally(100, 0)
    assert "mostly" not in progress_line(run, 1.0)
    run.count(ended({"read": 1.0, "decode": 1.0, "embed": 1.0}))
    assert "mostly" not in progress_line(run, 1.0)


def test_it_changes_as_the_run_changes() -> None:
    """Only the latest tasks count, so the line follows a change in the pictures."""
    run = tally(1000, 0)
    for _ in range(3):
        run.count(ended({"decode": 900.0, "embed": 100.0}))
    assert progress_line(run, 0.0).endswith("mostly decode 90%")
    for _ in range(RECENT):
        run.count(ended({"decode": 1.0, "embed": 9.0}))
    assert progress_line(run, 0.0).endswith("mostly embed 90%")
    assert run.seconds == Counter(decode=2700.0 + RECENT, embed=300.0 + 9.0 * RECENT)


def test_failures_and_unchanged_items_are_said_where_there_are_any() -> None:
    """The line shows failures and unchanged items, if there are any, while the source is still being listed."""
    run = Tally(listed=15, planned=10, ok=4, failed=1, under_way={3: (1, 1)}, note="waiting")
    run.standings[Standing.UNCHANGED] = 5
    assert progress_line(run, 2.0) == "7 of 10+ done, 2.0/s, 2 failed, 5 unchanged, still listing, waiting"
    assert "failed" not in progress_line(tally(10, 1), 0.0)


def test_a_failed_task_has_no_stages() -> None:
    """An outcome without seconds does not change the stages."""
    run = tally(10, 0)
    run.count(Outcome(0, 3, 10, "failed", error="no"))
    assert run.proportions == {}


def test_the_report_says_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    """The time per stage is a line for people and numbers for scripts; an older report without it can be read."""
    from fanfold.cli import show

    told = Report("r", 3, 0, 3, 0, stages={"read": 0.001, "decode": 58.0, "embed": 42.0}, database="db", table="t")
    show.report(told, "complete", as_json=False)
    assert "Time of the workers: decode 58%, embed 42%." in capsys.readouterr().out
    content = told.to_json()
    assert content["stages"] == {"read": 0.001, "decode": 58.0, "embed": 42.0}
    assert Report.from_json(content) == told
    del content["stages"]
    assert Report.from_json(content).stages == {}


def test_what_a_task_hands_back_turns_no_rate_negative() -> None:
    """If a task fails or restarts, the rate stops, and neither the rate nor the time left becomes negative."""
    speed = Speed()
    run = tally(10_000, 0, under_way={0: (10, 0)})
    speed.update(0.0, run.ended)
    run.watch(0, 400, 0)
    assert speed.update(10.0, run.ended) == pytest.approx(39.0)
    run.watch(0, 0, 0)  # its worker has died
    for second in range(11, 60):
        rate = speed.update(float(second), run.ended)
        assert rate >= 0.0
        assert "-" not in progress_line(run, rate)
    assert speed.most == 400


def test_items_of_a_task_that_was_given_up_have_ended() -> None:
    """Items of a task that was given up are shown as lost, so the line does not fall back."""
    run = tally(1000, 100, under_way={3: (398, 1)})
    assert progress_line(run, 0.0) == "499 of 1,000 done, 1 failed"
    run.count(Outcome(3, 3, 400, "unusable", error="No space left on device"))
    assert progress_line(run, 0.0) == "500 of 1,000 done, 400 lost"


def test_speed_is_of_the_last_half_minute() -> None:
    """Items and time from before the last half minute do not count, nor does the time before the first item."""
    speed = Speed()
    assert speed.update(0.0, 0) == speed.update(50.0, 0) == 0.0
    assert speed.update(100.0, 10) == 0.0
    assert speed.update(110.0, 110) == pytest.approx(10.0)
    assert speed.update(131.0, 1160) == pytest.approx(50.0)
