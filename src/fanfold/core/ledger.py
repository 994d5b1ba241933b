"""The ledger: the two tables of which every item ends in exactly one, and how they are kept in sync.

    details    words_occurrences.lance   detail tables, if the job has any; see `agreement.py`
    rows       images.lance              the job's rows, good ones only
    failures   failures.lance            one row a failed item, shared by all tables of the database

Two tables cannot change in one step. So rows always change first, and wherever a crash leaves a key in both
tables, the row is right and the failure is dropped (`agree`). If that row is of an older version than the one
listed, the next plan does the item again, as it does any changed item.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from more_itertools import constrained_batches

from fanfold.core.agreement import Details
from fanfold.core.catalog import unended
from fanfold.core.choice import Selector
from fanfold.core.database import check_name, free_name, is_filled_by_runs, no_table, only_table, table_names
from fanfold.core.details import DETAILS
from fanfold.core.fit import columns_of, create_detail, described, metadata_of
from fanfold.core.fragments import Fragment
from fanfold.core.index import NOWHERE, Digests, Words, digests, words
from fanfold.core.mirror import Mirror, bring_in_step, mirror_all, open_mirror
from fanfold.core.plan import Held
from fanfold.core.runs import Outcome, RunDirectory
from fanfold.core.table import FAILURES, Drop, Table, in_both
from fanfold.errors import Damaged, StorageError, UsageError
from fanfold.job import PASSING, UNKNOWN, Job, details_of
from fanfold.source import Ids
from fanfold.storage import absolute, open_store

_MISSING = "what was written before the commit is damaged or gone: after a power cut, say"
_LATER = "a later run was at work on this table; run again"
_SLICE = 500_000  # items published in one commit, which holds some 200 bytes an item in memory


@dataclass
class Ledger:
    """Where a run's items end."""

    database: str
    name: str
    rows: Table
    failures: Table
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    """Tables elsewhere that runs keep in sync, by address; opened when first needed."""
    details: Details = field(init=False)

    def __post_init__(self) -> None:
        names = json.loads(self.rows.metadata.get(DETAILS, "[]"))
        self.details = Details(self.rows, {name: self._detail_table(name) for name in names})

    def _detail_table(self, name: str) -> Table:
        if table := Table.open(self.database, f"{self.name}_{name}"):
            return table
        raise StorageError(
            f"Detail table '{self.name}_{name}' of table '{self.name}' is missing from {self.database}. "
            f"Restore it, or write to another table with: --table {free_name(self.database, self.name)}"
        )

    @classmethod
    def open(cls, database: str, name: str) -> "Ledger | None":
        """The ledger of the table called `name`, or None if the database has no such table of fanfold's."""
        rows = Table.open(database, name)
        if rows is None or not is_filled_by_runs(rows):
            return None
        return cls(database, name, rows, Table.create(database, "failures", FAILURES, scope=name))

    @classmethod
    def create(cls, database: str, name: str, job: Job, root: str, ids: Ids) -> "Ledger":
        """The ledger of the table called `name`, made if need be. Raises StorageError."""
        metadata = metadata_of(job, root, ids)
        open_store(database, create=True)
        if Table.open(database, name) is None:  # else it is another's: `fitting` raises
            for detail, columns in details_of(job).items():  # before the table that names them
                create_detail(database, name, detail, columns, metadata)
        failures = Table.create(database, "failures", FAILURES, scope=name)
        rows = Table.create(database, name, described(columns_of(job), metadata))
        return cls(database, name, rows, failures)

    def refresh(self) -> None:
        """Look at the newest versions, and bring the two tables to agree.

        Failures first: another driver that finds an item failing takes its row away and then adds the failure, and
        looked at the other way round, both would seem to be there.
        """
        self.failures.refresh()
        self.rows.refresh()
        self.details.refresh()
        self.agree()

    @property
    def held(self) -> Held:
        """What the tables hold, as last looked at: later commits do not show in it."""
        return Held(self.rows.index.snapshot(), self.failures.index.snapshot(), self.failures.select(PASSING))

    def agree(self) -> None:
        """Drop the failures of items that have a row."""
        both = in_both(self.rows, self.failures)
        if len(both.keys):
            self.failures.commit([], both)

    def mend(self, but: str = "") -> None:
        """Drop rows without all their details, and details without a row, unless a run is under way, save one.

        What is missing may be about to be committed by that run.
        """
        if not self.details.agree and not any(run.is_alive() for run in unended(self.database, but)):
            self.details.mend()

    def publish(self, outcomes: Sequence[Outcome], run: RunDirectory | None = None) -> list[Outcome]:
        """Commit what tasks of a run have done. Any outcome may be published again; it then changes nothing.

        Returns the outcomes as they ended: see `_settled`. Without the run, raises StorageError for fragments that
        cannot be read.
        """
        return [outcome for slice in slices(outcomes) for outcome in self._publish(slice, run)]

    def _publish(self, outcomes: Sequence[Outcome], run: RunDirectory | None) -> list[Outcome]:
        missing: list[Fragment] | None = [] if run else None
        failures = [fragment for outcome in outcomes for fragment in outcome.failures]
        failed, versions = self.failures.contents(failures)
        # An item that failed at a new version loses the row of its old one; not one that merely was out of reach,
        # and has got a row meanwhile (then `agree` drops the failure). An item that is done loses the failure
        # known so far; one that another driver adds meanwhile, of a newer version, is not ours to drop.
        rows = [fragment for outcome in outcomes for fragment in outcome.rows]
        seen = versions != words([UNKNOWN])
        done = self.details.done(outcomes)
        self.details.publish(done, missing)
        drop = Drop(failed[seen], versions[seen], all_but=True)
        keys = self.rows.commit(rows, drop, fits=self._fits, missing=missing)
        self.details.confirm(done, missing)
        self.details.drop(failed[seen])
        self._forget(failed, versions, run.id if run else "")
        self.failures.commit(failures, Drop(keys, self.failures.index.find(keys)[0]), missing=missing)
        return self._settled(outcomes, missing, run) if run and missing else list(outcomes)

    @property
    def _fits(self) -> Selector | None:
        """Whether items have their details, where there are such."""
        return self.details.fits if self.details else None

    def _settled(self, outcomes: Sequence[Outcome], missing: list[Fragment], run: RunDirectory) -> list[Outcome]:
        """The outcomes, now that fragments of some are found to be missing.

        Fragments go missing when others have committed them first, and then joined them with others and swept up: then
        the tables hold the items. Else the task has failed after all, and its receipt is withdrawn.
        """
        self.refresh()
        return [
            self._withdrawn(outcome, run) if any(part in missing for part in outcome.fragments) else outcome
            for outcome in outcomes
        ]

    def _withdrawn(self, outcome: Outcome, run: RunDirectory) -> Outcome:
        """An outcome whose fragments are missing. Its receipt is deleted unless the tables hold all of its items."""
        seen = self._seen(outcome, run)
        if seen.status == "failed":
            seen = replace(seen, unread=0, error=_MISSING, rows=(), failures=(), details={})
            run.withdraw(seen)
        return seen

    def _seen(self, outcome: Outcome, run: RunDirectory) -> Outcome:
        """An outcome, corrected by what the tables hold. It has failed if they do not hold all of its items."""
        try:
            items = run.read_manifest(outcome.task)
        except Damaged:
            items = []
        keys, versions = digests([item.key for item in items]), words([item.version for item in items])
        ok = sum(self.rows.has(keys, versions).tolist())
        failed = sum(self.failures.has(keys, versions).tolist())
        if ok + failed == outcome.items:
            return replace(outcome, ok=ok, failed=failed, unread=min(outcome.unread, failed))
        return replace(outcome, status="failed", ok=ok, failed=failed, unread=min(outcome.unread, failed))

    def _forget(self, failed: Digests, versions: Words, run: str) -> None:
        """Drop the failures, at the same version, of items that this run tried again in vain: its reasons count."""

        def earlier() -> Drop:
            again = self.failures.has(failed, versions)
            again &= np.isin(failed, self._failed_in(failed[again], lambda other: other < run))
            return Drop(failed[again], versions[again])

        if run and len(failed):
            self.failures.commit([], self.failures.steadily(earlier))

    def _failed_in(self, keys: Digests, runs: Callable[[str], bool]) -> Digests:
        """Those of these keys whose failures are of such runs, as the version last looked at has it."""
        addresses = self.failures.index.find(keys)[1].tolist()
        found = self.failures.take(addresses).to_pylist() if addresses else []
        return digests(row["key"] for row in found if runs(row["run"]))

    def keep_in_step(self, run: RunDirectory, outcomes: Iterable[Outcome]) -> None:
        """Bring the run's mirror, if it has one, in sync for the items of these outcomes. Raises StorageError."""
        if address := run.asked.mirror:
            for outcome in outcomes:
                try:
                    keys = [item.key for item in run.read_manifest(outcome.task)]
                except Damaged:  # so which items they were is not known: look at all
                    mirror_all(self.rows, self.mirror(address))
                else:
                    bring_in_step(self.rows, self.mirror(address), keys)

    def mirror(self, address: str, *, replace: bool = False) -> Mirror:
        """The mirror at this address; with `replace`, emptied first. Raises UsageError, StorageError."""
        if self.details:
            raise UsageError(
                f"Table '{self.name}' has detail tables, and {address} can mirror only one row per item. "
                "Run without a mirror."
            )
        if address not in self.mirrors:
            metadata = self.rows.metadata | {"fanfold.id": self.id, "fanfold.table": self.rows.uri}
            self.mirrors[address] = open_mirror(address, metadata, replace=replace)
        return self.mirrors[address]

    @property
    def id(self) -> str:
        """The table's identity, made with it; it stays when the database is moved."""
        metadata = self.rows.metadata
        if "fanfold.id" in metadata:
            return metadata["fanfold.id"]
        # Tables were made without an id once: name, root and ids define what a key in them means.
        known = json.dumps([self.name, metadata["fanfold.root"], metadata["fanfold.ids"]])
        return hashlib.sha256(known.encode()).hexdigest()[:16]

    @property
    def mirrored(self) -> dict[str, dict[str, Any]]:
        """What the mirrors took, and what they could not hold, by address."""
        return {address: {**mirror.spent, "refused": dict(mirror.refused)} for address, mirror in self.mirrors.items()}

    def holds(self, outcome: Outcome) -> bool:
        """Whether the tables, as last looked at, have all fragments of an outcome."""
        tables = [(self.rows, outcome.rows), (self.failures, outcome.failures)]
        tables += [(table, outcome.details.get(name, ())) for name, table in self.details.tables.items()]
        return all(table.holds(part) for table, parts in tables for part in parts)

    def fill(self, outcomes: Sequence[Outcome], run: RunDirectory) -> list[Outcome]:
        """Commit what tasks of a run have done, and replace nothing: see `fanfold.core.recovery.recover`.

        Returns the outcomes as they ended: items whose rows could not replace others are not done.
        """
        missing: list[Fragment] = []
        left: list[Digests] = []
        rows = [fragment for outcome in outcomes for fragment in outcome.rows]
        broken = self.details.fill(self.details.done(outcomes), missing)
        self.rows.commit(rows, fill=True, broken=broken, fits=self._fits, missing=missing, left=left)
        if self.failures.index.segments:
            self.rows.commit([], self._superseded(run, rows))
        failures = [fragment for outcome in outcomes for fragment in outcome.failures]
        # Of items with a row no failures, which `agree` would drop at once: a fragment that was in the table, and is
        # not any more, may be swept up at any moment, even while the run that it is of commits it again.
        self.failures.commit(failures, fill=True, elsewhere=self.rows.index, missing=missing)
        settled = self._settled(outcomes, missing, run) if missing else outcomes
        if not sum(map(len, left)):
            return list(settled)
        return [outcome if self._stands(outcome) else self._partly_filled(outcome, run) for outcome in settled]

    def _stands(self, outcome: Outcome) -> bool:
        """Whether all rows of an outcome are in the table."""
        return bool(self.rows.has(*self.rows.contents(outcome.rows)).all())

    def _partly_filled(self, outcome: Outcome, run: RunDirectory) -> Outcome:
        """An outcome whose rows are partly left out. Its receipt stays, since either version may be the newer one."""
        seen = self._seen(outcome, run)
        return replace(seen, error=_LATER) if seen.status == "failed" else seen

    def _superseded(self, run: RunDirectory, rows: Sequence[Mapping[str, Any]]) -> Drop:
        """Of the rows of a run, those whose items a later run has seen fail at another version."""
        keys, versions = self.rows.contents(rows)

        def later() -> Drop:
            failed, addresses = self.failures.index.find(keys)
            differing = (addresses != NOWHERE) & (failed != versions)
            differing &= np.isin(keys, self._failed_in(keys[differing], lambda other: other > run.id))
            return Drop(keys[differing], versions[differing])

        return self.failures.steadily(later)


def ledger_of(database: str, table: str | None) -> Ledger:
    """The ledger of a table that runs fill, or of the only one. Raises UsageError."""
    name = only_table(database) if table is None else table
    check_name(name)
    if ledger := Ledger.open(absolute(database), name):
        return ledger
    if name in table_names(absolute(database)):
        raise UsageError(f"Table '{name}' in {database} is not filled by runs. Choose another one with: --table NAME")
    raise no_table(database, name)


def slices(outcomes: Iterable[Outcome]) -> Iterator[tuple[Outcome, ...]]:
    """The outcomes to commit at once: half a million items, or one task of more."""
    return constrained_batches(outcomes, _SLICE, get_len=lambda outcome: outcome.items, strict=False)
