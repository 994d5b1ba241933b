"""Collections: where items come from. A source lists items, reads them, and counts what it left out, by reason.

    photos/                    a folder, walked                    key: the path below the folder
    photos/cat.jpg             one file                            key: its name
    s3://bucket/photos         an object store's prefix            key: the path below the prefix
    pictures.txt               a list, one path or URL a line      key: the line's address, in full
    [s3://b/cats, s3://b/dogs] several of them                     key: the path below their common part
    table:DATABASE/NAME        the rows of a table                 key: the row's key
    grid://tls                 an address for a job's `source`     key: the job's choice

A key must be unique in its table, so a table remembers the root its keys are relative to. A source below
that root keeps the root (its keys gain a prefix); any other source is refused (see `within`).
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from fanfold.errors import UsageError
from fanfold.job import Item, Job
from fanfold.source.bucket import Bucket
from fanfold.source.folder import Folder
from fanfold.source.generated import Generated
from fanfold.source.listed import Listed
from fanfold.source.place import LISTS, Places
from fanfold.source.protocol import Changed, Ids, Source, suffix_of
from fanfold.source.several import Several
from fanfold.source.table import SCHEME, Table
from fanfold.storage import TooLarge, absolute, errors_of, first_line, is_url, is_web, page_of

__all__ = [
    "Bucket",
    "Changed",
    "Folder",
    "Generated",
    "Ids",
    "Listed",
    "Places",
    "Several",
    "Source",
    "Table",
    "TooLarge",
    "by_stem",
    "collection",
    "has_own_source",
    "leaves",
    "open_source",
    "places_of",
    "reader",
    "worker_source",
]


def collection(job: Job, source: str | os.PathLike[str] | Sequence[str] | Source) -> Source:
    """The collection for a job, made from addresses alone, so that workers and resumed runs can make it again.

    The job's own `source(addresses)` makes it if there is one, else `open_source`. A `Source` object is replaced by
    the one that its addresses make. Raises UsageError.
    """
    if isinstance(source, Source):
        return _remade(job, source)
    given = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(given, Sequence) or not all(isinstance(one, str | os.PathLike) for one in given):
        raise UsageError(f"A source is an address, a list of addresses, or a Source object, not {source!r}.")
    addresses = [os.fspath(one) for one in given]
    if not has_own_source(job):
        return Several.of([open_source(address) for address in addresses])
    try:
        made = job.source([_absolute_file(address) for address in addresses])  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        raise UsageError(f"The job '{job.name}' cannot use {', '.join(addresses)}: {first_line(error)}") from error
    if not isinstance(made, Source):
        raise UsageError(f"source() of the job '{job.name}' must return a Source (see docs/sources.md), not {made!r}.")
    return made


def worker_source(job: Job, root: str, addresses: Sequence[str]) -> Source:
    """A worker's collection, to read items whose paths are relative to `root`."""
    if not has_own_source(job):
        return reader(root)
    made = collection(job, addresses)
    return made.within(root) or made


def has_own_source(job: Job) -> bool:
    """Whether a job makes its collection itself."""
    return callable(getattr(job, "source", None))


def places_of(job: Job, addresses: Sequence[str]) -> Iterator[str]:
    """The paths and URLs among the addresses of a job's source, databases included. Only the job knows the others."""
    for address in (address.removeprefix(SCHEME) for address in addresses):
        if not has_own_source(job) or is_url(address) or os.path.isabs(address):  # noqa: PTH117
            yield address


def leaves(source: Source) -> Iterator[Source]:
    """The sources that a source is made of: of its `parts` if it has some, else itself."""
    parts = getattr(source, "parts", None)
    if parts is None:
        yield source
    for part in parts or ():
        yield from leaves(part)


def _remade(job: Job, source: Source) -> Source:
    """The source that workers would make from this one's addresses. Raises UsageError if it is a different one."""
    addresses = source.addresses
    try:
        made = collection(job, addresses)
    except UsageError as error:
        made, why = None, str(error)
    else:
        why = f"they make a {type(made).__name__}."
    fitting = made and made.within(source.root)
    if not fitting or type(made) is not type(source):
        raise UsageError(
            f"Workers cannot make this {type(source).__name__} again from its addresses, {addresses}: {why} "
            f"Give the job '{job.name}' a method source(addresses) that makes it, and pass the addresses as the source."
        )
    return fitting


def _absolute_file(address: str) -> str:
    """An address for workers elsewhere: in full if it is a file or a folder of this machine."""
    return absolute(address) if os.path.exists(address) or address.startswith("~") else address  # noqa: PTH110


def open_source(address: str) -> Source:
    """The collection at `address`: a folder, a file, a list of addresses, a URL, or a table.

    Raises UsageError when there is nothing there, StorageError for a folder that cannot be entered.
    """
    if address.startswith(SCHEME):
        return Table.open(address)
    where = absolute(address)
    if not is_url(where):
        with errors_of(where):
            Path(where).exists()
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
    if Path(where).is_dir():
        return Folder(where)
    if not Path(where).is_file():
        raise UsageError(
            f"{address} is neither a file nor a folder. Of a device or a pipe, make a file; then name that."
        )
    return Folder(str(Path(where).parent), Path(where).name)


def reader(root: str) -> Source:
    """A source that can read items listed elsewhere, given the root their paths are relative to."""
    if root.startswith(SCHEME):
        return Table(root)
    if not root:
        return Listed("")
    return Bucket(root) if is_url(root) else Folder(root)


def by_stem(items: Iterable[Item]) -> Iterator[Item]:
    """Give every item its file name without folder and ending as key, as the article did.

    Lists everything first, because colliding names must be known before any work is done.
    Raises UsageError naming the colliding paths.
    """
    found: dict[str, Item] = {}
    collisions: dict[str, list[str]] = {}
    for item in items:
        stem = PurePosixPath(item.path).stem
        if stem in found and found[stem].path != item.path:  # else a folder listed a file twice
            collisions.setdefault(stem, [found[stem].path]).append(item.path)
        else:
            found[stem] = Item(stem, item.size, item.version, item.path)
    if collisions:
        shown = "\n".join(f"  {stem}: {', '.join(paths[:4])}" for stem, paths in islice(collisions.items(), 10))
        raise UsageError(f"{len(collisions)} stems are shared by several items. Use --id key.\n{shown}")
    yield from found.values()
