"""What a rule finds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from fanfold.evidence.report.case import Case
from fanfold.evidence.report.record import Record

Status = Literal["shown", "likely", "possible", "not recorded", "cannot be shown"]
"""How far a sentence holds.

`shown`: a sound record says so. `likely`: records say so together, or a recovered one does. `possible`: it fits what is
recorded, and so do other things. `not recorded`: the machine does not record such things, or its records do not reach
back so far. `cannot be shown`: no log could show it.
"""


@dataclass(frozen=True)
class Finding:
    """A sentence, and what it rests on."""

    id: str
    """Stable, for scripts: logon.last_console."""
    text: str
    status: Status
    time: datetime | None = None
    records: Sequence[Record] = ()
    reason: str = ""
    """Why it is not `shown`."""
    details: Sequence["Finding"] = field(default_factory=tuple)
    """Sentences that belong to it."""
    files: Sequence[str] = ()
    """The files that it rests on, each with the place in it."""

    @property
    def refs(self) -> list[str]:
        """The records that it rests on."""
        return list(dict.fromkeys(record.ref for record in self.records))

    @property
    def dated_by(self) -> Record | None:
        """The record that its time is from; None if none has it."""
        return next((record for record in self.records if record.time == self.time), None)


class Rule(NamedTuple):
    """A question, and the function that answers it."""

    id: str
    title: str
    event_ids: Sequence[int]
    """The events that it looks at."""
    answer: Callable[[Case], Iterator[Finding]]


BY_REGISTRY = "by the registry, as it was when the copy was made"
"""The reason of sentences on the state of the machine that the registry tells."""


def status_of(*records: Record) -> Status:
    """`shown` if all records are sound and were in a log that was there; recovered ones never show anything alone."""
    return "shown" if all(record.is_sound and record.origin == "live" for record in records) else "likely"


def reason_of(*records: Record) -> str:
    """Why a sentence on these records is not `shown`; empty if it is."""
    if any(record.origin == "carved" for record in records):
        return "a record was found in free space"
    if any(record.origin == "shadow" for record in records):
        return "a record is from a shadow copy"
    if any(record.origin == "deleted" for record in records):
        return "a record is from a log that was deleted"
    return "" if all(record.is_sound for record in records) else "a record lies in a damaged chunk"


def more(
    identity: str, hidden: Sequence[Any], what: str, where: str = "", records: Sequence[Record] = (), **others: Any
) -> Finding:
    """How many more there are than a rule lists: 12 more logons before these. `what`: a word for one; may be empty."""
    text = f"{len(hidden):,} more{f' {what}' if what else ''}{'s' * (bool(what) and len(hidden) > 1)}{where}."
    return Finding(identity, text, others.pop("status", "shown"), records=records, **others)


def seconds(span: float) -> str:
    """A span for people: 9 s, 5 min 44 s, 2 h 5 min."""
    whole = round(span)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def size_in_words(size: int) -> str:
    """The size of a disk: 5.00 TB (5,000,947,302,400 bytes)."""
    unit, name = (1e12, "TB") if size >= 1e12 else (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{size / unit:,.2f} {name} ({size:,} bytes)"
