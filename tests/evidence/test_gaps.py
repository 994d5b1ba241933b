"""What is missing: records inside logs, logs that were made anew, hours without a record, and what was cleared."""

from datetime import timedelta
from typing import Any

import mesa
import numpy as np
import pytest
from made_up import case, log, record, texts

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import clearing, power, remote, taking
from fanfold.evidence.report.silence import silences

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR
NOON = int(mesa.at("12:00:00").timestamp() * 1_000_000)


def hourly(days: int, *without: tuple[int, int]) -> Any:
    """Times of records, one an hour, without some stretches of hours since the first."""
    hours = [hour for hour in range(24 * days) if not any(first <= hour < last for first, last in without)]
    return np.array([NOON + hour * HOUR for hour in hours], np.int64)


def test_hours_without_a_record() -> None:
    """A stretch much longer than any other is told, with how long they usually are."""
    (found,) = silences(hourly(10, (100, 120)), [])
    assert (found.begin, found.end) == (mesa.at("15:00:00", 27), mesa.at("12:00:00", 28))
    assert found.usual == timedelta(hours=1)


@pytest.mark.parametrize(
    ("times", "explained"),
    [
        (hourly(10), []),
        (hourly(10, (100, 104)), []),  # not long
        (hourly(10, *((24 * day, 24 * day + 10) for day in range(10))), []),  # as every day
        (hourly(10, (100, 120)), [mesa.at("15:00:30", 27)]),  # it was shut down
        (hourly(10, (100, 120)), [mesa.at("12:00:00", 28)]),  # it was started
        (hourly(0), []),
    ],
)
def test_hours_that_need_no_reason(times: Any, explained: list[Any]) -> None:
    """A short stretch, one as on every day, or one at whose ends the machine was switched off or on is not told."""
    assert silences(times, explained) == []


def test_silence_in_the_report() -> None:
    """Hours without a record are possible grounds for more, never shown to be a deletion."""
    logs = [log("System", first_time=mesa.at("00:00:00")), log("Application", first_time=mesa.at("18:00:00", 30)),
            log("Security", origin="deleted", first_time=mesa.at("00:00:00"))]  # fmt: skip
    times = hourly(10, (100, 120))
    given = Case("host", [], logs, {}, steady_times=times)
    (found,) = [one for one in clearing.RULE.answer(given) if one.id == "cleared.silent"]
    assert found.text == "No record for 21 h 0 min, Thu 27 May 2021, 15:00:00 UTC to Fri 28 May 2021, 12:00:00 UTC."
    assert found.status == "possible"
    assert found.reason.startswith("in the log System, whose longest pause on a usual day is 1 h 0 min;")
    assert not found.details


@pytest.mark.parametrize(("hours", "said"), [
    ((99, 101, 119, 120), ["2 recovered records are of this time."]),
    ((50, 110), ["1 recovered record is of this time."]),
    ((99, 120, 130), []),
])  # fmt: skip
def test_recovered_records_in_a_silence(hours: tuple[int, ...], said: list[str]) -> None:
    """Records of deleted logs and of shadow copies may be of a time of which the logs have none any more."""
    times = hourly(10, (100, 120))
    recovered = np.array([hour * HOUR for hour in hours], np.int64) + times[0]
    given = Case("host", [], [log("System", first_time=mesa.at("00:00:00"))], {}, steady_times=times,
                 recovered_times=recovered)  # fmt: skip
    (found,) = [one for one in clearing.RULE.answer(given) if one.id == "cleared.silent"]
    assert [(one.text, one.status) for one in found.details] == [(text, "likely") for text in said]


def test_how_far_recovered_records_reach() -> None:
    """Where nothing is recorded, the sentence names what was looked at, with the records that were recovered."""
    old = log("Security", origin="shadow", records=7, last_record_id=8, first_time=mesa.at("10:00:00", 4),
              last_time=mesa.at("10:00:00", 6))  # fmt: skip
    there = log("Security", first_record_id=20, last_record_id=28)

    def reason(*logs: dict[str, Any]) -> tuple[str, str]:
        (found,) = [one for one in remote.RULE.answer(case(logs=logs)) if one.id == "logon.remote_none"]
        return found.status, found.reason

    recovered = "7 recovered records are there (1 to 8, 4 May 2021 to 6 May 2021)"
    assert reason(there) == ("shown", "by the log Security in its records 20 to 28")
    assert reason(there, old) == ("shown", f"by the log Security in its records 20 to 28, and {recovered}")
    assert reason(old) == ("not recorded", f"of the log Security, only {recovered}")
    empty = log("Security", records=0, first_record_id=None, last_record_id=None, newest_time=None)
    assert reason(empty, old) == ("not recorded", f"the log Security has no record, but {recovered}")


def test_records_that_are_missing_inside_a_log() -> None:
    """Each gap has the ids that are missing; the largest come first."""
    gaps = [{"after": 10, "before": 12}, {"after": 20, "before": 31}]
    given = case(logs=[log("Security", gaps=gaps, last_record_id=50)])
    found = texts(clearing.RULE, given)
    assert [text for text, _ in found if "missing" in text] == [
        "The records 21 to 30 are missing.", "The record 11 is missing.",
    ]  # fmt: skip
    (begins,) = [finding for finding in clearing.RULE.answer(given) if finding.id == "cleared.begins"]
    assert (begins.reason, begins.details[0].refs) == (
        "a gap is not a deletion: crashes leave gaps, too", ["Security#20", "Security#31"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "recovered", "before", "reason"),
    [
        (5, None, "what came before is gone, as in a full log.", ""),
        (5, (1, 4), "of what came before, 4 recovered records are there (1 to 4).", ""),
        (5, (7, 25), "besides, 19 recovered records are there (7 to 25).",
         "some of them may be among the recovered records"),
        (1, (1, 400), "besides, 400 recovered records are there (1 to 400).",
         "some of them may be among the recovered records"),
    ],
)  # fmt: skip
def test_what_was_recovered_of_what_is_missing(
    first: int, recovered: tuple[int, int] | None, before: str, reason: str
) -> None:
    """What came before a log's first record, or is missing inside it, may have been recovered."""
    logs = [log("Security", first_record_id=first, last_record_id=50, gaps=[{"after": 20, "before": 31}])]
    if recovered:
        low, high = recovered
        logs.append(log("Security", origin="shadow", first_record_id=low, last_record_id=high, records=high - low + 1))
    (found,) = [one for one in clearing.RULE.answer(case(logs=logs)) if one.id == "cleared.begins"]
    assert found.text == f"Security has records {first} to 50, with 1 gap; {before}"
    assert [(one.text, one.reason) for one in found.details] == [("The records 21 to 30 are missing.", reason)]


@pytest.mark.parametrize("damage", [{"bad_chunks": 1}, {"undecoded": 3}])
def test_a_gap_where_the_log_is_damaged(damage: dict[str, int]) -> None:
    """Damage in a log is the reason that is told for its gaps."""
    given = case(logs=[log("Security", gaps=[{"after": 10, "before": 12}], **damage)])
    (begins,) = [finding for finding in clearing.RULE.answer(given) if finding.id == "cleared.begins"]
    assert begins.reason == "a part of the log is damaged, and what was there is missing"


def test_a_log_that_was_made_anew() -> None:
    """A log that begins with record 1 long after another one that is always written to was cleared or replaced."""
    logs = [log("Security", first_time=mesa.at("12:00:00", 23)), log("System", first_time=mesa.at("12:00:00", 1)),
            log("Application", first_time=mesa.at("12:00:00", 2), first_record_id=500)]  # fmt: skip
    found = [one for one in texts(clearing.RULE, case(logs=logs)) if "begins with record 1" in one[0]]
    assert found == [
        ("Security begins with record 1, Sun 23 May 2021, 12:00:00 UTC, and System reaches back to Sat 1 May 2021, "
         "12:00:00 UTC.", "likely"),
    ]  # fmt: skip


def test_logs_of_a_machine_whose_clock_went_back_by_days() -> None:
    """Where the clock went back by days, the beginnings of the logs tell nothing."""
    logs = [log("Security", first_time=mesa.at("12:00:00", 23)), log("System", first_time=mesa.at("12:00:00", 1))]
    back = record(1, "12:00:00", "System", 2, OldTime="2021-05-25T12:00:00Z", NewTime="2021-05-23T12:00:00Z")
    assert not [text for text, _ in texts(clearing.RULE, case(back, logs=logs)) if "begins with record 1" in text]


@pytest.mark.parametrize(
    ("event_id", "data", "sentence"),
    [
        (104, {"Channel": "Sysmon/Operational", "SubjectUserName": "eve", "SubjectDomainName": "CORP"},
         "Sysmon/Operational was cleared by CORP\\eve."),
        (104, {"Channel": "System"}, "System was cleared."),
        (1102, {"SubjectUserName": "eve"}, "Security was cleared by eve."),
    ],
)  # fmt: skip
def test_which_log_was_cleared(event_id: int, data: dict[str, str], sentence: str) -> None:
    """Event 104 names the log, and event 1102 is of the log Security."""
    given = case(record(event_id, log="System", provider="Eventlog", **data))
    assert texts(clearing.RULE, given)[0] == (f"Sun 23 May 2021, 12:00:00 UTC: {sentence}", "shown")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (record(6008, log="System", **{"1": "4:30:00 PM", "2": "\u200e5/\u200e23/\u200e2021"}),
         "the machine noted that it had gone off without a shutdown; it last ran at 5/23/2021 4:30:00 PM, local time."),
        (record(6008, log="System"), "the machine noted that it had gone off without a shutdown."),
        (record(41, log="System", provider="Kernel-Power", BugcheckCode=0),
         "the machine had started without a clean shutdown before."),
        (record(41, log="System", provider="Kernel-Power", BugcheckCode=209),
         "the machine had started without a clean shutdown before: it had crashed, with the stop code 0xd1."),
        (Record("System", 1, mesa.at("12:00:00"), 1074, "User32", "HOST",
                {"param1": "C:\\x\\shutdown.exe (HOST)", "param5": "power off", "param7": "CORP\\eve"}),
         "C:\\x\\shutdown.exe (HOST) asked for a shutdown for CORP\\eve."),
        (record(19, log="System", provider="WindowsUpdateClient", updateTitle="Cumulative Update (KB1)"),
         "the update Cumulative Update (KB1) was installed."),
    ],
)  # fmt: skip
def test_how_the_machine_went_off(given: Record, sentence: str) -> None:
    """Power cuts, crashes, shutdowns that were asked for, and updates."""
    assert (f"Sun 23 May 2021, 12:00:00 UTC: {sentence}", "shown") in texts(power.RULE, case(given))


def test_updates_of_apps_are_counted() -> None:
    """Updates without a number of Windows' own are not listed."""
    apps = [record(19, log="System", number=n, provider="WindowsUpdateClient", updateTitle=f"App {n}") for n in (1, 2)]
    assert ("2 more updates of Windows, its drivers and its apps.", "shown") in texts(power.RULE, case(*apps))


@pytest.mark.parametrize(
    ("records", "dirty", "identity", "reason"),
    [
        ([record(12, log="System")], True, "taking.running", "no shutdown is recorded after its last start; logs that"),
        ([], True, "taking.running", "no start and no shutdown is recorded; logs that were open: 1; a snapshot"),
        ([record(12, log="System")], False, "taking.unknown",
         "no shutdown is recorded after its last start, and no log was open"),
        ([], False, "taking.unknown", "no start and no shutdown is recorded, and no log was open"),
        ([record(12, log="System"), record(13, log="System", number=2)], True, "taking.off", "by its last"),
    ],
)  # fmt: skip
def test_whether_the_machine_was_running(records: list[Record], dirty: bool, identity: str, reason: str) -> None:
    """Without a log that was open, that no shutdown is recorded tells nothing."""
    found = [*taking.RULE.answer(case(*records, logs=[log("System", dirty=dirty)]))][-1]
    assert found.id == identity
    assert found.reason.startswith(reason)
