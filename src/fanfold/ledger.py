"""The ledger: the two tables of which every item ends in exactly one, and how they are kept in step.

    rows       images.lance      the job's rows, good ones only
    failures   failures.lance    one row a failed item, shared by all tables of the database

Two tables cannot change in one step. So rows always change first, and wherever a crash leaves a key in both
tables, the row is right and the failure is dropped (`agree`). If that row is of an older version than the one
listed, the next plan does the item again, as it does any changed item.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from fanfold.account import account, is_under_way
from fanfold.database import free_name, table_names
from fanfold.errors import Damaged, FanfoldError, MirrorMismatch, RecipeMismatch, SourceMismatch, UsageError
from fanfold.fragments import Fragment
from fanfold.index import NOWHERE, Digests, Words, digests, words
from fanfold.job import PASSING, UNKNOWN, Item, Job, spec
from fanfold.mirror import Mirror, bring_in_step, mirror_all, open_mirror
from fanfold.plan import OUT_OF_REACH, Held, Standing, classify
from fanfold.runs import Outcome, RunDirectory, list_runs
from fanfold.source import Ids, Source, by_stem
from fanfold.storage import open_store, side_by_side
from fanfold.table import FAILURES, Drop, Table, in_both

_MISSING = "what was written before the commit is damaged or gone: after a power cut, say"
_SLICE = 1_000_000  # items published in one commit: what it holds in memory is some 150 bytes an item


@dataclass
class Ledger:
    """Where a run's items end."""

    database: str
    name: str
    rows: Table
    failures: Table
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    """Tables elsewhere that runs keep in step, by address; opened when first needed."""

    @classmethod
    def open(cls, database: str, name: str) -> "Ledger | None":
        """The ledger of the table called `name`, or None if the database has no such table of fanfold's."""
        rows = Table.open(database, name)
        if rows is None or not is_ours(rows):
            return None
        return cls(database, name, rows, Table.create(database, "failures", FAILURES, scope=name))

    @classmethod
    def create(cls, database: str, name: str, job: Job, root: str, ids: Ids) -> "Ledger":
        """The ledger of the table called `name`, made if need be. Raises StorageError."""
        described = {
            "fanfold.job": job.name,
            "fanfold.options": json.dumps(spec(job)["options"]),
            "fanfold.recipe": _said(job),
            "fanfold.root": root,
            "fanfold.ids": ids,
            "fanfold.id": uuid.uuid4().hex[:16],
        }
        open_store(database, create=True)
        schema = job.schema()
        schema = schema.with_metadata((schema.metadata or {}) | described)
        failures = Table.create(database, "failures", FAILURES, scope=name)
        return cls(database, name, Table.create(database, name, schema), failures)

    def fit(self, job: Job, source: Source, ids: Ids) -> Source:
        """The source with keys as this table has them. Raises UsageError when the two do not go together."""
        metadata = self.rows.metadata
        if not is_ours(self.rows):
            raise UsageError(f"Table '{self.name}' was not made by fanfold. Write to another one with: --table NAME")
        check_recipe(metadata, job, self.name, self.database)
        if differing := differing_columns(self.rows.dataset.schema, job.schema()):
            raise UsageError(
                f"Table '{self.name}' was made with other columns: {differing}. Write to another one with: --table NAME"
            )
        if metadata["fanfold.ids"] != ids:
            raise UsageError(
                f"Table '{self.name}' has --id {metadata['fanfold.ids']}, not --id {ids}. "
                f"Ask with --id {metadata['fanfold.ids']}, or write to another table with: "
                f"--table {free_name(self.database, self.name)}"
            )
        fitting = source.within(metadata["fanfold.root"])
        if fitting is None or (ids == "stem" and source.root != fitting.root):
            theirs = metadata["fanfold.root"] or "lists of addresses"
            raise SourceMismatch(
                self.name, theirs, source.root or "a list of addresses", free_name(self.database, self.name)
            )
        return fitting

    def refresh(self) -> None:
        """Look at the newest versions, and bring the two tables to agree.

        Failures first: another driver that finds an item failing takes its row away and then adds the failure, and
        looked at the other way round, both would seem to be there.
        """
        self.failures.refresh()
        self.rows.refresh()
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

    def publish(self, outcomes: Sequence[Outcome], run: RunDirectory | None = None) -> list[Outcome]:
        """Commit what tasks of a run have done. Any outcome may be published again; it then changes nothing.

        Returns the outcomes as they ended: see `_settled`. Without the run, raises StorageError for fragments that
        cannot be read.
        """
        return [outcome for slice in _sliced(outcomes) for outcome in self._publish(slice, run)]

    def _publish(self, outcomes: Sequence[Outcome], run: RunDirectory | None) -> list[Outcome]:
        missing: list[Fragment] | None = [] if run else None
        failures = [fragment for outcome in outcomes for fragment in outcome.failures]
        failed, versions = self.failures.contents(failures)
        # An item that failed at a new version loses the row of its old one; not one that merely was out of reach,
        # and has got a row meanwhile (then `agree` drops the failure). An item that is done loses the failure
        # known so far; one that another driver adds meanwhile, of a newer version, is not ours to drop.
        rows = [fragment for outcome in outcomes for fragment in outcome.rows]
        seen = versions != words([UNKNOWN])
        keys = self.rows.commit(rows, Drop(failed[seen], versions[seen], other=True), missing=missing)
        self._forget(failed, versions, run.id if run else "")
        self.failures.commit(failures, Drop(keys, self.failures.index.find(keys)[0]), missing=missing)
        return self._settled(outcomes, missing, run) if run and missing else list(outcomes)

    def _settled(self, outcomes: Sequence[Outcome], missing: list[Fragment], run: RunDirectory) -> list[Outcome]:
        """The outcomes, now that fragments of some are found to be missing.

        Fragments go missing when others have committed them first, and then joined them with others and swept up: then
        the tables hold the items. Else the task has failed after all, and its receipt is withdrawn.
        """
        self.refresh()
        return [
            self._seen(outcome, run) if any(part in missing for part in (*outcome.rows, *outcome.failures)) else outcome
            for outcome in outcomes
        ]

    def _seen(self, outcome: Outcome, run: RunDirectory) -> Outcome:
        """An outcome as the tables tell it."""
        try:
            items = run.read_manifest(outcome.task)
        except Damaged:
            items = []
        keys, versions = digests([item.key for item in items]), words([item.version for item in items])
        ok = sum(self.rows.has(keys, versions).tolist())
        failed = sum(self.failures.has(keys, versions).tolist())
        if ok + failed == outcome.items:
            return replace(outcome, ok=ok, failed=failed, unread=min(outcome.unread, failed))
        lost = replace(outcome, status="failed", ok=ok, failed=failed, unread=0, rows=(), failures=(), error=_MISSING)
        run.withdraw(lost)
        return lost

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
        """Bring the run's mirror, if it has one, in step for the items of these outcomes. Raises StorageError."""
        asked = run.get("run.json") or {}
        if address := asked.get("options", {}).get("mirror", ""):
            for outcome in outcomes:
                try:
                    keys = [item.key for item in run.read_manifest(outcome.task)]
                except Damaged:  # so which items they were is not known: look at all
                    mirror_all(self.rows, self.mirror(address))
                else:
                    bring_in_step(self.rows, self.mirror(address), keys)

    def mirror(self, address: str, *, replace: bool = False) -> Mirror:
        """The mirror at this address; with `replace`, emptied first. Raises UsageError, StorageError."""
        if address not in self.mirrors:
            told = self.rows.metadata | {"fanfold.id": self.id, "fanfold.table": self.rows.uri}
            self.mirrors[address] = open_mirror(address, told, replace=replace)
        return self.mirrors[address]

    @property
    def id(self) -> str:
        """What tells the table from any other, also when its database is moved; made with it."""
        metadata = self.rows.metadata
        if "fanfold.id" in metadata:
            return metadata["fanfold.id"]
        # Tables were made without an id once: name, root and ids say what a key in them means.
        known = json.dumps([self.name, metadata["fanfold.root"], metadata["fanfold.ids"]])
        return hashlib.sha256(known.encode()).hexdigest()[:16]

    @property
    def mirrored(self) -> dict[str, dict[str, Any]]:
        """What the mirrors took, and what they could not hold, by address."""
        return {address: {**mirror.spent, "refused": dict(mirror.refused)} for address, mirror in self.mirrors.items()}

    def recover(self, but: str = "", check: Callable[[], None] = lambda: None) -> None:
        """Commit what runs that never ended have receipts for; write the end of those whose driver is dead.

        That only fills gaps. A receipt may be older than what later runs have put into the tables, so of a key that
        is there at any version nothing is replaced: if that version is not the one listed, planning does it again.
        `check` is called now and then, and may raise to end it early: after a run of millions it takes minutes.
        """
        self.refresh()
        for run in unended(self.database, but):
            if (run.get("run.json") or {}).get("table") != self.name:
                continue
            self.commit_receipts(run, fill=True, check=check)
            if not self._could_keep_in_step(run, check):
                continue
            check()
            report, ended = account(run)
            if ended == "interrupted":
                run.put("report.json", report.to_json() | {"ended": ended})
        self.refresh()

    def _could_keep_in_step(self, run: RunDirectory, check: Callable[[], None]) -> bool:
        """Bring a run's mirror in step, unless it cannot be reached from here, now: a later run may, then."""
        if not (run.get("run.json") or {}).get("options", {}).get("mirror"):
            return True
        for outcome in run.receipts():
            check()
            try:
                self.keep_in_step(run, [outcome])
            except MirrorMismatch:
                return True  # it is another table's by now: nobody will bring it in step with this one
            except FanfoldError:
                return False
        return True

    def commit_receipts(self, run: RunDirectory, *, fill: bool, check: Callable[[], None] = lambda: None) -> None:
        """Commit what a run has receipts for; with `fill`, replace nothing. See `recover` for `check`."""
        self.refresh()
        for slice in _sliced(self._uncommitted(run)):
            check()
            self._fill(slice, run) if fill else self.publish(slice, run)
        self.refresh()

    def _fill(self, outcomes: Sequence[Outcome], run: RunDirectory) -> None:
        missing: list[Fragment] = []
        rows = [fragment for outcome in outcomes for fragment in outcome.rows]
        self.rows.commit(rows, fill=True, missing=missing)
        if self.failures.index.segments:
            self.rows.commit([], self._superseded(run, rows))
        failures = [fragment for outcome in outcomes for fragment in outcome.failures]
        # Of items with a row no failures, which `agree` would drop at once: a fragment that was in the table, and is
        # not any more, may be swept up at any moment, even while the run that it is of commits it again.
        self.failures.commit(failures, fill=True, elsewhere=self.rows.index, missing=missing)
        if missing:
            self._settled(outcomes, missing, run)

    def _superseded(self, run: RunDirectory, rows: Sequence[Mapping[str, Any]]) -> Drop:
        """Of the rows of a run, those whose items a later run has seen fail at another version."""
        keys, versions = self.rows.contents(rows)

        def later() -> Drop:
            failed, addresses = self.failures.index.find(keys)
            differing = (addresses != NOWHERE) & (failed != versions)
            differing &= np.isin(keys, self._failed_in(keys[differing], lambda other: other > run.id))
            return Drop(keys[differing], versions[differing])

        return self.failures.steadily(later)

    def is_newest(self, run: RunDirectory) -> bool:
        """Whether no later run on the same table has had anything to do, as far as is known."""
        later = [RunDirectory(self.database, id) for id in list_runs(self.database) if id > run.id]
        on_same = [other for other in later if (other.get("run.json") or {}).get("table") == self.name]
        return all((other.get("plan.json") or {}).get("planned") == 0 for other in on_same)

    def _uncommitted(self, run: RunDirectory) -> Iterator[Outcome]:
        for outcome in run.receipts():
            held = all(self.rows.holds(part) for part in outcome.rows)
            if not (held and all(self.failures.holds(part) for part in outcome.failures)):
                yield outcome


def differing_columns(theirs: pa.Schema, ours: pa.Schema) -> str:
    """What columns two schemas differ in: name, type, and whether there are empty values; nothing if in none."""
    names = dict.fromkeys([*theirs.names, *ours.names])
    differ = [name for name in names if _column(theirs, name) != _column(ours, name)]
    return ", ".join(f"{name} ({_column(theirs, name)} there, {_column(ours, name)} here)" for name in differ)


def _column(schema: pa.Schema, name: str) -> str:
    if (place := schema.get_field_index(name)) < 0:
        return "absent"
    field = schema.field(place)
    return f"{field.type}" if field.nullable else f"{field.type} not null"


def check_recipe(metadata: Mapping[str, str], job: Job, table: str, database: str) -> None:
    """Raise RecipeMismatch unless a table's rows and the job's results can be compared."""
    if (maker := metadata.get("fanfold.job", job.name)) != job.name:
        raise RecipeMismatch(table, f"another job, '{maker}'", f"of the job '{job.name}'", free_name(database, table))
    if metadata["fanfold.recipe"] != _said(job):
        theirs, ours = json.loads(metadata["fanfold.recipe"]), dict(job.recipe())
        raise RecipeMismatch(table, *_difference(theirs, ours), _name_for(job, database, table))


def _name_for(job: Job, database: str, table: str) -> str:
    """The name of a table in the database that has the job's results; if there is none, a free one."""
    others = (Ledger.open(database, name) for name in table_names(database) if name not in (table, "failures"))
    fitting = (other.name for other in others if other and other.rows.metadata["fanfold.recipe"] == _said(job))
    return next(fitting, "") or free_name(database, table)


def classified(source: Source, suffixes: frozenset[str], ids: Ids, held: Held) -> Iterator[tuple[Item, Standing]]:
    """List a source, and say of each item where it stands; one whose row is kept counts as left out."""
    for item, standing in classify(listed(source, suffixes, ids), held):
        if standing is Standing.KEPT:
            source.left_out[OUT_OF_REACH] += 1
        else:
            yield item, standing


def listed(source: Source, suffixes: frozenset[str], ids: Ids) -> Iterator[Item]:
    """List a source, with the keys that its items have in a table of these ids."""
    items = source.list(suffixes)
    return by_stem(items) if ids == "stem" else items


def unended(database: str, but: str) -> Iterator[RunDirectory]:
    """The runs without a report, save one; asked side by side, since there may be thousands that have one."""
    runs = [RunDirectory(database, id) for id in list_runs(database) if id != but]
    reports = side_by_side(lambda run: run.get("report.json"), runs, 16)
    return (run for run, report in zip(runs, reports, strict=True) if report is None)


def _sliced(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    """Lists of outcomes, of about `_SLICE` items each."""
    slice: list[Outcome] = []
    items = 0
    for outcome in outcomes:
        slice.append(outcome)
        items += outcome.items
        if items >= _SLICE:
            yield slice
            slice, items = [], 0
    if slice:
        yield slice


def _said(job: Job) -> str:
    return json.dumps(dict(sorted(job.recipe().items())))


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, str]:
    """What two recipes differ in, each in a person's words."""
    differ = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    said = [", ".join(f"{name} {recipe.get(name, '(none)')}" for name in differ) for recipe in (theirs, ours)]
    return said[0], said[1]


def optimize(database: str, keep: timedelta) -> dict[str, dict[str, int]]:
    """Recover dead runs, then join small fragments and remove old versions and litter, table by table.

    Litter is only swept while nobody works on the database: a fragment that waits for its commit looks the same.
    Raises UsageError when there are no tables, StorageError when the database cannot be used.
    """
    ledgers = [Ledger.open(database, name) for name in table_names(database) if name != "failures"]
    ours = [ledger for ledger in ledgers if ledger]
    if not ours:
        raise UsageError(f"There is no fanfold database at {database}.")
    for ledger in ours:
        ledger.recover()
    runs = [RunDirectory(database, id) for id in list_runs(database)]
    for run in runs:
        if run.get("report.json") and not is_under_way(run):
            run.prune()
    tables = {ledger.name: ledger.rows for ledger in ours} | {"failures": ours[-1].failures}
    return {name: table.optimize(keep, sweep=not any(map(is_under_way, runs))) for name, table in tables.items()}


def is_ours(table: Table) -> bool:
    """Whether fanfold made a table: a LanceDB database may hold others."""
    return "fanfold.recipe" in table.metadata
