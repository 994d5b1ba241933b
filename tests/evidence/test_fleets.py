"""Reports on many machines: each says what it says alone, and the tables are not read once for each of them."""

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import mesa
import pytest
from scans import STAGES, scan

import fanfold
from event_logs import Event, write_log
from fanfold.evidence.report import load
from fanfold.evidence.report.load import Machines
from fanfold.evidence.report.report import all_made, made


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of a disk image, five machines of loose logs, and a log that cannot be read."""
    folder = tmp_path_factory.mktemp("fleet")
    for number in range(5):
        mesa.write(folder / "given" / f"host{number}")
    (folder / "given" / "host3" / "Broken.evtx").write_bytes(b"ElfFile\0" + bytes(100))
    mesa.disk_image(folder / "given")
    scan(folder / "given", str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.fixture(scope="module")
def alone(fleet: str) -> list[dict[str, Any]]:
    """The report on each machine, made alone."""
    return [made(fleet, name).to_json() for name in Machines(fleet).names]


@pytest.mark.parametrize("together", [1, 200, 1_000_000])
def test_a_report_is_the_same_alone_and_among_others(
    together: int, fleet: str, alone: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of a machine does not depend on the machines that are read with it."""
    monkeypatch.setattr(load, "_TOGETHER", together)
    machines = Machines(fleet)
    assert machines.names == ["host0", "host1", "host2", "host3", "host4", "mesa.E01"]
    every = [report.to_json() for report in all_made(machines, machines.names)]
    assert every == alone
    assert ["NOT READ" in " ".join(report["sources"]) for report in every] == [False, False, False, True, False, False]
    assert [bool(report["container"]) for report in every] == [False] * 5 + [True]


def test_tables_are_not_read_for_each_machine(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six machines need no more readings than one."""
    opened: list[str] = []
    real = fanfold.open_table
    monkeypatch.setattr(fanfold, "open_table", lambda database, name: opened.append(name) or real(database, name))
    machines = Machines(fleet)
    counts = []
    for names in (machines.names[:1], machines.names):
        before = Counter(opened)
        assert len([*all_made(machines, names)]) == len(names)
        counts.append(Counter(opened) - before)
    assert counts[1] <= counts[0]  # the first report finds out what is kept for the others


def test_a_record_takes_little_memory(tmp_path: Path, database: str) -> None:
    """A machine may have a million logons: a record of one takes less than 800 bytes, also when rules have read it."""
    others = {f"Name{number}": f"a value of {number}" for number in range(16)}
    logons = [
        Event(number, 4624, mesa.at("12:00:00"), mesa.SECURITY, "Security", "HOST",
              data={**mesa.LOGON, **others, "TargetLogonId": f"0x{number:x}"})
        for number in range(1, 3001)
    ]  # fmt: skip
    write_log(tmp_path / "given" / "host1" / "Security.evtx", logons)
    scan(tmp_path / "given", database)
    load.load(database, "host1", [4624])  # what is loaded once is not counted
    tracemalloc.start()
    case = load.load(database, "host1", [4624])
    assert sum(record.number("LogonType") or 0 for record in case.records) == 2 * len(logons)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 800 * len(logons)
