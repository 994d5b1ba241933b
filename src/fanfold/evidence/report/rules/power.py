"""When the machine was started, shut down, cut off and updated."""

from collections.abc import Iterator

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding, Rule, more, status_of
from fanfold.evidence.report.record import Record

_SHOWN = 12
_UPDATES_SHOWN = 5


def _answer(case: Case) -> Iterator[Finding]:
    found = [*((record, "the machine started") for record in case.of("Kernel-General", 12))]
    found += [(record, "the machine was shut down") for record in case.of("Kernel-General", 13)]
    found += [(record, _asked(record)) for record in case.of("User32", 1074)]
    found += [(record, _cut(record)) for record in case.of("EventLog", 6008)]
    found += [(record, _crashed(record)) for record in case.of("Kernel-Power", 41)]
    timed = [(record, words) for record, words in found if record.time]
    timed.sort(key=lambda one: (one[0].stream, one[0].record_id))  # the order of writing, whatever the clock showed
    for record, words in timed[-_SHOWN:][::-1]:
        yield Finding("power.change", f"{case.when(record)}{words}.", status_of(record), record.time, [record])
    if hidden := timed[:-_SHOWN]:
        yield more("power.more", hidden, "record", " of starts and shutdowns before these", [hidden[0][0]])
    if not timed:
        reason = case.why_none("System") or "no event 12 or 13 of Kernel-General"
        yield Finding("power.none", "No start of the machine is recorded.", "not recorded", reason=reason)
    yield from _updates(case)


def _asked(record: Record) -> str:
    """Who asked for a shutdown or a restart, and with which program."""
    what = "a restart" if "restart" in record.text("param5").lower() else "a shutdown"
    account = f" for {record.text('param7')}" if record.text("param7") else ""
    return f"{record.text('param1') or 'a program'} asked for {what}{account}"


def _cut(record: Record) -> str:
    """That the machine had gone off by itself: the record has the local time at which it last ran, as a text."""
    last = " ".join(filter(None, (_printable(record.text(name)) for name in ("2", "1"))))
    when = f"; it last ran at {last}, local time" if last else ""
    return f"the machine noted that it had gone off without a shutdown{when}"


def _crashed(record: Record) -> str:
    code = record.number("BugcheckCode")
    crash = f": it had crashed, with the stop code {code:#x}" if code else ""
    return f"the machine had started without a clean shutdown before{crash}"


def _printable(text: str) -> str:
    """A text without the marks of the direction of writing that Windows puts into dates."""
    return "".join(c for c in text if c.isprintable())


def _updates(case: Case) -> Iterator[Finding]:
    """Updates of Windows that were installed; those of its store's apps are counted."""
    installed = [*case.of("WindowsUpdateClient", 19)]
    reported = [record for record in installed if "KB" in record.text("updateTitle")]
    for record in reported[-_UPDATES_SHOWN:][::-1]:
        text = f"{case.when(record)}the update {record.text('updateTitle')} was installed."
        yield Finding("power.update", text, status_of(record), record.time, [record])
    if rest := len(installed) - len(reported[-_UPDATES_SHOWN:]):
        text = f"{rest:,} more update{'s' * (rest > 1)} of Windows, its drivers and its apps."
        yield Finding("power.updates", text, "shown", records=[installed[0], installed[-1]])


RULE = Rule("power", "When it ran, and was updated", (12, 13, 19, 41, 1074, 6008), _answer)
