"""The units of a disk image: its event logs (deleted ones, too), all of its bytes to carve, and its verification.

Those of its shadow copies are listed by a job of its own: see copies.py.
"""

from collections.abc import Iterator, Sequence

from fanfold.evidence import facts
from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.ntfs import FileSystem, FoundLog
from fanfold.evidence.disk.shadow import catalog
from fanfold.evidence.disk.volumes import SHADOW_COPY, Volume, volumes
from fanfold.evidence.units import Place, parts_of

CARVED = 256 << 20
"""Bytes of a disk that are carved as one unit."""
_ENCRYPTED = ("BitLocker", "LUKS")


class Disk:
    """A disk image that is looked into."""

    def __init__(self, key: str, medium: Medium) -> None:
        self.key, self.medium = key, medium
        self.problems = list(medium.problems)
        """What of the disk cannot be read, in sentences."""
        self.volumes: list[Volume] = []

    def units(self) -> Iterator[tuple[str, Place]]:
        """The units, with their keys. `volumes` and `problems` are complete when all were taken."""
        found: list[Volume] = []
        try:
            found = volumes(self.medium)
        except Unreadable as error:
            self.problems.append(str(error))
        else:
            if not found:
                self.problems.append("It has no partition table, and no file system that is known.")
        for volume in found:
            self.volumes += [volume, *self._copies(volume)]
            yield from self._logs(volume)
        yield from self._parts()
        whole = Place(container=self.key, kind="verify", size=self.medium.size, image=self.key,
                      start=0, stop=self.medium.end, origin=None)  # fmt: skip
        yield f"{self.key}/verify", whole

    def _copies(self, volume: Volume) -> Iterator[Volume]:
        """The shadow copies of a volume."""
        if volume.system != "NTFS":
            return
        found, wrong = catalog(self.medium, volume.start, volume.size)
        if wrong:
            self.problems.append(f"{volume.name} has a damaged catalog of shadow copies: {wrong}.")
        for copy in found:
            name = f"{volume.name}@vss{copy.number}"
            yield volume._replace(name=name, kind=SHADOW_COPY, label="", created=copy.created)

    def _logs(self, volume: Volume) -> Iterator[tuple[str, Place]]:
        """The event logs of a volume."""
        if volume.system != "NTFS":
            if why := _why_none(volume):
                self.problems.append(f"{volume.name} ({volume.size / 1e9:,.1f} GB) {why}")
            return
        try:
            system = FileSystem(self.medium, volume.start)
            for log in system.logs():
                if isinstance(log, str):
                    self.problems.append(f"{volume.name}/{log}")
                else:
                    yield from self._log(volume, log)
            for kind in facts.SOURCES:
                for path, inode in system.matching(kind.path):
                    logs = [found for name in facts.log_names(path) if (found := system.find(name))]
                    yield self._facts(volume, system, path, inode, logs)
        except Unreadable as error:
            self.problems.append(f"{volume.name} (NTFS) cannot be read to its end: {error}.")

    def _log(self, volume: Volume, log: FoundLog) -> Iterator[tuple[str, Place]]:
        if log.is_packed:
            self.problems.append(f"{volume.name}/{log.path} is compressed by CompactOS, which cannot be read.")
            return
        size = min(log.size, self.medium.size)  # a damaged record may claim anything
        if not size:
            return
        name = f"{self.key}/{volume.name}/{log.path}"
        if log.path.startswith("?/"):  # several may have lost their folder
            name = f"{self.key}/{volume.name}/mft-{log.inode}/{log.path.rpartition('/')[2]}"
        if log.is_deleted:  # several that were deleted may have had the same path
            name = f"{self.key}/{volume.name}!deleted/mft-{log.inode}/{log.path.rpartition('/')[2]}"
        for unit, start, stop in parts_of(name, size):
            yield (
                unit,
                Place(
                    container=self.key,
                    size=self.medium.size,
                    image=self.key,
                    path=log.path,
                    start=start,
                    stop=stop,
                    volume=volume.name,
                    origin="deleted" if log.is_deleted else "live",
                    volume_start=volume.start,
                    inode=log.inode,
                ),
            )

    def _facts(
        self, volume: Volume, system: FileSystem, path: str, inode: int, logs: Sequence[int]
    ) -> tuple[str, Place]:
        """A file that gives facts, with its transaction logs."""

        def at(number: int, beside: tuple[Place, ...] = ()) -> Place:
            return Place(
                container=self.key,
                kind="facts",
                size=self.medium.size,
                image=self.key,
                path=path,
                start=0,
                stop=system.size_of(number),
                volume=volume.name,
                volume_start=volume.start,
                inode=number,
                beside=beside,
            )

        return f"{self.key}/{volume.name}/{path}#facts", at(inode, tuple(map(at, logs)))

    def _parts(self) -> Iterator[tuple[str, Place]]:
        """The whole disk, in parts to carve."""
        for start in range(0, self.medium.end, CARVED):
            stop = min(start + CARVED, self.medium.end)
            yield (
                f"{self.key}/carve/{start >> 20:05}-{-(-stop >> 20):05}MiB",
                Place(
                    container=self.key,
                    kind="carve",
                    size=self.medium.size,
                    image=self.key,
                    start=start,
                    stop=stop,
                    origin="carved",
                ),
            )


def _why_none(volume: Volume) -> str:
    """Why the logs of a volume cannot be read, and what to do; empty if none are to be expected."""
    if volume.system in _ENCRYPTED:
        return f"is encrypted by {volume.system}. Unlock it with its key, and scan the unlocked volume."
    if volume.system in ("ReFS", "exFAT", "FAT", "FAT32", ""):
        return ""
    return f"has the file system {volume.system}, where Windows keeps no logs."
