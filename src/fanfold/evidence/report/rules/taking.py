"""When the image was taken: not before the last record."""

from collections.abc import Iterator
from datetime import timedelta

from fanfold.evidence.report.case import Case, Record
from fanfold.evidence.report.findings import Finding, Rule, Status, seconds
from fanfold.evidence.report.rules.logons import console_logons, failed_before
from fanfold.evidence.tables import short_log

_ENDS = (13, 1074, 6006)
_CLOSE = timedelta(minutes=1)


def _answer(case: Case) -> Iterator[Finding]:
    last = case.last
    if last is None:
        yield Finding("taking.none", "No record has a time, so nothing tells when the copy was made.", "not recorded",
                      reason="there is no record")  # fmt: skip
        return
    name = short_log(last["path"])
    shown = Record(name, last["last_record_id"], last["last_time"], 0, "", "", {})
    what = "The image was" if case.container else "The logs were"
    text = f"{what} not taken before {case.clock.full(last['last_time'])}, the last record."
    yield Finding("taking.not_before", text, "shown", last["last_time"], [shown], details=[*_header(case)])
    yield from _span(case, shown)
    yield _running(case)


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
    return "-".join(f"{int(one):02}" for one in numbers[:3]) + " " + ":".join(f"{int(one):02}" for one in numbers[3:6])


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
    text = f"From {begin} to the last record: at least {seconds((last.time - first.time).total_seconds())}."
    yield Finding("taking.span", text, "shown", None, [first, last])


def _running(case: Case) -> Finding:
    """Whether the machine was running."""
    ends = [*case.of("EventLog", 6006), *case.of("Kernel-General", 13)]
    starts = [*case.of("EventLog", 6005), *case.of("Kernel-General", 12)]
    last_end = max((record.record_id for record in ends if record.log == "System"), default=0)
    last_start = max((record.record_id for record in starts if record.log == "System"), default=0)
    dirty = [log for log in case.logs if log["dirty"] and log["origin"] == "live"]
    status: Status
    if last_end > last_start:
        record = next(record for record in reversed(ends) if record.record_id == last_end)
        text, status, reason = "The machine was shut down, and not started again before.", "shown", ""
        return Finding("taking.off", text, status, record.time, [record], reason)
    text = "The machine was running, as far as its logs tell."
    reason = (
        f"no shutdown is recorded after its last start, and {len(dirty):,} logs were open; a snapshot of a virtual "
    )
    return Finding(
        "taking.running", text, "likely", None, [*starts[-1:]], f"{reason}machine or a power cut looks alike"
    )


RULE = Rule("taking", "When the copy was made", (12, 13, 1074, 4624, 4625, 6005, 6006, 6008), _answer)
