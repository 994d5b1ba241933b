"""Grids that are measured over emulated links, for tests; skipped where the system does not allow such links."""

import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fanfold
from fanfold import UsageError
from fanfold.tls import Tls, lab
from helpers import failures
from helpers import rows as rows_of

ROOT = Path(__file__).parents[2]


@cache
def _refusal() -> str:
    if importlib.util.find_spec("pyroute2") is None or importlib.util.find_spec("OpenSSL") is None:
        return "the extra 'tls' is not installed"
    try:
        lab.check()
    except UsageError as error:
        return str(error)
    return ""


def need_links() -> None:
    """Skip the test where links cannot be emulated."""
    if why := _refusal():
        pytest.skip(why)


def measured(folder: Path, grid: str, **options: Any) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The rows and the failures of a grid that is measured, by key."""
    need_links()
    (folder / "a.grid.toml").write_text(grid)
    database = str(folder / "db")
    for _ in fanfold.run(Tls(backend="emulate"), source=str(folder / "a.grid.toml"), database=database, **options):
        pass
    return rows_of(database, "tls"), failures(database)


def one(chains: list[str], **fixed: object) -> str:
    """A grid of these chains on a link of 20 ms, 100 Mbit/s and a window of 10, unless fixed otherwise."""
    values = {"rtt_ms": 20, "down_mbit": 100, "initcwnd": 10, "reps": 2} | fixed
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in values.items()]
    return "[grid]\nchain = [" + ", ".join(f'"{chain}"' for chain in chains) + "]\n[fixed]\n" + "\n".join(lines)


def state_of_the_host() -> list[str]:
    """Everything of this machine's network that a link could change."""
    commands = (
        "ip netns",
        "ip -d link",
        "ip -d address",
        "ip route show table all",
        "ip neigh",
        "sysctl -a -r ^net[.]",
    )
    said = [subprocess.run(words.split(), capture_output=True, text=True, check=False).stdout for words in commands]
    return [line for text in said for line in text.splitlines() if not any(word in line for word in _CHANGING)]


_CHANGING = ("conntrack_count", "STALE", "REACHABLE", "DELAY", "valid_lft")


def ordinary(words: list[str]) -> list[str]:
    """The words of a command as a user without any rights runs it.

    Where no Python of our version is for others, root runs it without any of root's powers.
    """
    if os.getuid():
        return words
    python = _python_of_others()
    if not python:
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *words]
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, *words[1:]]


@cache
def _python_of_others() -> str:
    """A Python of this version that everybody may run; it finds packages by PYTHONPATH."""
    version = f"python3.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        real = Path(path).resolve()
        if real.exists() and all(folder.stat().st_mode & 0o001 for folder in real.parents):
            return path
    return ""
