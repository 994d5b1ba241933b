"""Times of Windows, and times as facts and reports write them."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
BEYOND = 2650467743990000000
"""The FILETIME at the end of the year 9999: it and later ones are not times."""

_1970, _2100 = 116444736000000000, 157469184000000000  # as FILETIMEs


def is_likely(filetime: int) -> bool:
    """Whether a FILETIME may be that of a record: only those of the years 1970 to 2099 are taken for times."""
    return _1970 <= filetime < _2100


def moment(filetime: int) -> datetime | None:
    """The time of a FILETIME, in units of 100 ns since 1601. None if it is outside the years 1601 to 9999."""
    return _EPOCH + timedelta(microseconds=filetime // 10) if 0 < filetime < BEYOND else None


def filetime(time: datetime) -> int:
    """The FILETIME of a time, in units of 100 ns since 1601."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 10


def iso(time: datetime | None) -> str | None:
    """A time as ISO 8601 has it; None for none."""
    return time.isoformat() if time else None
