"""Windows 7 and Server 2008, and Windows in other languages: values without names, words that are not English."""

from dataclasses import replace

import mesa
import pytest
from made_up import case, log, logon, record, texts

from fanfold.evidence.report.rules import clock_changes, logons, machine, neighbours, power, remote, taking

SESSIONS = {
    "log": "TerminalServices-LocalSessionManager/Operational",
    "provider": "TerminalServices-LocalSessionManager",
}
SHUTDOWN = ["C:\\Windows\\system32\\winlogon.exe (PC)", "PC", "No title", "0x500ff", "restart", "", "CORP\\eve"]


@pytest.mark.parametrize(
    ("version", "build"),
    [("6.1.7601 Build 7601 Service Pack 1", "7601"), ("10.0.19043 Build 19043", "19043"), ("7600", "7600")],
)
def test_the_build_of_a_product(version: str, build: str) -> None:
    """A service pack after the build is not taken for it."""
    texts_of_6013 = "\0".join(("1.1", "0", "Windows 7 Ultimate", version, "Multiprocessor Free"))
    given = record(6013, log="System", Binary=texts_of_6013.encode("utf-16-le").hex())
    assert machine.product_of(given) == f"Windows 7 Ultimate, build {build}"


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("restart", "a restart"),
        ("power off", "a shutdown"),
        ("Neustart", "'Neustart'"),  # in German: not called a shutdown
        ("", "a shutdown or a restart"),
    ],
)
def test_who_asked_for_a_shutdown(word: str, what: str) -> None:
    """Values without names are taken by their place, and a word of another language is told as it is."""
    values = {str(number): value for number, value in enumerate(SHUTDOWN, 1)} | {"5": word}
    given = record(1074, log="System", provider="", **values)
    found = texts(power.RULE, case(replace(given, provider="User32"), logs=[log("System")]))
    assert found[0][0].endswith(f"winlogon.exe (PC) asked for {what} for CORP\\eve.")


def test_a_clock_that_an_old_windows_set() -> None:
    """Without a reason in the record, nothing tells that the time came from the hardware."""
    times = {"NewTime": "2021-05-23T15:00:00Z", "OldTime": "2021-05-23T12:00:00Z"}
    given = replace(record(1, log="System", **times), user_sid="S-1-5-18")
    ((text, _), *_) = texts(clock_changes.RULE, case(given, logs=[log("System")]))
    assert text.endswith("by Windows or a program that ran as SYSTEM; the record does not name it.")


@pytest.mark.parametrize("word", ["LOCAL", "LOKAL", "本地"])
def test_sessions_at_the_console_in_any_language(word: str) -> None:
    """What stands for this machine is never taken for the address of another one."""
    given = case(record(21, "12:00:00", User="PC\\eve", Address=word, **SESSIONS), logs=[log("Security")])
    assert texts(logons.RULE, given)[0][0].endswith("PC\\eve logged on at the console.")
    assert texts(remote.RULE, given)[0][0] == "No logon by Remote Desktop is recorded."
    assert texts(neighbours.RULE, given)[0][0].startswith("No other machine is recorded")


@pytest.mark.parametrize("address", ["LOKAL", "Unbekannt"])
def test_a_session_that_was_taken_up_again_at_the_console(address: str) -> None:
    """A change of the user at the console is no connection by Remote Desktop."""
    given = record(4778, AccountName="eve", AccountDomain="PC", ClientName=address, ClientAddress=address)
    assert texts(remote.RULE, case(given, logs=[log("Security")]))[0][0] == "No logon by Remote Desktop is recorded."


def test_an_address_of_the_old_kind_that_is_none() -> None:
    """Server 2008 writes ::%16777216 where it has no address."""
    given = logon(LogonType="10", IpAddress="::%16777216")
    assert texts(remote.RULE, case(given))[0][0].endswith("by Remote Desktop from an address that is not recorded.")


def test_the_anonymous_account_in_any_language() -> None:
    """It is known by its SID, and is not listed among the people of a machine."""
    who = {"TargetUserName": "ANONYMOUS-ANMELDUNG", "TargetUserSid": "S-1-5-7", "WorkstationName": "PC2"}
    given = record(4624, LogonType="3", IpAddress="10.0.0.2", **who)
    assert texts(neighbours.RULE, case(given))[0][0].startswith("PC2 (10.0.0.2): logged on over the network; 1 record")


def test_a_time_zone_in_another_language() -> None:
    """A name that is not English is told, and what to do about it."""
    given = record(6013, log="System", **{"7": "-60 Mitteleuropäische Zeit"})
    (zone,) = [one for one in machine.RULE.answer(case(given, logs=[log("System")])) if one.id == "machine.zone"]
    assert zone.reason.startswith("event 6013 calls it 'Mitteleuropäische Zeit', which is not a name that is known")


@pytest.mark.parametrize(
    ("after", "newest", "what"),
    [
        ([], "12:00:30", "taking.asleep"),
        ([(107, "Kernel-Power")], "12:00:30", "taking.running"),  # it woke up
        ([(12, "Kernel-General")], "12:00:30", "taking.running"),  # it was started
        ([], "15:00:00", "taking.running"),  # it wrote on, so it did not sleep
    ],
)
def test_a_machine_that_was_asleep(after: list[tuple[int, str]], newest: str, what: str) -> None:
    """A laptop that sleeps, or was shut down for a fast start, is not told to be running."""
    given = [record(12, "08:00:00", "System", 1), record(42, "12:00:00", "System", 2, provider="Kernel-Power")]
    given += [record(event_id, "12:00:10", "System", 3, provider=provider) for event_id, provider in after]
    found = taking.RULE.answer(case(*given, logs=[log("System", newest_time=mesa.at(newest), dirty=True)]))
    assert [one.id for one in found if one.id in ("taking.asleep", "taking.running")] == [what]


@pytest.mark.parametrize("client", ["10.0.0.9:50123", "[10.0.0.9]:50123"])
def test_who_reached_remote_desktop(client: str) -> None:
    """A machine that opened a connection is listed, whether or not somebody logged on from there."""
    given = record(131, log="RdpCoreTS", provider="RemoteDesktopServices-RdpCoreTS", ConnType="TCP", ClientIP=client)
    assert texts(neighbours.RULE, case(given))[0][0].startswith("10.0.0.9: reached Remote Desktop; 1 record")


@pytest.mark.parametrize(
    ("after", "ends"),
    [
        ([(23, "1")], ["The session ended 13:00:00 UTC."]),
        ([(23, "2"), (23, "1")], ["The session ended 13:00:00 UTC."]),
        ([(21, "1"), (23, "1")], ["The session ended 13:00:00 UTC."]),  # of the second session with this number
    ],
)
def test_the_end_of_a_session_by_its_manager(after: list[tuple[int, str]], ends: list[str]) -> None:
    """Where the log Security has nothing, the manager of sessions tells when one ended."""
    who = {"User": "PC\\eve", "Address": "LOCAL", **SESSIONS}
    given = [record(21, "12:00:00", number=1, SessionID="1", **who)]
    given += [
        record(event_id, "13:00:00", number=number, SessionID=session, **who)
        for number, (event_id, session) in enumerate(after, 2)
    ]
    found = [text for text, _ in texts(logons.RULE, case(*given)) if "ended" in text]
    assert found == ends
