"""The search for a client's limit, on clients whose limits are known."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fanfold.tls.probe.search import Answer, Limit, Search

ACCEPTED = Answer("accepted")


def asked(limit: int, smallest: int = 1, cap: int = 400) -> tuple[Limit, Counter[int]]:
    """The limit that is found of a client with a limit, and how often each size was asked for."""
    sizes: Counter[int] = Counter()

    def ask(size: int) -> Answer:
        sizes[size] += 1
        return ACCEPTED if size <= limit else Answer("refused", "client alert", f"too large: {size}")

    return Search(ask, smallest, cap).limit(), sizes


@given(limit=st.integers(1, 399))
def test_the_limit_is_found_to_one(limit: int) -> None:
    """The largest size that is accepted and the next one, each asked three times; few others are asked for."""
    found, sizes = asked(limit)
    assert (found.most, found.refused, found.verdict) == (limit, limit + 1, "limit")
    assert sizes[limit] >= 3
    assert sizes[limit + 1] >= 3
    assert sum(sizes.values()) <= 25
    assert found.at_limit == Answer("refused", "client alert", f"too large: {limit + 1}")
    assert found.at_double == Answer("refused", "client alert", f"too large: {min(400, 2 * limit)}")


def test_a_client_without_a_limit() -> None:
    """All is accepted up to the cap, which is asked for."""
    found, sizes = asked(10**9)
    assert (found.most, found.refused, found.verdict) == (400, None, "none")
    assert sizes[400] >= 3


def test_a_client_that_accepts_nothing() -> None:
    """The smallest size is refused, three times."""
    found, _ = asked(0, smallest=217, cap=100_000)
    assert (found.most, found.refused, found.verdict) == (None, 217, "refuses all")


@given(seed=st.integers(0, 10**6), share=st.floats(0.2, 0.8))
def test_a_client_that_hangs_now_and_then_has_no_limit_but_is_flaky(seed: int, share: float) -> None:
    """A client without a limit that hangs by chance is never given one; unless it never or always hung by chance."""
    rng = random.Random(seed)
    hung: list[int] = []

    def ask(size: int) -> Answer:
        if rng.random() < share:
            hung.append(size)
            return Answer("hung", "timeout")
        return ACCEPTED

    found = Search(ask, 1, 400).limit()
    if found.verdict == "limit":  # three times the same at both sides of an edge, by chance
        assert hung.count(found.refused or 0) >= 3
    elif found.verdict == "flaky":
        assert all(len(counts) > 1 for counts in found.flaky.values())


def test_one_hang_is_not_a_limit() -> None:
    """A client that hangs once, at its first large chain, is asked again: flaky, with its counts."""
    left = [1]

    def ask(size: int) -> Answer:
        if size >= 16 and left:
            left.pop()
            return Answer("hung", "timeout")
        return ACCEPTED

    found = Search(ask, 1, 400).limit()
    assert (found.most, found.refused, found.verdict) == (400, None, "flaky")
    assert found.flaky == {16: {"hung": 1, "accepted": 2}}


def test_a_hang_is_not_a_refusal() -> None:
    """A client that hangs above its limit says so in the answer."""
    found = Search(lambda size: ACCEPTED if size <= 30 else Answer("hung", "timeout"), 1, 400).limit()
    assert (found.most, found.verdict) == (30, "limit")
    assert found.at_limit == Answer("hung", "timeout")
