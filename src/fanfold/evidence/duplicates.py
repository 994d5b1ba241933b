"""Finds records that are on a disk more than once: in several shadow copies, or in a log and in free space."""

from collections.abc import Sequence
from typing import Any, Literal

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def copies(table: lance.LanceDataset, done: Any, recovered: str) -> pa.Table:
    """The unit and the offset of all but the best one of each record.

    Args:
        table: The records.
        done: The units that count, as `named` names them.
        recovered: A condition that records meet which are not of a log that is there.
    """
    twice = _twice(table, recovered)
    live = _with_digests(table, "origin = 'live'", twice, ["image", "digest", "key", "version"])
    live = live.filter(pc.is_in(named(live), done))
    columns = ["image", "digest", "origin", "volume", "chunk_ok", "key", "version", "offset"]
    rows = _with_digests(table, recovered, twice, columns)
    rows = rows.filter(pc.is_in(named(rows), done))
    number: Any = pc.struct_field(pc.extract_regex(rows["volume"], r"@vss(?P<number>\d+)$"), "number")
    rows = rows.append_column("copy", pc.cast(number, pa.int64()))
    # Of a whole chunk before one that is not; of a shadow copy, the newest before the others, before what was deleted,
    # and that before what was carved.
    order: list[tuple[str, Literal["ascending", "descending"]]] = [
        ("chunk_ok", "descending"),
        ("origin", "descending"),
        ("copy", "descending"),
        ("key", "ascending"),
        ("offset", "ascending"),
    ]
    rows = rows.sort_by(order)
    rows = rows.append_column("row", pa.array(range(len(rows)), pa.int64()))
    first = rows.group_by(["image", "digest"]).aggregate([("row", "min")])["row_min"]
    is_live = pc.is_in(_of_image(rows), _of_image(live))
    others: pa.Table = rows.filter(pc.or_(is_live, pc.invert(pc.is_in(rows["row"], first))))
    return others.select(["key", "offset"])


def _twice(table: lance.LanceDataset, recovered: str) -> Any:
    """The digests of recovered records that other rows have, too. Digests alone take little memory."""
    digests = np.sort(table.to_table(["digest"], filter=recovered)["digest"].to_numpy())
    found = [digests[1:][digests[1:] == digests[:-1]]]
    for batch in table.to_batches(["digest"], filter="origin = 'live'"):
        of_logs = batch["digest"].to_numpy()
        at = np.minimum(np.searchsorted(digests, of_logs), len(digests) - 1)
        found.append(of_logs[digests[at] == of_logs] if len(digests) else digests)
    return pa.array(np.unique(np.concatenate(found)))


def _with_digests(table: lance.LanceDataset, where: str, digests: Any, columns: Sequence[str]) -> pa.Table:
    """The records that meet a condition and have one of these digests."""
    schema = pa.schema([table.schema.field(name) for name in columns])
    if not len(digests):
        return schema.empty_table()
    batches = table.to_batches([*columns], filter=where)
    found = (batch.filter(pc.is_in(batch["digest"], digests)) for batch in batches)
    return pa.Table.from_batches((batch for batch in found if len(batch)), schema)


def _of_image(rows: pa.Table) -> Any:
    """The disk and the digest of each record, as one text."""
    join: Any = pc.binary_join_element_wise
    return join(rows["image"], pc.cast(rows["digest"], pa.string()), "\0").combine_chunks()


def located(rows: "pa.Table | pa.RecordBatch") -> Any:
    """Where each record lies, as one text."""
    join: Any = pc.binary_join_element_wise
    return join(rows["key"], pc.cast(rows["offset"], pa.string()), "\0")


def named(rows: "pa.Table | pa.RecordBatch", key: str = "key") -> Any:
    """The unit or container that each row names: its key and its version, as one text."""
    join: Any = pc.binary_join_element_wise  # its stubs know no scalar as the separator
    return join(rows[key], rows["version"], "\0")
