"""How `fanfold plan` shows a preview: counts, the measured sample, time, and dollars."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.table import Table
from rich.text import Text

from fanfold.cli.draw import duration, error, out, put_json, size
from fanfold.estimate import Estimate, Preview


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Say, when the block is interrupted, that there is nothing to go on with."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        error("Stopped. Nothing was written.")
        sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])


def show_plan(told: Preview, as_json: bool, advice: Mapping[str, str]) -> None:
    """What a run would do; `advice` says by stage what to do about one that takes most of the time."""
    if as_json:
        put_json(told.to_json())
        return
    _counts(told)
    if not told.todo:
        out.print("There is nothing to do.")
        return
    out.print(f"{size(told.bytes)} to read; listing took {duration(told.listing_seconds)}.")
    if told.trouble:
        out.print(f"A task of the sample failed: {told.trouble}", soft_wrap=True)
    if told.estimate is None:
        out.print("There is no estimate: nothing of the sample could be done.")
        return
    _stages(told, told.estimate)
    _time(told.estimate, advice)
    _workers(told.estimate)
    _dollars(told.estimate)


def _counts(told: Preview) -> None:
    table = _grid()
    hint = " (`--retry-failed` tries them again)" if told.failed_before else ""
    for count, meaning in (
        (told.new, "new"),
        (told.changed, "changed"),
        (told.unchanged, "unchanged"),
        *([(told.unread, "could not be read before (tried again)")] if told.unread else []),
        (told.failed_before, "failed before, at this version" + hint),
        *((count, f"left out: {reason}") for reason, count in sorted(told.left_out.items())),
    ):
        table.add_row(f"{count:,}", Text(meaning))
    out.print(table)


def _stages(told: Preview, estimate: Estimate) -> None:
    failed = f"; {told.sample_failed:,} of them failed" if told.sample_failed else ""
    drawn = f"{told.sampled:,} of them" if told.sampled < told.todo else "all of them"
    out.print(f"\nMeasured on {drawn}, with {_count(told.workers, 'worker')}{failed}:")
    table = _grid("stage", "ms an item", "of the time", "alone, a worker")
    for stage in estimate.stages:
        alone = f"{stage.alone:,.0f}/s" if stage.alone else ""
        table.add_row(stage.name, f"{stage.seconds * 1000:,.1f}", f"{stage.share:.0%}", alone)
    out.print(table)


def _time(estimate: Estimate, advice: Mapping[str, str]) -> None:
    near = f"; within about {estimate.margin:.0%}, if the machine stays as busy as it is" if estimate.margin else ""
    rate = f"{estimate.items_per_second:,.1f}/s"
    out.print(f"\nHere it takes about {duration(estimate.seconds)} ({rate}){near}.", soft_wrap=True)
    most = estimate.stages[0]
    said = advice.get(most.name, "more workers")
    out.print(f"{most.name.capitalize()} takes {most.share:.0%} of a worker's time: {said}.", soft_wrap=True)


def _workers(estimate: Estimate) -> None:
    out.print("\nOn more workers like these, a processor each:")
    table = _grid("workers", "time", "items/s", "reading", "")
    for scaled in estimate.elsewhere:
        held = "held back by the listing" if scaled.limit else ""
        reading = f"{size(scaled.bytes_per_second)}/s"
        table.add_row(f"{scaled.workers:,}", duration(scaled.seconds), f"{scaled.items_per_second:,.1f}", reading, held)
    out.print(table)
    out.print("Assumed: source and database keep up, and the machines are there at once.")


def _dollars(estimate: Estimate) -> None:
    out.print(f"\nOn AWS Batch, in dollars ({estimate.prices}):")
    table = _grid("machines", "a million", "this run")
    for cost in estimate.aws:
        name = cost.name if cost.measured else f"{cost.name} *"
        table.add_row(name, _dollars_of(cost.per_million), _dollars_of(cost.this_run))
    out.print(table)
    if not all(cost.measured for cost in estimate.aws):
        out.print("* Assumed, not measured: their speed compared with here (see the price table).")


def _dollars_of(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.005 else "< 0.01"


def _grid(*heads: str) -> Table:
    """A table without lines: the first column to the left if it has a head, numbers to the right."""
    table = Table(*heads, box=None, show_header=bool(heads), padding=(0, 2), header_style="dim")
    if not heads:
        table.add_column(justify="right")
        table.add_column()
    for column in table.columns[1:] if heads else ():
        column.justify = "right"
    return table


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
