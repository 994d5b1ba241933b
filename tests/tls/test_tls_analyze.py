"""`fanfold.tls.analysis` on data whose answers are known: the synthetic sets (a) to (g) of the specification."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handshakes import COLUMNS, MAX_N, experiment, write_csv, write_parquet
from hypothesis import given
from hypothesis import strategies as st

from fanfold.errors import UsageError
from fanfold.tls.analysis.analyze import analyze
from fanfold.tls.analysis.clusters import effects
from fanfold.tls.analysis.missing import Rate
from fanfold.tls.analysis.pairs import LOSSES
from fanfold.tls.analysis.results import Analysis, Bin
from fanfold.tls.analysis.spill import Spill
from fanfold.tls.analysis.splits import split
from fanfold.tls.analysis.words import sentences, table, warning


def analyzed(tmp_path: Path, rows: Iterable[Iterable[Any]], **options: Any) -> Analysis:
    """The analysis of rows, without resamples unless they are asked for."""
    return analyze(write_csv(tmp_path / "rows.csv", rows), **{"draws": 0} | options)


def only(analysis: Analysis) -> Bin:
    """The only bin."""
    (one,) = analysis.bins
    return one


def values(one: Bin) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """What a bin says of controls, lives and the slowdown."""
    control, live, slowdown = ([estimate.value for estimate in some] for some in (one.control, one.live, one.slowdown))
    return control, live, slowdown


def test_a_large_prefix_counts_once(tmp_path: Path) -> None:
    """(a) A prefix with 10,000 rows of 10 ms and 100 prefixes with one row of 100 ms have the median 100 ms."""
    rows = [[f"a{number}", "live", 3, "192.0.2.7", 10] for number in range(10_000)]
    rows += [[f"b{number}", "live", 3, f"10.0.{number}.1", 100] for number in range(100)]
    analysis = analyzed(tmp_path, rows, draws=99)
    assert values(analysis.bins[2])[1] == [100, 100]
    assert analysis.prefixes == 101
    live = analysis.bins[2].live[0]
    assert (live.low, live.high) == (100, 100)
    assert np.median([row[-1] for row in rows]) == 10


def test_quantiles_of_four_prefixes(tmp_path: Path) -> None:
    """(b) 1, 2, 3 and 4 ms in four prefixes have the median 2 ms and the third quartile 3 ms."""
    rows = [[f"k{ms}", "control", 1, f"10.0.{ms}.1", ms] for ms in (4, 2, 3, 1)]
    assert values(only(analyzed(tmp_path, rows)))[0] == [2, 3]
    assert only(analyzed(tmp_path, rows, draws=99)).control[0].low is None  # too few prefixes


@given(st.permutations([1, 1, 1, 2, 2, 2, 2, 9]))
def test_ties(tmp_path_factory: pytest.TempPathFactory, times: list[int]) -> None:
    """(c) Equal times count together, in any order of the rows."""
    rows = [[f"k{number}", "live", 1, f"10.0.{number}.1", ms] for number, ms in enumerate(times)]
    analysis = analyzed(tmp_path_factory.mktemp("ties"), rows, quantiles=(0.25, 0.375, 0.38, 0.5, 0.875, 0.9))
    assert values(only(analysis))[1] == [1, 1, 2, 2, 2, 9]


@pytest.mark.parametrize("paired", [False, True])
def test_a_slowdown_that_is_exact(tmp_path: Path, paired: bool) -> None:
    """(d) If each live time is the control's by 1 + n/50, the slowdown is n/50 at every quantile and n."""
    random = np.random.default_rng(5)
    rows: list[list[Any]] = []
    for number, n in enumerate(random.integers(1, MAX_N + 1, 6000).tolist()):
        control, ip = float(random.lognormal(3, 1)), f"10.{number % 7}.{number % 200}.9"
        rows.append([f"{number:x}", "control", n, ip, repr(control)])
        rows.append([f"{number:x}", "live", n, ip, repr(control * (1 + n / 50))])
    quantiles = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
    analysis = analyzed(tmp_path, rows, paired=paired, quantiles=quantiles, draws=49)
    assert [one.first for one in analysis.bins] == list(range(1, MAX_N + 1))
    for one in analysis.bins:
        assert len(one.slowdown) == len(quantiles)
        for estimate in one.slowdown:
            assert (estimate.value, estimate.low, estimate.high) == pytest.approx((one.first / 50,) * 3, rel=1e-9)
    assert analysis.both == analysis.keys == 6000


def found(seed: int, **options: Any) -> list[int]:
    """The splits in a made-up experiment, by its counts alone."""
    columns = experiment(seed, **options)
    controls, lives = (
        np.bincount(columns["n"][columns["role"] == role], minlength=MAX_N + 1) for role in ("control", "live")
    )
    splits = split(controls, controls - lives, np.random.default_rng(seed))
    return [one.above for one in splits.found]


def test_the_sizes_that_hurt_are_found(tmp_path: Path) -> None:
    """(e) 1 % of the clients with the limit 9 and 1 % with 29 are found in 20 experiments, and little else is."""
    options: dict[str, Any] = {"clients": 5000, "pairs": 40, "limits": {9: 0.01, 29: 0.01}}
    splits = [found(seed, **options) for seed in range(20)]
    assert sum(any(abs(k - 9) <= 1 for k in some) for some in splits) == 20
    assert sum(any(abs(k - 29) <= 1 for k in some) for some in splits) >= 16
    assert sum(len(some) > 2 for some in splits) <= 4
    columns = experiment(0, **options)
    analysis = analyze(write_parquet(tmp_path / "0.parquet", columns), bins="1-59", draws=0)
    assert analysis.rows == len(columns["key"])
    assert [one.found.above for one in analysis.splits] == splits[0]
    (all_lives,) = {one.missing.live for one in analysis.bins}
    assert analysis.missing.live == all_lives
    # By client, 0.01 (50/59)^2 + 0.01 (30/59)^2 more variance, times 40 pairs, over 0.037 * 0.963 by pair: 11
    assert 10 < all_lives.effect < 12


def test_where_no_size_hurts_none_is_found() -> None:
    """(e) Without limits, at most 5 % of 40 experiments show one."""
    splits = [found(seed, clients=1000, pairs=20) for seed in range(40)]
    assert sum(bool(some) for some in splits) <= 2


@pytest.mark.parametrize("share", [0.0, 0.03])
def test_intervals_of_rates_hold_the_truth(tmp_path: Path, share: float) -> None:
    """Of 200 experiments, intervals of 95 % hold the true rate in about 190, also where a client loses many at once."""
    random, limit, clients, pairs = np.random.default_rng(1), 9, 300, 20
    truth, held = 0.024 + 0.976 * share * (MAX_N - limit) / MAX_N, 0
    for number in range(200):
        has_limit = np.repeat(random.random(clients) < share, pairs)
        rows = np.zeros(clients * pairs, LOSSES)
        rows["prefix"], rows["n"] = np.repeat(np.arange(clients), pairs), random.integers(1, MAX_N + 1, len(rows))
        rows["lost"] = (has_limit & (rows["n"] > limit)) | (random.random(len(rows)) < 0.024)
        losses = Spill(tmp_path, f"losses-{number}", LOSSES, 2)
        losses.add(rows, rows["prefix"] % 2)
        effect = effects(losses, [range(1, MAX_N + 1)], MAX_N)[0, 0]
        rate = Rate.counted(int(rows["lost"].sum()), len(rows), effect)
        assert rate.low is not None
        assert rate.high is not None
        held += rate.low <= truth <= rate.high
    assert 182 <= held <= 198


def test_one_connection_of_each_prefix_has_no_effect(tmp_path: Path) -> None:
    """Connections of different prefixes are independent: their interval is Wilson's, as it is in books."""
    rows = [[k, role, 1, f"10.{k // 200}.{k % 200}.1", 5] for k in range(400) for role in ("control", "live")]
    live = analyzed(tmp_path, [*rows[:600], *rows[600::2]]).missing.live
    assert (live.lost, live.of, live.effect) == (100, 400, pytest.approx(1))
    assert (live.low, live.high) == pytest.approx((0.2101, 0.2946), abs=1e-4)


def test_the_prefixes_with_a_limit_are_counted(tmp_path: Path) -> None:
    """(e) Without losses at random, exactly the clients with a limit lose all above it and nothing up to it."""
    columns = experiment(2, clients=2000, pairs=60, limits={9: 0.02}, lost=0.0)
    analysis = analyze(write_parquet(tmp_path / "e.parquet", columns), bins="1-59", draws=0)
    (split,) = analysis.splits
    assert (split.found.above, split.found.rate_below.lost) == (9, 0)
    assert abs(split.found.more.value - 0.02) < 0.002
    assert 38 <= split.prefixes.lose_all <= 40  # of a few, there are too few controls up to 9
    assert 1940 < split.prefixes.of <= 2000


def test_few_pairs_of_a_prefix_tell_nothing_about_it(tmp_path: Path) -> None:
    """With one pair a prefix, a jump is found, but not whose it is; and n ends where the data do."""
    columns = experiment(2, clients=6000, pairs=1, limits={9: 0.2}, max_n=30)
    analysis = analyze(write_parquet(tmp_path / "e.parquet", columns), draws=0)
    (sentence,) = (text for text in sentences(analysis) if text.startswith("Live connections go missing above 9 "))
    assert "comparing n from 1 to 30). No prefix has enough controls to tell" in sentence


def test_addresses_of_one_prefix(tmp_path: Path) -> None:
    """(f) IPv6 addresses of one /48 are one prefix, and ::ffff:a.b.c.d is one with its IPv4 address."""
    same = ["2001:db8:1::1", "2001:db8:1:ffff::2", "2001:0db8:0001:8000::/52", "2001:DB8:1::"]
    other = ["192.0.2.1", "::ffff:192.0.2.200", "::ffff:c000:0201", "192.0.2.0/24", "::FFFF:192.0.2.9"]
    more = ["2001:db8:2::1", "192.0.3.1", "::192.0.2.1"]
    rows = [[f"k{number}", "live", 1, ip, 5] for number, ip in enumerate(same + other + more)]
    analysis = analyzed(tmp_path, rows)
    assert (analysis.prefixes, analysis.dropped) == (5, {})
    rows += [[f"m{number}", "live", 1, ip, 50] for number, ip in enumerate(("10.0.0.1", "10.0.1.1", "10.0.2.1"))]
    assert values(only(analyzed(tmp_path, rows, quantiles=(0.62, 0.63))))[1] == [5, 50]  # 5 and 3 of 8 prefixes


def test_addresses_are_never_shown(tmp_path: Path) -> None:
    """(f) Neither the numbers nor the page have an address."""
    rows = [[f"{n}-{role}", role, n, "198.51.100.77", 5 + n] for n in range(1, 9) for role in ("control", "live")]
    analysis = analyzed(tmp_path, rows, out=tmp_path / "out")
    texts = [json.dumps(analysis.to_json()), *sentences(analysis)]
    texts += [file.read_text() for file in (tmp_path / "out").glob("*[!g]")]
    assert not any("198.51.100" in text for text in texts)


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    """(g) An empty bin, a bin of one row, and one in which every live connection is missing are not 0 or NaN."""
    rows = [
        *[[f"a{number}", "control", 2, f"10.0.{number}.1", 7] for number in range(40)],
        ["b", "control", 4, "10.1.0.1", 8],
        ["b", "live", 4, "10.1.0.1", 12],
        ["c", "live", 5, "10.1.0.1", 9],
    ]
    analysis = analyzed(tmp_path, rows, draws=99, out=tmp_path / "out")
    empty, lost, third, one, live = analysis.bins
    assert values(empty) == values(third) == ([None] * 2,) * 3
    assert (empty.missing.live.rate, empty.missing.excess) == (None, None)
    assert values(lost) == ([7, 7], [None, None], [None, None])
    assert (lost.missing.live.rate, lost.missing.control.rate) == (1.0, None)
    assert (values(one)[2], one.slowdown[0].low) == ([0.5, 0.5], None)
    assert (live.missing.control.rate, live.missing.live.rate) == (1.0, None)
    heads, lines = table(analysis)
    assert lines[0] == ["1", "0", *["-"] * (len(heads) - 2)]
    assert lines[1] == ["2", "0", "7.0 ms", "-", "-", "7.0 ms", "-", "-", "100.00 % (91.24 to 100.00)", "-", "-"]
    text = json.dumps(analysis.to_json(), allow_nan=False) + (tmp_path / "out" / "index.html").read_text()
    assert "nan" not in text.lower()


def test_nothing_at_all(tmp_path: Path) -> None:
    """(g) A header without rows, and rows that are all dropped, are analyzed: every number is not known."""
    for rows, out in (([], None), ([["a", "spare", 1, "10.0.0.1", 5]], tmp_path / "out")):
        analysis = analyzed(tmp_path, rows, draws=99, out=out)
        assert (analysis.bins, analysis.splits, analysis.model, analysis.missing.live.rate) == ((), (), None, None)
        assert json.dumps(analysis.to_json(), allow_nan=False)
        assert list(sentences(analysis))
    assert "nan" not in (tmp_path / "out" / "index.html").read_text().lower()


def test_missing_connections_are_counted_by_pair(tmp_path: Path) -> None:
    """Controls without live and lives without control are counted by n, and so are pairs of which neither came."""
    rows = [
        ["a", "control", 1, "10.0.0.1", 5], ["a", "live", 1, "10.0.0.1", 6],
        ["b", "control", 1, "10.0.0.1", 5],
        ["c", "live", 1, "10.0.0.1", 6],
        ["d", "control", 2, "10.0.0.1", 5], ["d", "live", 2, "10.0.0.1", 6],
        *[[key, "issued", 1 + (key > "c"), "", ""] for key in "abcdefg"],
    ]  # fmt: skip
    analysis = analyzed(tmp_path, rows)
    first, second = (one.missing for one in analysis.bins)
    assert [(rate.lost, rate.of) for rate in (first.live, first.control)] == [(1, 2), (1, 2)]
    assert [(rate.lost, rate.of) for rate in (second.live, second.control)] == [(0, 1), (0, 1)]
    assert [(one.both.lost, one.both.of) for one in (first, second) if one.both] == [(0, 3), (3, 4)]
    assert (analysis.rows, analysis.keys, analysis.both) == (6, 4, 2)
    assert analysis.missing.excess
    assert analysis.missing.excess.value == 0


def test_controls_without_n_are_in_no_rate_of_lives(tmp_path: Path) -> None:
    """Controls of the article's first kind do not say n: where the live is missing, its n is not known."""
    rows = [["a", "control", None, "10.0.0.1", 5], ["a", "live", 3, "10.0.0.1", 6], ["b", "control", 0, "10.0.0.1", 5]]
    analysis = analyzed(tmp_path, rows)
    assert analysis.missing.live.of == 0
    assert (analysis.controls_without_n.lost, analysis.controls_without_n.of) == (1, 2)
    assert analysis.bins[2].pairs == 1
    assert any("2 controls without n" in sentence for sentence in sentences(analysis))


def test_rows_that_are_dropped_are_counted_by_reason(tmp_path: Path) -> None:
    """Each row that says nothing is counted once, and a connection whose time alone is wrong is not missing."""
    rows = [
        ["a", "control", 1, "10.0.0.1", 5],
        ["a", "live", 1, "10.0.0.1", 0],  # came, so it is not missing
        ["b", "control", 1, "10.0.0.1", 60_000],
        ["b", "live", 1, "10.0.0.1", 60_001],
        ["c", "live", 100, "10.0.0.1", 5],
        ["c", "live", 1.5, "10.0.0.1", 5],
        ["d", "spare", 1, "10.0.0.1", 5],
        ["e", "live", "many", "10.0.0.1", 5],
        ["f", "live", 1, "10.0.0.256", 5],
        ["", "live", 1, "10.0.0.1", 5],
        ["g", "live", 1, "10.0.0.1", "nan"],
        ["a", "control", 1, "10.0.0.1", 9],  # the first one counts
        ["b", "control", 1, "10.0.0.1", -9],
        ["h", "control", 1, "10.0.0.1", "inf"],
        ["h", "control", 1, "10.0.0.1", 7],  # the first one that has a time counts
    ]
    analysis = analyzed(tmp_path, [*rows, ["short"], ["l", "live", 1, "10.0.0.1", 5, "long"]])
    assert analysis.dropped == {
        "cannot be parsed": 7,
        "role is neither control nor live": 1,
        "n is out of range": 2,
        "time is not above 0 and up to 60 s": 3,
        "key came twice in one role": 1,
    }
    assert analysis.rows == 17
    assert values(analysis.bins[0])[0] == [7, 60_000]
    assert (analysis.missing.live.lost, analysis.missing.live.of) == (1, 3)
    assert any(text.startswith("Rows dropped: 14 (cannot be parsed: 7; ") for text in sentences(analysis))


def test_times_in_another_unit_are_noticed(tmp_path: Path) -> None:
    """Seconds and microseconds are analyzed as the milliseconds that they should be, with a question; roles in any case
    are known."""
    rows = [[k, role, 1, f"10.0.{k}.1", ms] for k, ms in enumerate(range(50, 90)) for role in ("Control", " LIVE ")]
    assert warning(analyzed(tmp_path, rows)) == ""
    seconds = [[*row[:-1], row[-1] / 1000] for row in rows]
    assert warning(analyzed(tmp_path, seconds)) == "Controls take only 0.069 ms. Are the times in seconds?"
    microseconds = [[*row[:-1], row[-1] * 1000] for row in rows]
    assert warning(analyzed(tmp_path, microseconds)).endswith(
        "Are the times in microseconds? They must be in milliseconds."
    )


def test_bins_are_ranges_of_certificates_or_of_bytes(tmp_path: Path) -> None:
    """Bins of a width and bins of ranges hold what they say, both ends of n, the upper end of kB."""
    rows = [[f"k{n}", "live", n, "10.0.0.1", 5] for n in range(1, 13)]

    def bins(**options: Any) -> list[tuple[str, int, int, int]]:
        return [(one.label, one.first, one.last, one.lives) for one in analyzed(tmp_path, rows, **options).bins]

    assert bins(bins=5) == [("1-5", 1, 5, 5), ("6-10", 6, 10, 5), ("11-15", 11, 12, 2)]
    assert bins(bins="1-9,10-99") == [("1-9", 1, 9, 9), ("10-99", 10, 99, 3)]
    assert bins(bins="2-2,40-50") == [("2", 2, 2, 1), ("40-50", 40, 50, 0)]
    kb = {"by": "kB", "dummy_bytes": 2500}
    assert bins(bins="0-5,5-10,10-30", **kb) == [("0-5", 1, 2, 2), ("5-10", 3, 4, 2), ("10-30", 5, 12, 8)]
    assert bins(bins=[(0, 7.5)], **kb) == [("0-7.5", 1, 3, 3)]
    assert [label for label, *_ in bins(**kb)][:3] == ["2.5", "5", "7.5"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": "1-5,5-9"}, "overlaps"),
        ({"bins": "9-1"}, "not in ascending order"),
        ({"bins": "200-300"}, "No n from 1 to 99"),
        ({"bins": "some"}, "takes a width, such as 5, or ranges"),
        ({"bins": "0"}, "The width of --bins is a whole number"),
        ({"bins": "1.5"}, "The width of --bins is a whole number"),
        ({"bins": "0.0001", "by": "kB"}, "The width of --bins is at least"),
        ({"by": "MB"}, "--by takes n or kB"),
        ({"quantiles": (50,)}, "--quantile takes numbers between 0 and 1"),
        ({"max_n": 0}, "--max takes a number from 1 to 1,000"),
        ({"initcwnd": 0}, "--initcwnd takes a number from 1"),
        ({"seed": -1}, "--seed takes a number from 0"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """An option that makes no sense is an error that says what would."""
    with pytest.raises(UsageError, match=message):
        analyzed(tmp_path, [], **options)


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    """Equal data and an equal seed give equal output, in any order of the rows; another seed other intervals."""
    columns = experiment(4, clients=200, pairs=10, max_n=5)
    backwards = {name: column[::-1] for name, column in columns.items()}
    file = write_parquet(tmp_path / "rows.parquet", columns)
    first, other = (analyze(file, draws=99, seed=seed).to_json() for seed in (1, 2))
    again = analyze(write_parquet(file, backwards), draws=99).to_json()
    assert first == again
    assert first["bins"] != other["bins"]
    assert [one["control"][0]["value"] for one in first["bins"]] == [
        one["control"][0]["value"] for one in other["bins"]
    ]


def test_intervals_hold_the_slowdown(tmp_path: Path) -> None:
    """In a made-up experiment, nearly all intervals hold the slowdown that it was made with, and none is wide."""
    columns = experiment(6, clients=1500, pairs=20, max_n=30)
    analysis = analyze(write_parquet(tmp_path / "rows.parquet", columns), draws=299)
    medians = [(one.first / 50, one.slowdown[0]) for one in analysis.bins]
    held = [estimate.low <= truth <= estimate.high for truth, estimate in medians]  # type: ignore[operator]
    assert sum(held) >= 26
    assert all(estimate.high - estimate.low < 0.2 for _, estimate in medians)  # type: ignore[operator]


def test_progress_is_told(tmp_path: Path) -> None:
    """The fraction that is done grows, within 0 to 1."""
    rows = [[f"k{n}", "live", n, "10.0.0.1", 5] for n in range(1, 13)]
    done: list[float] = []
    analyzed(tmp_path, rows, progress=done.append)
    assert len(done) == 12
    assert 0 < done[0] < done[-1] < 1
    assert sorted(done) == done


def test_the_window_and_the_base_are_read_from_the_data(tmp_path: Path) -> None:
    """Walls are drawn from what the rows say; options count more."""
    header = (*COLUMNS, "initcwnd", "first_flight_bytes")
    rows = [[f"{n}", role, n, "10.0.0.1", 5, 10, 2645 + 1000 * n * (role == "live")] for n in range(1, 9)
            for role in ("control", "live")]  # fmt: skip
    file = write_csv(tmp_path / "rows.csv", rows, header)
    analysis = analyze(file, draws=0)
    assert analysis.model
    assert (analysis.initcwnd, analysis.model.base_bytes, analysis.model.walls[0]) == (10, 2645, 14_480)
    given = analyze(file, draws=0, initcwnd=30, base_bytes=4000).model
    assert given
    assert (given.base_bytes, given.walls[0]) == (4000, 43_440)
