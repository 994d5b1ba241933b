"""How `fanfold plan` shows a preview: counts, the measured sample, time, and dollars."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from fanfold.cli.show import duration, out, put_json, size
from fanfold.estimate.preview import Estimate, Preview


def show_plan(preview: Preview, as_json: bool, advice: Mapping[str, str]) -> None:
    """Show what a run would do. `advice`: how to speed up a stage that takes most of the time, by stage."""
    if as_json:
        put_json(preview.to_json())
        return
    _counts(preview)
    if not preview.todo:
        out.print("There is nothing to do.")
        return
    out.print(f"{size(preview.bytes)} to read; listing took {duration(preview.listing_seconds)}.")
    if preview.trouble:
        out.print(f"A task of the sample failed: {preview.trouble}", soft_wrap=True)
    if preview.estimate is None:
        out.print("No estimate is possible: every item in the sample failed.")
        return
    _stages(preview, preview.estimate)
    _time(preview, preview.estimate, advice)
    _workers(preview.estimate)
    _dollars(preview.estimate)


def _counts(preview: Preview) -> None:
    table = _grid()
    hint = " (`--retry-failed` retries them)" if preview.failed_before else ""
    for count, meaning in (
        (preview.new, "new"),
        (preview.changed, "changed"),
        (preview.unchanged, "unchanged"),
        *([(preview.unread, "could not be read before (retried)")] if preview.unread else []),
        (preview.failed_before, "failed before, at this version" + hint),
        *((count, f"left out: {reason}") for reason, count in sorted(preview.left_out.items())),
    ):
        table.add_row(f"{count:,}", Text(meaning))
    out.print(table)


def _stages(preview: Preview, estimate: Estimate) -> None:
    if not preview.sampled:
        each = estimate.stages[0].seconds * 1000
        out.print(f"\nThe job can tell without a sample: {each:,.0f} ms per item on average.")
        return
    failed = f"; {preview.sample_failed:,} of them failed" if preview.sample_failed else ""
    sample = f"a sample of {preview.sampled:,}" if preview.sampled < preview.todo else f"all {preview.sampled:,}"
    out.print(f"\nMeasured on {sample}, with {_count(preview.workers, 'worker')}{failed}:")
    table = _grid("stage", "ms per item", "of the time", "alone, per worker")
    for stage in estimate.stages:
        alone = f"{stage.alone:,.0f}/s" if stage.alone else ""
        table.add_row(stage.name, f"{stage.seconds * 1000:,.1f}", f"{stage.share:.0%}", alone)
    out.print(table)


def _time(preview: Preview, estimate: Estimate, advice: Mapping[str, str]) -> None:
    near = f", give or take {estimate.margin:.0%} if the machine stays as busy as now" if estimate.margin else ""
    rate = f"{estimate.items_per_second:,.1f}/s"
    out.print(f"\nOn this machine the run takes about {duration(estimate.seconds)} ({rate}){near}.", soft_wrap=True)
    if not preview.sampled:
        return
    most = estimate.stages[0]
    faster = advice.get(most.name, "more workers")
    out.print(f"{most.name.capitalize()} takes {most.share:.0%} of a worker's time.")
    out.print(f"To speed it up, use {faster}.", soft_wrap=True)


def _workers(estimate: Estimate) -> None:
    out.print("\nWith more workers like these, each on its own processor:")
    table = _grid("workers", "time", "items/s", "reading", "")
    for scaled in estimate.elsewhere:
        limit = "limited by the listing" if scaled.limit else ""
        reading = f"{size(scaled.bytes_per_second)}/s"
        table.add_row(
            f"{scaled.workers:,}", duration(scaled.seconds), f"{scaled.items_per_second:,.1f}", reading, limit
        )
    out.print(table)
    out.print("This assumes that the source and the database keep up, and that all machines start at once.")


def _dollars(estimate: Estimate) -> None:
    out.print(f"\nOn AWS Batch, in dollars ({estimate.prices}):")
    table = _grid("machines", "per million", "this run")
    for cost in estimate.aws:
        name = cost.name if cost.measured else f"{cost.name} *"
        table.add_row(name, _dollars_of(cost.per_million), _dollars_of(cost.this_run))
    out.print(table)
    if not all(cost.measured for cost in estimate.aws):
        out.print("* The speed of these machines is assumed, not measured (see the price table).")


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
