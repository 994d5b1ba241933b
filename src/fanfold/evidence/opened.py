"""What a worker holds open from unit to unit: the last archive, the last disk image with its volumes, what is known."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fanfold.evidence.archive import Archive, open_archive
from fanfold.evidence.disk.medium import Medium, Unreadable
from fanfold.evidence.disk.ntfs import FileSystem
from fanfold.evidence.disk.shadow import Copies
from fanfold.evidence.eventlog.chunks import CHUNK_MAGIC, Chunk
from fanfold.evidence.files import open_disk
from fanfold.evidence.units import Place, Units, place_of
from fanfold.job import Item


class Opened:
    """Open containers. Only the last one is kept: units come in the order of their containers."""

    def __init__(self) -> None:
        self._container: tuple[str, ...] = ()
        self._archive: Archive | None = None
        self._medium: Medium | None = None
        self._systems: dict[tuple[int, int], FileSystem] = {}
        self._copies: dict[int, Copies] = {}
        self._taken: list[_Extent] | None = None
        self._known: dict[tuple[str, ...], npt.NDArray[np.uint64]] = {}

    def archive(self, item: Item, source: Units) -> Archive:
        """The archive that a unit lies in. Raises one of `files.DAMAGED`, and OSError."""
        place = self._turned_to(item)
        if self._archive is None:
            self._archive = open_archive(place.to_read(item.version), source.opener)
        return self._archive

    def medium(self, item: Item, source: Units) -> Medium:
        """The disk that a unit lies on. Raises OSError, and Unreadable."""
        place = self._turned_to(item)
        if self._medium is None:
            self._medium = open_disk(source.segments(place.container, item.version), source.opener)
        return self._medium

    def system(self, item: Item, source: Units) -> FileSystem:
        """The file system that a unit lies in. Raises OSError, and Unreadable."""
        return self._system(self.medium(item, source), place_of(item))

    def _system(self, medium: Medium, place: Place) -> FileSystem:
        """The file system at a place. Of those in shadow copies, only the last one is kept."""
        start, copy = place.volume_start, place.copy
        if (start, copy) not in self._systems:
            if copy:
                if start not in self._copies:
                    self._copies[start] = Copies(medium, start, place.volume_size)
                self._systems = {key: system for key, system in self._systems.items() if not key[1]}
                medium, start = self._copies[start].medium(copy), 0
            self._systems[place.volume_start, copy] = FileSystem(medium, start)
        return self._systems[place.volume_start, copy]

    def known(self, item: Item, source: Units) -> npt.NDArray[np.uint64]:
        """The digests, sorted, of the records that units of earlier stages had on the same disk."""
        place = self._turned_to(item)
        key = (place.container, item.version, place.stage, f"{place.volume_start}" if place.copy else "")
        if key not in self._known:
            self._known = {key: source.known(place, item.version)}
        return self._known[key]

    def is_in_log(self, item: Item, source: Units, chunk: Chunk) -> bool:
        """Whether a chunk on the disk is one that a log of a file system has there.

        It is then read as the log has it. Where a log is in pieces, what lies behind a piece on the disk is not the
        rest of the piece's last chunk; unless the chunk is whole there, as after clusters of a deleted log were used
        again.
        """
        self._turned_to(item)
        if self._taken is None:
            self._taken = sorted(self._extents(item, source), key=lambda extent: extent.at)
        at = bisect_right(self._taken, chunk.offset, key=lambda extent: extent.at) - 1
        return at >= 0 and self._taken[at].has_chunk(chunk)

    def _extents(self, item: Item, source: Units) -> "Iterator[_Extent]":
        """Where the logs of all file systems lie on the disk."""
        medium, read = self.medium(item, source), dict[tuple[int, int], list[Place]]()
        for place in source.logs_on(place_of(item).container, item.version):
            if place.kind == "log":
                read.setdefault((place.volume_start, place.inode), []).append(place)
        for places in read.values():
            system, inode = self._system(medium, places[0]), places[0].inode
            for extent in system.extents(inode):
                yield _Extent(extent.at, extent.length, extent.start, inode, system, places)

    def _turned_to(self, item: Item) -> Place:
        """The place of a unit; another container than the last one is closed."""
        place = place_of(item)
        container = (place.container, place.address, item.version)
        if container != self._container:
            self._archive, self._medium, self._taken = None, None, None
            self._systems, self._copies = {}, {}
            self._container = container
        return place


class _Extent(NamedTuple):
    """A part of a log that lies in one piece on the disk."""

    at: int
    """Bytes from the start of the disk."""
    length: int
    start: int
    """Bytes from the start of the log."""
    inode: int
    system: FileSystem
    places: list[Place]
    """The units of the log that were read; others may have failed."""

    def has_chunk(self, chunk: Chunk) -> bool:
        """Whether the log has this chunk of the disk. What its clusters held before may lie there, too."""
        left = self.at + self.length - chunk.offset
        if left <= 0 or (chunk.ok and left < chunk.free):
            return False
        start = self.start + chunk.offset - self.at
        if not any(place.start <= start < place.stop for place in self.places):
            return False
        try:
            return self.system.read_at(self.inode, start, len(CHUNK_MAGIC)) == CHUNK_MAGIC
        except Unreadable:  # behind the log's end
            return False
