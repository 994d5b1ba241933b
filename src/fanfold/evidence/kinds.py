"""The kinds of files that were given, and the units in each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import unquote
from zipfile import ZipInfo

import msgspec

from fanfold.evidence import facts
from fanfold.evidence.archive import READABLE, open_archive
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.disk.notes import noted
from fanfold.evidence.disk.raw import RAW_SUFFIXES, Raw
from fanfold.evidence.disk.sections import acquired_at
from fanfold.evidence.disks import Disk
from fanfold.evidence.eventlog.chunks import CHUNK, chunks_of, header_of
from fanfold.evidence.facts.texts import text_of
from fanfold.evidence.files import UNREADABLE, open_disk, segment_file
from fanfold.evidence.formats import SPLIT, check_name, check_readable, is_disk_image
from fanfold.evidence.given import Files
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import Place, parts_of
from fanfold.job import Item, Opener
from fanfold.source.names import as_text
from fanfold.storage import path_of

_MAY_HOLD_LOGS = (
    ".zip", ".7z", ".rar", ".tar", ".tar.gz", ".tgz", ".e01", ".ex01", ".ad1", ".vhd", ".vhdx", ".vmdk", ".evt",
    *RAW_SUFFIXES,
)  # fmt: skip
"""What the names of archives, disk images and old logs end with, in lower case; those in an archive are not read."""
_LOCKED = "is encrypted. Unpack the archive with its password, and scan the folder."
_PACKED = "is packed in a way that is not known here. Unpack the archive, and scan the folder."
_STRIDE = 8 << 20  # bytes of a read
_SMALL = 1 << 20  # bytes of a member that may unpack from any number: most of a log may be zeros
_RATIO = 200  # bytes of a larger member that one byte unpacks to, as a rule
_INFLATED = 4 << 30  # bytes of members with a higher ratio that are read, in all


class Container(Protocol):
    """Something that was given, and what is in it."""

    def units(self) -> Iterator[tuple[str, Place]]:
        """Its units, with their keys. Raises one of `files.DAMAGED`, and OSError."""

    def row(self) -> dict[str, Any]:
        """Its values of `containers.SCHEMA`, once the units were taken."""


def container_of(item: Item, head: bytes, source: Files) -> Container:
    """What a file is. Raises one of `files.DAMAGED`, and OSError.

    `head`: its first bytes; empty if they cannot be read, as then only its name can tell.
    """
    if not item.size:  # in a folder, those are left out
        raise Unreadable("This file is empty.")
    if header_of(head) or (item.path.lower().endswith(".evtx") and _holds_chunks(item, head, source)):
        return Log(item, source)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Zip(item, source)
    if facts.is_source(item.key, head) or (not head and item.size and facts.source_of(item.key)):
        return FactsFile(item, source)
    check_readable(head)  # before names count: x.7z.001 is not a raw image
    if is_disk_image(item, head):
        return DiskImage(item, source)
    check_name(item, head)
    return Zip(item, source) if item.key.lower().endswith(".zip") else Other()  # its beginning may be damaged


def is_known_by_name(name: str) -> bool:
    """Whether a file of this name is evidence, though its first bytes cannot be read."""
    return _is_wanted(name) or name.lower().endswith((".zip", *RAW_SUFFIXES))


def _holds_chunks(item: Item, head: bytes, source: Opener) -> bool:
    """Whether a file without a log's header is a log. Raises Unreadable if it is not."""
    file = Raw([segment_file(item, source)])
    for at in range(0, item.size, _STRIDE):
        part = file.read_at(at, _STRIDE + CHUNK)
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
    uri = as_text(unquote(source.uri(item), errors="surrogateescape"))
    return machine_and_path(item.key, uri.removesuffix(item.path).rstrip("/").rpartition("/")[2])


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


class Zip:
    """A zip archive."""

    def __init__(self, item: Item, source: Files) -> None:
        """Raises one of `files.DAMAGED`, and OSError."""
        self.item, self.address = item, _address(source, item)
        self.problems: list[str] = []
        """What of it is not read, in sentences."""
        with open_archive(item, source) as archive:
            self.members, self._is_split = archive.infolist(), archive.is_split
            if archive.made_up:
                self.problems.append(archive.made_up.problem)
            if archive.bytes.has_damage:
                self.problems.append(UNREADABLE)
        self._numbers = {member.filename.lower(): number for number, member in enumerate(self.members)}
        self._left = _INFLATED

    def units(self) -> Iterator[tuple[str, Place]]:
        """See `Container`. A log in an archive is one unit, since it is unpacked from its start."""
        wanted = [(number, member) for number, member in enumerate(self.members) if _is_wanted(member.filename)]
        self._check(wanted)
        inner = [
            _inside(member.filename) for member in self.members if member.filename.lower().endswith(_MAY_HOLD_LOGS)
        ]
        if inner:
            more = f" and {len(inner) - 1:,} more archives, disks or old logs" if inner[1:] else ""
            self.problems.append(f"{inner[0]}{more} in it: not looked into. Unpack the archive, and scan the folder.")
        seen, left_out = set[str](), dict[str, list[str]]()
        for number, member in wanted:
            name = _inside(member.filename)
            if why := self._why_not(member):
                left_out.setdefault(why, []).append(name)
                continue
            key = f"{self.item.key}/{name}"
            if key in seen:  # an archive may have two files of one name
                key = f"{key} ({number})"
            seen.add(key)
            place = self._place(number, member)
            last = max(1, -(-member.file_size // CHUNK)) - 1
            yield f"{key}#0-{last}" if place.kind == "log" else f"{key}#facts", place
        for why, names in left_out.items():
            more = f" (and {len(names) - 1:,} more)" if names[1:] else ""
            self.problems.append(f"{names[0]}{more} {why}")

    def _why_not(self, member: ZipInfo) -> str:
        """Why a member is not read: what follows its name in a sentence. Empty if it is."""
        if member.flag_bits & 1:
            return _LOCKED
        if member.compress_type not in READABLE:
            return _PACKED
        if self._is_bomb(member):
            what = f"{member.compress_size:,} bytes unpack to {member.file_size:,}"
            return f"was not read: {what}, as in an archive bomb."
        return ""

    def _check(self, wanted: Sequence[tuple[int, ZipInfo]]) -> None:
        """Raise Unreadable for a bomb, an AFF4 image, a part of an archive, or if all that is wanted is encrypted."""
        if self._is_split:
            raise Unreadable(f"This is {SPLIT}.")
        if wanted and all(member.flag_bits & 1 for _, member in wanted):
            raise Unreadable(f"{wanted[0][1].filename} {_LOCKED}")
        if "container.description" in self._numbers:
            raise Unreadable("This is an AFF4 image. Save it as a raw image with its tool; then scan that.")
        size = self.item.size  # one more of it, for an entry of the list that was damaged
        if sum(min(member.compress_size, size) for member in self.members) > 2 * size:
            raise Unreadable("The files in this archive share their bytes, as only those of an archive bomb do.")

    def _is_bomb(self, member: ZipInfo) -> bool:
        """Whether a member unpacks to more than may be read of such members."""
        if member.file_size <= max(_SMALL, member.compress_size * _RATIO):
            return False
        self._left -= member.file_size
        return self._left < 0

    def _place(self, number: int, member: ZipInfo) -> Place:
        """Where a member lies, with the transaction logs beside it."""
        machine, path = machine_and_path(_inside(member.filename), "")
        place = Place(
            container=self.item.key,
            kind="log" if path.lower().endswith(".evtx") else "facts",
            address=self.address,
            size=self.item.size,
            image=f"{self.item.key}/{machine}" if machine else self.item.key,
            path=path,
            start=0,
            stop=member.file_size,
            member=str(number),
        )
        logs = [self._numbers.get(name.lower()) for name in facts.log_names(member.filename)]
        found = [replace(place, member=str(at), stop=self.members[at].file_size) for at in logs if at is not None]
        return replace(place, beside=tuple(found))

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
