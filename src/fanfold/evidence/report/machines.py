"""Whether the logs of one folder are of several machines, by the computers that their records name.

A machine that was renamed has its old name in logs that are seldom written to, so these alone tell nothing. Logs that
Windows always writes to, or two of one channel, are of one machine only if records of one log link their names.
"""

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


def _linked(groups: Iterable[set[str]]) -> list[set[str]]:
    """Sets of names, joined where they share one."""
    found: list[set[str]] = []
    for names in groups:
        apart = [one for one in found if not one & names]
        found = [*apart, names.union(*(one for one in found if one & names))]
    return found
