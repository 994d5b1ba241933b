"""What a node of a cluster says when asked whether it could work on a run. Sent to it by value: nodes that lack fanfold
must be able to answer, so nothing but the standard library is imported here before it is known to have fanfold."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOFTWARE, FILES, ADDRESS, NODE = "software", "files", "address", "node"
"""Kinds of what a node lacks: of its own, on its file systems, at a URL; or that it does not say so."""

Lack = tuple[str, str]
"""Its kind, and what to say of it."""

CLOCKS = 2.0
"""Seconds by which the modification times of one file may differ: file systems round them, some to two seconds."""


@dataclass(frozen=True)
class Asked:
    """What every node has to have."""

    version: str
    """Of fanfold."""
    job: dict[str, Any]
    """As `fanfold.job.spec` tells it."""
    files: Sequence[tuple[str, int | None, float | None]]
    """Paths that must be there, with the size in bytes and the modification time (Unix, s) that they have here."""
    reads: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]
    """Sources that are URLs: the address, the root, and some items, as dicts."""
    database: str
    marker: str
    """What was just written into the database, which nodes must see and write: a file's path, or an object's name."""
    stored: bool
    """Whether the database is a URL."""


def missing(asked: Asked) -> Lack | None:
    """What this node lacks; nothing if it can work on the run."""
    return (
        _told(SOFTWARE, _software(asked.version, asked.job))
        or _told(FILES, _files(asked.files))
        or (None if asked.stored else _told(FILES, _folder(asked.marker)))
        or _told(ADDRESS, _addresses(asked))
    )


def _told(kind: str, what: str) -> Lack | None:
    return (kind, what) if what else None


def _software(version: str, job: dict[str, Any]) -> str:
    try:
        import fanfold
        from fanfold.job import load
    except ModuleNotFoundError as error:
        return f"it has no fanfold {version} ({error})"
    if fanfold.__version__ != version:
        return f"it has fanfold {fanfold.__version__}, and this is {version}"
    try:
        load(job["name"], job["options"])
    except Exception as error:
        return f"it cannot load the job: {error}"
    return ""


def _files(files: Sequence[tuple[str, int | None, float | None]]) -> str:
    for path, size, modified in files:
        try:
            there = os.stat(path)  # noqa: PTH116 - names may be no text
        except OSError as error:
            return f"{path!r}: {error.strerror}"
        if size not in (None, there.st_size) or abs(there.st_mtime - (modified or there.st_mtime)) > CLOCKS:
            return f"{path!r} is another file there"
    return ""


def _addresses(asked: Asked) -> str:
    from fanfold.executors import sight  # there, and the same: see `_software`

    for address, root, items in asked.reads:
        if why := sight.of_source(root, items):
            return f"{address!r} cannot be read: {why}"
    if asked.stored and (why := sight.of_database(asked.database, asked.marker)):
        return f"{asked.database!r} cannot be written: {why}"
    return ""


def _folder(marker: str) -> str:
    folder = os.path.dirname(marker)  # noqa: PTH120
    if not os.path.exists(marker):  # noqa: PTH110
        return f"{folder!r} is not the folder it is here"
    mine = f"{marker}-{os.urandom(8).hex()}"
    try:
        with open(mine, "x"):  # noqa: PTH123
            os.unlink(mine)  # noqa: PTH108
    except OSError as error:
        return f"{folder!r} cannot be written: {error.strerror}"
    return ""
