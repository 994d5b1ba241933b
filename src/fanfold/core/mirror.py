"""Mirrors: a second table, elsewhere, that is kept in sync with one of the database; DynamoDB, say.

    Lance table ──commit (compare-and-swap)──▶ version 8 ──look──▶ which keys differ there? ──write──▶ look again
     the truth                                    ▲                                                       │
                                                  └──────────── until a look finds nothing to do ◀────────┘

A store of keys and values cannot take a thousand rows in one step, nor does it know which of two versions is the
newer. So a mirror is written only after a commit, from what was committed. Whoever writes looks again afterwards:
of two drivers, one of whom wrote an older row over the other's, the last to write also looks last, at a table that
has the newer row by then, and mends it. A row that is there already is replaced only if it still is what was seen.

A mirror is of one table. A table has an id, which is made with it and stays when the database is moved or copied; a
mirror knows the id of the table whose rows it holds, and refuses another table's.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pkgutil import resolve_name
from typing import Protocol

import pyarrow as pa
from more_itertools import chunked

from fanfold.core.index import NOWHERE, digests, words
from fanfold.core.table import Table
from fanfold.errors import StorageError, UsageError

MIRRORS: dict[str, str] = {
    "dynamodb": "fanfold.aws.dynamodb.table:DynamoTable",
}
"""Every kind of mirror there is: the scheme of its addresses, and where its class lives."""

_AT_ONCE = 1000  # keys looked up, and rows held, at a time
_LOOKS = 20


class Mirror(Protocol):
    """A table elsewhere, reached by key."""

    refused: dict[str, str]
    """Rows it cannot hold: key -> why."""
    spent: dict[str, float]
    """What it took so far: items written, units consumed."""

    def versions(self, keys: Sequence[str]) -> dict[str, str]:
        """The version each key has there; absent keys are not in it. Raises StorageError, as all of these do."""

    def put(self, rows: pa.Table, seen: Mapping[str, str]) -> None:
        """Write rows: one whose key was seen only if it still has that version there."""

    def delete(self, seen: Mapping[str, str]) -> None:
        """Remove these keys, each only if it still has that version there."""


def open_mirror(address: str, metadata: Mapping[str, str], *, replace: bool = False) -> Mirror:
    """The mirror at an address, for a table with this metadata; with `replace`, emptied first.

    Raises UsageError when there is none, MirrorMismatch when it holds rows of another table (unless they are to be
    replaced), StorageError when it cannot be reached.
    """
    kind = resolve_name(MIRRORS[scheme_of(address)])
    mirror: Mirror = kind.take_over(address, metadata) if replace else kind.open(address, metadata)
    return mirror


def scheme_of(address: str) -> str:
    """The kind of mirror that is at an address. Raises UsageError when it is none."""
    scheme, separator, _ = address.partition("://")
    if not separator or scheme not in MIRRORS:
        known = ", ".join(f"{name}://NAME" for name in MIRRORS)
        raise UsageError(f"'{address}' is not a mirror. Use one of: {known}.")
    return scheme


def bring_in_step(table: Table, mirror: Mirror, keys: Sequence[str]) -> None:
    """Make the mirror's rows of these keys what the table's are. Raises StorageError."""
    for some in chunked(keys, _AT_ONCE):
        for _ in range(_LOOKS):
            if not (some := table.steadily(partial(_step, table, mirror, some))):
                break
        else:
            raise StorageError(
                f"The mirror lost rows that were written {_LOOKS} times, {some[0]!r} for example. "
                "Check for other writers."
            )


def _step(table: Table, mirror: Mirror, keys: list[str]) -> list[str]:
    """Look once, and write what differs. Returns the keys written, to be looked at again."""
    there = mirror.versions(keys)
    versions, addresses = table.index.find(digests(keys))
    same = versions == words(there.get(key, "") for key in keys)
    gone: dict[str, str] = {}
    differing: dict[str, int] = {}
    for key, address, equal in zip(keys, addresses.tolist(), same.tolist(), strict=True):
        if key in there and (address == NOWHERE or (key in mirror.refused and not equal)):
            gone[key] = there[key]
        elif address != NOWHERE and key not in mirror.refused and not (key in there and equal):
            differing[key] = address
    if gone:
        mirror.delete(gone)
    if differing:
        mirror.put(table.take(list(differing.values())), there)
    return [*gone, *differing]


def mirror_all(table: Table, mirror: Mirror) -> int:
    """Bring a mirror in sync with a whole table. Returns how many rows that is. Raises StorageError."""
    table.refresh()
    rows = 0
    for some in table.all_keys():
        bring_in_step(table, mirror, some)
        rows += len(some)
    return rows
