"""The job's part of `fanfold doctor`: whether handshakes can be measured here, and with what."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fanfold.errors import FanfoldError
from fanfold.machine import Machine
from fanfold.tls import lab

_CONTROLS = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


@dataclass(frozen=True)
class Bench:
    """What handshakes would be measured with."""

    stack: str
    """What does the handshakes, with its versions; empty if it is not installed."""
    controls: tuple[str, ...]
    """The congestion controls of the kernel."""
    trouble: str
    """Why handshakes cannot be measured; empty if they can."""


def look(_machine: Machine) -> Bench:
    """What the job would use here, now. A link is made to try."""
    controls = tuple(_CONTROLS.read_text().split()) if _CONTROLS.exists() else ()
    try:
        stack = lab.stack()
        lab.check()
    except FanfoldError as error:
        return Bench("", controls, str(error))
    return Bench(stack, controls, "")


def facts(bench: Bench) -> Iterator[tuple[str, str]]:
    """The lines that `fanfold doctor` shows, each a name and a value."""
    if not bench.trouble:
        yield "handshakes", f"can be measured over an emulated link, by {bench.stack}"
    if bench.controls:
        yield "TCP", f"congestion control by {', '.join(bench.controls)}"


def advice(_machine: Machine, bench: Bench) -> Iterator[str]:
    """What the user could improve, one sentence each."""
    if bench.trouble:
        yield bench.trouble
