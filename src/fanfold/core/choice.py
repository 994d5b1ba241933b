"""What a commit adds: of the fragments that are offered, those items that the table does not have yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from lance import FragmentMetadata

from fanfold.core.details import Lot
from fanfold.core.fragments import Content, Fragment, metadata
from fanfold.core.index import Digests, Index, Mask

if TYPE_CHECKING:
    from fanfold.core.table import Table

Selector = Callable[[Content], Mask]
"""Selects some of these items."""


@dataclass
class Choice:
    """What a commit adds and replaces, given the version that was looked at."""

    table: "Table"
    fragments: list[FragmentMetadata] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    """What is in each of them."""
    replaced: list[Digests] = field(default_factory=list)
    """Keys whose rows of another version go."""
    keys: list[Digests] = field(default_factory=list)
    """All keys that the fragments had."""
    missing: list[Fragment] = field(default_factory=list)
    seen: Index = field(default_factory=Index)
    """The items of earlier fragments."""

    def see(self, items: Content) -> None:
        """Take these items from no later fragment."""
        self.seen.add(items.keys, items.versions, np.zeros(len(items), np.uint64))

    def replace(self, keys: Digests) -> None:
        """Replace the rows that the table has for these keys. One lookup per fragment takes little memory."""
        self.replaced.append(keys[self.table.index.has(keys)])

    def take(self, fragment: Fragment, items: Content, keep: Mask) -> bool:
        """Add those items of a fragment that are to be kept. Returns False if it is gone by now."""
        if not keep.any():
            return True
        if keep.all():
            part = metadata(fragment)
        else:  # rare: two drivers did the same items
            rows = self.table.uncommitted.read(fragment)
            if rows is None:
                return False
            mask = np.repeat(keep, items.sizes.astype(np.int64)) if self.table.shape.many else keep
            (written,) = self.table.write_group(rows.filter(pa.array(mask)).to_batches())
            part = metadata(written)
        self.fragments.append(part)
        self.contents.append(items.where(keep))
        return True


def known_rows(table: "Table", items: Content, *, fill: bool, elsewhere: Index | None, broken: Digests | None) -> Mask:
    """Which items a commit passes over, as they are there already: see `Table.commit`."""
    there, same = table.compared(items)
    gaps = there & fill
    if broken is not None and len(broken):
        gaps &= ~np.isin(items.keys, broken)
    known: Mask = (there & same) | gaps
    return known | elsewhere.has(items.keys) if elsewhere else known


def chosen_rows(
    table: "Table",
    fragments: Sequence[Fragment],
    is_known: Selector,
    fits: Selector | None,
    left: list[Digests] | None,
) -> Choice:
    """The fragments less the rows that are known or do not fit: see `Table.commit`."""
    choice = Choice(table)
    for fragment, items in zip(fragments, table.uncommitted.contents(fragments), strict=True):
        if items is None:
            choice.missing.append(fragment)
            continue
        good = np.ones(len(items), bool) if fits is None else fits(items)
        keep = good & ~is_known(items) & ~choice.seen.has(items.keys)
        if not choice.take(fragment, items, keep):
            choice.missing.append(fragment)
            continue
        if left is not None and not keep.all():
            out = items.where(~keep)
            left.append(out.keys[~table.has(out.keys, out.versions)])
        choice.see(items.where(good))
        choice.replace(items.keys[keep])
        choice.keys.append(items.keys[good])
    return choice


def chosen_details(table: "Table", lots: Sequence[Lot], *, fill: bool) -> Choice:
    """The wanted items of each lot, as far as the table does not have them: see `Table.commit_details`."""
    choice = Choice(table)
    contents = iter(table.uncommitted.contents([fragment for lot in lots for fragment in lot.fragments]))
    for lot in lots:
        there = [(fragment, next(contents)) for fragment in lot.fragments]
        while not _take_lot(choice, lot, there, fill):
            pass  # a fragment is gone by now: without it
    return choice


def _take_lot(choice: Choice, lot: Lot, there: list[tuple[Fragment, Content | None]], fill: bool) -> bool:
    """Choose the wanted items of a lot. Returns False, and takes nothing, if one of its fragments vanishes."""
    whole, place = lot.whole([items for _, items in there if items is not None])
    held, same = choice.table.compared(lot.wanted)
    known = (held & (same | fill)) | (~held & (lot.wanted.sizes == 0))
    new = whole & ~known & ~choice.seen.has(lot.wanted.keys)
    taken, start = Choice(choice.table), 0
    for number, (fragment, items) in enumerate(there):
        if items is None:
            taken.missing.append(fragment)
            continue
        at = place[start : start + len(items)]
        start += len(items)
        if not taken.take(fragment, items, np.append(new, False)[at]):  # at -1, what nobody wants
            there[number] = (fragment, None)
            return False
    choice.fragments += taken.fragments
    choice.contents += taken.contents
    choice.missing += taken.missing
    choice.replace(lot.wanted.keys[new])
    choice.see(lot.wanted.where(whole))
    return True
