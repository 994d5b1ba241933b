"""Units: the parts of evidence that workers take, such as a log, 8 MiB of a large one, or 256 MiB of a disk.

    containers ──job Containers──▶ containers            a row for each file that was given
                                   containers_contents   a row for each unit in them
                                        │
                                   Units, the source of the job Evidence

Keys tell where a unit lies:

    host1/C/Windows/System32/winevt/Logs/System.evtx#0-127     the first 128 chunks of a log
    mesa.E01/p2/Windows/.../System.evtx#0-127                  of a log on the second volume of a disk
    mesa.E01/p2!deleted/mft-48211/System.evtx#0-15             of a log that was deleted
    mesa.E01/p2/Windows/System32/config/SYSTEM#facts           of a registry hive
    mesa.E01/carve/00000-00256MiB                              logs anywhere in a part of a disk
    mesa.E01/verify                                            the whole disk, to be verified
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.evidence.eventlog.chunks import CHUNK, FILE_HEADER
from fanfold.job import Item, detail_key_field
from fanfold.source.listed import Listed
from fanfold.source.protocol import Changed
from fanfold.storage import absolute, exists, join

CONTAINERS, CONTENTS = "containers", "containers_contents"
"""The tables that units are listed from."""
UNITS, EVENTS = "evidence", "evidence_events"
"""The tables of units that were read, and of their records."""
GROUP = 128
"""Chunks of a unit at most: 8 MiB."""
_ROWS = 4096  # of a batch

CONTENTS_SCHEMA = pa.schema(
    [
        detail_key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),  # its key
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),  # see `STAGES`
        pa.field("place", pa.string(), nullable=False),  # a `Place` as JSON
    ]
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a unit lies, and what is known of it before it is read."""

    container: str
    """Its key."""
    kind: str = "log"
    """`log`, `facts`, `carve` or `verify`."""
    address: str = ""
    """Of the container: a path or a URL. Empty for a disk image, whose files are named in the container's row."""
    size: int
    """Bytes of the container, or of the disk."""
    image: str
    """The machine or disk image that it is of."""
    path: str | None = None
    """On that machine."""
    start: int
    stop: int
    """Bytes of the log, or of the disk, in which the unit's chunks begin."""
    member: str = ""
    """The number of the log in an archive."""
    volume: str | None = None
    origin: str | None = "live"
    """`live`, `deleted` or `carved`; None if the unit has no records."""
    volume_start: int = 0
    """Where the volume begins: bytes of the disk."""
    inode: int = 0
    """The number of the log in its volume."""

    @property
    def stage(self) -> str:
        """When it is read: see `STAGES`."""
        return self.origin or self.kind

    def to_read(self, version: str) -> Item:
        """The container, to be read."""
        return Item(self.address, self.size, version, self.address)


ONLY = "only:"
"""Begins an address that names a log: others are not listed."""
_MAKER = "microsoft-windows-"
STAGES = ("live", "deleted", "carved", "verify")
"""Units of one stage are read before those of the next: a record that is there already is not added again."""


def parts_of(log: str, size: int) -> Iterator[tuple[str, int, int]]:
    """The units of a log: the key of each, and the bytes in which its chunks begin."""
    chunks = max(1, -(-(size - FILE_HEADER) // CHUNK))  # the last one may be cut short
    for first in range(0, chunks, GROUP):
        last = min(first + GROUP, chunks) - 1
        start = FILE_HEADER + first * CHUNK if first else 0  # a log without a header begins with a chunk
        yield f"{log}#{first}-{last}", start, size if last + 1 == chunks else FILE_HEADER + (last + 1) * CHUNK


@dataclass
class Units:
    """The units that a database has listed, as a source. They are read from their containers."""

    root: str
    """The database's absolute path or URL."""
    stages: tuple[str, ...] = STAGES[:1]
    """The stages of the units that are listed."""
    only: tuple[str, ...] = ()
    """The only logs that are listed, as `_called` gives their names; all, if none is named."""
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 4
    opener: Listed = field(default_factory=lambda: Listed(""))

    @classmethod
    def open(cls, addresses: list[str]) -> Self:
        """The units of one database: its address, then the stages if not only the first one.

        Raises UsageError if it has no evidence.
        """
        # A folder of a stage's name, in the folder where the command is given, has made a path of it.
        words = [address.rpartition("/")[2] if address.startswith("/") else address for address in addresses[1:]]
        only = tuple(_called(word[len(ONLY) :]) for word in words if word.startswith(ONLY))
        stages = tuple(word for word in words if not word.startswith(ONLY))
        if not addresses or not set(stages) <= set(STAGES):
            raise UsageError(
                "The source of the job 'evidence' is one database, whose containers are listed; after it, "
                f"the stages to do: {', '.join(STAGES)}."
            )
        root = absolute(addresses[0])
        if not exists(join(root, f"{CONTAINERS}.lance")):
            raise UsageError(f"{root} holds no evidence yet. To add some: fanfold evidence scan SOURCE... {root}")
        return cls(root, stages or STAGES[:1], only)

    @property
    def addresses(self) -> "list[str]":
        """The database, the stages, and the only logs."""
        return [self.root, *self.stages, *(ONLY + name for name in self.only)]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - units are not files
        """The units of the containers that are completely listed, in the order of the table."""
        current = self._current()
        chosen = f"stage IN ({', '.join(map(quoted, self.stages))})"
        rows = self._table(CONTENTS).scanner(filter=chosen, batch_size=_ROWS, batch_readahead=2)
        for batch in rows.to_batches():
            for row in batch.to_pylist():
                if current.get(row["key"]) == row["version"] and self._is_chosen(row["place"]):
                    yield Item(row["unit"], row["bytes"], row["version"], row["place"])

    def _is_chosen(self, place: str) -> bool:
        """Whether a unit is to be read: of logs, those that are named, if any are."""
        if not self.only:
            return True
        found = Place(**json.loads(place))
        name = _called((found.path or "").rpartition("/")[2])
        return found.kind != "log" or name in self.only or name.removeprefix(_MAKER) in self.only

    def _current(self) -> dict[str, str]:
        """The version of each container. One without a row is not completely listed."""
        columns = self._table(CONTAINERS).to_table(["key", "version"]).to_pydict()
        return dict(zip(columns["key"], columns["version"], strict=True))

    def segments(self, container: str, version: str) -> Sequence[Item]:
        """The files of a disk image, to be read."""
        wanted = f"key = {quoted(container)} AND version = {quoted(version)}"
        for row in self._table(CONTAINERS).to_table(["segments"], filter=wanted).to_pylist():
            return [Item(one["uri"], one["bytes"], one["version"], one["uri"]) for one in row["segments"] or ()]
        raise Changed

    def logs_on(self, container: str, version: str) -> Iterator[Place]:
        """The logs in the file systems of a disk image that were read, deleted ones too; each of its units."""
        mine = f"version = {quoted(version)}"
        read: set[str] = set()
        if exists(join(self.root, f"{UNITS}.lance")):
            rows = self._table(UNITS).to_table(["key"], filter=f"container = {quoted(container)} AND {mine}")
            read = set(rows["key"].to_pylist())
        wanted = f"key = {quoted(container)} AND {mine} AND stage IN ('live', 'deleted')"
        for batch in self._table(CONTENTS).scanner(["unit", "place"], filter=wanted, batch_size=_ROWS).to_batches():
            for row in batch.to_pylist():
                if row["unit"] in read:
                    yield Place(**json.loads(row["place"]))

    def known(self, image: str, version: str, origins: Sequence[str]) -> "npt.NDArray[np.uint64]":
        """The digests of an image's records of these origins, sorted."""
        if not exists(join(self.root, f"{EVENTS}.lance")):
            return np.empty(0, np.uint64)
        named = ", ".join(map(quoted, origins))
        wanted = f"image = {quoted(image)} AND version = {quoted(version)} AND origin IN ({named})"
        column = self._table(EVENTS).to_table(["digest"], filter=wanted)["digest"]
        return np.unique(column.to_numpy())

    def _table(self, name: str) -> lance.LanceDataset:
        uri = join(self.root, f"{name}.lance")
        with reading(uri):
            return lance.dataset(uri)

    def read(self, item: Item, limit: int) -> bytes:
        """The whole container of a unit."""
        return self.opener.read(place_of(item).to_read(item.version), limit)

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        """A part of the container of a unit."""
        return self.opener.read_at(place_of(item).to_read(item.version), offset, length)

    def uri(self, item: Item) -> str:
        """The address of a unit's container."""
        return self.opener.uri(place_of(item).to_read(item.version))

    def within(self, root: str) -> "Units | None":
        """The same units, if `root` is their database."""
        return self if root == self.root else None


def _called(name: str) -> str:
    """The name of a log's file, or of its channel, in the same form: security, or windows powershell."""
    return name.lower().removesuffix(".evtx").replace("%4", "/")


def quoted(text: str) -> str:
    """A text in an SQL condition."""
    return "'" + text.replace("'", "''") + "'"


def place_of(item: Item) -> Place:
    """Where a unit lies."""
    return Place(**json.loads(item.path))


def contents_row(container: Item, unit: str, place: Place) -> dict[str, object]:
    """A row of the contents of a container."""
    return {
        "key": container.key,
        "version": container.version,
        "unit": unit,
        "bytes": place.stop - place.start,
        "stage": place.stage,
        "place": json.dumps(asdict(place), separators=(",", ":")),
    }
