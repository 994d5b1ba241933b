"""Damaged tables: how they differ from what merely cannot be reached, and what can be done about them.

    what Lance raises ──reading──▶ Damaged        a file is gone, empty, cut off, or full of something else
                                   StorageError   anything else: no network, no permission, no room

Lance keeps no sums, so what is noticed is what cannot be read. A power cut leaves such files: neither Lance nor
obstore waits until a file of this machine is on its disk (fanfold waits for those of its fragments, see
`Uncommitted.sealed`).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from lance import LanceDataset

from fanfold.errors import Damaged, StorageError
from fanfold.storage import broke_off, errors_of, first_line, is_panic

P = ParamSpec("P")
T = TypeVar("T")

_SIGNS = re.compile(  # of what Lance, object_store and Arrow raise over such files
    "corrupt|invalid magic|failed to fill whole buffer|correct footer|invalid seek|file size is too small|invalid range"
    "|range was invalid|sufficient data|schema error|panicked|before end of stream|not found: |object at location"
    "|version not found|index proto",
    re.IGNORECASE,
)
_DECODERS = re.compile(r"rust/lance-(file|encoding)/src")  # where in its source Lance says that it raised an error
_OUTSIDE = re.compile(r"Generic \w+ error|os error")  # what a store or this machine had to say, wherever it was noticed


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn any failure to read a table into a StorageError that names it: Damaged, if its files are torn or gone."""
    try:
        with errors_of(uri):
            yield
    except StorageError as error:
        cause = error.__cause__
        if cause is None or isinstance(error, Damaged) or not _tells_of_damage(cause):
            raise
        raise damaged(uri, first_line(cause)) from cause


def _tells_of_damage(error: BaseException) -> bool:
    said = str(error)
    is_decoding = _DECODERS.search(said) and not _OUTSIDE.search(said)
    return not broke_off(error) and bool(is_panic(error) or is_decoding or _SIGNS.search(said))


def of_table(look: Callable[Concatenate[LanceDataset, P], T]) -> Callable[Concatenate[LanceDataset, P], T]:
    """Have what looks at a dataset, its first argument, raise errors as `reading` does."""

    @wraps(look)
    def guarded(dataset: LanceDataset, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with reading(dataset.uri):
            return look(dataset, *args, **kwargs)

    return guarded


def damaged(uri: str, why: str) -> Damaged:
    """The error of a table that cannot be read as what it is, with what to do about it."""
    database, _, name = uri.rpartition("/")
    return Damaged(
        f"Table '{name.removesuffix('.lance')}' in {database} is damaged: {why}. "
        f"Take out what cannot be read with: fanfold repair {database}"
    )


def is_gone(error: StorageError) -> bool:
    """Whether a file was missing: perhaps one of a version that somebody has replaced, and removed, meanwhile."""
    said = str(error.__cause__).lower()
    return "not found: " in said or "object at location" in said
