"""Writes the logs of a database as event logs that any tool reads, those that were deleted or carved included.

DIR/mesa.E01/p2/Windows/System32/winevt/Logs/Security.evtx
DIR/mesa.E01/p2@vss1/Windows/System32/winevt/Logs/Security.evtx   chunks with something that the log has no longer
DIR/mesa.E01/p2!deleted/mft-48211/Security.evtx
DIR/mesa.E01/carved/Security.evtx                            every chunk of this channel that no log has
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fanfold.errors import UsageError
from fanfold.evidence.containers import DAMAGED
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.eventlog.chunks import FILE_HEADER, Chunk, header_for, records_of
from fanfold.evidence.eventlog.records import NAMES, decoded
from fanfold.evidence.opened import Opened
from fanfold.evidence.units import STAGES, Units, place_of
from fanfold.evidence.work import Parts, chunks_in
from fanfold.job import Item

_LONGEST = 200  # characters of a name
_UNFIT = re.compile(r'[\0-\x1f\x7f<>:"\\|?*\u202a-\u202e\u2066-\u2069\ud800-\udfff]')


class Extracted(NamedTuple):
    """What became of a unit."""

    unit: str
    chunks: int
    error: str
    """Why it could not be read; empty if it was."""


class Writer:
    """Writes chunks to logs below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[Path, tuple[int, int]] = {}
        """The number of chunks of each log, and the highest id of a record."""

    def add(self, path: Path, chunk: Chunk) -> None:
        """Append a chunk to a log. The log's header is complete after each."""
        where = self.folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        count, last_id = self.written.get(path, (0, 0))
        ids = [record.record_id for record in records_of(chunk)]
        self.written[path] = count, last_id = count + 1, max([last_id, *ids])
        with where.open("r+b" if count > 1 else "xb") as file:
            file.write(header_for(count, last_id + 1))
            file.seek(FILE_HEADER + (count - 1) * len(chunk.data))
            file.write(chunk.data)


def extract(database: str, folder: Path, origins: Sequence[str]) -> Iterator[Extracted]:
    """Write the logs of some origins (all, if none are named) below a folder, unit by unit.

    Raises UsageError if there is something in the folder, or the database has no evidence.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"There is something in {folder} already. Choose a folder that is new or empty.")
    stages = [stage for stage in STAGES[:-1] if not origins or stage.removesuffix("-older") in origins]
    units = Units.open([database, *stages])
    writer, opened = Writer(folder), Opened()
    for item in units.list(frozenset()):
        count, why = 0, ""
        try:
            for path, chunk in _chunks(item, units, opened):
                writer.add(path, chunk)
                count += 1
        except (OSError, Unreadable, *DAMAGED) as error:
            why = str(error)
        yield Extracted(item.key, count, why)


def _chunks(item: Item, units: Units, opened: Opened) -> Iterator[tuple[Path, Chunk]]:
    """The chunks of a unit, each with the log that it belongs in."""
    place = place_of(item)
    log = item.key.rpartition("#")[0]
    parts = Parts(item, units, opened, {"read": 0.0})
    for chunk, frames in chunks_in(parts):
        if (place.kind == "carve" or place.copy) and not any(parts.are_new(frames)):
            continue
        yield _safe(f"{place.container}/carved/{_channel(chunk)}.evtx" if place.kind == "carve" else log), chunk


def _channel(chunk: Chunk) -> str:
    """The channel of a chunk's first record that has one, without slashes, as Windows names its logs."""
    for record in decoded(chunk):
        channel = record.values[NAMES.index("channel")]
        if isinstance(channel, str) and channel:
            return channel.replace("/", "%4")
    return "unknown"


def _safe(path: str) -> Path:
    """A path that stays below its folder, of names that any file system takes."""
    names = (_UNFIT.sub("_", name)[-_LONGEST:] for name in path.split("/"))
    return Path(*("_" if name in ("", ".", "..") else name for name in names))
