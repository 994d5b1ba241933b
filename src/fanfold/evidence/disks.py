"""The units of a disk image: its event logs (deleted ones, too), all of its bytes to carve, and its verification.

Those of its shadow copies are listed by a job of its own: see copies.py.
"""

from collections.abc import Iterator
from dataclasses import replace

from fanfold.evidence import facts
from fanfold.evidence.disk.folders import logs_in_folders
from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.ntfs import FileSystem, FoundLog
from fanfold.evidence.disk.raw import strides
from fanfold.evidence.disk.shadow import catalog
from fanfold.evidence.disk.volumes import (
    SHADOW_COPY,
    SPANNED,
    WITHOUT_LOGS,
    Volume,
    looks_random,
    name_of_copy,
    volumes,
)
from fanfold.evidence.eventlog.chunks import CHUNK
from fanfold.evidence.formats import CONVERT
from fanfold.evidence.units import GROUP, Place, parts_of

CARVED = 256 << 20
"""Bytes of a disk that are carved as one unit."""
_ENCRYPTED = ("BitLocker", "LUKS")
_READABLE = ("NTFS", "exFAT", "FAT32", "FAT")
_LOGS = "Windows/System32/winevt/Logs"
_OLD_LOGS = ("Windows/System32/config/*.evt", "WINNT/System32/config/*.evt")
_UNIT = GROUP * CHUNK  # bytes of a unit
_PLAUSIBLE = 256 << 20  # bytes of a log whose clusters are not looked at before it is read


class Disk:
    """A disk image that is looked into."""

    def __init__(self, key: str, medium: Medium) -> None:
        self.key, self.medium = key, medium
        self.whole = Place.of_disk(key, medium.size)
        self.problems = list(medium.problems)
        """What of the disk cannot be read, in sentences."""
        self.volumes: list[Volume] = []
        self._names: set[str] = set()  # of logs
        self._left = 2 * medium.end  # bytes that large logs may still claim

    def units(self) -> Iterator[tuple[str, Place]]:
        """The units, with their keys. `volumes` and `problems` are complete when all were taken."""
        found = volumes(self.medium, self.problems)
        if not found:
            what = "It has no partition table that can be read, and no file system that is known"
            self.problems.append(f"{what}{_of_no_system(self.medium, 0)}")
        for volume in found:
            self.volumes += [volume, *self._copies(volume)]
            yield from self._logs(volume)
        yield from self._parts()
        for kind in ("verify", "chunks"):  # a scan reads one of them
            yield f"{self.key}/{kind}", replace(self.whole, kind=kind, origin=None, stop=self.medium.end)

    def _copies(self, volume: Volume) -> Iterator[Volume]:
        """The shadow copies of a volume."""
        if volume.system != "NTFS":
            return
        found, wrong = catalog(self.medium, volume.start, volume.size)
        if wrong:
            self.problems.append(f"{volume.name} has a damaged catalog of shadow copies: {wrong}.")
        for copy in found:
            name = name_of_copy(volume.name, copy.number)
            yield volume._replace(name=name, kind=SHADOW_COPY, label="", created=copy.created)

    def _logs(self, volume: Volume) -> Iterator[tuple[str, Place]]:
        """The event logs of a volume."""
        if why := _why_none(volume, self.medium):
            self.problems.append(f"{volume.name} ({volume.size / 1e9:,.1f} GB) {why}")
        if volume.system not in _READABLE:
            return
        try:
            system = FileSystem(self.medium, volume.start)
            self.problems += [f"{volume.name} ({volume.system}): {problem}." for problem in system.problems]
            for log in system.logs() if volume.system == "NTFS" else logs_in_folders(system):
                if isinstance(log, str):
                    self.problems.append(f"{volume.name}/{log}")
                else:
                    yield from self._log(volume, system, log)
            yield from self._facts(volume, system)
            self.problems += _of_old_logs(volume, system)
            if system.is_packed(_LOGS):
                self.problems.append(f"{volume.name}/{_LOGS} is compressed by NTFS: logs that were deleted from it, "
                                     "and of which the file table has no record, cannot be carved.")  # fmt: skip
        except Unreadable as error:
            if volume.kind not in WITHOUT_LOGS:
                self.problems.append(
                    f"{volume.name} ({volume.system}) cannot be read to its end: {error}. "
                    "Logs in the rest of it are found by carving only."
                )

    def _log(self, volume: Volume, system: FileSystem, log: FoundLog) -> Iterator[tuple[str, Place]]:
        if log.unread:
            self.problems.append(f"{volume.name}/{log.path} {log.unread}")
            return
        size = min(log.size, self.medium.end)  # a damaged record may claim anything
        if not size:
            return
        name = f"{self.key}/{log.key(volume.name)}"
        if name in self._names:  # a damaged table may have two files of one path
            name = f"{name} ({log.inode})"
        self._names.add(name)
        origin = "deleted" if log.is_deleted else "live"
        place = replace(self._on(volume), path=log.path, origin=origin, inode=log.inode)
        for unit, start, stop in self._held(name, size, system, log):
            yield unit, replace(place, start=start, stop=stop)

    def _on(self, volume: Volume) -> Place:
        return replace(self.whole, volume=volume.name, volume_start=volume.start)

    def _held(self, name: str, size: int, system: FileSystem, log: FoundLog) -> Iterator[tuple[str, int, int]]:
        """The units of a log, without those that lie in no cluster, as most of a log that claims 2^60 bytes would."""
        parts = parts_of(name, size)
        if size <= _PLAUSIBLE:
            yield from parts
            return
        extents = system.extents(log.inode)
        self._left -= sum(extent.length for extent in extents)
        if self._left < 0:  # files that share their clusters may claim any sum
            self.problems.append(f"{name} claims {log.size:,} bytes, more than the disk can hold. It was not read.")
            return
        held = {
            number
            for extent in extents
            for number in range(extent.start // _UNIT, (extent.start + extent.length - 1) // _UNIT + 1)
        }
        # The first part begins with the log's header, and each of the others a header's length later.
        yield from (part for number, part in enumerate(parts) if held & {number, number + 1})

    def _facts(self, volume: Volume, system: FileSystem) -> Iterator[tuple[str, Place]]:
        """The files of a volume that give facts, each with its transaction logs."""

        def at(path: str, inode: int) -> Place:
            place = replace(self._on(volume), kind="facts", path=path, inode=inode)
            return replace(place, stop=system.size_of(inode))

        for kind in facts.SOURCES:
            for path, inode in system.matching(kind.path):
                if why := system.why_unread(inode):
                    self.problems.append(f"{volume.name}/{path} {why}")
                    continue
                logs = [found for name in facts.log_names(path) if (found := system.find(name))]
                place = replace(at(path, inode), beside=tuple(at(path, log) for log in logs))
                yield f"{self.key}/{volume.name}/{path}#facts", place

    def _parts(self) -> Iterator[tuple[str, Place]]:
        """The whole disk, in parts to carve, without those that are holes of a sparse file."""
        for start in strides(self.medium, CARVED):
            stop = min(start + CARVED, self.medium.end)
            key = f"{self.key}/carve/{start >> 20:05}-{-(-stop >> 20):05}MiB"
            yield key, replace(self.whole, kind="carve", origin="carved", start=start, stop=stop)


def _of_old_logs(volume: Volume, system: FileSystem) -> Iterator[str]:
    """A sentence on the event logs of Windows XP or 2003, if there are some."""
    if found := [path for pattern in _OLD_LOGS for path, _ in system.matching(pattern)]:
        more = f" (and {len(found) - 1:,} more)" if found[1:] else ""
        yield (f"{volume.name}/{found[0]}{more} is an event log of Windows XP or 2003 (.evt), which is not read. "
               f"Copy it from the disk. {CONVERT}; then scan that.")  # fmt: skip


def _why_none(volume: Volume, medium: Medium) -> str:
    """Why the logs of a volume cannot be read, and what to do; empty if they can, or if none are to be expected."""
    if volume.system in _ENCRYPTED:
        return f"is encrypted by {volume.system}. Unlock it with its key, and scan the unlocked volume."
    if volume.kind in SPANNED:
        return (f"is a part of {SPANNED[volume.kind]}, whose volumes may lie on several disks. "
                "Attach the disks to a Windows machine, and scan an image of each volume.")  # fmt: skip
    if volume.system in _READABLE or volume.kind in WITHOUT_LOGS:
        return ""
    if volume.system == "ReFS":
        return "has the file system ReFS, which cannot be read. Mount it on a Windows machine, and scan the folder."
    if volume.system:
        return f"has the file system {volume.system}, where Windows keeps no logs."
    return f"has no file system that is known{_of_no_system(medium, volume.start)}"


def _of_no_system(medium: Medium, start: int) -> str:
    """The end of a sentence on what has no file system."""
    if looks_random(medium, start):
        return (", and begins with random bytes: it is encrypted, as by VeraCrypt, or was wiped. "
                "If you have its key, unlock it, and scan the unlocked volume.")  # fmt: skip
    return ". Logs in it are found by carving only."
