"""How a table and its detail tables are kept in agreement: every row with all its details, and no details without one.

    details   first, whole items only, those that have a row of the same task
    rows      next, those whose details are there: as many as the row counts, of its version
    details   once more, of rows that another driver took the details from in between

Tables cannot change together in one step. So between two steps, or after a crash, details may be there whose row is
not, or not yet: a reader who joins by (key, version) does not see them. And a row may have lost its details to another
version's: `mend` drops it, so that its item is done again, when nobody is at work who would set it right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fanfold.core.details import DONE_AT_ONCE, Lot, count_column
from fanfold.core.fragments import Content, Fragment, mixed
from fanfold.core.index import NOWHERE, Digests, Mask, Words, digests, words
from fanfold.core.runs import Outcome
from fanfold.core.table import Drop, Table
from fanfold.storage import side_by_side

_LOOKS = 5


@dataclass(frozen=True)
class Done:
    """What a task has done: the items that have a row, and for every detail table what it has written of them."""

    items: Content
    lots: dict[str, Lot]

    def where(self, keep: Mask) -> "Done":
        """Only some of the items."""
        lots = {name: Lot(lot.fragments, lot.wanted.where(keep)) for name, lot in self.lots.items()}
        return Done(self.items.where(keep), lots)


@dataclass
class Details:
    """The detail tables of a table, by short name; perhaps none."""

    rows: Table
    tables: dict[str, Table]

    def __bool__(self) -> bool:
        return bool(self.tables)

    def refresh(self) -> None:
        """Look at the newest versions. Raises Damaged, StorageError."""
        for table in self.tables.values():
            table.refresh()

    def done(self, outcomes: Sequence[Outcome]) -> list[Done]:
        """What these outcomes have done, in the same order."""
        return side_by_side(self._done, outcomes, DONE_AT_ONCE) if self else []

    def _done(self, outcome: Outcome) -> Done:
        """Rows that cannot be read any more count for nothing: the commit of the rows finds them missing."""
        columns = self.rows.shape.columns
        found = [rows for part in outcome.rows if (rows := self.rows.uncommitted.read(part, columns)) is not None]
        items = Content.of(*map(self.rows.shape.content, found))
        lots: dict[str, Lot] = {}
        for name in self.tables:
            counts = [rows.column(count_column(name)).to_numpy().astype(np.uint64) for rows in found]
            wanted = Content(items.keys, items.versions, np.concatenate([words([]), *counts]))
            lots[name] = Lot(outcome.details.get(name, ()), wanted)
        return Done(items, lots)

    def publish(self, done: Sequence[Done], missing: list[Fragment] | None) -> None:
        """Commit what tasks have written, replacing the details of changed items. The rows come after it."""
        for name, table in self.tables.items():
            table.commit_details([one.lots[name] for one in done], missing=missing)

    def confirm(self, done: Sequence[Done], missing: list[Fragment] | None) -> None:
        """Commit them again where another driver has replaced or dropped them before these rows were there.

        Every driver checks the details again after it commits the rows. If two drivers work on different versions of
        the same item, the one that commits last also checks last.
        """
        for _ in range(_LOOKS if self else 0):
            self.rows.refresh()
            self.refresh()
            lost = self._lost(done)
            if not any(len(one.items) for one in lost):
                return
            self.publish(lost, missing)

    def fill(self, done: Sequence[Done], missing: list[Fragment]) -> Digests:
        """Commit what a dead run's tasks have written, as far as it fills gaps.

        Returns the keys whose rows are to be replaced, since they have lost their details.
        """
        self.publish(self._lost(done), missing)
        for name, table in self.tables.items():
            lots = [one.where(self._is_open(one.items)).lots[name] for one in done]
            table.commit_details(lots, fill=True, missing=missing)
        keys = np.concatenate([digests([]), *(one.items.keys for one in done)])
        broken: Digests = keys[self._is_broken(keys)] if self else keys[:0]
        return broken

    def drop(self, keys: Digests) -> None:
        """Drop the details of items that have no row: they have failed.

        The details are looked at first. If another driver has added some since, they stay; if it adds their row only
        after this look at the rows, it will see that they are gone: see `confirm`.
        """
        if not self or not len(keys):
            return
        self.refresh()
        seen = {name: table.index.find(keys) for name, table in self.tables.items()}
        self.rows.refresh()
        failed = ~self.rows.index.has(keys)
        for name, (versions, addresses) in seen.items():
            held = failed & (addresses != NOWHERE)
            if held.any():
                self.tables[name].commit_details([], Drop(keys[held], versions[held]))

    def fits(self, items: Content) -> Mask:
        """Whether each item has its details: as many as its row counts, of the same version."""
        same: Mask = self._counted(items.keys, items.versions) == items.sizes
        return same

    @property
    def agree(self) -> bool:
        """Whether every row has its details, and all details their row."""
        if not self:
            return True
        keys = self.rows.index.keys()
        return not self._is_broken(keys).any() and not any(map(len, map(self._orphans, self.tables.values())))

    def mend(self) -> None:
        """Drop the rows that have lost their details, and then the details without a row."""
        self.rows.refresh()
        self.refresh()
        keys = self.rows.index.keys()
        broken = keys[self._is_broken(keys)]
        self.rows.commit([], Drop(broken, self.rows.index.find(broken)[0]))
        for table in self.tables.values():
            self.rows.refresh()
            orphans = self._orphans(table)
            table.commit_details([], Drop(orphans, table.index.find(orphans)[0]))

    def _counted(self, keys: Digests, versions: Words) -> Words:
        """How many details of these versions there are, in the form of `Content.sizes`."""
        counts = []
        for table in self.tables.values():
            held, _, sizes = table.index.measure(keys)
            counts.append(np.where(held == versions, sizes, np.uint64(0)))
        return mixed(len(keys), counts)

    def _lost(self, done: Sequence[Done]) -> list[Done]:
        """What these tasks have done, of it only the items whose row is in the table and has lost its details."""
        return [one.where(self._is_ours(one.items) & ~self.fits(one.items)) for one in done]

    def _is_ours(self, items: Content) -> Mask:
        """Of each item, whether its row is the one in the table."""
        there, same = self.rows.compared(items)
        return there & same

    def _is_open(self, items: Content) -> Mask:
        """Of each item, whether its details may be filled in: no other row of it is there that has its own."""
        return ~self.rows.index.has(items.keys) | self._is_ours(items) | self._is_broken(items.keys)

    def _is_broken(self, keys: Digests) -> Mask:
        """Of each key, whether its row is there and has lost its details."""
        versions, addresses, sizes = self.rows.index.measure(keys)
        wrong = self._counted(keys, versions) != sizes
        broken: Mask = (addresses != NOWHERE) & wrong
        return broken

    def _orphans(self, table: Table) -> Digests:
        """The keys of details that have no row of their version."""
        keys = table.index.keys()
        versions, addresses = self.rows.index.find(keys)
        alone: Digests = keys[(addresses == NOWHERE) | (versions != table.index.find(keys)[0])]
        return alone
