"""Units: the parts of evidence that workers take, such as a log, or 8 MiB of a large one.

    containers ──job Containers──▶ containers            a row for each file that was given
                                   containers_contents   a row for each unit in them
                                        │
                                   Units, the source of the job Evidence

Keys tell where a unit lies: host1/C/Windows/System32/winevt/Logs/System.evtx#0-127 are the first 128 chunks of a log.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Self

import lance
import pyarrow as pa

from fanfold.damage import reading
from fanfold.errors import UsageError
from fanfold.evidence.eventlog.chunks import CHUNK, FILE_HEADER
from fanfold.job import Item, detail_key_field
from fanfold.source.listed import Listed
from fanfold.storage import absolute, exists, join

CONTAINERS, CONTENTS = "containers", "containers_contents"
"""The tables that units are listed from."""
GROUP = 128
"""Chunks of a unit at most: 8 MiB."""
_ROWS = 4096  # of a batch

CONTENTS_SCHEMA = pa.schema(
    [
        detail_key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),  # its key
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("place", pa.string(), nullable=False),  # a `Place` as JSON
    ]
)


@dataclass(frozen=True)
class Place:
    """Where a unit lies, and what is known of it before it is read."""

    container: str
    """Its key."""
    address: str
    """Of the container: a path or a URL."""
    size: int
    """Bytes of the container."""
    image: str
    """The machine or disk image that it is of."""
    path: str
    """On that machine."""
    start: int
    stop: int
    """Bytes of the log in which the unit's chunks begin."""
    member: str = ""
    """The name of the log in the container; empty if the log is the container."""
    volume: str | None = None
    origin: str = "live"

    def to_read(self, version: str) -> Item:
        """The container, to be read."""
        return Item(self.address, self.size, version, self.address)


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
    left_out: Counter[str] = field(default_factory=Counter)
    parallel_reads: int = 4
    opener: Listed = field(default_factory=lambda: Listed(""))

    @classmethod
    def open(cls, addresses: list[str]) -> Self:
        """The units of one database. Raises UsageError if it has none."""
        if len(addresses) != 1:
            raise UsageError("The source of the job 'evidence' is one database, whose containers are listed.")
        root = absolute(addresses[0])
        if not exists(join(root, f"{CONTAINERS}.lance")):
            raise UsageError(f"{root} holds no evidence yet. To add some: fanfold evidence scan SOURCE... {root}")
        return cls(root)

    @property
    def addresses(self) -> "list[str]":
        """The database."""
        return [self.root]

    def list(self, suffixes: frozenset[str]) -> Iterator[Item]:  # noqa: ARG002 - units are not files
        """The units of the containers that are completely listed, in the order of the table."""
        current = self._current()
        for batch in self._table(CONTENTS).scanner(batch_size=_ROWS, batch_readahead=2).to_batches():
            for row in batch.to_pylist():
                if current.get(row["key"]) == row["version"]:
                    yield Item(row["unit"], row["bytes"], row["version"], row["place"])

    def _current(self) -> dict[str, str]:
        """The version of each container. One without a row is not completely listed."""
        columns = self._table(CONTAINERS).to_table(["key", "version"]).to_pydict()
        return dict(zip(columns["key"], columns["version"], strict=True))

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
        "place": json.dumps(asdict(place), separators=(",", ":")),
    }
