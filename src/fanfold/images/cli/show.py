"""What the verbs of `images` show: neighbours, near-duplicates, vectors, the index, models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from fanfold.cli import show
from fanfold.images.columns.joined import removing


def hits(found: Iterable[Any], as_json: bool) -> None:
    """Neighbours, nearest first."""
    _ranked("cosine", found, as_json)


def text_hits(found: Iterable[Any], as_json: bool) -> None:
    """What a text finds, the highest score first."""
    _ranked("score", found, as_json)


def _ranked(by: str, found: Iterable[Any], as_json: bool) -> None:
    """Hits, the best first, with their attribute `by`."""
    table = Table("", by, "key", box=None)
    table.columns[0].justify = table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for rank, hit in enumerate(found, 1):
        if as_json:
            show.put_json(asdict(hit))
        table.add_row(str(rank), f"{getattr(hit, by):.4f}", Text(show.printable(hit.key)))
    if not as_json and table.rows:
        show.out.print(table)


def facets(counts: Sequence[tuple[str, int]], top: int, as_json: bool, without: int = 0) -> None:
    """How many pictures have each label, the most frequent first, and how many have none."""
    if as_json:
        for label, pictures in counts[:top]:
            show.put_json({"label": label, "pictures": pictures})
        return
    rows = [[f"{pictures:,}", show.printable(label)] for label, pictures in counts[:top]]
    if rows:
        show.fitted(("pictures", "label"), rows, numbers=(0,), spare=())
    pictures = sum(number for _, number in counts)
    left = f"; --top {len(counts)} shows all" if len(counts) > top else ""
    none = f", {without:,} {'has' if without == 1 else 'have'} none" if without else ""
    show.note(f"{pictures:,} pictures have {len(counts):,} different labels{none}{left}.")


def indexing(what: str, needs: Any, hint: str) -> None:
    """What is about to be done to an index, and its cost."""
    vectors = f"{needs.rows:,} vectors"
    doing = f"Building an index of {vectors}" if what == "build" else f"Adding {vectors} to the index"
    show.note(f"{doing}: {cost(needs)} ({hint}).")


def cost(needs: Any) -> str:
    """About how long something takes, and its memory."""
    return f"about {show.duration(max(1, needs.seconds))}, up to {show.size(needs.memory)} of memory"


def indexed(index: Any, as_json: bool) -> None:
    """The index of a table."""
    if as_json:
        show.put_json(asdict(index))
    else:
        inside = f"{index.rows - index.unindexed:,} of {index.rows:,} rows"
        show.out.print(f"{index.name} ({index.kind}): {inside}, {show.size(index.bytes)}", soft_wrap=True)


def groups(found: Iterable[Any], as_json: bool) -> None:
    """Groups of near-duplicates, and their number."""
    count = 0
    for group in found:
        count += 1
        if as_json:
            show.put_json(asdict(group))
            continue
        show.out.print(f"{len(group.keys)} pictures, lowest cosine {group.least:.4f}")
        for key in group.keys:
            show.out.print(f"  {show.printable(key)}", soft_wrap=True)
    if not as_json:
        show.err.print(f"{count:,} group{'' if count == 1 else 's'}.")


def vectors(keys: Iterable[str], matrix: Any, as_json: bool) -> None:
    """A line per vector."""
    for key, vector in zip(keys, matrix, strict=True):
        if as_json:
            show.put_json({"key": key, "vector": [round(float(x), 7) for x in vector]})
        else:
            shown = " ".join(f"{x:.4f}" for x in vector[:6])
            show.out.print(
                f"{show.printable(key)}: {shown} ... ({len(vector)} numbers; --json or --npy shows all)", soft_wrap=True
            )


def models(known: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    """A line per model."""
    if as_json:
        for model in known:
            show.put_json(model)
        return
    rows = []
    for model in known:
        sizes = model["download_bytes"], (model["text"] or {}).get("download_bytes", 0)
        fetched = [show.size(size) if size else "none" for size in sizes]
        rows.append([model["name"], str(model["dimension"]), model["licence"], *fetched, model["source"]])
    columns = ("model", "dimension", "licence", "download", "text encoder", "from")
    show.fitted(columns, rows, numbers=(1, 3, 4), spare=("from", "text encoder"))


def joining(done: Any, database: str, table: str, as_json: bool) -> None:
    """What was joined to a table, and what of the file was not."""
    if as_json:
        show.put_json(asdict(done))
        return
    names = ", ".join(show.printable(name) for name in done.joined.columns)
    show.out.print(
        f"{names}: joined to {done.matched:,} of {done.table_rows:,} rows of table '{table}'.", soft_wrap=True
    )
    if done.unknown:
        example = show.printable(done.example)
        have = "row of the file has a key that is" if done.unknown == 1 else "rows of the file have keys that are"
        show.note(f"{done.unknown:,} {have} not in the table, such as {example}.")
    for name, why in done.left_out.items():
        show.note(f"Left out: {show.printable(name)}: {why}.")
    show.note(f"Kept in {done.place}. Take it away with: {removing(database, table, done.joined.name)}")


def columns(found: Iterable[Mapping[str, str]], as_json: bool) -> None:
    """A line per column."""
    if as_json:
        for column in found:
            show.put_json(column)
        return
    rows = []
    for column in found:
        origin = column["from"] + (f" ({show.printable(column['file'])})" if "file" in column else "")
        rows.append([show.printable(column["column"]), column["kind"], origin])
    show.fitted(("column", "kind", "from"), rows, numbers=(), spare=())
