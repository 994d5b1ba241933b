"""Units: the parts of evidence that workers take, such as a log, 8 MiB of a large one, or 256 MiB of a disk.

    containers ──job Containers──▶ containers            a row for each file that was given
                                   containers_contents   a row for each unit in them
                  ──job ShadowCopies──▶ shadow_copies, shadow_copies_contents: the same, of their shadow copies
                                        │
                                   Units, the source of the job Evidence

Keys tell where a unit lies:

    host1/C/Windows/System32/winevt/Logs/System.evtx#0-127     the first 128 chunks of a log
    mesa.E01/p2/Windows/.../System.evtx#0-127                  of a log on the second volume of a disk
    mesa.E01/p2@vss1/Windows/.../System.evtx#0-127             in the oldest shadow copy of that volume
    mesa.E01/p2!deleted/mft-48211/System.evtx#0-15             of a log that was deleted
    mesa.E01/p2/Windows/System32/config/SYSTEM#facts           of a registry hive
    mesa.E01/carve/00000-00256MiB                              logs anywhere in a part of a disk
    mesa.E01/verify                                            the whole disk, to be verified
    mesa.E01/chunks                                            the same, but for the digests of the whole
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Self

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from more_itertools import chunked, consecutive_groups

from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.evidence.disk.volumes import name_of_copy
from fanfold.evidence.eventlog.chunks import CHUNK, FILE_HEADER
from fanfold.job import Detail, Item, detail_key_field
from fanfold.source.listed import Listed
from fanfold.source.protocol import Changed
from fanfold.storage import absolute, exists, join

CONTAINERS, CONTENTS = "containers", "containers_contents"
COPIES, COPIES_CONTENTS = "shadow_copies", "shadow_copies_contents"
"""The tables that units are listed from, the second two those of shadow copies."""
UNITS, EVENTS, FACTS = "evidence", "evidence_events", "evidence_facts"
"""The tables of units that were read, of their records, and of facts from other files."""
GROUP = 128
"""Chunks of a unit at most: 8 MiB."""
_ROWS = 4096  # of a batch that is read
_LISTED = 1024  # units of a batch that is written

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
    """`log`, `facts`, `carve`, `verify` or `chunks`."""
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
    """`live`, `shadow`, `deleted` or `carved`; None if the unit has no records."""
    volume_start: int = 0
    """Where the volume begins: bytes of the disk."""
    volume_size: int = 0
    """Bytes of the volume, if the log is in a shadow copy of it."""
    copy: int = 0
    """The number of that shadow copy, 1 for the oldest; 0 for none."""
    newest: int = 0
    """The number of the newest shadow copy of the volume."""
    inode: int = 0
    """The number of the log in its volume."""
    version: str = ""
    """Of the file at `address`, if it has one besides that of its container."""
    beside: "tuple[Place, ...]" = ()
    """Where the transaction logs of a registry hive lie."""

    @classmethod
    def of_disk(cls, image: str, size: int) -> "Place":
        """A whole disk image, by its key; `size`: bytes of the disk."""
        return cls(container=image, size=size, image=image, start=0, stop=size)

    @property
    def stage(self) -> str:
        """When it is read: see `STAGES`."""
        if self.copy != self.newest:
            return OLDER
        return self.origin or self.kind

    def to_read(self, version: str) -> Item:
        """The container, to be read."""
        return Item(self.address, self.size, self.version or version, self.address)


ONLY = "only:"
"""Begins an address that names a log: others are not listed."""
_MAKER = "microsoft-windows-"
OLDER = "shadow-older"
"""The stage of shadow copies that are not the newest of their volume."""
STAGES = ("live", "shadow", OLDER, "deleted", "carved", "verify", "chunks")
"""Units of one stage are read before those of the next: a record that is there already is not added again."""


def parts_of(log: str, size: int, chosen: Iterable[int] | None = None) -> Iterator[tuple[str, int, int]]:
    """The units of a log: the key of each, and the bytes in which its chunks begin.

    `chosen`: the numbers of some of its chunks, in order; None for all.
    """
    chunks = max(1, -(-(size - FILE_HEADER) // CHUNK))  # the last one may be cut short
    for run in consecutive_groups(range(chunks) if chosen is None else chosen):
        for some in chunked(run, GROUP):
            first, last = some[0], some[-1]
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
    _tables: dict[str, lance.LanceDataset] = field(default_factory=dict, repr=False)

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
            raise UsageError(nothing_in(root))
        return cls(root, stages or STAGES[:1], only)

    @property
    def addresses(self) -> "list[str]":
        """The database, the stages, and the only logs."""
        return [self.root, *self.stages, *(ONLY + name for name in self.only)]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - units are not files
        """The units of the containers that are completely listed, in the order of the tables."""
        current = self._versions(CONTAINERS)
        yield from self._listed(CONTENTS, current)
        if exists(join(self.root, f"{COPIES}.lance")):
            yield from self._listed(COPIES_CONTENTS, dict(current.items() & self._versions(COPIES).items()))

    def _listed(self, contents: str, current: dict[str, str]) -> Iterator[Item]:
        """The units in a table that are of the current versions of their containers."""
        chosen = f"stage IN ({', '.join(map(quoted, self.stages))})"
        rows = self._table(contents).scanner(filter=chosen, batch_size=_ROWS, batch_readahead=2)
        for batch in rows.to_batches():
            for row in batch.to_pylist():
                if current.get(row["key"]) == row["version"] and self._is_chosen(row["place"]):
                    yield Item(row["unit"], row["bytes"], row["version"], row["place"])

    def _is_chosen(self, place: str) -> bool:
        """Whether a unit is to be read: of logs, those that are named, if any are."""
        if not self.only:
            return True
        found = _place_in(place)
        name = _called((found.path or "").rpartition("/")[2])
        return found.kind != "log" or name in self.only or name.removeprefix(_MAKER) in self.only

    def _versions(self, name: str) -> dict[str, str]:
        """The version of each container in a table. One without a row is not completely listed."""
        columns = self._table(name).to_table(["key", "version"]).to_pydict()
        return dict(zip(columns["key"], columns["version"], strict=True))

    def segments(self, container: str, version: str) -> Sequence[Item]:
        """The files of a disk image, to be read."""
        files = self._container(container, version)["segments"] or ()
        return [Item(one["uri"], one["bytes"], one["version"], one["uri"]) for one in files]

    def notes(self, container: str, version: str) -> dict[str, Any]:
        """What the imaging program has noted beside a disk image."""
        return dict(json.loads(self._container(container, version)["sidecar"] or "{}"))

    def _container(self, container: str, version: str) -> dict[str, Any]:
        wanted = f"key = {quoted(container)} AND version = {quoted(version)}"
        for row in self._table(CONTAINERS).to_table(["segments", "sidecar"], filter=wanted).to_pylist():
            return dict(row)
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
                    yield _place_in(row["place"])

    def known(self, place: Place, version: str) -> "npt.NDArray[np.uint64]":
        """The digests, sorted, of an image's records that were read in the stages before that of a unit."""
        if not exists(join(self.root, f"{EVENTS}.lance")):
            return np.empty(0, np.uint64)
        origins = f"origin IN ({', '.join(map(quoted, STAGES[: STAGES.index(place.stage)]))})"
        if place.stage == OLDER:  # copies of that stage do not know of each other, as they are read side by side
            newest = name_of_copy((place.volume or "").rpartition("@")[0], place.newest)
            origins = f"(origin = 'live' OR (origin = 'shadow' AND volume = {quoted(newest)}))"
        wanted = f"image = {quoted(place.image)} AND version = {quoted(version)} AND {origins}"
        column = self._table(EVENTS).to_table(["digest"], filter=wanted)["digest"]
        return np.unique(column.to_numpy())

    def _table(self, name: str) -> lance.LanceDataset:
        """A table as it was when it was first asked for: units of earlier stages are all read by then."""
        if name not in self._tables:
            uri = join(self.root, f"{name}.lance")
            with reading(uri):
                self._tables[name] = lance.dataset(uri)
        return self._tables[name]

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


def nothing_in(database: str) -> str:
    """A sentence on a database without evidence, and what to do."""
    return f"{database} holds no evidence yet. To add some: fanfold evidence scan SOURCE... {database}"


def quoted(text: str) -> str:
    """A text in an SQL condition."""
    return "'" + text.replace("'", "''") + "'"


def place_of(item: Item) -> Place:
    """Where a unit lies."""
    return _place_in(item.path)


@lru_cache(16)  # a unit is asked for its place again and again
def _place_in(text: str) -> Place:
    return _place(json.loads(text))


def _place(values: dict[str, Any]) -> Place:
    return Place(**values | {"beside": tuple(_place(one) for one in values["beside"])})


def item_at(item: Item, place: Place) -> Item:
    """What lies at another place of a unit's container, to be read as a unit is."""
    return replace(item, path=_as_text(place))


def _as_text(place: Place) -> str:
    return json.dumps(asdict(place), separators=(",", ":"))


def contents(container: Item, units: Iterable[tuple[str, Place]]) -> Iterator[Detail]:
    """The rows of a container's contents: its units, given with their keys."""
    common = {"key": container.key, "version": container.version}
    for some in chunked(units, _LISTED):
        rows = [
            common | {"unit": unit, "bytes": place.stop - place.start, "stage": place.stage, "place": _as_text(place)}
            for unit, place in some
        ]
        yield Detail("contents", pa.RecordBatch.from_pylist(rows, schema=CONTENTS_SCHEMA))
