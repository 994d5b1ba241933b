"""The map of a table on the page: its places as they are sent, and the rows in an area of it."""

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from fanfold.cli.show import duration, size
from fanfold.errors import UsageError
from fanfold.images import maps
from fanfold.images.search.rows import Indices
from fanfold.images.viewer.kept import Kept
from fanfold.images.viewer.tables import Version

CORNERS = 200
"""Most corners of an area."""

Corners = npt.NDArray[np.int64]


class Maps:
    """The maps of the versions of a table, as they are kept; nothing is made here."""

    def __init__(self) -> None:
        self._maps: Kept[maps.Map | None] = Kept(most=1)

    def about(self, version: Version) -> dict[str, Any]:
        """What there is of a map now, what it lacks, and the command that makes it."""
        found = self._maps.get((version.name,), lambda: maps.load(version.dataset), again=True)
        about = {"rows": version.rows, "type": version.command("map")}
        if found is None:
            needs = maps.needs(version.dataset, "make")
            return about | {"made": "", "seconds": duration(needs.seconds), "memory": size(needs.memory)}
        made = f"{zlib.crc32(found.places.tobytes()):08x}"
        return about | {"made": made, "placed": found.placed, "landmarks": found.landmarks, "due": found.due}

    def places(self, version: Version) -> bytes:
        """The place of each row: x and y, little-endian uint16. Raises UsageError for a table without a map."""
        return self._map(version).places.astype("<u2").tobytes()

    def within(self, version: Version, area: str) -> Indices:
        """The rows in an area, ascending. Raises UsageError for one that is not x and y of three corners or more."""
        return within(self._map(version).places, _corners(area))

    def _map(self, version: Version) -> maps.Map:
        found = self._maps.get((version.name,), lambda: maps.load(version.dataset))
        if found is None:
            raise UsageError(f"This table has no map yet. Type: {version.command('map')}")
        return found


def _corners(area: str) -> Corners:
    given = area.split(",")
    numbers = [int(one) for one in given if one.isascii() and one.isdecimal() and len(one) < 6]
    if len(numbers) < len(given) or len(given) % 2 or not 3 <= len(given) // 2 <= CORNERS:
        raise UsageError(f"An area takes x and y of 3 to {CORNERS} corners, whole numbers from 0 to 65535.")
    return np.array(numbers).reshape(-1, 2)


def within(places: maps.Places, corners: Corners) -> Indices:
    """The rows whose places are in an area: a line from there to the left crosses its border an odd number of times."""
    near = ((places >= corners.min(axis=0)) & (places <= corners.max(axis=0))).all(axis=1)
    rows: Indices = np.flatnonzero(near & (places[:, 0] != maps.NOWHERE))
    x, y = places[rows].T.astype(np.int64)
    inside = np.zeros(len(rows), bool)
    for (x0, y0), (x1, y1) in zip(corners.tolist(), np.roll(corners, 1, axis=0).tolist(), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return rows[inside]
