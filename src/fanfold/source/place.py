"""The places that items were listed from. A place can vanish as a whole: a disk is unmounted, a folder is moved away,
the credentials of a bucket expire.

Then every read fails, through no fault of the items. So a worker that cannot read an item checks the places.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fanfold.errors import SourceGone, StorageError
from fanfold.source.bucket import Bucket
from fanfold.source.protocol import suffix_of
from fanfold.storage import is_url

LISTS = frozenset({".txt", ".list", ".lst"})
"""Endings of files that are lists of items, not items."""
ASK_EVERY = 5.0
"""Seconds between two checks of the places while items cannot be read."""


class Places:
    """The places of a run's source, as this process first saw them."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.places = list(dict.fromkeys(place for address in addresses for place in _places(address)))
        self._looked = -ASK_EVERY

    def doubt(self) -> None:
        """Check the places, now and then, after an item could not be read. Raises SourceGone if one is gone."""
        if time.monotonic() - self._looked >= ASK_EVERY:
            self.check()
            self._looked = time.monotonic()

    def check(self) -> None:
        """Raise SourceGone unless every place is there."""
        for place in self.places:
            if why := place.trouble():
                raise SourceGone(place.address, why)


@dataclass(frozen=True)
class LocalPlace:
    """A folder of this machine."""

    address: str
    identity: tuple[int, int] | None
    """Its device and inode at the start: an unmounted disk leaves an empty folder, or the one below it."""

    def trouble(self) -> str:
        """What is wrong with it; empty if it is there."""
        try:
            now = _identity(self.address)
            with os.scandir(self.address) as entries:
                empty = next(entries, None) is None
        except OSError as error:
            return error.strerror or str(error)
        if empty:
            return "the folder is empty now"
        return "it is another folder now" if self.identity not in (None, now) else ""


@dataclass(frozen=True)
class RemotePlace:
    """A prefix of an object store."""

    address: str

    def trouble(self) -> str:
        """What is wrong with it; empty if it is there."""
        try:
            next(Bucket(self.address).list(frozenset()), None)  # raises if nothing is there
        except StorageError as error:
            return str(error)
        return ""


def _places(address: str) -> Iterator[LocalPlace | RemotePlace]:
    """The place of an address, or of the file that it names; none for a list, a table or a web server."""
    folder, _, name = address.rpartition("/")
    suffix = suffix_of(name)
    if is_url(address):
        if not (address.lower().startswith("http") or suffix in LISTS):
            yield RemotePlace(folder if suffix[1:2].isalpha() and folder.count("/") > 1 else address)
    elif Path(address).is_absolute() and not (suffix in LISTS and Path(address).is_file()):
        where = folder if Path(address).is_file() else address
        yield LocalPlace(where, _identity(where) if Path(where).exists() else None)


def _identity(folder: str) -> tuple[int, int]:
    info = os.stat(folder)  # noqa: PTH116
    return info.st_dev, info.st_ino
