"""Which machines the logs of one folder are of, by the computers that their records name.

A machine that was renamed has its old name in logs that are seldom written to, so these alone tell nothing. Logs that
Windows always writes to, or two of one channel, are of one machine only if records of one log link their names.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanfold.evidence.report.case import Record

FORWARDED = "forwardedevents"
STEADY = ("system", "security", "application")
"""The logs that Windows always writes to."""


def host(record: "Record") -> str:
    """The machine that a record names, without its domain."""
    return record.computer.partition(".")[0].lower()


def are_loose(logs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether none of some logs lies where Windows keeps them: then they may have been gathered from anywhere."""
    return not any("/winevt/" in (log["path"] or "").lower() for log in logs)


def are_of_several(records: Sequence["Record"]) -> bool:
    """Whether the logs that have these records are of several machines, as far as they tell."""
    names: dict[str, set[str]] = {}
    streams: dict[str, set[str]] = {}  # the logs of a channel
    for record in records:
        if record.origin == "live" and record.computer and record.log.lower() != FORWARDED:
            log = record.ref.rpartition("#")[0]
            names.setdefault(log, set()).add(host(record))
            streams.setdefault((record.channel or record.log).lower(), set()).add(log)
    telling = {log for stream, some in streams.items() if stream in STEADY or len(some) > 1 for log in some}
    machines = _linked(names.values())
    return len({next(n for n, one in enumerate(machines) if one & names[log]) for log in telling}) > 1


def own(records: "Sequence[Record]", is_mixed: bool = False) -> "tuple[list[Record], dict[str, int]]":
    """The records that are this machine's own, and how many there are of others, by their names.

    The log System has a machine's own records only, whatever the machine was called; events are forwarded to others.
    Of several machines (`is_mixed`), all are own but those of a log of forwarded events.
    """
    names = {host(record) for record in records if record.is_of("System") and record.origin == "live"}
    if is_mixed or not names:
        names = {host(record) for record in records if record.log.lower() != FORWARDED}
    names.add("")
    others = Counter(record.computer for record in records if host(record) not in names)
    return [record for record in records if host(record) in names], dict(others)


def _linked(groups: Iterable[set[str]]) -> list[set[str]]:
    """Sets of names, joined where they share one."""
    found: list[set[str]] = []
    for names in groups:
        apart = [one for one in found if not one & names]
        found = [*apart, names.union(*(one for one in found if one & names))]
    return found
