"""The feed: tasks on their way from whoever plans them to whoever performs them, and back for another try."""

import threading
from collections import deque

from fanfold.runs import Task


class Feed:
    """The tasks still to be handed out: the lister adds, executors take, failed ones come back."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._open = 0  # tasks added and not settled
        self._more = True  # whether the lister may add
        self._changed = threading.Condition()

    def add(self, task: Task) -> None:
        """Add a task to do."""
        with self._changed:
            self._tasks.append(task)
            self._open += 1
            self._changed.notify_all()

    def task_done(self) -> None:
        """Say that one of the tasks handed out needs nothing more."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Say that the lister adds no more."""
        with self._changed:
            self._more = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Hand out no more."""
        with self._changed:
            self._tasks.clear()
            self._open, self._more = 0, False
            self._changed.notify_all()

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> Task:
        """Wait for a task; there are none left when all are settled and the lister has ended."""
        with self._changed:
            while not self._tasks:
                if not self._more and self._open <= 0:
                    raise StopIteration
                self._changed.wait()
            return self._tasks.popleft()
