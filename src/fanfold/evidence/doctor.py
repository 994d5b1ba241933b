"""The job's part of `fanfold doctor`: which of its extras are missing, and what then cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from fanfold.machine import Machine

_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "evidence-vm": (("pyqcow", "pyvhdi", "pyvmdk"), "Disks of virtual machines (VHD, VHDX, VMDK, qcow2) will fail"),
    "evidence-vss": (("pyvshadow",), "Shadow copies of volumes will be named, and not searched"),
    "evidence-prefetch": (("pyscca",), "Files of Prefetch, which tell what programs ran, will fail"),
}
"""The job's extras: the modules of each, and what happens without them."""


@dataclass(frozen=True)
class Libraries:
    """What is installed for the job, besides what it always needs."""

    installed: tuple[str, ...]
    """Its extras that are there."""
    missing: tuple[str, ...]
    """Its extras of which a module is not."""


def look(_machine: Machine) -> Libraries:
    """What the job would use here, now."""
    there = {extra: all(map(find_spec, modules)) for extra, (modules, _) in _EXTRAS.items()}
    return Libraries(
        tuple(extra for extra, is_there in there.items() if is_there),
        tuple(extra for extra, is_there in there.items() if not is_there),
    )


def facts(_libraries: Libraries) -> Iterator[tuple[str, str]]:
    """None: the extras that are installed are among those of all jobs."""
    yield from ()


def advice(_machine: Machine, libraries: Libraries) -> Iterator[str]:
    """What the user could improve, one sentence each."""
    for extra in libraries.missing:
        yield f"{_EXTRAS[extra][1]}. To read them: pip install 'fanfold[{extra}]'"
