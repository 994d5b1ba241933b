"""What the command line shows: results on stdout, each as text for people or JSON for scripts; errors on stderr."""

import signal
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from fanfold.cli.progress import fraction as fraction
from fanfold.cli.progress import progress as progress
from fanfold.cli.streams import PIPE_WIDTH
from fanfold.cli.streams import err as err
from fanfold.cli.streams import out as out
from fanfold.cli.streams import put_json as put_json
from fanfold.core.progress import proportions
from fanfold.core.repair import Repaired
from fanfold.core.report import Report
from fanfold.job import is_passing


def error(message: str) -> None:
    """Print an error on stderr."""
    err.print(Text("fanfold: ", style="bold red") + Text(harmless(message)), soft_wrap=True)


def note(message: str) -> None:
    """Print a remark on stderr."""
    err.print(harmless(message), soft_wrap=True)


@contextmanager
def leaving_nothing(left: str = "Nothing was written.") -> Iterator[None]:
    """When the block is interrupted, report what it has left."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        error(f"Stopped. {left}")
        sys.exit(128 + (interrupt.args or (signal.SIGINT,))[0])


def report(counts: Report, ended: str, as_json: bool) -> None:
    """Show what happened to every item."""
    if as_json:
        put_json(counts.to_json() | {"ended": ended})
        return
    out.print(f"Run {counts.run}: {_how(counts, ended)}", soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    rows = [
        (counts.listed, "listed"),
        (counts.unchanged, "unchanged: already in the table at this version"),
        (counts.ok, _what_ok_means(counts)),
        (counts.failed, _what_failed_means(counts)),
        (counts.lost, _what_lost_means(counts, ended)),
    ]
    for count, meaning in rows:
        table.add_row(f"{count:,}", Text(meaning))
    out.print(table)
    for why, items in counts.reasons.items():
        out.print(f"{items:,} lost: {harmless(why)}", soft_wrap=True)
    if counts.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.left_out.items()))
        out.print(f"Left out of the listing: {reasons}.", soft_wrap=True)
    if shares := ", ".join(
        f"{stage} {share:.0%}" for stage, share in proportions(counts.stages).items() if share >= 0.005
    ):
        out.print(f"Time of the workers: {shares}.", soft_wrap=True)
    if counts.database:
        out.print(f"Database: {counts.database}", soft_wrap=True)
    _mirrors(counts.mirror)


def _what_ok_means(counts: Report) -> str:
    speed = f", {counts.items_per_second:,.1f}/s" if counts.ok and counts.seconds else ""
    return f"ok: added to table '{counts.table}' in {duration(counts.seconds)}{speed}"


def _what_failed_means(counts: Report) -> str:
    """How to see the reasons of failed items, and how to retry them."""
    if not counts.failed:
        return "failed"
    lasting = counts.failed - counts.unread
    again = [
        *([f"the next run retries {counts.unread:,} of them"] if counts.unread and lasting else []),
        *(["the next run retries them"] if counts.unread and not lasting else []),
        *(["`--retry-failed` retries all of them"] if lasting else []),
    ]
    return f"failed: `fanfold failures` lists the reasons; {'; '.join(again)}"


def _what_lost_means(counts: Report, ended: str) -> str:
    if ended == "running":
        return "to do"
    return "lost: not in any table; run again to process them" if counts.lost else "lost"


def _mirrors(mirrors: Mapping[str, Mapping[str, Any]]) -> None:
    """Show what the mirrors consumed, and the rows that they refused."""
    for address, counts in mirrors.items():
        took = ", ".join(f"{n:,g} {name.replace('_', ' ')}" for name, n in counts.items() if name != "refused")
        out.print(f"Mirror {address}: {took}", soft_wrap=True)
        for key, why in counts["refused"].items():
            out.print(f"  refused {printable(key)}: {why}", soft_wrap=True)


def mirrored(mirrors: Mapping[str, Mapping[str, Any]], rows: int, as_json: bool) -> None:
    """Show what it took to bring a mirror in sync with a whole table."""
    if as_json:
        put_json({"rows": rows, "mirrors": mirrors})
        return
    out.print(f"{rows:,} rows compared.")
    _mirrors(mirrors)


def _how(counts: Report, ended: str) -> str:
    if ended == "running":
        return "still running"
    if ended == "cancelled":
        return "cancelled; finished work is kept"
    if ended == "interrupted":
        return "interrupted; finished work is kept, and the next run continues from there"
    if not counts.listed:
        return "the source has no items, so there was nothing to do"
    return "some items are lost" if counts.lost else "finished with failed items" if counts.failed else "all done"


def runs(found: Iterable[tuple[Report, str]], as_json: bool) -> None:
    """A line per run."""
    if as_json:
        for report, ended in found:
            put_json(report.to_json() | {"ended": ended})
        return
    rows = []
    for report, ended in found:
        counts = (report.listed, report.unchanged, report.ok, report.failed, report.lost)
        rows.append([report.run, report.table, ended, *(f"{count:,}" for count in counts), duration(report.seconds)])
    heads = ("run", "table", "ended", "listed", "unchanged", "ok", "failed", "lost", "time")
    fitted(heads, rows, numbers=range(3, 9), spare=("unchanged", "time", "listed"))


def fitted(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int], spare: Sequence[str]
) -> None:
    """A table. On a terminal that is too narrow, `spare` columns are dropped in their order."""
    shown, wide = list(heads), out.options.update(width=PIPE_WIDTH)
    dropped = iter(spare)
    while (table := _table(heads, rows, numbers, shown)).__rich_measure__(out, wide).maximum > out.width:
        if (head := next(dropped, None)) is None:
            break
        shown.remove(head)
    out.print(table)
    if len(shown) < len(heads):
        note(f"No room for {', '.join(head for head in heads if head not in shown)}. --json has all columns.")


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int], shown: Sequence[str]
) -> Table:
    """A table of the columns shown. The first one is never cut short, so that it can be copied."""
    columns = [heads.index(head) for head in shown]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        table.add_column(heads[column], justify=justify, no_wrap=column == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[column]) for column in columns))
    return table


_GONE = {True: " [gone from its source]", None: " [its source cannot be listed now]", False: ""}


def failures(rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A line per failed item."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts["failed"] += 1
        counts["unread"] += is_passing(row["stage"], row["error"])
        counts["gone"] += row.get("gone") is True
        counts["unseen"] += row.get("gone", "") is None
        if as_json:
            put_json(row)
        else:
            why = f"{row['stage']}: {harmless(row['message'])} ({row['error']})"
            out.print(f"{printable(row['key'])}: {why}{_GONE[row.get('gone', False)]}", soft_wrap=True)
    if not as_json:
        err.print(_summary(counts), soft_wrap=True)


def _summary(counts: Mapping[str, int]) -> str:
    """The number of failures, and how to retry them."""
    if not counts["failed"]:
        return "No failures."
    sentences = [f"{counts['failed']:,} failed."]
    if counts["gone"]:
        sentences.append(f"Gone from their source: {counts['gone']:,}. Runs do not retry those.")
    if counts["unseen"]:
        sentences.append(f"Unknown, because their source cannot be listed now: {counts['unseen']:,}.")
    if counts["unread"]:
        sentences.append(f"The next run retries {counts['unread']:,} of them.")
    if counts["failed"] > counts["unread"]:
        sentences.append("`--retry-failed` retries all of them.")
    return " ".join(sentences)


def repaired(tables: Mapping[str, Repaired], as_json: bool) -> None:
    """What `repair` removed, a line per table."""
    if as_json:
        put_json({name: asdict(done) for name, done in tables.items()})
        return
    for name, done in tables.items():
        parts = [f"{done.versions:,} damaged versions set aside"] if done.versions else []
        parts += [f"{done.fragments:,} damaged fragments with {done.rows:,} rows removed"] if done.fragments else []
        parts += [f"{done.indexes:,} damaged indexes dropped"] if done.indexes else []
        out.print(f"{name}: {', '.join(parts) or 'nothing is damaged'}.", soft_wrap=True)
    if any(done.versions or done.fragments for done in tables.values()):  # the next search makes an index again
        out.print("The next run does their items again.")


def optimized(tables: Mapping[str, Mapping[str, int]], as_json: bool) -> None:
    """What `optimize` did, a line per table."""
    if as_json:
        put_json(tables)
        return
    for name, counts in tables.items():
        out.print(
            f"{name}: {counts['fragments_before']:,} fragments merged into {counts['fragments']:,}; "
            f"{counts['old_versions']:,} old versions and {size(counts['bytes_removed'])} removed.",
            soft_wrap=True,
        )


def folded(made: Mapping[str, int], as_json: bool) -> None:
    """The derived tables that `fold` has made, a line per table."""
    if as_json:
        put_json(made)
        return
    for name, rows in made.items():
        out.print(f"{name}: {rows:,} rows", soft_wrap=True)
    if not made:
        out.print("The job of this table has no derived tables.")


def printable(key: str) -> str:
    """A key as it is, or quoted with escapes if it would disturb a terminal or a program that reads lines."""
    return key if key.isprintable() else repr(key)


def harmless(message: str) -> str:
    """A message without characters that move the cursor or change colours: file names may have any."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)


def line(text: str) -> None:
    """Print a text that may have names of schemes, clients or files in it: nothing in it is markup, or wrapped."""
    out.print(Text(harmless(text)), soft_wrap=True)


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:.1f} s" if seconds < 90 else str(timedelta(seconds=round(seconds)))
