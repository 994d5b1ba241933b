"""A report on one machine: its findings by question, and what its sources are worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fanfold.errors import UsageError
from fanfold.evidence.disk.verify import DIGESTS
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.facts import short_file
from fanfold.evidence.report.findings import Finding, Rule, Status, reason_of, seconds, size_in_words, status_of
from fanfold.evidence.report.load import Machines
from fanfold.evidence.report.rules import RULES, clock_changes
from fanfold.evidence.report.rules.sources import Source, sources
from fanfold.evidence.tables import ShadowCopy, by_reason
from fanfold.evidence.times import iso

QUESTIONS = ", ".join(rule.id for rule in RULES)
"""What can be asked for."""
_DATES = 12  # of shadow copies that are listed
VERSION = "5"
"""Of the rules: it changes when the same records would give other sentences."""
_MACHINES = 3  # that a sentence names
_REASONS = 3  # for which something was not read, that are named


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
        # A log counts once for all shadow copies that have it.
        names = {((log["volume"] or "").partition("@")[0], log["path"], log["origin"]) for log in logs}
        parts = [f"{records:,} record{'s' * (records != 1)} of {len(names):,} event log{'s' * (len(names) != 1)}"]
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
        "time_utc": iso(finding.time),
        "time_local": iso(finding.time and case.clock.local(finding.time, finding.dated_by)),
        "records": finding.refs,
        "files": list(finding.files),
        "details": [finding_json(case, detail) for detail in finding.details],
    }


def made(database: str, image: str, zone: str | None = None, questions: Sequence[str] = ()) -> Report:
    """The report on a machine. Raises UsageError for an unknown machine, time zone or question."""
    return next(all_made(Machines(database), [image], zone, questions))


def all_made(
    machines: Machines, names: Sequence[str], zone: str | None = None, questions: Sequence[str] = ()
) -> Iterator[Report]:
    """The reports on several machines, in their order. Raises UsageError as `made` does."""
    rules = chosen(questions)
    event_ids = {event_id for rule in RULES for event_id in rule.event_ids}
    for case in machines.cases(names, sorted(event_ids), zone):
        sections = [Section(rule.id, rule.title, [*answers(case, rule)], [*sources(case, rule.id)]) for rule in rules]
        yield Report(case, sections)


def answers(case: Case, rule: Rule) -> Iterator[Finding]:
    """The answers to a question; where the clock was changed later, they say so.

    No answer that rests on a recovered or damaged record, or on a damaged file, is `shown`, and each says why.
    """
    for finding in map(_as_sound_as_its_records, rule.answer(case)):
        finding = _as_sound_as_its_files(case, finding)
        if case.is_mixed:
            yield _with_machine(finding)
        else:
            yield finding if rule is clock_changes.RULE else _with_doubts(case, finding)


def _as_sound_as_its_records(finding: Finding) -> Finding:
    details = [_as_sound_as_its_records(detail) for detail in finding.details]
    if finding.status not in ("shown", "likely") or status_of(*finding.records) == "shown":
        return replace(finding, details=details)
    why = reason_of(*finding.records)
    reason = finding.reason if why in finding.reason else "; ".join(filter(None, [finding.reason, why]))
    return replace(finding, status="likely", reason=reason, details=details)


def _as_sound_as_its_files(case: Case, finding: Finding) -> Finding:
    details = [_as_sound_as_its_files(case, detail) for detail in finding.details]
    names = {short_file(path) for path, _ in case.partial}
    if names.isdisjoint(file.partition(": ")[0] for file in finding.files):
        return replace(finding, details=details)
    reason = "; ".join(filter(None, [finding.reason, "parts of the file could not be read"]))
    status: Status = "likely" if finding.status == "shown" else finding.status
    return replace(finding, status=status, reason=reason, details=details)


def _with_machine(finding: Finding) -> Finding:
    """A sentence with the machines that its records name, where logs of several lie in one folder."""
    names = [*dict.fromkeys(record.computer for record in finding.records if record.computer)]
    details = [_with_machine(detail) for detail in finding.details]
    if not names or finding.id == "machine.several" or "more" in finding.id:  # these are of all of them, as a rule
        return replace(finding, details=details)
    more = f" and {len(names) - _MACHINES:,} more" if len(names) > _MACHINES else ""
    text = f"{finding.text.removesuffix('.')} (on {', '.join(names[:_MACHINES])}{more})."
    return replace(finding, text=text, details=details)


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
        reasons = by_reason(case.failures)
        some = "; ".join(f"{paths}: {reason.rstrip('.')}" for _, paths, reason in reasons[:_REASONS])
        more = sum(count for count, _, _ in reasons[_REASONS:])
        yield f"NOT READ: {some}{f'; and {more:,} more' if more else ''}."
    reasons = by_reason(case.partial)
    for _, paths, reason in reasons[:_REASONS]:
        yield f"READ IN PART: {paths}: {reason}"
    if more := sum(count for count, _, _ in reasons[_REASONS:]):
        yield f"READ IN PART: {more:,} more. The columns `problems` and `problem` of the database have the reasons."
    if left := len(case.unread) - failed:
        yield f"THE SCAN IS NOT FINISHED: {left:,} more of the machine's logs were not read. Run the scan again."


def _container(case: Case) -> Iterator[str]:
    """Sentences on the disk image: what it is, whether it is whole."""
    row = case.container
    segments = len(row["segments"] or ())
    tool = f", made by the software '{row['tool']}'" if row["tool"] else ""
    named = [f"{name} '{row[name]}'" for name in ("case", "evidence", "examiner") if row[name]]
    details = f"; {', '.join(named)}" if named else ""
    size = size_in_words(row["media_bytes"])
    yield f"{row['kind']} image of {size} in {segments} file{'s' * (segments > 1)}{tool}{details}."
    yield from _verified(case.facts, row)
    for first in row["unread"] or ():
        last = first["first_sector"] + first["sectors"] - 1
        yield f"The acquirer could not read the sectors {first['first_sector']:,} to {last:,} of the disk."
    yield from _noted(case.facts, row)
    yield from row["problems"] or ()
    yield from _copies(case)
    yield from case.problems


def _copies(case: Case) -> Iterator[str]:
    """When the shadow copies of each volume were made."""
    volumes: dict[str, list[ShadowCopy]] = {}
    for copy in case.copies:
        volumes.setdefault(copy.volume.partition("@")[0], []).append(copy)
    for volume, copies in volumes.items():
        times = [case.clock.full(copy.created) if copy.created else "at an unknown time" for copy in copies]
        if len(times) > _DATES:
            times = [*times[: _DATES - 1], "...", times[-1]]
        yield f"{volume} has shadow copies ({len(copies):,}), made: {'; '.join(times)}."


def _noted(facts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Iterator[str]:
    """What the imaging program has noted beside the image, and whether the digests in it are those of the image."""
    notes = row["sidecar"]
    if not notes:
        return
    made = f" by {notes['tool']}" if notes.get("tool") else ""
    yield f"Beside it are notes{made}: {notes['file']}."
    computed = {fact["name"]: fact["value"]["computed"] for fact in facts if fact["kind"] == "digest"}
    for name in DIGESTS:
        for what, other in (("its content has", computed.get(name)), ("it has stored", row[f"{name}_stored"])):
            if name in notes and other and notes[name] != other:
                yield f"THE NOTES DIFFER: their {name.upper()} is {notes[name]}, and {what} {other}."
    if same := [name.upper() for name in DIGESTS if name in notes and notes[name] == computed.get(name)]:
        yield f"Its content has the {' and '.join(same)} of the notes."
    if unread := notes.get("unread"):
        sectors = sum(one["sectors"] for one in unread)
        yield f"The notes say that {sectors:,} sectors of the disk could not be read: {_ranges(unread)}."


def _verified(facts: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Iterator[str]:
    every = [fact["value"]["result"] for fact in facts if fact["kind"] == "verification"]
    results = sorted(every, key="not computed".__eq__)  # an image may have been verified in both ways
    stored = [name.upper() for name in DIGESTS if row[f"{name}_stored"]]
    digests = " and ".join(stored)
    if not results:
        yield "Its content was not verified." if stored else "No digest is stored with it."
    elif results[0] == "not computed" and stored:
        are, were = ("are", "were") if len(stored) > 1 else ("is", "was")
        yield f"Each of its chunks was checked; the {digests} that {are} stored with it {were} not computed."
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
    damaged = [fact["value"] for fact in facts if fact["kind"] == "damage"]
    ranges = sorted({(one["first_sector"], one["sectors"]) for one in damaged})
    damage = [{"first_sector": first, "sectors": sectors} for first, sectors in ranges]
    if damage:
        sectors = sum(one["sectors"] for one in damage)
        yield f"{sectors:,} of its sectors are damaged: {_ranges(damage)}."


def _ranges(found: Sequence[Mapping[str, Any]]) -> str:
    """The first of some ranges of sectors, and how many more there are."""
    more = f" and {len(found) - 3:,} more range{'s' * (len(found) > 4)}" if len(found) > 3 else ""
    return ", ".join(_range(one) for one in found[:3]) + more


def _range(damage: Mapping[str, Any]) -> str:
    return f"{damage['first_sector']:,} to {damage['first_sector'] + damage['sectors'] - 1:,}"
