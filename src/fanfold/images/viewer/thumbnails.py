"""Small pictures, kept: in memory, and in the user's cache.

CACHE/thumbs/3f/3fa2...c1.jpg      by the hash of the address, its version, and the size
"""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from fanfold.errors import FanfoldError
from fanfold.images.models.cache import cache_dir, write_whole
from fanfold.images.viewer.decoder import Helpers

SIDE = 256
"""Pixels of a thumbnail's side."""
HELD = 5000
"""Thumbnails in memory: 60 MB."""
DISK = 1 << 30
"""Bytes of thumbnails on disk; the oldest go first."""
_LOOK_EVERY = 2000
"""Thumbnails written between two looks at how many bytes there are."""


class Thumbnails:
    """Thumbnails by the address and the version of their picture."""

    def __init__(self, helpers: Helpers, max_pixels: int, read: Callable[[str], bytes], on_disk: bool = True) -> None:
        """`read` gets the bytes of a picture by its address."""
        self._helpers, self._max_pixels, self._read = helpers, max_pixels, read
        self._folder = cache_dir() / "thumbs" if on_disk else None
        self._written, self._lock = 0, threading.Lock()
        self.get = lru_cache(HELD)(self.made)

    def made(self, uri: str, version: str, size: int = SIDE, what: str = "thumb") -> bytes:
        """A JPEG of at most `size` pixels a side; `what`: see `decoder.answer`. `get` has the last ones in memory.

        Raises Undecodable.
        """
        name = hashlib.sha256(f"{uri}\0{version}\0{what}{size}".encode(errors="surrogatepass")).hexdigest()
        made = self._from_disk(name)
        if made is None:
            made = self._helpers.ask({"what": what, "size": size, "max_pixels": self._max_pixels}, self._read(uri))
            self._keep(name, made)
        return made

    def _file(self, folder: Path, name: str) -> Path:
        return folder / name[:2] / f"{name}.jpg"

    def _from_disk(self, name: str) -> bytes | None:
        if self._folder is None:
            return None
        file = self._file(self._folder, name)
        with suppress(OSError):
            found = file.read_bytes()
            file.touch()  # used lately
            return found if found.startswith(b"\xff\xd8") and found.endswith(b"\xff\xd9") else None
        return None

    def _keep(self, name: str, made: bytes) -> None:
        if self._folder is None:
            return
        with suppress(FanfoldError):  # a full disk costs time, not the page
            write_whole(self._file(self._folder, name), made)
        with self._lock:
            self._written += 1
            due = self._written % _LOOK_EVERY == 1
        if due:
            threading.Thread(target=prune, args=(self._folder, DISK), daemon=True).start()


def prune(folder: Path, most: int) -> None:
    """Delete the files that were used longest ago, until at most 9/10 of `most` bytes are left; nothing below it."""
    found = []
    for file in folder.glob("*/*.jpg"):
        with suppress(OSError):
            info = file.stat()
            found.append((info.st_mtime, info.st_size, file))
    left = sum(size for _, size, _ in found)
    if left <= most:
        return
    for _, size, file in sorted(found):
        if left <= most * 9 // 10:
            return
        file.unlink(missing_ok=True)
        left -= size
