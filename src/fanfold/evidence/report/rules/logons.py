"""Who sat down at the machine, and when."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, reason_of, seconds, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules import auditing

_CONSOLE = (2, 11)  # interactive, with the password checked here or against a cached one
_NEW_SESSION = 21
_UNLOCK = 7
_LOCKED = 4800
_HERE = ("", "127.0.0.1", "::1")  # the addresses of somebody at the console
_WINDOW = timedelta(minutes=30)
_TWIN = timedelta(seconds=1)
_AT_ONCE = timedelta(seconds=5)
_WITH_SESSION = timedelta(seconds=30)  # between a logon and the session that it begins
_SHOWN = 10  # logons that are listed
_STARTED, _BY_USER = 4608, 4647
PEOPLE = ("S-1-5-21-", "S-1-12-1-")
"""What begins the SIDs of people: accounts of the machine or its domain, and of Entra ID."""
_WHY = {
    0xC0000064: "no such user",
    0xC000006A: "wrong password",
    0xC000006D: "wrong name or password",
    0xC000006E: "account restriction",
    0xC0000070: "not from this workstation",
    0xC0000071: "password expired",
    0xC0000072: "account disabled",
    0xC0000193: "account expired",
    0xC0000224: "password must be changed",
    0xC0000234: "account locked",
}
"""What SubStatus of event 4625 says; see learn.microsoft.com, "4625(F): An account failed to log on"."""
NETWORK = 3
BY_DESKTOP = (10, 12)  # with the password checked here or against a cached one
"""Types of logons."""


def account(record: Record) -> str:
    """The account that a logon is of: EMSSERVER\\emsadmin."""
    domain, name = record.text("TargetDomainName"), record.text("TargetUserName")
    return name if not domain or "@" in name or "\\" in name else f"{domain}\\{name}"


def same_account(one: Record, other: Record) -> bool:
    """Whether two records are of the same account; a name may be written as DOMAIN\\NAME or NAME@DOMAIN."""
    (domain, name), (other_domain, other_name) = map(_parts, (one, other))
    return name == other_name and (domain == other_domain or not domain or not other_domain)


def _parts(record: Record) -> tuple[str, str]:
    """The domain, which is empty if its short name is not told, and the name of an account."""
    name = record.text("TargetUserName").lower()
    if "@" in name:
        return "", name.partition("@")[0]
    domain, _, short = name.rpartition("\\")
    return domain or record.text("TargetDomainName").lower(), short


def is_at_the_console(record: Record) -> bool:
    """Whether a person typed a password at the machine: not a service, nor a program that checks one."""
    process = record.text("ProcessName").lower().replace("\\", "/").rpartition("/")[2]
    return (
        record.number("LogonType") in _CONSOLE
        and record.text("LogonProcessName") == "User32"
        and process in ("svchost.exe", "winlogon.exe", "")
        and record.text("TargetUserName").lower() != "defaultuser0"
    )


def console_logons(case: Case, recovered: bool = False) -> list[list[Record]]:
    """The logons at the console, in order; a logon of an administrator has two records, one for each of its tokens.

    Those that only a recovered record tells of come last if they are asked for: their order is not known.
    """
    found: list[list[Record]] = []
    for record in case.of("Security-Auditing", 4624):
        if (
            (record.origin != "live") != recovered
            or not is_at_the_console(record)
            or not record.text("TargetUserSid").startswith(PEOPLE)
            or not record.time
        ):
            continue
        if found and _are_twins(found[-1][-1], record):
            found[-1].append(record)
        else:
            found.append([record])
    return found


def _are_twins(before: Record, record: Record) -> bool:
    if not before.time or not record.time or abs(record.time - before.time) > _TWIN:
        return False
    linked = record.text("TargetLinkedLogonId") == before.text("TargetLogonId")
    return before.text("TargetUserSid") == record.text("TargetUserSid") and (linked or record.time == before.time)


def failed_before(case: Case, logon: Record, since: Record | None) -> list[Record]:
    """The failed attempts at the console of the same account, within half an hour, since the logon before."""
    return [
        record
        for record in case.of("Security-Auditing", 4625)
        if record.time
        and logon.time
        and logon.time - _WINDOW <= record.time <= logon.time
        and (record.origin, record.stream) == (logon.origin, logon.stream)
        and record.record_id < logon.record_id
        and (since is None or record.record_id > since.record_id)
        and is_at_the_console(record)
        and same_account(record, logon)
    ]


def why_failed(record: Record) -> str:
    """The reason of a failed attempt in words."""
    code = record.number("SubStatus") or record.number("Status") or 0
    return _WHY.get(code, f"status {code:#010x}")


def left(case: Case, logon: Sequence[Record]) -> Record | None:
    """The record that tells the end of a logon session: of its tokens' end, or of the machine's next start."""
    ids = {record.text("TargetLogonId") for record in logon}
    last, found = logon[-1], None
    for record in case.of("Security-Auditing", 4608, 4634, 4647):
        if (record.origin, record.stream) != (last.origin, last.stream) or record.record_id <= last.record_id:
            continue
        if record.event_id == _STARTED:  # ids of sessions begin again
            return found or record
        if record.text("TargetLogonId") in ids:
            found = found or record
            ids.discard(record.text("TargetLogonId"))
            if record.event_id == _BY_USER or not ids:
                return record if record.event_id == _BY_USER else found
    return None


def _answer(case: Case) -> Iterator[Finding]:
    logons, recovered = console_logons(case), console_logons(case, True)
    for number in range(max(0, len(logons) - _SHOWN), len(logons))[::-1]:
        is_last = number == len(logons) - 1
        yield _logon(case, logons[number], logons[number - 1][-1] if number else None, is_last)
    if hidden := logons[:-_SHOWN]:
        yield more("logon.more", hidden, "logon", " at the console before these", hidden[0][:1])
    sessions = _sessions(case, logons, recovered)
    reported = {detail.time for session in sessions for detail in session.details}
    for logon in [logon for logon in recovered if logon[0].time not in reported][-_SHOWN:][::-1]:
        text = f"{case.when(logon[0])}{account(logon[0])} logged on at the console, by a recovered record."
        yield Finding("logon.recovered", text, "likely", logon[0].time, logon, reason_of(*logon))
    yield from sessions
    if not logons and not sessions and not recovered:
        yield _none(case)
    yield from _unlocked(case, logons)
    yield from _others(case, logons)
    yield from _by_others(case)


def _logon(case: Case, logon: Sequence[Record], before: Record | None, is_last: bool) -> Finding:
    record = logon[0]
    assert record.time
    details = []
    if attempts := failed_before(case, record, before):
        plural = "s" * (len(attempts) > 1)
        words = ", ".join(dict.fromkeys(why_failed(attempt) for attempt in attempts))
        ago = seconds((record.time - attempts[0].time).total_seconds()) if attempts[0].time else "?"
        when = f"{ago} before" if len(attempts) == 1 else f"before, the first {ago} before"
        text = f"{len(attempts)} failed attempt{plural} {when}, {words}."
        details.append(Finding("logon.failed", text, status_of(*attempts), attempts[0].time, attempts))
    details.append(_end(case, record, left(case, logon)))
    details += _locked(case, logon)
    how = " with a password that was cached from its domain" * (record.number("LogonType") == 11)
    text = f"{case.when(record)}{account(record)} logged on at the console{how}."
    return Finding(
        "logon.last_console" if is_last else "logon.console",
        text,
        status_of(record),
        record.time,
        logon,
        reason_of(record),
        details,
    )


def _locked(case: Case, logon: Sequence[Record]) -> Iterator[Finding]:
    """When the session was last locked or unlocked, where that is recorded."""
    ids = {record.text("TargetLogonId") for record in logon}
    begin, end = logon[-1].record_id, next((one.record_id for one in case.of("Security-Auditing", _STARTED)
                                            if one.record_id > logon[-1].record_id), None)  # fmt: skip
    for record in [
        one
        for one in case.of("Security-Auditing", _LOCKED, _LOCKED + 1)
        if one.text("TargetLogonId") in ids and begin < one.record_id and (end is None or one.record_id < end)
    ][-1:]:
        what = "locked" if record.event_id == _LOCKED else "unlocked"
        when = case.clock.short(record.time, logon[0].time, record) if record.time else "at an unknown time"
        yield Finding("logon.locked", f"It was last {what} {when}.", status_of(record), record.time, [record])


def _end(case: Case, logon: Record, end: Record | None) -> Finding:
    """When a session ended, as far as it is known."""
    if end is None:
        return Finding("logon.open", "No record tells the end of the session: it was open when the log ends.", "likely",
                       reason="a power cut leaves no record either")  # fmt: skip
    when = case.clock.short(end.time, logon.time, end) if end.time else "at an unknown time"
    if end.event_id == _STARTED:
        text = f"No record tells the end of the session; the machine started again {when}."
        return Finding("logon.cut", text, status_of(end), end.time, [end])
    if end.time and logon.time and end.time - logon.time <= _AT_ONCE:
        text = "Its session ended at once, as it does when a password unlocks a session that is open."
        return Finding("logon.unlock", text, "likely", end.time, [end], "an unlock has no other sign here")
    return Finding("logon.left", f"The session ended {when}.", status_of(end), end.time, [end])


def _sessions(case: Case, logons: Sequence[Sequence[Record]], recovered: Sequence[Sequence[Record]]) -> list[Finding]:
    """Sessions at the console of which the log Security has no logon: it may not reach back so far, or be cleared.

    What was recovered of it may have the logon.
    """
    known = [record for logon in logons for record in logon if record.time]
    found = [
        record
        for record in case.of("TerminalServices-LocalSessionManager", _NEW_SESSION)
        if record.time
        and record.text("Address").upper() == "LOCAL"
        and record.text("User").rpartition("\\")[2].lower() != "defaultuser0"
        and not any(abs(record.time - one.time) <= _WITH_SESSION for one in known if one.time)
    ]
    reason = f"by the manager of sessions: {case.why_none('Security') or 'the log Security has no such logon'}"
    return [
        Finding("logon.session", f"{case.when(record)}{record.text('User')} logged on at the console.",
                status_of(record), record.time, [record], reason, [*_recovered_logon(record, recovered)])
        for record in found[-_SHOWN:][::-1]
    ]  # fmt: skip


def _recovered_logon(session: Record, recovered: Sequence[Sequence[Record]]) -> Iterator[Finding]:
    """The logon that began a session, if a recovered record has it."""
    for logon in recovered:
        is_same = logon[0].text("TargetUserName").lower() == session.text("User").rpartition("\\")[2].lower()
        if is_same and session.time and logon[0].time and abs(session.time - logon[0].time) <= _WITH_SESSION:
            text = "Recovered records of the log Security have this logon."
            yield Finding("logon.recovered", text, "likely", logon[0].time, logon, reason_of(*logon))
            return


def unlocks(case: Case, logons: Sequence[Sequence[Record]]) -> list[Record]:
    """The unlocks at the console, each once: not those that follow a logon at once, nor those by Remote Desktop.

    A logon with a cached password is followed by an unlock, and an administrator's unlock has two records.
    """
    returns = [record for record in case.of("TerminalServices-LocalSessionManager", 25) if record.time]
    returns = [record for record in returns if record.text("Address").upper() != "LOCAL"]
    reported = [record for logon in logons for record in logon]
    found: list[Record] = []
    for record in case.of("Security-Auditing", 4624):
        if (
            record.number("LogonType") != _UNLOCK
            or not record.time
            or record.origin != "live"
            or not record.text("TargetUserSid").startswith(PEOPLE)
            or record.text("IpAddress") not in _HERE
            or any(abs(record.time - one.time) <= _AT_ONCE for one in returns if one.time)
        ):
            continue
        same = (one for one in (*reported, *found[-1:]) if same_account(one, record) and one.time)
        if not any(timedelta() <= record.time - one.time <= _TWIN for one in same if one.time):
            found.append(record)
    return found


def _unlocked(case: Case, logons: Sequence[Sequence[Record]]) -> Iterator[Finding]:
    found = unlocks(case, logons)
    for record in found[-_SHOWN:][::-1]:
        text = f"{case.when(record)}{account(record)} unlocked the console."
        yield Finding("logon.unlocked", text, status_of(record), record.time, [record], reason_of(record))
    if hidden := found[:-_SHOWN]:
        yield more("logon.unlocked_more", hidden, "unlock", " before these", hidden[:1])


def _none(case: Case) -> Finding:
    why = case.why_none("Security") or f"the log Security has none in {case.reach('Security')}"
    audit, records = auditing.last_change(case, auditing.LOGONS)
    reason = "; ".join(filter(None, [why, audit]))
    return Finding("logon.none", "No logon at the console is recorded.", "not recorded", reason=reason, records=records)


def _others(case: Case, logons: Sequence[Sequence[Record]]) -> Iterator[Finding]:
    """Failed attempts that no logon at the console followed."""
    reported: set[str] = set()
    before = None
    for logon in logons:
        reported |= {attempt.ref for attempt in failed_before(case, logon[0], before)}
        before = logon[-1]
    alone = [
        record
        for record in case.of("Security-Auditing", 4625)
        if is_at_the_console(record) and record.ref not in reported and record.time
    ]
    for record in alone[-_SHOWN:][::-1]:
        text = f"{case.when(record)}an attempt at the console as {account(record)} failed: "
        yield Finding("logon.attempt", f"{text}{why_failed(record)}.", status_of(record), record.time, [record])


def _by_others(case: Case) -> Iterator[Finding]:
    """Failed attempts that were no logon at the console: of programs, services and other machines."""
    found: dict[str, list[Record]] = {}
    for record in case.of("Security-Auditing", 4625):
        if not is_at_the_console(record):
            found.setdefault(_by_what(record), []).append(record)
    if found:
        records = [record for some in found.values() for record in some]
        what = ", ".join(f"{len(some):,} {by}" for by, some in [*found.items()][:_SHOWN])
        what = f": {what}" if len(found) > 1 else f" {next(iter(found))}"
        more_ways = f", and {sum(map(len, [*found.values()][_SHOWN:])):,} in other ways" if len(found) > _SHOWN else ""
        text = f"{len(records):,} other failed attempt{'s' * (len(records) > 1)}{what}{more_ways}{case.span(records)}."
        yield Finding("logon.failed_elsewhere", text, status_of(*records), None, records)


def _by_what(record: Record) -> str:
    kind = record.number("LogonType")
    if kind == NETWORK or kind in BY_DESKTOP:
        return "over the network" if kind == NETWORK else "by Remote Desktop"
    program = record.text("ProcessName").rpartition("\\")[2]
    return f"by {program} as {account(record)}" if program else f"of the logon type {kind}"


RULE = Rule("logon", "Who logged on at the console", (21, 25, 4608, 4624, 4625, 4634, 4647, 4800, 4801), _answer)
