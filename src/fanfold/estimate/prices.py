"""The costs of work on AWS Batch: a dated table of prices (`prices.toml`), and the arithmetic. It needs no account."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from fanfold.errors import UsageError, problem_of

OURS = Path(__file__).with_name("prices.toml")
_MONTH = 730  # hours, as AWS counts them

_CHECKED = ConfigDict(extra="forbid")
_Positive = Annotated[float, Field(gt=0, lt=1e9, strict=True)]
_NotNegative = Annotated[float, Field(ge=0, lt=1e9, strict=True)]
_Text = Annotated[str, Field(min_length=1)]


def _iso(value: Any) -> str:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError(f"it should be a date such as 2026-11-23, not {value}") from None


@dataclass(frozen=True, config=_CHECKED)
class Machine:
    """A machine or a container, as `prices.toml` describes it."""

    name: _Text
    vcpus: _Positive
    memory: _NotNegative
    spot: _Positive
    speed: _Positive
    disk: _NotNegative = 0.0
    hour: _NotNegative | None = None
    vcpu_hour: _NotNegative | None = None
    gb_hour: _NotNegative | None = None
    gpu_stage: _Text | None = None
    gpu_speed: _Positive | None = None
    measured: StrictBool = False

    @model_validator(mode="after")
    def _check(self) -> "Machine":
        if self.hour is None and (self.vcpu_hour is None or self.gb_hour is None):
            raise ValueError("it has no price: give `hour`, or `vcpu_hour` and `gb_hour`")
        if (self.gpu_stage is None) != (self.gpu_speed is None):
            raise ValueError("it has only one of `gpu_stage` and `gpu_speed`: give both")
        return self

    @property
    def dollars(self) -> float:
        """Dollars per hour, without disk and address."""
        on_demand = self.hour or self.vcpus * (self.vcpu_hour or 0) + self.memory * (self.gb_hour or 0)
        return on_demand * self.spot

    def seconds(self, stages: Mapping[str, float]) -> float:
        """Seconds of this machine with all vCPUs and the GPU busy; stages are in seconds of one processor."""
        on_gpu = stages.get(self.gpu_stage, 0.0) if self.gpu_stage else 0.0
        on_cpus = sum(stages.values()) - on_gpu
        return max(on_cpus / self.vcpus / self.speed, on_gpu / (self.gpu_speed or 1))


@plain_dataclass(frozen=True)
class Cost:
    """The cost of a run on one kind of machine, in dollars."""

    name: str
    per_million: float
    """Dollars per million items, in a large run."""
    this_run: float
    measured: bool
    """Whether the speed of this kind of machine was measured; if not, it is assumed."""


@dataclass(frozen=True, config=_CHECKED)
class Requests:
    """Dollars for a million requests to S3."""

    get: _NotNegative
    put: _NotNegative


@dataclass(frozen=True, config=_CHECKED)
class Prices:
    """A table of prices."""

    date: Annotated[str, BeforeValidator(_iso)]
    region: _Text
    overhead: _Positive
    disk: _NotNegative
    address: _NotNegative
    s3: Annotated[Requests, Field(alias="requests")]
    machines: Annotated[tuple[Machine, ...], Field(alias="machine", min_length=1)]
    pages: tuple[str, ...] = ()

    def work(self, machine: Machine, stages: Mapping[str, float], items: float) -> float:
        """Dollars for machines with their disks and addresses, given processor seconds per item, by stage."""
        hours = items * machine.seconds(stages) / 3600 * self.overhead
        return hours * (machine.dollars + machine.disk * self.disk / _MONTH + self.address)

    def requests(self, items: float, tasks: float) -> float:
        """Dollars for S3's requests: every item is read, and listed among 1,000; a task takes five writes."""
        return (items * self.s3.get + (items / 1000 + 5 * tasks) * self.s3.put) / 1e6

    def costs(self, stages: Mapping[str, float], items: int, tasks: int, task_size: int) -> tuple[Cost, ...]:
        """The costs of `items` in `tasks`, and of a million in tasks of `task_size`, on each kind of machine."""
        return tuple(
            Cost(
                machine.name,
                self.work(machine, stages, 1e6) + self.requests(1e6, 1e6 / task_size),
                self.work(machine, stages, items) + self.requests(items, tasks),
                machine.measured,
            )
            for machine in self.machines
            if not machine.gpu_stage or machine.gpu_stage in stages
        )


def load(file: str | Path | None = None) -> Prices:
    """The prices in a file, or fanfold's own. Raises UsageError for a file that is not valid."""
    path = Path(file or OURS)
    if path.exists() and not path.is_file():  # a device may never end
        raise UsageError(f"Cannot read the prices in {path}: it is not a file. A table that works is {OURS}.")
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Prices).validate_python(content)
    except OSError as error:
        raise UsageError(f"Cannot read the prices in {path}: {error.strerror}.") from error
    except ValidationError as error:
        wrong = f"The price table {path} is not valid: {_named(problem_of(error), content)}"
        raise UsageError(f"{wrong}. A table that works is {OURS}.") from error
    except ValueError as error:  # of TOML, or not UTF-8
        raise UsageError(f"{path} is not TOML: {error}. A table that works is {OURS}.") from error


def _named(problem: str, content: Mapping[str, Any]) -> str:
    """A problem that names a machine, not its number: 'EC2 Spot'.vcpus for machine[1].vcpus."""
    machines = content.get("machine")
    for number, machine in enumerate(machines if isinstance(machines, list) else [], 1):
        if isinstance(machine, dict) and "name" in machine:
            problem = problem.replace(f"machine[{number}]", repr(machine["name"]), 1)
    return problem
