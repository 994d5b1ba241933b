"""What a worker holds open from unit to unit: the last archive, the last disk image with its volumes, what is known."""

import zipfile
from collections.abc import Sequence
from io import BufferedReader

import numpy as np
import numpy.typing as npt

from fanfold.evidence.disk import open_medium
from fanfold.evidence.disk.medium import Medium
from fanfold.evidence.disk.ntfs import FileSystem
from fanfold.evidence.files import Ranges, segment_file
from fanfold.evidence.units import STAGES, Place, Units, place_of
from fanfold.job import Item


class Opened:
    """Open containers. Only the last one is kept: units come in the order of their containers."""

    def __init__(self) -> None:
        self._container: tuple[str, ...] = ()
        self._archive: zipfile.ZipFile | None = None
        self._medium: Medium | None = None
        self._systems: dict[int, FileSystem] = {}
        self._known: dict[tuple[str, ...], npt.NDArray[np.uint64]] = {}

    def archive(self, item: Item, source: Units) -> zipfile.ZipFile:
        """The archive that a unit lies in. Raises OSError, and BadZipFile."""
        place = self._turned_to(item)
        if self._archive is None:
            self._archive = zipfile.ZipFile(BufferedReader(Ranges(source, item, place.size), 1 << 20))
        return self._archive

    def medium(self, item: Item, source: Units) -> Medium:
        """The disk that a unit lies on. Raises OSError, and Unreadable."""
        place = self._turned_to(item)
        if self._medium is None:
            files = [segment_file(one, source.opener) for one in source.segments(place.container, item.version)]
            self._medium = open_medium(files)
        return self._medium

    def system(self, item: Item, source: Units) -> FileSystem:
        """The file system that a unit lies in. Raises OSError, and Unreadable."""
        medium, start = self.medium(item, source), place_of(item).volume_start
        if start not in self._systems:
            self._systems[start] = FileSystem(medium, start)
        return self._systems[start]

    def known(self, item: Item, source: Units) -> npt.NDArray[np.uint64]:
        """The digests, sorted, of the records that units of earlier stages had on the same disk."""
        place = self._turned_to(item)
        earlier: Sequence[str] = STAGES[: STAGES.index(place.stage)]
        key = (place.container, item.version, place.stage)
        if key not in self._known:
            self._known = {key: source.known(place.image, item.version, earlier)}
        return self._known[key]

    def _turned_to(self, item: Item) -> Place:
        """The place of a unit; another container than the last one is closed."""
        place = place_of(item)
        container = (place.container, place.address, item.version)
        if container != self._container:
            self._archive, self._medium, self._systems = None, None, {}
            self._container = container
        return place
