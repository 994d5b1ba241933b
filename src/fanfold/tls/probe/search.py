"""Finds how far a client goes, by asking it again and again.

doubling    1  2  4  8 ... accepted, accepted, ..., refused
bisection           between the last size that was accepted and the first one that was not
the edge            both are asked three times: answers that differ are `flaky`, not a limit
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["accepted", "refused", "hung"]

TRIES = 3
"""Times that a size near the edge is asked for."""


SERVER = "server: "
"""How words of our own server begin, in the text of an answer."""


@dataclass(frozen=True)
class Answer:
    """What a client did with a chain."""

    outcome: Outcome
    by: str = ""
    """Who ended it: `client alert`, `client close`, `server error` or `timeout`."""
    text: str = ""
    """What the side that ended it said, unchanged."""
    alert: str = ""
    """The client's alert, by the name that RFC 8446 gives it."""
    tls: str = ""
    """The version that was agreed on, such as TLSv1.3."""


Ask = Callable[[int], Answer]
"""Asks a client for a size, once."""


@dataclass(frozen=True)
class Limit:
    """How far a client goes."""

    most: int | None
    """The largest size that was accepted; None if not even the smallest one was."""
    refused: int | None
    """The smallest size that was not accepted, one more; None if all were, up to `cap`."""
    cap: int
    at_limit: Answer | None = None
    """The answer one above `most`."""
    at_double: Answer | None = None
    """The answer at twice `most`: it may be of another kind."""
    flaky: Mapping[int, Mapping[Outcome, int]] = field(default_factory=dict)
    """Sizes whose answers differed, with how often each came."""

    @property
    def verdict(self) -> Literal["none", "limit", "flaky", "refuses all"]:
        """What can be said of the client."""
        if self.flaky:
            return "flaky"
        if self.most is None:
            return "refuses all"
        return "none" if self.refused is None else "limit"


class Search:
    """A search for the largest size that a client accepts."""

    def __init__(self, ask: Ask, smallest: int, cap: int) -> None:
        self.ask, self.smallest, self.cap = ask, smallest, cap
        self.answers: dict[int, list[Answer]] = {}

    def limit(self) -> Limit:
        """The limit; if the edge does not hold, each size is asked three times, and the majority decides."""
        for tries in (1, TRIES):
            most, refused = self._edge(tries)
            if all(self._is_steady(size) for size in (most, refused) if size):
                break
        doubled = self._answer(min(self.cap, 2 * most)) if most and refused else None
        first = self.answers[refused][-1] if refused else None
        return Limit(most, refused, self.cap, first, doubled, self._flaky())

    def _edge(self, tries: int) -> tuple[int | None, int | None]:
        """The largest size that is accepted and the smallest one that is not, as far as is known."""
        most, size = None, self.smallest
        while self._accepts(size, tries):
            most = size
            if size == self.cap:
                return most, None
            size = min(self.cap, 2 * size)
        refused = size
        while most is not None and refused - most > 1:
            middle = (most + refused) // 2
            if self._accepts(middle, tries):
                most = middle
            else:
                refused = middle
        return most, refused

    def _accepts(self, size: int, tries: int) -> bool:
        """Whether a size is accepted, by the majority of so many answers."""
        while len(self.answers.get(size, ())) < tries:
            self._answer(size)
        counts = Counter(answer.outcome == "accepted" for answer in self.answers[size])
        return counts[True] > counts[False]

    def _answer(self, size: int) -> Answer:
        answer = self.ask(size)
        self.answers.setdefault(size, []).append(answer)
        return answer

    def _is_steady(self, size: int) -> bool:
        """Whether a size gets the same answer each time."""
        while len(self.answers[size]) < TRIES:
            self._answer(size)
        return len({answer.outcome for answer in self.answers[size]}) == 1

    def _flaky(self) -> dict[int, dict[Outcome, int]]:
        counts = {size: Counter(answer.outcome for answer in answers) for size, answers in sorted(self.answers.items())}
        return {size: dict(count) for size, count in counts.items() if len(count) > 1}
