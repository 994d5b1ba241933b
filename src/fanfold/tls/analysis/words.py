"""An analysis in words: sentences, and a table of the bins. What the data do not say is "-"."""

from collections.abc import Iterator

from fanfold.tls.analysis.missing import Difference, Rate
from fanfold.tls.analysis.model import Model
from fanfold.tls.analysis.results import Analysis, Bin, Estimate, Split
from fanfold.tls.analysis.rows import BAD_TIME

NOTHING = "-"
MANY_DROPPED = 0.1
"""The share of dropped rows that makes a warning."""
LARGE_EFFECT = 1.5
"""A design effect that a reader must know of."""
SHORT = 0.5
"""Milliseconds in which no handshake over a network is done: computing alone takes longer."""


def sentences(analysis: Analysis) -> Iterator[str]:
    """What goes missing, and which sizes hurt."""
    yield (
        f"{count(analysis.rows, 'row')}: {count(analysis.keys, 'pair')}, of which both connections came for "
        f"{analysis.both:,}; from {count(analysis.prefixes, 'prefix', 'prefixes')}."
    )
    yield dropped(analysis)
    yield from _missing(analysis)
    yield from _sizes(analysis)
    if analysis.model:
        yield _model(analysis)


def warning(analysis: Analysis) -> str:
    """A warning if many rows were dropped, or if times seem to be in another unit; else empty."""
    warnings = []
    if analysis.dropped_share > MANY_DROPPED:
        share = f"{100 * analysis.dropped_share:.0f} %"
        warnings.append(f"{share} of the rows were dropped, so the numbers may say little. {dropped(analysis)}")
    if 2 * analysis.dropped.get(BAD_TIME, 0) > analysis.rows:
        warnings.append("Are the times in microseconds? They must be in milliseconds.")
    usual = [one.control[0].value for one in analysis.bins if one.control and one.control[0].value is not None]
    if usual and max(usual) < SHORT:
        warnings.append(f"Controls take only {max(usual):.2g} ms. Are the times in seconds?")
    return " ".join(warnings)


def dropped(analysis: Analysis) -> str:
    """How many rows were dropped, by reason."""
    reasons = "; ".join(f"{reason}: {number:,}" for reason, number in analysis.dropped.items())
    return f"Rows dropped: {sum(analysis.dropped.values()):,}" + (f" ({reasons})." if reasons else ".")


def _missing(analysis: Analysis) -> Iterator[str]:
    missing = analysis.missing
    yield f"Live connections missing: {_of(missing.live, 'controls')}."
    yield f"Controls missing: {_of(missing.control, 'live connections')}."
    if missing.excess:
        yield f"Excess of missing live connections: {signed(missing.excess)}."
    if (effect := missing.live.effect) >= LARGE_EFFECT:
        yield (
            f"Connections of one prefix go missing together: {effect:.1f} of them tell as much as one that is "
            "independent of all others, and the intervals are as wide."
        )
    if missing.both:
        yield f"Both missing: {_of(missing.both, 'pairs that the server issued')}."
    if (controls := analysis.controls_without_n).of:
        which = "They are" if missing.live.of else "No rate of missing live connections can be given; they are"
        yield (
            f"{count(controls.of, 'control')} without n, {controls.lost:,} of them without a live connection. "
            f"{which} not in the rates above, nor in any bin, unless their live connection says n."
        )
    yield (
        "The article calls both of its rates live connections without control; "
        "here, its second one is taken as controls without live."
    )


def _of(rate: Rate, what: str) -> str:
    return f"{rate.lost:,} of {rate.of:,} {what}" + (f" ({percent(rate)})" if rate.of else "")


def _sizes(analysis: Analysis) -> Iterator[str]:
    """Which sizes hurt, and what else could have been found."""
    rate = analysis.missing.live.rate
    if rate is None:
        yield "No control says its n, so the data do not tell which sizes hurt."
        return
    if not analysis.splits:
        yield "No n was found above which more live connections are missing."
    for one in analysis.splits:
        yield _split(one, analysis)
    if rate < 1:
        yield _visible(analysis)


def _split(one: Split, analysis: Analysis) -> str:
    found, prefixes = one.found, one.prefixes
    among = f", comparing n from {found.first} to {found.last}"
    more = f"{100 * found.more.value:.1f} % more, 95 % {100 * found.more.low:.1f} to {100 * found.more.high:.1f}"
    jump = (
        f"Live connections go missing above {found.above} certificates, {_kb(found.above, analysis)} ({more}, "
        f"p {found.p:.3f}{among})."
    )
    if not prefixes.of:
        return f"{jump} No prefix has enough controls to tell whether it is one of those with this limit."
    share = f"{100 * prefixes.lose_all / prefixes.of:.1f} %"
    return f"{jump} {prefixes.lose_all:,} of {prefixes.of:,} prefixes ({share}) lose all above that, and none up to it."


def _visible(analysis: Analysis) -> str:
    """How small a jump would have been found: at three places, since it depends on the place."""
    jumps = analysis.visible
    if not jumps:
        return "These data are too few to show that any n makes a difference."
    known = sorted(jumps)
    places = dict.fromkeys(known[len(known) * sixth // 6] for sixth in (1, 3, 5))
    shown = ", ".join(f"{100 * jumps[n]:.2g} % above {n}" for n in places)
    return (
        f"A jump of this size would be found in 8 of 10 such experiments: {shown}. "
        "Smaller ones may be there without being found."
    )


def _model(analysis: Analysis) -> str:
    """The model's number, and how well it fits."""
    fitted = analysis.model
    assert fitted
    window = f"with an initial window of {analysis.initcwnd} segments and a first flight of {fitted.base_bytes:,} bytes"
    with_walls = window if fitted.walls else "without walls, since the initial window or the first flight is not known"
    return (
        f"The model that is nearest to the slowdown: {per_rtt(fitted)}, {with_walls}. "
        f"Its factors are off by up to {fitted.farthest:.1%}".replace("%", " %.")
    )


def per_rtt(fitted: Model) -> str:
    """The model's number: 86 kB in a round trip."""
    beyond = f"{'at most' if fitted.bytes_per_rtt < 1e5 else 'at least'} " * fitted.is_bound
    return f"{beyond}{fitted.bytes_per_rtt / 1000:,.0f} kB in a round trip"


def _kb(n: int, analysis: Analysis) -> str:
    return f"{n * analysis.dummy_bytes / 1000:g} kB"


def count(number: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(rate: Rate) -> str:
    """A rate and its interval: 3.71 %, 95 % 3.62 to 3.79."""
    if rate.rate is None or rate.low is None or rate.high is None:
        return NOTHING
    return f"{100 * rate.rate:.2f} %, 95 % {100 * rate.low:.2f} to {100 * rate.high:.2f}"


def signed(some: Difference | None) -> str:
    """A difference of rates and its interval."""
    if some is None:
        return NOTHING
    return f"{100 * some.value:+.2f} %, 95 % {100 * some.low:+.2f} to {100 * some.high:+.2f}"


def table(analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """The heads of a table of all bins, and its rows."""
    names = [f"p{100 * q:g}" for q in analysis.quantiles]
    measured = [f"{what} {name}" for name in names for what in ("control", "live", "slowdown")]
    heads = [analysis.by, "pairs", *measured, "live missing", "control missing", "excess"]
    if analysis.missing.both:
        heads.append("both missing")
    return heads, [_row(one, analysis) for one in analysis.bins]


def _row(one: Bin, analysis: Analysis) -> list[str]:
    measured = [
        text
        for control, live, slowdown in zip(one.control, one.live, one.slowdown, strict=True)
        for text in (_ms(control), _ms(live), _slowdown(slowdown))
    ]
    missing = one.missing
    rates = [_short(missing.live), _short(missing.control), _excess(missing.excess)]
    if analysis.missing.both:
        rates.append(_short(missing.both) if missing.both else NOTHING)
    return [one.label, f"{one.pairs:,}", *measured, *rates]


def _ms(estimate: Estimate) -> str:
    return NOTHING if estimate.value is None else f"{estimate.value:,.1f} ms"


def _slowdown(estimate: Estimate) -> str:
    if estimate.value is None:
        return NOTHING
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:+.1f} %"
    return f"{100 * estimate.value:+.1f} % ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"


def _short(rate: Rate) -> str:
    if rate.rate is None or rate.low is None or rate.high is None:
        return NOTHING
    return f"{100 * rate.rate:.2f} % ({100 * rate.low:.2f} to {100 * rate.high:.2f})"


def _excess(some: Difference | None) -> str:
    return NOTHING if some is None else f"{100 * some.value:+.2f} % ({100 * some.low:+.2f} to {100 * some.high:+.2f})"
