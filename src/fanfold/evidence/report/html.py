"""A report as one HTML file: no script, nothing from the network, to be read on a screen or on paper.

Every text is escaped: an attacker may have chosen the name of a device.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape

import fanfold
from fanfold.evidence.report.case import Case
from fanfold.evidence.report.findings import Finding
from fanfold.evidence.report.record import short_provider, values_in_line
from fanfold.evidence.report.report import VERSION, Report, Section
from fanfold.evidence.report.rules.sources import LOGS, in_words
from fanfold.evidence.report.text import printable
from fanfold.evidence.tables import short_log

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --faint: #667; --line: #d8dce2; --soft: #f4f6f8;
  --shown: #14703c; --likely: #0b5cad; --possible: #8a5a00; --unknown: #7a3e9d; --cannot: #a02020; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --paper: #15181c; --faint: #9aa3ad; --line: #333a42;
  --soft: #1d2126; --shown: #6fcf97; --likely: #74b3f5; --possible: #e0b15a; --unknown: #c79be0; --cannot: #f08a8a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0 0 .25rem; font-size: 1.6rem; } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; border-bottom: 1px solid
  var(--line); padding-bottom: .25rem; break-after: avoid; }
p { margin: .25rem 0; } .about { color: var(--faint); } .warning { color: var(--cannot); font-weight: 600; }
ul { list-style: none; margin: 0; padding: 0; } li { margin: .6rem 0; padding-left: .75rem; border-left: 3px solid
  var(--line); break-inside: avoid; } li ul { margin-left: .75rem; }
li.shown { border-color: var(--shown); } li.likely { border-color: var(--likely); }
li.possible { border-color: var(--possible); } li.not { border-color: var(--unknown); }
li.cannot { border-color: var(--cannot); }
.grounds { color: var(--faint); font-size: .875rem; } .grounds b { font-weight: 600; }
.shown > .grounds b { color: var(--shown); } .likely > .grounds b { color: var(--likely); }
.possible > .grounds b { color: var(--possible); } .not > .grounds b { color: var(--unknown); }
.cannot > .grounds b { color: var(--cannot); }
code a { color: inherit; } code { font: .8125rem/1.4 ui-monospace, "Cascadia Mono", monospace; }
figure { margin: 1rem 0; } figcaption { color: var(--faint); font-size: .875rem; margin-bottom: .25rem; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; background: var(--soft); border-radius: .4rem; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; } svg .lane { stroke: var(--line); }
svg .bar { fill: var(--likely); opacity: .35; } svg .mark { fill: var(--shown); } svg .usb { fill: var(--possible); }
svg .program { fill: var(--cannot); } svg .power { fill: var(--faint); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; } th { white-space: nowrap; }
th, td { text-align: left; padding: .3rem .5rem;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.number { text-align: right; white-space: nowrap; }
#records table { min-width: 48rem; } #records td:nth-child(1) { min-width: 12.5rem; }
#records td:nth-child(2), #records td:nth-child(3) { min-width: 7rem; }
.wide { overflow-x: auto; } footer { margin-top: 2.5rem; color: var(--faint); font-size: .875rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } @page { margin: 18mm; } svg { border: 1px solid
  var(--line); min-width: 0; } .wide { overflow: visible; } table { font-size: 8.5pt; }
  #records table, #records td:nth-child(n) { min-width: 0; } #records td:nth-child(-n+3) { width: 15%; } }
"""
_LANES = (("logons", "logon.", "mark"), ("USB disks", "usb.", "usb"), ("programs", "program.", "program"),
          ("power", "power.change", "power"))  # fmt: skip
_LEFT, _WIDTH, _LANE = 150, 860, 22  # pixels of a timeline
_NAME = 20  # characters of a lane's name
_MOST_LOGS = 8
_REFS = 8  # records of a sentence
_LONGEST = 1000  # characters of a record's values


def page(report: Report) -> str:
    """The report as a page."""
    title = _text(report.title)
    about = "".join(map(_about, [*report.container, *report.sources]))
    sections = "".join(
        f'<section id="{section.id}"><h2>{_text(section.title)}</h2><ul>'
        f"{''.join(_finding(finding) for finding in section.findings)}</ul>{_sources(section)}</section>"
        for section in report.sections
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{about}{_timelines(report)}{sections}{_records(report)}{_logs(report.case)}"
        "<footer><p>Each sentence says how far it holds. <b>Shown</b>: a sound record says so. <b>Likely</b>: records "
        "say so together, or a recovered one does. <b>Possible</b>: it fits what is recorded, and so do other things. "
        "<b>Not recorded</b>: the machine does not record it, or not any more. <b>Cannot be shown</b>: no log could."
        "</p><p>Records are named LOG#ID; <code>fanfold evidence show DATABASE LOG#ID</code> shows one. This report is "
        f"a lead for an examiner, not an opinion.</p><p>fanfold {fanfold.__version__}, rules {VERSION}, "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</p></footer></body></html>\n"
    )


def _about(sentence: str) -> str:
    """A sentence on what was read. One that begins with words in capitals, such as NOT READ, is a warning."""
    is_warning = all(word.rstrip(":").isalpha() and word.isupper() for word in sentence.split()[:2])
    return f'<p class="{"warning" if is_warning else "about"}">{_text(sentence)}</p>'


def _sources(section: Section) -> str:
    """The logs that a section rests on, and those that are missing."""
    return f'<p class="grounds">{_text(in_words(section.sources))}</p>' if section.sources else ""


def _text(text: str) -> str:
    """A text for a page: control characters, and those that turn the direction of writing, are shown as escapes."""
    return escape(printable(text))


def _finding(finding: Finding) -> str:
    details = "".join(map(_finding, finding.details))
    below = f"<ul>{details}</ul>" if details else ""
    reason = f": {_text(finding.reason)}" if finding.reason else ""
    links = [f'<a href="#{_anchor(ref)}">{_text(ref)}</a>' for ref in finding.refs[:_REFS]]
    links += [_text(file) for file in finding.files]
    more = [f"and {len(finding.refs) - _REFS:,} more"] if len(finding.refs) > _REFS else []
    refs = f" <code>{', '.join([*links, *more])}</code>" if links else ""
    return (
        f'<li class="{finding.status.split()[0]}"><p>{_text(finding.text)}</p>'
        f'<p class="grounds"><b>{finding.status}</b>{reason}{refs}</p>{below}</li>'
    )


def _anchor(ref: str) -> str:
    """The name of a record's place on the page."""
    return "r-" + "".join(c if c.isalnum() and c.isascii() else f"-{ord(c):x}-" for c in ref)


def _records(report: Report) -> str:
    """The records that the sentences rest on, for readers who do not have the database."""
    cited = {record.ref: record for finding in report.findings for record in finding.records[:_REFS]}
    known = {record.ref: record for record in report.case.records if record.ref in cited}
    rows = []
    for ref in sorted(cited, key=lambda ref: (ref.rpartition("#")[0], cited[ref].record_id)):
        record = known.get(ref, cited[ref])
        what = f"{short_provider(record.provider)}/{record.event_id}" if record.provider else ""
        time = f"{record.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] if record.time else ""
        rows.append(
            f'<tr id="{_anchor(ref)}"><td>{_foldable(ref)}</td><td>{_text(time)}</td><td>{_foldable(what)}</td>'
            f"<td>{_text(values_in_line(record.data)[:_LONGEST])}</td></tr>"
        )
    return (
        '<section id="records"><h2>The records</h2><div class="wide"><table><thead><tr><th>record</th><th>time (UTC)'
        f"</th><th>event</th><th>values</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _foldable(name: str) -> str:
    """A name that may be broken at its slashes."""
    return _text(name).replace("/", "/<wbr>")


def _logs(case: Case) -> str:
    """A table of the logs: how far each reaches."""
    rows = []
    for log in case.logs:
        if log["records"]:
            name = short_log(log["path"]) if log["path"] else "free space"
            ids = f"{log['first_record_id']:,} to {log['last_record_id']:,}"
            times = " to ".join(_day(case, log[which]) for which in ("first_time", "last_time"))
            origin = "" if log["origin"] == "live" else f" ({log['origin']})"
            if log["origin"] == "shadow":
                origin = f" (shadow copy {log['volume']})"
            rows.append(
                f'<tr><td>{_text(name + origin)}</td><td class="number">{log["records"]:,}</td><td>{ids}</td>'
                f"<td>{_text(times)}</td><td>{len(log['gaps']) or ''}</td></tr>"
            )
    return (
        '<section id="logs"><h2>The logs</h2><div class="wide"><table><thead><tr><th>log</th><th>records</th>'
        "<th>ids</th><th>times (of the machine)</th><th>gaps</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _day(case: Case, time: datetime | None) -> str:
    return f"{case.clock.local(time):%Y-%m-%d %H:%M}" if time else "?"


def _timelines(report: Report) -> str:
    """The whole time, and the last quarter of an hour, which is not the end of it if the clock was set back."""
    last = report.case.last
    if last is None:
        return ""
    end = last["last_time"]
    timed = [(finding, finding.time) for finding in report.findings if finding.time]
    begin = min([time for _, time in timed if time <= end], default=end - timedelta(hours=1))
    title = "The whole time. A bar reaches from the first record of a log to its last"
    whole, newest = _timeline(report, timed, begin, end, title), last["newest_time"]
    return whole + _timeline(
        report, timed, newest - timedelta(minutes=15), newest, "The 15 minutes before the last record"
    )


def _timeline(report: Report, timed: list[tuple[Finding, datetime]], begin: datetime, end: datetime, title: str) -> str:
    """A timeline: a lane for each kind of finding, and a bar for each of the most telling logs."""
    span = max((end - begin).total_seconds(), 1)

    def x(time: datetime) -> float:
        return _LEFT + _WIDTH * min(1, max(0, (time - begin).total_seconds() / span))

    telling = {name for names in LOGS.values() for name in names}
    logs = sorted(
        (log for log in report.case.logs if log["records"] and log["first_time"] and log["last_time"] >= begin),
        key=lambda log: (short_log(log["path"] or "") not in telling, -log["records"]),
    )[:_MOST_LOGS]
    height = (len(_LANES) + len(logs)) * _LANE + 34
    parts = [*_ticks(report.case, begin, end)]
    y = 38
    for name, prefix, style in _LANES:
        parts.append(_lane(name, y))
        for finding, time in timed:
            if finding.id.startswith(prefix) and begin <= time <= end:
                tip = f"<title>{_text(finding.text)}</title>"
                parts.append(f'<circle class="{style}" cx="{x(time):.1f}" cy="{y}" r="4">{tip}</circle>')
        y += _LANE
    for log in logs:
        name = short_log(log["path"]) if log["path"] else "free space"
        left, right = x(log["first_time"]), x(log["last_time"])
        parts.append(_lane(name, y))
        parts.append(f'<rect class="bar" x="{left:.1f}" y="{y - 5}" width="{max(2, right - left):.1f}" height="10">'
                     f"<title>{_text(name)}: {log['records']:,} records</title></rect>")  # fmt: skip
        y += _LANE
    box = f"0 0 {_LEFT + _WIDTH + 20} {height}"
    drawn = f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure><figcaption>{escape(title)}</figcaption><div class="wide">{drawn}</div></figure>'


def _lane(name: str, y: int) -> str:
    shown = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
    return (
        f'<text x="8" y="{y + 4}">{_text(shown)}</text>'
        f'<line class="lane" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y}" y2="{y}"/>'
    )


def _ticks(case: Case, begin: datetime, end: datetime) -> Iterator[str]:
    """The times at both ends and in the middle."""
    pattern = "%Y-%m-%d %H:%M:%S %Z" if end - begin < timedelta(days=1) else "%Y-%m-%d %H:%M %Z"
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        time = case.clock.local(begin + (end - begin) * part)
        yield f'<text x="{_LEFT + _WIDTH * part}" y="16" text-anchor="{anchor}">{time.strftime(pattern)}</text>'
