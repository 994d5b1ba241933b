"""Who sat down at the machine, and when; and who came over the network."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, reason_of, seconds, status_of

_CONSOLE = (2, 11)  # interactive, with the password checked here or against a cached one
_REMOTE = 10
_NETWORK = 3
_WINDOW = timedelta(minutes=30)
_TWIN = timedelta(seconds=1)
_AT_ONCE = timedelta(seconds=5)
_SHOWN = 10  # logons that are listed
_GUESSES = 5  # failed attempts in a row that are worth a sentence
_PEOPLE = ("S-1-5-21-", "S-1-12-1-")  # accounts of the machine or its domain, and of Entra ID
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


def account(record: Record) -> str:
    """The account that a logon is of: EMSSERVER\\emsadmin."""
    domain, name = record.text("TargetDomainName"), record.text("TargetUserName")
    return f"{domain}\\{name}" if domain and "@" not in name else name


def same_account(one: Record, other: Record) -> bool:
    """Whether two records are of the same account; a name may be written as DOMAIN\\NAME or NAME@DOMAIN."""
    names = [record.text("TargetUserName").partition("@")[0].lower() for record in (one, other)]
    return names[0] == names[1]


def is_at_the_console(record: Record) -> bool:
    """Whether a person typed a password at the machine: not a service, nor a program that checks one."""
    process = record.text("ProcessName").lower().replace("\\", "/").rpartition("/")[2]
    return (
        record.number("LogonType") in _CONSOLE
        and record.text("LogonProcessName") == "User32"
        and process in ("svchost.exe", "winlogon.exe", "")
        and record.text("TargetUserName").lower() != "defaultuser0"
    )


def console_logons(case: Case) -> list[list[Record]]:
    """The logons at the console, in order; a logon of an administrator has two records, one for each of its tokens."""
    found: list[list[Record]] = []
    for record in case.of("Security-Auditing", 4624):
        if not is_at_the_console(record) or not record.text("TargetUserSid").startswith(_PEOPLE) or not record.time:
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
        and record.log == logon.log
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
    """The record of the end of a logon session, in the same run of the machine."""
    ids = {record.text("TargetLogonId") for record in logon}
    last, found = logon[-1], None
    for record in case.records:
        if record.log != last.log or record.record_id <= last.record_id or record.provider != last.provider:
            continue
        if record.event_id == 4608:  # the machine started: ids of sessions begin again
            break
        if record.event_id in (4634, 4647) and record.text("TargetLogonId") in ids:
            found = found or record
            ids.discard(record.text("TargetLogonId") if record.event_id == 4634 else "")
            if record.event_id == 4647 or not ids:
                return record if record.event_id == 4647 else found
    return found


def _answer(case: Case) -> Iterator[Finding]:
    logons = console_logons(case)
    if not logons:
        yield _none(case)
        return
    for number in range(max(0, len(logons) - _SHOWN), len(logons))[::-1]:
        is_last = number == len(logons) - 1
        yield _logon(case, logons[number], logons[number - 1][-1] if number else None, is_last)
    if len(logons) > _SHOWN:
        yield Finding(
            "logon.more", f"{len(logons) - _SHOWN:,} more logons at the console before these.", "shown",
            records=[logons[0][0]],
        )  # fmt: skip
    yield from _others(case)


def _logon(case: Case, logon: Sequence[Record], before: Record | None, is_last: bool) -> Finding:
    record = logon[0]
    assert record.time
    details = []
    if attempts := failed_before(case, record, before):
        plural = "s" * (len(attempts) > 1)
        words = ", ".join(dict.fromkeys(why_failed(attempt) for attempt in attempts))
        ago = seconds((record.time - attempts[0].time).total_seconds()) if attempts[0].time else "?"
        text = f"{len(attempts)} failed attempt{plural} {ago} before, {words}."
        details.append(Finding("logon.failed", text, status_of(*attempts), attempts[0].time, attempts))
    if (end := left(case, logon)) and end.time and end.time - record.time <= _AT_ONCE:
        text = "Its session ended at once, as it does when a password unlocks a session that is open."
        details.append(Finding("logon.unlock", text, "likely", end.time, [end], "an unlock has no other sign here"))
    elif end:
        text = f"The session ended {_until(case, record, end)}."
        details.append(Finding("logon.left", text, status_of(end), end.time, [end]))
    elif is_last:
        details.append(Finding(
            "logon.open", "No record tells the end of the session: it was open when the log ends.", "likely",
            reason="a power cut leaves no record either",
        ))  # fmt: skip
    how = " with a password that was cached from its domain" * (record.number("LogonType") == 11)
    text = f"{case.clock.full(record.time)}: {account(record)} logged on at the console{how}."
    return Finding(
        "logon.last_console" if is_last else "logon.console",
        text,
        status_of(record),
        record.time,
        logon,
        reason_of(record),
        details,
    )


def _until(case: Case, begin: Record, end: Record) -> str:
    """When a session ended: with the day, if it is another one."""
    if not end.time or not begin.time:
        return "at an unknown time"
    is_same_day = case.clock.local(begin.time).date() == case.clock.local(end.time).date()
    return case.clock.short(end.time) if is_same_day else case.clock.full(end.time)


def _none(case: Case) -> Finding:
    log = case.log("Security")
    if log is None:
        why = "there is no log Security"
    elif not log["records"]:
        why = "the log Security has no record"
    else:
        why = f"the log Security has none in its records {log['first_record_id']:,} to {log['last_record_id']:,}"
    return Finding("logon.none", "No logon at the console is recorded.", "not recorded", reason=why)


def _others(case: Case) -> Iterator[Finding]:
    """Failed attempts that no logon at the console followed."""
    told = {attempt.ref for logon, before in _with_before(console_logons(case)) for attempt in
            failed_before(case, logon, before)}  # fmt: skip
    alone = [
        record
        for record in case.of("Security-Auditing", 4625)
        if is_at_the_console(record) and record.ref not in told and record.time
    ]
    for record in alone[-_SHOWN:]:
        assert record.time
        text = f"{case.clock.full(record.time)}: an attempt at the console as {account(record)} failed: "
        yield Finding("logon.attempt", f"{text}{why_failed(record)}.", status_of(record), record.time, [record])


def _with_before(logons: Sequence[Sequence[Record]]) -> Iterator[tuple[Record, Record | None]]:
    before = None
    for logon in logons:
        yield logon[0], before
        before = logon[-1]


RULE = Rule("logon", "Who sat down", (4608, 4624, 4625, 4634, 4647), _answer)


def _remote(case: Case) -> Iterator[Finding]:
    sessions = [
        record
        for record in case.of("Security-Auditing", 4624)
        if record.number("LogonType") == _REMOTE and record.time and record.text("TargetUserSid").startswith(_PEOPLE)
    ]
    kept: list[Record] = []
    for record in sessions:
        if not kept or not _are_twins(kept[-1], record):
            kept.append(record)
    for record in kept[::-1][:_SHOWN]:
        assert record.time
        address = record.text("IpAddress")
        origin = f"from {address}" if address not in ("", "0.0.0.0", "::") else "from an address that is not recorded"
        text = f"{case.clock.full(record.time)}: {account(record)} logged on by Remote Desktop {origin}."
        yield Finding("logon.remote", text, status_of(record), record.time, [record], reason_of(record))
    if len(kept) > _SHOWN:
        text = f"{len(kept) - _SHOWN:,} more logons by Remote Desktop before these."
        yield Finding("logon.remote_more", text, "shown", records=kept[:1])
    yield from _guessing(case)
    if not kept:
        log = case.log("Security")
        if log is None or not log["records"]:
            yield Finding("logon.remote_none", "Whether anybody logged on by Remote Desktop.", "not recorded",
                          reason="there is no record in a log Security")  # fmt: skip
        else:
            text = f"No logon by Remote Desktop in the records {log['first_record_id']:,} to {log['last_record_id']:,}."
            yield Finding("logon.remote_none", text, "shown", reason="by the log Security as far as it reaches")


def _guessing(case: Case) -> Iterator[Finding]:
    """Runs of failed attempts over the network from one place, and whether a logon followed."""
    runs: dict[tuple[str, str], list[Record]] = {}
    for record in case.of("Security-Auditing", 4625):
        if record.number("LogonType") == _NETWORK and record.time:
            runs.setdefault((record.text("IpAddress"), record.text("WorkstationName")), []).append(record)
    for (address, workstation), attempts in runs.items():
        if len(attempts) < _GUESSES:
            continue
        where = " ".join(filter(None, [address, f"({workstation})" if workstation else ""])) or "an unknown place"
        first, last = attempts[0], attempts[-1]
        assert first.time and last.time  # noqa: PT018
        span = f"{case.clock.full(first.time)} to {case.clock.full(last.time)}"
        followed = next((one for one in case.of("Security-Auditing", 4624) if _follows(one, last)), None)
        details = []
        if followed and followed.time:
            text = f"Then {account(followed)} logged on from there, {case.clock.full(followed.time)}."
            details.append(Finding("logon.guessed", text, status_of(followed), followed.time, [followed]))
        text = f"{len(attempts):,} failed attempts over the network from {where}, {span}."
        yield Finding("logon.guessing", text, status_of(first, last), first.time, [first, last], details=details)


def _follows(logon: Record, attempt: Record) -> bool:
    if logon.number("LogonType") != _NETWORK or not logon.time or not attempt.time:
        return False
    same = (logon.text("IpAddress"), logon.text("WorkstationName")) == (
        attempt.text("IpAddress"), attempt.text("WorkstationName"),
    )  # fmt: skip
    return same and attempt.time <= logon.time <= attempt.time + timedelta(minutes=10)


REMOTE = Rule("remote", "Who came over the network", (4624, 4625), _remote)
