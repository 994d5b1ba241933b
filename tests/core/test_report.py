"""Reports: the counts add up and decide the exit code."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fanfold import Report

counts = st.integers(0, 10**9)
reports = st.builds(
    Report,
    run=st.text(),
    listed=counts,
    unchanged=counts,
    ok=counts,
    failed=counts,
    left_out=st.dictionaries(st.text(), counts),
    seconds=st.integers(0, 10**6).map(lambda ms: ms / 1000),
    database=st.text(),
    table=st.text(),
    complete=st.booleans(),
)


@given(reports)
def test_a_report_survives_json(report: Report) -> None:
    """`from_json` reads what `to_json` writes, as text."""
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


@given(reports)
def test_every_listed_item_is_somewhere(report: Report) -> None:
    """Listed items are the sum of unchanged, done, failed and lost ones."""
    told = report.to_json()
    assert told["listed"] == told["unchanged"] + told["ok"] + told["failed"] + told["lost"]


@given(reports)
def test_exit_code(report: Report) -> None:
    """The exit code is 1 if an item is, or may be, in no table; else 3 if one failed, else 0."""
    expected = 1 if report.lost or not report.complete else 3 if report.failed else 0
    assert report.exit_code == expected


def test_the_three_exit_codes() -> None:
    """One report of each kind."""
    assert Report("r", listed=3, unchanged=1, ok=2, failed=0).exit_code == 0
    assert Report("r", listed=3, unchanged=1, ok=1, failed=0).exit_code == 1
    assert Report("r", listed=3, unchanged=1, ok=1, failed=1).exit_code == 3
    assert Report("r", listed=3, unchanged=1, ok=2, failed=0, complete=False).exit_code == 1


def test_the_json_has_all_that_is_promised() -> None:
    """The names that scripts rely on are there, and the reasons are sorted."""
    told = Report("r", 3, 1, 2, 0, {"other type": 1, "empty": 2}, seconds=4.0, database="db", table="t").to_json()
    promised = {"run", "listed", "unchanged", "ok", "failed", "lost", "left_out", "seconds", "database", "table"}
    assert promised <= told.keys()
    assert told["items_per_second"] == 0.5
    assert list(told["left_out"]) == ["empty", "other type"]


def test_no_time_is_no_rate() -> None:
    """A report of zero seconds has a rate of zero."""
    assert Report("r", 1, 0, 1, 0).items_per_second == 0


def test_unknown_facts_are_ignored() -> None:
    """A report written by a later version can be read."""
    content = Report("r", 1, 0, 1, 0).to_json() | {"ended": "complete", "colour": "blue"}
    assert Report.from_json(content) == Report("r", 1, 0, 1, 0)
