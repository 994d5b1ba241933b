"""When the image was taken: not before the last record."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, seconds, status_of
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.rules.logons import console_logons, failed_before

_NOTED = (("started", "began"), ("finished", "ended"))


def _answer(case: Case) -> Iterator[Finding]:
    last = case.last
    if last is None:
        yield _recovered(case)
        yield from (*_header(case), *_noted(case))
        yield _running(case)
        return
    shown = case.record_at(last, last["last_record_id"], last["newest_time"])
    what = "The image was" if case.container else "The logs were"
    text = f"{what} not taken before {case.clock.full(last['newest_time'])}, the last record."
    yield Finding(
        "taking.not_before", text, "shown", last["newest_time"], [shown], "by the machine's clock",
        [*_ahead(case, last["newest_time"]), *_header(case), *_noted(case)],
    )  # fmt: skip
    yield from _span(case, shown)
    yield _running(case)


def _ahead(case: Case, last: datetime) -> Iterator[Finding]:
    """The latest time that the clock showed before it was set back, if that is later than the last record."""
    ahead = [jump for jump in case.changes.jumps if jump.is_back and jump.before > last]
    for jump in sorted(ahead, key=lambda jump: jump.before)[-1:]:
        until = case.clock.full(jump.before, jump.records[0])
        text = f"The clock had shown later times, up to {until}, and was then set back."
        reason = "records with those times are older than the last one; which of the times were right is not recorded"
        yield Finding("taking.ahead", text, status_of(*jump.records), None, jump.records, reason)


def _recovered(case: Case) -> Finding:
    """The last record that was recovered, where no log that is there has one: of a log, or of free space."""
    found = [log for log in case.logs if log["path"] and log["origin"] != "live" and log["newest_time"]]
    last = max(found, key=lambda log: log["newest_time"], default=None)
    if last is None:
        return _carved(case)
    text = f"The copy was not made before {case.clock.full(last['newest_time'])}, the last record of a recovered log."
    record = replace(case.record_at(last, last["last_record_id"], last["newest_time"]), origin=last["origin"])
    return Finding(
        "taking.not_before",
        text,
        "likely",
        last["newest_time"],
        [record],
        "by the machine's clock; no log that is there has one",
    )


def _carved(case: Case) -> Finding:
    timed = [(record.time, record) for record in case.records if record.origin == "carved" and record.time]
    if not timed:
        return Finding("taking.none", "No record has a time, so nothing tells when the copy was made.", "not recorded",
                       reason="no usable records were found")  # fmt: skip
    time, record = max(timed, key=lambda one: one[0])
    text = f"The copy was not made before {case.clock.full(time)}, the latest record that was looked at."
    return Finding(
        "taking.not_before", text, "likely", time, [record], "by the machine's clock; no log that is there has one"
    )


def _noted(case: Case) -> Iterator[Finding]:
    """What the imaging program has noted beside the image."""
    notes = case.container.get("sidecar") or {}
    times = [f"{what} {notes[key].replace('T', ' ')}" for key, what in _NOTED if notes.get(key)]
    if times:
        text = f"The notes beside the image say that making it {' and '.join(times)}, without a zone."
        yield Finding("taking.notes", text, "possible", files=[notes["file"]],
                      reason="by the clock of the machine that made it, in a zone that is not noted")  # fmt: skip


def _header(case: Case) -> Iterator[Finding]:
    """What the image itself says."""
    stored = case.container.get("acquired")
    if not stored:
        return
    at = case.container.get("acquired_at")
    if at:
        text = f"The image says that it was made {case.clock.full(at)}."
        reason = "by the clock of the machine that made it"
    else:
        text = f"The image says that it was made {_plain(stored)}, without a zone."
        reason = "by the clock of the machine that made it, in a zone that is not stored"
    yield Finding("taking.header", text, "possible", at, reason=reason)


def _plain(stored: str) -> str:
    """A date of six numbers for people: 2021-05-23 16:29:51."""
    numbers = stored.split()
    if len(numbers) < 6:
        return stored
    return "-".join(one.zfill(2) for one in numbers[:3]) + " " + ":".join(one.zfill(2) for one in numbers[3:6])


def _span(case: Case, last: Record) -> Iterator[Finding]:
    """How long it took from the first attempt to log on to the last record, if that was one sitting."""
    logons = console_logons(case)
    if not logons or not last.time:
        return
    logon = logons[-1][0]
    attempts = failed_before(case, logon, logons[-2][-1] if len(logons) > 1 else None)
    first = attempts[0] if attempts else logon
    if not first.time or last.time < first.time:
        return
    begin = "the first attempt" if attempts else "the last logon"
    span = seconds((last.time - first.time).total_seconds())
    changed = case.changes.jumps[case.changes.stretch(first.time, first) :]
    changes = [record for change in changed for record in change.records[:1]]
    if changes:
        text = f"From {begin} to the last record: {span} by the machine's clock, which was changed in between."
        yield Finding("taking.span", text, "possible", None, [first, last, *changes],
                      "by how much in all cannot be told from the times alone")  # fmt: skip
        return
    yield Finding("taking.span", f"From {begin} to the last record: at least {span}.", "shown", None, [first, last])


def _running(case: Case) -> Finding:
    """Whether the machine was running."""
    asked = "Whether the machine was running when the copy was made."
    if why := case.why_none("System"):
        return Finding("taking.unknown", asked, "not recorded", reason=why)
    ends = [record for record in (*case.of("EventLog", 6006), *case.of("Kernel-General", 13)) if _is_own(record)]
    starts = [record for record in (*case.of("EventLog", 6005), *case.of("Kernel-General", 12)) if _is_own(record)]
    last_end = max(ends, key=lambda record: record.record_id, default=None)
    last_start = max(starts, key=lambda record: record.record_id, default=None)
    if last_end and (last_start is None or last_end.record_id > last_start.record_id):
        text = "The machine was off when the copy was made: it was shut down, and no later start is recorded."
        return Finding("taking.off", text, "likely", last_end.time, [last_end], "by its last shutdown")
    dirty = sum(bool(log["dirty"]) and log["origin"] == "live" for log in case.logs)
    records = [last_start] if last_start else []
    ended = "no shutdown is recorded after its last start" if last_start else "no start and no shutdown is recorded"
    if not dirty:
        reason = f"{ended}, and no log was open"
        return Finding("taking.unknown", asked, "not recorded", None, records, reason)
    text = "The machine was running when the copy was made, as far as its logs tell."
    reason = f"{ended}; logs that were open: {dirty:,}; a snapshot of a virtual machine or a power cut looks alike"
    return Finding("taking.running", text, "likely", None, records, reason)


def _is_own(record: Record) -> bool:
    return record.stream == "system" and record.origin == "live"


RULE = Rule("taking", "When the copy was made", (1, 12, 13, 1074, 4624, 4625, 6005, 6006, 6008), _answer)
