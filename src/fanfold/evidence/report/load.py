"""Reads a machine from the tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.errors import UsageError
from fanfold.evidence import coverage, tables
from fanfold.evidence.references import References
from fanfold.evidence.report.case import STEADY, Case
from fanfold.evidence.report.record import FORWARDED, ORIGINS, Record, record_of
from fanfold.evidence.units import quoted

_COLUMNS = (
    "path", "origin", "record_id", "offset", "chunk_ok", "damaged", "time", "event_id", "provider", "channel",
    "computer", "data", "image", "user_sid", "volume", "key",
)  # fmt: skip


def machines(database: str) -> list[str]:
    """The machines of a database, sorted by name."""
    return sorted({unit["image"] for unit in tables.units(database, ["image"], "image IS NOT NULL")})


def load(database: str, image: str, event_ids: Sequence[int], zone: str | None = None) -> Case:
    """A machine's records with one of these ids. Raises UsageError for a machine that the database does not have."""
    units = list(tables.units(database, where=f"image = {quoted(image)}"))
    if not units:
        raise UsageError(f"{database} has no machine '{image}'. It has: {', '.join(machines(database)) or 'none'}.")
    references = References(tables.units(database, References.COLUMNS))
    logs = [log | {"name": references.log(log)} for log in coverage.logs(units)]
    earlier = _earlier(logs)
    chosen = f"image = {quoted(image)} AND event_id IN ({', '.join(map(str, sorted(set(event_ids))))})"
    rows = (row for batch in tables.events(database, chosen, _COLUMNS) for row in batch.to_pylist())
    found = (record_of(row, references.name(row), earlier.get((row["volume"], row["path"]), "")) for row in rows)
    records, others = own(sorted(found, key=_order))
    unread, failures = tables.unread(database, image)
    return Case(
        image,
        records,
        logs,
        tables.container(database, image),
        tables.facts(database, image),
        zone,
        others,
        unread,
        failures,
        tables.copies(database, image),
        [problem for key, problem in tables.problems_of_copies(database) if key == image],
        _steady_times(database, image),
    )


def _steady_times(database: str, image: str) -> npt.NDArray[np.int64]:
    channels = ", ".join(quoted(name.capitalize()) for name in STEADY)
    where = f"image = {quoted(image)} AND origin = 'live' AND channel IN ({channels}) AND time IS NOT NULL"
    times = [batch["time"].cast(pa.int64()).to_numpy() for batch in tables.events(database, where, ["time"])]
    return np.concatenate(times)


def _order(record: Record) -> tuple[int, bool, str, int]:
    """Records of logs that are there come first, and of them those of earlier installations.

    Those of one stream are in the order in which they were written.
    """
    return ORIGINS.index(record.origin), not record.installation, record.stream, record.record_id


def _earlier(logs: Sequence[Mapping[str, Any]]) -> dict[tuple[str | None, str], str]:
    """The logs that are not of the Windows that was used last, by volume and path, with the folder of their Windows.

    A feature update leaves the logs of the Windows before in `Windows.old`, and a disk may have Windows twice.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for log in logs:
        folder, inside, _ = (log["path"] or "").lower().partition("/system32/winevt/")
        if inside and log["newest_time"]:
            volume = (log["volume"] or "").partition("@")[0]  # a shadow copy has the same Windows, as it was before
            found.setdefault("/".join(filter(None, [volume, folder])), []).append(log)
    last = max(found, key=lambda name: max(log["newest_time"] for log in found[name]), default="")
    return {(log["volume"], log["path"]): name for name, some in found.items() if name != last for log in some}


def own(records: Sequence[Record]) -> tuple[list[Record], dict[str, int]]:
    """The records that are this machine's own, and how many there are of others, by their names.

    The log System has a machine's own records only, whatever the machine was called; events are forwarded to others.
    """
    names = {_host(record) for record in records if record.is_of("System") and record.origin == "live"}
    names = names or {_host(record) for record in records if record.log.lower() != FORWARDED}
    names.add("")
    others = Counter(record.computer for record in records if _host(record) not in names)
    return [record for record in records if _host(record) in names], dict(others)


def _host(record: Record) -> str:
    return record.computer.partition(".")[0].lower()
