"""Answers that are asked for again: what was worked out of late."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

MOST = 8
"""Answers in memory."""


class Kept(Generic[Answer]):
    """The last answers, by name; each is worked out once, also if it is asked for twice at once."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._answers: OrderedDict[tuple[str, ...], Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[str, ...], make: Callable[[], Answer], *, again: bool = False) -> Answer:
        """The answer of this name; made, if it is not kept, or `again`. Raises what `make` raises."""
        with self._lock:
            if again or name not in self._answers:
                self._answers[name] = make()
            self._answers.move_to_end(name)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)
            return self._answers[name]

    def peek(self, name: tuple[str, ...]) -> Answer | None:
        """The answer of this name if it is there; without waiting for one that is being worked out."""
        return self._answers.get(name)
