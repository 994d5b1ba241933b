"""The time as the users of a machine saw it.

Windows notes its time zone in two ways: event 24 of Kernel-General has the bias in force (minutes west of UTC), and
event 6013 of EventLog has the zone's name, with its standard bias, which is not the bias in force in summer. A zone may
change within one log, so both are taken in the order of the records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fanfold.errors import UsageError
from fanfold.evidence.report.changes import Changes

if TYPE_CHECKING:
    from fanfold.evidence.report.record import Record


_NO_CHANGES = Changes()
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class _Zone(NamedTuple):
    since: datetime | None
    zone: tzinfo
    name: str
    """As Windows or the IANA calls it; empty if only the bias is known."""
    ref: str
    named_by: bool = False
    """Whether the record has the zone's name."""
    stretch: int = 0
    """Of the times between two changes of the clock; see `Changes.stretch`."""


@dataclass(frozen=True)
class Clock:
    """The time zones of a machine, in the order of its records."""

    zones: Sequence[_Zone]
    changes: Changes = _NO_CHANGES

    @classmethod
    def of(
        cls,
        records: "Sequence[Record]",
        chosen: str | None = None,
        registry: str = "",
        changes: Changes = _NO_CHANGES,
    ) -> "Clock":
        """The zones that records tell, or the one that was chosen; that of the registry if there is neither.

        Raises UsageError for an unknown one.
        """
        if chosen:
            return cls([_Zone(None, _by_name(chosen), chosen, "")], changes)
        known = sorted(records, key=lambda record: (record.log, record.record_id))
        names = [registry, *(record.text("7").partition(" ")[2] for record in known if record.event_id == 6013)]
        named = {name: zone for name in names if (zone := by_windows_name(name))}
        zones = [found._replace(stretch=changes.stretch(record.time, record) if record.time else 0)
                 for record in known if (found := _zone_of(record, named))]  # fmt: skip
        zones.sort(key=lambda zone: (zone.stretch, zone.since or _EARLIEST))
        if not zones and registry in named:
            zones = [_Zone(None, named[registry], registry, "")]
        return cls(zones, changes)

    @property
    def name(self) -> str:
        """The last zone's name: Mountain Standard Time, America/Denver, or UTC-05:00. Empty if none is known."""
        return (self.zones[-1].name or str(self.zones[-1].zone)) if self.zones else ""

    @property
    def names(self) -> list[str]:
        """The names of all zones in their order, each once."""
        return list(dict.fromkeys(zone.name or str(zone.zone) for zone in self.zones))

    @property
    def refs(self) -> list[str]:
        """The records that tell the last zone: its bias, and its name."""
        by_name = [zone for zone in self.zones if zone.named_by and zone.name == self.name]
        found = [*self.zones[-1:], *by_name[-1:]]
        return list(dict.fromkeys(ref for zone in found for ref in (zone.ref,) if ref))

    def local(self, time: datetime, record: "Record | None" = None) -> datetime:
        """A time in the zone that was in force then, as far as it is known; else in UTC.

        Where the clock showed the time twice, the place of the time's record decides which of them is meant.
        """
        zone: tzinfo = self.zones[0].zone if self.zones else UTC
        stretch = self.changes.stretch(time, record)
        for known in reversed(self.zones):
            if known.since is None or known.stretch < stretch or (known.stretch == stretch and known.since <= time):
                zone = known.zone
                break
        try:
            return time.astimezone(zone)
        except OverflowError:  # at the end of the year 9999
            return time

    def full(self, time: datetime, record: "Record | None" = None) -> str:
        """A time for people: Sun 23 May 2021, 16:24:16 MDT (22:24:16 UTC)."""
        local = self.local(time, record)
        if not local.utcoffset():
            return f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S} UTC"
        utc = time.astimezone(UTC)
        day = "" if utc.date() == local.date() else f"{utc.day} {utc:%b} "
        return f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S} {local:%Z} ({day}{utc:%H:%M:%S} UTC)"

    def short(self, time: datetime, since: datetime | None = None, record: "Record | None" = None) -> str:
        """The time of day, 16:24:16 MDT; all of it, if it is not the day of another time."""
        local = self.local(time, record)
        if since is not None and self.local(since, record).date() != local.date():
            return self.full(time, record)
        return f"{local:%H:%M:%S %Z}"


def _zone_of(record: "Record", named: Mapping[str, tzinfo]) -> _Zone | None:
    """The zone that a record tells. A bias stands for the zone that has it then, of those that other records name."""
    if record.event_id == 6013:
        name = record.text("7").partition(" ")[2]
        return _Zone(record.time, named[name], name, record.ref, True) if name in named else None
    bias = record.number("CurrentBias")
    if bias is None or record.time is None:
        return None
    offset = timedelta(minutes=-(bias - (1 << 32) if bias >= 1 << 31 else bias))
    if abs(offset) >= timedelta(days=1):
        return None
    for name, zone in named.items():
        if record.time.astimezone(zone).utcoffset() == offset:
            return _Zone(record.time, zone, name, record.ref)
    return _Zone(record.time, timezone(offset), "", record.ref)


def by_windows_name(name: str) -> tzinfo | None:
    """The zone that Windows calls so, in English."""
    from tzlocal.windows_tz import win_tz

    return ZoneInfo(win_tz[name]) if name in win_tz else None


def _by_name(name: str) -> tzinfo:
    try:
        return by_windows_name(name) or ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"'{name}' is not a time zone. Write a name such as America/Denver, or UTC.") from None
