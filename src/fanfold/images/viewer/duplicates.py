"""Near-duplicates for the page: compared in the background, at once if that is quick, else when asked."""

import threading
from dataclasses import dataclass, field
from typing import Any

from fanfold.errors import FanfoldError
from fanfold.images.search import neighbours
from fanfold.images.search.duplicates import EXACT_BELOW
from fanfold.images.viewer.tables import Version
from fanfold.machine import cores

AT_ONCE = 5.0
"""Seconds of work that the page does not ask about first."""
_EXACT, _LIKELY = 60.0, 360e-6
"""Measured on one core, with 1280 dimensions: seconds to compare EXACT_BELOW rows; seconds a row, above."""


def takes(version: Version) -> float:
    """An estimate of the seconds to compare all rows here."""
    rows = version.rows
    one = _EXACT * (rows / EXACT_BELOW) ** 2 if rows <= EXACT_BELOW else _LIKELY * rows
    return one / cores()


@dataclass
class Comparison:
    """The comparison of one version's rows."""

    version: str
    threshold: float
    groups: list[Any] | None = None
    fraction: float = 0.0
    error: str = ""
    thread: threading.Thread = field(default_factory=threading.Thread)


class Comparisons:
    """One comparison at a time; the last one is kept."""

    def __init__(self) -> None:
        self._last: Comparison | None = None
        self._lock = threading.Lock()

    def get(self, version: Version, threshold: float, start: bool) -> Comparison | None:
        """The comparison, which may go on still; None if it has not begun, and is not to begin unasked."""
        with self._lock:
            last = self._last
            if last and (last.version, last.threshold) == (version.name, threshold) and not last.error:
                return last
            if not start and takes(version) > AT_ONCE:
                return None
            if last and last.thread.is_alive():
                raise FanfoldError("Another comparison is under way. Try again when it has ended.")
            made = Comparison(version.name, threshold)
            made.thread = threading.Thread(target=_compare, args=(made, version), daemon=True)
            self._last = made
            made.thread.start()
            return made


def _compare(comparison: Comparison, version: Version) -> None:
    def progress(fraction: float) -> None:
        comparison.fraction = fraction

    try:
        comparison.groups = neighbours.duplicates(version.dataset, comparison.threshold, progress=progress)
    except Exception as error:
        comparison.error = str(error)
