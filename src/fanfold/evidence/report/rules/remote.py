"""Who came over the network: by Remote Desktop, and by guessing passwords."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, reason_of, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules.logons import BY_DESKTOP, NETWORK, PEOPLE, account

_NEW_SESSION = 21
_AT_ONCE = timedelta(seconds=5)
_SOON = timedelta(minutes=2)
_PAUSE = timedelta(minutes=10)  # between two attempts that belong together
_SHOWN = 10  # of each kind
_GUESSES = 5  # failed attempts in a row that are worth a sentence


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
    for record in case.of("Security-Auditing", 4778):
        address = record.text("ClientAddress")
        if record.time and address.upper() not in ("", "LOCAL", "UNKNOWN"):
            who = record.account("AccountDomain", "AccountName")
            found.append((record, f"{who} connected again by Remote Desktop {_from(address)}."))
    for record in case.of("TerminalServices-LocalSessionManager", 21, 25):
        address = record.text("Address")
        if record.time and address and address.upper() != "LOCAL":
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


def _from(address: str) -> str:
    return "from an address that is not recorded" if address in ("", "0.0.0.0", "::") else f"from {address}"


def _guessing(case: Case) -> Iterator[Finding]:
    """Runs of failed attempts over the network from one place, and whether a logon followed."""
    runs: list[list[Record]] = []
    latest: dict[tuple[str, str], list[Record]] = {}
    for record in case.of("Security-Auditing", 4625):
        place = record.text("IpAddress"), record.text("WorkstationName")
        if record.number("LogonType") != NETWORK or not record.time or place == ("", ""):
            continue
        run = latest.get(place)
        if run is None or abs(record.time - run[-1].time) > _PAUSE:  # type: ignore[operator]
            run = latest[place] = []
            runs.append(run)
        run.append(record)
    runs = [run for run in runs if len(run) >= _GUESSES]
    logons = [one for one in case.of("Security-Auditing", 4624) if one.number("LogonType") == NETWORK] if runs else []
    for attempts in sorted(runs, key=len)[-_SHOWN:]:
        first, last = attempts[0], attempts[-1]
        assert first.time and last.time  # noqa: PT018
        where = " ".join(filter(None, [first.text("IpAddress"), _bracketed(first.text("WorkstationName"))]))
        span = f"{case.clock.full(first.time, first)} to {case.clock.full(last.time, last)}"
        followed = next((one for one in logons if _follows(one, last)), None)
        details = []
        if followed and followed.time:
            text = f"Then {account(followed)} logged on from there, {case.clock.full(followed.time, followed)}."
            details.append(Finding("logon.guessed", text, status_of(followed), followed.time, [followed]))
        text = f"{len(attempts):,} failed attempts over the network from {where}, {span}."
        yield Finding("logon.guessing", text, status_of(first, last), first.time, [first, last], details=details)


def _bracketed(text: str) -> str:
    return f"({text})" if text else ""


def _follows(logon: Record, attempt: Record) -> bool:
    """Whether a logon from the same place came soon after an attempt."""
    if not logon.time or not attempt.time:
        return False
    same = all(logon.text(name) == attempt.text(name) for name in ("IpAddress", "WorkstationName"))
    return same and attempt.time <= logon.time <= attempt.time + _PAUSE


RULE = Rule("remote", "Who came over the network", (21, 25, 1149, 4624, 4625, 4778), _answer)
