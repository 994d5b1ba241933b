"""Logs of several machines that lie in one folder: sentences name the machine, and none joins two of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import case, log, record
from scans import scan

from event_logs import START, Event, write_log
from fanfold.evidence.report.load import are_loose, are_of_several
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.report import Report, answers, made
from fanfold.evidence.report.rules import accounts, logons


def named(computer: str, file: str, channel: str = "") -> Record:
    """A record of a log that names this computer."""
    return replace(record(4624, log=file), computer=computer, channel=channel)


@pytest.mark.parametrize(
    ("given", "several"),
    [
        ([named("A", "System", "System"), named("B", "Security", "Security")], True),
        ([named("A.corp", "one", "Sysmon"), named("B", "two", "Sysmon")], True),
        ([named("A.corp", "one", "Sysmon"), named("a.other", "two", "Sysmon")], False),
        ([named("OLD", "Setup", "Setup"), named("NEW", "System", "System")], False),  # renamed; Setup is seldom written
        ([named("OLD", "Security", "Security"), named("OLD", "System", "System"), named("NEW", "System", "System")],
         False),
        ([named("A", "System", "System"), named("B", "ForwardedEvents", "Security")], False),
    ],
)  # fmt: skip
def test_what_tells_of_several_machines(given: list[Record], several: bool) -> None:
    """Logs that are always written to, or two of one channel, without a name that links them."""
    assert are_of_several(given) == several


def test_logs_where_windows_keeps_them_are_of_one_machine() -> None:
    """Logs of other machines on a disk image are not mixed with its own."""
    assert are_loose([log("Security")])
    assert not are_loose([log("Security"), log("C:/Windows/System32/winevt/Logs/System")])


@pytest.fixture
def report(tmp_path: Path, database: str) -> Report:
    """Of two logs Security: on PC1 an attempt failed, and on PC2 somebody logged on; and a log System of PC1."""
    logon = {
        "TargetUserSid": "S-1-5-21-1-2-3-1104", "TargetUserName": "eve", "LogonType": "2",
        "LogonProcessName": "User32 ", "ProcessName": "C:\\Windows\\System32\\svchost.exe", "TargetLogonId": "0x5f001",
    }  # fmt: skip
    kernel = "Microsoft-Windows-Kernel-General"
    failed = Event(1, 4625, START, computer="PC1", data=logon | {"SubStatus": "0xc000006a"})
    done = Event(2, 4624, START, computer="PC2", data=logon)
    zone = Event(1, 24, START, kernel, "System", "PC1", data={"CurrentBias": "360"})
    for name, event in (("PC1", failed), ("PC2", done), ("System", zone)):
        write_log(tmp_path / "given" / "samples" / f"{name}.evtx", [event])
    scan(tmp_path / "given", database)
    return made(database, "samples")


def test_sentences_name_the_machine(report: Report) -> None:
    """Each has the computer of its records, and a record of one machine is not told with those of another."""
    told = {one.text: one.status for one in report.findings}
    day = "Sun 23 May 2021, 22:24:16 UTC"
    assert told[f"{day}: eve logged on at the console (on PC2)."] == "shown"
    assert told[f"{day}: an attempt at the console as eve failed: wrong password (on PC1)."] == "shown"
    assert not any("failed attempt" in text for text in told)


def test_nothing_is_told_not_to_have_happened(report: Report) -> None:
    """The logs of several machines do not show what did not happen on one of them, nor a time zone."""
    told = {one.text: one for one in report.findings}
    missing = told["No logon by Remote Desktop is recorded."]
    assert (missing.status, missing.reason) == ("not recorded", "the logs are of several machines")
    assert told["The time zone is not known: all times are in UTC."].reason == "the logs are of several machines"
    assert told["The logs name PC1, PC2. They may be of several machines."].status == "possible"
    assert not any("forwarded" in one.reason for one in report.findings)


def test_a_change_of_auditing_is_of_one_machine() -> None:
    """What one of several machines was set to record tells nothing of what the others did not."""
    guids = (f"{{0cce{number}-69ae-11d9-bed3-505054503030}}" for number in ("9215", "9235"))
    changed = [record(4719, SubcategoryGuid=guid, AuditPolicyChanges="%%8448") for guid in guids]
    for rule, text in (
        (logons.RULE, "No logon at the console is recorded."),
        (accounts.RULE, "No change of an account is recorded, but for those of the set-up."),
    ):
        found = {one.text: one for one in answers(case(*changed, is_mixed=True), rule)}
        assert (found[text].reason, found[text].refs) == ("the logs are of several machines", [])


def test_what_is_not_listed_is_of_all_machines() -> None:
    """How many more there are is told of all machines together: its record is only the first of them."""
    given = [record(4726, number=number, TargetUserName=f"u{number}", SubjectUserName="eve") for number in range(1, 33)]
    found = [one.text for one in answers(case(*given, is_mixed=True), accounts.RULE)]
    assert found[-1] == "2 more changes of accounts before these."
    assert found[0].endswith(" (on HOST).")
