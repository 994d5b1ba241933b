"""When the clock was set, and the stretches of time between.

Event 1 of Kernel-General, in the log System, has the time before and after. Event 4616 of the log Security has them
too, and who did it. A clock that was set back shows some times twice, so the order of the records decides which came
first. That order is not exact: what happens while Windows starts is written some seconds later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fanfold.evidence.report.record import Record

JUMP = timedelta(minutes=1)
"""A change that puts sentences in doubt."""
NOTICEABLE = timedelta(seconds=2)
"""A smaller change is how a clock is kept in step, at each start and with each answer of a time server."""
_SAME = timedelta(seconds=1)
_LATE = timedelta(seconds=5)
_KERNEL = "Microsoft-Windows-Kernel-General"
_SET, _START, _SET_IN_SECURITY = 1, 12, 4616
_WOKEN = 2  # Reason of event 1: "System time synchronized with the hardware clock"
_VIRTUAL = ("vmtoolsd.exe", "vboxservice.exe", "qemu-ga.exe", "prl_tools.exe")
"""Programs in virtual machines that set the clock to the one of the machine around them."""


@dataclass
class Change:
    """A change of the clock."""

    before: datetime
    after: datetime
    records: "list[Record]" = field(default_factory=list)
    """That of the log System, if it has one, then that of the log Security."""
    is_start: bool = False
    """Whether it happened while the machine was off: only the time of the next start tells."""

    @property
    def process(self) -> str:
        """The file name of the program that did it; empty if none is recorded."""
        paths = [record.text("ProcessName") for record in self.records]
        return next((path.rpartition("\\")[2] for path in paths if path), "")

    @property
    def is_waking(self) -> bool:
        """Whether the machine went on after a sleep, or a virtual one after a pause: the clock had not been wrong."""
        woken = any(record.number("Reason") == _WOKEN for record in self.records)
        return not self.is_back and (woken or self.process.lower() in _VIRTUAL)

    @property
    def is_jump(self) -> bool:
        """Whether it is large."""
        return abs(self.after - self.before) >= JUMP

    @property
    def is_back(self) -> bool:
        """Whether the clock was set back."""
        return self.after < self.before

    def is_told_by(self, before: datetime, after: datetime) -> bool:
        """Whether a record with these times is of this change."""
        return abs(self.before - before) <= _SAME and abs(self.after - after) <= _SAME


class Stretch(NamedTuple):
    """Times that the clock showed between two jumps; None where nothing tells."""

    begin: datetime | None
    end: datetime | None

    def has(self, time: datetime) -> bool:
        """Whether the clock showed this time then, or some seconds around it."""
        begins = self.begin is None or self.begin - _LATE <= time
        return begins and (self.end is None or time <= self.end + _LATE)


@dataclass(frozen=True)
class Changes:
    """The changes of a machine's clock, in the order in which they happened."""

    every: Sequence[Change] = ()
    first: datetime | None = None
    """What the clock showed at the beginning of the log System, by its records of the kernel."""
    last: datetime | None = None
    """What the clock showed at the end of the logs."""
    starts: "Sequence[Record]" = ()
    """The starts of the machine."""

    @classmethod
    def of(cls, records: "Sequence[Record]", last: datetime | None = None) -> "Changes":
        """The changes that records tell, in the order of each log."""
        in_order = sorted(records, key=lambda record: record.record_id)
        system = [record for record in in_order if record.stream == "system"]
        found = [*_in_system(system)]
        at = 0
        for record in in_order:
            before, after = times(record)
            if record.event_id != _SET_IN_SECURITY or not before or not after or abs(after - before) < NOTICEABLE:
                continue
            same = next((n for n, one in enumerate(found) if n >= at and one.is_told_by(before, after)), None)
            if same is None:
                found.insert(at, Change(before, after, [record]))
            else:
                found[same].records.append(record)
            at = at + 1 if same is None else same + 1
        kernel = [record for record in system if record.provider == _KERNEL and record.time]
        return cls(found, kernel[0].time if kernel else None, last, [one for one in kernel if one.event_id == _START])

    @cached_property
    def jumps(self) -> Sequence[Change]:
        """The large ones."""
        return [change for change in self.every if change.is_jump]

    @cached_property
    def stretches(self) -> Sequence[Stretch]:
        """What the clock showed before, between and after the jumps."""
        begins = [self.first, *(jump.after for jump in self.jumps)]
        ends = [*(jump.before for jump in self.jumps), self.last]
        if begins[0] and ends[0] and begins[0] > ends[0]:  # the log begins in the middle
            begins[0] = None
        return [Stretch(begin, end) for begin, end in zip(begins, ends, strict=True)]

    def stretch(self, time: datetime, record: "Record | None" = None) -> int:
        """The number of the stretch that a time is of: the one that has it, and of several the one of the record."""
        having = [number for number, one in enumerate(self.stretches) if one.has(time)]
        by_order = self._by_order(record) if record else None
        if having:
            return having[-1] if by_order is None else min(having, key=lambda number: abs(number - by_order))
        if by_order is not None:
            return by_order
        begun = [number for number, one in enumerate(self.stretches) if one.begin is None or one.begin <= time]
        return begun[-1] if begun else 0

    def is_twice(self, time: datetime, record: "Record | None" = None) -> bool:
        """Whether the clock showed a time more than once, and nothing tells which of them is meant."""
        having = sum(stretch.has(time) for stretch in self.stretches)
        return having > 1 and (record is None or self._by_order(record) is None)

    def _by_order(self, record: "Record") -> int | None:
        """The number of the stretch by the record's place in its log; None if the log has no jump."""
        places = [
            (number, one.record_id)
            for number, jump in enumerate(self.jumps)
            for one in jump.records
            if (one.stream, one.origin) == (record.stream, record.origin)
        ]
        passed = [number for number, record_id in places if record_id < record.record_id]
        return passed[-1] + 1 if passed else places[0][0] if places else None

    @property
    def undone(self) -> Sequence[tuple[datetime, datetime]]:
        """Times that the clock had shown before it was set back: the first and the last of each such stretch."""
        pairs = zip(self.stretches, self.jumps, strict=False)
        return [_undone(stretch, jump) for stretch, jump in pairs if jump.is_back]

    def doubt(self, time: datetime, record: "Record | None" = None) -> Change | None:
        """The jump that puts a time in doubt, if there is one.

        What the clock showed before it was set back came again later. Before it was set forward, it may have been
        behind, though only since the last start of the machine, which takes the time from its hardware.
        """
        number = self.stretch(time, record)
        if number >= len(self.jumps) or (jump := self.jumps[number]).is_waking:
            return None
        if jump.is_back:
            first, last = _undone(self.stretches[number], jump)
            return jump if first <= time <= last + _LATE else None
        starts = [one.time for one in self.starts if one.time and self.stretch(one.time, one) == number]
        return None if any(time < start <= jump.before for start in starts) else jump


def _undone(stretch: Stretch, jump: Change) -> tuple[datetime, datetime]:
    return max(jump.after, stretch.begin or jump.after), jump.before


def _in_system(records: "Sequence[Record]") -> Iterator[Change]:
    """The changes that the log System tells. What was done while the machine was off shows at its next start."""
    shown: datetime | None = None
    for record in records:
        if record.provider != _KERNEL or not record.time:
            continue
        before, after = times(record) if record.event_id == _SET else (None, None)
        if before and after and abs(after - before) >= NOTICEABLE:
            yield Change(before, after, [record])
        elif record.event_id == _START and shown and shown - record.time >= JUMP:
            yield Change(shown, record.time, [record], is_start=True)
        shown = record.time


def times(record: "Record") -> "tuple[datetime | None, datetime | None]":
    """The time before the clock was set, and after."""
    return _moment(record.text("OldTime", "PreviousTime")), _moment(record.text("NewTime"))


def _moment(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
