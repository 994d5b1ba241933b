"""A report on one machine: its findings by question, and what its sources are worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fanfold.errors import UsageError
from fanfold.evidence.report.case import Case, load
from fanfold.evidence.report.findings import Finding, Rule, seconds, size_in_words
from fanfold.evidence.report.rules import RULES, clock_changes
from fanfold.evidence.report.rules.sources import Source, sources

QUESTIONS = ", ".join(rule.id for rule in RULES)
"""What can be asked for."""
VERSION = "1"
"""Of the rules: it changes when the same records would give other sentences."""


@dataclass(frozen=True)
class Section:
    """A question and its answers."""

    id: str
    title: str
    findings: Sequence[Finding]
    sources: Sequence[Source] = ()
    """The logs that would answer it. That one is not there does not show that nothing happened."""


@dataclass(frozen=True)
class Report:
    """What the records of a machine show."""

    case: Case
    sections: Sequence[Section]

    @property
    def title(self) -> str:
        """The machine's name."""
        return self.case.image

    @property
    def findings(self) -> Iterator[Finding]:
        """All findings, each before those that belong to it."""
        for section in self.sections:
            for finding in section.findings:
                yield finding
                yield from finding.details

    @property
    def container(self) -> list[str]:
        """Sentences on the disk image; none for loose logs."""
        return [*_container(self.case)] if self.case.container else []

    @property
    def sources(self) -> list[str]:
        """Sentences on what was read, and what was not."""
        logs = [log for log in self.case.logs if log["records"]]
        records = sum(log["records"] for log in logs)
        bad = sum(log["bad_chunks"] for log in logs)
        undecoded = sum(log["undecoded"] for log in logs)
        parts = [f"{records:,} record{'s' * (records != 1)} of {len(logs):,} event log{'s' * (len(logs) != 1)}"]
        if bad:
            parts.append(f"{bad:,} chunk{'s' * (bad > 1)} with a wrong checksum")
        if undecoded:
            parts.append(f"{undecoded:,} record{'s' * (undecoded > 1)} that could not be decoded")
        return [", ".join(parts) + ".", *_unread(self.case)]

    def to_json(self) -> dict[str, Any]:
        """The report for scripts."""
        return {
            "image": self.case.image,
            "rules": VERSION,
            "zone": self.case.clock.name or "UTC",
            "sources": self.sources,
            "container": self.container,
            "sections": [
                {
                    "id": section.id,
                    "title": section.title,
                    "coverage": [source.to_json() for source in section.sources],
                    "findings": [finding_json(self.case, finding) for finding in section.findings],
                }
                for section in self.sections
            ],
        }


def finding_json(case: Case, finding: Finding) -> dict[str, Any]:
    """A finding for scripts."""
    return {
        "id": finding.id,
        "text": finding.text,
        "status": finding.status,
        "reason": finding.reason,
        "time_utc": _iso(finding.time),
        "time_local": _iso(finding.time and case.clock.local(finding.time, finding.dated_by)),
        "records": finding.refs,
        "files": list(finding.files),
        "details": [finding_json(case, detail) for detail in finding.details],
    }


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def made(database: str, image: str, zone: str | None = None, questions: Sequence[str] = ()) -> Report:
    """The report on a machine. Raises UsageError for an unknown machine, time zone or question."""
    rules = chosen(questions)
    event_ids = {event_id for rule in RULES for event_id in rule.event_ids}
    case = load(database, image, sorted(event_ids), zone)
    return Report(
        case, [Section(rule.id, rule.title, [*answers(case, rule)], [*sources(case, rule.id)]) for rule in rules]
    )


def answers(case: Case, rule: Rule) -> Iterator[Finding]:
    """The answers to a question; where the clock was changed later, they say so."""
    for finding in rule.answer(case):
        yield finding if rule is clock_changes.RULE else _with_doubts(case, finding)


def _with_doubts(case: Case, finding: Finding) -> Finding:
    details = [_with_doubts(case, detail) for detail in finding.details]
    doubt = _doubt(case, finding)
    reason = "; ".join(filter(None, [finding.reason, doubt]))
    return replace(finding, reason=reason, details=details)


def _doubt(case: Case, finding: Finding) -> str:
    """Why the time that a finding tells may be wrong; empty if nothing tells."""
    if not finding.time or case.clock.short(finding.time, record=finding.dated_by) not in finding.text:
        return ""
    if change := case.changes.doubt(finding.time, finding.dated_by):
        by = seconds(abs(change.after - change.before).total_seconds())
        if change.is_back:
            return f"the clock was later set back by {by}, so this time may be too late"
        return f"the clock was later set forward by {by}, so this time may be too early"
    if case.changes.is_twice(finding.time, finding.dated_by):
        return "the clock showed this time twice, as it was set back in between"
    return ""


def chosen(questions: Sequence[str]) -> list[Rule]:
    """The rules of these ids, in the order of the report; all, if none are named. What cannot be shown is always there.

    Raises UsageError for an unknown one.
    """
    known = {rule.id for rule in RULES}
    if unknown := [question for question in questions if question not in known]:
        raise UsageError(f"There is no question '{unknown[0]}'. The questions are: {', '.join(sorted(known))}.")
    return [rule for rule in RULES if not questions or rule.id in questions or rule is RULES[-1]]


def _unread(case: Case) -> Iterator[str]:
    """What of the machine is listed, and was not read. Sentences on what is not there would be wrong without it."""
    failed = len(case.failures)
    if failed:
        some = "; ".join(case.failures[:3])
        more = f"; and {failed - 3:,} more" if failed > 3 else ""
        yield f"NOT READ: {some}{more}."
    if left := len(case.unread) - failed:
        yield f"THE SCAN IS NOT FINISHED: {left:,} more of the machine's logs were not read. Run the scan again."


def _container(case: Case) -> Iterator[str]:
    """Sentences on the disk image: what it is, whether it is whole."""
    row = case.container
    segments = len(row["segments"] or ())
    tool = f", made by the software '{row['tool']}'" if row["tool"] else ""
    named = [f"{name} '{row[name]}'" for name in ("case", "evidence", "examiner") if row[name]]
    told = f"; {', '.join(named)}" if named else ""
    size = size_in_words(row["media_bytes"])
    yield f"{row['kind']} image of {size} in {segments} file{'s' * (segments > 1)}{tool}{told}."
    yield from _verified(case.facts, row)
    for first in row["unread"] or ():
        last = first["first_sector"] + first["sectors"] - 1
        yield f"The acquirer could not read the sectors {first['first_sector']:,} to {last:,} of the disk."
    yield from row["problems"] or ()


def _verified(facts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Iterator[str]:
    results = [fact["value"]["result"] for fact in facts if fact["kind"] == "verification"]
    stored = [name.upper() for name in ("md5", "sha1") if row[f"{name}_stored"]]
    digests = " and ".join(stored)
    if not results:
        yield "Its content was not verified." if stored else "No digest is stored with it."
    elif results[0] == "match":
        yield f"Its content has the {digests} that {'are' if len(stored) > 1 else 'is'} stored with it."
    elif results[0] == "mismatch":
        yield f"ITS CONTENT DIFFERS from the {digests} that {'are' if len(stored) > 1 else 'is'} stored with it."
    else:
        yield "No digest is stored with it, so whether its content is as it was acquired cannot be told."
    for fact in facts:
        if fact["kind"] == "digest":
            differs = fact["value"]["stored"] not in (None, fact["value"]["computed"])
            other = f" ({fact['value']['stored']} is stored)" if differs else ""
            yield f"{fact['name'].upper()} {fact['value']['computed']}{other}."
    damage = [fact["value"] for fact in facts if fact["kind"] == "damage"]
    if damage:
        sectors = sum(one["sectors"] for one in damage)
        ranges = ", ".join(_range(one) for one in damage[:3]) + (", ..." if len(damage) > 3 else "")
        yield f"{sectors:,} of its sectors are damaged: {ranges}."


def _range(damage: Mapping[str, Any]) -> str:
    return f"{damage['first_sector']:,} to {damage['first_sector'] + damage['sectors'] - 1:,}"
