"""Logons, accounts and records of note: what looks like one and is none, and what is one though it looks like none."""

from dataclasses import replace
from typing import Any

import mesa
import pytest
from made_up import case, log, logon, record, texts

from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import accounts, logons, noteworthy, remote

START = "Sun 23 May 2021, 12:00:00 UTC: "


def unlock(time: str, number: int, **data: Any) -> Record:
    """An unlock of the console: the session that is open gets a new logon of type 7."""
    return logon(time, number, LogonType="7", LogonProcessName="Negotiat", ProcessName="C:\\x\\lsass.exe", **data)


def of(provider: str, event_id: int, time: str = "12:00:00", number: int = 1, **data: Any) -> Record:
    """A record of another provider."""
    return record(event_id, time, "System", number, provider, **data)


def test_a_logon_with_a_cached_password() -> None:
    """A laptop away from its domain checks a cached password: type 11, at the console, with an unlock at once."""
    given = case(logon(number=1, LogonType="11"), unlock("12:00:00", 2))
    found = texts(logons.RULE, given)
    text, status = found[0]
    assert text.endswith("emsadmin logged on at the console with a password that was cached from its domain.")
    assert status == "shown"
    assert not [text for text, _ in found if "unlocked the console" in text]


def test_a_session_that_security_does_not_have() -> None:
    """Where the log Security has no logon, as when it was cleared, the manager of sessions tells of it."""
    session = of("TerminalServices-LocalSessionManager", 21, User="HOST\\eve", Address="LOCAL")
    assert texts(logons.RULE, case(session)) == [(f"{START}HOST\\eve logged on at the console.", "shown")]
    found = [text for text, _ in texts(logons.RULE, case(session, logon("11:59:58", 3)))]
    assert not [text for text in found if "HOST\\eve" in text]


@pytest.mark.parametrize(
    "data", [{"User": "HOST\\defaultuser0", "Address": "LOCAL"}, {"User": "A", "Address": "10.0.0.7"}]
)
def test_sessions_of_nobody_at_the_console(data: dict[str, str]) -> None:
    """A session of the set-up, or one by Remote Desktop, is no logon at the console."""
    session = of("TerminalServices-LocalSessionManager", 21, **data)
    assert texts(logons.RULE, case(session))[0][0] == "No logon at the console is recorded."


def test_an_unlock_is_told_once() -> None:
    """An administrator's unlock has two records, for the two tokens."""
    given = case(logon("08:00:00", 1), unlock("12:00:00", 5), unlock("12:00:00", 6), unlock("13:00:00", 7))
    found = [text for text, _ in texts(logons.RULE, given) if "unlocked" in text]
    assert found == [
        "Sun 23 May 2021, 13:00:00 UTC: EMSSERVER\\emsadmin unlocked the console.",
        f"{START}EMSSERVER\\emsadmin unlocked the console.",
    ]


@pytest.mark.parametrize(
    "records",
    [
        [unlock("12:00:00", 5, IpAddress="10.0.0.7")],
        [unlock("12:00:00", 5, TargetUserSid="S-1-5-96-0-1")],
        [unlock("12:00:00", 5), of("TerminalServices-LocalSessionManager", 25, User="A", Address="10.0.0.7")],
    ],
)
def test_what_is_no_unlock_of_the_console(records: list[Record]) -> None:
    """A reconnection by Remote Desktop is a logon of type 7, too."""
    assert logons.unlocks(case(*records), []) == []


@pytest.mark.parametrize(
    ("process", "counts"),
    [
        ("C:\\Windows\\System32\\winlogon.exe", True),
        ("C:\\Windows\\System32\\svchost.exe", True),
        ("C:\\Windows\\System32\\oobe\\msoobe.exe", False),
        ("C:\\Windows\\System32\\CloudExperienceHostBroker.exe", False),
        ("C:\\Windows\\System32\\consent.exe", False),
        ("C:\\Program Files\\browser.exe", False),
    ],
)
def test_the_program_that_checked_the_password(process: str, counts: bool) -> None:
    """Only the programs of the logon screen tell of somebody at the console, for a logon as for an attempt."""
    assert bool(logons.console_logons(case(logon(ProcessName=process)))) == counts
    attempt = logon(event_id=4625, ProcessName=process, SubStatus="0xc000006a")
    assert (
        bool([text for text, _ in texts(logons.RULE, case(attempt)) if "an attempt at the console" in text]) == counts
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"SubStatus": "0xc000006a"}, "wrong password"),
        ({"SubStatus": "0xc0000064"}, "no such user"),
        ({"SubStatus": "0xc0000071"}, "password expired"),
        ({"SubStatus": "0xc0000072"}, "account disabled"),
        ({"SubStatus": "0xc0000234"}, "account locked"),
        ({"SubStatus": "0xc000006e"}, "account restriction"),
        ({"SubStatus": "0x0", "Status": "0xc0000224"}, "password must be changed"),
        ({"SubStatus": "0xc0000413"}, "status 0xc0000413"),
    ],
)
def test_why_an_attempt_failed(data: dict[str, str], why: str) -> None:
    """The reason of a failed attempt is in words, or else its number."""
    assert logons.why_failed(record(4625, **data)) == why


def test_a_session_that_was_locked() -> None:
    """Where it is recorded, the last lock of a session is told; one of another session is not."""
    given = case(logon(number=1), record(4800, "12:30:00", number=2, TargetLogonId="0x1"),
                 record(4800, "12:40:00", number=3, TargetLogonId="0x9"))  # fmt: skip
    assert ("It was last locked 12:30:00 UTC.", "shown") in texts(logons.RULE, given)


def test_a_lock_after_another_start_is_of_another_session() -> None:
    """The ids of sessions begin again when the machine starts."""
    given = case(logon(number=1), record(4608, "12:20:00", number=2),
                 record(4800, "12:30:00", number=3, TargetLogonId="0x1"))  # fmt: skip
    assert not [text for text, _ in texts(logons.RULE, given) if "locked" in text]


def test_a_session_that_is_open_at_the_end() -> None:
    """Without a record of its end a session was open, or the power was cut."""
    found = texts(logons.RULE, case(logon()))
    assert ("No record tells the end of the session: it was open when the log ends.", "likely") in found


@pytest.mark.parametrize(
    ("given", "sentence", "status"),
    [
        (record(4778, AccountName="eve", AccountDomain="CORP", ClientName="PC7", ClientAddress="10.0.0.7"),
         "CORP\\eve connected again by Remote Desktop from 10.0.0.7.", "shown"),
        (of("TerminalServices-LocalSessionManager", 25, User="CORP\\eve", Address="10.0.0.7"),
         "CORP\\eve connected again by Remote Desktop from 10.0.0.7.", "shown"),
        (of("TerminalServices-RemoteConnectionManager", 1149, Param1="eve", Param2="CORP", Param3="10.0.0.7"),
         "a connection by Remote Desktop from 10.0.0.7 named CORP\\eve.", "possible"),
    ],
)  # fmt: skip
def test_sessions_by_remote_desktop(given: Record, sentence: str, status: str) -> None:
    """Reconnections are told; a connection before the password was checked is no logon."""
    assert (f"{START}{sentence}", status) in texts(remote.RULE, case(given))


@pytest.mark.parametrize(
    "given",
    [
        record(4778, AccountName="eve", ClientAddress="LOCAL"),
        of("TerminalServices-LocalSessionManager", 21, User="CORP\\eve", Address="LOCAL"),
    ],
)
def test_a_switch_at_the_console_is_not_remote(given: Record) -> None:
    """Sessions whose address is LOCAL are at the console."""
    ((text, _),) = texts(remote.RULE, case(given, logs=[log("Security")]))
    assert text == "No logon by Remote Desktop is recorded."


def test_a_connection_that_a_logon_followed() -> None:
    """A connection is not told beside its logon."""
    connection = of("TerminalServices-RemoteConnectionManager", 1149, "11:59:50", Param1="eve", Param3="10.0.0.7")
    came = record(4624, **{**mesa.LOGON, "LogonType": "10", "IpAddress": "10.0.0.7"})
    found = [text for text, _ in texts(remote.RULE, case(connection, came))]
    assert found == [f"{START}EMSSERVER\\emsadmin logged on by Remote Desktop from 10.0.0.7."]


def test_guessing_without_an_address() -> None:
    """Attempts by NTLM have a workstation and no address, which is normal; its name is shown as it is."""
    where = {"LogonType": "3", "IpAddress": "-", "WorkstationName": "<b>\x1b[2J", "TargetUserName": "admin"}
    attempts = [record(4625, f"12:00:{n:02}", number=n, **where) for n in range(1, 7)]
    text = texts(remote.RULE, case(*attempts))[0][0]
    assert text.startswith("6 failed attempts over the network from (<b>\x1b[2J), Sun 23 May 2021")


@pytest.mark.parametrize(
    ("event_id", "data"),
    [
        (4720, {"TargetUserName": "WDAGUtilityAccount", "SubjectUserName": "MINWINPC$"}),
        (4720, {"TargetUserName": "defaultuser0", "SubjectUserName": "HOST$"}),
        (4726, {"TargetUserName": "defaultuser0", "SubjectUserName": "HOST$"}),
        (4738, {"TargetUserName": "Administrator", "SubjectUserName": "MINWINPC$"}),
        (4732, {"TargetUserName": "Administrators", "TargetSid": "S-1-5-32-544", "MemberSid": "S-1-5-21-1-1000",
                "MemberName": "defaultuser0", "SubjectUserName": "HOST$"}),
    ],
)  # fmt: skip
def test_accounts_of_the_set_up(event_id: int, data: dict[str, str]) -> None:
    """What the set-up of Windows does to accounts is not told as a change."""
    found = texts(accounts.RULE, case(record(event_id, **data), logs=[log("Security")]))
    assert found == [("No change of an account is recorded, but for those of the set-up.", "shown")]


def test_the_first_account_that_the_set_up_makes() -> None:
    """An account that the set-up makes for a person is told, though the machine itself made it."""
    found = texts(accounts.RULE, case(record(4720, TargetUserName="eve", SubjectUserName="HOST$")))
    assert found == [(f"{START}the account eve was made by HOST$ (the machine itself).", "shown")]


def test_a_service_that_was_installed_again_and_again() -> None:
    """Records that say the same are one sentence, with how many there are and when the first was."""
    again = [of("Service Control Manager", 7045, f"12:0{n}:00", n, ServiceName="PsExec", ImagePath="PSEXESVC.EXE")
             for n in (1, 2, 3)]  # fmt: skip
    records = [replace(one, provider="Service Control Manager") for one in again]
    ((text, status),) = texts(noteworthy.RULE, case(*records))
    assert text == (
        "Sun 23 May 2021, 12:03:00 UTC: a service was installed: PsExec, PSEXESVC.EXE; 3 times, the first Sun 23 May "
        "2021, 12:01:00 UTC."
    )
    assert status == "shown"


def test_what_defender_did() -> None:
    """What Defender did with what it found is told with it, and what it did with something else is not."""
    found = of(
        "Windows Defender", 1116, **{"Threat Name": "Trojan:X", "Path": "file:_C:\\x.exe", "Detection ID": "{1}"}
    )
    mine = of("Windows Defender", 1117, "12:00:05", 2, **{"Detection ID": "{1}", "Action ID": "2"})
    other = of("Windows Defender", 1117, "12:00:06", 3, **{"Detection ID": "{2}", "Action ID": "3"})
    assert texts(noteworthy.RULE, case(found, mine, other)) == [
        (f"{START}malware found by Defender: Trojan:X, file:_C:\\x.exe.", "shown"),
        ("Defender put it into quarantine.", "shown"),
    ]
