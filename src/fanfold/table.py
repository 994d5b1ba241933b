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
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lance import FragmentMetadata, LanceDataset, LanceOperation
from lance.commit import CommitConflictError
from lance.fragment import write_fragments

from fanfold.damage import damaged, is_gone, reading
from fanfold.errors import Damaged, StorageError
from fanfold.fragments import Fragment, Uncommitted, metadata, texts
from fanfold.index import NOWHERE, Digests, Index, Words, digests, words
from fanfold.storage import (
    broke_off,
    errors_of,
    first_line,
    join,
)

Part = TypeVar("Part")

_COMMIT_TRIES = 50
_COMPACT_TRIES = 5
_LOOKS = 5  # tries to look at a table whose old versions are being removed
_WRITE_BYTES = 64 << 20  # rows held before they are written
_SCAN_ROWS = 1 << 18  # rows looked at before they go into the index: large enough to be merged seldom
_SCAN_BYTES = 32 << 20  # read ahead of the index; Lance would take 2 GB
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
    """Rows to take away: those of `keys` whose version is the one beside it; with `other`, is any but that one."""

    keys: Digests
    versions: Words
    other: bool = False


@dataclass
class Table:
    """One Lance table with a `key` and a `version` column."""

    uri: str
    dataset: LanceDataset
    scope: str = ""
    """In a table that several share (failures): whose rows are meant, by the column `table`."""
    index: Index = field(default_factory=Index)
    _known: dict[int, int] = field(default_factory=dict)
    """The fragments the index has seen, and how many of their rows were deleted then."""
    _indexed: int = -1
    """The version that the index is of."""
    _files: tuple[int, frozenset[str]] = (-1, frozenset())
    """The data files of a version."""

    @classmethod
    def open(cls, database: str, name: str, scope: str = "") -> "Table | None":
        """The table called `name`, or None if the database has none. Raises StorageError."""
        uri = join(database, f"{name}.lance")
        try:
            with reading(uri):
                dataset = lance.dataset(uri, metadata_cache_size_bytes=_METADATA_BYTES)
        except StorageError as error:
            if "was not found" in str(error.__cause__) or "does not exist" in str(error.__cause__):
                return None
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
        for pause in (0.0, 0.1, 0.5, 1.0):
            time.sleep(pause)
            if table := cls.open(database, name, scope):
                return table
            try:
                LanceDataset.commit(uri, LanceOperation.Overwrite(schema, []), max_retries=0)
            except OSError as error:  # others were faster, or the connection broke, or there is no room, ...
                failed = error
        if table := cls.open(database, name, scope):
            return table
        raise StorageError(f"Cannot create {uri}: {first_line(failed or OSError())}") from failed

    @property
    def fragments(self) -> int:
        """How many fragments there are in the version last looked at."""
        return len(self._known)

    @cached_property
    def uncommitted(self) -> Uncommitted:
        """The fragments that wait for their commit to this table."""
        return Uncommitted(self.uri)

    @property
    def metadata(self) -> dict[str, str]:
        """What the table's schema says of itself."""
        return {key.decode(): value.decode() for key, value in (self.dataset.schema.metadata or {}).items()}

    def write(self, batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
        """Write rows that no reader sees until they are committed; return their fragments, as JSON can hold them.

        Memory stays bounded however many rows there are. Raises StorageError, or what `batches` raises.
        """
        schema = self.dataset.schema
        fragments: list[dict[str, Any]] = []
        # Not streamed into Lance, which would pull `batches` in threads of its own: a model run there leaves its
        # buffers in the memory of ever more threads (measured: 330 MB a worker instead of 180).
        for group in _grouped(batches, lambda batch: batch.nbytes, _WRITE_BYTES):
            rows = pa.Table.from_batches(group, schema)  # a wrong schema is the job's fault, not the storage's
            with errors_of(self.uri):
                written = [part.to_json() for part in write_fragments(rows, self.dataset, schema=schema)]
            fragments += map(self.uncommitted.sealed, written)
        return fragments

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
                self.index, self._known, self._indexed = Index(), {}, -1
        raise AssertionError("the last look returns or raises")

    def _look(self) -> None:
        with reading(self.uri):
            if self.dataset.version == self._indexed == self.dataset.latest_version:
                return
            self.dataset = lance.dataset(self.uri, session=self.dataset.session())
            fragments = {fragment.fragment_id: fragment for fragment in self.dataset.get_fragments()}
            now = {id: fragment.num_deletions for id, fragment in fragments.items()}
            if any(now.get(id) != deleted for id, deleted in self._known.items()):
                self.index, self._known = Index(), {}  # others deleted rows or compacted: look at everything
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
        scope = f"`table` = '{_quoted(self.scope)}'" if self.scope else ""
        scanner = self.dataset.scanner(
            ["key", "version"],
            filter=" AND ".join(part for part in (scope, filter) if part) or None,
            fragments=fragments,
            with_row_address=True,
            batch_size=32768,
            batch_readahead=4,
            io_buffer_size=_SCAN_BYTES,
        )
        parts = (  # the addresses copied: a view of them would keep their batch, with the texts in it
            (digests(texts(batch, "key")), words(texts(batch, "version")), batch["_rowaddr"].to_numpy().copy())
            for batch in scanner.to_batches()
        )
        for some in _grouped(parts, lambda part: len(part[0]), _SCAN_ROWS):
            index.add(*(np.concatenate(column) for column in zip(*some, strict=True)))

    def commit(
        self,
        fragments: Sequence[Fragment],
        drop: "Drop | None" = None,
        *,
        fill: bool = False,
        elsewhere: Index | None = None,
        missing: list[Fragment] | None = None,
    ) -> Digests:
        """Publish fragments in one step, each (key, version) once, replacing the rows of changed items.

        The rows in `drop` go away in the same step.
        With `fill`, nothing is replaced: only rows of keys that the table does not hold at all are added, nor does
        `elsewhere`, the index of another table.
        Fragments whose files are gone (swept since) or torn are passed over, and put into `missing`.
        Returns the digests of all keys in the fragments, those included that were there already.
        Raises StorageError, also when other drivers keep getting in between, and for such files without `missing`,
        unless gaps are filled.
        """
        for attempt in range(_COMMIT_TRIES):
            self.refresh()
            passed_over: list[Fragment] = []
            added, new, new_versions, all_keys = self._new_rows(fragments, fill, elsewhere, passed_over)
            if passed_over and missing is None and not fill:
                raise StorageError(f"A fragment of {self.uri} is gone before it was committed. Run again.")
            try:
                touched, removed, gone = self._without(np.concatenate([new, self._droppable(drop)]))
                if added or len(gone):
                    with errors_of(self.uri):
                        committed = self.swap(added, touched, removed)
            except StorageError as error:
                if not (isinstance(error.__cause__, CommitConflictError) or broke_off(error) or is_gone(error)):
                    raise  # a commit that broke off may have been made; the next look at the table tells
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
                continue
            if missing is not None:
                missing += passed_over
            if not added and not len(gone):
                return all_keys
            for id in removed:
                del self._known[id]
            self._known.update((fragment.id, fragment.num_deletions) for fragment in touched)
            self.index.add(gone, np.zeros(len(gone), np.uint64), np.full(len(gone), NOWHERE))
            self._take_in(committed, added, new, new_versions)
            return all_keys
        raise StorageError(f"Cannot commit to {self.uri}: {_COMMIT_TRIES} commits of others came in between.")

    def _take_in(self, committed: LanceDataset, added: list[FragmentMetadata], keys: Digests, versions: Words) -> None:
        """Have the index know what was committed: without reading it again, if nothing else has been."""
        ids = sorted(set(committed.fragment_ids()) - self._known.keys())
        if committed.version != self.dataset.version + 1 or len(ids) != len(added):
            self.refresh()
            return
        self.dataset, self._indexed = committed, committed.version
        rows = [np.arange(part.physical_rows, dtype=np.uint64) for part in added]
        addresses = [np.uint64(id << 32) + offsets for id, offsets in zip(ids, rows, strict=True)]
        self.index.add(keys, versions, np.concatenate([words([]), *addresses]))
        self._known.update(dict.fromkeys(ids, 0))

    def holds(self, fragment: Fragment) -> bool:
        """Whether a fragment's file is part of the newest version seen (after a compaction it is not)."""
        if self._files[0] != self.dataset.version:
            known = self.dataset.get_fragments()
            self._files = (self.dataset.version, frozenset(f.path for part in known for f in part.metadata.files))
        return all(file["path"] in self._files[1] for file in fragment["files"])

    def contents(self, fragments: Sequence[Fragment]) -> tuple[Digests, Words]:
        """The keys and versions in uncommitted fragments, those passed over that are gone or torn."""
        found = [columns for columns in self.uncommitted.columns(fragments) if columns]
        return (
            np.concatenate([digests([]), *(keys for keys, _ in found)]),
            np.concatenate([words([]), *(versions for _, versions in found)]),
        )

    def has(self, keys: Digests, versions: Words) -> npt.NDArray[np.bool_]:
        """Of each key, whether the version last looked at has it, at the version beside it."""
        at, addresses = self.index.find(keys)
        there: npt.NDArray[np.bool_] = (addresses != NOWHERE) & (at == versions)
        return there

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

    def _droppable(self, drop: Drop | None) -> Digests:
        if drop is None:
            return digests([])
        versions, _ = self.index.find(drop.keys)
        gone: Digests = drop.keys[(versions != drop.versions) == drop.other]
        return gone

    def _new_rows(
        self, fragments: Sequence[Fragment], fill: bool, elsewhere: Index | None, missing: list[Fragment]
    ) -> tuple[list[FragmentMetadata], Digests, Words, Digests]:
        """The fragments less the rows the table has already; the keys and versions of the rest; all keys there were.

        Those that are gone or torn go into `missing`.
        """
        new: list[FragmentMetadata] = []
        added, its_versions, everything = [digests([])], [words([])], [digests([])]
        seen = Index()
        for content, columns in zip(fragments, self.uncommitted.columns(fragments), strict=True):
            if columns is None:
                missing.append(content)
                continue
            keys, versions = columns
            had, addresses = self.index.find(keys)
            known = (addresses != NOWHERE) & (fill | (versions == had))
            if elsewhere:
                known |= elsewhere.find(keys)[1] != NOWHERE
            keep = ~known & (seen.find(keys)[1] == NOWHERE)
            parts = [metadata(content)] if keep.all() else self._rewritten(content, keep)
            if parts is None:
                missing.append(content)
                continue
            seen.add(keys, versions, np.zeros(len(keys), np.uint64))
            new += parts
            added.append(keys[keep])
            its_versions.append(versions[keep])
            everything.append(keys)
        return new, np.concatenate(added), np.concatenate(its_versions), np.concatenate(everything)

    def _rewritten(self, fragment: Fragment, keep: npt.NDArray[np.bool_]) -> list[FragmentMetadata] | None:
        """The fragment with only the rows to keep; rare: two drivers did the same items. None if it is gone by now."""
        if not keep.any():
            return []
        rows = self.uncommitted.read(fragment)
        if rows is None:
            return None
        return [metadata(part) for part in self.write(iter(rows.filter(pa.array(keep)).to_batches()))]

    def _without(self, keys: Digests) -> tuple[list[FragmentMetadata], list[int], Digests]:
        """The fragments that hold these keys, less their rows; the ids of those left without any; the keys held."""
        touched: list[FragmentMetadata] = []
        removed: list[int] = []
        addresses = self.index.find(keys)[1]
        held = addresses != NOWHERE
        places = sorted(divmod(address, 2**32) for address in addresses[held].tolist())  # (fragment, offset)
        with reading(self.uri):
            for id, rows in groupby(places, key=lambda place: place[0]):
                rest = self.dataset.get_fragment(id).delete_rows([offset for _, offset in rows])
                if rest is None:
                    removed.append(id)
                else:
                    touched.append(rest)
        return touched, removed, keys[held]

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

    def optimize(self, older_than: timedelta, *, sweep: bool) -> dict[str, int]:
        """Join small fragments, complete indexes, forget old versions; `sweep`: also what dead workers left.

        Sweep only while nobody writes: a fragment that waits for its commit looks like litter.
        Returns counts: fragments before and after, old versions and bytes removed.
        """
        with reading(self.uri):
            self.dataset = lance.dataset(self.uri)
            before = len(self.dataset.get_fragments())
            self._compact()
            stats = self.dataset.cleanup_old_versions(older_than, delete_unverified=sweep)
            self.dataset = lance.dataset(self.uri)
        return {
            "fragments_before": before,
            "fragments": len(self.dataset.get_fragments()),
            "old_versions": stats.old_versions,
            "bytes_removed": stats.bytes_removed,
        }

    def _compact(self) -> None:
        """Join small fragments, and put into the table's indexes, if there are any, the rows they lack.

        A commit that comes in between wins, and a table that stays busy stays as it is.
        """
        for _ in range(_COMPACT_TRIES):
            try:
                self.dataset.optimize.compact_files()
                self.dataset.optimize.optimize_indices()
                return
            except OSError as error:
                if "commit conflict" not in str(error) and not broke_off(error):
                    raise
                self.dataset = lance.dataset(self.uri)


def _grouped(parts: Iterator[Part], measure: Callable[[Part], int], size: int) -> Iterator[list[Part]]:
    """Lists of parts of about `size` in all: bytes, rows or whatever `measure` gives."""
    group: list[Part] = []
    total = 0
    for part in parts:
        group.append(part)
        total += measure(part)
        if total >= size:
            yield group
            group, total = [], 0
    if group:
        yield group


def in_both(rows: Table, failures: Table) -> Drop:
    """The failures of keys that have a row, as far as both tables' indexes know."""
    keys = failures.index.keys()
    both = keys[rows.index.find(keys)[1] != NOWHERE]
    return Drop(both, failures.index.find(both)[0])


def _quoted(text: str) -> str:
    return text.replace("'", "''")
