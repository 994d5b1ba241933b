"""The whole of an analysis: read, pair, count, estimate; draw, if asked to."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fanfold.tls.analysis import model
from fanfold.tls.analysis.bins import Range, Ranges, is_width, ranges
from fanfold.tls.analysis.clusters import effects
from fanfold.tls.analysis.estimates import estimated, missing
from fanfold.tls.analysis.inputs import batches, size_of
from fanfold.tls.analysis.missing import Rate
from fanfold.tls.analysis.pairs import LOSSES, TIMES, Pairs, attributed
from fanfold.tls.analysis.quantiles import DRAWS
from fanfold.tls.analysis.results import Analysis, Bin, By, Split
from fanfold.tls.analysis.rows import CONTROL, RECORD, Cleaner
from fanfold.tls.analysis.settings import Settings, middle_of
from fanfold.tls.analysis.spill import Spill
from fanfold.tls.analysis.splits import split
from fanfold.tls.network import MSS

QUANTILES = (0.5, 0.75)
_PART = 16 << 20  # bytes of the source that are paired at a time, more or less
_PARTS = 1024  # at most
_READ = 0.25  # the share of the time that it takes to read and pair the rows, more or less
_NOT_A_BIN = 1 << 20  # the place of the splits among the streams of random numbers


def analyze(
    source: str | os.PathLike[str],
    *,
    by: By = "n",
    bins: Ranges | None = None,
    quantiles: Sequence[float] = QUANTILES,
    paired: bool = False,
    max_n: int = 99,
    dummy_bytes: int = 1000,
    initcwnd: int | None = None,
    base_bytes: int | None = None,
    mss: int = MSS,
    draws: int = DRAWS,
    seed: int = 1,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Analysis:
    """Analyze pairs of handshakes: slowdown by size, missing connections, and which sizes hurt.

    Memory is bounded: rows go through temporary files, so it depends on the largest bin, not on the number of rows.

    Args:
        source: A store of `serve`, a CSV, JSON Lines or Parquet file, or a database with a table of these columns:
            `key`, `role` (control or live), `n` (dummy certificates of the pair's live connection), `prefix` or `ip`,
            `handshake_ms`. If there are `initcwnd` and `first_flight_bytes`, the walls are drawn from them.
        by: What bins are given in, and tables are labelled with: certificates, or thousands of bytes.
        bins: A width, or ranges; each n by default. See `bins.ranges`.
        quantiles: Those of the times that are estimated.
        paired: The slowdown is the quantile of the pairs' ratios, instead of the ratio of the quantiles.
        max_n: The largest n; a live connection with another one is dropped.
        dummy_bytes: Bytes of a dummy certificate.
        initcwnd: The server's initial window in segments, where the data do not say it.
        base_bytes: The first flight of a control, where the data do not say it.
        mss: Bytes of a segment.
        draws: Resamples of the prefixes, for intervals.
        seed: Where random numbers start.
        out: A folder for plots and a page. This needs matplotlib, from the extra `tls`.
        progress: Called with the fraction that is done.

    Raises:
        UsageError: The file is not a table of handshakes.
        StorageError: It cannot be read.
        MissingExtra: Plots are asked for, and matplotlib is not installed.
    """
    settings = Settings(
        by=by,
        bins=bins,
        quantiles=tuple(quantiles),
        paired=paired,
        max_n=max_n,
        dummy_bytes=dummy_bytes,
        initcwnd=initcwnd,
        base_bytes=base_bytes,
        mss=mss,
        draws=draws,
        seed=seed,
    )
    if out is None:
        return _analyzed(os.fspath(source), settings, progress)
    from fanfold.tls import pages
    from fanfold.tls.analysis import page  # matplotlib is an extra: without it, this fails before the work

    folder = pages.made(Path(out))
    analysis = _analyzed(os.fspath(source), settings, progress)
    page.write(analysis, folder)
    return analysis


def _analyzed(source: str, settings: Settings, progress: Callable[[float], None]) -> Analysis:
    with TemporaryDirectory(prefix="fanfold-tls-") as temporary:
        pairs, cleaner = _paired(source, Path(temporary), settings.max_n)
        bins = tuple(_estimated(pairs, settings, progress))
        found = split(pairs.controls, pairs.lost_lives, np.random.default_rng([settings.seed, _NOT_A_BIN]))
        attributions, prefixes = attributed(pairs.losses, [one.above for one in found.found])
        every = range(1, settings.max_n + 1)
        groups = [every, *(side for one in found.found for side in one.sides)]
        whole, *sides = effects(pairs.losses, groups, settings.max_n)
        splits = [one.with_effects([a[CONTROL], b[CONTROL]])
                  for one, a, b in zip(found.found, sides[::2], sides[1::2], strict=True)]  # fmt: skip
    window = settings.initcwnd or _most_common(cleaner.windows)
    base_bytes = settings.base_bytes or _most_common(cleaner.flights)
    return Analysis(
        source=source,
        rows=cleaner.rows,
        dropped={reason: count for reason, count in cleaner.dropped.items() if count},
        keys=pairs.keys,
        both=pairs.both,
        prefixes=prefixes,
        by=settings.by,
        quantiles=settings.quantiles,
        paired=settings.paired,
        dummy_bytes=settings.dummy_bytes,
        draws=settings.draws,
        seed=settings.seed,
        missing=missing(pairs, every, whole),
        controls_without_n=Rate.counted(int(pairs.lost_lives[0]), int(pairs.controls[0])),
        bins=bins,
        splits=tuple(Split(one, prefix) for one, prefix in zip(splits, attributions, strict=True)),
        visible=found.visible,
        initcwnd=window,
        model=_modelled(bins, settings, base_bytes, window),
    )


def _paired(source: str, folder: Path, max_n: int) -> tuple[Pairs, Cleaner]:
    """Read the source, and bring the connections of each pair together."""
    parts = min(_PARTS, 1 + size_of(source) // _PART)
    records = Spill(folder, "records", RECORD, parts)
    cleaner = Cleaner(max_n)
    malformed = Counter[str]()
    for batch in batches(source, malformed):
        some = cleaner.records(batch)
        records.add(some, some["key"] % parts)
    cleaner.rows += malformed.total()
    cleaner.dropped.update(malformed)
    pairs = Pairs(max_n, Spill(folder, "times", TIMES, max_n + 1), Spill(folder, "losses", LOSSES, parts))
    for part in records.parts:
        pairs.add(records.read(part), cleaner.dropped)
    return pairs, cleaner


def _estimated(pairs: Pairs, settings: Settings, progress: Callable[[float], None]) -> Iterator[Bin]:
    """All bins, each with random numbers of its own."""
    chosen = _ranges(pairs, settings)
    by_bin = effects(pairs.losses, [one.numbers for one in chosen], settings.max_n)
    for number, one in enumerate(chosen):
        progress(_READ + (1 - _READ) * number / len(chosen))
        yield estimated(pairs, one, by_bin[number], settings, np.random.default_rng([settings.seed, number]))


def _ranges(pairs: Pairs, settings: Settings) -> list[Range]:
    """The bins asked for; those without bounds reach up to the largest n that there is."""
    largest = settings.max_n
    if is_width(settings.bins):
        there = (pairs.controls + pairs.lives + pairs.issued)[1:].nonzero()[0]
        largest = int(there[-1]) + 1 if len(there) else 0
    return ranges(settings.bins, settings.by, settings.dummy_bytes, largest)


def _modelled(
    bins: Sequence[Bin], settings: Settings, base_bytes: int | None, window: int | None
) -> model.Model | None:
    """The model, fitted to the slowdown at the quantile nearest to the median."""
    middle = middle_of(settings.quantiles)
    known = [(one.kb * 1000, value + 1) for one in bins if (value := one.slowdown[middle].value) is not None]
    walls = model.walls(window, settings.mss) if window and base_bytes else ()
    return model.fit([extra for extra, _ in known], [factor for _, factor in known], base_bytes or 0, walls)


def _most_common(seen: Mapping[float, int]) -> int | None:
    return int(max(seen, key=lambda value: (seen[value], value))) if seen else None
