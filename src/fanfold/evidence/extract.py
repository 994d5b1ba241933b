"""Writes the logs of a database as event logs that any tool reads, those that were deleted or carved included.

DIR/mesa.E01/p2/Windows/System32/winevt/Logs/Security.evtx
DIR/mesa.E01/p2@vss1/Windows/System32/winevt/Logs/Security.evtx   chunks with something that the log has no longer
DIR/mesa.E01/p2!deleted/mft-48211/Security.evtx
DIR/mesa.E01/carved/Security.evtx                            every chunk of this channel that no log has
"""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import NamedTuple

from fanfold.errors import UsageError
from fanfold.evidence.eventlog.chunks import FILE_HEADER, Chunk, header_for, records_of, without
from fanfold.evidence.eventlog.records import decoded
from fanfold.evidence.files import DAMAGED
from fanfold.evidence.opened import Opened
from fanfold.evidence.units import STAGES, Units, place_of
from fanfold.evidence.work import Parts, chunks_in
from fanfold.job import Item

_LONGEST = 200  # bytes of a name: file systems take 255, and some tools add an ending
_LONGEST_PATH = 2000  # bytes of a path below the folder
_RESERVED = re.compile(r"(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³])(\..*)?", re.IGNORECASE)
"""Names of devices, which Windows takes for no file, whatever their ending."""
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
        self.written: dict[str, tuple[int, int]] = {}
        """The number of chunks of each log, and the highest id of a record."""
        self._places: dict[str, Path] = {}
        self._taken: dict[str, bool] = {}  # paths in one case, and whether each is a folder
        self._carved: dict[str, dict[int, _Held]] = {}  # by disk, then by record

    def add(self, log: str, chunk: Chunk, index: int | None = None) -> int:
        """Append a chunk to a log, or replace one; returns its index. The log's header is complete after each.

        Raises UsageError if the folder cannot be written to, as when its disk is full.
        """
        where = self.folder / self._place(log)
        try:
            return self._add(where, log, chunk, index)
        except OSError as error:
            again = f"Delete {self.folder}, or choose another folder, and extract again."
            raise UsageError(f"Cannot write {where}: {error.strerror}. {again}") from error

    def _add(self, where: Path, log: str, chunk: Chunk, index: int | None) -> int:
        where.parent.mkdir(parents=True, exist_ok=True)
        chunks, last_id = self.written.get(log, (0, 0))
        at = chunks if index is None else index
        last_id = max([last_id, *(record.record_id for record in records_of(chunk))])
        with where.open("r+b" if chunks else "xb") as file:
            chunks = max(chunks, at + 1)
            file.write(header_for(chunks, last_id + 1))
            file.seek(FILE_HEADER + at * len(chunk.data))
            file.write(chunk.data)
        self.written[log] = chunks, last_id
        return at

    def add_carved(self, container: str, chunk: Chunk) -> bool:
        """Append a carved chunk to the log of its channel, unless all of its records are there; whether it was.

        One that has all records of another, as a chunk does of its own earlier state, takes the other's place. No
        record is there twice.
        """
        carved = self._carved.setdefault(container, {})
        digests = frozenset(record.digest for record in records_of(chunk) if record.whole)
        holders = {digest: carved.get(digest) for digest in digests}
        if None not in holders.values():
            return False
        replaced = next((held for held in holders.values() if held and held.digests <= digests), None)
        copies = {digest for digest, held in holders.items() if held not in (None, replaced)}
        log = replaced.log if replaced else f"{container}/carved/{_channel(chunk)}.evtx"
        index = self.add(log, without(chunk, copies) if copies else chunk, replaced.number if replaced else None)
        held = _Held(log, index, digests - copies)
        carved |= dict.fromkeys(held.digests, held)
        return True

    def _place(self, log: str) -> Path:
        """Where a log is written: a place of its own, also where file systems ignore the case of names."""
        if log in self._places:
            return self._places[log]
        path = wanted = _safe(log)
        for number in count(2):
            folders = [_folded(folder) for folder in path.parents if folder.name]
            if any(self._taken.get(folder) is False for folder in folders):  # a log is called like this folder
                path = Path(f"{wanted.parts[0]} ({number})", *wanted.parts[1:])
            elif _folded(path) in self._taken:
                path = path.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
            else:
                break
        self._taken |= dict.fromkeys(folders, True) | {_folded(path): False}
        self._places[log] = path
        return path


class _Held(NamedTuple):
    """A carved chunk that was written."""

    log: str
    number: int
    """Of the chunk in the log."""
    digests: frozenset[int]
    """Of its records."""


def _folded(path: Path) -> str:
    """A path as file systems compare it that ignore case, or the ways to write an accent."""
    return unicodedata.normalize("NFD", str(path)).casefold()


def extract(database: str, folder: Path, origins: Sequence[str]) -> Iterator[Extracted]:
    """Write the logs of some origins (all, if none are named) below a folder, unit by unit.

    Raises UsageError if there is something in the folder, it cannot be written to, or the database has no evidence.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"There is something in {folder} already. Choose a folder that is new or empty.")
    of_records = STAGES[:-2]  # the others verify
    stages = [stage for stage in of_records if not origins or stage.removesuffix("-older") in origins]
    units = Units.open([database, *stages])
    writer, opened = Writer(folder), Opened()
    for item in units.list(frozenset()):
        chunks, why = 0, ""
        try:
            for chunk in _chunks(item, units, opened):
                if place_of(item).kind == "carve":
                    chunks += writer.add_carved(place_of(item).container, chunk)
                else:
                    log = item.key.rpartition("#")[0]
                    # of two files of one name, the second one's key has a number behind it
                    writer.add(log if log.lower().endswith(".evtx") else f"{log}.evtx", chunk)
                    chunks += 1
        except (OSError, *DAMAGED) as error:
            why = str(error)
        yield Extracted(item.key, chunks, why)


def _chunks(item: Item, units: Units, opened: Opened) -> Iterator[Chunk]:
    """The chunks of a unit; of shadow copies, and of what was carved, those with records that no better log has."""
    parts = Parts(item, units, opened, {"read": 0.0})
    for chunk, frames in chunks_in(parts):
        place = place_of(item)
        if not (place.kind == "carve" or place.copy) or any(parts.are_new(frames)):
            yield chunk


def _channel(chunk: Chunk) -> str:
    """The channel of a chunk's first record that has one, without slashes, as Windows names its logs."""
    for record in decoded(chunk):
        channel = record.content.context.channel
        if isinstance(channel, str) and channel:
            return channel.replace("/", "%4")
    return "unknown"


def _safe(path: str) -> Path:
    """A path that stays below its folder, of names that any file system takes."""
    *folders, name = (_safe_name(name) for name in path.split("/"))
    if len(os.fsencode("/".join(folders))) > _LONGEST_PATH:
        digest = blake2b("/".join(folders).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        folders = [folders[0], f"a long path {digest}"]
    return Path(*folders, name)


def _safe_name(name: str) -> str:
    """A name that any file system takes; of a long one the end, which tells what the file is."""
    fit = _UNFIT.sub("_", name).encode()[-_LONGEST:].decode(errors="ignore")
    fit = re.sub(r"[. ]+$", "_", fit)  # Windows drops them
    return f"_{fit}" if not fit or _RESERVED.fullmatch(fit) else fit
