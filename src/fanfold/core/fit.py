"""Whether a job, a source and a table go together: what a table is made with, and what later runs must agree with."""

import json
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from fanfold.core.database import free_name, is_filled_by_runs, table_names
from fanfold.core.details import DETAIL_OF, DETAILS, count_column
from fanfold.core.table import Table
from fanfold.errors import RecipeMismatch, SourceMismatch, UsageError
from fanfold.job import Job, details_of, spec
from fanfold.source import Ids, Source

if TYPE_CHECKING:
    from fanfold.core.ledger import Ledger


def metadata_of(job: Job, root: str, ids: Ids) -> dict[str, str]:
    """The metadata of a new table for the results of a job."""
    return {
        "fanfold.job": job.name,
        "fanfold.job_address": spec(job)["name"],
        "fanfold.options": json.dumps(spec(job)["options"]),
        "fanfold.recipe": _recipe(job),
        "fanfold.root": root,
        "fanfold.ids": ids,
        "fanfold.id": uuid.uuid4().hex[:16],
    }


def described(schema: pa.Schema, metadata: Mapping[str, str]) -> pa.Schema:
    """A schema with more metadata."""
    return schema.with_metadata((schema.metadata or {}) | dict(metadata))


def columns_of(job: Job) -> pa.Schema:
    """The columns of a job's table: its own, and one a detail table that counts the rows an item has there."""
    schema, details = job.schema(), list(details_of(job))
    if [schema.field(name).type for name in ("key", "version") if name in schema.names] != [pa.string()] * 2:
        raise UsageError(f"The schema of the job '{job.name}' needs two string columns: key_field() and 'version'.")
    for name in details:
        schema = schema.append(pa.field(count_column(name), pa.int64(), nullable=False))
    return described(schema, {DETAILS: json.dumps(details)} if details else {})


def create_detail(database: str, table: str, name: str, columns: pa.Schema, metadata: Mapping[str, str]) -> None:
    """Make a detail table if need be. Raises UsageError when another table has its name, StorageError."""
    whole = f"{table}_{name}"
    schema = described(columns, {**metadata, DETAIL_OF: table})
    if Table.create(database, whole, schema).metadata.get(DETAIL_OF) != table:
        raise UsageError(
            f"The details of table '{table}' need a table called '{whole}', but {database} has another table of "
            "that name. Write to another table with: --table NAME"
        )


def fitting(ledger: "Ledger", job: Job, source: Source, ids: Ids) -> Source:
    """The source with keys as the ledger's table has them. Raises UsageError when the two do not go together."""
    metadata = ledger.rows.metadata
    if "fanfold.recipe" not in metadata:  # a LanceDB database may hold tables of others
        raise UsageError(f"Table '{ledger.name}' was not made by fanfold. Write to another table with: --table NAME")
    if owner := metadata.get(DETAIL_OF):
        raise UsageError(f"Table '{ledger.name}' holds details of table '{owner}'. Use another name: --table NAME")
    check_recipe(metadata, job, ledger.name, ledger.database)
    check_columns(ledger.name, ledger.rows.dataset.schema, columns_of(job))
    for name, columns in details_of(job).items():
        check_columns(f"{ledger.name}_{name}", ledger.details.tables[name].dataset.schema, columns)
    if metadata["fanfold.ids"] != ids:
        raise UsageError(
            f"Table '{ledger.name}' was made with --id {metadata['fanfold.ids']}, not with --id {ids}. "
            f"Use --id {metadata['fanfold.ids']}, or write to another table with: "
            f"--table {free_name(ledger.database, ledger.name)}"
        )
    inside = source.within(metadata["fanfold.root"])
    if inside is None or (ids == "stem" and source.root != inside.root):
        theirs, ours = metadata["fanfold.root"] or "lists of addresses", source.root or "a list of addresses"
        raise SourceMismatch(ledger.name, theirs, ours, free_name(ledger.database, ledger.name))
    return inside


def check_columns(table: str, theirs: pa.Schema, ours: pa.Schema) -> None:
    """Raise UsageError unless a table has the columns that a job writes: names, types, and where values are needed."""
    there, here = (
        {column.name: f"{column.type}" if column.nullable else f"{column.type} not null" for column in schema}
        for schema in (theirs, ours)
    )
    differing = ", ".join(
        f"{name} ({there.get(name, 'absent')} there, {here.get(name, 'absent')} here)"
        for name in there | here
        if there.get(name) != here.get(name)
    )
    if differing:
        raise UsageError(
            f"Table '{table}' has different columns from this job: {differing}. "
            "Write to another table with: --table NAME"
        )


def check_recipe(metadata: Mapping[str, str], job: Job, table: str, database: str) -> None:
    """Raise RecipeMismatch unless a table's rows and the job's results can be compared."""
    if (maker := metadata.get("fanfold.job", job.name)) != job.name:
        raise RecipeMismatch(table, f"the job '{maker}'", f"of the job '{job.name}'", free_name(database, table))
    if metadata["fanfold.recipe"] != _recipe(job):
        theirs, ours = json.loads(metadata["fanfold.recipe"]), dict(job.recipe())
        raise RecipeMismatch(table, *_difference(theirs, ours), _name_for(job, database, table))


def _name_for(job: Job, database: str, table: str) -> str:
    """The name of a table in the database that has the job's results; if there is none, a free one."""
    for name in table_names(database):
        other = Table.open(database, name) if name not in (table, "failures") else None
        if other and is_filled_by_runs(other) and other.metadata["fanfold.recipe"] == _recipe(job):
            return name
    return free_name(database, table)


def _recipe(job: Job) -> str:
    return json.dumps(dict(sorted(job.recipe().items())))


def _difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, str]:
    """What two recipes differ in, each in a person's words."""
    differ = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    words = [", ".join(f"{name} {recipe.get(name, '(none)')}" for name in differ) for recipe in (theirs, ours)]
    return words[0], words[1]
