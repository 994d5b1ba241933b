"""When the machine's clock was changed, by how much and by whom; and when it was last in step."""

from collections.abc import Iterator

from fanfold.evidence.report.case import CLOCK, Case
from fanfold.evidence.report.changes import Change
from fanfold.evidence.report.findings import Finding, Rule, more, seconds, status_of
from fanfold.evidence.report.rules.logons import PEOPLE

_SHOWN = 12
_ACCOUNTS = {"S-1-5-18": "SYSTEM", "S-1-5-19": "LOCAL SERVICE", "S-1-5-20": "NETWORK SERVICE"}
_IN_STEP = 35  # Time-Service: "The time service is now synchronizing the system time with the time source"


def _answer(case: Case) -> Iterator[Finding]:
    reported = [change for change in case.changes.every if change.is_jump or _person(change)]
    for change in reported[-_SHOWN:][::-1]:
        yield _finding(case, change)
    if hidden := reported[:-_SHOWN]:
        yield more("clock.more", hidden, "change", " of the clock before these", hidden[0].records)
    if small := [change for change in case.changes.every if change not in reported]:
        plural = "s" * (len(small) > 1)
        text = f"{len(small):,} change{plural} by 2 s to a minute, as a clock is kept in step."
        yield Finding("clock.small", text, "shown", records=[change.records[0] for change in small])
    for record in [*case.of("Time-Service", _IN_STEP)][-1:]:
        source = record.text("TimeSource").partition(",")[0] or "a source that is not named"
        text = f"{case.when(record)}the time service took the time from {source}, the last time that it is recorded."
        yield Finding("clock.in_step", text, status_of(record), record.time, [record])
    if not reported:
        yield from _none(case)


def _finding(case: Case, change: Change) -> Finding:
    record = change.records[0]
    way = "back" if change.is_back else "forward"
    by = seconds(abs(change.after - change.before).total_seconds())
    if change.is_start:
        when = case.clock.full(change.after, record)
        text = f"The clock was behind by at least {by} when the machine started, {when}."
        reason = "before the start it showed a later time; what changed it while the machine was off is not recorded"
        return Finding("clock.changed", text, "likely", change.after, change.records, reason)
    text = f"The clock was set {way} by {by}, to {case.clock.full(change.after, record)}, {_by(change)}."
    reason = "a virtual machine that was paused, or a sleep, looks like this" if change.is_waking else ""
    if change.process.lower() == "svchost.exe" and "LOCAL SERVICE" in text:
        reason = "the time service runs in this way"
    return Finding("clock.changed", text, status_of(record), change.after, change.records, reason)


def _person(change: Change) -> str:
    """The account of the person who changed the clock; empty if it was the machine itself.

    The log Security has its name, and the log System only its SID.
    """
    for record in change.records:
        if record.text("SubjectUserSid").startswith(PEOPLE):
            return record.account("SubjectDomainName", "SubjectUserName")
    sids = (record.user_sid for record in change.records)
    return next((f"the account {sid}" for sid in sids if sid.startswith(PEOPLE)), "")


def _by(change: Change) -> str:
    """Who changed the clock, and with which program."""
    sids = [record.text("SubjectUserSid") or record.user_sid for record in change.records]
    known = next((_ACCOUNTS[sid] for sid in sids if sid in _ACCOUNTS), "")
    who = _person(change) or known
    if change.process:
        return f"by {change.process}" + (f" as {who}" if who else "")
    return f"by {who}" if who and who != "SYSTEM" else "by Windows, from the clock of the hardware"


def _none(case: Case) -> Iterator[Finding]:
    text = "No change of the clock by a minute or more is recorded."
    if why := case.why_none("System"):
        yield Finding("clock.none", text, "not recorded", reason=why)
    else:
        reason = f"by event 1 of Kernel-General in the log System, {case.reach('System')}"
        lacking = case.why_none("Security")
        other = f"; {lacking}" if lacking else f"; and event 4616 in the log Security, {case.reach('Security')}"
        reason += other
        yield Finding("clock.none", text, "shown", reason=reason)


RULE = Rule("clock", "Whether the clock was changed", (*CLOCK, _IN_STEP), _answer)
