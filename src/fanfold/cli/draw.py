"""What the command line shows: progress on stderr, results on stdout, each as text for people or JSON for scripts."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Literal

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fanfold.cli.streams import PIPE_WIDTH, spinner
from fanfold.cli.streams import err as err
from fanfold.cli.streams import out as out
from fanfold.cli.streams import put_json as put_json
from fanfold.job import is_passing
from fanfold.pace import shares
from fanfold.planner import Tally
from fanfold.repair import Repaired
from fanfold.report import Report


def error(message: str) -> None:
    """Say what went wrong, on stderr."""
    err.print(Text("fanfold: ", style="bold red") + Text(harmless(message)), soft_wrap=True)


def note(message: str) -> None:
    """Say something worth knowing, on stderr."""
    err.print(harmless(message), soft_wrap=True)


class Speed:
    """Items per second over the last half minute."""

    def __init__(self, window: float = 30.0) -> None:
        self.window = window
        self.seen: deque[tuple[float, int]] = deque()
        self.most = 0

    def update(self, now: float, done: int) -> float:
        """The rate, given that `done` items were done at second `now`: never negative, whatever is done again."""
        done = self.most = max(self.most, done)
        if not self.seen and not done:
            return 0.0  # set-up is not part of the rate
        self.seen.append((now, done))
        while len(self.seen) > 2 and now - self.seen[0][0] > self.window:
            self.seen.popleft()
        seconds = now - self.seen[0][0]
        return (done - self.seen[0][1]) / seconds if seconds > 0 else 0.0


def progress_line(tally: Tally, rate: float) -> str:
    """How far a run is, in words."""
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
        parts.append(f"{old:,} as before" + (", still listing" if tally.listing else ""))
    if held_back := _held_back(tally.shares):
        parts.append(held_back)
    if tally.note:
        parts.append(tally.note)
    return ", ".join(parts)


def _held_back(shares: Mapping[str, float]) -> str:
    """The stage that most of the time goes into, if there is one."""
    return next((f"mostly {stage} {share:.0%}" for stage, share in shares.items() if share > 0.5), "")


@contextmanager
def progress(tally: Tally) -> Iterator[None]:
    """Show how far a run is while the block runs: a bar on a terminal, now and then a line elsewhere."""
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
    """A line a second at first, so that one sees it work; ever fewer later, so that logs stay short."""
    speed, began, pause, last = Speed(), time.monotonic(), 1.0, ""
    while not stop.wait(pause):
        line = progress_line(tally, speed.update(time.monotonic(), tally.ended))
        if line != last:
            err.print(line, soft_wrap=True)
            last = line
        pause = 1.0 if time.monotonic() - began < 10 else 10.0


@contextmanager
def share(what: str) -> Iterator[Callable[[float], None]]:
    """Show the share done that the block tells: a bar on a terminal, elsewhere a line every ten seconds."""
    began = last = time.monotonic()

    def line(done: float) -> str:
        left = (time.monotonic() - began) * (1 - done) / max(done, 1e-9)
        return f"{what}: {done:.0%}" + (f", {timedelta(seconds=round(left))} left" if done > 0.02 else "")

    def told(done: float) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            err.print(line(done), soft_wrap=True)

    if not err.is_terminal:
        yield told
        return
    columns = (spinner(), BarColumn(bar_width=30), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, description=line(done), completed=done)


def report(told: Report, ended: str, as_json: bool) -> None:
    """Where every item went."""
    if as_json:
        put_json(told.to_json() | {"ended": ended})
        return
    out.print(f"Run {told.run}: {_how(told, ended)}", soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    rows = [
        (told.listed, "listed"),
        (told.unchanged, "unchanged: in the table before, at this version"),
        (told.ok, _what_ok_means(told)),
        (told.failed, _what_failed_means(told)),
        (told.lost, _what_lost_means(told, ended)),
    ]
    for count, meaning in rows:
        table.add_row(f"{count:,}", Text(meaning))
    out.print(table)
    for why, items in told.reasons.items():
        out.print(f"Lost, {items:,}: {harmless(why)}", soft_wrap=True)
    if told.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(told.left_out.items()))
        out.print(f"Left out of the listing: {reasons}.", soft_wrap=True)
    if where := ", ".join(f"{stage} {share:.0%}" for stage, share in shares(told.stages).items() if share >= 0.005):
        out.print(f"Where the workers' time went: {where}.", soft_wrap=True)
    if told.database:
        out.print(f"Database: {told.database}", soft_wrap=True)
    _mirrors(told.mirror)


def _what_ok_means(told: Report) -> str:
    speed = f", {told.items_per_second:,.1f}/s" if told.ok and told.seconds else ""
    return f"ok: put into table '{told.table}' in {duration(told.seconds)}{speed}"


def _what_failed_means(told: Report) -> str:
    """What became of the items that failed, and what tries them again."""
    if not told.failed:
        return "failed"
    lasting = told.failed - told.unread
    again = [
        *([f"the next run reads {told.unread:,} of them again"] if told.unread and lasting else []),
        *(["the next run reads them again"] if told.unread and not lasting else []),
        *(["`--retry-failed` tries all again"] if lasting else []),
    ]
    return f"failed: each with its reason in `fanfold failures`; {'; '.join(again)}"


def _what_lost_means(told: Report, ended: str) -> str:
    if ended == "running":
        return "to do"
    return "lost: in no table; run again to do them" if told.lost else "lost"


def _mirrors(told: Mapping[str, Mapping[str, Any]]) -> None:
    """What it took to keep the mirrors in step, and what they could not hold."""
    for address, counts in told.items():
        took = ", ".join(f"{n:,g} {name.replace('_', ' ')}" for name, n in counts.items() if name != "refused")
        out.print(f"Mirror {address}: {took}", soft_wrap=True)
        for key, why in counts["refused"].items():
            out.print(f"  refused {printable(key)}: {why}", soft_wrap=True)


def mirrored(told: Mapping[str, Mapping[str, Any]], rows: int, as_json: bool) -> None:
    """What it took to bring a mirror in step with a whole table."""
    if as_json:
        put_json({"rows": rows, "mirrors": told})
        return
    out.print(f"{rows:,} rows compared.")
    _mirrors(told)


def _how(told: Report, ended: str) -> str:
    if ended == "running":
        return "under way; so far"
    if ended == "cancelled":
        return "was cancelled; what it had done is kept"
    if ended == "interrupted":
        return "was interrupted; what it had done is kept, and the next run goes on"
    if not told.listed:
        return "nothing was listed, so there was nothing to do"
    return "some items are lost" if told.lost else "finished with failed items" if told.failed else "all done"


def runs(told: Iterable[tuple[Report, str]], as_json: bool) -> None:
    """A line a run."""
    if as_json:
        for report, ended in told:
            put_json(report.to_json() | {"ended": ended})
        return
    rows = []
    for report, ended in told:
        counts = (report.listed, report.unchanged, report.ok, report.failed, report.lost)
        rows.append([report.run, report.table, ended, *(f"{count:,}" for count in counts), duration(report.seconds)])
    heads = ("run", "table", "ended", "listed", "unchanged", "ok", "failed", "lost", "time")
    _fitted(heads, rows, numbers=range(3, 9), spare=("unchanged", "time", "listed"))


def _fitted(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int], spare: Sequence[str]
) -> None:
    """A table; on a terminal that is too narrow for it without the `spare` columns, of which the first go first."""
    shown, wide = list(heads), out.options.update(width=PIPE_WIDTH)
    dropped = iter(spare)
    while (table := _table(heads, rows, numbers, shown)).__rich_measure__(out, wide).maximum > out.width:
        if (head := next(dropped, None)) is None:
            break
        shown.remove(head)
    out.print(table)
    if len(shown) < len(heads):
        note(f"No room for {', '.join(head for head in heads if head not in shown)}: see --json.")


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int], shown: Sequence[str]
) -> Table:
    """A table of the columns shown; the first one is to be copied, so it is never cut short."""
    places = [heads.index(head) for head in shown]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place in places:
        justify: Literal["left", "right"] = "right" if place in numbers else "left"
        table.add_column(heads[place], justify=justify, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[place]) for place in places))
    return table


_GONE = {True: " [gone from its source]", None: " [its source cannot be listed now]", False: ""}


def failures(rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A line a failed item."""
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
        err.print(_of_failures(counts), soft_wrap=True)


def _of_failures(counts: Mapping[str, int]) -> str:
    """How many there are, and what tries them again."""
    if not counts["failed"]:
        return "No failures."
    said = [f"{counts['failed']:,} failed."]
    if counts["gone"]:
        said.append(f"Gone from their source: {counts['gone']:,}. No run tries those again.")
    if counts["unseen"]:
        said.append(f"Not known, as their source cannot be listed now: {counts['unseen']:,}.")
    if counts["unread"]:
        said.append(f"The next run reads {counts['unread']:,} of them again.")
    if counts["failed"] > counts["unread"]:
        said.append("`--retry-failed` tries all again.")
    return " ".join(said)


def repaired(told: Mapping[str, Repaired], as_json: bool) -> None:
    """What `repair` took out, a line a table."""
    if as_json:
        put_json({name: asdict(done) for name, done in told.items()})
        return
    for name, done in told.items():
        parts = [f"{done.versions:,} damaged versions set aside"] if done.versions else []
        parts += [f"{done.fragments:,} damaged fragments taken out, with {done.rows:,} rows"] if done.fragments else []
        parts += [f"{done.indexes:,} damaged indexes dropped"] if done.indexes else []
        out.print(f"{name}: {' and '.join(parts) or 'nothing is damaged'}.", soft_wrap=True)
    if any(done.versions or done.fragments for done in told.values()):  # an index is made by the next search
        out.print("The next run does their items again.")


def optimized(told: Mapping[str, Mapping[str, int]], as_json: bool) -> None:
    """What `optimize` did, a line a table."""
    if as_json:
        put_json(told)
        return
    for name, counts in told.items():
        out.print(
            f"{name}: {counts['fragments_before']:,} fragments are now {counts['fragments']:,}; "
            f"{counts['old_versions']:,} old versions and {size(counts['bytes_removed'])} removed.",
            soft_wrap=True,
        )


def printable(key: str) -> str:
    """A key as it is, or quoted with escapes if it would disturb a terminal or a line-by-line reader."""
    return key if key.isprintable() else repr(key)


def harmless(message: str) -> str:
    """A message without what would move the cursor or change colours: file names may hold anything."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)


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


def hits(found: Iterable[Any], as_json: bool) -> None:
    """Neighbours, nearest first."""
    table = Table("", "cosine", "key", box=None)
    table.columns[0].justify = table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for rank, hit in enumerate(found, 1):
        if as_json:
            put_json(asdict(hit))
        table.add_row(str(rank), f"{hit.cosine:.4f}", Text(printable(hit.key)))
    if not as_json:
        out.print(table)


def indexing(what: str, needs: Any, hint: str) -> None:
    """What is about to be done to an index, and what it takes."""
    doing = "Making an index of" if what == "build" else "Putting into the index"
    takes = f"about {duration(needs.seconds)}, up to {size(needs.memory)} of memory"
    note(f"{doing} {needs.rows:,} vectors: {takes} ({hint}).")


def indexed(index: Any, as_json: bool) -> None:
    """The index of a table."""
    if as_json:
        put_json(asdict(index))
    else:
        inside = f"{index.rows - index.unindexed:,} of {index.rows:,} rows"
        out.print(f"{index.name} ({index.kind}): {inside}, {size(index.bytes)}", soft_wrap=True)


def groups(found: Iterable[Any], as_json: bool) -> None:
    """Groups of near-duplicates, a blank line between."""
    count = 0
    for group in found:
        count += 1
        if as_json:
            put_json(asdict(group))
            continue
        out.print(f"{len(group.keys)} pictures, cosines from {group.least:.4f}")
        for key in group.keys:
            out.print(f"  {printable(key)}", soft_wrap=True)
    if not as_json:
        err.print(f"{count:,} group{'' if count == 1 else 's'}.")


def vectors(keys: Iterable[str], matrix: Any, as_json: bool) -> None:
    """A line a vector."""
    for key, vector in zip(keys, matrix, strict=True):
        if as_json:
            put_json({"key": key, "vector": [round(float(x), 7) for x in vector]})
        else:
            shown = " ".join(f"{x:.4f}" for x in vector[:6])
            out.print(
                f"{printable(key)}: {shown} ... ({len(vector)} numbers; --json or --npy gives all)", soft_wrap=True
            )


def models(known: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A line a model."""
    if as_json:
        for model in known:
            put_json(model)
        return
    rows = []
    for model in known:
        fetched = size(model["download_bytes"]) if model["download_bytes"] else "none needed"
        rows.append([model["name"], str(model["dimension"]), model["licence"], fetched, model["source"]])
    _fitted(("model", "dimension", "licence", "download", "from"), rows, numbers=(1, 3), spare=("from",))
