"""A report as text: for a terminal, and as Markdown."""

from collections.abc import Iterator
from textwrap import wrap

from fanfold.evidence.report.findings import Finding
from fanfold.evidence.report.report import Report
from fanfold.evidence.report.rules.sources import in_words

_REFS = 4  # records that a sentence names


def lines(report: Report, width: int = 100) -> Iterator[str]:
    """The lines of a report; every sentence has its status, and the records that it rests on."""
    yield report.title
    for sentence in [*report.container, *report.sources]:
        yield from wrapped(sentence, width, initial_indent="  ", subsequent_indent="  ")
    for section in report.sections:
        yield ""
        yield section.title.upper()
        for finding in section.findings:
            yield from _finding(finding, width, 1)
            for detail in finding.details:
                yield from _finding(detail, width, 3)
        yield from wrapped(in_words(section.sources), width, initial_indent=" ", subsequent_indent="   ")
    yield ""
    yield from wrapped(
        "Show a record with: fanfold evidence show DATABASE RECORD. "
        "This report is a lead for an examiner, not an opinion.", width,
    )  # fmt: skip


def wrapped(text: str, width: int, **indents: str) -> list[str]:
    """A text in lines. Names are not broken at their hyphens."""
    return wrap(text, width, break_on_hyphens=False, break_long_words=False, **indents)  # type: ignore[arg-type]


def _finding(finding: Finding, width: int, indent: int) -> Iterator[str]:
    """A sentence and, below it, its status, its reason and its records."""
    space = " " * indent
    yield from wrapped(finding.text, width, initial_indent=space, subsequent_indent=f"{space}  ")
    yield from wrapped(grounds(finding), width, initial_indent=f"{space}    ", subsequent_indent=f"{space}    ")


def grounds(finding: Finding) -> str:
    """How far a sentence holds, and what it rests on: likely, since ... [Security#51234]."""
    reason = f": {finding.reason}" if finding.reason else ""
    return f"{finding.status}{reason}{references(finding)}"


def references(finding: Finding) -> str:
    """The records of a sentence, in brackets; empty if it has none."""
    refs = [*finding.refs, *finding.files]
    more = f", and {len(refs) - _REFS} more" if len(refs) > _REFS else ""
    return f" [{', '.join(refs[:_REFS])}{more}]" if refs else ""


def markdown(report: Report) -> Iterator[str]:
    """The lines of a report in Markdown."""
    yield f"# {_escaped(report.title)}"
    yield ""
    for sentence in [*report.container, *report.sources]:
        yield f"{_escaped(sentence)}  "
    for section in report.sections:
        yield ""
        yield f"## {section.title}"
        yield ""
        for finding in section.findings:
            yield f"- {_escaped(finding.text)} *{_escaped(grounds(finding))}*"
            for detail in finding.details:
                yield f"  - {_escaped(detail.text)} *{_escaped(grounds(detail))}*"
        if section.sources:
            yield ""
            yield _escaped(in_words(section.sources))


def printable(text: str) -> str:
    """A text in which control characters, and those that turn the direction of writing, are escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _escaped(text: str) -> str:
    """A text without what Markdown, or HTML in it, would take for its own."""
    text = printable(text)
    for mark in "\\`*_[]<>#|&~":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("://", ":\\//")
