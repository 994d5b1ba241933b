"""`fanfold run` and `fanfold plan` of any job: the fields of its dataclass are flags, with those of every run.

run, plan = verbs(Images)       for the `cli.py` of a job that comes with fanfold
admit(app, words)               before a command is parsed: adds the commands of a job named by module:Class
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

import fanfold
from fanfold.cli import Database, Json, described, show
from fanfold.cli.clusters import leaving
from fanfold.core.executor import Detached, Executor, Size
from fanfold.core.plan import Options
from fanfold.core.progress import Tally
from fanfold.core.report import account
from fanfold.errors import UsageError
from fanfold.executors import open_executor
from fanfold.job import Job, job_class, worker_cpus_of
from fanfold.source import Ids

Sources = Annotated[
    list[str],
    Parameter(
        name="SOURCE...",
        help="A folder, a file, a text file of paths or URLs, or an s3://, gs://, az:// or http(s):// URL; "
        "or several folders or prefixes.",
    ),
]
Table = Annotated[str, Parameter(help="The table's name.")]
Verb = Callable[..., int]


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The flags that `run` and `plan` share."""

    table: str | None = field(
        default=None,
        metadata={"help": "The table's name. By default the job's name; on AWS Batch, the deployment's choice."},
    )
    task_size: int = field(
        default=1000, metadata={"help": "Most items per task. When a worker dies, its task is done again."}
    )
    id: Annotated[Ids, Parameter(name="--id")] = field(
        default="key",
        metadata={"help": "What identifies an item: its path (key), or its file name without the ending (stem)."},
    )
    retry_failed: Annotated[bool, Parameter(negative="")] = field(
        default=False, metadata={"help": "Retry items that failed before."}
    )

    def options(self, mirror: str = "") -> Options:
        """The same as the core's `Options`."""
        return Options(self.task_size, self.id, self.retry_failed, mirror)


@dataclass(frozen=True, kw_only=True)
class RunOptions(PlanOptions):
    """The flags of every run, with those of `Size`."""

    on: str = field(
        default="local",
        metadata={
            "help": "Where to run: local; ray (started on this machine), ray://HOST:PORT, or ray:auto inside a "
            "cluster; aws-batch, or aws-batch:NAME for a deployment that is not called fanfold."
        },
    )
    mirror: Annotated[str, Parameter(show_default=False)] = field(
        default="",
        metadata={
            "help": "Also keep this external table in sync: dynamodb://NAME. On AWS Batch the deployment has its own."
        },
    )


@dataclass(frozen=True)
class Asked:
    """What a command asks a job to do."""

    sources: str | list[str]
    database: str
    table: str
    executor: Executor | Detached | None
    """None for a plan, which leaves nothing behind."""


@dataclass(frozen=True)
class Preparation:
    """A job's last step before it is run or planned. Its fields are more flags. A job's `cli.py` may have its own."""

    def prepared(self, job: Any, _asked: Asked) -> AbstractContextManager[Any]:
        """The job to run or plan in the block."""
        return nullcontext(job)

    def advice(self, _job: Any) -> Mapping[str, str]:
        """How to speed up a stage that takes most of the time, by stage."""
        return {}


NONE = Preparation()


def verbs(cls: type[Job], preparation: Preparation = NONE, task_size: int = 0) -> tuple[Verb, Verb]:
    """`run` and `plan` of a job, as commands; with another default of `--task-size`, if one is given.

    The function is long because Cyclopts takes the flags of a command from its signature.
    """
    default = _default_of(cls)

    def run(
        source: Sources,
        database: Database,
        /,
        *,
        job: Any = default,
        options: Annotated[RunOptions, Parameter(name="*")] = RunOptions(),
        size: Annotated[Size, Parameter(name="*")] = Size(),  # noqa: B008 - frozen
        preparation: Any = preparation,
        json: Json = False,
    ) -> int:
        executor = open_executor(options.on, _sized(size, options.on, job))
        chosen = options.options(options.mirror)
        asked = Asked(_one_or_several(source), database, options.table or job.name, executor)
        with preparation.prepared(job, asked) as job:
            begun = fanfold.run(
                job,
                source=asked.sources,
                database=database,
                table=options.table,
                executor=executor,
                **asdict(chosen),
            )
            return driven(begun, json)

    def plan(
        source: Sources,
        database: Database,
        /,
        *,
        job: Any = default,
        options: Annotated[PlanOptions, Parameter(name="*")] = PlanOptions(),
        workers: Annotated[int | None, Parameter(help=Size.__dataclass_fields__["workers"].metadata["help"])] = None,
        preparation: Any = preparation,
        prices: Annotated[Path | None, Parameter(help="A price table to use instead of fanfold's own.")] = None,
        json: Json = False,
    ) -> int:
        from fanfold.cli.planned import show_plan

        tally, asked = Tally(), Asked(_one_or_several(source), database, options.table or job.name, None)
        with show.leaving_nothing(), preparation.prepared(job, asked) as prepared, show.progress(tally):
            preview = fanfold.preview(
                prepared,
                source=asked.sources,
                database=database,
                table=options.table,
                workers=workers,
                prices=prices,
                tally=tally,
                before=time.process_time(),  # the start of the command, which the run will also need
                **asdict(options.options()),
            )
        show_plan(preview, json, preparation.advice(job))
        return 0

    more = Parameter(name="*") if fields(preparation) else Parameter(parse=False)
    for verb, kind in ((run, RunOptions), (plan, PlanOptions)):  # Cyclopts reads the flags from these classes
        if task_size:
            kind = _with_task_size(kind, task_size)
            verb.__annotations__["options"] = Annotated[kind, Parameter(name="*")]
            verb.__kwdefaults__ = {**(verb.__kwdefaults__ or {}), "options": kind()}
        verb.__annotations__["job"] = Annotated[cls, Parameter(name="*")]
        verb.__annotations__["preparation"] = Annotated[type(preparation), more]
        if default is None and verb.__kwdefaults__:
            del verb.__kwdefaults__["job"]
    return run, plan


def _sized(size: Size, on: str, job: Job) -> Size:
    """The size, of workers that have as many cores as the job keeps busy. Containers have theirs already."""
    elsewhere = on.startswith("aws-batch")
    return size if elsewhere else replace(size, worker_cpus=max(size.worker_cpus, worker_cpus_of(job)))


def driven(run: fanfold.Run, as_json: bool) -> int:
    """Do a run, and show its progress and its report. Returns the exit code."""
    report, ended = performed(run)
    show.report(report, ended, as_json)
    return report.exit_code


def performed(run: fanfold.Run) -> tuple[fanfold.Report, str]:
    """Do a run, and show its progress. Returns what `account` returns."""
    with leaving(run.directory), show.progress(run.tally):
        for outcome in run:
            if outcome.error:
                show.error(f"task {outcome.task} failed after {outcome.attempt} tries: {outcome.error}")
    return account(run.directory)


def _with_task_size(kind: type[PlanOptions], size: int) -> type[PlanOptions]:
    """The flags of a verb, with another default of `--task-size`."""
    mine = field(default=size, metadata=kind.__dataclass_fields__["task_size"].metadata)
    # Cyclopts looks the types up in the class's module, which `make_dataclass` does not set before Python 3.12.
    content = {"__module__": __name__, "__annotations__": {"task_size": int}, "task_size": mine}
    return dataclass(frozen=True, kw_only=True)(type(kind.__name__, (kind,), content))


def _one_or_several(sources: list[str]) -> str | list[str]:
    return sources[0] if len(sources) == 1 else sources


def _default_of(cls: type[Job]) -> Any:
    """A job with its default options; None if some options have no default. Raises UsageError."""
    try:
        return None if _needs_options(cls) else cls()
    except ValueError as error:
        raise UsageError(f"The job '{cls.name}' refuses its own defaults: {error}") from error


def _needs_options(cls: type[Job]) -> bool:
    """Whether a job has options without a default. Raises UsageError for an option that every run has, too."""
    own = fields(cls)  # type: ignore[arg-type]
    taken = {option.name for kind in (RunOptions, Size) for option in fields(kind)} | {"prices", "json"}
    if clash := taken.intersection(option.name for option in own):
        raise UsageError(
            f"The job '{cls.name}' has an option '{min(clash)}', but every run has an option of that name. "
            "Rename the job's option."
        )
    return any(option.default is MISSING and option.default_factory is MISSING for option in own)


def admit(app: App, words: Sequence[str]) -> None:
    """Add the command that these arguments name, if its job is given as module:Class.

    Raises UsageError for an unknown job.
    """
    if len(words) < 2 or words[0] not in ("run", "plan"):
        return
    verb, name = words[:2]
    parent = app[verb]
    if ":" in name:
        look_here()
    if name in parent:  # so are --help and --version
        return
    if name.startswith("-"):
        raise UsageError(f"Name the job first: fanfold {verb} JOB SOURCE... DATABASE {name} ...")
    cls = job_class(name)
    command = dict(zip(("run", "plan"), verbs(cls), strict=True))[verb]
    does = (cls.__doc__ or "").strip().partition("\n")[0] or f"The job {name}."
    example = f"fanfold {verb} {name} SOURCE DATABASE"
    parent.command(command, name=name, help=described(does, example))


def look_here() -> None:
    """Search the working directory first for modules, as `python -m` does. Workers get the same path."""
    with suppress(OSError):  # a directory that is gone
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
