"""Tables: fragments and commits, and why no row is ever lost or doubled.

Workers write *fragments*: rows in files that no reader sees. A driver *commits* them: one new version of the
table that adds fragments and deletes the rows they replace, in one step.

      worker 1 ──write──▶ fragment a ─┐
      worker 2 ──write──▶ fragment b ─┤            (key, version) there already?   drop the copy
                                      ├─▶ commit ─ key there at another version?   delete the old row
      an earlier run's receipt ─▶ c ──┘            else                            add

                     version 7               version 8
                 ┌──────────────┐        ┌──────────────────┐
                 │ 0  1  2̶  3   │  ───▶  │ 0  1  2'  3  a b │      2' = fragment 2 less the replaced rows
                 └──────────────┘        └──────────────────┘
                   what we looked at        only if nothing came between

"Only if nothing came between" is what makes looking-then-adding safe with several drivers. Lance lets two
appends pass each other, so an append alone would add a row twice. It refuses a transaction that touches a
fragment which another one touched since. So every commit of ours touches the table's first fragment, whether
or not it changes it: of two commits that looked at the same version one wins, the other looks again. (A table
without fragments takes a Merge, which Lance also refuses if anything came between.) A commit is thus a
compare-and-swap, and the comparison is on (key, version), never on task numbers: two runs may cut the same
items into tasks differently.

A detail table has any number of rows an item, one after the other. There the comparison is on whole items: all rows of
one task's, or none. See `fanfold.core.details`.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance import FragmentMetadata, LanceDataset, LanceOperation
from lance.commit import CommitConflictError
from lance.fragment import write_fragments
from more_itertools import constrained_batches

from fanfold.core.choice import Choice, Selector, chosen_details, chosen_rows, known_rows
from fanfold.core.details import Lot
from fanfold.core.fragments import Content, Fragment
from fanfold.core.index import NOWHERE, Digests, Index, Words, digests, words
from fanfold.core.view import View
from fanfold.damage import damaged, is_gone, reading
from fanfold.errors import StorageError, UsageError
from fanfold.storage import broke_off, errors_of, first_line, join

_COMMIT_TRIES = 50
_WRITE_BYTES = 64 << 20  # rows held before they are written
_MOST_ROWS = 1 << 31  # in a file of a detail table: Lance would cut an item at 2^20 of them
_METADATA_BYTES = 64 << 20  # Lance would keep every version's list of fragments, up to 1 GB of them

_FAILURE_COLUMNS: "list[pa.Field[Any]]" = [
    *(pa.field(name, pa.string(), nullable=False) for name in ("table", "key", "version")),
    *(pa.field(name, pa.string(), nullable=False) for name in ("stage", "error", "message", "run")),
    pa.field("when", pa.timestamp("us", tz="UTC"), nullable=False),
]
FAILURES = pa.schema(_FAILURE_COLUMNS)
"""The failures table: one row a failed item, of whichever table it should have been in."""


@dataclass(frozen=True)
class Drop:
    """Rows to delete: those of `keys` at the version beside each key; with `all_but`, at any other version."""

    keys: Digests
    versions: Words
    all_but: bool = False


class Table(View):
    """A table that rows are written and committed to."""

    @classmethod
    def open(cls, database: str, name: str, scope: str = "") -> "Table | None":
        """The table called `name`, or None if the database has none. Raises StorageError, UsageError for a file."""
        uri = join(database, f"{name}.lance")
        try:
            with reading(uri):
                dataset = lance.dataset(uri, metadata_cache_size_bytes=_METADATA_BYTES)
        except StorageError as error:
            if "was not found" in str(error.__cause__) or "does not exist" in str(error.__cause__):
                return None
            if "Not a directory" in str(error.__cause__):
                raise UsageError(f"{database} is a file. A database is a folder, or a URL such as s3://b/db.") from None
            raise
        if not len(dataset.schema):  # what Lance makes of a version that is all zeros
            raise damaged(uri, "its newest version has no columns")
        return cls(uri, dataset, scope)

    @classmethod
    def create(cls, database: str, name: str, schema: pa.Schema, scope: str = "") -> "Table":
        """The table called `name`, made if need be. Raises StorageError.

        Of several drivers that make it at once one succeeds and the others open what it made. (Lance's
        `write_dataset(mode="create")` would let a later one overwrite an earlier one's table.)
        """
        uri = join(database, f"{name}.lance")
        failed: OSError | None = None
        for pause in (0.1, 0.5, 1.0, 0.0):
            if table := cls.open(database, name, scope):
                return table
            try:
                LanceDataset.commit(uri, LanceOperation.Overwrite(schema, []), max_retries=0)
            except OSError as error:  # others were faster, or the connection broke, or there is no room, ...
                failed = error
                time.sleep(pause)
        if table := cls.open(database, name, scope):
            return table
        raise StorageError(f"Cannot create {uri}: {first_line(failed or OSError())}") from failed

    def write(self, batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
        """Write rows that no reader sees until they are committed; return their fragments, as JSON can hold them.

        Memory stays bounded however many rows there are. Raises StorageError, or what `batches` raises.
        """
        # Not streamed into Lance, which would pull `batches` in threads of its own: a model run there leaves its
        # buffers in the memory of ever more threads (measured: 330 MB a worker instead of 180).
        groups = constrained_batches(batches, _WRITE_BYTES, get_len=lambda batch: batch.nbytes, strict=False)
        return [fragment for group in groups for fragment in self.write_group(group)]

    def write_group(self, batches: Sequence[pa.RecordBatch]) -> list[dict[str, Any]]:
        """Write rows that are all in memory; in a detail table as a single fragment. Raises as `write`."""
        schema = self.dataset.schema
        rows = pa.Table.from_batches(batches, schema)  # a wrong schema is the job's fault, not the storage's
        most = {"max_rows_per_file": _MOST_ROWS} if self.shape.many else {}
        with errors_of(self.uri):
            written = [part.to_json() for part in write_fragments(rows, self.dataset, schema=schema, **most)]
        return [self.uncommitted.sealed(part) for part in written]

    def commit(
        self,
        fragments: Sequence[Fragment],
        drop: Drop | None = None,
        *,
        fill: bool = False,
        elsewhere: Index | None = None,
        broken: Digests | None = None,
        fits: Selector | None = None,
        missing: list[Fragment] | None = None,
        left: list[Digests] | None = None,
    ) -> Digests:
        """Publish fragments in one step, each (key, version) once, replacing the rows of changed items.

        The same step deletes the rows in `drop`. Items that do not fit are not added.
        With `fill`, only the rows of `broken` keys are replaced; other rows are added only if the table has no row of
        their key. Keys in `elsewhere`, the index of another table, are not added.
        Fragments whose files are gone (swept since) or torn are passed over, and put into `missing`. The keys of rows
        that stay out though the table does not have them at this version are put into `left`.
        Returns the digests of all keys in the fragments that fit, those included that were there already.
        Raises StorageError, also when other drivers keep getting in between, and for such files without `missing`,
        unless gaps are filled.
        """
        is_known = partial(known_rows, self, fill=fill, elsewhere=elsewhere, broken=broken)
        choose = partial(chosen_rows, self, fragments, is_known, fits, left)
        return self._commit(choose, drop, missing, needed=not fill)

    def commit_details(
        self,
        lots: Sequence[Lot],
        drop: Drop | None = None,
        *,
        fill: bool = False,
        missing: list[Fragment] | None = None,
    ) -> None:
        """The same for a detail table: every wanted item of a lot once, with all its rows or not at all.

        An item that is there at another version is replaced, also by nothing, if it has no rows now; not with `fill`.
        """
        self._commit(partial(chosen_details, self, lots, fill=fill), drop, missing, needed=not fill)

    def _commit(
        self, choose: Callable[[], Choice], drop: Drop | None, missing: list[Fragment] | None, *, needed: bool
    ) -> Digests:
        """Look at the newest version, choose, and make the next one, until nobody has come in between."""
        for attempt in range(_COMMIT_TRIES):
            self.refresh()
            choice = choose()
            if choice.missing and missing is None and needed:
                raise StorageError(f"A fragment of {self.uri} disappeared before its commit. Run again.")
            committed = None
            try:
                touched, removed, gone = self._without(np.concatenate([self._droppable(drop), *choice.replaced]))
                if choice.fragments or len(gone):
                    with errors_of(self.uri):
                        committed = self.swap(choice.fragments, touched, removed)
            except StorageError as error:
                if not (isinstance(error.__cause__, CommitConflictError) or broke_off(error) or is_gone(error)):
                    raise  # a commit that broke off may have been made; the next look at the table shows it
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
                continue
            if missing is not None:
                missing += choice.missing
            if committed is not None:
                seen, self._indexed = self._indexed, -1
                for id in removed:
                    del self._known[id]
                self._known.update((fragment.id, fragment.num_deletions) for fragment in touched)
                self.index.add(gone, np.zeros(len(gone), np.uint64), np.full(len(gone), NOWHERE))
                self._indexed = seen
                self._take_in(committed, choice)
            return np.concatenate([digests([]), *choice.keys])
        raise StorageError(
            f"Cannot commit to {self.uri}: gave up after losing {_COMMIT_TRIES} races with other writers."
        )

    def _take_in(self, committed: LanceDataset, choice: Choice) -> None:
        """Have the index know what was committed: without reading it again, if nothing else has been."""
        ids = sorted(set(committed.fragment_ids()) - self._known.keys())
        if committed.version != self.dataset.version + 1 or len(ids) != len(choice.fragments):
            self.refresh()
            return
        self.dataset, self._indexed = committed, -1
        addresses = [np.uint64(id << 32) + self._offsets(part) for id, part in zip(ids, choice.contents, strict=True)]
        self._enter(self.index, Content.of(*choice.contents), np.concatenate([words([]), *addresses]))
        self._known.update(dict.fromkeys(ids, 0))
        self._indexed = committed.version

    def _offsets(self, items: Content) -> Words:
        """Where items begin in their fragment."""
        if self.shape.many:
            return np.cumsum(items.sizes, dtype=np.uint64) - items.sizes
        return np.arange(len(items), dtype=np.uint64)

    def _droppable(self, drop: Drop | None) -> Digests:
        """The keys that a commit drops, given the version that was looked at."""
        if drop is None:
            return digests([])
        versions, _ = self.index.find(drop.keys)
        gone: Digests = drop.keys[(versions != drop.versions) == drop.all_but]
        return gone

    def _without(self, keys: Digests) -> tuple[list[FragmentMetadata], list[int], Digests]:
        """The fragments that hold these keys, less their rows; the ids of those left without any; the keys held."""
        touched: list[FragmentMetadata] = []
        removed: list[int] = []
        held = np.unique(keys[self.index.has(keys)])  # one that is named twice has its rows once
        with reading(self.uri):
            for id, offsets in self.index.places(held, runs=self.shape.many):
                fragment = self.dataset.get_fragment(id)
                is_all = self.shape.many and len(offsets) == fragment.physical_rows - fragment.num_deletions
                rest = None if is_all else fragment.delete_rows(offsets.tolist())
                if rest is None:
                    removed.append(id)
                else:
                    touched.append(rest)
        return touched, removed, held

    def swap(self, added: list[FragmentMetadata], touched: list[FragmentMetadata], removed: list[int]) -> LanceDataset:
        """Make the next version, unless someone else has: then raises what Lance raises."""
        ids = self.dataset.fragment_ids()
        operation: Any
        if not ids:
            for fragment in added:
                fragment.id = 0  # Lance numbers them on from the highest id the table ever had
            operation = LanceOperation.Merge(added, self.dataset.lance_schema)
        else:
            first = self.dataset.get_fragment(min(ids)).metadata  # the same for all who look at this version
            if first.id not in removed and first.id not in {fragment.id for fragment in touched}:
                touched = [first, *touched]
            operation = LanceOperation.Update(
                removed_fragment_ids=removed, updated_fragments=touched, new_fragments=added
            )
        return LanceDataset.commit(self.dataset, operation, read_version=self.dataset.version)


def in_both(rows: Table, failures: Table) -> Drop:
    """The failures of keys that have a row, as far as both tables' indexes know."""
    keys = failures.index.keys()
    both = keys[rows.index.has(keys)]
    return Drop(both, failures.index.find(both)[0])
