"""Changes of the clock: who made them, which times they put in doubt, and which time zone was in force."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import mesa
import pytest
from made_up import case, log, logon, record, texts

from fanfold.evidence.report.record import Record
from fanfold.evidence.report.report import answers
from fanfold.evidence.report.rules import clock_changes, logons, machine, power

DAY = "2021-05-23T"
EVE = {"SubjectUserSid": "S-1-5-21-1-2-3-1001", "SubjectUserName": "eve", "SubjectDomainName": "CORP"}
WINDOWS = {"SubjectUserSid": "S-1-5-18", "SubjectUserName": "HOST$", "SubjectDomainName": "CORP"}


def set_clock(before: str, after: str, number: int, **data: Any) -> Record:
    """The record of a change in the log System."""
    given = {"OldTime": f"{DAY}{before}Z", "NewTime": f"{DAY}{after}Z", **data}
    return record(1, after, "System", number, **given)


def audited(before: str, after: str, number: int, **data: Any) -> Record:
    """The record of a change in the log Security."""
    given = {"PreviousTime": f"{DAY}{before}Z", "NewTime": f"{DAY}{after}Z", **data}
    return record(4616, after, "Security", number, **given)


def start(time: str, number: int) -> Record:
    """The start of the machine."""
    return record(12, time, "System", number)


def bias(minutes: int, time: str, number: int) -> Record:
    """A record of the bias in force."""
    return record(24, time, "System", number, CurrentBias=minutes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([set_clock("12:00:00", "09:00:00", 2, ProcessName="\\Device\\HarddiskVolume3\\rundll32.exe"),
          audited("12:00:00", "09:00:00", 7, **EVE)],
         "The clock was set back by 3 h 0 min, to Sun 23 May 2021, 09:00:00 UTC, by rundll32.exe as CORP\\eve."),
        ([audited("12:00:00", "12:05:00", 7, **EVE)],
         "The clock was set forward by 5 min 0 s, to Sun 23 May 2021, 12:05:00 UTC, by CORP\\eve."),
        ([audited("12:00:00", "12:05:00", 7, **WINDOWS, ProcessName="C:\\x\\vmtoolsd.exe")],
         "The clock was set forward by 5 min 0 s, to Sun 23 May 2021, 12:05:00 UTC, by vmtoolsd.exe as SYSTEM."),
        ([set_clock("12:00:00", "13:00:00", 2, Reason=2, ProcessName="")],
         "The clock was set forward by 1 h 0 min, to Sun 23 May 2021, 13:00:00 UTC, by Windows, from the clock of the "
         "hardware."),
        ([audited("12:00:00", "12:00:03", 7, **EVE)],
         "The clock was set forward by 3 s, to Sun 23 May 2021, 12:00:03 UTC, by CORP\\eve."),
    ],
)  # fmt: skip
def test_who_changed_the_clock(changes: list[Record], sentence: str) -> None:
    """A change is one sentence, whether one log tells it or two, with the program and the account that made it."""
    found = texts(clock_changes.RULE, case(*changes))
    assert found == [(sentence, "shown")]


def test_a_change_by_an_account_of_which_only_the_sid_is_recorded() -> None:
    """Where the log Security does not tell who it was, the SID of the record in the log System does."""
    change = replace(set_clock("12:00:00", "09:00:00", 2), user_sid="S-1-5-21-9-1001")
    ((text, _),) = texts(clock_changes.RULE, case(change))
    assert text.endswith("by the account S-1-5-21-9-1001.")


def test_a_clock_that_is_kept_in_step() -> None:
    """Changes below 2 s, as at each start, are not told; those below a minute are counted."""
    tiny = audited("12:00:00", "12:00:01", 7, **WINDOWS)
    small = [set_clock(f"12:0{n}:00", f"12:0{n}:03", n, ProcessName="") for n in (1, 2)]
    found = texts(clock_changes.RULE, case(tiny, *small, logs=[log("System")]))
    assert found == [
        ("2 changes by 2 s to a minute, as a clock is kept in step.", "shown"),
        ("No change of the clock by a minute or more is recorded.", "shown"),
    ]


def test_without_a_log_nothing_is_known_of_the_clock() -> None:
    """That no change is recorded shows nothing if there is no log System."""
    assert texts(clock_changes.RULE, case())[0][1] == "not recorded"


def test_a_clock_that_is_set_while_the_machine_is_off() -> None:
    """A start at an earlier time than the last record of the run before tells that the clock was behind."""
    given = case(start("10:00:00", 1), record(13, "18:00:00", "System", 2), start("08:00:00", 3))
    ((text, status),) = texts(clock_changes.RULE, given)
    sentence = "The clock was behind by at least 10 h 0 min when the machine started, Sun 23 May 2021, 08:00:00 UTC."
    assert (text, status) == (sentence, "likely")


def test_the_last_time_that_the_clock_was_in_step() -> None:
    """The time server from which the time was taken last is told, by its name alone."""
    step = record(35, "12:00:00", "System", 5, "Time-Service", TimeSource="time.example,0x9 (ntp.m|0x9|0.0.0.0:123)")
    told = "the time service took the time from time.example, the last time that it is recorded."
    found = texts(clock_changes.RULE, case(step, logs=[log("System")]))
    assert (f"Sun 23 May 2021, 12:00:00 UTC: {told}", "shown") in found


@pytest.mark.parametrize(
    ("records", "doubt"),
    [
        ([set_clock("13:00:00", "10:00:00", 3)],
         "the clock was later set back by 3 h 0 min, so this time may be too late"),
        ([set_clock("13:00:00", "12:30:00", 3)], ""),  # 12:00 was not shown twice
        ([set_clock("13:00:00", "16:00:00", 3)],
         "the clock was later set forward by 3 h 0 min, so this time may be too early"),
        ([start("12:30:00", 2), set_clock("13:00:00", "16:00:00", 3)], ""),  # the start took the time from its hardware
        ([set_clock("13:00:00", "16:00:00", 3, Reason=2)], ""),  # it slept
        ([set_clock("11:00:00", "11:30:00", 3)], ""),
    ],
)  # fmt: skip
def test_times_before_a_change(records: list[Record], doubt: str) -> None:
    """A sentence whose time the clock showed before it was changed says so; after a sleep, or a start, it does not."""
    ended = log("System", newest_time=mesa.at("11:45:00"))
    given = case(start("08:00:00", 1), *records, logon("12:00:00", 9), logs=[ended])
    found = next(finding for finding in answers(given, logons.RULE) if finding.id == "logon.last_console")
    assert (found.status, found.reason) == ("shown", doubt)


@pytest.mark.parametrize(("number", "doubted"), [(5, True), (15, False)])
def test_a_time_that_the_clock_showed_twice(number: int, doubted: bool) -> None:
    """Which of two it was is known by the place of the record among those of its log."""
    changes = set_clock("13:00:00", "10:00:00", 3), audited("13:00:00", "10:00:00", 10, **WINDOWS)
    given = case(start("08:00:00", 1), *changes, logon("12:00:00", number))
    found = next(finding for finding in answers(given, logons.RULE) if finding.id == "logon.last_console")
    assert ("set back by 3 h" in found.reason) == doubted


def test_a_time_that_the_clock_showed_twice_in_a_log_without_a_change() -> None:
    """Without a record of the change in the same log, nothing tells which of the two times it was."""
    given = case(start("08:00:00", 1), set_clock("13:00:00", "10:00:00", 3), logon("12:00:00", 5))
    assert given.changes.is_twice(mesa.at("12:00:00"), logon("12:00:00", 5))
    found = next(finding for finding in answers(given, logons.RULE) if finding.id == "logon.last_console")
    assert found.reason == "the clock showed this time twice, as it was set back in between"


def test_the_zone_by_the_order_of_records() -> None:
    """A start before the clock was set back is in the zone that was in force then, though its time came again later."""
    records = [
        start("12:00:00", 1), bias(480, "12:00:01", 2), set_clock("12:10:00", "09:00:00", 3), bias(300, "09:30:00", 4),
        start("12:05:00", 8),
    ]  # fmt: skip
    found = [text for text, _ in texts(power.RULE, case(*records))]
    assert found == [
        "Sun 23 May 2021, 07:05:00 UTC-05:00 (12:05:00 UTC): the machine started.",
        "Sun 23 May 2021, 04:00:00 UTC-08:00 (12:00:00 UTC): the machine started.",
    ]


def test_the_zone_after_the_clock_was_set_back() -> None:
    """The last zone before the clock was set back is in force after it, though its record has a later time."""
    records = [start("12:00:00", 1), bias(480, "12:00:01", 2), bias(300, "12:05:00", 3),
               set_clock("12:10:00", "09:00:00", 4)]  # fmt: skip
    clock = case(*records, logs=[log("System", newest_time=mesa.at("10:00:00"))]).clock
    assert clock.short(mesa.at("09:30:00")) == "04:30:00 UTC-05:00"


def test_a_record_that_was_written_late() -> None:
    """A record of a start that is among those before a change, with a time after it, is of the time after."""
    name = record(6013, "09:00:01", "System", 2, **{"7": "300 Eastern Standard Time"})
    records = [start("12:00:00", 1), name, bias(480, "12:00:01", 3), set_clock("12:10:00", "09:00:00", 4)]
    clock = case(*records, logs=[log("System", newest_time=mesa.at("09:30:00"))]).clock
    assert (clock.full(mesa.at("12:00:30")), clock.name) == (
        "Sun 23 May 2021, 04:00:30 UTC-08:00 (12:00:30 UTC)", "Eastern Standard Time",
    )  # fmt: skip


def test_a_clock_that_jumped_by_months() -> None:
    """The first days of a virtual machine: all of the order is that of the records."""
    first = [record(12, "08:00:00", "System", 1), bias(0, "08:00:01", 2)]
    ago = mesa.at("08:00:00") - timedelta(days=200)
    old = Record("System", 3, ago, 1, "Microsoft-Windows-Kernel-General", "HOST",
                 {"OldTime": "2021-05-23T08:10:00Z", "NewTime": ago.isoformat()})  # fmt: skip
    given = case(*first, old, logs=[log("System", newest_time=ago + timedelta(days=2))])
    text = texts(clock_changes.RULE, given)[0][0]
    assert text.startswith("The clock was set back by 4,800 h 10 min, to Wed 4 Nov 2020")
    assert [finding.id for finding in answers(given, machine.RULE)].count("machine.clock") == 1
    assert given.changes.stretch(mesa.at("08:05:00")) == 0
