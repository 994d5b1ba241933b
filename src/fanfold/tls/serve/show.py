"""What `fanfold tls serve` shows: where it serves, counts while it does, and counts at its end."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import Progress, TextColumn

from fanfold.cli import show
from fanfold.cli.streams import spinner
from fanfold.tls.serve.names import Names

say = show.note
"""A sentence for the operator."""


def started(names: Names, port: int, authority: str | None, as_json: bool) -> None:
    """Where to go with a browser."""
    address = f"https://{names.page}{'' if port == 443 else f':{port}'}/"
    if as_json:
        found = {"page": address, "control": names.control, "live": names.live, "max": names.most, "port": port}
        show.put_json(found | {"ca": authority})
        return
    if authority:
        show.line(f"CA: {authority}")
    show.line(f"Page: {address}")
    show.note("Ctrl-C ends it.")


def ended(counts: Mapping[str, int], store: str, as_json: bool) -> None:
    """All counts, when it has ended."""
    if as_json:
        show.put_json({"counts": counts})
        return
    for name, count in counts.items():
        show.line(f"{count:>10,}  {name}")
    show.note(f"To see what the handshakes show: fanfold tls analyze {store}")


def line(counts: Mapping[str, int], held: int) -> str:
    """The counts in a line, without those that are 0."""

    def total(start: str) -> int:
        return sum(count for name, count in counts.items() if name.startswith(start))

    parts = [
        (total("connections"), "connected"),
        (held, "open"),
        (total("issued"), "issued"),
        (total("stored: control"), "control stored"),
        (total("stored: live"), "live stored"),
        (total("replayed"), "replayed"),
        (total("refused"), "refused"),
        (total("over"), "over a limit"),
        (total("ended"), "ended early"),
        (total("not stored"), "not stored"),
    ]
    return ", ".join(f"{count:,} {what}" for count, what in parts if count) or "no connections yet"


@contextmanager
def progress(now: Callable[[], str]) -> Iterator[None]:
    """Show a line while the block runs: in place on a terminal, elsewhere every few seconds if it has changed."""
    over = threading.Event()
    shower = threading.Thread(target=_in_place if show.err.is_terminal else _lines, args=(now, over), daemon=True)
    shower.start()
    try:
        yield
    finally:
        over.set()
        shower.join(timeout=5)


def _in_place(now: Callable[[], str], over: threading.Event) -> None:
    columns = (spinner(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=show.err, transient=True) as shown:
        task = shown.add_task(now(), total=None)
        while not over.wait(0.5):
            shown.update(task, description=now())


def _lines(now: Callable[[], str], over: threading.Event) -> None:
    began, pause, last = time.monotonic(), 1.0, ""
    while not over.wait(pause):
        if (text := now()) != last:
            show.err.print(text, soft_wrap=True)
            last = text
        pause = 1.0 if time.monotonic() - began < 10 else 10.0
