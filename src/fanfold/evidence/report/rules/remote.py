"""Who came over the network: by Remote Desktop, and by guessing passwords."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from ipaddress import ip_address

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, reason_of, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules.logons import BY_DESKTOP, NETWORK, PEOPLE, UNLOCK, account, is_address

_NEW_SESSION = 21
_AT_ONCE = timedelta(seconds=5)
_SOON = timedelta(minutes=2)
_PAUSE = timedelta(minutes=10)  # between two attempts that belong together
_SHOWN = 10  # of each kind
_GUESSES = 5  # failed attempts in a row that are worth a sentence
_NAMES = 3  # of accounts or machines in a sentence
_REMOTE = (NETWORK, *BY_DESKTOP)
_NO_TICKET = 4771
_CHECKS = {
    4768: "to get a Kerberos ticket",
    _NO_TICKET: "to get a Kerberos ticket",
    4776: "to have a password checked",
}
"""What a domain controller is asked for. The first and the last are of successes, too: `Status` tells."""


def _answer(case: Case) -> Iterator[Finding]:
    kept = _remote_sessions(case)
    for record, text in kept[::-1][:_SHOWN]:
        yield Finding("logon.remote", text, status_of(record), record.time, [record], reason_of(record))
    if hidden := kept[:-_SHOWN]:
        yield more("logon.remote_more", hidden, "logon", " by Remote Desktop before these", [hidden[0][0]])
    yield from _knocked(case, kept)
    yield from _guessing(case)
    if kept:
        return
    text = "No logon by Remote Desktop is recorded."
    if why := case.why_none("Security"):
        yield Finding("logon.remote_none", text, "not recorded", reason=why)
    else:
        reason = f"by the log Security in {case.reach('Security')}"
        yield Finding("logon.remote_none", text, "shown", reason=reason)


def _remote_sessions(case: Case) -> list[tuple[Record, str]]:
    """The logons and the reconnections by Remote Desktop, each once, in the order of time."""
    found: list[tuple[Record, str]] = []
    for record in case.of("Security-Auditing", 4624):
        if record.number("LogonType") in BY_DESKTOP and record.time and record.text("TargetUserSid").startswith(PEOPLE):
            text = f"{account(record)} logged on by Remote Desktop {_from(record.text('IpAddress'))}."
            found.append((record, text))
        elif record.number("LogonType") in UNLOCK and record.time and _is_elsewhere(record.text("IpAddress")):
            text = f"{account(record)} connected again by Remote Desktop {_from(record.text('IpAddress'))}."
            found.append((record, text))
    for record in case.of("Security-Auditing", 4778):
        address = record.text("ClientAddress")
        if record.time and is_address(address):
            who = record.account("AccountDomain", "AccountName")
            found.append((record, f"{who} connected again by Remote Desktop {_from(address)}."))
    for record in case.of("TerminalServices-LocalSessionManager", 21, 25):
        address = record.text("Address")
        if record.time and is_address(address):
            verb = "logged on" if record.event_id == _NEW_SESSION else "connected again"
            found.append((record, f"{record.text('User')} {verb} by Remote Desktop {_from(address)}."))
    kept: list[tuple[Record, str]] = []
    for record, text in sorted(found, key=lambda one: (one[0].time, one[0].stream, one[0].record_id)):
        before = kept[-1] if kept else None
        if not (before and before[1].endswith(text) and record.time - before[0].time <= _AT_ONCE):  # type: ignore[operator]
            kept.append((record, f"{case.when(record)}{text}"))
    return kept


def _knocked(case: Case, kept: Sequence[tuple[Record, str]]) -> Iterator[Finding]:
    """Connections by Remote Desktop that no logon followed: event 1149 comes before the password is checked."""
    alone = [
        record
        for record in case.of("TerminalServices-RemoteConnectionManager", 1149)
        if record.time and not any(abs(one.time - record.time) <= _SOON for one, _ in kept if one.time)
    ]
    for record in alone[-_SHOWN:][::-1]:
        who = record.account("Param2", "Param1") or "somebody"
        text = f"{case.when(record)}a connection by Remote Desktop {_from(record.text('Param3'))} named {who}."
        reason = "no logon is recorded soon after, and this record does not tell of one"
        yield Finding("logon.connection", text, "possible", record.time, [record], reason)


def _is_elsewhere(address: str) -> bool:
    """Whether a text is the address of another machine, as far as it tells."""
    if not is_address(address):
        return False
    known = ip_address(address.partition("%")[0])
    return not (known.is_loopback or known.is_unspecified)


def _from(address: str) -> str:
    known, _, _ = address.partition("%")  # ::%16777216 is none, either
    return "from an address that is not recorded" if known in ("", "0.0.0.0", "::") else f"from {_plain(address)}"


def _plain(address: str) -> str:
    """An address as people write it: domain controllers put IPv4 addresses into those of IPv6."""
    return address.removeprefix("::ffff:")


def _guessing(case: Case) -> Iterator[Finding]:
    """Runs of failed attempts from one place, and whether a logon followed."""
    runs: list[list[Record]] = []
    latest: dict[tuple[str, str], list[Record]] = {}
    for record in case.of("Security-Auditing", 4625, *_CHECKS):
        place = _how(record), _place(record)
        if not record.time or not all(place):
            continue
        run = latest.get(place)
        if run is None or abs(record.time - run[-1].time) > _PAUSE:  # type: ignore[operator]
            run = latest[place] = []
            runs.append(run)
        run.append(record)
    runs = [run for run in runs if len(run) >= _GUESSES]
    for attempts in sorted(runs, key=len)[-_SHOWN:]:
        yield _guesses(case, attempts)


def _guesses(case: Case, attempts: Sequence[Record]) -> Finding:
    first, last = attempts[0], attempts[-1]
    assert first.time and last.time  # noqa: PT018
    # By Remote Desktop, its name is this machine's.
    names = [record.text("WorkstationName", "Workstation") for record in attempts if not _by_desktop(record)]
    where = " ".join(filter(None, [_plain(first.text("IpAddress")), _bracketed(_some(names))]))
    span = f"{case.clock.full(first.time, first)} to {case.clock.full(last.time, last)}"
    people = _some([record.text("TargetUserName") for record in attempts])
    details = []
    is_here = first.event_id not in _CHECKS  # else the domain controller checks passwords for other machines
    if is_here and (followed := _followed(case, attempts)) and followed.time:
        text = f"Then {account(followed)} logged on from there, {case.clock.full(followed.time, followed)}."
        details.append(Finding("logon.guessed", text, status_of(followed), followed.time, [followed]))
    as_whom = f", as {people}" if people else ""
    text = f"{len(attempts):,} failed attempts {_how(first)} from {where}{as_whom}, {span}."
    return Finding("logon.guessing", text, status_of(first, last), first.time, [first, last], details=details)


def _how(record: Record) -> str:
    """How an attempt was made, that failed and came from another machine; empty for other records."""
    if record.event_id in _CHECKS:
        failed = record.event_id == _NO_TICKET or record.number("Status")
        return _CHECKS[record.event_id] if failed and not record.text("TargetUserName").endswith("$") else ""
    if _by_desktop(record):
        return "by Remote Desktop"
    return "over the network" if record.number("LogonType") == NETWORK else ""


def _by_desktop(record: Record) -> bool:
    return record.number("LogonType") in BY_DESKTOP


def _place(record: Record) -> str:
    """Where an attempt came from: its address, or the name that the other machine gave itself, if there is none."""
    return record.text("IpAddress") or record.text("WorkstationName", "Workstation")


def _some(names: Sequence[str]) -> str:
    """The first of some names, each once, and how many more there are."""
    every = [*dict.fromkeys(filter(None, names))]
    more = f" and {len(every) - _NAMES:,} more" if len(every) > _NAMES else ""
    return ", ".join(every[:_NAMES]) + more


def _bracketed(text: str) -> str:
    return f"({text})" if text else ""


def _followed(case: Case, attempts: Sequence[Record]) -> Record | None:
    """The logon of a person that came soon after some attempts: of one of their accounts, if there is one."""
    last = attempts[-1]
    tried = {record.text("TargetUserName").lower() for record in attempts}
    found = [
        one
        for one in case.of("Security-Auditing", 4624)
        if one.number("LogonType") in _REMOTE
        and one.text("TargetUserSid").startswith(PEOPLE)
        and not one.text("TargetUserName").endswith("$")
        and _follows(one, last)
    ]
    return next((one for one in found if one.text("TargetUserName").lower() in tried), next(iter(found), None))


def _follows(logon: Record, attempt: Record) -> bool:
    """Whether a logon from the same place came soon after an attempt."""
    if not logon.time or not attempt.time or _place(logon) != _place(attempt):
        return False
    return attempt.time <= logon.time <= attempt.time + _PAUSE


RULE = Rule("remote", "Who came over the network", (21, 25, 1149, 4624, 4625, 4778, *_CHECKS), _answer)
