"""`fanfold images export`: rows of a table, for other programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import lance
import pyarrow as pa
from cyclopts import Parameter

from fanfold.cli import Database, Json
from fanfold.cli import show as shown
from fanfold.errors import UsageError
from fanfold.images import export as exporting
from fanfold.images.cli import formats
from fanfold.images.cli.columns import names_in
from fanfold.images.cli.search import Where
from fanfold.images.cli.tables import Table, opened
from fanfold.images.columns.table import with_columns
from fanfold.images.export import VECTOR


def export(
    database: Database,
    /,
    *,
    to: Annotated[Path, Parameter(help="The file to write: .parquet, .npy, .csv or .jsonl.")],
    columns: Annotated[
        str | None,
        Parameter(
            help="The columns, with commas between. By default all; in a .csv not the vector, with a .npy the key."
        ),
    ] = None,
    where: Where = None,
    table: Table = "images",
    json: Json = False,
) -> int:
    """Write rows to a file for other programs, in the order of their keys.

    A .npy file has only the vectors; the keys go to a file beside it, a line for each.

    For example: `fanfold images export db --to vectors.parquet`
    """
    kind = to.suffix.lower()
    if kind not in formats.FORMATS:
        raise UsageError(f"--to takes a file that ends in {', '.join(formats.FORMATS)}, but {to} does not.")
    dataset = with_columns(opened(database, table))
    chosen = _chosen(dataset, kind, columns)
    rows = exporting.rows_by_key(dataset, where)
    schema = pa.schema([dataset.schema.field(name) for name in chosen], metadata=dataset.schema.metadata)
    with shown.fraction("exporting") as progress:

        def watched() -> Iterator[pa.RecordBatch]:
            done = 0
            for batch in exporting.batches(dataset, rows, chosen):
                yield batch
                done += len(batch)
                progress(done / len(rows))

        written = formats.write(to, schema, len(rows), watched())
    _show(written, len(rows), chosen, json)
    return 0


def _chosen(dataset: lance.LanceDataset, kind: str, columns: str | None) -> list[str]:
    if columns is None:
        everything = list(dataset.schema.names)
        return ["key", VECTOR] if kind == ".npy" else [name for name in everything if (name, kind) != (VECTOR, ".csv")]
    chosen = names_in(columns)
    exporting.check_columns(dataset, chosen)
    return list(dict.fromkeys(["key", *chosen, VECTOR])) if kind == ".npy" else chosen


def _show(written: list[Path], rows: int, columns: list[str], as_json: bool) -> None:
    if as_json:
        shown.put_json({"files": [str(path) for path in written], "rows": rows, "columns": columns})
        return
    names = [shown.harmless(str(path)) for path in written]
    shown.out.print(f"{names[0]}: {rows:,} {'row' if rows == 1 else 'rows'}", soft_wrap=True)
    if len(names) > 1:
        shown.out.print(f"{names[1]}: their keys, a line for each", soft_wrap=True)
