"""Where tasks run, by name.

local       this machine's cores        fanfold.executors.local
ray         a Ray cluster               fanfold.executors.ray
aws-batch   AWS Batch                   fanfold.aws.batch      detached
"""

import importlib
from contextlib import AbstractContextManager, nullcontext

from fanfold.core.executor import Detached, Executor, Size
from fanfold.core.runs import RunDirectory
from fanfold.errors import UsageError

EXECUTORS: dict[str, str] = {
    "local": "fanfold.executors.local:Local",
    "ray": "fanfold.executors.ray:Ray",
    "aws-batch": "fanfold.aws.batch:AwsBatch",
}
"""Every executor there is: its name, and where its class lives."""


ONE_EACH = Size()
"""As many workers as there is room for, of a core each."""


def open_executor(on: str, size: Size = ONE_EACH) -> "Executor | Detached":
    """The executor called `on`: a name of `EXECUTORS`, or `ray://HOST:PORT`, `ray:auto`, `aws-batch:DEPLOYMENT`.

    Raises UsageError for one there is not, MissingExtra without its dependencies, and what its set-up raises.
    """
    name, _, where = on.partition(":")
    if name not in EXECUTORS:
        raise UsageError(f"There is no executor '{on}'. Use one of: {', '.join(EXECUTORS)}.")
    module, _, attribute = EXECUTORS[name].partition(":")
    opened: Executor | Detached = getattr(importlib.import_module(module), attribute).open(where, size)
    return opened


def keeping(executor: "Executor | Detached", database: str) -> AbstractContextManager[None]:
    """Let worker processes go on from one run of a database to the next while the block runs, to start only once.

    Those of executors that cannot do so are started for each run, as always.
    """
    kept: AbstractContextManager[None] = getattr(executor, "keeping", lambda _: nullcontext())(database)
    return kept


def executor_of(run: RunDirectory) -> Detached:
    """What a run was submitted to. Raises UsageError for a run that has ended, or was not submitted anywhere."""
    if run.get("report.json"):
        raise UsageError(f"Run {run.id} has ended already: fanfold report {run.database} {run.id}")
    jobs = run.get("jobs.json")
    executor = open_executor(jobs["executor"]) if jobs else None
    if not isinstance(executor, Detached):
        if not run.is_alive():
            raise UsageError(f"Run {run.id} was interrupted: its process is gone. Repeat its command to continue.")
        raise UsageError(f"Run {run.id} runs inside its own command. Stop it there with Ctrl-C.")
    return executor
