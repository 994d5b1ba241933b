"""What the machine was set to record, and the scripts that PowerShell was given."""

import mesa
import pytest
from made_up import case, log, record, texts

from fanfold.evidence.report.html import page
from fanfold.evidence.report.record import Record
from fanfold.evidence.report.report import Report, Section
from fanfold.evidence.report.rules import accounts, clearing, limits, logons, noteworthy, programs
from fanfold.evidence.report.text import markdown

PROGRAMS, FILES, LOGONS, ACCOUNTS = "922b", "921d", "9215", "9235"
WHEN = "Sun 23 May 2021, 12:00:00 UTC"


def policy(subcategory: str, changes: str, time: str = "12:00:00", number: int = 1, **data: str) -> Record:
    """A change of the audit policy."""
    guid = f"{{0cce{subcategory}-69ae-11d9-bed3-505054503030}}"
    who = {"SubjectDomainName": "CORP", "SubjectUserName": "eve"}
    return record(4719, time, number=number, **{"SubcategoryGuid": guid, "AuditPolicyChanges": changes, **who, **data})


def audit(*records: Record) -> list[str]:
    """The sentences on the audit policy."""
    return [text for text, _ in texts(clearing.RULE, case(*records)) if "audit policy" in text]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([policy(PROGRAMS, "%%8449")], "from then on recorded: successes of Process Creation"),
        ([policy(PROGRAMS, "%%8448, %%8450")], "no longer recorded: successes and failures of Process Creation"),
        ([policy(LOGONS, "%%8449, %%8450")],
         "from then on recorded: successes of Logon; no longer recorded: failures of Logon"),
        ([policy(PROGRAMS, "%%8448"), policy(FILES, "%%8448, %%8450", "12:00:01", 2)],
         "no longer recorded: successes and failures of File System; successes of Process Creation"),
        ([policy("924a", "%%8451")], "from then on recorded: failures of Token Right Adjusted Events"),
        ([policy("9210", "%%8451")], "from then on recorded: failures of Security State Change"),
        ([policy("ffff", "%%8448")], "no longer recorded: successes of 0cceffff-69ae-11d9-bed3-505054503030"),
        ([policy("922b", "%%1")], "in a way that is not known"),
    ],
)  # fmt: skip
def test_a_change_of_the_audit_policy(records: list[Record], said: str) -> None:
    """Changes that were made together are one sentence, with the names that Windows has for what is recorded."""
    assert audit(*records) == [f"{WHEN}: the audit policy was changed by CORP\\eve: {said}."]


def test_changes_that_were_not_made_together() -> None:
    """A later change, and one by another account, are sentences of their own; the last one comes first."""
    found = audit(
        policy(PROGRAMS, "%%8449"),
        policy(FILES, "%%8449", "12:00:01", 2, SubjectUserSid="S-1-5-18"),
        policy(PROGRAMS, "%%8448", "12:09:00", 3),
    )
    assert [one.partition(": from")[0].partition(": no longer")[2] for one in found] == [
        " recorded: successes of Process Creation.", "", "",
    ]  # fmt: skip


def test_the_audit_policy_of_one_account() -> None:
    """Event 4912 names the account whose audit policy was changed."""
    found = record(4912, TargetUserSid="S-1-5-21-9-1001", AuditPolicyChanges="%%8452")
    assert audit(found) == [
        f"{WHEN}: the audit policy of the account S-1-5-21-9-1001 was changed: in a way that is not known."
    ]


@pytest.mark.parametrize(
    ("rule", "identity", "subcategory"),
    [
        (programs.RULE, "program.none", PROGRAMS),
        (accounts.RULE, "account.none", ACCOUNTS),
        (logons.RULE, "logon.none", LOGONS),
        (limits.RULE, "limit.files", FILES),
    ],
)  # fmt: skip
def test_whether_auditing_was_on(rule: object, identity: str, subcategory: str) -> None:
    """Where nothing is recorded, the reason says if a change of the audit policy is known that matters to it."""
    changed = policy(subcategory, "%%8448", number=7)
    others = policy("9237", "%%8448", number=8)

    def reason(*records: Record) -> tuple[str, list[str]]:
        given = case(*records, logs=[log("Security")])
        (found,) = [one for one in rule.answer(given) if one.id == identity]  # type: ignore[attr-defined]
        return found.reason, found.refs

    assert "audit policy" not in reason(others)[0]
    said, refs = reason(changed, others)
    assert f"the audit policy was last changed for them ({WHEN}): no longer recorded: successes of" in said
    assert refs == ["Security#7"]


def block(text: str, number: int = 1, part: int = 1, parts: int = 1, script: str = "s1", path: str = "") -> Record:
    """A part of a script."""
    return record(4104, f"12:00:{number:02}", "PowerShell/Operational", number, "PowerShell", MessageNumber=part,
                  MessageTotal=parts, ScriptBlockText=text, ScriptBlockId=script, Path=path)  # fmt: skip


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([block("Get-Date")], 'of 8 characters; it begins with: "Get-Date"'),
        ([block("<#\r\n  A title\r\n#>", path=r"C:\a.ps1")], r'of 17 characters (C:\a.ps1); it begins with: "A title"'),
        ([block('echo "a"')], r'of 8 characters; it begins with: "echo \"a\""'),
        ([block("x" * 200)], f'of 200 characters; it begins with: "{"x" * 120}..."'),
        ([block("abc\n", 1, 1, 2), block("def", 2, 2, 2)], 'of 7 characters in 2 parts; it begins with: "abc"'),
        ([block("def", 2, 2, 3), block("ghi", 3, 3, 3)],
         'of 3 parts, of which 2 are recorded, with 6 characters; it has, from part 2 on,: "def"'),
        ([block(""), block("", 2)], 'of 0 characters; it begins with: ""'),
        ([block("Get-Date", 1), block("Get-Date", 2, script="s2")],
         'of 8 characters; it begins with: "Get-Date"; 2 times'),
    ],
)  # fmt: skip
def test_a_script(records: list[Record], said: str) -> None:
    """The first line of a script, its length and its parts, also if not all of them are there."""
    time = f"Sun 23 May 2021, 12:00:{records[-1].record_id:02} UTC"
    assert texts(noteworthy.RULE, case(*records)) == [(f"{time}: PowerShell was given a script {said}.", "shown")]


def test_many_scripts() -> None:
    """The last ones are listed, and the others counted."""
    found = texts(noteworthy.RULE, case(*(block(f"echo {n}", n, script=f"s{n}") for n in range(1, 15))))
    assert len(found) == 11
    assert '"echo 14"' in found[0][0]
    assert found[-1][0] == "4 more PowerShell scripts before these."


def test_a_script_is_only_text() -> None:
    """A script cannot write into a page, nor turn the direction of what is written after it."""
    given = case(block("<script>alert(1)</script>\u202e`x`"))
    report = Report(given, [Section("note", "Scripts", [*noteworthy.RULE.answer(given)])])
    for shown in (page(report), "\n".join(markdown(report))):
        assert "<script>" not in shown
        assert "\u202e" not in shown
        assert "u202e" in shown


def test_a_report_of_a_recovered_part_is_not_shown() -> None:
    """A script of which a part was carved is likely."""
    parts = [block("abc", 1, 1, 2), Record("PowerShell/Operational", 2, mesa.at("12:00:02"), 4104,
             "Microsoft-Windows-PowerShell", "HOST", block("def", 2, 2, 2).data, "carved")]  # fmt: skip
    assert [status for _, status in texts(noteworthy.RULE, case(*parts))] == ["likely"]
