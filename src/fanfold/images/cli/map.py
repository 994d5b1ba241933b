"""`fanfold images map`: a place on a plane for every picture of a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import lance
import pyarrow as pa
from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.images.cli import formats, show
from fanfold.images.cli.tables import Table, opened
from fanfold.images.maps.placing import Places

_WRITTEN = 16_384  # rows at a time


def map_(
    database: Database,
    /,
    *,
    rebuild: Annotated[bool, Parameter(negative="", help="Make the map again: places change.")] = False,
    out: Annotated[Path | None, Parameter(help="A .parquet file to write key, uri, x and y to.")] = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Give every picture a place on a plane, near pictures that look alike. Run it again to place new pictures.

    For example: `fanfold images map db --out map.parquet`
    """
    if out and out.suffix.lower() != ".parquet":
        raise UsageError(f"--out takes a file that ends in .parquet, but {out} does not.")
    from fanfold.images import maps

    dataset = opened(database, table)
    due = maps.due(dataset)
    what = "make again" if rebuild and due != "make" else due
    needs = maps.needs(dataset, what) if what else None
    if what and needs:
        shown.note(f"{_doing(what, needs.rows, rebuild)}: {show.cost(needs)}.")
    with shown.fraction("mapping") as progress:
        made = maps.build(dataset, progress, rebuild=rebuild)
    if json:
        counts = {"rows": len(made.places), "placed": needs.rows if needs else 0, "landmarks": made.landmarks}
        shown.put_json(counts | {"did": what or "nothing"})
    else:
        rows = len(made.places)
        shown.out.print(f"{rows:,} {'picture is' if rows == 1 else 'pictures are'} on the map.", soft_wrap=True)
    if out:
        schema = pa.schema([*map(dataset.schema.field, ("key", "uri")), ("x", pa.uint16()), ("y", pa.uint16())])
        formats.write(out, schema, len(made.places), _batches(dataset, made.places, schema))
        if not json:
            shown.out.print(f"{shown.harmless(str(out))}: key, uri, x, y", soft_wrap=True)
    return 0


def _doing(what: str, rows: int, rebuild: bool) -> str:
    if what == "place":
        return f"Placing {rows:,} new {'picture' if rows == 1 else 'pictures'}, and moving none"
    if what == "make again" and not rebuild:
        return f"The table has at least doubled, so the map of its {rows:,} pictures is made again, and places change"
    return f"Making a map of {rows:,} {'picture' if rows == 1 else 'pictures'}"


def _batches(dataset: lance.LanceDataset, places: Places, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Keys and places, some thousands at a time."""
    at = 0
    with reading(dataset.uri):
        for batch in dataset.to_batches(["key", "uri"], batch_size=_WRITTEN, scan_in_order=True):
            some = places[at : at + len(batch)]
            yield pa.RecordBatch.from_arrays([batch["key"], batch["uri"], *map(pa.array, some.T)], schema=schema)
            at += len(batch)
