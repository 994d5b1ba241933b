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

if TYPE_CHECKING:
    from fanfold.evidence.report.case import Record


class _Zone(NamedTuple):
    since: datetime | None
    zone: tzinfo
    name: str
    """As Windows or the IANA calls it; empty if only the bias is known."""
    ref: str
    named_by: bool = False
    """Whether the record has the zone's name."""


@dataclass(frozen=True)
class Clock:
    """The time zones of a machine, in the order of its records."""

    zones: Sequence[_Zone]

    @classmethod
    def of(cls, records: "Sequence[Record]", chosen: str | None = None, registry: str = "") -> "Clock":
        """The zones that records tell, or the one that was chosen; that of the registry if there is neither.

        Raises UsageError for an unknown one.
        """
        if chosen:
            return cls([_Zone(None, _by_name(chosen), chosen, "")])
        in_order = sorted(records, key=lambda record: (record.log, record.record_id))
        told = [record for record in in_order if record.origin == "live"]
        names = [registry, *(record.text("7").partition(" ")[2] for record in told if record.event_id == 6013)]
        named = {name: zone for name in names if (zone := by_windows_name(name))}
        zones = [found for record in told if (found := _told(record, named))]
        if not zones and registry in named:
            zones = [_Zone(None, named[registry], registry, "")]
        return cls(zones)

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

    def local(self, time: datetime) -> datetime:
        """A time in the zone that was in force then, as far as it is known; else in UTC."""
        zone: tzinfo = self.zones[0].zone if self.zones else UTC
        for told in reversed(self.zones):
            if told.since is None or told.since <= time:
                zone = told.zone
                break
        try:
            return time.astimezone(zone)
        except OverflowError:  # at the end of the year 9999
            return time

    def full(self, time: datetime) -> str:
        """A time for people: Sun 23 May 2021, 16:24:16 MDT (22:24:16 UTC)."""
        local = self.local(time)
        if not local.utcoffset():
            return f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S} UTC"
        utc = time.astimezone(UTC)
        day = "" if utc.date() == local.date() else f"{utc.day} {utc:%b} "
        return f"{local:%a} {local.day} {local:%b %Y, %H:%M:%S} {local:%Z} ({day}{utc:%H:%M:%S} UTC)"

    def short(self, time: datetime, since: datetime | None = None) -> str:
        """The time of day, 16:24:16 MDT; all of it, if it is not the day of another time."""
        if since is not None and self.local(since).date() != self.local(time).date():
            return self.full(time)
        return f"{self.local(time):%H:%M:%S %Z}"


def _told(record: "Record", named: Mapping[str, tzinfo]) -> _Zone | None:
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
