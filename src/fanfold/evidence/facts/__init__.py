"""Facts from files beside the event logs: registry hives, Prefetch, and texts in which Windows keeps notes.

Each file gives some facts: a kind, a name, and a value. What a file says is its state when the image was taken, not a
record of something that happened, unless it has a time.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.amcache import inventory
from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.hives import software, system
from fanfold.evidence.facts.prefetch import runs
from fanfold.evidence.facts.registry import Hive, Ranges
from fanfold.evidence.facts.sam import accounts
from fanfold.evidence.facts.texts import launches, setups
from fanfold.evidence.facts.users import user

__all__ = ["SOURCES", "Fact", "facts_of", "hive_of_log", "is_source", "log_names", "source_of"]


class Source(NamedTuple):
    """A kind of file that gives facts."""

    path: str
    """Where it lies on a volume; `*` stands for any text within a name."""
    begins: re.Pattern[bytes]
    """How it begins."""
    read: Callable[[bytes], Iterator[Fact]] | None
    """What reads it; None for a hive."""
    of_hive: Callable[[Hive], Iterator[Fact]] | None = None
    """What reads it, if it is a registry hive, which has transaction logs."""

    @property
    def name(self) -> str:
        """The name of such a file, in lower case."""
        return self.path.rpartition("/")[2].lower()


_HIVE, _TEXT, _PREFETCH = re.compile(b"regf"), re.compile(b""), re.compile(rb"MAM|....SCCA", re.DOTALL)
SOURCES = (
    Source("Windows/System32/config/SYSTEM", _HIVE, None, system),
    Source("Windows/System32/config/SOFTWARE", _HIVE, None, software),
    Source("Windows/System32/config/SAM", _HIVE, None, accounts),
    Source("Windows/appcompat/Programs/Amcache.hve", _HIVE, None, inventory),
    Source("Users/*/NTUSER.DAT", _HIVE, None, user),
    Source("Windows/INF/setupapi.dev.log", _TEXT, setups),
    Source("Windows/appcompat/pca/PcaAppLaunchDic.txt", _TEXT, launches),
    Source("Windows/Prefetch/*.pf", _PREFETCH, runs),
)
LARGEST = 512 << 20
"""Bytes of a file at most."""
LARGEST_LOG = 64 << 20
"""Bytes of a transaction log at most. Those of Windows have a few million; their checksums take 0.4 s per million."""
_EARLIER = frozenset({"regback", "windows.old"})
"""Folders, in lower case, that have hives of an earlier time, or of a system before this one."""
_LOGS = (".LOG1", ".LOG2", ".LOG")
"""What the names of a hive's transaction logs end with."""


def source_of(path: str) -> Source | None:
    """The kind of file that a name is of, wherever the file lies; None if it gives no facts on the machine as it is."""
    *folders, name = path.replace("\\", "/").lower().split("/")
    if not _EARLIER.isdisjoint(folders):
        return None
    return next((source for source in SOURCES if fnmatchcase(name, source.name)), None)


def is_source(path: str, head: bytes) -> bool:
    """Whether a file with this name, which begins like this, gives facts."""
    found = source_of(path)
    return found is not None and found.begins.match(head) is not None


def log_names(path: str) -> list[str]:
    """The paths that the transaction logs of a file would have; none for what is not a hive."""
    found = source_of(path)
    return [f"{path}{ending}" for ending in _LOGS] if found and found.of_hive else []


def hive_of_log(path: str) -> str:
    """The path of the hive that a file is a transaction log of, by its name; empty for other files."""
    for ending in _LOGS:
        if path.upper().endswith(ending) and log_names(path[: -len(ending)]):
            return path[: -len(ending)]
    return ""


def facts_of(path: str, data: bytes, logs: Sequence[bytes] = (), lost: Ranges = ()) -> Iterator[Fact]:
    """The facts of a file; of a hive, with its transaction logs.

    `lost`: the parts of the file that could not be read, and are zeros. Raises Unreadable if it is damaged.
    """
    source = source_of(path)
    assert source, path  # see `is_source`
    try:
        if source.of_hive:
            yield from source.of_hive(Hive(data, logs, lost))
        elif source.read:  # what is packed means nothing from the first part on that is lost
            yield from source.read(data[: min(lost)[0]] if lost and source.begins is _PREFETCH else data)
    except Unreadable:
        raise
    except Exception as error:  # what a file says may be anything
        raise Unreadable(f"This file cannot be read: {type(error).__name__}: {error}") from error
