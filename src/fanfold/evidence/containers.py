"""The job that inspects the given files: which are event logs, which contain some, and which units they have.

    file ──first bytes──▶ event log ──▶ its units
                      ├─▶ zip ────────▶ the units of the event logs in it
                      ├─▶ disk image ─▶ the units of the disk: see disks.py
                      ├─▶ a format that cannot be read ──▶ a failure that says what to do
                      └─▶ anything else: a row of the kind `other`

The job `Evidence` then reads the units.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from fanfold.evidence.disk.sections import FIELDS
from fanfold.evidence.disk.verify import DIGESTS
from fanfold.evidence.files import answered, timed
from fanfold.evidence.given import Files
from fanfold.evidence.kinds import container_of, is_known_by_name
from fanfold.evidence.units import CONTENTS_SCHEMA, contents
from fanfold.job import Detail, Failure, Item, Opener, key_field
from fanfold.storage import looking_ahead

_TEXTS = (*FIELDS.values(), *(f"{name}_stored" for name in DIGESTS))
SCHEMA = pa.schema(
    [
        key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("kind", pa.string(), nullable=False),  # log, zip, E01, raw, VHD, VHDX, VMDK, qcow2, facts or other
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("problems", pa.list_(pa.string())),  # what of it cannot be read
        # Of disk images only:
        pa.field("media_bytes", pa.int64()),
        pa.field("sector_bytes", pa.int64()),
        pa.field("acquired_at", pa.timestamp("us", "UTC")),  # null if it is stored without a zone
        *(pa.field(name, pa.string()) for name in _TEXTS),  # as the acquirer stored it
        pa.field("unread", pa.list_(pa.struct([("first_sector", pa.int64()), ("sectors", pa.int64())]))),  # by acquirer
        pa.field("volumes", pa.list_(pa.struct([
            ("name", pa.string()), ("start", pa.int64()), ("bytes", pa.int64()),
            ("kind", pa.string()), ("system", pa.string()), ("label", pa.string()),
            ("created", pa.timestamp("us", "UTC")),  # of shadow copies
        ]))),
        pa.field("sidecar", pa.string()),  # JSON: what the imaging program has noted in a file of its own
        pa.field("segments", pa.list_(pa.struct([
            ("uri", pa.string()), ("bytes", pa.int64()), ("version", pa.string()),
        ]))),
    ]
)  # fmt: skip

_HEAD = 4096  # bytes that tell what a file is


@dataclass(frozen=True)
class Containers:
    """List the event logs in files, folders and archives."""

    name: ClassVar[str] = "containers"

    def source(self, addresses: Sequence[str]) -> Files:
        """The files at some addresses."""
        return Files.open(addresses)

    def schema(self) -> pa.Schema:
        """A row for each file, or for each image of several files."""
        return SCHEMA

    def details(self) -> Mapping[str, pa.Schema]:
        """The units in each file."""
        return {"contents": CONTENTS_SCHEMA}

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same files would give other units."""
        return {"units": "8"}

    def open(self) -> "Listing":
        """Nothing needs to be set up."""
        return Listing()


class Listing:
    """Looks into files."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "list": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        assert isinstance(source, Files), source  # see `Containers.source`
        ahead = source.parallel_reads
        heads = looking_ahead(lambda item: (item, _head(source, item)), items, ahead, ahead)
        for item, head in timed(heads, "read", self.seconds):
            if isinstance(head, Failure):
                yield head
            else:
                yield from timed(answered(item, _answer(item, head, source)), "list", self.seconds)


def _head(source: Files, item: Item) -> bytes | Failure:
    """The first bytes of a file; none if only they cannot be read, and its name tells what it is."""
    try:
        return source.read_at(item, 0, _HEAD)
    except OSError as error:
        is_named = error.errno == errno.EIO and is_known_by_name(item.key)
        return b"" if is_named else Failure.of(item, "read", error)


def _answer(item: Item, head: bytes, source: Files) -> Iterator[pa.RecordBatch | Detail]:
    """The units of one file, then its row. Raises one of `files.DAMAGED`, and OSError."""
    container = container_of(item, head, source)
    yield from contents(item, container.units())
    row = {"key": item.key, "version": item.version, "uri": source.uri(item), "bytes": item.size} | container.row()
    yield pa.RecordBatch.from_pylist([row], schema=SCHEMA)
