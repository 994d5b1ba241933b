"""Real logs, hives and disk images: what is in them is known, and the report must say it.

They are not part of the repository. FANFOLD_EVIDENCE_MATERIAL names the folder that has them; see CONTRIBUTING.md.
"""

import lzma
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pytest
from scans import scan

from commands import fanfold as command
from event_logs import by_libevtx
from fanfold.evidence import coverage, tables
from fanfold.evidence.references import References, named
from fanfold.evidence.report.report import Report, made

MATERIAL = os.environ.get("FANFOLD_EVIDENCE_MATERIAL")
pytestmark = pytest.mark.skipif(
    not MATERIAL, reason="set FANFOLD_EVIDENCE_MATERIAL to the folder of the real logs: see CONTRIBUTING.md"
)
SETS = {
    "W10": "RathbunVM_W10EventLogs",
    "W11": "RathbunVM_W11EventLogs",
    "APT": "APTSimulatorVM_EventLogs",
    "Server2022": "APTSimulatorVM_EventLogs_Server2022",
}


@dataclass
class Scanned:
    """A database of real material."""

    database: str
    logs: Path

    @cached_property
    def machine(self) -> str:
        """The only machine of the database."""
        (name,) = {unit["image"] for unit in tables.units(self.database)}
        return str(name)

    @cached_property
    def report(self) -> Report:
        """The report on the machine."""
        return made(self.database, self.machine)

    def told(self, question: str = "") -> dict[str, tuple[str, list[str]]]:
        """The sentences of the report, or of one question, each with its status and its records."""
        sections = [section for section in self.report.sections if question in ("", section.id)]
        findings = [one for section in sections for finding in section.findings for one in (finding, *finding.details)]
        return {finding.text: (finding.status, finding.refs) for finding in findings}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scanned]:
    """Scans a set of logs, each once."""
    done: dict[str, Scanned] = {}

    def scanned(name: str) -> Scanned:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            unpacker = shutil.which("7zz") or shutil.which("7z")
            assert unpacker, "to unpack the logs, install 7zip: apt-get install 7zip"
            archive = Path(str(MATERIAL), "logs", f"{SETS[name]}.7z")
            subprocess.run([unpacker, "x", "-y", f"-o{folder}/{name}", archive], check=True, stdout=subprocess.DEVNULL)
            scan(folder / name, str(folder / "db"))
            done[name] = Scanned(str(folder / "db"), folder / name)
        return done[name]

    return scanned


def unpacked(kind: str, name: str, file: Path) -> Path:
    """A file of the material, unpacked to here."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.decompress(Path(str(MATERIAL), kind, f"{name}.xz").read_bytes()))
    return file


def at(time: str) -> datetime:
    """A time in UTC."""
    return datetime.fromisoformat(time).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", SETS)
def test_another_reader_finds_the_same(name: str, scanned: Callable[[str], Scanned]) -> None:
    """libevtx finds the same records in each log: their ids, events and times, none missing and none more."""
    given = scanned(name)
    theirs = {
        log.relative_to(given.logs).as_posix(): sorted(
            (one.get_identifier(), one.get_event_identifier() & 0xFFFF, one.get_written_time_as_integer())
            for one in by_libevtx(log)
        )
        for log in given.logs.rglob("*.evtx")
    }
    ours: dict[str, list[tuple[int, int, int]]] = {}
    for batch in tables.events(given.database, columns=["key", "record_id", "event_id", "filetime"]):
        for row in batch.to_pylist():
            log = row["key"].rpartition("#")[0]
            ours.setdefault(log, []).append((row["record_id"], row["event_id"], row["filetime"]))
    assert {log: sorted(found) for log, found in ours.items()} == {log: found for log, found in theirs.items() if found}


@pytest.mark.parametrize(
    ("name", "logs", "filled", "records", "chunks", "dirty", "first", "last"),
    [
        ("W10", 109, 100, 42_409, 595, 84, "2022-02-05 19:18:52", "2022-02-13 04:17:55"),
        ("W11", 110, 101, 40_106, 585, 86, "2022-02-05 18:51:03", "2022-02-13 03:55:36"),
        ("APT", 94, 90, 32_159, 491, 82, "2022-03-10 16:33:50", "2022-03-10 21:42:44"),
        ("Server2022", 85, 81, 7_660, 278, 74, "2023-10-18 02:44:40", "2023-10-18 05:44:40"),
    ],
)
def test_what_is_in_the_logs(
    name: str,
    logs: int,
    filled: int,
    records: int,
    chunks: int,
    dirty: int,
    first: str,
    last: str,
    scanned: Callable[[str], Scanned],
) -> None:
    """Every record of every log is read, as other readers count them, and no checksum is wrong."""
    found = [*coverage.logs(tables.units(scanned(name).database))]
    assert (len(found), sum(bool(log["records"]) for log in found)) == (logs, filled)
    totals = {
        key: sum(log[key] or 0 for log in found) for key in ("records", "chunks", "dirty", "bad_chunks", "undecoded")
    }
    assert totals == {"records": records, "chunks": chunks, "dirty": dirty, "bad_chunks": 0, "undecoded": 0}
    times = [log[key].replace(microsecond=0) for log in found if log["records"] for key in ("first_time", "last_time")]
    assert (min(times), max(times)) == (at(first), at(last))


@pytest.mark.parametrize(
    ("name", "counts"),
    [("W10", (5_229, 1_094, 587)), ("W11", (6_740, 1_077, 613)), ("APT", (5_337, 831, 357)),
     ("Server2022", (583, 681, 115))],
)  # fmt: skip
def test_logs_that_are_complete(name: str, counts: tuple[int, ...], scanned: Callable[[str], Scanned]) -> None:
    """The three logs that are always written to begin with record 1 and have no gap; nothing was cleared."""
    told = scanned(name).told("cleared")
    for log, count in zip(("Security", "System", "Application"), counts, strict=True):
        sentence = f"{log} has records 1 to {count:,}, without a gap."
        assert told[sentence] == ("shown", [f"{log}#1", f"{log}#{count}"])
    assert told["No record tells of a log that was cleared (events 1102 and 104)."][0] == "shown"


@pytest.mark.parametrize(
    ("name", "question", "sentence", "refs"),
    [
        ("W10", "machine", "The machine was called DESKTOP-GNCCVRK. Before: WIN-28GFHAGEV4P.",
         ["System#1", "System#113"]),
        ("W10", "machine", "Windows 10 Pro, build 19043.", ["System#1074"]),
        ("W10", "machine", "Time zone: Eastern Standard Time. Before: Pacific Standard Time.",
         ["System#1074", "System#1089"]),
        ("W10", "logon", "Tue 8 Feb 2022, 15:44:05 EST (20:44:05 UTC): DESKTOP-GNCCVRK\\AndrewRathbun logged on at the "
         "console.", ["Security#4681", "Security#4682"]),
        ("W10", "logon", "Sat 5 Feb 2022, 11:31:33 PST (19:31:33 UTC): DESKTOP-GNCCVRK\\AndrewRathbun logged on at the "
         "console.", ["Security#1149", "Security#1150"]),
        ("W10", "power", "Sat 5 Feb 2022, 14:18:36 PST (22:18:36 UTC): the machine started.", ["System#113"]),
        ("W10", "clock", "The clock was set back by 3 h 0 min, to Sat 5 Feb 2022, 11:18:52 PST (19:18:52 UTC), by "
         "svchost.exe as LOCAL SERVICE.", ["System#165", "Security#351"]),
        ("W10", "taking", "The logs were not taken before Sat 12 Feb 2022, 23:17:55 EST (13 Feb 04:17:55 UTC), "
         "the last "
         "record.", ["PushNotification-Platform/Operational#1151"]),
        ("W10", "account", "Sat 5 Feb 2022, 11:31:19 PST (19:31:19 UTC): the account AndrewRathbun was made by "
         "WORKGROUP\\DESKTOP-GNCCVRK$ (the machine itself).", ["Security#1097"]),
        ("W11", "machine", "The machine was called GoldPaperW11. Before: WIN-9L34AK87ND7, DESKTOP-N1AH9MT.",
         ["System#1", "System#116", "System#311"]),
        ("W11", "machine", "Windows 11 Pro, build 22000 (the record says Windows 10 Pro).", ["System#987"]),
        ("W11", "logon", "Tue 8 Feb 2022, 15:43:51 EST (20:43:51 UTC): GoldPaperW11\\AndrewRathbun logged on at the "
         "console.", ["Security#5784", "Security#5785"]),
        ("W11", "taking",
         "The logs were not taken before Tue 8 Feb 2022, 16:18:44 EST (21:18:44 UTC), the last record.",
         ["Application#613"]),
        ("APT", "machine", "The machine was called DESKTOP-TMKU40H. Before: WIN-C89CFTIHC0I.",
         ["System#1", "System#113"]),
        ("APT", "logon", "Thu 10 Mar 2022, 11:35:19 EST (16:35:19 UTC): DESKTOP-TMKU40H\\TestUser logged on at the "
         "console.", ["Security#632", "Security#633"]),
        ("APT", "program", "Thu 10 Mar 2022, 16:40:47 EST (21:40:47 UTC): "
         "C:\\Users\\TestUser\\Desktop\\gkape.exe 1.2.0.0, "
         "a collection program, by its name.", ["Sysmon/Operational#1392"]),
        ("APT", "program", "Thu 10 Mar 2022, 16:40:49 EST (21:40:49 UTC): "
         "C:\\Users\\TestUser\\Desktop\\gkape.exe 1.2.0.0, "
         "a collection program, by its name.", ["Sysmon/Operational#1396"]),
        ("APT", "taking",
         "The logs were not taken before Thu 10 Mar 2022, 16:42:44 EST (21:42:44 UTC), the last record.",
         ["Sysmon/Operational#1402"]),
        ("APT", "account", "Thu 10 Mar 2022, 15:26:03 EST (20:26:03 UTC): the account Guest was made a member of "
         "Administrators by DESKTOP-TMKU40H\\TestUser.", ["Security#901"]),
        ("Server2022", "machine", "The machine was called WIN-FUDU2CKJOE8.", ["System#1"]),
        ("Server2022", "machine", "Windows Server 2022 Standard, build 20348.", ["System#438"]),
        ("Server2022", "logon", "Tue 17 Oct 2023, 22:46:28 EDT (18 Oct 02:46:28 UTC): WIN-FUDU2CKJOE8\\Test "
         "logged on at "
         "the console.", ["Security#468", "Security#469"]),
        ("Server2022", "power", "Tue 17 Oct 2023, 22:44:26 UTC-07:00 (18 Oct 05:44:26 UTC): the machine started.",
         ["System#196"]),
        ("Server2022", "clock", "The clock was set back by 3 h 0 min, to Tue 17 Oct 2023, 22:44:40 EDT (18 Oct "
         "02:44:40 "
         "UTC), by rundll32.exe as SYSTEM.", ["System#235", "Security#152"]),
        ("Server2022", "taking", "The logs were not taken before Tue 17 Oct 2023, 23:07:10 EDT (18 Oct 03:07:10 "
         "UTC), the "
         "last record.", ["Sysmon/Operational#850"]),
    ],
)  # fmt: skip
def test_what_the_report_shows(
    name: str, question: str, sentence: str, refs: list[str], scanned: Callable[[str], Scanned]
) -> None:
    """The facts of each set are in its report, as shown, with their records."""
    assert scanned(name).told(question).get(sentence) == ("shown", refs)


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_recorded(name: str, scanned: Callable[[str], Scanned]) -> None:
    """No disk on USB is recorded and no program from one, with the reason for each log; no attempt is told."""
    told = scanned(name).told()
    assert told["No USB disk is recorded."][0] == "shown"
    attempts = [text for text in told if "failed" in text and "other failed attempt" not in text]
    assert not [*attempts, *(text for text in told if "by Remote Desktop from" in text)]
    letters = {text.partition("): ")[2][:2] for text in scanned(name).told("program") if "): " in text}
    assert letters <= {"C:"}
    if name == "APT":
        return
    none = next(one for one in scanned(name).report.findings if one.id == "program.none")
    assert none.status == "not recorded"
    logs = ("Security has event 4688 of Windows' own start only", "Sysmon/Operational", "Program-Telemetry")
    assert all(log in none.reason for log in logs)


@pytest.mark.parametrize("name", SETS)
def test_all_starts_of_programs_are_from_the_drive_of_windows(name: str, scanned: Callable[[str], Scanned]) -> None:
    """Event 4688 names no drive other than C:, and event 1006 no disk on USB."""
    where = "(event_id = 4688 AND channel = 'Security') OR event_id = 1006"
    rows = [row for batch in tables.events(scanned(name).database, where, ["data"]) for row in batch.to_pylist()]
    assert rows
    assert not [row for row in rows if '"BusType":7,' in row["data"] or '"NewProcessName":"D:' in row["data"]]


def test_a_password_that_a_browser_checked(scanned: Callable[[str], Scanned]) -> None:
    """The only failed logon of the set is by a browser, and no attempt at the console."""
    rows = [*tables.events(scanned("W11").database, "event_id = 4625 AND channel = 'Security'", ["record_id"])]
    assert [row["record_id"] for batch in rows for row in batch.to_pylist()] == [1203]
    told = [finding.text for finding in scanned("W11").report.findings if "Security#1203" in finding.refs]
    when = "Sat 5 Feb 2022, 14:01:14 EST (19:01:14 UTC)"
    assert told == [f"1 other failed attempt by msedgewebview2.exe as GoldPaperW11\\AndrewRathbun, {when}."]


@pytest.mark.parametrize("name", SETS)
def test_every_record_of_a_report_is_found(name: str, scanned: Callable[[str], Scanned]) -> None:
    """Each record that a report names is exactly one, and one of each log is shown by its name."""
    database = scanned(name).database
    refs = {ref for finding in scanned(name).report.findings for ref in finding.refs}
    ids = ", ".join({re.findall(r"#(\d+)", ref)[0] for ref in refs})
    rows = [row for batch in tables.events(database, f"record_id IN ({ids})") for row in batch.to_pylist()]
    names = Counter(map(References(tables.units(database)).name, rows))
    assert {names[ref] for ref in refs} == {1}
    for ref in {ref.partition("#")[0]: ref for ref in refs}.values():
        assert len(named(database, ref)) == 1


@pytest.mark.parametrize(
    ("name", "where", "ids"),
    [
        ("W10", "event_id = 4720", [43, 206, 1097]),
        ("W10", "event_id = 4726", [1363]),
        ("W10", 'event_id = 1006 AND data LIKE \'%"Capacity":64424509440,"BusType":17,%\'', [1, 2, 3, 4]),
        ("W10", "event_id = 6013 AND data LIKE '%480 Pacific%'", [117, 210]),
        ("W10", "event_id = 24 AND data LIKE '%\"CurrentBias\":300,%' AND record_id <= 280", [280]),
        ("W11", "event_id = 1006 AND channel LIKE '%Partition%'", [1, 3, 5, 7, 9]),
        ("W11", "event_id = 1007 AND channel LIKE '%Partition%'", [2, 4, 6, 8, 10]),
        ("Server2022", "event_id = 6013 AND data LIKE '%300 Eastern%'", [187, 438]),
    ],
)
def test_records_by_a_condition(name: str, where: str, ids: list[int], scanned: Callable[[str], Scanned]) -> None:
    """The records that the facts of the sets rest on are found by what is in them."""
    rows = [row for batch in tables.events(scanned(name).database, where, ["record_id"]) for row in batch.to_pylist()]
    assert sorted(row["record_id"] for row in rows) == ids


# Logs that are damaged or odd

SPECIMENS = {
    "omerbenamram_sysmon": 358,
    "omerbenamram_2-vss_0-Microsoft-Windows-RemoteDesktopServices-RdpCoreTS%4Operational": 1910,
    "omerbenamram_2-vss_7-System": 1160,
    "omerbenamram_sample_with_a_bad_chunk_magic": 270,
    "omerbenamram_sample-with-zero-data-size-event": 335,
    "omerbenamram_security_bad_string_cache": 2261,
    "omerbenamram_system": 1881,
    "omerbenamram_sample-with-irregular-bool-values": 3028,
    "omerbenamram_Application_no_crc32": 17,
    "omerbenamram_MSExchange_Management_wec": 1,
    "omerbenamram_issue_201": 1,
    "williballenthin_issue_38": 1,
    "williballenthin_issue_39": 394,
    "williballenthin_issue_43": 1730,
    "williballenthin_dns_log_malformed": 5,
    "williballenthin_security": 2261,
    "plaso_System2_truncated": 194,
}
"""The records that the best of other readers decodes of each."""


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of the specimens, each a machine of its own."""
    folder = tmp_path_factory.mktemp("specimens")
    for name in SPECIMENS:
        unpacked("specimens", f"{name}.evtx", folder / "given" / name / f"{name}.evtx")
    scan(folder / "given", str(folder / "db"))
    return str(folder / "db")


@pytest.mark.parametrize("name", SPECIMENS)
def test_damaged_logs(name: str, specimens: str) -> None:
    """At least as many records are decoded of each as other readers decode."""
    (unit,) = [unit for unit in tables.units(specimens) if unit["image"] == name]
    assert unit["records"] - unit["undecoded"] >= SPECIMENS[name]


def test_the_imaging_program_of_a_specimen(specimens: str) -> None:
    """The two starts of FTK Imager are told, with their times."""
    findings = {one.text: one.refs for one in made(specimens, "omerbenamram_sysmon").findings}
    path = "C:\\Program Files\\AccessData\\FTK Imager\\FTK Imager.exe, an imaging program, by its name."
    assert findings[f"Tue 6 Mar 2018, 08:13:38 UTC: {path}"] == ["omerbenamram_sysmon#1967"]
    assert findings[f"Tue 6 Mar 2018, 08:13:41 UTC: {path}"] == ["omerbenamram_sysmon#1977"]
    (name,) = [text for text in findings if text.startswith("The machine was called ")]
    assert name == "The machine was called DESKTOP-2KGM189."


def test_a_record_that_was_forwarded(specimens: str) -> None:
    """A forwarded record has the channel and the computer from where it came."""
    where = "image = 'omerbenamram_issue_201'"
    (row,) = [row for batch in tables.events(specimens, where, ["channel", "computer"]) for row in batch.to_pylist()]
    assert row == {"channel": "MSExchange Management", "computer": "WEC.ave.local"}


# The registry, and disk images


@pytest.fixture(scope="module")
def hives(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of the hives SYSTEM of five machines."""
    folder = tmp_path_factory.mktemp("hives")
    for name in ("SYSTEM", "SYSTEM_2", "SYSTEM_B", "SYSTEM_WIN_10_1709", "corrupted_system_hive"):
        config = folder / "given" / name / "Windows" / "System32" / "config"
        unpacked("registry", name, config / "SYSTEM")
    scan(folder / "given", str(folder / "db"))
    return str(folder / "db")


@pytest.mark.parametrize(
    ("machine", "facts"),
    [
        ("SYSTEM_WIN_10_1709", {
            "name": {"DESKTOP-2KGM189"}, "zone": {"Pacific Standard Time"}, "usb": {"200608767007B7C08A6A&0"},
        }),
        ("SYSTEM", {"name": {"WKS-WIN732BITA"}}),
        ("SYSTEM_2", {"name": {"SENSEI"}, "usb": set()}),
    ],
)  # fmt: skip
def test_what_hives_tell(machine: str, facts: dict[str, set[str]], hives: str) -> None:
    """The name, the time zone and the USB disks of real hives."""
    found = tables.facts(hives, machine)
    assert {kind: {fact["name"] for fact in found if fact["kind"] == kind} for kind in facts} == facts


def test_a_stick_that_a_hive_knows(hives: str) -> None:
    """The disk has its maker, its model and its serial number; the letters of the hive are there."""
    found = tables.facts(hives, "SYSTEM_WIN_10_1709")
    (disk,) = [fact["value"] for fact in found if fact["kind"] == "usb"]
    assert (disk["vendor"], disk["model"], disk["serial"]) == ("SanDisk", "Cruzer", "200608767007B7C08A6A")
    assert {"C:", "D:", "E:"} <= {fact["name"] for fact in found if fact["kind"] == "letter"}
    (zone,) = [fact["value"]["active_bias"] for fact in found if fact["kind"] == "zone"]
    assert zone == 420


def test_a_hive_that_is_broken(hives: str) -> None:
    """A corrupted hive fails no scan: its unit has a row, or a reason why it was not read."""
    rows = [unit["key"] for unit in tables.units(hives)]
    failed = [key for key, _ in tables.failures(hives)]
    assert [key for key in (*rows, *failed) if key.startswith("corrupted_system_hive/")]


@pytest.mark.parametrize(
    ("name", "digest"),
    [("image.E01", "d73c51f10c7ee6a681b7b619ccc6f1c4"), ("image-split.E01", "38ea5af8a80e16e46c095c9110242fc0")],
)
def test_images_that_are_whole(name: str, digest: str) -> None:
    """Real images, in one file and in two, have the digest that is stored with them."""
    done = command("evidence", "verify", Path(str(MATERIAL), "containers", name))
    assert (done.returncode, f"md5   {digest}  as stored" in done.stdout) == (0, True)


@pytest.mark.parametrize("name", ["dfvfs_ext2.qcow2", "dfvfs_ext2.vmdk"])
def test_disks_of_virtual_machines(name: str, tmp_path: Path) -> None:
    """The same disk in two forms has the same content."""
    done = command("evidence", "verify", unpacked("containers", name, tmp_path / name))
    assert (done.returncode, "md5   196066add11fb71c4c49cf1bb50d6d24" in done.stdout) == (0, True)
