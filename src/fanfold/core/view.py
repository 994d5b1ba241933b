"""What a table holds, as last looked at: its newest version, and an index of the rows in it.

version 7 ──index──▶ version 8: only the new fragments are read, unless others have deleted rows or compacted
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import lance
import numpy as np
import pyarrow as pa
from lance import LanceDataset
from more_itertools import constrained_batches

from fanfold.core.details import DETAIL_OF, DETAILS, count_column
from fanfold.core.fragments import Content, Fragment, Shape, Uncommitted, texts
from fanfold.core.index import NOWHERE, Digests, Index, Mask, Words
from fanfold.damage import is_gone, reading
from fanfold.errors import Damaged

Part = TypeVar("Part")

_LOOKS = 5  # tries to look at a table whose old versions are being removed
_SCAN_ROWS = 1 << 18  # rows looked at before they go into the index: large enough to be merged seldom
_SCAN_BYTES = 32 << 20  # read ahead of the index; Lance would take 2 GB


@dataclass
class View:
    """One Lance table with a `key` and a `version` column, as last looked at."""

    uri: str
    dataset: LanceDataset
    scope: str = ""
    """In a table that several share (failures): whose rows are meant, by the column `table`."""
    index: Index = field(init=False)
    _known: dict[int, int] = field(default_factory=dict)
    """The fragments the index has seen, and how many of their rows were deleted then."""
    _indexed: int = -1
    """The version that the index is of; -1 while it changes, so that an index left incomplete is built again."""
    _files: tuple[int, frozenset[str]] = (-1, frozenset())
    """The data files of a version."""

    def __post_init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the table's rows."""
        shape = self.shape
        self.index, self._known, self._indexed = Index(sized=shape.many or bool(shape.counts)), {}, -1

    @property
    def fragments(self) -> int:
        """How many fragments there are in the version last looked at."""
        return len(self._known)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the table's schema."""
        return {key.decode(): value.decode() for key, value in (self.dataset.schema.metadata or {}).items()}

    @cached_property
    def shape(self) -> Shape:
        """How its rows make up items."""
        metadata = self.metadata
        return Shape(DETAIL_OF in metadata, tuple(map(count_column, json.loads(metadata.get(DETAILS, "[]")))))

    @cached_property
    def uncommitted(self) -> Uncommitted:
        """The fragments that wait for their commit to this table."""
        return Uncommitted(self.uri, self.shape)

    def refresh(self) -> None:
        """Look at the table's newest version and bring the index up to date with it. Raises Damaged, StorageError."""
        self.steadily(lambda: None)

    def steadily(self, look: Callable[[], Part]) -> Part:
        """What `look` finds in the newest version: in a newer one still, if that one's files are removed meanwhile.

        Others may join fragments, and then remove the old ones at once (`optimize --keep 0`). Raises as `refresh`.
        """
        for left in reversed(range(_LOOKS)):
            try:
                self._look()
                return look()
            except Damaged as error:
                if not left or not is_gone(error):
                    raise
                self._forget()
        raise AssertionError("the last look returns or raises")

    def _look(self) -> None:
        with reading(self.uri):
            if self.dataset.version == self._indexed == self.dataset.latest_version:
                return
            self.dataset = lance.dataset(self.uri, session=self.dataset.session())
            fragments = {fragment.fragment_id: fragment for fragment in self.dataset.get_fragments()}
            now = {id: fragment.num_deletions for id, fragment in fragments.items()}
            if self._indexed < 0 or any(now.get(id) != deleted for id, deleted in self._known.items()):
                self._forget()  # others deleted rows or compacted: look at everything
            self._indexed = -1
            new = [fragment for id, fragment in fragments.items() if id not in self._known]
            if new:
                self._scan(self.index, new)
            self._known, self._indexed = now, self.dataset.version

    def select(self, filter: str) -> Index:
        """An index of those rows of the newest version for which a filter holds. Raises StorageError."""

        def look() -> Index:
            found = Index()
            with reading(self.uri):
                self._scan(found, None, filter)
            return found

        return self.steadily(look)

    def _scan(self, index: Index, fragments: list[Any] | None, filter: str = "") -> None:
        """Put the rows of these fragments, or of all, into an index."""
        scope = "`table` = '{}'".format(self.scope.replace("'", "''")) if self.scope else ""
        scanner = self.dataset.scanner(
            self.shape.columns,
            filter=" AND ".join(part for part in (scope, filter) if part) or None,
            fragments=fragments,
            with_row_address=True,
            batch_size=32768,
            batch_readahead=4,
            io_buffer_size=_SCAN_BYTES,
        )
        found = map(self._found, scanner.to_batches())
        for some in constrained_batches(found, _SCAN_ROWS, get_len=lambda part: len(part[0]), strict=False):
            self._enter(index, Content.of(*(items for items, _ in some)), np.concatenate([at for _, at in some]))

    def _found(self, batch: pa.RecordBatch) -> tuple[Content, Words]:
        """The items of a scanned batch, and the address where each begins."""
        # Copied: a view would keep the batch, with the texts in it.
        addresses: Words = batch["_rowaddr"].to_numpy().copy()
        if not self.shape.many:
            return self.shape.content(batch), addresses
        gaps = np.flatnonzero(np.diff(addresses) != 1) + 1  # at a fragment's end, or where others' rows were deleted
        starts = np.union1d(self.shape.starts(batch), gaps)
        return self.shape.content(batch, starts), addresses[starts]

    def _enter(self, index: Index, items: Content, addresses: Words) -> None:
        """Put items into an index."""
        enter = index.enter if self.shape.many else index.add
        enter(items.keys, items.versions, addresses, items.sizes)

    def compared(self, items: Content) -> tuple[Mask, Mask]:
        """Which items are there at all, and which of them at this version and with as many detail rows."""
        if not self.index.sized:
            versions, addresses = self.index.find(items.keys)
            return addresses != NOWHERE, versions == items.versions
        versions, addresses, sizes = self.index.measure(items.keys)
        return addresses != NOWHERE, (versions == items.versions) & (sizes == items.sizes)

    def has(self, keys: Digests, versions: Words) -> Mask:
        """Whether the version last looked at has each key at the version beside it."""
        found, addresses = self.index.find(keys)
        there: Mask = (addresses != NOWHERE) & (found == versions)
        return there

    def holds(self, fragment: Fragment) -> bool:
        """Whether a fragment's file is part of the newest version seen (after a compaction it is not)."""
        if self._files[0] != self.dataset.version:
            known = self.dataset.get_fragments()
            self._files = (self.dataset.version, frozenset(f.path for part in known for f in part.metadata.files))
        return all(file["path"] in self._files[1] for file in fragment["files"])

    def contents(self, fragments: Sequence[Fragment]) -> tuple[Digests, Words]:
        """The keys and versions in uncommitted fragments, those passed over that are gone or torn."""
        found = Content.of(*filter(None, self.uncommitted.contents(fragments)))
        return found.keys, found.versions

    def take(self, addresses: Sequence[int]) -> pa.Table:
        """The rows at these addresses, as the index knows them, of the version last looked at."""
        listed = ", ".join(map(str, addresses))
        with reading(self.uri):
            rows: pa.Table = self.dataset.to_table(filter=f"_rowaddr IN ({listed})")
            return rows

    def all_keys(self) -> Iterator[list[str]]:
        """Every key of the version last looked at, some thousands at a time."""
        with reading(self.uri):
            for batch in self.dataset.to_batches(["key"], batch_size=8192):
                yield texts(batch, "key")
