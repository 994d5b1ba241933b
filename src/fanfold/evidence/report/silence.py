"""Stretches without a record: long ones, by the machine's own habits, while it was running."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHORTEST = timedelta(hours=6)
_TIMES_LONGER = 5  # than is usual for the machine
_DAY = 86_400_000_000  # microseconds
_NEAR = timedelta(minutes=2)


@dataclass(frozen=True)
class Silence:
    """A stretch without a record."""

    begin: datetime
    end: datetime
    usual: timedelta
    """The longest stretch of a usual day."""

    def count(self, times: npt.NDArray[np.int64]) -> int:
        """How many of these times lie within it."""
        return int(np.count_nonzero((times > _micros(self.begin)) & (times < _micros(self.end))))


def silences(times: npt.NDArray[np.int64], explained: Sequence[datetime]) -> list[Silence]:
    """The stretches without a record that are long for this machine.

    Args:
        times: Of the records of logs that are always written to: microseconds since 1970, in any order.
        explained: When the machine was started, shut down or sent to sleep, and when its clock was set: a stretch that
            begins or ends at one of them needs no other reason.
    """
    ordered = np.unique(times)
    if len(ordered) < 2:
        return []
    lengths = np.diff(ordered)
    known = np.sort(np.array([_micros(time) for time in explained], np.int64))
    near = np.int64(_NEAR / timedelta(microseconds=1))
    needs = ~(_has_near(known, ordered[:-1], near) | _has_near(known, ordered[1:], near))
    usual = _usual(ordered, lengths, needs)
    longest = max(_SHORTEST / timedelta(microseconds=1), _TIMES_LONGER * usual)
    return [
        Silence(_moment(ordered[at]), _moment(ordered[at + 1]), timedelta(microseconds=usual))
        for at in np.flatnonzero(needs & (lengths >= longest))
    ]


def _usual(ordered: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], needs: npt.NDArray[np.bool_]) -> int:
    """The median of the days' longest stretches, of those during which the machine was running."""
    days: dict[int, int] = {}
    for begin, length in zip(ordered[:-1][needs].tolist(), lengths[needs].tolist(), strict=True):
        days[begin // _DAY] = max(days.get(begin // _DAY, 0), length)
    return int(np.median([*days.values()])) if days else 0


def _has_near(known: npt.NDArray[np.int64], times: npt.NDArray[np.int64], near: np.int64) -> npt.NDArray[np.bool_]:
    """Which of these times have a known one near them."""
    found: npt.NDArray[np.bool_] = np.searchsorted(known, times - near) < np.searchsorted(known, times + near, "right")
    return found


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: np.int64) -> datetime:
    return _EPOCH + timedelta(microseconds=int(micros))
