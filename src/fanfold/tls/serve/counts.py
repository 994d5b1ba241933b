"""What a server has done, in numbers."""

import threading
from collections import Counter
from collections.abc import Mapping


class Counts:
    """Counts by name, from many threads."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += count

    def now(self) -> Mapping[str, int]:
        """All counts, the largest first."""
        with self._lock:
            return dict(self._counts.most_common())
