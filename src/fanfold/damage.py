"""Damaged tables: how to tell them from tables that cannot be reached, and what to do.

    what Lance raises ──reading──▶ Damaged        a file is gone, empty, cut off, or full of something else
                                   StorageError   anything else: no network, no permission, no room

Lance keeps no checksums, so only files that cannot be read are noticed. A power cut leaves such files: neither Lance
nor obstore waits until a local file is on the disk (fanfold waits for its fragments, see `Uncommitted.sealed`).
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

_SIGNS = re.compile(  # in errors that Lance, object_store and Arrow raise for such files
    "corrupt|invalid magic|failed to fill whole buffer|correct footer|invalid seek|file size is too small|invalid range"
    "|range was invalid|sufficient data|schema error|panicked|before end of stream|not found: |object at location"
    "|version not found|index proto",
    re.IGNORECASE,
)
_DECODERS = re.compile(r"rust/lance-(file|encoding)/src")  # the place in Lance's source
_OUTSIDE = re.compile(r"Generic \w+ error|os error")  # an error of a store or of this machine, wherever Lance met it


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn any failure to read a table into a StorageError that names it: Damaged, if its files are damaged or gone."""
    try:
        with errors_of(uri):
            yield
    except StorageError as error:
        cause = error.__cause__
        if cause is None or isinstance(error, Damaged) or not _is_damage(cause):
            raise
        raise damaged(uri, first_line(cause)) from cause


def _is_damage(error: BaseException) -> bool:
    text = str(error)
    is_decoding = _DECODERS.search(text) and not _OUTSIDE.search(text)
    return not broke_off(error) and bool(is_panic(error) or is_decoding or _SIGNS.search(text))


def of_table(look: Callable[Concatenate[LanceDataset, P], T]) -> Callable[Concatenate[LanceDataset, P], T]:
    """Make a function of a dataset raise errors as `reading` does. The dataset is its first argument."""

    @wraps(look)
    def guarded(dataset: LanceDataset, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with reading(dataset.uri):
            return look(dataset, *args, **kwargs)

    return guarded


def damaged(uri: str, why: str) -> Damaged:
    """The error for a damaged table, with the command that repairs it."""
    database, _, name = uri.rpartition("/")
    return Damaged(
        f"Table '{name.removesuffix('.lance')}' in {database} is damaged: {why}. "
        f"Remove the unreadable data with: fanfold repair {database}"
    )


def is_gone(error: StorageError) -> bool:
    """Whether a file was missing. It may belong to a version that was replaced and removed meanwhile."""
    text = str(error.__cause__).lower()
    return "not found: " in text or "object at location" in text
