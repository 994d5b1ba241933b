"""Scans: every record of every log once, whatever was given, killed or changed."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from scans import killed, records, rows, scan

import fanfold
import nursery
from commands import FANFOLD, on_terminal
from commands import fanfold as command
from disk_images import Segment
from event_logs import COUNTS, events, log_bytes, total, write_log, write_machine
from fanfold.evidence import Evidence
from fanfold.evidence.containers import Containers
from fanfold.evidence.extract import extract
from fanfold.evidence.names import machine_and_path
from fanfold.evidence.units import GROUP, parts_of
from faults import wait_for
from helpers import Here

LOGS = "C/Windows/System32/winevt/Logs"


def test_a_folder_of_logs(logs: Path, database: str) -> None:
    """Every record is in the table once, with its machine and its path; other files are listed as such."""
    listing, report = scan(logs.parent, database)
    assert (listing.ok, listing.failed, report.ok, report.failed) == (4, 0, 3, 0)
    found = records(database)
    assert (found.total(), set(found.values())) == (total(), {1})
    assert {image for image, _, _ in found} == {"host1"}
    assert {path for _, path, _ in found} == {f"C:/Windows/System32/winevt/Logs/{name}.evtx" for name in COUNTS}
    kinds = {row["key"].rpartition("/")[2]: row["kind"] for row in rows(database, "containers")}
    assert kinds == {"notes.txt": "other", **{f"{name}.evtx": "log" for name in COUNTS}}
    for unit in rows(database, "evidence"):
        name = unit["path"].rpartition("/")[2].removesuffix(".evtx")
        assert (unit["records"], unit["first_record_id"], unit["last_record_id"]) == (COUNTS[name], 1, COUNTS[name])
        assert (unit["undecoded"], unit["bad_chunks"], unit["problem"]) == (0, 0, None)


def test_again_there_is_nothing_to_do(logs: Path, database: str) -> None:
    """A second scan finds everything unchanged, and a log that has grown is read again as a whole."""
    scan(logs, database)
    listing, report = scan(logs, database)
    assert (listing.unchanged, listing.ok, report.unchanged, report.ok) == (4, 0, 3, 0)
    write_log(logs / LOGS / "Security.evtx", events(310))
    listing, report = scan(logs, database)
    assert (listing.ok, report.ok, report.unchanged) == (1, 1, 2)
    found = records(database)
    assert (found.total(), set(found.values())) == (total() + 10, {1})


def zipped(folder: Path, file: Path, below: str = "") -> Path:
    """An archive of a folder."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, below + path.relative_to(folder).as_posix())
    return file


def test_an_archive_has_the_same_records(logs: Path, tmp_path: Path, database: str) -> None:
    """Logs in a zip are read from it: the same records as from the folder, under the archive's name."""
    (tmp_path / "zips").mkdir()
    zipped(logs, tmp_path / "zips" / "kape.zip")
    scan(tmp_path / "zips", database)
    other = f"{database}-folder"
    scan(logs.parent / "host1", other)
    assert [(path, id) for _, path, id in sorted(records(database))] == [(p, id) for _, p, id in sorted(records(other))]
    assert {image for image, _, _ in records(database)} == {"kape.zip"}
    by_digest = [{row["digest"] for row in rows(where, "evidence_events")} for where in (database, other)]
    assert by_digest[0] == by_digest[1]


def test_an_archive_whose_end_is_damaged(logs: Path, tmp_path: Path, database: str) -> None:
    """What can be unpacked of a log is read, and the unit says why there is no more."""
    (tmp_path / "zips").mkdir()
    file = zipped(logs, tmp_path / "zips" / "kape.zip")
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(f"{LOGS}/Security.evtx")
    data = bytearray(file.read_bytes())
    start = member.header_offset + 200
    data[start + member.compress_size // 2 : start + member.compress_size // 2 + 50] = bytes(50)
    file.write_bytes(data)
    _, report = scan(tmp_path / "zips", database)
    assert (report.ok, report.failed) == (3, 0)
    problems = {row["path"].rpartition("/")[2]: row["problem"] for row in rows(database, "evidence")}
    assert str(problems.pop("Security.evtx")).startswith("The archive is damaged: ")
    assert set(problems.values()) == {None}
    sound = records(database, "path", where="chunk_ok")  # behind the damage, anything may be unpacked
    assert sound[f"C:/{LOGS[2:]}/Security.evtx",] > 0
    assert set(records(database, where="chunk_ok").values()) == {1}


def reasons(folder: Path, database: str) -> dict[str, str]:
    """Why the files of a folder cannot be read."""
    files = [*folder.iterdir()]
    listing, report = scan(folder, database)
    assert (listing.failed, report.listed) == (len(files), 0)
    found = rows(database, "failures")
    assert {(failure["table"], failure["stage"]) for failure in found} == {("containers", "decode")}
    return {failure["key"]: failure["message"] for failure in found}


def aff4() -> bytes:
    """An AFF4 image, which is a zip archive."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("container.description", "aff4://6f1a2b3c")
        archive.writestr("information.turtle", "")
    return file.getvalue()


def encrypted() -> bytes:
    """The first file of an EnCase image with keys."""
    segment = Segment(1)
    segment.add("encryption keys", bytes(100))
    segment.add("done", b"", is_last=True)
    return bytes(segment.data)


UNREADABLE = [
    ("x.evtx", b"\x89PNG\r\n\x1a\n" + bytes(100), "This is not an event log: it begins with 89 50 4e 47"),
    ("x.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100), "This is a 7z archive. Unpack it, and scan the folder."),
    ("x.rar", b"Rar!\x1a\x07\0" + bytes(100), "This is a RAR archive."),
    ("x.7z.001", b"7z\xbc\xaf\x27\x1c" + bytes(2 << 20), "This is a 7z archive."),
    ("x.tar.gz", b"\x1f\x8b" + bytes(100), "This is a gzip file. Unpack it, and scan the folder."),
    ("x.tar.bz2", b"BZh91AY&SY" + bytes(100), "This is a bzip2 file."),
    ("x.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(100), "This is a Zstandard file."),
    (
        "x.Ex01",
        b"EVF2\x0d\x0a\x81\x00" + bytes(100),
        "This is an EnCase 7 image (Ex01). Save it as an E01",
    ),
    ("x.ad1", b"ADSEGMENTEDFILE" + bytes(100), "This is an AD1 image. Export its files with FTK Imager"),
    ("q.E01", b"ADCRYPT\0" + bytes(100), "This is an image that FTK Imager has encrypted. Decrypt it there"),
    ("x.Lx01", b"LEF2\x0d\x0a\x81\x00" + bytes(100), "This is a logical image (Lx01)."),
    ("x.aff", b"AFF10\r\n\0" + bytes(100), "This is an AFF image. Make a raw one of it with: affcat"),
    ("x.aff4", aff4(), "This is an AFF4 image. Save it as a raw image"),
    ("z.E01", encrypted(), "z.E01 is encrypted. Save it without a password in EnCase"),
    ("x.tar", bytes(257) + b"ustar\0" + bytes(100), "This is a tar archive."),
    ("old.evt", b"\x30\0\0\0LfLe" + bytes(100), "(.evt). Convert it with: wevtutil"),
    ("x.L01", b"LVF\x09\x0d\x0a\xff\x00" + bytes(100), "(L01). Export its files with EnCase"),
    ("x.E01", b"EVF\x09\x0d\x0a\xff\x00\x01\x01\x00" + bytes(100), "does not say how large the disk is"),
    ("w.E02", b"EVF\x09\x0d\x0a\xff\x00\x01\x02\x00" + bytes(100), "The first file of this image is missing"),
    ("x.vhdx", b"vhdxfile" + bytes(100), "x.vhdx is damaged, or of a kind that is not known"),
    ("x.zip", b"PK\x03\x04" + bytes(100), "(File is not a zip file): it is damaged, or something else. Copy it again"),
    ("y.zip", bytes(100), "(File is not a zip file): it is damaged, or something else. Copy it again"),
    ("y.E01", b"EVG\x09\x0d\x0a\xff\x00" + bytes(100), "a disk image by its name, but it does not begin like one"),
]
"""Files that hold no evidence that can be read: their name, their content, and what is advised."""


def test_what_cannot_be_read_says_what_to_do(tmp_path: Path, database: str) -> None:
    """A file that should hold evidence and cannot be read is a counted failure with advice."""
    (tmp_path / "given").mkdir()
    for name, content, _ in UNREADABLE:
        (tmp_path / "given" / name).write_bytes(content)
    found = reasons(tmp_path / "given", database)
    assert {name: found[name] for name, _, says in UNREADABLE if says not in found[name]} == {}


def test_an_archive_in_an_archive(tmp_path: Path, database: str) -> None:
    """Velociraptor keeps what it encrypts in an archive within one. That it was not looked into is a problem."""
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips" / "a.zip", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("data.zip", aff4())
        archive.writestr("disk.E01", b"EVF")
        archive.writestr("SecEvent.Evt", b"0\0\0\0LfLe")
        archive.writestr("x.evtx", b"\x89PNG\r\n\x1a\n" + bytes(100))
    scan(tmp_path / "zips", database)
    assert rows(database, "containers")[0]["problems"] == [
        "data.zip and 2 more archives, disks or old logs in it: not looked into. "
        "Unpack the archive, and scan the folder."
    ]
    (failure,) = rows(database, "failures")
    assert failure["message"] == "This is not an event log: it begins with 89 50 4e 47 0d 0a 1a 0a."


def test_a_log_whose_name_is_not_utf_8(tmp_path: Path, database: str) -> None:
    """It is of the machine that its folder is named after, like the others there."""
    write_log(tmp_path / "host1" / "Security.evtx", events(5))
    (tmp_path / "host1" / "Security.evtx").rename(tmp_path / "host1" / os.fsdecode(b"\xff.evtx"))
    scan(tmp_path / "host1", database)
    assert records(database, "image", "path") == {("host1", "\\xFF.evtx"): 5}


def test_an_archive_of_two_machines(tmp_path: Path, database: str) -> None:
    """Machines in one archive stay apart; of two members with one name, both are read."""
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips" / "a.zip", "w") as archive:
        archive.writestr("h1/C/Windows/Security.evtx", log_bytes(events(10)))
        archive.writestr("h2\\C\\Windows\\Security.evtx", log_bytes(events(20)))
        archive.writestr("same.evtx", log_bytes(events(5)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("same.evtx", log_bytes(events(7)))
    scan(tmp_path / "zips", database)
    assert records(database, "image", "path") == {
        ("a.zip/h1", "C:/Windows/Security.evtx"): 10,
        ("a.zip/h2", "C:/Windows/Security.evtx"): 20,
        ("a.zip", "same.evtx"): 12,
    }
    list(extract(database, tmp_path / "out", []))
    assert len([*(tmp_path / "out").rglob("*.evtx")]) == 4


def test_logs_that_are_called_like_segments(tmp_path: Path, database: str) -> None:
    """Logs called .001 and .002 are two logs, not an image."""
    for number, count in ((1, 10), (2, 20)):
        write_log(tmp_path / "given" / f"backup.{number:03}", events(count))
    scan(tmp_path / "given", database)
    assert records(database, "path") == {("backup.001",): 10, ("backup.002",): 20}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a/x.evtx", "b"], "The folder b has files in it, and is not a database. Was the database forgotten?"),
        (["a/x.evtx", "a/x.evtx/db"], "would be inside the evidence"),
    ],
)
def test_a_database_that_is_something_else(words: list[str], says: str, tmp_path: Path) -> None:
    """A forgotten database is noticed before anything is written into a folder of evidence."""
    for folder in ("a", "b"):
        write_log(tmp_path / folder / "x.evtx", events(3))
    done = command("evidence", "scan", *words, cwd=tmp_path)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["x.evtx"]


def test_evidence_from_another_folder(tmp_path: Path) -> None:
    """A second folder that is not inside the first one needs a database of its own, or one command for both."""
    for folder in ("a", "b"):
        write_log(tmp_path / folder / "x.evtx", events(3))
    assert command("evidence", "scan", "a", "db", cwd=tmp_path).returncode == 0
    done = command("evidence", "scan", "b", "db", cwd=tmp_path)
    assert (done.returncode, "Scan all in one command (fanfold evidence scan SOURCE SOURCE db)" in done.stderr) == (
        2,
        True,
    )


def test_an_archive_with_a_password(tmp_path: Path, database: str) -> None:
    """Its name and what to do are said."""
    (tmp_path / "given").mkdir()
    file = tmp_path / "given" / "x.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Security.evtx", log_bytes(events(3)))
    data = bytearray(file.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    assert "Security.evtx is encrypted. Unpack the archive" in reasons(tmp_path / "given", database)["x.zip"]


def test_space_set_aside_for_a_log_is_empty(tmp_path: Path, database: str) -> None:
    """A log of zeros, and one with a header alone, are units without a record; no failure."""
    for name, content in (("zeros.evtx", bytes(69632)), ("header.evtx", log_bytes([]))):
        (tmp_path / "given").mkdir(exist_ok=True)
        (tmp_path / "given" / name).write_bytes(content)
    listing, report = scan(tmp_path / "given", database)
    assert (listing.ok, report.ok, report.failed) == (2, 2, 0)
    assert [row["records"] for row in rows(database, "evidence")] == [0, 0]


def test_a_large_log_has_several_units(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of a few chunks have the same records as one of all, none twice."""
    write_log(tmp_path / "given" / "Security.evtx", events(300))
    monkeypatch.setattr("fanfold.evidence.units.GROUP", 2)
    scan(tmp_path / "given", database)
    keys = sorted(row["key"] for row in rows(database, "evidence"))
    assert keys == [f"Security.evtx#{part}" for part in ("0-1", "2-3", "4-5", "6-6")]
    assert records(database) == Counter({("given", "Security.evtx", number): 1 for number in range(1, 301)})
    done = command("evidence", "coverage", database, "--json")
    (log,) = map(json.loads, done.stdout.splitlines())
    assert (log["records"], log["chunks"], log["gaps"], log["header_stale"]) == (300, 7, [], False)


def test_a_log_that_has_wrapped_has_no_gap(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full log starts again at its beginning: the ids that one unit lacks are in another."""
    write_log(tmp_path / "given" / "Security.evtx", [*events(120, first=201), *events(200, first=1)])
    monkeypatch.setattr("fanfold.evidence.units.GROUP", 2)
    scan(tmp_path / "given", database)
    (log,) = map(json.loads, command("evidence", "coverage", database, "--json").stdout.splitlines())
    assert (log["gaps"], log["first_record_id"], log["last_record_id"]) == ([], 1, 320)


def test_no_damage_of_an_archive_is_too_much(tmp_path: Path, database: str) -> None:
    """Whatever is changed in an archive ends in a failure or in fewer records, never in a task that fails."""
    for part in ("one", "two"):
        write_log(tmp_path / "logs" / f"{part}.evtx", events(60))
    (tmp_path / "zips").mkdir()
    whole = zipped(tmp_path / "logs", tmp_path / "whole.zip").read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for seed in range(30):
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            place = rng.randrange(directory, len(data)) if seed % 2 else rng.randrange(len(data))
            data[place] = rng.randrange(256)
        if seed % 7 == 0:
            del data[rng.randrange(len(data)) :]
        (tmp_path / "zips" / f"{seed}.zip").write_bytes(data or b"PK")
    listing, read = scan(tmp_path / "zips", database)
    assert listing.listed == 30
    for report in (listing, read):
        assert (report.lost, report.listed) == (0, report.ok + report.failed)
        assert report.ok
    assert set(records(database, where="chunk_ok").values()) == {1}


def test_an_export_of_nothing_has_its_columns(case: str, tmp_path: Path) -> None:
    """A condition that no record meets gives a CSV and a Parquet file with columns and no rows."""
    import pyarrow.parquet as pq

    asked = ["evidence", "events", case, "--where", "event_id = 1", "--columns", "record_id", "--format"]
    assert command(*asked, "csv").stdout.splitlines() == ['"record_id"']
    assert command(*asked, "parquet", "--out", tmp_path / "none.parquet").returncode == 0
    assert pq.read_table(tmp_path / "none.parquet").schema.names == ["record_id"]


def test_parts_of_a_log_cover_it() -> None:
    """Each byte after the header belongs to one part."""
    for size in (1, 4096, 69632, 4096 + 65536 * GROUP, 4096 + 65536 * GROUP + 1, 10**9):
        parts = list(parts_of("x", size))
        assert (parts[0][1], parts[-1][2]) == (0, size)
        assert all(one[2] == two[1] for one, two in itertools.pairwise(parts))


def test_a_changed_file_is_not_read_as_if_it_were_the_same(logs: Path, database: str) -> None:
    """A log that changes between listing and reading fails as changed, and the next scan reads it."""
    run = fanfold.run(Containers(), source=str(logs), database=database, executor=Here())
    list(run)
    write_log(logs / LOGS / "System.evtx", events(150, "System"))
    again = fanfold.run(Evidence(), source=database, database=database, executor=Here())
    list(again)
    assert (again.report.ok, again.report.failed) == (2, 1)
    _, report = scan(logs, database)
    assert (report.ok, report.unchanged, report.failed) == (1, 2, 0)
    assert records(database).total() == total() + 30


def test_nothing_could_be_read(tmp_path: Path, database: str) -> None:
    """A report and a timeline give the reason, and not the advice to scan; the coverage says that there is nothing."""
    log = write_log(tmp_path / "host1" / "Security.evtx", events(3))
    list(fanfold.run(Containers(), source=str(log.parent), database=database, executor=Here()))
    write_log(log, events(4))
    list(fanfold.run(Evidence(), source=database, database=database, executor=Here()))
    for verb in ("report", "timeline"):
        done = command("evidence", verb, database)
        assert (done.returncode, "Security.evtx#0-0: changed since it was listed" in done.stderr) == (2, True)
    done = command("evidence", "coverage", database)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No log was read.\n")


@pytest.mark.parametrize("seed", range(3))
def test_a_scan_that_is_killed_goes_on(seed: int, logs: Path, tmp_path: Path, database: str) -> None:
    """Whenever a scan is killed, the next one leaves each record of each log once."""
    for number in range(8):
        shutil.copytree(logs, tmp_path / "shelf" / f"host{number}")
    asked = [*FANFOLD, "evidence", "scan", str(tmp_path / "shelf"), database, "--task-size", "4"]
    killed(asked, database, ["containers.lance", "evidence.lance", "_runs/*/receipts/*"][seed])
    done = nursery.run([*asked, "--json"])
    assert done.returncode == 0, done.stderr
    found = records(database)
    assert (found.total(), set(found.values())) == (8 * total(), {1})
    assert len(rows(database, "evidence")) == 24


def test_only_some_logs(logs: Path, tmp_path: Path) -> None:
    """Logs are chosen by their names or channels, whatever the case; the next scan reads the rest."""
    database = str(tmp_path / "db")
    asked = ["evidence", "scan", logs, database]
    done = command(*asked, "--only", "SECURITY", "--only", "kernel-pnp/device configuration")
    assert done.returncode == 0, done.stderr
    assert "No log is called" not in done.stderr
    assert "No log is called Nosuch or Secur." in command(*asked, "--only", "Nosuch", "--only", "Secur").stderr
    name = "Microsoft-Windows-Kernel-PnP%4Device Configuration"
    assert records(database).total() == COUNTS["Security"] + COUNTS[name]
    done = command(*asked, "--json")
    assert done.returncode == 0
    *_, machine = map(json.loads, done.stdout.splitlines())
    assert machine == {"image": "host1", "records": total(), "logs": 3}
    found = records(database)
    assert (found.total(), set(found.values())) == (total(), {1})


def test_folders_that_are_called_like_stages(logs: Path, tmp_path: Path) -> None:
    """A folder called `live` or `carved`, where the command is given, is not taken for evidence."""
    for name in ("live", "deleted", "carved", "verify"):
        (tmp_path / name).mkdir()
    done = command("evidence", "scan", logs, "db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert records(str(tmp_path / "db")).total() == total()


def test_a_folder_that_cannot_be_opened(logs: Path, tmp_path: Path) -> None:
    """A scan of a folder with another that is closed says that something was not read, and ends with 3."""
    (logs / "closed").mkdir(mode=0)
    powers = "-dac_override,-dac_read_search"  # without them, root is bound by permissions as well
    words = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", *FANFOLD, "evidence", "scan"]
    done = subprocess.run(
        [*words, str(logs), str(tmp_path / "db")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "Left out: 1 unreadable folder." in done.stderr
    assert "Folders or files could not be opened (1), and what is in them was not read." in done.stderr
    assert records(str(tmp_path / "db")).total() == total()


def test_a_mounted_volume_with_a_log_that_compactos_has_packed(logs: Path, tmp_path: Path) -> None:
    """NTFS-3G shows such a file as a link to a text. That it was not read is said, and the exit code is 3."""
    (logs / "Packed.evtx").symlink_to("unsupported reparse tag 0x80000017")
    done = command("evidence", "scan", logs, tmp_path / "db")
    assert done.returncode == 3
    assert "Left out: 1 unsupported reparse tag." in done.stderr
    assert "Files that CompactOS or its like keeps elsewhere were not read (1)" in done.stderr


def test_a_database_among_the_evidence_is_refused(logs: Path) -> None:
    """Nothing is ever written where evidence lies."""
    done = command("evidence", "scan", logs, logs / "db")
    assert done.returncode == 2
    assert "would be inside the evidence" in done.stderr
    assert not (logs / "db").exists()


@pytest.mark.parametrize(
    ("key", "image", "path"),
    [
        ("host1/C/Windows/System32/winevt/Logs/System.evtx", "host1", "C:/Windows/System32/winevt/Logs/System.evtx"),
        ("C/Windows/x.evtx", "root", "C:/Windows/x.evtx"),
        ("System.evtx", "root", "System.evtx"),
        ("server/System.evtx", "server", "System.evtx"),
        ("a/b/Logs/x%4Admin.evtx", "a/b", "Logs/x%4Admin.evtx"),
        ("h/uploads/auto/C%3A/Windows/a%254Admin.evtx", "h", "C:/Windows/a%4Admin.evtx"),
        ("uploads/ntfs/%5C%5C.%5CC%3A/x.evtx", "root", "C:/x.evtx"),
        ("uploads/x.evtx", "root", "x.evtx"),
    ],
)
def test_machines_and_paths(key: str, image: str, path: str) -> None:
    """Triage tools keep a machine's paths in their own ways; names of channels with % stay as they are."""
    assert machine_and_path(key, "root") == (image, path)


# The verbs


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of the three logs, to be read."""
    folder = tmp_path_factory.mktemp("case")
    write_machine(folder / "given" / "host1")
    scan(folder / "given", str(folder / "db"))
    return str(folder / "db")


def test_events_by_a_condition(case: str) -> None:
    """A condition in SQL selects records; jsonl has their data as an object."""
    done = command(
        "evidence", "events", case, "--where", "event_id = 4625 AND channel = 'Security'", "--format", "jsonl",
        "--limit", 10**20,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(row["record_id"] for row in found) == [*range(10, 301, 10)]
    assert found[0]["data"]["TargetUserName"] == "emsadmin"
    done = command("evidence", "events", case, "--limit", "2", "--columns", "record_id", "--columns", "channel")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)


def test_events_for_a_spreadsheet(tmp_path: Path, database: str) -> None:
    """A text that a spreadsheet would compute, or a terminal obey, is harmless in CSV."""
    some = [events(1)[0].__class__(1, 1, events(1)[0].time, computer="=HYPERLINK(1)", provider="a\x1b[2Jb")]
    write_log(tmp_path / "given" / "x.evtx", some)
    scan(tmp_path / "given", database)
    done = command("evidence", "events", database, "--format", "csv", "--columns", "computer", "--columns", "provider")
    assert done.stdout.splitlines() == ['"computer","provider"', '"\'=HYPERLINK(1)","a\\x1b[2Jb"']


def test_events_as_parquet(case: str, tmp_path: Path) -> None:
    """A file that other tools read."""
    import pyarrow.parquet as pq

    file = tmp_path / "events.parquet"
    assert command("evidence", "events", case, "--format", "parquet", "--out", file).returncode == 0
    assert pq.read_table(file).num_rows == total()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["events", "CASE", "--where", "nonsense ="], "--where does not accept 'nonsense ='"),
        (["events", "CASE", "--where", "absent = 1"], "--where does not accept"),
        (["events", "CASE", "--where", "foo(1)"], "? Write times as: timestamp '2021-05-23 22:00:00', and texts in"),
        (["events", "CASE", "--where", "data = '?' AND event_id = ?"], ": a ? is only allowed in a text. Write times"),
        (["events", "CASE", "--columns", "absent"], "'absent' is not a column. The columns are: key, version"),
        (["events", "CASE", "--limit", "0"], "--limit takes a whole number of at least 1, not 0."),
        (["events", "CASE", "--format", "parquet"], "--format parquet needs a file to write"),
        (["events", "nowhere"], "There is no database nowhere. To make one: fanfold evidence scan SOURCE... nowhere"),
        (["coverage", "nowhere"], "There is no database nowhere."),
        (["extract", "nowhere", "--to", "x"], "There is no database nowhere."),
        (["extract", __file__, "--to", "x"], " is a file, not a database. First: fanfold evidence scan "),
        (["show", "CASE", "Security.evtx"], "'Security.evtx' does not name a record."),
        (["show", "CASE", "Security.evtx#100000"], "No log called Security.evtx has a record 100000."),
        (["show", "CASE", "Security.evtx#1@1"], "No log called Security.evtx has a record 1 at the offset 1."),
        (["show", "CASE", "Nothing.evtx#7"], "These logs have one: host1/C:/Windows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_said_in_a_sentence(words: list[str], says: str, case: str) -> None:
    """A wrong condition, column, record or database exits with 2 and says what to do."""
    done = command("evidence", *(case if word == "CASE" else word for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_one_record(case: str) -> None:
    """A record is shown by the name of its log and its id, with where it lies."""
    done = command("evidence", "show", case, "Security.evtx#42")
    assert done.returncode == 0
    assert "record_id: 42" in done.stdout
    assert '"Number": "42"' in done.stdout
    assert command("evidence", "show", case, "security#42", "--json").stdout.count("\n") == 1


def test_coverage_says_what_is_missing(tmp_path: Path, database: str) -> None:
    """Gaps, wrong checksums and a log that was in use are remarks; logs without a record are counted."""
    data = bytearray(log_bytes([*events(5), *events(5, first=10)], dirty=True))
    data[4096 + 600] ^= 1
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "Security.evtx").write_bytes(data)
    write_log(tmp_path / "given" / "Empty.evtx", [])
    scan(tmp_path / "given", database)
    done = command("evidence", "coverage", database)
    text = " ".join(done.stdout.split())
    for remark in ("no records between 5 and 10", "1 of 1 chunks with a wrong checksum", "was in use"):
        assert remark in text
    assert "1 more log has no record." in done.stderr


def test_coverage_on_a_narrow_terminal(tmp_path: Path, database: str) -> None:
    """Where a table has no room, each log has a few lines; no line is too long, and no word is cut in two."""
    name = "Microsoft-Windows-Kernel-PnP%4Device Configuration.evtx"
    log = log_bytes([*events(5), *events(5, first=10)], dirty=True)
    for machine in ("host1", "host2"):
        (tmp_path / "given" / machine / "C" / "Windows").mkdir(parents=True)
        (tmp_path / "given" / machine / "C" / "Windows" / name).write_bytes(log)
    scan(tmp_path / "given", database)
    _, lines = on_terminal(80, "evidence", "coverage", database)
    assert [line.rstrip() for line in lines[:5]] == [
        "host1/Kernel-PnP/Device Configuration",
        "    10 records, ids 1..14",
        "    2021-05-23 22:24:17 .. 2021-05-23 22:24:30",
        "    no records between 5 and 10",
        "    was in use when it was copied",
    ]
    assert max(map(len, lines)) <= 80
    _, lines = on_terminal(200, "evidence", "coverage", database)
    assert (lines[0][:4], len(lines)) == ("log ", 3)


def test_a_plan_leaves_nothing_behind(logs: Path, database: str) -> None:
    """`plan evidence` counts units, measures a sample, and makes no database."""
    done = command("plan", "evidence", logs, database, "--workers", "1", "--json")
    assert (done.returncode, json.loads(done.stdout)["new"]) == (0, 3), done.stderr
    assert not Path(database).exists()


def test_ctrl_c_ends_a_scan(logs: Path, tmp_path: Path, database: str) -> None:
    """A scan that is interrupted says so, and goes on when it is repeated."""
    for number in range(5):
        shutil.copytree(logs, tmp_path / "shelf" / f"host{number}")
    asked = [*FANFOLD, "evidence", "scan", str(tmp_path / "shelf"), database, "--task-size", "2"]
    driver = nursery.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: driver.poll() is not None or list(Path(database).glob("_runs/*/receipts/*")))
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=300)
    assert driver.returncode in (130, 0)
    assert "Traceback" not in err
    assert nursery.run(asked).returncode == 0
    assert records(database).total() == 5 * total()


def test_values_are_packed_together(tmp_path: Path, database: str) -> None:
    """The data of records, in which the same names come again and again, takes a fraction of its length."""
    write_log(tmp_path / "logs" / "Security.evtx", events(3000))
    scan(tmp_path / "logs", database)
    data = fanfold.open_table(database, "evidence_events").to_table(["data"])["data"]
    size = sum(file.stat().st_size for file in (Path(database) / "evidence_events.lance" / "data").iterdir())
    assert size < data.nbytes  # of all columns
