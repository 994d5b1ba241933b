"""What was cleared, and what is missing."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, seconds, status_of
from fanfold.evidence.report.rules import auditing
from fanfold.evidence.report.silence import Silence, silences
from fanfold.evidence.tables import short_log

_ALWAYS = ("Security", "System", "Application")
_GAP = "a gap is not a deletion: crashes leave gaps, too"
_LATER = timedelta(days=1)
_SLEEP = (41, 42, 105, 107, 109, 506, 507)
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
        yield Finding("cleared.carved", text, "likely", reason="other data on the disk may look like a record")
    yield from auditing.changes(case)
    yield from _begins(case)
    yield from _born(case)
    yield from _silent(case)


def _begins(case: Case) -> Iterator[Finding]:
    """How far the logs reach that are always written to."""
    for name in _ALWAYS:
        log = case.log(name)
        if log is None or not log["records"]:
            continue
        first, last, gaps = log["first_record_id"], log["last_record_id"], log["gaps"]
        text = f"{name} has records {first:,} to {last:,}, "
        text += f"with {len(gaps):,} gap{'s' * (len(gaps) > 1)}" if gaps else "without a gap"
        text += _before(case, name, first)
        ends = [case.record_at(log, number) for number in (first, last)]
        reason = _GAP if gaps else ""
        if gaps and (log.get("bad_chunks") or log.get("undecoded")):
            reason = "a part of the log is damaged, and what was there is missing"
        details = [
            _gap(case, name, log, gap) for gap in sorted(gaps, key=lambda gap: gap["after"] - gap["before"])[:_SHOWN]
        ]
        yield Finding("cleared.begins", text, "shown", None, ends, reason, details)


def _before(case: Case, name: str, first: int) -> str:
    """What is known of the records before the first one of a log, to end a sentence."""
    recovered = case.recovered(name)
    if recovered.records and recovered.first_id < first:
        return f"; of what came before, {recovered.in_words(case.clock)}."
    if recovered.records:
        return f"; besides, {recovered.in_words(case.clock)}."
    return "." if first == 1 else "; what came before is gone, as in a full log."


def _gap(case: Case, name: str, log: Mapping[str, Any], gap: Mapping[str, int]) -> Finding:
    """Records that are missing inside a log; those that were recovered may be some of them."""
    first, last = gap["after"] + 1, gap["before"] - 1
    text = f"The records {first:,} to {last:,} are missing." if last > first else f"The record {first:,} is missing."
    recovered = case.recovered(name)
    is_within = recovered.records and recovered.first_id <= last and first <= recovered.last_id
    reason = "some of them may be among the recovered records" if is_within else ""
    ends = [case.record_at(log, gap[side]) for side in ("after", "before")]
    return Finding("cleared.gap", text, "shown", None, ends, reason)


def _born(case: Case) -> Iterator[Finding]:
    """Logs that begin with record 1, though the machine was in use before: new logs in the place of others."""
    logs = {name: log for name in _ALWAYS if (log := case.log(name)) and log.get("first_time")}
    if len(logs) < 2 or any(jump.is_back and jump.before - jump.after >= _LATER for jump in case.changes.jumps):
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
    power = [
        *case.of("Kernel-General", 1, 12, 13),
        *case.of("EventLog", 6005, 6006, 6008),
        *case.of("Kernel-Power", *_SLEEP),
    ]
    power += case.of("Power-Troubleshooter", 1)
    explained = [record.time for record in power if record.time]
    explained += [time for change in case.changes.every for time in (change.before, change.after)]
    found = silences(case.steady_times, explained)
    for silence in sorted(found, key=lambda one: one.begin - one.end)[:_SHOWN]:
        span = seconds((silence.end - silence.begin).total_seconds())
        text = f"No record for {span}, {case.clock.full(silence.begin)} to {case.clock.full(silence.end)}."
        usual = seconds(silence.usual.total_seconds())
        reason = (
            f"in {_reaching(case, silence)}, whose longest pause on a usual day is {usual}; a virtual machine that "
            "was paused looks alike, and so do records that were removed"
        )
        yield Finding("cleared.silent", text, "possible", silence.begin, reason=reason,
                      details=_recovered_within(case, silence))  # fmt: skip


def _reaching(case: Case, silence: Silence) -> str:
    """The logs that are there and begin before a stretch."""
    logs = [(name, case.log(name)) for name in _ALWAYS]
    found = [name for name, log in logs if log and log.get("first_time") and log["first_time"] <= silence.begin]
    return f"the log{'s' * (len(found) > 1)} {', '.join(found)}"


def _recovered_within(case: Case, silence: Silence) -> list[Finding]:
    """That recovered records fill a stretch which the logs that are there have no longer."""
    if not (count := silence.count(case.recovered_times)):
        return []
    text = f"{count:,} recovered record{'s are' if count > 1 else ' is'} of this time."
    reason = "by their own times, in logs of this kind that were deleted, copied or carved"
    return [Finding("cleared.silent_recovered", text, "likely", silence.begin, reason=reason)]


RULE = Rule(
    "cleared",
    "What was cleared, and what is missing",
    (1, 12, 13, 104, 1102, 6005, 6006, 6008, *_SLEEP, *auditing.EVENTS),
    _answer,
)
