"""Facts from files beside the event logs: registry hives, and texts in which Windows keeps notes.

Each file gives some facts: a kind, a name, and a value. What a file says is its state when the image was taken, not a
record of something that happened, unless it has a time.
"""

from collections.abc import Callable, Iterator

from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts.fact import Fact
from fanfold.evidence.facts.hives import software, system
from fanfold.evidence.facts.texts import launches, setups

__all__ = ["FILES", "Fact", "facts_of", "is_source"]

FILES: dict[str, tuple[str, bytes, Callable[[bytes], Iterator[Fact]]]] = {
    "system": ("Windows/System32/config/SYSTEM", b"regf", system),
    "software": ("Windows/System32/config/SOFTWARE", b"regf", software),
    "setupapi.dev.log": ("Windows/INF/setupapi.dev.log", b"", setups),
    "pcaapplaunchdic.txt": ("Windows/appcompat/pca/PcaAppLaunchDic.txt", b"", launches),
}
"""The files by their names in lower case: where each lies on a volume, how it begins, and what reads it."""
LARGEST = 512 << 20
"""Bytes of a file at most."""


def is_source(path: str, head: bytes) -> bool:
    """Whether a file with this name, which begins like this, gives facts."""
    found = FILES.get(path.rpartition("/")[2].lower())
    return found is not None and head.startswith(found[1])


def facts_of(path: str, data: bytes) -> Iterator[Fact]:
    """The facts of a file. Raises Unreadable if it is damaged."""
    try:
        yield from FILES[path.rpartition("/")[2].lower()][2](data)
    except Unreadable:
        raise
    except Exception as error:  # what a file says may be anything
        raise Unreadable(f"This file cannot be read: {type(error).__name__}: {error}") from error
