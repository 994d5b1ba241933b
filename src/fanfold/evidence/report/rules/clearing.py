"""What was cleared, and what is missing."""

from collections.abc import Iterator

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, status_of
from fanfold.evidence.tables import short_log

_ALWAYS = ("Security", "System", "Application")


def _answer(case: Case) -> Iterator[Finding]:
    cleared = [*case.of("Eventlog", 1102, 104)]
    for record in cleared:
        channel = record.text("Channel") or ("Security" if record.event_id == 1102 else "a log")
        who = "\\".join(filter(None, [record.text("SubjectDomainName"), record.text("SubjectUserName")]))
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
    carved = sum(log["records"] for log in case.logs if log["origin"] == "carved")
    if carved:
        text = f"{carved:,} records that no log has were found in the bytes of the disk."
        yield Finding("cleared.carved", text, "likely", reason="what was written over a log may look like a record")
    yield from _begins(case)


def _begins(case: Case) -> Iterator[Finding]:
    """How far the logs reach that are always written to."""
    for name in _ALWAYS:
        log = case.log(name)
        if log is None or not log["records"]:
            continue
        first, last, gaps = log["first_record_id"], log["last_record_id"], len(log["gaps"])
        text = f"{name} has records {first:,} to {last:,}, "
        text += f"with {gaps:,} gap{'s' * (gaps > 1)}" if gaps else "without a gap"
        text += "." if first == 1 else "; what came before is gone, as in a full log."
        ends = [case.record_at(log, number) for number in (first, last)]
        reason = "a gap is not a deletion: crashes leave gaps, too" if gaps else ""
        yield Finding("cleared.begins", text, "shown", None, ends, reason)


RULE = Rule("cleared", "What was cleared, and what is missing", (104, 1102), _answer)
