"""What was cleared, what is missing, and when the clock was changed."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, seconds, status_of
from fanfold.evidence.tables import short_log

_ALWAYS = ("Security", "System", "Application")
_JUMP = timedelta(minutes=1)
_SHOWN = 5


def _answer(case: Case) -> Iterator[Finding]:
    cleared = [*case.of("Eventlog", 1102, 104)]
    for record in cleared:
        channel = record.text("Channel") or ("Security" if record.event_id == 1102 else "a log")
        who = "\\".join(filter(None, [record.text("SubjectDomainName"), record.text("SubjectUserName")]))
        by = f" by {who}" if who else ""
        when = f"{case.clock.full(record.time)}: " if record.time else ""
        yield Finding("cleared.log", f"{when}{channel} was cleared{by}.", status_of(record), record.time, [record])
    if not cleared:
        yield Finding("cleared.none", "No record tells of a log that was cleared (events 1102 and 104).", "shown",
                      reason="in the records that there are")  # fmt: skip
    deleted = [log for log in case.logs if log["origin"] == "deleted" and log["records"]]
    for log in deleted:
        text = f"The log {short_log(log['path'])} was deleted; {log['records']:,} of its records were recovered."
        yield Finding("cleared.deleted", text, "shown", reason=f"from {log['path']}")
    carved = sum(log["records"] for log in case.logs if log["origin"] == "carved")
    if carved:
        text = f"{carved:,} records that no log has were found in free space."
        yield Finding("cleared.carved", text, "shown")
    yield from _begins(case)
    yield from _clock(case)


def _begins(case: Case) -> Iterator[Finding]:
    for name in _ALWAYS:
        log = case.log(name)
        if log is None or not log["records"]:
            continue
        since = case.clock.full(log["first_time"]) if log["first_time"] else "an unknown time"
        record = Record(name, log["first_record_id"], log["first_time"], 0, "", "", {})
        if log["first_record_id"] == 1:
            text = f"{name} is complete from record 1 on"
        else:
            text = f"{name} begins at record {log['first_record_id']:,}: what came before is gone, as in a full log"
        gaps = log["gaps"]
        middle = f", with {len(gaps):,} gap{'s' * (len(gaps) > 1)}" if gaps else ""
        yield Finding("cleared.begins", f"{text}{middle}. Its earliest time is {since}.", "shown", None, [record],
                      "a gap is not a deletion: crashes leave gaps, too" if gaps else "")  # fmt: skip


def _clock(case: Case) -> Iterator[Finding]:
    """Changes of the clock of a minute and more."""
    changes = [(record, *_change(record)) for record in case.of("Kernel-General", 1)]
    jumps = [(record, before, after) for record, before, after in changes if before and after]
    jumps = [jump for jump in jumps if abs(jump[2] - jump[1]) >= _JUMP]
    if len(jumps) > _SHOWN:
        text = f"{len(jumps) - _SHOWN:,} more changes of the clock of a minute and more before these."
        yield Finding("clock.more", text, "shown", records=[jumps[0][0]])
    for record, before, after in jumps[-_SHOWN:]:
        way = "forward" if after > before else "back"
        by = seconds(abs(after - before).total_seconds())
        text = f"The clock was set {way} by {by}, to {case.clock.full(after)}."
        yield Finding("clock.changed", text, status_of(record), after, [record])


def _change(record: Record) -> tuple[datetime | None, datetime | None]:
    return _time(record.text("OldTime")), _time(record.text("NewTime"))


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


RULE = Rule("cleared", "What was cleared, and what is missing", (1, 104, 1102), _answer)
