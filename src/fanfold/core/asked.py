"""What a run was asked to do, as its `run.json` has it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fanfold.core.plan import Options
from fanfold.job import Job, load, spec
from fanfold.source import Source


@dataclass(frozen=True)
class Asked:
    """What a run was asked to do: its `run.json`. What an older version did not write is empty."""

    id: str = ""
    """Empty if the file is absent or torn."""
    started: str = ""
    """ISO 8601, UTC."""
    driver: Mapping[str, Any] = field(default_factory=dict)
    """The process that planned it: `machine`, `pid` and `began`."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """What `fanfold.job.load` needs: `name` and `options`."""
    recipe: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    root: str = ""
    sources: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """The fields of `fanfold.core.plan.Options`."""
    detached: bool = False
    """Whether it goes on without its driver."""
    fold: bool = False
    """Whether the job has a `fold`."""

    @property
    def mirror(self) -> str:
        """The address of its mirror, if it has one."""
        return str(self.options.get("mirror", ""))

    def load_job(self) -> Job:
        """The job. Raises what `load` raises, KeyError if the file does not name a job."""
        return load(self.job["name"], self.job["options"])


def request(job: Job, source: Source, table: str, options: Options) -> dict[str, Any]:
    """The fields of `Asked` that describe the work."""
    return {
        "job": spec(job),
        "recipe": dict(job.recipe()),
        "table": table,
        "root": source.root,
        "sources": source.addresses,
        "options": asdict(options),
    }
