"""The progress of a run, on stderr: a bar on a terminal, elsewhere a line every few seconds."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.progress import BarColumn, Progress, TextColumn

from fanfold.cli.streams import err, spinner
from fanfold.core.progress import Tally


class Speed:
    """Items per second over the last half minute."""

    def __init__(self, window: float = 30.0) -> None:
        self.window = window
        self.samples: deque[tuple[float, int]] = deque()
        self.most = 0

    def update(self, now: float, done: int) -> float:
        """The rate, given that `done` items were done at second `now`; never negative, even if items are repeated."""
        done = self.most = max(self.most, done)
        if not self.samples and not done:
            return 0.0  # set-up is not part of the rate
        self.samples.append((now, done))
        while len(self.samples) > 2 and now - self.samples[0][0] > self.window:
            self.samples.popleft()
        seconds = now - self.samples[0][0]
        return (done - self.samples[0][1]) / seconds if seconds > 0 else 0.0


def progress_line(tally: Tally, rate: float) -> str:
    """The progress of a run, in words."""
    ended = tally.ended
    more = "+" if tally.listing else ""
    parts = [f"{ended:,} of {tally.planned:,}{more} done"]  # the common case has to fit 80 columns, bar and all
    if rate:
        parts.append(f"{rate:,.1f}/s")
        if not tally.listing and ended < tally.planned:
            parts.append(f"{timedelta(seconds=round((tally.planned - ended) / rate))} left")
    if tally.unsuccessful:
        parts.append(f"{tally.unsuccessful:,} failed")
    if tally.lost:
        parts.append(f"{tally.lost:,} lost")
    if old := tally.listed - tally.planned:
        parts.append(f"{old:,} unchanged" + (", still listing" if tally.listing else ""))
    if bottleneck := _bottleneck(tally.proportions):
        parts.append(bottleneck)
    if tally.note:
        parts.append(tally.note)
    return ", ".join(parts)


def _bottleneck(shares: Mapping[str, float]) -> str:
    """The stage that takes more than half of the time, if there is one."""
    return next((f"mostly {stage} {share:.0%}" for stage, share in shares.items() if share > 0.5), "")


@contextmanager
def progress(tally: Tally) -> Iterator[None]:
    """Show the progress of a run while the block runs: a bar on a terminal, elsewhere a line every few seconds."""
    stop = threading.Event()
    show = _bar if err.is_terminal else _lines
    shower = threading.Thread(target=show, args=(tally, stop), daemon=True)
    shower.start()
    try:
        yield
    finally:
        stop.set()
        shower.join(timeout=5)


def _bar(tally: Tally, stop: threading.Event) -> None:
    speed = Speed()
    columns = (
        spinner(),
        BarColumn(bar_width=30 if err.width > 110 else 10),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        line = bar.add_task("starting workers", total=None)
        while not stop.wait(0.2):
            text = progress_line(tally, speed.update(time.monotonic(), tally.ended))
            bar.update(line, description=text, completed=speed.most, total=None if tally.listing else tally.planned)


def _lines(tally: Tally, stop: threading.Event) -> None:
    """A line every second at first, to show that it works; fewer later, so that logs stay short."""
    speed, began, pause, last = Speed(), time.monotonic(), 1.0, ""
    while not stop.wait(pause):
        line = progress_line(tally, speed.update(time.monotonic(), tally.ended))
        if line != last:
            err.print(line, soft_wrap=True)
            last = line
        pause = 1.0 if time.monotonic() - began < 10 else 10.0


@contextmanager
def fraction(what: str) -> Iterator[Callable[[float], None]]:
    """Show the fraction done that the block reports: a bar on a terminal, elsewhere a line every ten seconds."""
    began = last = time.monotonic()

    def line(done: float) -> str:
        left = (time.monotonic() - began) * (1 - done) / max(done, 1e-9)
        return f"{what}: {done:.0%}" + (f", {timedelta(seconds=round(left))} left" if done > 0.02 else "")

    def print_line(done: float) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            err.print(line(done), soft_wrap=True)

    if not err.is_terminal:
        yield print_line
        return
    columns = (spinner(), BarColumn(bar_width=30), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, description=line(done), completed=done)
