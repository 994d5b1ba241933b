"""What an analysis finds. Times are in ms, rates and slowdowns are fractions; None is what the data do not say."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fanfold.tls.analysis.missing import Difference, Rate
from fanfold.tls.analysis.model import Model
from fanfold.tls.analysis.pairs import Attribution
from fanfold.tls.analysis.splits import Found

By = Literal["n", "kB"]


@dataclass(frozen=True)
class Estimate:
    """A number, and its interval of 95 %: None where there are too few prefixes for one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Missing:
    """Connections that did not come."""

    live: Rate
    """Controls that say their n, without a live connection."""
    control: Rate
    """Live connections without a control."""
    excess: Difference | None
    """The rate of missing lives less that of missing controls."""
    both: Rate | None
    """Pairs that the server has issued, of which neither came; None if the data do not say what was issued."""


@dataclass(frozen=True)
class Bin:
    """The pairs with some numbers of dummy certificates. Estimates are in the order of the quantiles asked for."""

    label: str
    first: int
    """The smallest n."""
    last: int
    kb: float
    """The dummies' bytes in thousands: of the mean n of the pairs, or of the middle if there are none."""
    controls: int
    """Controls with a time; `control` is over all of them, and `live` over all lives."""
    lives: int
    pairs: int
    """Pairs with both times, which `slowdown` is over."""
    control: tuple[Estimate, ...]
    live: tuple[Estimate, ...]
    slowdown: tuple[Estimate, ...]
    missing: Missing


@dataclass(frozen=True)
class Split:
    """An n above which more live connections are missing, and the prefixes that show it."""

    found: Found
    prefixes: Attribution


@dataclass(frozen=True)
class Analysis:
    """What pairs of handshakes show."""

    source: str
    rows: int
    """Rows that were read, with those that were dropped."""
    dropped: Mapping[str, int]
    """By reason."""
    keys: int
    """Pairs of which at least one connection came."""
    both: int
    """Pairs of which both came."""
    prefixes: int
    by: By
    quantiles: tuple[float, ...]
    paired: bool
    dummy_bytes: int
    draws: int
    seed: int
    missing: Missing
    controls_without_n: Rate
    """Controls that do not say their n, and those of them without a live connection. They are in no other rate."""
    bins: tuple[Bin, ...]
    splits: tuple[Split, ...]
    visible: Mapping[int, float]
    """For each n, the smallest jump of the rate above it that these data would show with a power of 80 %."""
    initcwnd: int | None
    model: Model | None

    @property
    def dropped_share(self) -> float:
        """The share of the rows that were dropped."""
        return sum(self.dropped.values()) / self.rows if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self) | {"dropped_share": self.dropped_share}
