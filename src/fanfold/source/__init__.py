"""Collections: where items come from. A source lists items, reads one, and says what it left out and why.

    photos/                    a folder, walked                    key: the path below the folder
    photos/cat.jpg             one file                            key: its name
    s3://bucket/photos         an object store's prefix            key: the path below the prefix
    pictures.txt               a list, one path or URL a line      key: the line's address, in full
    [s3://b/cats, s3://b/dogs] several of them                     key: the path below what they share

A key must be unique in its table, so a table remembers the root its keys are relative to. A source below
that root keeps the root (its keys gain a prefix); any other source is refused (see `within`).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from fanfold.errors import UsageError
from fanfold.job import Item
from fanfold.source.bucket import Bucket
from fanfold.source.folder import Folder
from fanfold.source.listed import Listed
from fanfold.source.place import LISTS, Places
from fanfold.source.protocol import Changed, Ids, Source, suffix_of
from fanfold.source.several import Several
from fanfold.storage import TooLarge, absolute, is_url, is_web, page_of

__all__ = [
    "Bucket",
    "Changed",
    "Folder",
    "Ids",
    "Listed",
    "Places",
    "Several",
    "Source",
    "TooLarge",
    "by_stem",
    "open_source",
    "reader",
]


def open_source(address: str) -> Source:
    """The collection at `address`: a folder, a file, a list of addresses, or a URL.

    Raises UsageError when there is nothing there.
    """
    where = absolute(address)
    suffix = suffix_of(where.rsplit("/", 1)[-1])
    if suffix in LISTS and (is_url(where) or Path(where).is_file()):
        return Listed(where)
    if is_web(where):
        if not where.partition("://")[2].partition("/")[2]:
            raise UsageError(f"{where} cannot be listed. Name one file, or a .txt list of addresses.")
        return Listed("", only=page_of(where))
    if is_url(where):
        if suffix[1:2].isalpha() and "/" in where.partition("://")[2]:  # a file's name, not a version or a date
            folder, _, name = where.rpartition("/")
            return Bucket(folder, name)
        return Bucket(where)
    if not Path(where).exists():
        raise UsageError(f"There is no file or folder {address}.")
    return Folder(where) if Path(where).is_dir() else Folder(str(Path(where).parent), Path(where).name)


def reader(root: str) -> Source:
    """A source that can read items listed elsewhere, given the root their paths are relative to."""
    if not root:
        return Listed("")
    return Bucket(root) if is_url(root) else Folder(root)


def by_stem(items: Iterable[Item]) -> Iterator[Item]:
    """Give every item its file name without folder and ending as key, as the article did.

    Lists everything first, since names that collide must be known before any work is done.
    Raises UsageError naming the colliding paths.
    """
    found: dict[str, Item] = {}
    collisions: dict[str, list[str]] = {}
    for item in items:
        stem = PurePosixPath(item.path).stem
        if stem in found:
            collisions.setdefault(stem, [found[stem].path]).append(item.path)
        else:
            found[stem] = Item(stem, item.size, item.version, item.path)
    if collisions:
        shown = "\n".join(f"  {stem}: {', '.join(paths[:4])}" for stem, paths in islice(collisions.items(), 10))
        raise UsageError(f"{len(collisions)} stems are shared by several items. Use --id key.\n{shown}")
    yield from found.values()
