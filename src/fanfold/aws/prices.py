"""What work costs on AWS Batch: a dated table of prices (`prices.toml`), and the arithmetic. No account is needed."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from fanfold.errors import UsageError

OURS = Path(__file__).with_name("prices.toml")
_MONTH = 730  # hours, as AWS counts them
_HOURLY = {"hour", "vcpu_hour", "gb_hour"}
_MAY_BE_ZERO = {"disk", "address", "get", "put", "memory", *_HOURLY}


@dataclass(frozen=True)
class Machine:
    """A machine or a container, as `prices.toml` describes it."""

    name: str
    vcpus: float
    memory: float
    spot: float
    speed: float
    disk: float = 0.0
    hour: float = 0.0
    vcpu_hour: float = 0.0
    gb_hour: float = 0.0
    gpu_stage: str = ""
    gpu_speed: float = 0.0
    measured: bool = False

    @property
    def dollars(self) -> float:
        """Of an hour, without its disk and address."""
        return (self.hour or self.vcpus * self.vcpu_hour + self.memory * self.gb_hour) * self.spot

    def seconds(self, stages: Mapping[str, float]) -> float:
        """Of this machine, busy on all its vCPUs, its GPU meanwhile; stages are given in seconds of one processor."""
        on_cpus = sum(seconds for stage, seconds in stages.items() if stage != self.gpu_stage or not self.gpu_speed)
        on_gpu = stages.get(self.gpu_stage, 0.0) / self.gpu_speed if self.gpu_speed else 0.0
        return max(on_cpus / self.vcpus / self.speed, on_gpu)


@dataclass(frozen=True)
class Cost:
    """What a run costs on one kind of machine, in dollars."""

    name: str
    per_million: float
    """Items, in a run of many."""
    this_run: float
    measured: bool
    """Whether anybody has seen this kind of machine do the work; if not, its speed is assumed."""


@dataclass(frozen=True)
class Prices:
    """A table of prices."""

    date: str
    region: str
    pages: tuple[str, ...]
    overhead: float
    disk: float
    address: float
    get: float
    put: float
    machines: tuple[Machine, ...]

    def work(self, machine: Machine, stages: Mapping[str, float], items: float) -> float:
        """Dollars for machines with their disks and addresses, given seconds of a processor an item by stage."""
        hours = items * machine.seconds(stages) / 3600 * self.overhead
        return hours * (machine.dollars + machine.disk * self.disk / _MONTH + self.address)

    def requests(self, items: float, tasks: float) -> float:
        """Dollars for what S3 is asked: every item is read, listed among 1,000; a task takes five writes."""
        return (items * self.get + (items / 1000 + 5 * tasks) * self.put) / 1e6

    def costs(self, stages: Mapping[str, float], items: int, tasks: int, task_size: int) -> tuple[Cost, ...]:
        """What `items` in `tasks`, and a million in tasks of `task_size`, cost on every kind of machine that fits."""
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
    """The prices in a file, or ours. Raises UsageError that says what is wrong with it, and where."""
    path = Path(file or OURS)
    if path.exists() and not path.is_file():  # a device may never end
        raise UsageError(f"Cannot read the prices in {path}: it is not a file. A table that works is {OURS}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the prices in {path}: {error.strerror}.") from error
    except ValueError as error:  # of TOML, or not UTF-8
        raise UsageError(f"{path} is not TOML: {error}. A table that works is {OURS}.") from error
    return _Checked(path).prices(content)


class _Checked:
    """Makes prices of what a file says, or says what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prices(self, content: dict[str, Any]) -> Prices:
        self._only(
            content, {"date", "region", "pages", "overhead", "disk", "address", "requests", "machine"}, "the table"
        )
        requests, machines = content.get("requests"), content.get("machine")
        if not isinstance(requests, dict):
            self._wrong("needs a part [requests] with `get` and `put`")
        if not isinstance(machines, list) or not machines or not all(isinstance(one, dict) for one in machines):
            self._wrong("needs at least one [[machine]]")
        self._only(requests, {"get", "put"}, "[requests]")
        pages = content.get("pages", [])
        if not isinstance(pages, list) or not all(isinstance(page, str) for page in pages):
            self._wrong("has `pages` that are no list of texts")
        numbers = {name: self._number(content, name, "the table") for name in ("overhead", "disk", "address")}
        asked = {name: self._number(requests, name, "[requests]") for name in ("get", "put")}
        return Prices(
            date=self._date(content),
            region=self._text(content, "region", "the table"),
            pages=tuple(pages),
            machines=tuple(self._machine(one) for one in machines),
            **numbers,
            **asked,
        )

    def _machine(self, told: dict[str, Any]) -> Machine:
        name = self._text(told, "name", "a [[machine]]")
        self._only(told, {field.name for field in fields(Machine)}, f"'{name}'")
        if not {"hour"} <= told.keys() and not {"vcpu_hour", "gb_hour"} <= told.keys():
            self._wrong(f"has '{name}' without a price: give `hour`, or `vcpu_hour` and `gb_hour`")
        if ("gpu_stage" in told) != ("gpu_speed" in told):
            self._wrong(f"has '{name}' with one of `gpu_stage` and `gpu_speed`: it takes both")
        found: dict[str, Any] = {}
        for field in fields(Machine):
            if field.name in told or field.default is MISSING:
                check = {"str": self._text, "bool": self._truth}.get(field.type.__name__, self._number)  # type: ignore[union-attr]
                found[field.name] = check(told, field.name, f"'{name}'")
        return Machine(**found)

    def _only(self, told: Mapping[str, Any], known: set[str], where: str) -> None:
        if unknown := sorted(told.keys() - known):
            self._wrong(f"has `{unknown[0]}` in {where}, which nobody knows. Known are: {', '.join(sorted(known))}")

    def _number(self, told: Mapping[str, Any], name: str, where: str) -> float:
        value = told.get(name)
        least = "from 0 up" if name in _MAY_BE_ZERO else "above 0"
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9
        if not fits or (not value and name not in _MAY_BE_ZERO):
            self._wrong(f"needs a number {least} for `{name}` in {where}, not {value!r}")
        return float(value)  # type: ignore[arg-type]

    def _text(self, told: Mapping[str, Any], name: str, where: str) -> str:
        if not isinstance(value := told.get(name), str) or not value:
            self._wrong(f"needs a text for `{name}` in {where}, not {value!r}")
        return value

    def _truth(self, told: Mapping[str, Any], name: str, where: str) -> bool:
        if not isinstance(value := told[name], bool):
            self._wrong(f"needs true or false for `{name}` in {where}, not {value!r}")
        return value

    def _date(self, told: Mapping[str, Any]) -> str:
        try:
            return date.fromisoformat(str(told.get("date"))).isoformat()
        except ValueError:
            self._wrong(f"needs a `date` such as 2026-11-23, not {told.get('date')!r}")

    def _wrong(self, what: str) -> NoReturn:
        raise UsageError(f"The price table {self.path} {what}. A table that works is {OURS}.")
