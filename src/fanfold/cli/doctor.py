"""`fanfold doctor`: what this machine has, what fanfold will use, and what would make it faster."""

import re
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

import lance
import obstore
import pyarrow as pa
from rich.table import Table

import fanfold
from fanfold import machine
from fanfold.cli import Json, show
from fanfold.errors import MissingExtra
from fanfold.job import JOBS
from fanfold.machine import Gpu, Machine

Facts = list[tuple[str, str]]

_EXTRA = re.compile(r"(?P<name>[\w.-]+).*; extra == ['\"](?P<extra>[\w-]+)['\"]")
"""A requirement of an extra, as a package's metadata has it."""


@dataclass(frozen=True)
class Finding:
    """What a job finds on this machine."""

    found: Any | None
    """None if the job's extra is not installed."""
    facts: Facts
    advice: list[str]


def doctor(*, json: Json = False) -> int:
    """Show what this machine has, what fanfold will use, and what would make it faster."""
    here = machine.look()
    jobs = {name: found for name in JOBS if (found := _ask(name, here))}
    advice = [sentence for job in jobs.values() for sentence in job.advice]
    if json:
        content: dict[str, Any] = {"machine": asdict(here), "software": software(), "extras": extras()}
        content |= {name: asdict(job.found) if job.found else None for name, job in jobs.items()}
        show.put_json(content | {"advice": advice})
    else:
        facts = [fact for job in jobs.values() for fact in job.facts]
        _draw([*_machine(here), *software().items(), _installed_extras(), *facts], advice)
    return 0


def _ask(job: str, here: Machine) -> Finding | None:
    """What the module `doctor` of a job finds; None if the job has no such module."""
    package = JOBS[job].address.partition(":")[0]
    try:
        if not find_spec(f"{package}.doctor"):
            return None
        module = import_module(f"{package}.doctor")
        found = module.look(here)
    except MissingExtra as missing:
        return Finding(None, [], [str(missing)])
    return Finding(found, list(module.facts(found)), list(module.advice(here, found)))


def software() -> dict[str, str]:
    """The software that fanfold uses, with versions."""
    python = ".".join(map(str, sys.version_info[:3]))
    versions = {"Lance": lance.__version__, "PyArrow": pa.__version__, "obstore": obstore.__version__}
    return {"fanfold": fanfold.__version__, "Python": python} | versions


def extras() -> dict[str, bool]:
    """The extras of fanfold, and whether each is installed."""
    package = distribution("fanfold")
    needed = [found for line in package.requires or () if (found := _EXTRA.match(line))]
    installed: dict[str, bool] = {}
    for extra in package.metadata.get_all("Provides-Extra") or []:
        packages = [found["name"] for found in needed if found["extra"] == extra]
        installed[extra] = _can_be_imported(extra) if extra in JOBS else all(map(_is_installed, packages))
    return installed


def _can_be_imported(job: str) -> bool:
    """Whether a job can be imported: another package may provide what it needs."""
    try:
        return bool(import_module(JOBS[job].address.partition(":")[0]))
    except MissingExtra:
        return False


def _is_installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


def _installed_extras() -> tuple[str, str]:
    there = [name for name, installed in extras().items() if installed]
    return "extras", ", ".join(there) or "none"


def _machine(here: Machine) -> Facts:
    limit = f"; this process may use {_gigabytes(here.memory_limit)}" if here.memory_limit else ""
    return [
        ("system", here.system),
        ("processor", here.processor.model),
        ("instructions", _instructions(here)),
        ("cores", f"{here.cores} of {here.all_cores}; by default one worker per core"),
        ("memory", f"{_gigabytes(here.memory)}{limit}"),
        ("temporary files", f"{here.temporary}, {_gigabytes(here.temporary_free)} free"),
        ("GPUs", "; ".join(map(_gpu, here.gpus)) or "none found"),
    ]


def _instructions(here: Machine) -> str:
    found = ", ".join(here.processor.features) or "none of those that fanfold uses"
    if here.amx is None:
        return found
    return f"{found} (AMX {'granted' if here.amx else 'not granted'} by the kernel)"


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.name}, {_gigabytes(gpu.memory)}, driver {gpu.driver}"


def _gigabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB"


def _draw(facts: Facts, advice: list[str]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    show.out.print(table)
    for sentence in advice:
        show.out.print(f"\n{sentence}", soft_wrap=True)
