"""What a job is: the interface between the core and the workloads that run on it.

A job is a frozen dataclass. Its fields are its options: the same fields are its Python arguments, its
command-line flags, its table in the docs and (through `recipe`) what makes two results comparable.

    job ──open()──▶ work ──(items, source)──▶ record batches and failures, each item answered once
         once per worker
"""

import importlib
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable

import pyarrow as pa

from fanfold.errors import FanfoldError, MissingExtra, UsageError


class Known(NamedTuple):
    """A job that comes with fanfold."""

    address: str
    """`module:Class`. The module has a `cli.py` with `app` (its own verbs), `run` and `plan`."""
    help: str
    """Its line in `fanfold --help`, which imports no job."""


JOBS: dict[str, Known] = {
    "images": Known("fanfold.images:Images", "Embed pictures as vectors, and search them."),
    "evidence": Known("fanfold.evidence:Evidence", "Read the event logs of Windows machines into tables."),
    "tls": Known("fanfold.tls:Tls", "Measure what signatures do to TLS handshakes."),
}
"""Every job that comes with fanfold, by its name, which is also its extra."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a collection."""

    key: str
    """Its name in the table, unique there."""
    size: int
    """Bytes, as listed."""
    version: str
    """Changes when the content does: an ETag, or the modification time (in ns, of a file) and the size."""
    path: str
    """Its path below the root of its source; the same as the key unless keys are stems."""


_RESERVED = ("rows", "failures")

UNKNOWN = "not found"
"""The version of an item in a list that cannot be looked at now. If the item has a row, the row stays."""


def is_passing(stage: str, error: str) -> bool:
    """Whether a failure with this stage and this error may pass by itself: see `Failure.passing`."""
    return stage == "read" and error != "TooLarge"


PASSING = "stage = 'read' AND error <> 'TooLarge'"
"""Lance's filter for the rows of the failures table that may pass by themselves: see `is_passing`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that could not be done, and why: a row of the failures table."""

    key: str
    version: str
    stage: str
    """The stage that failed, as the job calls it: `read`, `decode`, `embed`. Or `job` if the job did not answer, or
    `crash` if the item killed its worker."""
    error: str
    """The name of the error's class."""
    message: str

    @property
    def passing(self) -> bool:
        """Whether it may pass by itself (a server was down, a disk was missing), so that every run retries it."""
        return is_passing(self.stage, self.error)

    @classmethod
    def of(cls, item: Item, stage: str, error: BaseException) -> "Failure":
        """The failure of `item` at `stage`, in one line."""
        message = str(error) or traceback.format_exception_only(error)[-1].strip()
        return cls(item.key, item.version, stage, type(error).__name__, " ".join(message.split())[:1000])


@dataclass(frozen=True, slots=True)
class Detail:
    """Detail rows of one item, before the item's own row: see `details_of`."""

    name: str
    """The short name of the detail table."""
    rows: pa.RecordBatch
    """Rows of that table's schema, all with the key and the version of one item."""


class Opener(Protocol):
    """What reads items for a worker; every `Source` is one."""

    def read(self, item: Item, limit: int) -> bytes:
        """The item's content. Raises OSError: absent, unreadable, changed since listed, over `limit` bytes."""

    def read_at(self, item: Item, offset: int, length: int) -> bytes:
        """A part of the item's content: `length` bytes from `offset` on, fewer only at the item's end.

        Every read checks the item's version. Raises OSError, as `read` does.
        """

    def uri(self, item: Item) -> str:
        """An absolute address of the item, for the table's readers."""

    @property
    def parallel_reads(self) -> int:
        """Number of reads to do at the same time: a few for a disk, dozens for an object store."""


class Work(Protocol):
    """What a worker holds while it works: models loaded, buffers allocated. Used by one thread at a time."""

    seconds: dict[str, float]
    """Seconds spent so far by stage, for reports: `{"read": 0.8, "decode": 3.1, ...}`."""

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure | Detail]:
        """Answer every item once: a row (in a batch of the job's schema) or a `Failure`, in any order.

        An item's `Detail`s come before its row, and no other item's come in between.
        """


@runtime_checkable
class Job(Protocol):
    """One workload: a frozen dataclass of options that knows its results' schema and how to start working.

    A job may also have these, each of which may be absent:

        suffixes: ClassVar[frozenset[str]]
            Lower-case file endings, with the dot, that a listing of files keeps. Empty or absent: all files.
        worker_cpus: int
            Cores that one worker keeps busy, if more than one: so fewer workers are started by default.
        def source(self, addresses: Sequence[str]) -> Source
            The collection at these addresses, if it is not files. Called on the driver and again on every worker.
        def expected(self) -> Callable[[Item], float | None] | None
            What says how many seconds of a worker each item will take, if the job can tell: a plan then measures no
            sample. Called for all items in the order of the listing; None for one that the job cannot tell of.
        def details(self) -> Mapping[str, pa.Schema]
            Detail tables by short name: any number of rows per item. Their columns begin with `key` and `version`.
        def fold(self, tables: Mapping[str, lance.LanceDataset]) -> Mapping[str, pa.Table]
            Small tables derived from the committed ones, by short name. Called on the driver after the last commit.
    """

    name: ClassVar[str]
    """Its entry in `JOBS`, and the default name of its table."""

    def schema(self) -> pa.Schema:
        """The table's columns: `key` and `version` (strings) and the job's own. The job may add metadata."""

    def recipe(self) -> Mapping[str, str]:
        """What makes two results comparable, in plain words. Results of equal recipes may share a table."""

    def open(self) -> Work:
        """Do the costly set-up, once per worker. Raises FanfoldError if no worker can ever succeed."""


PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}
"""The metadata of a column whose values are unique in a table, as Lance has it."""


def key_field() -> "pa.Field[Any]":
    """The column that names an item, first in every job's schema.

    Its metadata makes it a primary key for Lance. Without it, two simultaneous merges of a new key add it twice
    (issue 4585 of lance-format/lance).
    """
    return pa.field("key", pa.string(), nullable=False, metadata=PRIMARY_KEY)


def suffixes_of(job: Job) -> frozenset[str]:
    """The file endings that a listing for this job keeps; none for all."""
    found: frozenset[str] = getattr(job, "suffixes", frozenset())
    return found


def worker_cpus_of(job: Job) -> int:
    """The cores that a worker of this job keeps busy."""
    found: int = getattr(job, "worker_cpus", 1)
    return found


def expected_of(job: Job) -> Callable[[Item], float | None] | None:
    """What says how many seconds of a worker each item will take; None if the job cannot tell."""
    found: Callable[[], Callable[[Item], float | None] | None] | None = getattr(job, "expected", None)
    return found() if found else None


def detail_key_field() -> "pa.Field[Any]":
    """The column that names an item, first in the schema of a detail table. Not a primary key: many rows share it."""
    return pa.field("key", pa.string(), nullable=False)


def details_of(job: Job) -> dict[str, pa.Schema]:
    """A job's detail tables by short name, in order: those of its optional method `details()`, or none.

    Raises UsageError for names or schemas that cannot be those of detail tables.
    """
    details: Callable[[], Mapping[str, pa.Schema]] = getattr(job, "details", dict)
    found = dict(sorted(details().items()))
    for name, schema in found.items():
        if name in _RESERVED or not name.isidentifier():
            raise UsageError(
                f"The job '{job.name}' has a detail table called '{name}'. Use another name, of letters, digits and "
                f"'_'; {' and '.join(map(repr, _RESERVED))} are reserved."
            )
        wanted = [detail_key_field(), pa.field("version", pa.string(), nullable=False)]
        if list(schema)[:2] != wanted or any(field.metadata for field in list(schema)[:2]):
            raise UsageError(
                f"The schema of the detail table '{name}' must begin with detail_key_field() and a non-null string "
                "column called 'version'."
            )
        if f"{name}_count" in job.schema().names:
            raise UsageError(
                f"The job '{job.name}' has a column called '{name}_count'. Rename it: fanfold adds a column of that "
                f"name, which counts an item's rows in the detail table '{name}'."
            )
    return found


def load(name: str, options: Mapping[str, Any]) -> Job:
    """Make the job called `name` (an entry of `JOBS`, or `module:Class`) with these options.

    Raises UsageError for an unknown job or option, MissingExtra when the job's dependencies are absent.
    """
    cls = job_class(name)
    unknown = set(options) - {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown:
        raise UsageError(f"The job '{name}' has no option {', '.join(sorted(unknown))}.")
    return cls(**options)


def job_class(name: str) -> type[Job]:
    """The class of a job. Raises UsageError if there is none, MissingExtra when its dependencies are absent."""
    if name not in JOBS and ":" not in name:
        known = ", ".join(JOBS)
        raise UsageError(f"There is no job '{name}'. Use one of: {known}; or your own job as module:Class.")
    module, _, attribute = (JOBS[name].address if name in JOBS else name).partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute, None)
    except FanfoldError:
        raise
    except Exception as error:  # the module is the user's: it may raise anything
        if name in JOBS:
            raise  # a broken installation has its own error
        raise UsageError(f"Cannot import the job '{name}': {type(error).__name__}: {error}") from error
    if cls is None:
        raise UsageError(f"The module '{module}' has no class '{attribute}'.")
    needed = ("name", "schema", "recipe", "open")
    lacking = [what for what in needed if not hasattr(cls, what)]
    if lacking or not (isinstance(cls, type) and is_dataclass(cls)):
        why = f"it has no {', '.join(lacking)}" if lacking else "it is not a dataclass"
        raise UsageError(f"'{name}' is not a job: {why}. A job is a frozen dataclass with {', '.join(needed)}.")
    return cast(type[Job], cls)


def spec(job: Job) -> dict[str, Any]:
    """What `load` needs to make an equal job elsewhere, as JSON can hold it."""
    cls = type(job)
    address = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__":
        raise UsageError(
            f"Workers cannot import {cls.__qualname__} from the script that is running. "
            "Move the job's class to a module and import it from there."
        )
    name = next((name for name, known in JOBS.items() if known.address == address), address)
    options: dict[str, Any] = asdict(job)  # type: ignore[call-overload]
    for option, value in options.items():
        if not _survives(value):
            raise UsageError(
                f"The option '{option}' of the job '{job.name}' is {value!r}, which JSON does not keep as it is. Use "
                "text, numbers, true, false, None, and lists or dictionaries of them."
            )
    return {"name": name, "options": options}


def _survives(value: Any) -> bool:
    """Whether a worker gets a value as it is: options travel as JSON."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def required_extra(error: ModuleNotFoundError, extra: str, modules: Iterable[str], needed_for: str) -> Exception:
    """The error to raise for `error`: MissingExtra if an extra's module is absent, else `error` itself.

    A dependency that is installed but broken has its own error, hence the check of the name.
    """
    return MissingExtra(extra, needed_for) if (error.name or "").split(".")[0] in set(modules) else error
