"""The job that inspects the given files: which are event logs, which contain some, and which units they have.

    file ──first bytes──▶ event log ──▶ its units
                      ├─▶ zip ────────▶ the units of the event logs in it
                      ├─▶ a format that cannot be read ──▶ a failure that says what to do
                      └─▶ anything else: a row of the kind `other`

The job `Evidence` then reads the units.
"""

import struct
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import ClassVar
from urllib.parse import unquote
from zlib import error as ZlibError

import pyarrow as pa
from more_itertools import chunked

from fanfold.evidence.eventlog.chunks import CHUNK, chunks_of, header_of
from fanfold.evidence.medium import Ranges, timed
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import CONTENTS_SCHEMA, Place, contents_row, parts_of
from fanfold.job import Detail, Failure, Item, Opener, key_field
from fanfold.storage import path_of, side_by_side

SCHEMA = pa.schema(
    [
        key_field(),
        pa.field("version", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("kind", pa.string(), nullable=False),  # log, zip or other
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)

_HEAD = 4096  # bytes that tell what a file is
_STRIDE = 8 << 20  # bytes of a read
_ROWS = 1024  # contents of a batch

_UNPACK = "Unpack it, and scan the folder"
_MOUNT = "A disk image cannot be read yet: mount it read-only, and scan the folder"
_CONVERT = "Convert it with: wevtutil export-log FILE.evt FILE.evtx /lf"
UNREADABLE: tuple[tuple[int, bytes, str], ...] = (
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive. {_UNPACK}"),
    (0, b"Rar!\x1a\x07", f"a RAR archive. {_UNPACK}"),
    (0, b"\x1f\x8b", f"a gzip file. {_UNPACK}"),
    (0, b"\xfd7zXZ\0", f"an xz file. {_UNPACK}"),
    (257, b"ustar", f"a tar archive. {_UNPACK}"),
    (4, b"LfLe", f"an event log of Windows XP or 2003 (.evt). {_CONVERT}"),
    (0, b"ADSEGMENTEDFILE", "an AD1 image. Export its files with FTK Imager, and scan the folder"),
    (0, b"LVF\x09\x0d\x0a\xff\x00", "a logical image (L01). Export its files with EnCase, and scan the folder"),
    (0, b"EVF\x09\x0d\x0a\xff\x00", f"an EnCase image (E01). {_MOUNT}"),
    (0, b"EVF2\x0d\x0a\x81\x00", f"an EnCase 7 image (Ex01). {_MOUNT}"),
    (0, b"AFF10\r\n\0", f"an AFF image. {_MOUNT}"),
    (0, b"vhdxfile", f"a VHDX image. {_MOUNT}"),
    (0, b"conectix", f"a VHD image. {_MOUNT}"),
    (0, b"KDMV", f"a VMDK image. {_MOUNT}"),
    (0, b"QFI\xfb", f"a qcow2 image. {_MOUNT}"),
    (3, b"NTFS    ", f"a raw image of an NTFS volume. {_MOUNT}"),
    (512, b"EFI PART", f"a raw disk image. {_MOUNT}"),
    (0, b"\x33\xc0\x8e\xd0", f"a raw disk image. {_MOUNT}"),
)
"""Formats that may hold event logs but cannot be read: the offset of their signature, the signature, and a message."""


DAMAGED = (zipfile.BadZipFile, ZlibError, struct.error, EOFError, KeyError, RuntimeError, ValueError)
"""What the module `zipfile` raises for damaged archives, and for those packed in a way that it does not know."""


class Unreadable(ValueError):
    """A file that may hold event logs, and why it cannot be read."""


@dataclass(frozen=True)
class Containers:
    """List the event logs in files, folders and archives."""

    name: ClassVar[str] = "containers"

    def schema(self) -> pa.Schema:
        """A row for each file."""
        return SCHEMA

    def details(self) -> Mapping[str, pa.Schema]:
        """The units in each file."""
        return {"contents": CONTENTS_SCHEMA}

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same files would give other units."""
        return {"units": "1"}

    def open(self) -> "Listing":
        """Nothing needs to be set up."""
        return Listing()


class Listing:
    """Looks into files."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "list": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        for some in chunked(items, source.parallel_reads):
            started = time.perf_counter()
            heads = side_by_side(lambda item: _head(source, item), some, source.parallel_reads)
            self.seconds["read"] += time.perf_counter() - started
            for item, head in zip(some, heads, strict=True):
                if isinstance(head, Failure):
                    yield head
                else:
                    yield from timed(_answer(item, head, source), "list", self.seconds)


def _head(source: Opener, item: Item) -> bytes | Failure:
    try:
        return source.read_at(item, 0, _HEAD)
    except OSError as error:
        return Failure.of(item, "read", error)


def _answer(item: Item, head: bytes, source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
    """The units of one file, then its row."""
    uri = source.uri(item)
    address = path_of(uri) or uri
    try:
        kind, units = _contents(item, head, source, address)
        for rows in chunked((contents_row(item, unit, place) for unit, place in units), _ROWS):
            yield Detail("contents", pa.RecordBatch.from_pylist(rows, schema=CONTENTS_SCHEMA))
    except OSError as error:
        yield Failure.of(item, "read", error)
        return
    except (Unreadable, *DAMAGED) as error:
        yield Failure.of(item, "decode", error)
        return
    row = {"key": item.key, "version": item.version, "uri": uri, "kind": kind, "bytes": item.size}
    yield pa.RecordBatch.from_pylist([row], schema=SCHEMA)


def _contents(item: Item, head: bytes, source: Opener, address: str) -> tuple[str, Iterator[tuple[str, Place]]]:
    """What a file is, and its units with their keys. Raises Unreadable."""
    if header_of(head) or (item.path.lower().endswith(".evtx") and _holds_chunks(item, head, source)):
        return "log", _log(item, source, address)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip", _zip(item, source, address)
    for at, signature, what in UNREADABLE:
        if head.startswith(signature, at):
            raise Unreadable(f"This is {what}.")
    return "other", iter(())


def _holds_chunks(item: Item, head: bytes, source: Opener) -> bool:
    """Whether a file without a log's header is a log. Raises Unreadable if it is not."""
    for at in range(0, item.size, _STRIDE):
        part = source.read_at(item, at, _STRIDE + CHUNK)
        if next(chunks_of([part]), None):
            return True
    if any(head):
        raise Unreadable(f"This is not an event log: it begins with {head[:8].hex(' ')}.")
    return True  # only zeros: space that Windows has set aside for a log


def _log(item: Item, source: Opener, address: str) -> Iterator[tuple[str, Place]]:
    root = unquote(source.uri(item)).removesuffix(item.path).rstrip("/")
    image, path = machine_and_path(item.key, root.rpartition("/")[2])
    for unit, start, stop in parts_of(item.key, item.size):
        yield unit, Place(item.key, address, item.size, image, path, start, stop)


def _zip(item: Item, source: Opener, address: str) -> Iterator[tuple[str, Place]]:
    with zipfile.ZipFile(BufferedReader(Ranges(source, item, item.size), _STRIDE // 8)) as archive:
        members = {one.filename: one for one in archive.infolist() if one.filename.lower().endswith(".evtx")}
    if locked := [name for name, one in members.items() if one.flag_bits & 1]:
        raise Unreadable(f"{locked[0]} is encrypted. Unpack the archive with its password, and scan the folder.")
    for name, member in members.items():
        _, path = machine_and_path(name, "")
        chunks = max(1, -(-member.file_size // CHUNK))
        place = Place(item.key, address, item.size, item.key, path, 0, member.file_size, name)
        yield f"{item.key}/{name}#0-{chunks - 1}", place
