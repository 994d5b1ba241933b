"""What a job is: the one seam between the core and the workloads that run on it.

A job is a frozen dataclass. Its fields are its options: the same fields are its Python arguments, its
command-line flags, its table in the docs and (by way of `recipe`) what makes two results comparable.

    job ──open()──▶ work ──(items, source)──▶ record batches and failures, each item answered once
         once a worker
"""

import importlib
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import pyarrow as pa

from fanfold.errors import MissingExtra, UsageError

JOBS: dict[str, str] = {
    "images": "fanfold.images:Images",
}
"""Every job there is: its name (which is also its extra) and where its class lives."""


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
    """Where it is below the root of its source; the key itself unless keys are stems."""


UNKNOWN = "not found"
"""The version of an item that a list names and that cannot be looked at now: a row that it has stays."""


def is_passing(stage: str, error: str) -> bool:
    """Whether a failure at this stage, of this kind, may pass by itself: see `Failure.passing`."""
    return stage == "read" and error != "TooLarge"


PASSING = "stage = 'read' AND error <> 'TooLarge'"
"""The rows of the failures table whose failures may pass by themselves, as Lance filters: see `is_passing`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that could not be done, and why: a row of the failures table."""

    key: str
    version: str
    stage: str
    """What was being done, by the job's word: `read`, `decode`, `embed`. Or `job`, which did not answer, or `crash`,
    when the worker died of it."""
    error: str
    """The kind of error, as its class is called."""
    message: str

    @property
    def passing(self) -> bool:
        """Whether it may pass by itself (a server was down, a disk was away), so that every run tries again."""
        return is_passing(self.stage, self.error)

    @classmethod
    def of(cls, item: Item, stage: str, error: BaseException) -> "Failure":
        """The failure of `item` at `stage`, said in one line."""
        said = traceback.format_exception_only(error)[-1].strip()
        message = str(error) or said
        return cls(item.key, item.version, stage, type(error).__name__, " ".join(message.split())[:1000])


class Opener(Protocol):
    """Where a worker gets an item's bytes from; every `Source` is one."""

    def read(self, item: Item, limit: int) -> bytes:
        """The item's content. Raises OSError: absent, unreadable, changed since listed, over `limit` bytes."""
        ...

    def uri(self, item: Item) -> str:
        """An absolute address of the item, for the table's readers."""
        ...

    @property
    def parallel_reads(self) -> int:
        """How many reads are worth having in flight: a few for a disk, dozens for an object store."""
        ...


class Work(Protocol):
    """What a worker holds while it works: models loaded, buffers allocated. Used by one thread at a time."""

    seconds: dict[str, float]
    """Seconds spent so far by stage, for reports: `{"read": 0.8, "decode": 3.1, ...}`."""

    def __call__(self, items: Iterable[Item], source: Opener) -> Iterator[pa.RecordBatch | Failure]:
        """Answer every item once: a row (in a batch of the job's schema) or a `Failure`. Order is free."""
        ...


@runtime_checkable
class Job(Protocol):
    """One workload: a frozen dataclass of options that knows its results' schema and how to start working."""

    name: ClassVar[str]
    """Its entry in `JOBS`, and the default name of its table."""
    suffixes: ClassVar[frozenset[str]]
    """Lower-case file endings, with the dot, that a listing keeps; empty keeps all."""

    def schema(self) -> pa.Schema:
        """The table's columns: `key` and `version` (strings) and the job's own. Metadata is the job's to use."""
        ...

    def recipe(self) -> Mapping[str, str]:
        """What makes two results comparable, in a person's words; equal recipes may share a table."""
        ...

    def open(self) -> Work:
        """Do the costly set-up, once a worker. Raises FanfoldError when no worker could ever succeed."""
        ...


def key_field() -> "pa.Field[Any]":
    """The column that names an item, first in every job's schema.

    Its metadata makes it a primary key to Lance: without, two merges of one new key at once add it twice
    (issue 4585 of lance-format/lance).
    """
    return pa.field("key", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


def load(name: str, options: Mapping[str, Any]) -> Job:
    """Make the job called `name` (an entry of `JOBS`, or `module:Class`) with these options.

    Raises UsageError for an unknown job or option, MissingExtra when the job's dependencies are absent.
    """
    if name not in JOBS and ":" not in name:
        raise UsageError(f"There is no job '{name}'. The jobs are: {', '.join(JOBS)}.")
    module, _, attribute = JOBS.get(name, name).partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    unknown = set(options) - {field.name for field in fields(cls)}
    if unknown:
        raise UsageError(f"The job '{name}' has no option {', '.join(sorted(unknown))}.")
    job: Job = cls(**options)
    return job


def spec(job: Job) -> dict[str, Any]:
    """What `load` needs to make an equal job elsewhere, as JSON can hold it."""
    cls = type(job)
    address = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__":
        raise UsageError(
            f"Workers cannot import {cls.__qualname__} from the script being run. "
            "Put the job's class into a module of its own and import it."
        )
    name = next((name for name, known in JOBS.items() if known == address), address)
    return {"name": name, "options": asdict(job)}  # type: ignore[call-overload]


def required_extra(error: ModuleNotFoundError, extra: str, modules: Iterable[str], needed_for: str) -> Exception:
    """The error to raise for `error`: MissingExtra if an extra's module is absent, else `error` itself.

    A dependency that is there but broken must speak for itself, hence the check of the name.
    """
    return MissingExtra(extra, needed_for) if (error.name or "").split(".")[0] in set(modules) else error
