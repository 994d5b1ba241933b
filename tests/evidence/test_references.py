"""Names of records: each that a report uses names one record, also where two logs have the same name."""

from pathlib import Path

import mesa
import pytest
from scans import STAGES, rows, scan

from commands import fanfold as command
from disk_images import ewf, mbr, windows_volume, write_ewf
from event_logs import Event, events, log_bytes, write_log
from fanfold.errors import UsageError
from fanfold.evidence import tables
from fanfold.evidence.references import References, named
from fanfold.evidence.report.report import made

LOGS = "Windows/System32/winevt/Logs"


def logons(file: Path, name: str, hour: int, count: int = 3) -> None:
    """A log Security of some logons at the console, with the ids 1, 2 and so on, and a log System."""
    security = [
        Event(n, 4624, mesa.at(f"{hour:02}:00:0{n}"), mesa.SECURITY, "Security", "HOST",
              data={**mesa.LOGON, "TargetUserName": name, "TargetLogonId": f"0x{n}"})
        for n in range(1, count + 1)
    ]  # fmt: skip
    write_log(file / "Security.evtx", security)
    write_log(file / "System.evtx", [Event(1, 12, mesa.at(f"{hour:02}:00:00"), mesa.KERNEL, "System", "HOST")])


def test_a_log_that_two_installations_have(tmp_path: Path, database: str) -> None:
    """The logs of Windows.old have longer names, and the last logon is of the Windows that was used last."""
    logons(tmp_path / "given" / "host1" / "C" / LOGS, "new", 12)
    logons(tmp_path / "given" / "host1" / "C" / "Windows.old" / LOGS, "old", 9)
    scan(tmp_path / "given", database)
    report = made(database, "host1")
    last = next(finding for finding in report.findings if finding.id == "logon.last_console")
    assert "new logged on" in last.text
    assert last.refs == [f"C/{LOGS}/Security.evtx#3"]
    refs = {ref for finding in report.findings for ref in finding.refs}
    assert f"Windows.old/{LOGS}/Security.evtx#1" in refs
    assert {ref: len(named(database, ref)) for ref in refs} == dict.fromkeys(refs, 1)
    assert [finding.text for finding in report.findings if finding.id == "machine.earlier"] == [
        "There are also logs of another Windows, in c:/windows.old/windows: before an update, or on another volume."
    ]


def test_the_last_logon_of_two_installations(tmp_path: Path, database: str) -> None:
    """The logons of another Windows come before, whatever its drive, and the ids of its sessions are others."""
    logons(tmp_path / "given" / "host1" / "Z" / LOGS, "old", 9, 5)
    logons(tmp_path / "given" / "host1" / "C" / LOGS, "new", 12)
    end = Event(9, 4634, mesa.at("09:30:00"), mesa.SECURITY, "Security", "HOST", data={"TargetLogonId": "0x3"})
    file = tmp_path / "given" / "host1" / "Z" / LOGS / "Archive-Security.evtx"
    write_log(file, [end])
    scan(tmp_path / "given", database)
    last = next(finding for finding in made(database, "host1").findings if finding.id == "logon.last_console")
    assert "new logged on" in last.text
    assert [detail.id for detail in last.details] == ["logon.open"]


def test_a_log_that_two_machines_have(tmp_path: Path, database: str) -> None:
    """In a database of several machines, the machine is a part of the name; without it, both records are shown."""
    for machine in ("host1", "host2"):
        logons(tmp_path / "given" / machine / "C" / LOGS, machine, 12)
    scan(tmp_path / "given", database)
    for machine in ("host1", "host2"):
        last = next(finding for finding in made(database, machine).findings if finding.id == "logon.last_console")
        assert last.refs == [f"{machine}/Security#3"]
        (row,) = named(database, last.refs[0])
        assert row["image"] == machine
    assert len(named(database, "Security#3")) == 2


def test_a_log_that_has_an_id_twice(tmp_path: Path, database: str) -> None:
    """Where a log has two records of one id, the offset is a part of the name."""
    again = [Event(1, 4625, mesa.at("12:00:00")), Event(1, 4624, mesa.at("13:00:00"))]
    write_log(tmp_path / "given" / "Security.evtx", again)
    scan(tmp_path / "given", database)
    found = rows(database, "evidence_events")
    references = References(tables.units(database))
    names = {references.name(row): row["event_id"] for row in found}
    assert len(names) == 2
    for name, event_id in names.items():
        assert name.startswith("Security#1@")
        assert [row["event_id"] for row in named(database, name)] == [event_id]


def test_every_record_of_a_disk_has_a_name_of_its_own(tmp_path: Path, database: str) -> None:
    """On two volumes with the same logs, some of which were deleted, each name names one record."""
    volume = windows_volume()
    write_ewf(tmp_path / "given" / "mesa.E01", ewf(mbr(volume, volume)))
    scan(tmp_path / "given", database, *STAGES)
    references = References(tables.units(database))
    found = [row for batch in tables.events(database) for row in batch.to_pylist()]
    names = [references.name(row) for row in found]
    assert len({*names}) == len(names)
    assert {row["origin"] for row in found} == {"live", "deleted"}
    for row, name in [*zip(found, names, strict=True)][::60]:
        (shown,) = named(database, name)
        assert (shown["key"], shown["offset"]) == (row["key"], row["offset"])
    assert {name.partition("#")[0] for name in names} > {"mesa.E01/p1/Security", "mesa.E01/p2/Security"}


def test_a_record_in_free_space_is_named_by_its_place(tmp_path: Path, database: str) -> None:
    """What was found in the bytes of a disk is named by its channel and its offset."""
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "disk.dd").write_bytes(mbr(windows_volume()) + bytes(1 << 17) + log_bytes(events(5, "Lost")))
    scan(tmp_path / "given", database, *STAGES)
    references = References(tables.units(database))
    row = next(row for batch in tables.events(database, "origin = 'carved'") for row in batch.to_pylist())
    name = references.name(row)
    assert name == f"carved/{row['channel']}#{row['record_id']}@{row['offset']}"
    assert [shown["offset"] for shown in named(database, name)] == [row["offset"]]
    done = command("evidence", "show", database, name)
    assert (done.returncode, f"offset: {row['offset']}" in done.stdout) == (0, True)


CARVED = {
    "Microsoft-Windows-Partition/Diagnostic": "Partition/Diagnostic",
    "Vendor-Product/Operational": "Vendor-Product/Operational",
    "odd#1/name": "odd#1/name",
    "": "carved",
}
"""Channels, and the names of their logs."""


@pytest.fixture(scope="module")
def carved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of disks, each with a record of one of these channels in its free space."""
    folder = tmp_path_factory.mktemp("carved")
    (folder / "given").mkdir()
    disk = {"BusType": "7", "Capacity": "1000", "Model": "Stick", "SerialNumber": "1"}
    for number, channel in enumerate(CARVED):
        lost = [Event(23, 1006, mesa.at("12:00:00"), "Microsoft-Windows-Partition", channel, "EMSSERVER", data=disk)]
        data = mbr(windows_volume()) + bytes(1 << 17) + log_bytes(lost)
        (folder / "given" / f"{number}.dd").write_bytes(data)
    scan(folder / "given", str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.mark.parametrize("number", range(len(CARVED)))
def test_what_was_carved_names_its_log(number: int, carved: str) -> None:
    """A record of free space is named by its whole channel; `show` finds it by this name, and by that of its file."""
    (channel, log), image = [*CARVED.items()][number], f"{number}.dd"
    (found,) = [finding for finding in made(carved, image).findings if finding.id == "usb.connected"]
    (ref,) = found.refs
    name, _, offset = ref.partition("@")
    assert (name, found.status) == (f"{image}/carved/{log}#23", "likely")
    file = f"{image}/carved/{channel.replace('/', '%4') or 'carved'}#23@{offset}"
    for asked in (ref, file, ref.upper()):
        (row,) = named(carved, asked)
        assert (row["image"], row["record_id"], row["origin"]) == (image, 23, "carved")
        assert str(row["offset"]) == offset
    for asked in (ref, file):  # without the disk's name, where no other disk has such a log
        (row,) = named(carved, asked.removeprefix(f"{image}/"))
        assert row["image"] == image


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of a log Security of three records, and of another log."""
    folder = tmp_path_factory.mktemp("some")
    logons(folder / "given", "a", 12)
    scan(folder / "given", str(folder / "db"))
    return str(folder / "db")


@pytest.mark.parametrize("name", ["Security", "Security#", "Security#x", "#5", "Security#5@", f"Security#{1 << 64}"])
def test_what_names_no_record(name: str, some: str) -> None:
    """A name without a log, an id or an offset is a mistake, and so is one of a record that is not there."""
    with pytest.raises(UsageError, match="does not name a record"):
        named(some, name)
    done = command("evidence", "show", some, "Security#2@1")
    assert (done.returncode, "No log called Security has a record 2 at the offset 1." in done.stderr) == (2, True)
