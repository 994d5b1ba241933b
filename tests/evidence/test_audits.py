"""What auditing records: things that were tried and failed, and what somebody took out of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import case, log, record, texts
from scans import scan

from event_logs import Event, events, write_log
from fanfold.evidence.report.report import made
from fanfold.evidence.report.rules import accounts, clearing, neighbours, programs, remote

WHO = {"SubjectUserName": "eve", "SubjectDomainName": "CORP", "SubjectUserSid": "S-1-5-21-1-2-3-1105"}
FROM = {"LogonType": "3", "TargetUserSid": "S-1-0-0"}


@pytest.mark.parametrize(
    ("event_id", "data", "text"),
    [
        (4740, {"TargetUserName": "boss", "TargetDomainName": "KIOSK"},
         "the account boss was locked out, after attempts from KIOSK."),
        (4741, {"TargetUserName": "EVIL$"}, "the account of a machine EVIL$ was made by CORP\\eve."),
        (4743, {"TargetUserName": "PC9$"}, "the account of a machine PC9$ was deleted by CORP\\eve."),
        (4767, {"TargetUserName": "boss"}, "the account boss was unlocked by CORP\\eve."),
    ],
)  # fmt: skip
def test_more_changes_of_accounts(event_id: int, data: dict[str, str], text: str) -> None:
    """Accounts that are locked out, and accounts of machines, are told."""
    assert texts(accounts.RULE, case(record(event_id, **data, **WHO)))[0][0].endswith(text)


def test_a_new_password_that_was_refused() -> None:
    """An attempt that failed has the same event as one that did not, and is told as what it is."""
    given = replace(record(4724, TargetUserName="boss", **WHO), is_failure=True)
    text = "an attempt of CORP\\eve to give the account boss a new password failed."
    assert texts(accounts.RULE, case(given))[0][0].endswith(text)


def test_a_share_that_was_refused() -> None:
    """A machine that was refused a share has not used it."""
    given = replace(record(5140, ShareName="\\\\*\\C$", IpAddress="10.0.0.9"), is_failure=True)
    assert texts(neighbours.RULE, case(given))[0][0].startswith("10.0.0.9: was refused the share C$")


def test_failures_are_known_by_their_keyword(tmp_path: Path, database: str) -> None:
    """The keyword of a record tells whether something failed."""
    data = {"TargetUserName": "boss", **WHO}
    failed = Event(1, 4724, events(1)[0].time, data=data, keywords="0x8010000000000000")
    done = Event(2, 4724, events(1)[0].time, data=data)
    write_log(tmp_path / "given" / "host1" / "Security.evtx", [failed, done])
    scan(tmp_path / "given", database)
    found = [one.text for one in made(database, "host1").findings if one.id == "account.changed"]
    assert [" failed." in text for text in found] == [False, True]


def test_auditing_that_was_turned_off() -> None:
    """What somebody took out of what is recorded is one sentence, and what was added later is another."""
    logon = "{0CCE9215-69AE-11D9-BED3-505054503030}"
    off = record(4719, SubcategoryGuid=logon, AuditPolicyChanges="%%8448, %%8450", **WHO)
    on = record(4719, "13:00:00", number=2, SubcategoryGuid=logon, AuditPolicyChanges="%%8449", **WHO)
    found = [text.partition(": ")[2] for text, _ in texts(clearing.RULE, case(off, on)) if "audit policy" in text]
    assert found == [
        "the audit policy was changed by CORP\\eve: from then on recorded: successes of Logon.",
        "the audit policy was changed by CORP\\eve: no longer recorded: successes and failures of Logon.",
    ]


def test_guessing_by_remote_desktop() -> None:
    """Attempts by Remote Desktop, which old servers check at the desktop, are a run like those over the network."""
    data = {"LogonType": "10", "IpAddress": "23.94.153.202", "WorkstationName": "HOST", "TargetUserName": "admin"}
    attempts = [record(4625, f"12:00:{n:02}", number=n, **data) for n in range(1, 7)]
    text = texts(remote.RULE, case(*attempts))[0][0]
    assert text.startswith("6 failed attempts by Remote Desktop from 23.94.153.202, as admin, Sun 23 May 2021")


def test_guessing_under_many_names() -> None:
    """A machine that gives itself another name each time is known by its address, and some of the names are told."""
    attempts = [
        record(
            4625,
            f"12:00:{n:02}",
            number=n,
            IpAddress="10.0.0.9",
            WorkstationName=f"W{n}",
            TargetUserName=f"u{n}",
            **FROM,
        )
        for n in range(1, 7)
    ]
    text = texts(remote.RULE, case(*attempts))[0][0]
    assert text.startswith(
        "6 failed attempts over the network from 10.0.0.9 (W1, W2, W3 and 3 more), as u1, u2, u3 and 3 more,"
    )


def test_a_logon_that_followed_is_that_of_a_person() -> None:
    """After attempts, neither the anonymous account nor a machine's own account counts as a logon that followed."""
    attempts = [
        record(4625, f"12:00:{n:02}", number=n, IpAddress="10.0.0.9", TargetUserName="admin", **FROM)
        for n in range(1, 7)
    ]
    sid = "S-1-5-21-1-2-3-1104"
    others = [("ANONYMOUS LOGON", "S-1-5-7"), ("PC2$", sid), ("eve", sid), ("admin", sid)]
    for count, follows in ((2, None), (3, "eve"), (4, "admin")):
        after = [
            record(4624, f"12:01:{n:02}", number=10 + n, LogonType="3", IpAddress="10.0.0.9", TargetUserName=name,
                   TargetUserSid=one)
            for n, (name, one) in enumerate(others[:count])
        ]  # fmt: skip
        found = [text for text, _ in texts(remote.RULE, case(*attempts, *after)) if text.startswith("Then ")]
        assert [text.split()[1] for text in found] == ([follows] if follows else [])


def test_programs_that_open_a_disk_to_other_machines() -> None:
    """The service of such a program is told as one that it installs."""
    given = record(7045, log="System", ServiceName="FResponse Service", ImagePath="f-response-ent.exe")
    found = texts(programs.RULE, case(replace(given, provider="Service Control Manager"), logs=[log("System")]))
    assert found[0][0].endswith("the service f-response-ent.exe was installed, as F-Response does when it starts.")


def test_guessing_that_a_domain_controller_sees() -> None:
    """It checks passwords for other machines, and gives out tickets: what it refused is a run of attempts, too."""
    tickets = [
        record(4771, f"12:00:{n:02}", number=n, IpAddress="::ffff:10.0.0.9", TargetUserName="boss", Status="0x18")
        for n in range(1, 7)
    ]
    checks = [
        record(4776, f"12:10:{n:02}", number=n, Workstation="KALI", TargetUserName="boss", Status="0xc000006a")
        for n in range(11, 17)
    ]
    found = [text for text, _ in texts(remote.RULE, case(*tickets, *checks))]
    assert found[0].startswith("6 failed attempts to get a Kerberos ticket from 10.0.0.9, as boss, Sun")
    assert found[1].startswith("6 failed attempts to have a password checked from (KALI), as boss, Sun")


def test_checks_of_a_domain_controller_that_did_not_fail() -> None:
    """Passwords that were right, and machines whose own password is out of date, are not attempts."""
    right = [record(4776, number=n, Workstation="PC2", TargetUserName="boss", Status="0x0") for n in range(6)]
    machines = [
        record(4771, number=9 + n, IpAddress="10.0.0.9", TargetUserName="PC9$", Status="0x18") for n in range(6)
    ]
    assert not any("failed attempts" in text for text, _ in texts(remote.RULE, case(*right, *machines)))


@pytest.mark.parametrize("name", ["velociraptor-v0.7.1-windows-amd64.exe", "winpmem_mini_x64_rc2.exe",
                                  "Exterro_FTK_Imager_(x64)-4.7.1.exe", "MRCv120.exe", "AXIOMProcess.exe",
                                  "MagnetRESPONSE.exe"])  # fmt: skip
def test_programs_whose_files_have_a_version(name: str) -> None:
    """Programs are known by their names, also where a version is a part of them."""
    found = texts(programs.RULE, case(record(4688, NewProcessName=f"C:\\Temp\\{name}"), logs=[log("Security")]))
    assert found[0][0].endswith(", by its name.")


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("%REMOVABLE%\\SECRET.EXE", "That is a removable medium; which one is not recorded."),
        ("%HOT%\\SECRET.EXE", "That is a removable medium; which one is not recorded."),
        ("\\\\srv\\share\\a.exe", "That is another machine's share."),
        ("\\Device\\Mup\\srv\\share\\a.exe", "That is another machine's share."),
        ("\\Device\\HarddiskVolume5\\a.exe", "On which disk this volume was is not recorded."),
        ("F:\\a.exe", "Which disk F: was then is not recorded."),
    ],
)
def test_starts_that_applocker_allowed(path: str, where: str) -> None:
    """AppLocker records what it lets run, with its own words for removable media."""
    given = record(8002, log="AppLocker/EXE and DLL", provider="AppLocker", FilePath=path)
    assert texts(programs.RULE, case(given))[0][0].endswith(f": {path}. {where}")


@pytest.mark.parametrize("path", ["%OSDRIVE%\\USERS\\A.EXE", "\\Device\\HarddiskVolume3\\Windows\\a.exe", "F:\\a.dll"])
def test_starts_of_no_interest(path: str) -> None:
    """What ran from the volume of Windows is not told, nor is a library."""
    given = record(8002, log="AppLocker/EXE and DLL", provider="AppLocker", FilePath=path)
    assert texts(programs.RULE, case(given))[0][0].startswith("No program is recorded that ran from a USB disk")
