"""Reports: what the records of a machine show, each sentence with its records, and what they cannot show."""

import csv
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import lance
import mesa
import pytest
from made_up import case, log, logon, record, texts
from scans import STAGES, scan

import fanfold
from commands import fanfold as command
from event_logs import Event, write_log
from fanfold.evidence import Evidence
from fanfold.evidence.containers import Containers
from fanfold.evidence.given import Files
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.clock import Clock
from fanfold.evidence.report.exports import l2tcsv
from fanfold.evidence.report.findings import more, seconds
from fanfold.evidence.report.html import page
from fanfold.evidence.report.load import own
from fanfold.evidence.report.record import Record, flattened
from fanfold.evidence.report.report import Report, Section, answers, made
from fanfold.evidence.report.rules import (
    RULES,
    accounts,
    clearing,
    clock_changes,
    devices,
    logons,
    machine,
    neighbours,
    noteworthy,
    power,
    programs,
    remote,
    sources,
    taking,
)
from fanfold.evidence.report.text import lines, markdown
from fanfold.job import Item
from helpers import Here

GOLDEN = Path(__file__).parent / "mesa.txt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of the image of the invented server."""
    folder = tmp_path_factory.mktemp("mesa")
    scan(mesa.disk_image(folder), str(folder / "db"), *STAGES)
    return str(folder / "db")


@pytest.fixture(scope="module")
def report(server: str) -> Report:
    """The report on it."""
    return made(server, "mesa.E01")


def test_the_invented_server_word_for_word(report: Report) -> None:
    """The report on the invented server is the one in mesa.txt."""
    assert "\n".join(lines(report, 100)) + "\n" == GOLDEN.read_text()


@pytest.mark.parametrize(
    "sentence",
    [
        "Sun 23 May 2021, 16:24:16 MDT (22:24:16 UTC): EMSSERVER\\emsadmin logged on at the console.",
        "1 failed attempt 9 s before, wrong password.",
        'Sun 23 May 2021, 16:26:10 MDT (22:26:10 UTC): USB disk WD "easystore 264D", serial (SCSI) '
        "575837314433394C3446, serial (USB) WX71D39L4F, 5.00 TB (5,000,947,302,400 bytes).",
        "Its volume was F:",
        "Sun 23 May 2021, 16:27:02 MDT (22:27:02 UTC): F:\\FTK Imager\\FTK Imager.exe 4.2.0.13, an imaging program. "
        'F: was then the USB disk WD "easystore 264D".',
        "The image was not taken before Sun 23 May 2021, 16:29:49 MDT (22:29:49 UTC), the last record.",
        "The image says that it was made 2021-05-23 16:29:51, without a zone.",
        "From the first attempt to the last record: at least 5 min 42 s.",
        "The machine was a DNS server.",
        "Which files were copied to or from F:.",
        "Whether anybody broke in.",
    ],
)
def test_what_an_examiner_would_write(sentence: str, report: Report) -> None:
    """The sentences that an examiner of the invented server would write are there."""
    assert sentence in {finding.text for finding in report.findings}


def test_every_record_that_a_report_names_can_be_shown(server: str) -> None:
    """`evidence show` finds each record of a report by the name that it has there."""
    refs = {ref for finding in made(server, "mesa.E01").findings for ref in finding.refs}
    assert len(refs) > 15
    for ref in sorted(refs):
        done = command("evidence", "show", server, ref)
        assert (done.returncode, f"record_id: {ref.rpartition('#')[2]}" in done.stdout) == (0, True), ref


def test_no_sentence_without_grounds(server: str) -> None:
    """Each sentence has a status, and records or a reason; what cannot be shown is at the end."""
    report = made(server, "mesa.E01")
    for finding in report.findings:
        assert finding.refs or finding.files or finding.reason or finding.status == "cannot be shown", finding
    assert report.sections[-1].id == "limit"
    assert {finding.status for finding in report.sections[-1].findings} == {"cannot be shown"}


def test_each_question_has_its_logs(server: str) -> None:
    """Beside the answers is which logs were looked at, and which are not there."""
    assert {rule.id for rule in RULES[:-1]} == {*sources.LOGS}
    report = made(server, "mesa.E01")
    (usb,) = [section for section in report.to_json()["sections"] if section["id"] == "usb"]
    states = {log["log"]: (log["state"], log["records"]) for log in usb["coverage"]}
    assert states["Partition/Diagnostic"] == ("there", 2)
    assert states["Kernel-IO/Operational"] == ("not there", 0)
    assert usb["coverage"][0]["first_time"] == "2021-05-20T10:00:01+00:00"
    told = (
        "Looked at: Partition/Diagnostic, Kernel-PnP/Configuration, Ntfs/Operational, System. Not there: "
        "Kernel-IO/Operational, DriverFrameworks-UserMode/Operational."
    )
    assert told in " ".join(" ".join(lines(report)).split())
    assert told in page(report)
    assert told in "\n".join(markdown(report)).replace("\\", "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (case(logs=[log("Security")]), "Looked at: Security."),
        (case(logs=[log("Security", records=0)]), "Without records: Security."),
        (case(logs=[log("Security")], unread=["C:/Windows/Security.evtx"]), "Not read: Security."),
        (case(logs=[log("Security", origin="deleted")]), "Only recovered records of: Security."),
        (case(), "Not there: Security."),
    ],
)
def test_whether_a_log_is_there(given: Case, words: str) -> None:
    """A log that is empty, or was not read, is not told as one that is not there."""
    assert sources.in_words([*sources.sources(given, "account")]) == words


def test_questions_can_be_chosen(server: str) -> None:
    """Only the questions asked for are answered, and what cannot be shown."""
    done = command("evidence", "report", server, "--question", "usb", "--json")
    assert [section["id"] for section in json.loads(done.stdout)["sections"]] == ["usb", "limit"]
    done = command("evidence", "report", server, "--question", "nonsense")
    assert (done.returncode, "There is no question 'nonsense'. The questions are: account, " in done.stderr) == (
        2,
        True,
    )


ZONED = {"Asia/Kolkata": ("03:54:16", "2021-05-24T03:54:16", "IST"), "UTC": ("22:24:16", "2021-05-23T22:24:16", "UTC")}
"""What the last logon's time is in a zone: for people, for scripts, and the zone's short name."""


@pytest.mark.parametrize("zone", ZONED)
@pytest.mark.parametrize("form", ["text", "json", "html", "md", "jsonl", "csv"])
def test_every_form_has_the_zone_that_was_asked_for(form: str, zone: str, server: str, tmp_path: Path) -> None:
    """The zone asked for is used in each form of a report and of a timeline, with microseconds and its offset."""
    people, scripts, short = ZONED[zone]
    file = tmp_path / "out"
    if form in ("jsonl", "csv"):
        command("evidence", "timeline", server, "--zone", zone, "--format", form, "--out", file)
        (line,) = [line for line in file.read_text().splitlines() if "TargetLogonId=0x5f001" in line]
        assert f'"{scripts}.000000+{"05:30" if zone == "Asia/Kolkata" else "00:00"}"' in line
        assert "1621808656000000" in line
        return
    if form == "json":
        found = json.loads(command("evidence", "report", server, "--zone", zone, "--json").stdout)
        findings = [finding for section in found["sections"] for finding in section["findings"]]
        (last,) = [finding for finding in findings if finding["id"] == "logon.last_console"]
        assert (found["zone"], last["time_local"][:19]) == (zone, scripts)
        assert last["time_utc"] == "2021-05-23T22:24:16+00:00"
        content = last["text"]
    elif form == "text":
        content = command("evidence", "report", server, "--zone", zone).stdout
    else:
        command("evidence", "report", server, "--zone", zone, f"--{form}", file)
        content = file.read_text()
    assert f"{people} {short}" in content
    assert " MDT" not in content


def test_the_time_zone_can_be_chosen(server: str) -> None:
    """A zone by its IANA name or as Windows calls it; another one is a mistake."""
    for zone in ("Europe/Berlin", "W. Europe Standard Time"):
        done = command("evidence", "report", server, "--zone", zone)
        assert "Mon 24 May 2021, 00:24:16 CEST (23 May 22:24:16 UTC): EMSSERVER" in " ".join(done.stdout.split())
    done = command("evidence", "report", server, "--zone", "Mars/Olympus")
    assert (done.returncode, "'Mars/Olympus' is not a time zone." in done.stderr) == (2, True)


def test_machines_that_are_not_there(server: str, tmp_path: Path) -> None:
    """A machine that the database does not have, and a database without evidence, are mistakes."""
    done = command("evidence", "report", server, "other.E01")
    assert (done.returncode, "has no machine 'other.E01'. It has: mesa.E01." in done.stderr) == (2, True)
    done = command("evidence", "report", tmp_path / "nothing")
    assert (done.returncode, "There is no database" in done.stderr) == (2, True)
    (tmp_path / "file").write_text("x")
    done = command("evidence", "report", tmp_path / "file")
    assert (done.returncode, "is a file, not a database. First: fanfold evidence scan" in done.stderr) == (2, True)
    done = command("evidence", "report", server, "--html", tmp_path / "nowhere" / "a.html")
    assert (done.returncode, "There is no folder" in done.stderr) == (2, True)


class Page(HTMLParser):
    """What a page has."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str | None] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_needs_nothing_else(server: str, tmp_path: Path) -> None:
    """The page is one file: no script, no address of anything else, every element closed."""
    done = command("evidence", "report", server, "--html", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (0, "")
    content = (tmp_path / "report.html").read_text()
    page = Page(content)
    assert page.open == []
    assert {address[:1] for address in page.addresses if address} == {"#"}
    assert {f'id="{address[1:]}"' in content for address in page.addresses if address} == {True}
    assert not {"script", "link", "img", "iframe"} & {*page.tags}
    assert page.tags.count("svg") == 2
    assert "16:14:49 MDT</text>" in content  # the zone is beside the times of a timeline
    assert "url(" not in content
    assert "EMSSERVER\\emsadmin logged on at the console." in content


def test_the_timelines_and_the_records_of_a_page(tmp_path: Path, database: str) -> None:
    """The second timeline ends at the last record, though the clock had shown later times; ids are in order."""
    known = [(2, 12, "10:00:00"), (10, 1, "13:00:00"), (100, 7036, "13:05:00")]
    back = {"OldTime": "2021-05-23T18:00:00Z", "NewTime": "2021-05-23T13:00:00Z"}
    events = [
        Event(number, event_id, mesa.at(time), mesa.KERNEL, "System", "HOST", data=back if event_id == 1 else {})
        for number, event_id, time in known
    ]
    ahead = Event(9, 12, mesa.at("17:59:00"), mesa.KERNEL, "System", "HOST")
    write_log(tmp_path / "given" / "host1" / "System.evtx", sorted([*events, ahead], key=lambda one: one.record_id))
    scan(tmp_path / "given", database)
    content = page(made(database, "host1"))
    first, second = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    assert ("17:59:00 UTC</text>" in first, "17:59:00 UTC</text>" in second) == (True, False)
    assert "2021-05-23 12:50:00 UTC</text>" in second
    assert "2021-05-23 13:05:00 UTC</text>" in second
    ids = [int(found) for found in re.findall(r"<tr id=[^>]*><td>System#(\d+)</td>", content)]
    assert ids == sorted(ids) == [2, 9, 10, 100]


def hostile(folder: Path) -> str:
    """A machine whose disk has a name that is a program for a browser, a terminal and a spreadsheet."""
    name = '<script>alert(1)</script>\x1b[2J\u202e"&|*'
    data = {**mesa.DISK, "Model": name, "Manufacturer": "=cmd()"}
    event = Event(1, 1006, mesa.at("22:26:10"), "Microsoft-Windows-Partition", "Partition", "HOST", data=data)
    write_log(folder / "host1" / "Microsoft-Windows-Partition%4Diagnostic.evtx", [event])
    scan(folder, str(folder.parent / "db"))
    return str(folder.parent / "db")


def test_a_name_cannot_harm_the_reader(tmp_path: Path) -> None:
    """Names that an attacker has chosen are shown as they are, and do nothing: on a page, a terminal, in Markdown."""
    database = hostile(tmp_path / "given")
    for words in (["--html", tmp_path / "a.html"], ["--md", tmp_path / "a.md"], []):
        done = command("evidence", "report", database, *words)
        assert done.returncode == 0
    page = (tmp_path / "a.html").read_text()
    assert "script" not in Page(page).tags
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search("[\x00-\x08\x1b\u202e]", page + done.stdout)
    assert "\\x1b[2J" in done.stdout
    assert "<script>" not in (tmp_path / "a.md").read_text().replace("\\<", "")
    found = command("evidence", "timeline", database, "--format", "csv").stdout
    assert not re.search("[\x1b\u202e]", found)
    assert ',"=' not in found


def test_markdown(server: str) -> None:
    """Each section is a heading, and each sentence a point with its grounds."""
    found = [*markdown(made(server, "mesa.E01"))]
    assert found[0] == "# mesa.E01"
    assert [line[3:] for line in found if line.startswith("## ")] == [rule.title for rule in RULES]
    assert "- The machine was a DNS server. *shown \\[DNS Server\\#2, DNS Server\\#3\\]*" in found


@pytest.mark.parametrize("zone", ["", "UTC", "Asia/Kathmandu"])
def test_every_timeline_tells_the_same_times(zone: str, server: str, tmp_path: Path) -> None:
    """All forms have the same records, each at the same instant and in the same zone."""
    asked = ["--zone", zone] if zone else []
    found = {}
    for form in ("jsonl", "csv", "l2tcsv"):
        file = tmp_path / form
        command("evidence", "timeline", server, "--format", form, "--out", file, *asked)
        with file.open(newline="") as lines_of:
            found[form] = [json.loads(line) for line in lines_of] if form == "jsonl" else [*csv.DictReader(lines_of)]
    assert {form: len(rows) for form, rows in found.items()} == {"jsonl": 80, "csv": 80, "l2tcsv": 80}
    assert ",".join(found["l2tcsv"][0]) == (
        "date,time,timezone,MACB,source,sourcetype,type,user,host,short,desc,version,filename,inode,notes,format,extra"
    )
    for one, other, third in zip(*found.values(), strict=True):
        assert (one["datetime"], str(one["timestamp"])) == (other["datetime"], other["timestamp"])
        local = datetime.fromisoformat(one["datetime"])
        assert round(local.timestamp() * 1_000_000) == one["timestamp"]
        named = datetime.strptime(f"{third['date']} {third['time']}", "%m/%d/%Y %H:%M:%S")
        named = named.replace(tzinfo=ZoneInfo(third["timezone"]))
        assert (named, named.utcoffset()) == (local.replace(microsecond=0), local.utcoffset())
        assert f"datetime: {one['datetime']}; event_identifier: {one['event_identifier']};" in third["extra"]
        assert third["timezone"] == (zone or "America/Denver")
        assert (third["desc"], third["user"], third["inode"]) == (one["message"], one["user_sid"] or "-", "-")


@pytest.mark.parametrize(
    ("utc", "date", "time", "zone"),
    [
        ("2021-11-07T05:30:00", "11/06/2021", "23:30:00", "America/Denver"),
        ("2021-11-07T07:30:00", "11/07/2021", "01:30:00", "UTC-06:00"),
        ("2021-11-07T08:30:00", "11/07/2021", "01:30:00", "UTC-07:00"),
        ("2021-11-07T09:30:00", "11/07/2021", "02:30:00", "America/Denver"),
    ],
)
def test_an_hour_that_comes_twice_in_l2tcsv(utc: str, date: str, time: str, zone: str) -> None:
    """When summer time ends, an hour comes twice: the offset in the place of the zone's name tells which is meant."""
    names = ("channel", "event_id", "image", "path", "provider", "computer", "user_sid", "data", "error")
    row = dict.fromkeys(names) | {"time": datetime.fromisoformat(f"{utc}+00:00"), "record_id": 1, "origin": "carved"}
    (found,) = l2tcsv([row, row | {"time": None}], Clock.of([], "America/Denver"))
    assert (found["date"], found["time"], found["timezone"], found["notes"]) == (date, time, zone, "origin: carved")


def test_a_timeline_as_timesketch_takes_it(server: str) -> None:
    """Each record has the names that Timesketch and its analyzers know, its microseconds and its zone."""
    done = command("evidence", "timeline", server, "--where", "record_id = 51234")
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert row["datetime"] == "2021-05-23T16:24:16.000000-06:00"
    assert row["timestamp"] == 1621808656000000
    assert (row["data_type"], row["event_identifier"]) == ("windows:evtx:record", 4624)
    assert row["message"].startswith("Security-Auditing/4624 TargetUserSid=S-1-5-21-1-2-3-1104 TargetUserName=emsadmin")
    done = command("evidence", "timeline", server, "--format", "csv", "--zone", "UTC")
    assert done.stdout.splitlines()[0].startswith('"message","datetime","timestamp","timestamp_desc","data_type"')
    assert '"2021-05-23T22:24:16.000000+00:00"' in done.stdout
    assert len(done.stdout.splitlines()) == 81
    done = command("evidence", "timeline", server, "--where", "record_id = 7777777", "--format", "csv")
    assert done.stdout.startswith('"message","datetime","timestamp","timestamp_desc","data_type"')


def test_a_log_that_nobody_may_read_is_told(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of which not even the beginning can be read is told as such, too."""
    folder = tmp_path / "given" / "host1" / "Windows"
    for name in ("Security", "System"):
        write_log(folder / f"{name}.evtx", [Event(1, 1, mesa.at("12:00:00"), channel=name, computer="HOST")])
    read_at = Files.read_at

    def refusing(self: Files, item: Item, offset: int, length: int) -> bytes:
        if item.key.endswith("Security.evtx"):
            raise PermissionError(13, "Permission denied")
        return read_at(self, item, offset, length)

    monkeypatch.setattr(Files, "read_at", refusing)
    scan(tmp_path / "given", database)
    report = made(database, "host1")
    assert report.sources[1].startswith("NOT READ: Windows/Security.evtx: ")
    assert page(report).count('<p class="warning">') == 1
    assert '<p class="warning">NOT READ: Windows/Security.evtx: ' in page(report)
    (none,) = [finding for finding in report.findings if finding.id == "logon.none"]
    assert none.reason == "the log Security is there, but was not read"


def test_logs_that_were_not_read_are_told(tmp_path: Path, database: str) -> None:
    """A log that could not be read, or that a stopped scan did not come to, is not told as one that is not there."""
    folder = tmp_path / "given" / "host1" / "Windows"
    for name in ("Security", "System"):
        write_log(folder / f"{name}.evtx", [Event(1, 1, mesa.at("12:00:00"), channel=name, computer="HOST")])
    list(fanfold.run(Containers(), source=str(tmp_path / "given"), database=database, executor=Here()))
    write_log(folder / "Security.evtx", [Event(n, 1, mesa.at("12:00:00")) for n in (1, 2, 3)])
    list(fanfold.run(Evidence(), source=database, database=database, executor=Here()))
    report = made(database, "host1")
    assert report.sources[1].startswith("NOT READ: Windows/Security.evtx: changed since it was listed; run again")
    (none,) = [finding for finding in report.findings if finding.id == "logon.none"]
    assert none.reason == "the log Security is there, but was not read"
    table = lance.dataset(f"{database}/failures.lance")
    table.delete("true")
    assert made(database, "host1").sources[1].startswith("THE SCAN IS NOT FINISHED: 1 more of the machine's logs")


# Rules, on records made up


@pytest.mark.parametrize(
    "data",
    [
        {"LogonType": "3"},
        {"LogonProcessName": "Advapi  ", "ProcessName": "C:\\Program Files\\msedgewebview2.exe"},
        {"ProcessName": "C:\\Windows\\System32\\consent.exe"},
        {"TargetUserSid": "S-1-5-96-0-1", "TargetUserName": "UMFD-1"},
        {"TargetUserName": "defaultuser0"},
    ],
)
def test_what_is_no_logon_at_the_console(data: dict[str, str]) -> None:
    """The window manager, a browser that checks a password, and the set-up do not sit down."""
    assert logons.console_logons(case(logon(**data))) == []


def test_a_logon_has_two_tokens() -> None:
    """The two records of an administrator's logon are one logon; two logons a minute apart are two."""
    pair = logon(number=1, TargetLinkedLogonId="0x2"), logon(number=2, TargetLinkedLogonId="0x1")
    found = logons.console_logons(case(*pair, logon("12:01:00", 3)))
    assert [[one.record_id for one in some] for some in found] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("attempt", "counts"),
    [
        (logon("11:59:00", 5, 4625, SubStatus="0xc000006a"), True),
        (logon("11:59:00", 5, 4625, SubStatus="0xc000006a", TargetUserName="EMSADMIN@corp"), True),
        (logon("11:20:00", 5, 4625, SubStatus="0xc000006a"), False),
        (logon("11:59:00", 5, 4625, TargetUserName="other"), False),
        (logon("11:59:00", 5, 4625, LogonProcessName="Advapi", ProcessName="C:\\browser.exe"), False),
        (logon("12:00:01", 50, 4625), False),
    ],
)
def test_failed_attempts_before_a_logon(attempt: Record, counts: bool) -> None:
    """Attempts of the same account at the console within half an hour before count, and no others."""
    given = case(attempt, logon(number=9))
    assert logons.failed_before(given, logon(number=9), None) == ([attempt] if counts else [])


def test_attempts_before_the_logon_before_do_not_count() -> None:
    """An attempt that a logon followed is not told again with the next one."""
    attempt = logon("11:50:00", 1, 4625)
    given = case(attempt, logon("11:51:00", 2), logon("11:59:00", 3))
    found = texts(logons.RULE, given)
    assert sum("1 failed attempt" in text for text, _ in found) == 1


def test_a_session_ends_in_the_same_run_of_the_machine() -> None:
    """The id of a session is used again after a start, so a logoff after one is of another session."""
    begin, end = logon(number=3), record(4634, "13:00:00", number=9, TargetLogonId="0x3")
    assert logons.left(case(begin, end), [begin]) == end
    start = record(4608, "12:30:00", number=5)
    given = case(begin, start, end)
    assert logons.left(given, [begin]) == start
    text = "No record tells the end of the session; the machine started again 12:30:00 UTC."
    assert (text, "shown") in texts(logons.RULE, given)


def test_failed_attempts_that_were_not_at_the_console() -> None:
    """Those of programs, and those over the network, are counted: they are recorded, and no attempt at the console."""
    browser = logon(number=1, event_id=4625, LogonProcessName="Advapi", ProcessName=r"C:\Edge\browser.exe")
    network = [logon(number=n, event_id=4625, LogonType="3", ProcessName="-") for n in (2, 3)]
    service = logon(number=4, event_id=4625, LogonType="5", ProcessName="-")
    told = texts(logons.RULE, case(browser, *network, service))
    text = r"by browser.exe as EMSSERVER\emsadmin, 2 over the network, 1 of the logon type 5"
    assert (f"4 other failed attempts: 1 {text}, Sun 23 May 2021, 12:00:00 UTC.", "shown") in told
    alone = texts(logons.RULE, case(browser))
    assert (
        "1 other failed attempt by browser.exe as EMSSERVER\\emsadmin, Sun 23 May 2021, 12:00:00 UTC.",
        "shown",
    ) in alone
    assert not [text for text, _ in texts(logons.RULE, case(logon(event_id=4625))) if "other failed" in text]


def test_guessing_from_the_network() -> None:
    """A run of failed attempts from one place is one sentence, with the logon that followed."""
    where = {"LogonType": "3", "IpAddress": "10.0.0.9", "WorkstationName": "KALI", "TargetUserName": "admin"}
    attempts = [record(4625, f"12:00:{n:02}", number=n, **where) for n in range(1, 21)]
    after = record(4624, "12:03:00", number=30, **where, TargetDomainName="CORP", TargetUserSid="S-1-5-21-1")
    found = texts(remote.RULE, case(*attempts, after))
    assert "20 failed attempts over the network from 10.0.0.9 (KALI)" in found[0][0]
    assert "Then CORP\\admin logged on from there" in found[1][0]


def test_remote_desktop_without_an_address() -> None:
    """An address of zeros, as in an enhanced session of Hyper-V, is no address."""
    given = case(record(4624, **{**mesa.LOGON, "LogonType": "10", "IpAddress": "0.0.0.0"}))
    assert texts(remote.RULE, given)[0][0].endswith("by Remote Desktop from an address that is not recorded.")


def disk(time: str, number: int, **data: Any) -> Record:
    """A record of a USB disk that was connected, or taken out."""
    return record(1006, time, "Partition/Diagnostic", number, **{**mesa.DISK, **data})


def test_a_disk_is_taken_out() -> None:
    """A capacity of zero ends the connection, and with it the time that the letter is the disk's."""
    volume = record(4, "12:00:02", "Ntfs/Operational", 1, VolumeId="F:", BusType="7",
                    DeviceSerialNumber=mesa.DISK["SerialNumber"])  # fmt: skip
    given = case(disk("12:00:00", 1), disk("12:30:00", 2, Capacity="0"), volume)
    (found,) = devices.connections(given)
    assert (found.letter_status, [*found.letters]) == ("shown", ["F:"])
    assert found.held("F:", mesa.at("12:29:00"))
    assert not found.held("F:", mesa.at("12:31:00"))
    assert ("It was taken out 12:30:00 UTC.", "shown") in texts(devices.RULE, given)


@pytest.mark.parametrize("data", [{"BusType": "17"}, {"BusType": "11"}, {"BusType": "3"}])
def test_disks_that_are_not_on_usb(data: dict[str, str]) -> None:
    """Disks of other buses, such as those of virtual machines, are not told."""
    assert devices.connections(case(disk("12:00:00", 1, **data))) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "serial (SCSI) 575837314433394C3446, serial (USB) WX71D39L4F"),
        ({"ParentId": "USB\\VID_1&PID_2\\5&2a&0&3"}, "serial (SCSI) 575837314433394C3446"),
        ({"SerialNumber": "", "ParentId": ""}, "no serial"),
        ({"SerialNumber": "WX71D39L4F"}, "serial (SCSI) WX71D39L4F"),
    ],
)
def test_serial_numbers(data: dict[str, str], words: str) -> None:
    """Which serial number it is is told; one that Windows has made up is left out."""
    assert devices.serials(disk("12:00:00", 1, **data)) == words


def test_a_letter_that_another_disk_has_later() -> None:
    """A program on F: after the disk was taken out did not run from it."""
    volume = record(4, "12:00:02", "Ntfs/Operational", 1, VolumeId="F:", BusType="7",
                    DeviceSerialNumber=mesa.DISK["SerialNumber"])  # fmt: skip
    start = record(1, "13:00:00", "Sysmon/Operational", 9, Image="F:\\x\\tool.exe", FileVersion="1.0")
    given = case(disk("12:00:00", 1), disk("12:30:00", 2, Capacity="0"), volume, start)
    (found,) = [text for text, _ in texts(programs.RULE, given)]
    assert found.endswith("F:\\x\\tool.exe 1.0. Which disk F: was then is not recorded.")


def test_a_program_that_was_renamed() -> None:
    """The name that its maker gave a program is told beside the file's, if the file is called like a tool."""
    start = record(1, "12:00:00", "Sysmon/Operational", 9, Image="C:\\kape.exe", OriginalFileName="other.exe")
    ((text, status),) = texts(programs.RULE, case(start))
    assert text.endswith("C:\\kape.exe, a collection program (its maker called it other.exe), by its name.")
    assert status == "shown"


def test_what_did_not_run_is_not_shown() -> None:
    """Without any source of starts, that nothing ran is not recorded, with the reason for each source."""
    ((_, status),) = texts(programs.RULE, case())
    assert status == "not recorded"
    (finding,) = programs.RULE.answer(case())
    logs = ("Security", "Sysmon/Operational", "Application-Experience/Program-Telemetry")
    assert finding.reason == "; ".join(f"the {name} log was not found" for name in logs)


def test_recovered_records_show_nothing_alone() -> None:
    """A logon that only free space tells of is likely, not shown; so is one in a damaged chunk."""
    for changes in ({"origin": "carved"}, {"origin": "deleted"}, {"is_sound": False}):
        found = replace(logon(), **changes)  # type: ignore[arg-type]
        assert texts(logons.RULE, case(found))[0][1] == "likely"


@pytest.mark.parametrize("file", ["Security", "host1-Security", "export"])
def test_a_log_is_known_by_its_channel(file: str, tmp_path: Path, database: str) -> None:
    """A log whose file was renamed still counts as what it is, and is named as its file is."""
    write_log(tmp_path / "logs" / f"{file}.evtx", mesa.logs()["Security"])
    scan(tmp_path / "logs", database)
    report = made(database, "logs")
    found = {finding.id: finding for finding in report.findings}
    assert found["logon.last_console"].refs == [f"{file}#51234", f"{file}#51235"]
    assert "by the log Security in its records 31,002 to 51,235" in [one.reason for one in report.findings]
    assert not any("the Security log was not found" in finding.reason for finding in report.findings)


def test_forwarded_records_make_no_log_of_their_channel(tmp_path: Path, database: str) -> None:
    """A log of forwarded events, all of them from Security logs elsewhere, is not the log Security."""
    write_log(tmp_path / "logs" / "ForwardedEvents.evtx", mesa.logs()["Security"])
    scan(tmp_path / "logs", database)
    assert any("the Security log was not found" in finding.reason for finding in made(database, "logs").findings)


def system(number: int, computer: str, log: str = "System") -> Record:
    """A start of a machine with this name."""
    return replace(record(12, log=log, number=number), computer=computer, channel="System")


def test_a_machine_that_was_renamed_and_back() -> None:
    """Each name is told once, the last one first."""
    given = case(*(system(number, name) for number, name in enumerate(["A", "B", "B", "A", "C", "A"], 1)))
    assert ("The machine was called A. Before: B, C.", "shown") in texts(machine.RULE, given)


def test_logs_of_several_machines_in_one_folder() -> None:
    """Two logs System without a name in common may be of two machines; the report says so, and calls it by no name."""
    told = texts(machine.RULE, case(system(1, "A", "one"), system(2, "B", "two"), system(3, "B", "two")))
    assert ("The logs name A, B. They may be of several machines.", "possible") in told
    assert not any("was called" in text for text, _ in told)
    both = case(system(1, "A", "one"), system(2, "B", "one"), system(3, "B", "two"))
    assert ("The machine was called B. Before: A.", "shown") in texts(machine.RULE, both)


def _deleted(*records: Record) -> list[Record]:
    """These records, in logs that were deleted."""
    return [replace(one, origin="deleted") for one in records]


@pytest.mark.parametrize("rule", [noteworthy, power], ids=lambda rule: rule.RULE.id)
def test_no_sentence_on_recovered_records_is_shown(rule: Any) -> None:
    """Also where many records are counted in one sentence; each such sentence has its reason."""
    services = [record(7045, log="System", number=n, provider="Service Control Manager", ServiceName=f"S{n}")
                for n in range(1, 13)]  # fmt: skip
    starts = [record(12, log="System", number=n) for n in range(20, 34)]
    found = [*answers(case(*_deleted(*services, *starts)), rule.RULE)]
    assert {(one.status, one.reason) for one in found} == {("likely", "a record is from a log that was deleted")}
    assert any("more" in one.text for one in found)


def test_a_machine_whose_log_system_was_deleted() -> None:
    """Its name, its time zone and the changes of its clock are told by the records that were recovered."""
    zone = record(6013, "08:00:00", "System", 1, **{"7": "420 Mountain Standard Time"})
    change = record(1, "09:00:00", "System", 2, OldTime="2021-05-23T12:00:00Z", NewTime="2021-05-23T09:00:00Z")
    given = case(*_deleted(zone, change, logon("11:00:00")), logs=[log("System", origin="deleted")])
    assert [(one.text, one.status) for one in answers(given, machine.RULE)] == [
        ("The machine was called HOST.", "likely"),
        ("Time zone: Mountain Standard Time.", "likely"),
        ("The clock was set back, so times are not always in the order in which things happened.", "likely"),
    ]
    (changed,) = answers(given, clock_changes.RULE)
    assert changed.text.startswith("The clock was set back by 3 h 0 min, to Sun 23 May 2021, 03:00:00 MDT")
    last, unknown = answers(given, taking.RULE)
    assert last.text.startswith("The copy was not made before Sun 23 May 2021, 12:00:00 MDT (18:00:00 UTC)")
    assert (last.status, unknown.id) == ("likely", "taking.unknown")
    assert unknown.reason == "of the log System, only 9 recovered records are there (1 to 9)"
    assert [one.id for one in taking.RULE.answer(case())] == ["taking.none", "taking.unknown"]


def test_records_that_are_there_come_before_recovered_ones() -> None:
    """A deleted log tells the time zone only where the log that is there does not, and free space comes last."""
    old = record(6013, "20:00:00", "System", 9, **{"7": "420 Mountain Standard Time"})
    new = record(6013, "08:00:00", "System", 1, **{"7": "300 Eastern Standard Time"})
    assert case(*_deleted(old), new).clock.names == ["Eastern Standard Time"]
    assert case(*_deleted(old)).clock.names == ["Mountain Standard Time"]
    assert case(replace(old, origin="carved")).clock.names == ["Mountain Standard Time"]
    assert case(replace(old, origin="carved"), *_deleted(new)).clock.names == ["Eastern Standard Time"]


def test_a_machine_of_which_only_free_space_tells() -> None:
    """No sentence says that something is not recorded, or not there, if records in free space tell of it."""
    change = record(1, "09:00:00", "System", 2, OldTime="2021-05-23T12:00:00Z", NewTime="2021-05-23T09:00:00Z")
    given = case(*(replace(one, origin="carved") for one in (change, logon("11:00:00"))))
    rules = (machine, logons, taking, clock_changes)
    found = [one for rule in rules for one in answers(given, rule.RULE)]
    assert [(one.id, one.status) for one in found] == [
        ("machine.name", "likely"), ("machine.zone", "not recorded"), ("machine.clock", "likely"),
        ("logon.recovered", "likely"), ("taking.not_before", "likely"), ("taking.unknown", "not recorded"),
        ("clock.changed", "likely"),
    ]  # fmt: skip
    assert found[5].reason == "of the log System, only records in free space are there"
    assert sources.in_words([*sources.sources(given, "clock")]) == "Only recovered records of: System, Security."


def test_a_session_and_its_recovered_logon_are_told_once() -> None:
    """The session's record shows the logon, and the recovered record of the log Security is named below it."""
    manager = "TerminalServices-LocalSessionManager"
    session = record(21, log=f"{manager}/Operational", provider=manager, User=r"HOST\emsadmin", Address="LOCAL")
    given = case(session, *_deleted(logon("11:59:58")), logs=[log("Security", origin="deleted")])
    (found,) = logons.RULE.answer(given)
    assert (found.id, found.status, [one.id for one in found.details]) == (
        "logon.session", "shown", ["logon.recovered"])  # fmt: skip
    assert (
        found.reason == "by the manager of sessions: of the log Security, only 9 recovered records are there (1 to 9)"
    )
    other = replace(session, data={**session.data, "User": r"HOST\another"})
    assert [one.id for one in logons.RULE.answer(case(other, *_deleted(logon("11:59:58"))))] == [
        "logon.recovered", "logon.session"]  # fmt: skip


def test_a_machine_that_was_shut_down() -> None:
    """After a shutdown that no start followed, the machine was off."""
    given = case(record(12, "08:00:00", "System", 1), record(13, "18:00:00", "System", 9), logs=[log("System")])
    text = "The machine was off when the copy was made: it was shut down, and no later start is recorded."
    assert (text, "likely") in texts(taking.RULE, given)


def test_a_log_that_was_cleared() -> None:
    """Events 1102 and 104 of the event log's own provider tell; the same numbers of others do not."""
    own = Record("Security", 1, mesa.at("12:00:00"), 1102, "Microsoft-Windows-Eventlog", "HOST",
                 {"SubjectUserName": "eve", "SubjectDomainName": "CORP"})  # fmt: skip
    other = Record("Shell", 1, mesa.at("12:00:00"), 1102, "Microsoft-Windows-Shell", "HOST", {})
    assert texts(clearing.RULE, case(own))[0][0].endswith("Security was cleared by CORP\\eve.")
    assert texts(clearing.RULE, case(other))[0][0].startswith("No record tells of a log that was cleared")


def test_names_of_a_machine() -> None:
    """A machine that was renamed has had several names, of which the last counts."""
    records = [Record("System", n, mesa.at("12:00:00"), 6005, "EventLog", name, {})
               for n, name in enumerate(["WIN-1", "WIN-1.corp.example", "SERVER"])]  # fmt: skip
    assert texts(machine.RULE, case(*records))[0][0] == "The machine was called SERVER. Before: WIN-1."


def test_hosts_with_an_address_alone() -> None:
    """A record with an address alone is of the machine that had it; the machine itself is none of the others."""
    named = record(4624, number=1, LogonType="3", WorkstationName="PC7", IpAddress="::ffff:10.0.0.7")
    address = record(5140, number=2, ShareName="\\\\*\\D", IpAddress="10.0.0.7")
    local = record(4624, number=3, LogonType="3", WorkstationName="HOST", IpAddress="127.0.0.1")
    (found,) = neighbours.hosts(case(named, address, local))
    assert (found.name, found.addresses, [*found.what]) == (
        "PC7", {"10.0.0.7"}, ["logged on over the network", "used the share D"],
    )  # fmt: skip


# The clock


def bias(minutes: int, number: int, time: str = "12:00:00") -> Record:
    """A record of the bias in force."""
    return record(24, time, "System", number, CurrentBias=minutes)


def zone(name: str, number: int, time: str = "12:00:00") -> Record:
    """A record of the zone's name."""
    return record(6013, time, "System", number, **{"7": name})


@pytest.mark.parametrize(
    ("records", "shown"),
    [
        ([bias(360, 1)], "Sun 23 May 2021, 06:00:00 UTC-06:00 (12:00:00 UTC)"),
        ([zone("420 Mountain Standard Time", 1)], "Sun 23 May 2021, 06:00:00 MDT (12:00:00 UTC)"),
        ([bias(360, 1), zone("420 Mountain Standard Time", 2)], "Sun 23 May 2021, 06:00:00 MDT (12:00:00 UTC)"),
        ([bias(-120, 1)], "Sun 23 May 2021, 14:00:00 UTC+02:00 (12:00:00 UTC)"),
        ([bias((1 << 32) - 120, 1)], "Sun 23 May 2021, 14:00:00 UTC+02:00 (12:00:00 UTC)"),
        ([zone("300 Mars Standard Time", 1)], "Sun 23 May 2021, 12:00:00 UTC"),
        ([bias(999999, 1)], "Sun 23 May 2021, 12:00:00 UTC"),
        ([], "Sun 23 May 2021, 12:00:00 UTC"),
        ([bias(0, 1)], "Sun 23 May 2021, 12:00:00 UTC"),
        ([bias(-720, 1)], "Mon 24 May 2021, 00:00:00 UTC+12:00 (23 May 12:00:00 UTC)"),
    ],
)
def test_times_as_the_users_saw_them(records: list[Record], shown: str) -> None:
    """The bias in force counts, not the standard bias beside a zone's name; without either, times are in UTC."""
    assert Clock.of(records).full(mesa.at("12:00:00")) == shown


def test_a_zone_that_was_changed() -> None:
    """Times before a change are in the zone before it."""
    clock = Clock.of([bias(480, 1, "10:00:00"), bias(300, 2, "11:00:00")])
    assert [clock.short(mesa.at(time)) for time in ("09:00:00", "10:30:00", "11:30:00")] == [
        "01:00:00 UTC-08:00",
        "02:30:00 UTC-08:00",
        "06:30:00 UTC-05:00",
    ]


@pytest.mark.parametrize(
    ("data", "flat"),
    [
        ({"a": 1, "#attributes": {"x": 1}}, {"a": 1}),
        ({"Event": {"#attributes": {}, "ExePath": "x"}}, {"ExePath": "x"}),
        ({"Data": {"#text": ["a", "b"]}, "Binary": None}, {"1": "a", "2": "b", "Binary": None}),
        ({"Data": {"#text": "a"}}, {"1": "a"}),
        (["a", None], {"1": "a", "2": None}),
        ("a", {"1": "a"}),
    ],
)
def test_values_by_their_names(data: Any, flat: dict[str, Any]) -> None:
    """Nested values are found by their names, and unnamed ones by their places."""
    assert flattened(data) == flat


@pytest.mark.parametrize(
    ("span", "words"),
    [(9, "9 s"), (59.6, "1 min 0 s"), (342, "5 min 42 s"), (7500, "2 h 5 min"), (372600, "103 h 30 min")],
)
def test_spans_in_words(span: float, words: str) -> None:
    """Spans are in the two largest units."""
    assert seconds(span) == words


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_no_rule_fails_on_odd_records(rule: Any) -> None:
    """Records without a time, without values, or with odd ones, are no reason to fail."""
    odd = dict.fromkeys(
        ("LogonType", "Capacity", "BusType", "CurrentBias", "TargetUserSid", "7", "VolumeId"), "\0" * 50
    )
    late = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
    kinds: list[tuple[str, int, datetime | None, str, dict[str, Any]]] = [
        ("System", 1, None, "", {}),
        ("Security", 2, datetime(1970, 1, 1, tzinfo=UTC), "X", odd),
        ("Security", 1 << 63, late, "\ud800", {**mesa.LOGON, **mesa.DISK, "Binary": "zz"}),
    ]
    providers = {event.provider for some in mesa.logs().values() for event in some} | {"EventLog", "", "Sysmon"}
    records = [
        Record(log, number, time, event_id, provider, computer, data)
        for log, number, time, computer, data in kinds
        for provider in providers
        for event_id in rule.event_ids
    ]
    report = Report(case(*records), [Section(rule.id, rule.title, [*rule.answer(case(*records))])])
    assert json.loads(json.dumps(report.to_json()))["sections"][0]["findings"]
    assert page(report).endswith("</html>\n")


# What examiners have found wrong


def test_records_of_other_machines_are_set_aside() -> None:
    """A record that was forwarded from another machine is not told as this one's."""
    here = record(6005, log="System", number=1)
    there = Record("ForwardedEvents", 1, mesa.at("12:00:00"), 4624, "Microsoft-Windows-Security-Auditing", "DC1.corp",
                   {**mesa.LOGON, "TargetUserSid": "S-1-5-21-9"}, channel="Security")  # fmt: skip
    records, others = own([here, there])
    assert (records, others) == ([here], {"DC1.corp": 1})
    text = "1 record is of DC1.corp. No sentence here rests on it."
    assert (text, "shown") in texts(machine.RULE, case(here, others=others))


def test_an_archived_log_is_the_same_stream() -> None:
    """An attempt that was archived before its logon is counted with it."""
    attempt = replace(logon("11:59:00", 5, 4625), log="Archive-Security-1", channel="Security")
    assert logons.failed_before(case(attempt, logon(number=9)), logon(number=9), None) == [attempt]


def test_a_recovered_logon_is_never_the_last() -> None:
    """A logon that only free space tells of comes after those of the log, as a recovered one."""
    old = replace(logon("08:00:00", 900), origin="carved")
    found = [*logons.RULE.answer(case(logon(number=9), old))]
    assert [finding.id for finding in found] == ["logon.last_console", "logon.recovered"]


def test_a_disk_is_there_until_the_machine_starts_again() -> None:
    """Without a record of its end, a connection ends with the machine's run, a letter when another volume has it."""
    serial = mesa.DISK["SerialNumber"]
    mine = record(4, "12:00:02", "Ntfs/Operational", 1, VolumeId="F:", BusType="7", DeviceSerialNumber=serial)
    other = record(4, "13:00:00", "Ntfs/Operational", 2, VolumeId="F:", BusType="8", DeviceSerialNumber="x")
    (found,) = devices.connections(case(disk("12:00:00", 1), mine, other))
    assert found.held("F:", mesa.at("12:30:00"))
    assert not found.held("F:", mesa.at("13:30:00"))
    (found,) = devices.connections(case(disk("12:00:00", 1), mine, record(12, "12:40:00", "System", 3)))
    assert (found.until, found.ended) == (mesa.at("12:40:00"), None)


def test_volumes_that_may_be_of_another_disk() -> None:
    """A volume of a built-in disk is not a USB disk's; of two disks at once, which has the letter is possible only."""
    built_in = record(4, "10:00:00", "Ntfs/Operational", 1, VolumeId="D:", BusType="8")
    mounted = [
        record(142, "12:00:03", "Ntfs/Operational", n, VolumeName=letter) for n, letter in ((2, "D:"), (3, "F:"))
    ]
    (found,) = devices.connections(case(disk("12:00:00", 1), built_in, *mounted))
    assert ([*found.letters], found.letter_status) == (["F:"], "likely")
    other = disk("12:00:01", 2, SerialNumber="2", ParentId="p2", DiskId="d2")
    found = devices.connections(case(disk("12:00:00", 1), other, built_in, *mounted))[0]
    assert found.letter_status == "possible"


def test_a_disk_of_which_only_the_end_is_recorded() -> None:
    """A disk that was taken out was there, though nothing tells since when."""
    ((text, status),) = texts(devices.RULE, case(disk("12:00:00", 1, Capacity="0")))
    assert text.endswith("was taken out. When it was connected is not recorded.")
    assert status == "shown"


def test_times_while_the_clock_was_ahead() -> None:
    """A log that was written to only before the clock was set back does not have the last record."""
    start = record(12, "15:00:00", "System", 1)
    back = record(1, "12:00:00", "System", 2, OldTime="2021-05-23T15:10:00Z", NewTime="2021-05-23T12:00:00Z")
    logs = [
        log("System", newest_time=mesa.at("12:30:00")),
        log("Setup", newest_time=mesa.at("15:09:00")),
        log("Sysmon", newest_time=mesa.at("12:40:00")),
    ]
    given = case(start, back, logs=logs)
    assert given.changes.undone == [(mesa.at("15:00:00"), mesa.at("15:10:00"))]
    assert given.last is logs[2]
    (ahead,) = (text for text, _ in texts(taking.RULE, given) if "later times" in text)
    assert ahead == "The clock had shown later times, up to Sun 23 May 2021, 15:10:00 UTC, and was then set back."
    later = case(start, back, logs=[log("System", newest_time=mesa.at("15:30:00"))])
    assert not [text for text, _ in texts(taking.RULE, later) if "later times" in text]


def test_a_span_over_a_change_of_the_clock() -> None:
    """A span during which the clock was changed is by the machine's clock, and possible only."""
    change = record(1, "12:20:00", "System", 2, OldTime="2021-05-23T12:10:00Z", NewTime="2021-05-23T12:20:00")
    given = case(logon(number=9), change, logs=[log("System", newest_time=mesa.at("12:30:00"))])
    spans = [(finding.text, finding.status) for finding in taking.RULE.answer(given) if finding.id == "taking.span"]
    assert spans == [
        ("From the last logon to the last record: 30 min 0 s by the machine's clock, which was changed in between.",
         "possible")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("texts_of", "product"),
    [
        (["1.1", "0", "Windows 10 Pro", "10.0.19043 Build 19043 "], "Windows 10 Pro, build 19043"),
        (["1.1", "0", "Windows 10 Pro", "10.0.22000 Build 22000 "],
         "Windows 11 Pro, build 22000 (the record says Windows 10 Pro)"),
        (["1.1", "0", "Windows Server 2022 Standard", "10.0.20348 Build 20348"],
         "Windows Server 2022 Standard, build 20348"),
        (["x"], ""),
    ],
)  # fmt: skip
def test_products(texts_of: list[str], product: str) -> None:
    """The name of Windows 11, which calls itself Windows 10."""
    binary = "\0".join(texts_of).encode("utf-16-le").hex()
    assert machine.product_of(record(6013, log="System", Binary=binary)) == product


@pytest.mark.parametrize(
    ("event_id", "data", "text"),
    [
        (4722, {"TargetUserName": "Guest"}, "the account Guest was enabled by CORP\\eve."),
        (4724, {"TargetUserName": "boss"}, "the account boss got a new password by CORP\\eve."),
        (4732, {"TargetUserName": "Remote Desktop Users", "TargetSid": "S-1-5-32-555", "MemberSid": "S-1-5-21-1-501"},
         "the account Guest was made a member of Remote Desktop Users by CORP\\eve."),
        (4728, {"TargetUserName": "Domain Admins", "TargetSid": "S-1-5-21-1-512", "MemberSid": "S-1-5-21-1-1105",
                "MemberName": "CN=eve"}, "CN=eve was made a member of Domain Admins by CORP\\eve."),
        (4732, {"TargetUserName": "Users", "TargetSid": "S-1-5-32-545", "MemberSid": "S-1-5-21-1-501"}, ""),
    ],
)  # fmt: skip
def test_changes_of_accounts(event_id: int, data: dict[str, str], text: str) -> None:
    """What was done to accounts is told, by whom, and groups that have no power are not."""
    who = {"SubjectUserName": "eve", "SubjectDomainName": "CORP"}
    found = texts(accounts.RULE, case(record(event_id, **data, **who), logs=[log("Security")]))
    assert found[0][0].endswith(text or "No change of an account is recorded, but for those of the set-up.")


def test_a_time_at_the_end_of_time() -> None:
    """The last time that there is can be shown in any zone."""
    clock = Clock.of([bias(-600, 1)])
    assert clock.full(datetime.max.replace(tzinfo=UTC)).startswith("Fri 31 Dec 9999")


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 more logon before these."), (1200, "1,200 more logons before these.")]
)
def test_what_is_left_out_is_counted(count: int, text: str) -> None:
    """Where a rule lists a part of what it found, it says how many more there are, also if it is one."""
    assert more("logon.more", range(count), "logon", " before these").text == text
