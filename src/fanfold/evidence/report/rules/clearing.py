"""What was cleared, and what is missing."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from fanfold.evidence.coverage import is_part, is_renumbered
from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, seconds, status_of
from fanfold.evidence.report.rules.logons import PEOPLE
from fanfold.evidence.report.silence import silences
from fanfold.evidence.tables import short_log

_ALWAYS = ("Security", "System", "Application")
_GAP = "a gap is not a deletion: crashes leave gaps, too"
_LATER = timedelta(days=1)
_SLEEP = (41, 42, 105, 107, 109, 506, 507)
_CHANGES_SHOWN = 12  # of what is recorded
_TAKEN = (("%%8448", "successes"), ("%%8450", "failures"))
"""What event 4719 says was taken out: see learn.microsoft.com, "4719(S): System audit policy was changed"."""
_CATEGORIES = {
    "0CCE9210-69AE-11D9-BED3-505054503030": "Security State Change",
    "0CCE9211-69AE-11D9-BED3-505054503030": "Security System Extension",
    "0CCE9215-69AE-11D9-BED3-505054503030": "Logon",
    "0CCE9216-69AE-11D9-BED3-505054503030": "Logoff",
    "0CCE9217-69AE-11D9-BED3-505054503030": "Account Lockout",
    "0CCE921B-69AE-11D9-BED3-505054503030": "Special Logon",
    "0CCE921C-69AE-11D9-BED3-505054503030": "Other Logon/Logoff Events",
    "0CCE921D-69AE-11D9-BED3-505054503030": "File System",
    "0CCE921E-69AE-11D9-BED3-505054503030": "Registry",
    "0CCE9224-69AE-11D9-BED3-505054503030": "File Share",
    "0CCE9227-69AE-11D9-BED3-505054503030": "Other Object Access Events",
    "0CCE922B-69AE-11D9-BED3-505054503030": "Process Creation",
    "0CCE922F-69AE-11D9-BED3-505054503030": "Audit Policy Change",
    "0CCE9235-69AE-11D9-BED3-505054503030": "User Account Management",
    "0CCE9237-69AE-11D9-BED3-505054503030": "Security Group Management",
    "0CCE923F-69AE-11D9-BED3-505054503030": "Credential Validation",
    "0CCE9240-69AE-11D9-BED3-505054503030": "Kerberos Service Ticket Operations",
    "0CCE9242-69AE-11D9-BED3-505054503030": "Kerberos Authentication Service",
    "0CCE9248-69AE-11D9-BED3-505054503030": "Plug and Play Events",
}
"""The kinds of events that tell of what this report asks, by their GUIDs in [MS-GPAC] section 2.2.1.2."""
_SHOWN = 3  # gaps of a log, and stretches without a record


def _answer(case: Case) -> Iterator[Finding]:
    cleared = [*case.of("Eventlog", 1102, 104)]
    for record in cleared:
        channel = record.text("Channel") or ("Security" if record.event_id == 1102 else "a log")
        who = record.account("SubjectDomainName", "SubjectUserName")
        by = f" by {who}" if who else ""
        text = f"{case.when(record)}{channel} was cleared{by}."
        yield Finding("cleared.log", text, status_of(record), record.time, [record])
    if not cleared:
        missing = [why for name in ("Security", "System") if (why := case.why_none(name))]
        yield Finding("cleared.none", "No record tells of a log that was cleared (events 1102 and 104).",
                      "not recorded" if missing else "shown",
                      reason="; ".join(missing) or "by the logs Security and System, as far as they reach")  # fmt: skip
    deleted = [log for log in case.logs if log["origin"] == "deleted" and log["records"]]
    for log in deleted:
        text = f"The log {short_log(log['path'])} was deleted; {log['records']:,} of its records were recovered."
        yield Finding("cleared.deleted", text, "shown", reason=f"from {log['path']}")
    copied = sum(log["records"] for log in case.logs if log["origin"] == "shadow")
    if copied:
        text = f"{copied:,} records that the logs have no longer were found in shadow copies."
        yield Finding("cleared.copied", text, "shown", reason="shadow copies have the logs as they were before")
    carved = sum(log["records"] for log in case.logs if log["origin"] == "carved")
    if carved:
        text = f"{carved:,} records that no log has were found in the bytes of the disk."
        yield Finding("cleared.carved", text, "likely", reason="what was written over a log may look like a record")
    yield from _unwatched(case)
    yield from _begins(case)
    yield from _born(case)
    yield from _silent(case)


def _unwatched(case: Case) -> Iterator[Finding]:
    """Changes of what is recorded at all, where somebody took something out."""
    found: list[tuple[Record, str]] = []
    for record in case.of("Security-Auditing", 4719):
        taken = [what for code, what in _TAKEN if code in record.text("AuditPolicyChanges")]
        if taken and record.text("SubjectUserSid").startswith(PEOPLE):
            which = _CATEGORIES.get(record.text("SubcategoryGuid").strip("{}").upper(), "")
            which = f"'{which}'" if which else f"the kind {record.text('SubcategoryGuid') or 'that is not named'}"
            by = record.account("SubjectDomainName", "SubjectUserName")
            found.append((record, f"{by} turned off the recording of {' and '.join(taken)} of {which}."))
    for record, text in found[-_CHANGES_SHOWN:][::-1]:
        yield Finding("cleared.unwatched", f"{case.when(record)}{text}", status_of(record), record.time, [record])
    if len(found) > _CHANGES_SHOWN:
        text = f"{len(found) - _CHANGES_SHOWN:,} more such changes of what is recorded before these."
        yield Finding("cleared.unwatched_more", text, "shown", records=[found[0][0]])


def _begins(case: Case) -> Iterator[Finding]:
    """How far the logs reach that are always written to."""
    if case.is_mixed:
        text = "The logs are of several machines; how far each reaches, `fanfold evidence coverage` shows."
        yield Finding("cleared.begins", text, "not recorded")
        return
    for name in _ALWAYS:
        log = case.log(name)
        if log is None or not log["records"]:
            continue
        if is_renumbered(log):
            yield _renumbered(case, name, log)
            continue
        first, last, gaps = log["first_record_id"], log["last_record_id"], log["gaps"]
        text = f"{name} has records {first:,} to {last:,}, "
        text += f"with {len(gaps):,} gap{'s' * (len(gaps) > 1)}" if gaps else "without a gap"
        text += "." if first == 1 else "; what came before is gone, as in a full log."
        ends = [case.record_at(log, number) for number in (first, last)]
        reason = _GAP if gaps else ""
        if gaps and (log.get("bad_chunks") or log.get("undecoded")):
            reason = "a part of the log is damaged, and what was there is missing"
        details = [_gap(case, log, gap) for gap in sorted(gaps, key=lambda gap: gap["after"] - gap["before"])[:_SHOWN]]
        yield Finding("cleared.begins", text, "shown", None, ends, reason, details)


def _renumbered(case: Case, name: str, log: Mapping[str, Any]) -> Finding:
    """A log whose records had other ids before: those tell how much of it is there."""
    first, last = log["written_first"], log["written_last"]
    if last == first:
        text = f"{name} is a copy of 1 record, numbered again: before, it was {first:,}."
    else:
        text = (
            f"{name} is a copy of {log['records']:,} records, numbered again: before, they were {first:,} to {last:,}"
        )
        text += ", and others between were left out." if is_part(log) else ", and none between is missing."
    ends = [case.record_at(log, log[side]) for side in ("first_record_id", "last_record_id")]
    reason = "an export of a log is so, and a log of forwarded events; what else was recorded is not there"
    return Finding("cleared.copy", text, "shown", None, ends, reason)


def _gap(case: Case, log: Mapping[str, Any], gap: Mapping[str, int]) -> Finding:
    """Records that are missing inside a log."""
    first, last = gap["after"] + 1, gap["before"] - 1
    text = f"The records {first:,} to {last:,} are missing." if last > first else f"The record {first:,} is missing."
    return Finding("cleared.gap", text, "shown", None, [case.record_at(log, gap[side]) for side in ("after", "before")])


def _born(case: Case) -> Iterator[Finding]:
    """Logs that begin with record 1, though the machine was in use before: new logs in the place of others."""
    found = ((name, case.log(name)) for name in _ALWAYS)
    logs = {name: log for name, log in found if log and log.get("first_time") and not is_renumbered(log)}
    if (
        case.is_mixed
        or len(logs) < 2
        or any(jump.is_back and jump.before - jump.after >= _LATER for jump in case.changes.jumps)
    ):
        return  # the clock went back by days, so the times of the logs' beginnings tell nothing
    oldest = min(logs, key=lambda name: logs[name]["first_time"])
    for name, log in logs.items():
        if log["first_record_id"] == 1 and log["first_time"] - logs[oldest]["first_time"] >= _LATER:
            since = case.clock.full(logs[oldest]["first_time"])
            begin = case.clock.full(log["first_time"])
            text = f"{name} begins with record 1, {begin}, and {oldest} reaches back to {since}."
            reason = "a log begins so after it was cleared, deleted, or replaced by an update"
            yield Finding("cleared.born", text, "likely", log["first_time"], [case.record_at(log, 1)], reason)


def _silent(case: Case) -> Iterator[Finding]:
    """Long stretches without a record, while the machine was running."""
    logs = {name: log for name in _ALWAYS if (log := case.log(name)) and log["records"]}
    if case.is_mixed or any(map(is_part, logs.values())):
        return  # what is missing was left out, as a rule
    power = [
        *case.of("Kernel-General", 1, 12, 13),
        *case.of("EventLog", 6005, 6006, 6008),
        *case.of("Kernel-Power", *_SLEEP),
    ]
    power += [*case.of("Power-Troubleshooter", 1), *case.of("Security-Auditing", 4608), *case.of("Eventlog", 1100)]
    explained = [record.time for record in power if record.time]
    explained += [time for change in case.changes.every for time in (change.before, change.after)]
    found = silences(case.steady_times, explained)
    for silence in sorted(found, key=lambda one: one.begin - one.end)[:_SHOWN]:
        span = seconds((silence.end - silence.begin).total_seconds())
        text = f"No record for {span}, {case.clock.full(silence.begin)} to {case.clock.full(silence.end)}."
        usual = seconds(silence.usual.total_seconds())
        reason = f"in the logs {', '.join(logs or _ALWAYS)}, whose longest pause on a usual day is {usual}; "
        reason += "a virtual machine that was paused looks alike, and so do records that were removed"
        yield Finding("cleared.silent", text, "possible", silence.begin, reason=reason)


RULE = Rule(
    "cleared",
    "What was cleared, and what is missing",
    (1, 12, 13, 104, 1100, 1102, 4608, 4719, 6005, 6006, 6008, *_SLEEP),
    _answer,
)
