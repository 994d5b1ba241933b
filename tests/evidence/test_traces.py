"""Traces of programs, users and disks in other files than logs, and the sentences that rest on them."""

import importlib
import json
import random
import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import mesa
import pytest
from made_up import record, texts
from scans import rows, scan
from traces import AMCACHE, GUID, LISTED, MOUNTED, NTUSER, OS, SAM, SECRET, STICK, WRITTEN, cache, files, written_to

import disk_images
from commands import fanfold as command
from event_logs import Event, write_log
from fanfold.evidence.disk.medium import Unreadable
from fanfold.evidence.facts import Fact, facts_of, source_of
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.report import made
from fanfold.evidence.report.rules import accounts, devices, machine, programs
from prefetch import prefetch
from registry import hive, log_of


def facts(name: str, data: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """The kind, the name and the value of each fact of a file."""
    return [(fact.kind, fact.name, fact.value) for fact in facts_of(name, data)]


def test_accounts_without_their_hashes() -> None:
    """Accounts by name, with their state; what the value V of an account holds is in no fact."""
    found = {name: value for _, name, value in facts("SAM", hive(SAM))}
    assert found["emsadmin"] == {
        "number": 1104, "sid": "S-1-5-21-1-2-3-1104", "last_logon": "2021-05-23T22:24:16+00:00",
        "password_set": "2021-05-01T08:00:00+00:00", "last_failure": "2021-05-23T22:24:07+00:00",
        "failures": 3, "logons": 41, "disabled": False, "needs_no_password": True,
    }  # fmt: skip
    assert (found["Guest"]["disabled"], found["Guest"]["needs_no_password"]) == (True, True)
    assert (found["Administrator"]["disabled"], found["Administrator"]["needs_no_password"]) == (True, False)
    assert SECRET not in repr(found).encode()


def test_the_hive_of_a_user() -> None:
    """What a user started, by name, count and time; and the volumes that were seen."""
    assert sorted(facts("NTUSER.DAT", hive(NTUSER, written=WRITTEN)), key=str) == sorted([
        ("mount", GUID, {"written": "2021-05-23T22:26:14+00:00"}),
        ("userassist", "F:\\FTK Imager\\FTK Imager.exe",
         {"count": 2, "time": "2021-05-23T22:27:01+00:00", "focus_seconds": 90}),
        ("userassist", "C:\\Windows\\System32\\cmd.exe", {"count": 3, "time": None, "focus_seconds": 0}),
    ], key=str)  # fmt: skip


def test_amcache_of_both_layouts() -> None:
    """Files with their SHA-1, of Windows 8 and of Windows 10; and USB disks, but no others."""
    listed = {"listed": "2021-05-22T21:00:00+00:00"}
    assert facts("Amcache.hve", hive(AMCACHE, written=LISTED)) == [
        ("amcache", "f:\\ftk imager\\ftk imager.exe", {
            "sha1": "ab" * 20, "product": "ftk imager", "publisher": "exterro", "version": "4.2.0.13", "size": 8192,
            **listed,
        }),
        ("amcache", "c:\\windows\\notepad.exe", {"sha1": None, "size": 16, **listed}),
        ("amcache", "C:\\old\\kape.exe", {"sha1": "cd" * 20, "version": "1.2", "size": 5, **listed}),
        ("usb_listed", "wx71d39l4f&0", {
            "called": "easystore 264D", "manufacturer": "(Standard disk drives)", **listed,
        }),
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["7", "7, 32 bits", "8", "8.1", "10"])
def test_shimcache_of_every_layout(layout: str) -> None:
    """Files that were there, in the order of the cache, with the time at which each file was last written."""
    path = "ControlSet001\\Control\\Session Manager\\AppCompatCache"
    data = cache(layout, "\\??\\F:\\dumpit.exe", "SYSVOL\\Windows\\notepad.exe", "an app\tof the store\\x")
    found = list(facts_of("SYSTEM", hive({path: {"AppCompatCache": data}})))
    value = {"file_written": "2021-05-03T09:00:00+00:00"}
    assert found == [
        Fact("shimcache", "F:\\dumpit.exe", value, f"{path}, the entry 1"),
        Fact("shimcache", "SYSVOL\\Windows\\notepad.exe", value, f"{path}, the entry 2"),
    ]
    for cut in range(0, len(data), 7):  # a part of it gives some, and no error
        assert len(list(facts_of("SYSTEM", hive({path: {"AppCompatCache": data[:cut]}})))) <= 3


def test_prefetch() -> None:
    """The program, its runs, its path and its volume, beside that of Windows; libscca itself takes the file for one."""
    times = [mesa.at("22:27:02"), mesa.at("21:00:00", 22)]
    data = prefetch("FTK IMAGER.EXE", times, [OS, STICK], 7)
    file = importlib.import_module("pyscca").file()
    file.open_file_object(BytesIO(data))
    assert (file.format_version, file.number_of_volumes, file.number_of_filenames) == (26, 2, 3)
    assert facts("FTK IMAGER.EXE-07476F82.pf", data) == [
        ("prefetch", "FTK IMAGER.EXE", {
            "count": 7, "times": ["2021-05-23T22:27:02+00:00", "2021-05-22T21:00:00+00:00"],
            "path": "\\VOLUME{01d1-E8737BAF}\\FTK IMAGER\\FTK IMAGER.EXE", "volume": "E8737BAF",
            "windows_volume": "11112222",
        }),
    ]  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """What a triage tool collects of the invented server."""
    folder = tmp_path / "given" / "host1"
    written_to(folder / "C", files())
    mesa.write(folder / "C/Windows/System32/winevt/Logs")
    return folder


SENTENCES = {
    "machine.replayed_hive": "Brought up to date with their transaction logs: emsadmin/NTUSER.DAT.",
    "machine.dirty_hive": "Without their latest changes, which are in transaction logs: SAM.",
    "account.known": "The machine has the account emsadmin (number 1104): last logon Sun 23 May 2021, 16:24:16 MDT "
    "(22:24:16 UTC); last failed attempt Sun 23 May 2021, 16:24:07 MDT (22:24:07 UTC); password set Sat 1 May 2021, "
    "02:00:00 MDT (08:00:00 UTC); logons: 41; it needs no password.",
    "account.idle": "Accounts that are disabled, and were never used: Administrator, Guest.",
    "usb.seen": f"emsadmin has seen its volume {GUID}; noted last Sun 23 May 2021, 16:26:14 MDT (22:26:14 UTC).",
    "usb.listed": "Amcache has the USB disk easystore 264D, wx71d39l4f&0, listed Sat 22 May 2021, 15:00:00 MDT "
    "(21:00:00 UTC).",
    "program.started": "Sun 23 May 2021, 16:27:01 MDT (22:27:01 UTC): F:\\FTK Imager\\FTK Imager.exe, an imaging "
    'program, last started then by emsadmin; starts in all: 2. F: was then the USB disk WD "easystore 264D".',
    "program.prefetch": "Sun 23 May 2021, 16:27:02 MDT (22:27:02 UTC): \\FTK IMAGER\\FTK IMAGER.EXE, an imaging "
    "program, ran; runs in all: 1. It was on another volume than Windows: E873-7BAF.",
    "program.prefetch_disk": "Sun 23 May 2021, 16:27:02 MDT (22:27:02 UTC): the USB disk WD \"easystore 264D\" was "
    "connected.",
}  # fmt: skip
STATUS = {
    "machine.dirty_hive": "likely", "program.started": "likely", "program.prefetch_disk": "possible",
    "usb.seen": "possible",
}  # fmt: skip


def findings(database: str, image: str = "host1") -> list[Finding]:
    """What a report finds."""
    return [*made(database, image).findings]


def of(found: Sequence[Finding], identity: str) -> list[Finding]:
    """The findings of an id."""
    return [finding for finding in found if finding.id == identity]


def test_sentences_on_traces(server: Path, database: str) -> None:
    """Each trace gives its sentence, with its status and the file that it rests on."""
    scan(server.parent, database)
    found = findings(database)
    assert {identity: [one.text for one in of(found, identity)] for identity in SENTENCES} == {
        identity: [text] for identity, text in SENTENCES.items()
    }
    assert {one: of(found, one)[0].status for one in SENTENCES} == {one: STATUS.get(one, "shown") for one in SENTENCES}
    (started_by,) = of(found, "program.started")
    assert started_by.refs == ["Partition/Diagnostic#2"]
    assert started_by.files[0].startswith("emsadmin/NTUSER.DAT: Software\\")
    assert of(found, "program.prefetch")[0].files == ["FTK IMAGER.EXE-07476F82.pf"]


def test_a_file_that_was_there_is_never_shown_to_have_run(server: Path, database: str) -> None:
    """Amcache and ShimCache name files. Those of interest are `possible`, each once."""
    scan(server.parent, database)
    there = of(findings(database), "program.there")
    assert [(one.text, one.status) for one in there] == [
        (f"The file F:\\FTK Imager\\FTK Imager.exe, an imaging program, was there; SHA-1 {'ab' * 20}; listed "
         "Sat 22 May 2021, 15:00:00 MDT (21:00:00 UTC).", "possible"),
        (f"The file C:\\old\\kape.exe, a collection program, was there; SHA-1 {'cd' * 20}; listed "
         "Sat 22 May 2021, 15:00:00 MDT (21:00:00 UTC).", "possible"),
    ]  # fmt: skip
    assert [one.partition(":")[0] for one in there[0].files] == ["Amcache.hve", "SYSTEM"]


def test_files_that_were_there_leave_the_question_open(tmp_path: Path, database: str) -> None:
    """Without a trace of a run, the report says that none is recorded, though files were there."""
    folder = tmp_path / "given" / "host1"
    written_to(folder, {"C/Windows/System32/config/SYSTEM": hive(MOUNTED)})
    write_log(folder / "System.evtx", [Event(1, 7036, mesa.at("22:00:00"))])
    scan(folder.parent, database)
    found = findings(database)
    assert [one.status for one in of(found, "program.none")] == ["not recorded"]
    assert len(of(found, "program.there")) == 1


def test_a_change_of_a_transaction_log_is_read(server: Path, database: str) -> None:
    """A log belongs to its hive: the hive is read anew when its log has changed."""
    scan(server.parent, database)
    log = server / "C/Users/emsadmin/ntuser.dat.LOG1"
    log.write_bytes(log.read_bytes()[:600])
    _, report = scan(server.parent, database)
    assert (report.ok, report.unchanged) == (1, 15)
    assert of(findings(database), "usb.seen") == []


def test_one_hive_with_its_logs(server: Path, database: str) -> None:
    """A hive that is named by itself is read with the logs beside it."""
    scan(server / "C/Users/emsadmin/NTUSER.DAT", database)
    assert {row["kind"] for row in rows(database, "evidence_facts")} == {"mount", "userassist"}


def test_a_disk_image_with_these_files(tmp_path: Path, database: str) -> None:
    """On a volume, files are found by their names in any case, and by patterns; hives have their logs beside them."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(disk_images.mbr(disk_images.windows_volume("traces")))
    scan(disk, database, ["live"])
    read = {row["path"] for row in rows(database, "evidence_facts")}
    assert read == {
        "Windows/System32/config/SYSTEM", "Windows/System32/config/SAM", "Windows/appcompat/Programs/Amcache.hve",
        "Windows/Prefetch/FTK IMAGER.EXE-07476F82.pf", "Windows/Prefetch/NOTEPAD.EXE-07476F82.pf",
        "Users/emsadmin/NTUSER.DAT",
    }  # fmt: skip
    dirty = {row["path"] for row in rows(database, "evidence_facts") if '"replayed"' in row["value"]}
    assert dirty == {"Users/emsadmin/NTUSER.DAT"}


def test_without_the_library_of_prefetch(server: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not read is said once, with what to install."""
    monkeypatch.setitem(importlib.import_module("sys").modules, "pyscca", None)
    _, report = scan(server.parent, database)
    assert report.failed == 2
    sources = " ".join(made(database, "host1").sources)
    assert sources.count("pip install 'fanfold[evidence-prefetch]'") == 1
    assert "-07476F82.pf and 1 more" in sources
    done = command("evidence", "report", database)
    assert "evidence-prefetch" in done.stdout


def test_traces_in_an_archive(server: Path, tmp_path: Path, database: str) -> None:
    """A hive in a zip archive is read with the logs beside it there."""
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips" / "host1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(server.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(server))
    scan(tmp_path / "zips", database)
    found = {finding.text for finding in findings(database, "host1.zip")}
    assert {*SENTENCES.values()} <= found


@pytest.mark.parametrize("seed", range(60))
def test_no_damage_of_a_trace_is_too_much(seed: int) -> None:
    """A damaged file gives what can be read of it, as text that JSON can hold, or is refused with a reason."""
    some = random.Random(seed)
    name, content = some.choice(sorted(files().items()))
    data = bytearray(content or b"regf")
    for _ in range(some.choice([1, 5, 50])):
        data[some.randrange(some.choice([min(len(data), 400), len(data)]))] = some.choice([0, 255, some.randrange(256)])
    if seed % 4 == 0:
        del data[some.randrange(len(data)) :]
    name = name.removesuffix(".LOG1").removesuffix(".LOG2")
    try:
        json.dumps([fact._asdict() for fact in facts_of(name, bytes(data))])
    except Unreadable as error:
        assert any(words in str(error) for words in ("be read", "not a whole", "is whole"))  # noqa: PT017


def fact(kind: str, name: str, path: str = "", **value: Any) -> dict[str, Any]:
    """A fact, as a report has it."""
    return {"kind": kind, "name": name, "path": path, "source": "here", "value": value}


def case(*facts: Mapping[str, Any], records: Sequence[Record] = ()) -> Case:
    """A machine of which these facts are known."""
    return Case("host1", records, [], {}, facts)


def disk(time: str, number: int) -> list[Record]:
    """A USB disk that is connected, and then mounted as F:."""
    data = {"Capacity": "9", "BusType": "7", "SerialNumber": f"disk {number}"}
    mounted = {"VolumeName": "F:"}
    return [
        Record("Partition/Diagnostic", number, mesa.at(f"{time}:00"), 1006, "Microsoft-Windows-Partition", "", data),
        Record("Ntfs/Operational", number, mesa.at(f"{time}:03"), 142, "Microsoft-Windows-Ntfs", "", mounted),
    ]


def test_a_volume_is_of_the_last_disk_with_its_letter() -> None:
    """The registry has the last volume of a letter only, so nothing is said of disks that had it before."""
    known = [
        fact("letter", "F:", identity="ab"),
        fact("volume", GUID, identity="ab"), fact("volume", "{other}", identity="c"),
        fact("mount", GUID, "C:/Users/emsadmin/NTUSER.DAT", written=None), fact("mount", "{other}", "x/ntuser.dat"),
    ]  # fmt: skip
    records = [*disk("10:00", 1), *disk("12:00", 2)]
    connected = [one for one in devices.RULE.answer(case(*known, records=records)) if one.id == "usb.connected"]
    seen = {one.refs[0]: [detail.text for detail in one.details if detail.id == "usb.seen"] for one in connected}
    assert seen == {"Partition/Diagnostic#2": [f"emsadmin has seen its volume {GUID}."], "Partition/Diagnostic#1": []}


def test_a_disabled_account_that_was_used_is_named() -> None:
    """Only accounts that are disabled and were never used share a sentence."""
    given = {"number": 500, "logons": 1, "password_set": None, "last_failure": None, "needs_no_password": False}
    known = [
        fact("account", "old", disabled=True, last_logon="2021-05-01T00:00:00+00:00", **given),
        fact("account", "idle", disabled=True, last_logon=None, **given),
        fact("account", "new", disabled=False, last_logon=None, **given),
    ]
    found: dict[str, list[str]] = {one.id: [] for one in accounts.RULE.answer(case(*known))}
    for one in accounts.RULE.answer(case(*known)):
        found[one.id].append(one.text)
    assert found["account.known"] == [
        "The machine has the account old (number 500): last logon Sat 1 May 2021, 00:00:00 UTC; logons: 1; disabled.",
        "The machine has the account new (number 500): logons: 1.",
    ]
    assert found["account.idle"] == ["Accounts that are disabled, and were never used: idle."]


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("C/Windows/System32/config/SYSTEM", True),
        ("hives/system", True),
        ("a\\Users\\me\\ntuser.dat", True),
        ("Prefetch/A.EXE-1.pf", True),
        ("C/Windows/System32/config/RegBack/SYSTEM", False),
        ("C/Windows.old/Windows/System32/config/SAM", False),
        ("SYSTEM.evtx", False),
        ("SYSTEM.LOG1", False),
    ],
)
def test_files_that_give_facts(path: str, is_one: bool) -> None:
    """Files are known by their names, but for copies that are of an earlier time."""
    assert (source_of(path) is not None) == is_one


def test_a_hive_of_an_earlier_time(server: Path, database: str) -> None:
    """The copy of a hive that Windows has kept gives no facts, and its logs none either."""
    folder = server / "C/Windows/System32/config/RegBack"
    content = hive({"SAM\\Domains\\Account": {}}, dirty=True)
    written_to(folder, {"SAM": content, "SAM.LOG1": log_of([content])})
    scan(server.parent, database)
    kinds = {
        row["key"].rpartition("/")[2]: row["kind"] for row in rows(database, "containers") if "RegBack" in row["key"]
    }
    assert kinds == {"SAM": "other"}
    assert not [row for row in rows(database, "evidence_facts") if "RegBack" in row["key"]]


def test_a_program_on_a_drive_of_which_nothing_is_known() -> None:
    """That a program ran from another drive than C: does not show from which disk; the earliest comes first."""
    known = [
        fact("program", "V:\\KAPE\\gkape.exe", time="2021-05-23T13:00:00+00:00"),
        fact("program", "M:\\Setup.exe", time="2021-05-23T12:00:00+00:00"),
        fact("program", "C:\\Tools\\gkape.exe", time="2021-05-23T11:00:00+00:00"),
    ]
    assert [text.partition("UTC: ")[2] for text, _ in texts(programs.RULE, case(*known))] == [
        "C:\\Tools\\gkape.exe, a collection program, last launched then.",
        "M:\\Setup.exe, last launched then. Which disk M: was then is not recorded.",
        "V:\\KAPE\\gkape.exe, a collection program, last launched then. Which disk V: was then is not recorded.",
    ]


def test_a_hive_that_may_be_of_another_machine() -> None:
    """The registry may have another name than all records: the hive may not be of the machine of the logs."""
    start = [record(12, log="System")]
    told = [text for text, _ in texts(machine.RULE, case(fact("name", "OTHER"), records=start)) if "registry" in text]
    other = "and no record does: it got this name later, or the hive is of another machine."
    assert told == [f"The registry calls the machine OTHER, {other}"]
    assert not [
        text for text, _ in texts(machine.RULE, case(fact("name", "HOST"), records=start)) if "registry" in text
    ]
