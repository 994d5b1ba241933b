"""The job that inspects the given files: which are event logs, which contain some, and which units they have.

    file ──first bytes──▶ event log ──▶ its units
                      ├─▶ zip ────────▶ the units of the event logs in it
                      ├─▶ disk image ─▶ the units of the disk: see disks.py
                      ├─▶ a format that cannot be read ──▶ a failure that says what to do
                      └─▶ anything else: a row of the kind `other`

The job `Evidence` then reads the units.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote

import msgspec
import pyarrow as pa
from more_itertools import chunked

from fanfold.evidence import facts
from fanfold.evidence.disk import is_image
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.disk.notes import noted
from fanfold.evidence.disk.sections import FIELDS, acquired_at
from fanfold.evidence.disk.verify import DIGESTS
from fanfold.evidence.disks import Disk
from fanfold.evidence.eventlog.chunks import CHUNK, chunks_of, header_of
from fanfold.evidence.facts.texts import text_of
from fanfold.evidence.files import answered, open_archive, open_disk, timed
from fanfold.evidence.given import Files
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import CONTENTS_SCHEMA, Place, contents, parts_of
from fanfold.job import Detail, Failure, Item, Opener, key_field
from fanfold.storage import path_of, side_by_side

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
_STRIDE = 8 << 20  # bytes of a read
_SMALL = 1 << 20  # bytes of a member that may unpack from any number: most of a log may be zeros
_RATIO = 200  # bytes of a larger member that one byte unpacks to, as a rule
_INFLATED = 4 << 30  # bytes of members with a higher ratio that are read, in all

_UNPACK = "Unpack it, and scan the folder"
_MOUNT = "Convert it to a raw image with qemu-img, or mount it read-only; then scan that"
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
    (0, b"EVF2\x0d\x0a\x81\x00", f"an EnCase 7 image (Ex01). {_MOUNT}"),
    (0, b"AFF10\r\n\0", f"an AFF image. {_MOUNT}"),
    (0, b"# Disk DescriptorFile", "a VMDK that only names other files. Scan those: NAME-flat.vmdk is a raw image"),
)
"""Formats that may hold event logs but cannot be read: the offset of their signature, the signature, and a message."""

_RAW_SUFFIXES = (".dd", ".raw", ".img", ".000", ".001")
_CALLED_IMAGES = (".e01", ".s01", ".vhd", ".vhdx", ".vmdk", ".qcow2")
_SMALLEST_DISK = 1 << 20  # bytes


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
        return {"units": "6"}

    def open(self) -> "Listing":
        """Nothing needs to be set up."""
        return Listing()


class Listing:
    """Looks into files."""

    def __init__(self) -> None:
        self.seconds = {"read": 0.0, "list": 0.0}

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        assert isinstance(source, Files), source  # see `Containers.source`
        for some in chunked(items, source.parallel_reads):
            started = time.perf_counter()
            heads = side_by_side(lambda item: _head(source, item), some, source.parallel_reads)
            self.seconds["read"] += time.perf_counter() - started
            for item, head in zip(some, heads, strict=True):
                if isinstance(head, Failure):
                    yield head
                else:
                    yield from timed(answered(item, _answer(item, head, source)), "list", self.seconds)


def _head(source: Files, item: Item) -> bytes | Failure:
    try:
        return source.read_at(item, 0, _HEAD)
    except OSError as error:
        return Failure.of(item, "read", error)


def _answer(item: Item, head: bytes, source: Files) -> Iterator[pa.RecordBatch | Detail]:
    """The units of one file, then its row. Raises one of `DAMAGED`, and OSError."""
    container = _opened(item, head, source)
    yield from contents(item, container.units())
    row = {"key": item.key, "version": item.version, "uri": source.uri(item), "bytes": item.size} | container.row()
    yield pa.RecordBatch.from_pylist([row], schema=SCHEMA)


class Container(Protocol):
    """Something that was given, and what is in it."""

    def units(self) -> Iterator[tuple[str, Place]]:
        """Its units, with their keys. Raises one of `DAMAGED`, and OSError."""

    def row(self) -> dict[str, Any]:
        """Its values of `SCHEMA`, once the units were taken."""


def _opened(item: Item, head: bytes, source: Files) -> Container:
    """What a file is. Raises one of `DAMAGED`, and OSError."""
    if header_of(head) or (item.path.lower().endswith(".evtx") and _holds_chunks(item, head, source)):
        return Log(item, source)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Archive(item, source)
    if facts.is_source(item.key, head):
        return FactsFile(item, source)
    if is_disk_image(item, head):
        return DiskImage(item, source)
    for at, signature, what in UNREADABLE:
        if head.startswith(signature, at):
            raise Unreadable(f"This is {what}.")
    if item.key.lower().endswith(".zip"):
        return Archive(item, source)  # what it begins with may be damaged
    if item.key.lower().endswith(_CALLED_IMAGES):
        what = "a disk image by its name, but it does not begin like one"
        raise Unreadable(f"This is {what} ({head[:8].hex(' ')}): it is damaged, or something else. "
                         "To look for logs in its bytes all the same, copy it to NAME.raw and scan that.")  # fmt: skip
    return Other()


def is_disk_image(item: Item, head: bytes) -> bool:
    """Whether a file is a disk image that can be read.

    A raw one begins with a boot record or with a volume, or is called like one.
    """
    if is_image(head):
        return True
    if item.size < _SMALLEST_DISK:
        return False
    has_table = head[510:512] == b"\x55\xaa" or head.startswith(b"EFI PART", 512)
    return has_table or item.key.lower().endswith(_RAW_SUFFIXES)


def _holds_chunks(item: Item, head: bytes, source: Opener) -> bool:
    """Whether a file without a log's header is a log. Raises Unreadable if it is not."""
    for at in range(0, item.size, _STRIDE):
        part = source.read_at(item, at, _STRIDE + CHUNK)
        if next(chunks_of([part]), None):
            return True
    if any(head):
        raise Unreadable(f"This is not an event log: it begins with {head[:8].hex(' ')}.")
    return True  # only zeros: space that Windows has set aside for a log


def _address(source: Opener, item: Item) -> str:
    """The path or the URL of a file."""
    uri = source.uri(item)
    return path_of(uri) or uri


def _place_of_loose(item: Item, source: Files) -> tuple[str, str]:
    """The machine that a loose file is of, and its path there."""
    root = unquote(source.uri(item)).removesuffix(item.path).rstrip("/")
    return machine_and_path(item.key, root.rpartition("/")[2])


def _is_wanted(name: str) -> bool:
    """Whether a member of an archive is a log, or gives facts."""
    return name.lower().endswith(".evtx") or facts.source_of(name) is not None


def _inside(name: str) -> str:
    """The name of a member of an archive, without parts that lead out of a folder."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


class Other:
    """A file that holds no evidence."""

    def units(self) -> Iterator[tuple[str, Place]]:
        """None."""
        return iter(())

    def row(self) -> dict[str, Any]:
        """See `Container`."""
        return {"kind": "other"}


@dataclass(frozen=True)
class Log:
    """An event log by itself."""

    item: Item
    source: Files

    def units(self) -> Iterator[tuple[str, Place]]:
        """See `Container`."""
        item, address = self.item, _address(self.source, self.item)
        image, path = _place_of_loose(item, self.source)
        for unit, start, stop in parts_of(item.key, item.size):
            yield (
                unit,
                Place(
                    container=item.key, address=address, size=item.size, image=image, path=path, start=start, stop=stop
                ),
            )

    def row(self) -> dict[str, Any]:
        """See `Container`."""
        return {"kind": "log"}


class Archive:
    """A zip archive."""

    def __init__(self, item: Item, source: Files) -> None:
        self.item, self.source = item, source
        self.problems: list[str] = []
        """What of it is not read, in sentences."""

    def units(self) -> Iterator[tuple[str, Place]]:
        """See `Container`. A log in an archive is one unit, since it is unpacked from its start."""
        item, address = self.item, _address(self.source, self.item)
        with open_archive(item, self.source) as archive:
            every = archive.infolist()
        if sum(one.compress_size for one in every) > item.size:
            raise Unreadable("The files in this archive share their bytes, as only those of an archive bomb do.")
        members = [(number, one) for number, one in enumerate(every) if _is_wanted(one.filename)]
        numbers = {one.filename.lower(): number for number, one in enumerate(every)}
        if locked := [one.filename for _, one in members if one.flag_bits & 1]:
            raise Unreadable(f"{locked[0]} is encrypted. Unpack the archive with its password, and scan the folder.")
        seen: set[str] = set()
        left = _INFLATED
        for number, member in members:
            name = _inside(member.filename)
            if member.file_size > max(_SMALL, member.compress_size * _RATIO):
                left -= member.file_size
                if left < 0:
                    what = f"{member.compress_size:,} bytes unpack to {member.file_size:,}, as in an archive bomb"
                    self.problems.append(f"{name} was not read: {what}.")
                    continue
            machine, path = machine_and_path(name, "")
            is_log = name.lower().endswith(".evtx")
            part = f"0-{max(1, -(-member.file_size // CHUNK)) - 1}" if is_log else "facts"
            place = Place(
                container=item.key,
                kind="log" if is_log else "facts",
                address=address,
                size=item.size,
                image=f"{item.key}/{machine}" if machine else item.key,
                path=path,
                start=0,
                stop=member.file_size,
                member=str(number),
            )
            beside = [numbers.get(log.lower()) for log in facts.log_names(member.filename)]
            logs = [(at, every[at].file_size) for at in beside if at is not None]
            place = replace(place, beside=tuple(replace(place, member=str(at), stop=size) for at, size in logs))
            key = f"{item.key}/{name}"
            if key in seen:  # an archive may have two files of one name
                key = f"{key} ({number})"
            seen.add(key)
            yield f"{key}#{part}", place

    def row(self) -> dict[str, Any]:
        """See `Container`."""
        return {"kind": "zip", "problems": self.problems}


@dataclass(frozen=True)
class FactsFile:
    """A file that gives facts: see `fanfold.evidence.facts`."""

    item: Item
    source: Files

    def units(self) -> Iterator[tuple[str, Place]]:
        """See `Container`."""
        item = self.item
        image, path = _place_of_loose(item, self.source)
        first, *beside = (
            Place(
                container=item.key,
                kind="facts",
                address=_address(self.source.inner, file),
                size=file.size,
                image=image,
                path=path,
                start=0,
                stop=file.size,
                version=file.version,
            )
            for file in (*self.source.segments(item), *self.source.beside(item))
        )
        yield f"{item.key}#facts", replace(first, beside=tuple(beside))

    def row(self) -> dict[str, Any]:
        """See `Container`."""
        return {"kind": "facts"}


class DiskImage:
    """A disk image."""

    def __init__(self, item: Item, source: Files) -> None:
        """Raises Unreadable, and OSError."""
        self.source, self.segments = source, source.segments(item)
        self.medium = open_disk(self.segments, source.inner)
        self.disk = Disk(item.key, self.medium)
        self.notes = self._notes(source.beside(item))

    def _notes(self, files: Sequence[Item]) -> dict[str, Any]:
        """What the imaging program has noted in a file beside the image."""
        for file in files:
            name = file.path.rpartition("/")[2]
            try:
                found = noted(text_of(self.source.inner.read_at(file, 0, _STRIDE)))
            except OSError as error:
                self.disk.problems.append(f"The notes {name} cannot be read: {error}.")
                continue
            if found:
                return {"file": name} | found
        return {}

    def units(self) -> Iterator[tuple[str, Place]]:
        """See `Container`."""
        return self.disk.units()

    def row(self) -> dict[str, Any]:
        """See `Container`."""
        medium, about = self.medium, self.medium.about
        acquired, is_known = acquired_at(about.get("acquired", ""))
        volumes = [volume._asdict() for volume in self.disk.volumes]
        return {
            "kind": medium.kind,
            "problems": self.disk.problems,
            "media_bytes": medium.size,
            "sector_bytes": medium.sector,
            "acquired_at": acquired if is_known else None,
            **about,
            **{f"{name}_stored": digest for name, digest in medium.stored.items()},
            "unread": [{"first_sector": first, "sectors": sectors} for first, sectors in medium.unread],
            "volumes": [volume | {"bytes": volume["size"]} for volume in volumes],
            "sidecar": msgspec.json.encode(self.notes).decode() if self.notes else None,
            "segments": [
                {"uri": _address(self.source.inner, one), "bytes": one.size, "version": one.version}
                for one in self.segments
            ],
        }
