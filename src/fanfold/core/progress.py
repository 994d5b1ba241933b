"""How far a run is: counted where a run is planned and committed, read where it is shown."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fanfold.core.plan import Standing
from fanfold.core.runs import Outcome

RECENT = 16
"""Tasks that show where the time goes now: few enough for a change of the pictures to show."""


@dataclass
class Tally:
    """How far a run is. Read it at any time, from any thread."""

    listed: int = 0
    listing: bool = True
    """Whether the source is still being listed, so that `listed` may grow."""
    standings: Counter[Standing] = field(default_factory=Counter)
    planned: int = 0
    """Items this run has to work on, as far as they are listed."""
    bytes: int = 0
    """Bytes of the items planned."""
    ok: int = 0
    failed: int = 0
    unread: int = 0
    """Failed items that could not be read."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why tasks were given up: reason -> items."""
    under_way: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Task number -> items done and failed, of tasks not committed yet."""
    lost: int = 0
    """Items of tasks that were given up: they are in no table."""
    note: str = ""
    """A remark on the state, such as what the run waits for."""
    seconds: Counter[str] = field(default_factory=Counter)
    """Where the workers' time went, by stage, of tasks that have ended."""
    recent: deque[Mapping[str, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The same, of each of the last tasks."""

    @property
    def done(self) -> int:
        """Items done so far, those of unfinished tasks included."""
        return self.ok + sum(ok for ok, _ in list(self.under_way.values()))

    def watch(self, task: int, ok: int, failed: int) -> None:
        """Take note of how far a task is: what executors call their progress."""
        self.under_way[task] = (ok, failed)

    def count(self, outcome: Outcome) -> None:
        """Count a task that has ended for good."""
        self.under_way.pop(outcome.task, None)
        self.ok += outcome.ok
        self.failed += outcome.failed
        self.unread += outcome.unread
        if outcome.error:
            lost = outcome.items - outcome.ok - outcome.failed
            self.lost += lost
            self.reasons[outcome.error[:1000]] += lost
        self.seconds.update(outcome.seconds)
        self.recent.append(outcome.seconds)

    @property
    def proportions(self) -> dict[str, float]:
        """Each stage's share of the workers' time of late, the largest first; empty until a task has ended."""
        spent: Counter[str] = Counter()
        for seconds in list(self.recent):
            spent.update(seconds)
        return proportions(spent)

    @property
    def unsuccessful(self) -> int:
        """Items that failed so far, those of unfinished tasks included."""
        return self.failed + sum(failed for _, failed in list(self.under_way.values()))

    @property
    def ended(self) -> int:
        """Items done, failed or lost so far. It falls when a worker dies, and its task begins again."""
        return self.done + self.unsuccessful + self.lost


def proportions(stages: Mapping[str, float]) -> dict[str, float]:
    """Each stage's share of the whole, the largest first."""
    whole = sum(stages.values())
    largest_first = sorted(stages.items(), key=lambda stage: -stage[1])
    return {stage: seconds / whole for stage, seconds in largest_first} if whole else {}
