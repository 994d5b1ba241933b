"""What `probe` shows."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fanfold.cli import show
from fanfold.tls.cells import SMALLEST_DUMMY
from fanfold.tls.probe.known import Known
from fanfold.tls.probe.search import SERVER, Answer, Limit

if TYPE_CHECKING:
    from fanfold.tls.probe.probe import Probed, Row

_ENDED = {
    "client alert": "the client sends the alert",
    "client close": "the client ends it",
    "server error": "our server ends it",
    "timeout": "the client hangs",
}
COLUMNS = ("client", "version", "limit", "certificates", "bytes", "ML-DSA", "date", "how")
"""Columns of the table of known clients."""
_LONGEST = 160
"""Characters of a client's words that are shown."""


@contextmanager
def asking() -> Iterator[Callable[[str, Answer], None]]:
    """Show on a terminal what the client was asked last."""
    with show.err.status("Asking the client ...") as status:
        yield lambda what, answer: status.update(f"{what}: {answer.outcome}")


def probed(found: "Probed", as_json: bool) -> None:
    """What a client accepts: its limits, then the schemes."""
    if as_json:
        show.put_json(_as_json(found))
        return
    lines = [_count(found), *_bytes(found), *_flaky(found.count, "certificates more"), *_flaky(found.bytes, "B")]
    lines += [_verdict(found), *_real(found.rows), *_by_size(found.rows)]
    for line in lines:
        show.line(line)


def _count(found: "Probed") -> str:
    most, limit = found.most_certificates, found.count
    if limit.refused is None:
        return f"Certificates: {most:,} are accepted, {SMALLEST_DUMMY} B each; no limit found."
    if found.limits_count:
        return f"Certificates: {most:,} are accepted, {most + 1:,} are not: {_ended(limit.at_limit)}."
    return f"Certificates: {most:,} are accepted; one more has too many bytes, which is not a limit of their number."


def _bytes(found: "Probed") -> list[str]:
    limit = found.bytes
    if limit.most is None:
        return ["Bytes: not known, because no certificate more is accepted."]
    most = f"Bytes: a message of certificates that has {found.most_bytes:,} B is accepted"
    if limit.refused is None:
        return [f"{most}; no limit found."]
    lines = [f"{most}, one that has {found.message(1, limit.refused):,} B is not: {_ended(limit.at_limit)}."]
    if limit.at_double and limit.at_limit and _differ(limit.at_double, limit.at_limit):
        lines.append(f"  With {found.message(1, min(limit.cap, 2 * limit.most)):,} B: {_ended(limit.at_double)}.")
    if found.one_certificate:
        lines.append(
            f"  It is a limit of one certificate: of {limit.most:,} B. Two with more bytes together are accepted."
        )
    return lines


def _differ(one: Answer, other: Answer) -> bool:
    return (one.outcome, one.by, one.alert) != (other.outcome, other.by, other.alert)


def _flaky(limit: Limit, of: str) -> Iterator[str]:
    for size, counts in limit.flaky.items():
        said = ", ".join(f"{outcome} {count}" for outcome, count in counts.items())
        yield f"Flaky at {size:,} {of}: {said}."


def _verdict(found: "Probed") -> str:
    count = f"count {found.most_certificates:,}"
    most = f"bytes {found.most_bytes:,}"
    says = {"count": count, "bytes": most, "both": f"{count} and {most}", "none": "none found", "flaky": "flaky"}
    return f"Limit: {says[found.kind]} ({found.tls})."


def _ended(answer: Answer | None) -> str:
    """the client sends the alert illegal_parameter ("excessive message size")"""
    if answer is None:
        return "not asked"
    who = f"{_ENDED[answer.by]} {answer.alert}".strip()
    words = _telling(answer.text)
    return f'{who} ("{words}")' if words else who


def _telling(text: str) -> str:
    """The line that says what is wrong: the last one of our server, or that has such a word, or the last one of all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[-1].startswith(SERVER):
        return lines[-1].removeprefix(SERVER)
    telling = [line for line in lines if re.search("error|exception|alert|fail|too ", line, re.IGNORECASE)]
    return next(reversed(telling or lines), "")[:_LONGEST]


def _real(rows: "Sequence[Row]") -> Iterator[str]:
    """The schemes that we sign with."""
    schemes: dict[str, list[Row]] = {}
    for row in rows:
        if row.real:
            schemes.setdefault(row.scheme, []).append(row)
    every = [name for name, some in schemes.items() if all(row.outcome == "accepted" for row in some)]
    if every:
        yield f"Accepted with every profile: {', '.join(every)}."
    refusals: dict[str, list[str]] = {}
    for name, some in schemes.items():
        if name not in every:
            refusals.setdefault(_refusal(some), []).append(name)
    for refusal, names in refusals.items():
        yield f"{', '.join(names)}: {refusal}."


def _refusal(rows: "Sequence[Row]") -> str:
    """How far a client goes with a scheme, the smallest chain first."""
    taken = [row.profile for row in rows if row.outcome == "accepted"]
    first = next(row for row in rows if row.outcome != "accepted")
    ended = _ended(first.answer) if first.answer else "flaky"
    if not taken:
        return f"not accepted with any profile: {ended}"
    return f"accepted with {', '.join(taken)}; not with {first.profile} ({first.certificates:,} B): {ended}"


def _by_size(rows: "Sequence[Row]") -> Iterator[str]:
    """The schemes whose size alone was tried."""
    profiles: dict[str, list[Row]] = {}
    for row in rows:
        if not row.real:
            profiles.setdefault(row.profile, []).append(row)
    if profiles:
        yield (
            "Other schemes, by certificates of their size that are signed with ECDSA-P256 "
            "(a signature of the handshake that is as large was not tried):"
        )
    for profile, some in profiles.items():
        refused = [f"{row.scheme} ({row.certificates:,} B)" for row in some if row.outcome != "accepted"]
        yield f"  {profile}: {'all are accepted' if not refused else 'all but ' + ', '.join(refused)}"


def _as_json(found: "Probed") -> dict[str, Any]:
    return {
        "command": found.command,
        "tls": found.tls,
        "limit": found.kind,
        "most_certificates": found.most_certificates,
        "most_bytes": found.most_bytes,
        "of_one_certificate": found.one_certificate,
        "count": _limit_as_json(found.count),
        "bytes": _limit_as_json(found.bytes),
        "schemes": [asdict(row) for row in found.rows],
    }


def _limit_as_json(limit: Limit) -> dict[str, Any]:
    return asdict(limit) | {"flaky": {str(size): dict(counts) for size, counts in limit.flaky.items()}}


def known(clients: Sequence[Known], as_json: bool) -> None:
    """What clients are known to accept, one a line."""
    if as_json:
        show.put_json({"clients": [asdict(one) | {"date": one.date.isoformat()} for one in clients]})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        right = column in ("certificates", "bytes")
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in ("how", "version"))
    for one in clients:
        table.add_row(*map(Text, known_row(one)))
    show.out.print(table)


def known_row(one: Known) -> tuple[str, ...]:
    """A client's line."""
    ml_dsa = {True: "yes", False: "no", None: "-"}[one.ml_dsa]
    count = one.most_certificates or (one.certificates or 0)
    certificates = f"{'' if one.most_certificates else '>= '}{count:,}" if one.certificates else "-"
    size = f"{'' if one.kind in ('bytes', 'both') else '>= '}{one.bytes:,} B" if one.bytes else "-"
    kind = one.kind + (", of one certificate" if one.one else "") + (", hangs" if one.ended == "timeout" else "")
    return one.client, one.version, kind, certificates, size, ml_dsa, one.date.isoformat(), one.by
