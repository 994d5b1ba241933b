"""What an analysis is asked for, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass

from fanfold.errors import UsageError
from fanfold.tls.analysis.bins import Ranges, ranges
from fanfold.tls.analysis.results import By

_LIMITS = (
    ("max_n", "--max", 1, 1000),
    ("dummy_bytes", "--dummy-bytes", 1, 1 << 24),
    ("initcwnd", "--initcwnd", 1, 1000),
    ("base_bytes", "--base", 1, 1 << 24),
    ("mss", "--mss", 88, 65_483),
    ("draws", "--draws", 0, 1_000_000),
    ("seed", "--seed", 0, 2**63 - 1),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `analyze`, which says what they mean. Raises UsageError for a number that makes no sense."""

    by: By
    bins: Ranges | None
    quantiles: tuple[float, ...]
    paired: bool
    max_n: int
    dummy_bytes: int
    initcwnd: int | None
    base_bytes: int | None
    mss: int
    draws: int
    seed: int

    def __post_init__(self) -> None:
        if self.by not in ("n", "kB"):
            raise UsageError(f"--by takes n or kB, not {self.by}.")
        if not self.quantiles or not all(0 < q < 1 for q in self.quantiles):
            raise UsageError(f"--quantile takes numbers between 0 and 1, such as 0.5, not {list(self.quantiles)}.")
        for name, flag, low, high in _LIMITS:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{flag} takes a number from {low:,} to {high:,}, not {value:,}.")
        ranges(self.bins, self.by, self.dummy_bytes, self.max_n)


def middle_of(quantiles: Sequence[float]) -> int:
    """The place of the quantile that is nearest to the median."""
    return min(range(len(quantiles)), key=lambda place: abs(quantiles[place] - 0.5))
