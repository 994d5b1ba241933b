"""Weighted quantiles, their intervals, the rates and the splits of `fanfold.tls.analysis`: the parts without files."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanfold.tls.analysis import model
from fanfold.tls.analysis.missing import Rate, difference, wilson
from fanfold.tls.analysis.quantiles import Resampling, Sample, interval, resampled, weighted_quantile
from fanfold.tls.analysis.splits import split

ROWS = st.lists(st.tuples(st.integers(1, 12).map(float), st.integers(0, 6)), min_size=1, max_size=60)
"""Values, many of them equal, each with the number of its prefix."""
QS = st.integers(1, 99).map(lambda percent: percent / 100)


def by_definition(rows: Sequence[tuple[float, int]], q: Fraction) -> float:
    """The quantile in exact arithmetic, as the specification words it."""
    rows_of = [prefix for _, prefix in rows]
    weighted = sorted((value, Fraction(1, rows_of.count(prefix))) for value, prefix in rows)
    total = sum(weight for _, weight in weighted)
    return min(v for v, _ in weighted if sum(weight for value, weight in weighted if value <= v) >= q * total)


@given(ROWS, st.integers(1, 99))
def test_a_quantile_is_what_exact_fractions_give(rows: list[tuple[float, int]], percent: int) -> None:
    """Thirds that do not add up to one in floating point make no difference, whatever q is."""
    values, prefixes = zip(*rows, strict=True)
    assert weighted_quantile(values, prefixes, percent / 100) == by_definition(rows, Fraction(percent, 100))


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=80), st.data(), QS)
def test_a_quantile_is_that_of_numpy(values: list[float], data: st.DataObject, q: float) -> None:
    """numpy's inverted_cdf gives the same value; where the weights meet q exactly, one of two neighbours."""
    prefixes = data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))
    weights = 1 / np.bincount(prefixes)[prefixes]
    ours = weighted_quantile(values, prefixes, q)
    near = {
        float(np.quantile(values, at, weights=weights, method="inverted_cdf"))
        for at in (max(0.0, q - 2e-9), q, min(1.0, q + 2e-9))
    }
    assert ours in near


@given(ROWS, QS, st.floats(0.5, 100))
def test_a_quantile_follows_the_unit(rows: list[tuple[float, int]], q: float, unit: float) -> None:
    """Times in another unit have their quantile in that unit, and the order of the rows does not matter."""
    values, prefixes = zip(*rows, strict=True)
    scaled = weighted_quantile([value * unit for value in values[::-1]], prefixes[::-1], q)
    assert scaled == weighted_quantile(values, prefixes, q) * unit  # type: ignore[operator]


def test_without_values_there_is_no_quantile() -> None:
    """Nothing is None, not 0 or NaN."""
    assert weighted_quantile([], [], 0.5) is None


@given(ROWS, st.integers(0, 1000))
def test_a_resample_is_a_sample_with_prefixes_repeated(rows: list[tuple[float, int]], seed: int) -> None:
    """The quantiles of a resample are those of a sample in which each prefix drawn is written out as a new one."""
    values, prefixes = (np.array(column) for column in zip(*rows, strict=True))
    sample = Sample.of(values, prefixes)
    counts = np.random.default_rng(seed).integers(0, 3, (5, 7)).astype(float)
    drawn = Resampling.of(sample, 7, (0.25, 0.5, 0.9)).quantiles(counts)
    for row, count in zip(drawn, counts, strict=True):
        written = [(value, f"{prefix}.{copy}") for value, prefix in rows for copy in range(int(count[prefix]))]
        for found, q in zip(row, (0.25, 0.5, 0.9), strict=True):
            expected = weighted_quantile([v for v, _ in written], [p for _, p in written], q)
            assert (None if np.isnan(found) else found) == expected


def test_many_rows_of_few_prefixes_are_resampled_right() -> None:
    """The rows around a quantile are enough, also where a resample's quantile is far away from the sample's."""
    random = np.random.default_rng(3)
    prefixes = np.repeat(np.arange(30), 400)
    values = random.normal(prefixes, 0.1)  # each prefix has values of its own
    sample = Sample.of(values, prefixes)
    counts = np.vstack([*resampled(30, 20, random), np.eye(30)[[0, 29]] * 30])
    drawn = Resampling.of(sample, 30, (0.5,)).quantiles(counts)[:, 0]
    for found, count in zip(drawn, counts, strict=True):
        weights = count[prefixes]  # whole numbers, whose sums are exact
        assert found == np.quantile(values, 0.5, weights=weights, method="inverted_cdf")


def test_a_resample_has_as_many_prefixes_as_there_are() -> None:
    """Each draw takes as many prefixes as there are, with equal chances."""
    counts = np.vstack(list(resampled(50, 2000, np.random.default_rng(1))))
    assert counts.shape == (2000, 50)
    assert set(counts.sum(axis=1)) == {50}
    assert abs(counts.mean(axis=0) - 1).max() < 0.15
    assert abs(counts.var() - (1 - 1 / 50)) < 0.05


def test_an_interval_covers_the_truth() -> None:
    """Of 200 experiments whose median is known, the interval of 95 % has it in nearly all, and is not far too wide."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        client = random.normal(0, 0.3, 80)  # rows of a prefix are alike, which a bootstrap over rows would miss
        prefixes = np.repeat(np.arange(80), 5)
        values = np.exp(client[prefixes] + random.normal(0, 0.3, 400))
        one = Resampling.of(Sample.of(values, prefixes), 80, (0.5,))
        drawn = np.concatenate([one.quantiles(counts) for counts in resampled(80, 299, random)])
        low, high = interval(drawn[:, 0]) or (0.0, 0.0)
        covered += low <= 1.0 <= high
    assert 180 <= covered <= 199


@pytest.mark.parametrize(
    ("lost", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_as_published(lost: int, of: int, low: float, high: float) -> None:
    """The examples of Newcombe's paper on intervals of a proportion (Statistics in Medicine 17, 857), method 3."""
    assert wilson(lost, of) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_newcombe_is_as_published(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    """The examples of Newcombe's paper on differences of proportions (Statistics in Medicine 17, 873), method 10."""
    found = difference(Rate.counted(*a), Rate.counted(*b))
    assert found
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_rate(of: int, data: st.DataObject) -> None:
    """Intervals are within 0 to 1, and hold the rate; without anything to count there is none."""
    rate = Rate.counted(data.draw(st.integers(0, of)), of)
    assert rate.rate is not None
    assert rate.low is not None
    assert rate.high is not None
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1
    nothing = Rate.counted(0, 0)
    assert (nothing.rate, nothing.low, nothing.high, difference(rate, nothing)) == (None, None, None, None)


def test_a_split_is_where_rates_jump() -> None:
    """Two jumps are found where they are, with their differences, and nothing else is."""
    controls = np.array([0] + [5000] * 59)
    lost = np.array([0] + [50] * 9 + [150] * 20 + [400] * 30)
    found = split(controls, lost, np.random.default_rng(1)).found
    assert [(one.above, round(one.more.value, 4), one.p) for one in found] == [(9, 0.02, 0.001), (29, 0.0562, 0.001)]
    assert all(one.more.low < one.more.value < one.more.high for one in found)


def test_fewer_missing_above_is_no_split() -> None:
    """Only sizes above which more go missing hurt."""
    controls, lost = np.array([0] + [5000] * 20), np.array([0] + [400] * 10 + [50] * 10)
    assert split(controls, lost, np.random.default_rng(1)).found == ()


@pytest.mark.parametrize(
    ("controls", "lost"),
    [([0], [0]), ([0, 0, 0], [0, 0, 0]), ([0, 9], [0, 9]), ([0, 5, 5], [0, 0, 0]), ([0, 5, 5], [0, 5, 5]),
     ([7, 0, 5], [7, 0, 2]), ([0, 0, 9, 0], [0, 0, 4, 0])],
)  # fmt: skip
def test_nothing_to_split(controls: list[int], lost: list[int]) -> None:
    """Without two sizes to compare, or if none or all are missing, there is no split and no warning."""
    found = split(np.array(controls), np.array(lost), np.random.default_rng(1))
    assert found.found == ()
    assert all(np.isfinite(jump) and 0 < jump <= 1 for jump in found.visible.values())


def test_a_jump_is_visible_also_where_nothing_is_missing() -> None:
    """20,000 pairs of which none is missing would have shown a jump of a few in a thousand."""
    found = split(np.array([0] + [340] * 59), np.zeros(60, np.int64), np.random.default_rng(1))
    assert found.found == ()
    assert 0.0005 < found.visible[29] < 0.003


def test_a_jump_of_the_size_that_is_visible_is_found_in_most_experiments() -> None:
    """The size that is said to be found in 8 of 10 experiments is found in about as many, and half of it seldom."""
    random = np.random.default_rng(7)
    controls = np.array([0] + [340] * 59)  # about 20,000 pairs
    base = random.binomial(controls, 0.024)
    jump = split(controls, base, random).visible[29]
    shares = []
    for size in (jump, jump / 2):
        rates = np.where(np.arange(60) > 29, 0.024 + size, 0.024)
        shares.append(
            np.mean([bool(split(controls, random.binomial(controls, rates), random).found) for _ in range(100)])
        )
    assert 0.7 <= shares[0] <= 0.95
    assert shares[1] < 0.4


def test_the_article_is_a_link_of_86_kb_in_a_round_trip() -> None:
    """20 % at 17 kB and 40 % at 35 kB come from one number, 86 kB: section 5.3 of the specification."""
    fitted = model.fit([17_000, 35_000], [1.2, 1.4], 0, ())
    assert fitted
    assert fitted.bytes_per_rtt == pytest.approx(86_000, rel=0.02)
    assert fitted.factors == pytest.approx([1.2, 1.41], abs=0.01)
    assert fitted.farthest < 0.01


def test_walls_are_those_of_slow_start() -> None:
    """Initial windows of 10 and 30 segments have their walls where Linux has them, to the byte."""
    assert model.walls(10, 1448)[:3] == (14_480, 43_440, 101_360)
    assert model.walls(30, 1448)[:2] == (43_440, 130_320)


def test_a_wall_costs_a_round_trip() -> None:
    """On a fast link, a byte above the wall takes one round trip more; on a slow one, the wall cannot be seen."""
    fast = model.fit([11_000, 12_000], [1.0, 2.0], 2645, model.walls(10, 1448))
    assert fast
    assert fast.factors == pytest.approx([1.0, 2.0], abs=0.01)
    slow = model.fit([5_000, 10_000, 20_000], [2.0, 3.0, 5.0], 0, model.walls(10, 1448))
    assert slow
    assert slow.factors == pytest.approx([2.0, 3.0, 5.0], rel=0.01)
