"""What imaging programs note beside their images, and what a report makes of it."""

import hashlib
from pathlib import Path

import mesa
import pytest
from scans import STAGES, rows, scan

from disk_images import ewf, mbr, windows_volume, write_ewf
from fanfold.evidence.disk.notes import noted
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.report import Report, made

FTK = """Created By AccessData® FTK® Imager 4.2.0.13

Case Information:
Acquired using: ADI4.2.0.13
Case Number: case 7
Examiner: MD5 checksum:    not a digest

--------------------------------------------------------------

Information for E:\\mesa:

[Drive Geometry]
 Bytes per Sector: 512
[Computed Hashes]
 MD5 checksum:    {md5}
 SHA1 checksum:   {sha1}

Image Information:
 Acquisition started:   Sun May 23 16:27:30 2021
 Acquisition finished:  Sun May 23 18:10:20 2021
 Segment list:
  E:\\mesa.E01
ATTENTION:
The following sector(s) on the source drive could not be read:
\t4096 through 4103
\t9000
The contents of these sectors were replaced with zeros in the image.

Image Verification Results:
 Verification started:  Sun May 23 18:10:21 2021
 MD5 checksum:    00000000000000000000000000000000 : verified
"""
GUYMAGER = """GUYMAGER ACQUISITION INFO FILE
==============================

Version              : 0.8.13-1
State: Finished successfully

MD5 hash                   : {md5}
MD5 hash verified source   : --
SHA1 hash                  : --

Acquisition started : 2021-05-23 16:27:30 (ISO format YYYY-MM-DD HH:MM:SS)
Ended               : 2021-05-23 18:10:20 (1 hours, 42 minutes and 50 seconds)
"""
MD5, SHA1 = "ab" * 16, "cd" * 20
TIMES = {"started": "2021-05-23T16:27:30", "finished": "2021-05-23T18:10:20"}


def test_the_notes_of_ftk_imager() -> None:
    """Tool, times, the digests of the acquisition, and the sectors that could not be read."""
    assert noted(FTK.format(md5=MD5.upper(), sha1=SHA1)) == {
        "tool": "AccessData FTK Imager 4.2.0.13", "md5": MD5, "sha1": SHA1, **TIMES,
        "unread": [{"first_sector": 4096, "sectors": 8}, {"first_sector": 9000, "sectors": 1}],
    }  # fmt: skip


def test_sectors_on_the_line_that_says_so() -> None:
    """Some versions write the sectors behind the words, not below them; other numbers below are something else."""
    text = f"MD5 checksum: {MD5}\nsectors that could not be read: 0 through 9\n\n123\n"
    assert noted(text)["unread"] == [{"first_sector": 0, "sectors": 10}]


def test_the_notes_of_guymager() -> None:
    """The same of guymager, as far as it notes it."""
    assert noted(GUYMAGER.format(md5=MD5)) == {"tool": "guymager 0.8.13-1", "md5": MD5, **TIMES}


@pytest.mark.parametrize(
    "text", ["", "notes: on something else", "Created By me", "\0" * 5000, "could not be read\n1\n"]
)
def test_texts_that_are_no_notes(text: str) -> None:
    """A text beside an image may be anything."""
    assert noted(text) == {}


def image(folder: Path, name: str, text: str, coding: str = "utf-8") -> Path:
    """The invented server's disk, with notes beside it."""
    folder.mkdir()
    write_ewf(folder / "mesa.E01", ewf(mbr(windows_volume("mesa")), acquired=mesa.ACQUIRED))
    (folder / name).write_bytes(text.encode(coding))
    return folder


def digests(database: str) -> dict[str, str]:
    """The digests that the image has stored."""
    (row,) = rows(database, "containers")
    return {name: row[f"{name}_stored"] for name in ("md5", "sha1")}


def report_on(given: Path, database: str) -> Report:
    """A report on the disk, after a scan of all stages."""
    scan(given, database, *STAGES)
    return made(database, "mesa.E01")


def test_notes_that_agree_with_the_image(tmp_path: Path, database: str) -> None:
    """The report names the notes and their times, without a zone; they are not an item of their own."""
    first = image(tmp_path / "first", "mesa.E01.txt", FTK.format(md5=MD5, sha1=SHA1))
    report_on(first, str(tmp_path / "other"))
    given = image(tmp_path / "given", "mesa.E01.txt", FTK.format(**digests(str(tmp_path / "other"))))
    report = report_on(given / "mesa.E01", database)
    container = " ".join(report.container)
    assert "Beside it are notes by AccessData FTK Imager 4.2.0.13: mesa.E01.txt." in container
    assert "DIFFER" not in container
    assert "The notes say that 9 sectors of the disk could not be read: 4,096 to 4,103, 9,000 to 9,000." in container
    (note,) = [finding for finding in report.findings if finding.id == "taking.notes"]
    assert note.text == (
        "The notes beside the image say that making it began 2021-05-23 16:27:30 and ended 2021-05-23 18:10:20, "
        "without a zone."
    )
    assert (note.status, note.files) == ("possible", ["mesa.E01.txt"])


@pytest.mark.parametrize(
    ("name", "coding"), [("mesa.E01.txt", "utf-16"), ("mesa.E01.TXT", "cp1252"), ("mesa.info", "utf-8")]
)
def test_notes_that_differ_from_the_image(name: str, coding: str, tmp_path: Path, database: str) -> None:
    """A digest in the notes that is not the image's is said, beside what is stored and what was computed."""
    text = GUYMAGER if name == "mesa.info" else FTK
    report = report_on(image(tmp_path / "given", name, text.format(md5=MD5, sha1=SHA1), coding), database)
    computed = digests(database)["md5"]
    assert f"THE NOTES DIFFER: their MD5 is {MD5}, and its content has {computed}." in report.container
    assert f"THE NOTES DIFFER: their MD5 is {MD5}, and it has stored {computed}." in report.container


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_raw_image_with_notes(is_changed: bool, tmp_path: Path, database: str) -> None:
    """A raw image has no digests of its own, so those of the notes are what its content is compared with."""
    disk = mbr(windows_volume("mesa"))
    digest = hashlib.md5(disk, usedforsecurity=False).hexdigest()
    (tmp_path / "mesa.001").write_bytes(disk[:-1] + b"x" if is_changed else disk)
    (tmp_path / "mesa.001.txt").write_text(FTK.format(md5=digest, sha1=SHA1))
    scan(tmp_path / "mesa.001", database, *STAGES)
    container = made(database, "mesa.001").container
    assert ("Its content has the MD5 of the notes." in container) is not is_changed
    assert any(sentence.startswith(f"THE NOTES DIFFER: their MD5 is {digest}") for sentence in container) is is_changed


def test_an_image_without_notes(tmp_path: Path, database: str) -> None:
    """Another text beside an image changes nothing."""
    report = report_on(image(tmp_path / "given", "mesa.E01.txt", "shopping list"), database)
    assert [sentence for sentence in report.container if "notes" in sentence] == []
    assert [finding for finding in report.findings if finding.id == "taking.notes"] == []


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more range"), (1_500, " and 1,497 more ranges")])
def test_many_damaged_ranges_are_counted(count: int, more: str) -> None:
    """The first three ranges of damaged sectors are named, and the others are counted."""
    damage = [{"kind": "damage", "value": {"first_sector": 100 * n, "sectors": 8}} for n in range(count)]
    texts = ("kind", "tool", "case", "evidence", "examiner", "md5_stored", "sha1_stored")
    container = dict.fromkeys(texts, "") | {"media_bytes": 1 << 20, "segments": ["a.E01"], "unread": []}
    container |= {"sidecar": None, "problems": []}
    told = Report(Case("host", [], [], container, damage), []).container
    assert f"{8 * count:,} of its sectors are damaged: 0 to 7, 100 to 107, 200 to 207{more}." in told
