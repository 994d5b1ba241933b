"""The bytes of a row's picture, if it may be shown.

A database may come from a stranger, and its addresses may lead anywhere. So a picture is read only if it is under the
folder or prefix that the table was made from, links resolved; other places need `--fetch`.
"""

import os
import stat
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import unquote_to_bytes

from fanfold.images.viewer.decoder import Undecodable
from fanfold.source.objects import Objects
from fanfold.source.web import Web
from fanfold.storage import first_line, is_url, is_web, os_errors, path_of, split_url

MOST_BYTES = 1 << 28
"""Of a picture."""
_OUTSIDE = "it is not under the table's source, so it is not shown"

_KINDS = (
    ("image/jpeg", b"\xff\xd8\xff", 0),
    ("image/png", b"\x89PNG\r\n\x1a\n", 0),
    ("image/gif", b"GIF8", 0),
    ("image/webp", b"WEBP", 8),
    ("image/avif", b"ftypavif", 4),
    ("image/avif", b"ftypavis", 4),
)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a table."""

    root: str
    """What the table was made from: a folder, or a prefix of a bucket; empty for a list of addresses."""
    fetch: bool = False
    """Whether pictures of the web and of lists are read as well."""

    def read(self, uri: str) -> bytes:
        """The content at a row's address. Raises Undecodable, with the reason."""
        try:
            return self._read(uri)
        except Undecodable:
            raise
        except FileNotFoundError:
            raise Undecodable("the file is not there any more") from None
        except Exception as error:  # of stores and of this machine
            raise Undecodable(f"it cannot be read: {first_line(error)}") from error

    def _read(self, uri: str) -> bytes:
        if not self.root and not self.fetch:
            raise Undecodable("the table was made from a list of addresses: `--fetch` lets this page read them")
        if is_web(uri) and not self.fetch:
            raise Undecodable("it is on the web: `--fetch` lets this page read it")
        if is_url(uri):
            if self.root and not _is_below(uri, self.root):
                raise Undecodable(_OUTSIDE)
            return _object(uri)
        return _content(self._path(uri))

    def _path(self, uri: str) -> str:
        path = path_of(uri)
        if not path:
            raise Undecodable("its address is not one that can be shown")
        real = os.path.realpath(path)
        if self.root and (is_url(self.root) or not Path(real).is_relative_to(os.path.realpath(self.root))):
            raise Undecodable(_OUTSIDE)
        return real


def _is_below(uri: str, root: str) -> bool:
    below = uri.removeprefix(f"{root.rstrip('/')}/")
    parts = unquote_to_bytes(below).split(b"/")
    return is_url(root) and below != uri and b".." not in parts


def _object(url: str) -> bytes:
    if is_web(url):
        return Web().read(url, MOST_BYTES)
    base, key = split_url(url)
    with os_errors(url):
        found = Objects(base).get(key)
        _check_size(found.meta["size"])
        return found.content()


def _content(path: str) -> bytes:
    """A file's content. It is opened without waiting: a pipe would wait until someone writes to it."""
    with FileIO(path, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise Undecodable("it is not a file")
        _check_size(info.st_size)
        return file.read(info.st_size)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise Undecodable(f"it has {size:,} bytes, more than are shown here")


def kind_of(data: bytes) -> str | None:
    """The type of content that every browser shows as a picture, and as nothing else; None for any other."""
    return next((kind for kind, start, at in _KINDS if data.startswith(start, at)), None)
