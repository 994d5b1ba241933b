"""The claims of the article "Sizing Up Post-Quantum Signatures" (2021), each beside what fanfold computes."""

from dataclasses import dataclass
from typing import Literal

from fanfold.tls.network import Network
from fanfold.tls.simulate import handshake, walls
from fanfold.tls.sizes import BUDGET, CONTROL, FIXED, of_mix, of_scheme
from fanfold.tls.zoo import load

Verdict = Literal["reproduced", "not reproduced", "cannot be tested"]
Topic = Literal["added", "budget", "walls", "slowdowns", "guess", "slope", "bumps"]

ADDED = {"falcon-512": 5000, "ml-dsa-44": 17_000}
"""Bytes that a scheme adds, rounded to thousands. (Dilithium2 has the sizes of ML-DSA-44.)"""
FIGURES = {17_000: 0.20, 35_000: 0.40}
"""Slowdowns that it measured with a window of 30, by the bytes that were added."""
GUESS = 17_000, 0.6, 0.8
"""Bytes that are added, and the slowdown that it expects with a window of 10: from, to."""
_WEB_CHAIN = (3000, 4000)  # bytes of a first flight in 2021, without what was added
_RTT = 0.05  # s; whichever: what counts is the product with the rate


@dataclass(frozen=True)
class Claim:
    """A claim, and what became of it."""

    topic: Topic
    says: str
    ours: str
    verdict: Verdict


def in_flight() -> float:
    """Bytes that the article's median link carries in a round trip, by its two figures: one number fits both.

    A flight of x bytes more takes x / rate longer; so the slowdown is x / (rate * rtt).
    """
    return sum(size / slowdown for size, slowdown in FIGURES.items()) / len(FIGURES)


def claims() -> list[Claim]:
    """All of them."""
    return [_added(), _budget(), _walls(), _slowdowns(), _guess(), _slope(), _bumps()]


def _slowdown(added: int, initcwnd: int) -> float:
    """What so many bytes more cost on the article's median link."""
    network = Network(rtt=_RTT, down=in_flight() * 8 / _RTT, initcwnd=initcwnd)
    usual = sum(_WEB_CHAIN) // 2
    return handshake(usual + added, network) / handshake(usual, network) - 1


def _added() -> Claim:
    zoo = load()
    control = of_scheme(zoo, CONTROL, "2021").size
    counted = {
        "Falcon-512": of_scheme(zoo, "Falcon-512", "2021"),
        "the mix": of_mix(zoo, "chimera-2021", ""),
        "Dilithium2": of_scheme(zoo, "Dilithium2", "2021"),
    }
    more = {name: one.size - control for name, one in counted.items()}
    ok = [round(more[name], -3) for name in ("Falcon-512", "Dilithium2")] == [*ADDED.values()]
    ours = "; ".join(f"{name} {size:+,} B" for name, size in more.items())
    says = "Falcon-512 adds about 5 kB, a mix with Rainbow about the same, Dilithium2 about 17 kB."
    return Claim("added", says, f"{ours}.", "reproduced" if ok else "not reproduced")


def _budget() -> Claim:
    spare = walls(Network(initcwnd=10), 1)[0] - FIXED - BUDGET
    ours = f"With a window of 10 segments, {spare:,} B are left beside them and {FIXED:,} B of fixed parts."
    says = "Six signatures and two public keys should take at most 9 kB."
    return Claim("budget", says, ours, "reproduced" if spare >= 0 else "not reproduced")


def _walls() -> Claim:
    found = {initcwnd: walls(Network(initcwnd=initcwnd), 1)[0] for initcwnd in (10, 30)}
    low, high = _WEB_CHAIN
    ok = abs(found[30] - high - 40_000) < 1000 and abs(found[10] - high - 10_000) < 1000
    ours = "; ".join(
        f"window of {initcwnd}: {wall:,} B of first flight, {wall - high:,} to {wall - low:,} B more than a web chain"
        for initcwnd, wall in sorted(found.items())
    )
    says = "There is a wall at 40 kB with a window of 30 segments, and at about 10 kB with one of 10."
    return Claim("walls", says, f"{ours[0].upper()}{ours[1:]}.", "reproduced" if ok else "not reproduced")


def _slowdowns() -> Claim:
    found = {size: _slowdown(size, 30) for size in FIGURES}
    ok = all(abs(found[size] - slowdown) < 0.03 for size, slowdown in FIGURES.items())
    ours = " and ".join(f"{slowdown:.0%} for {size // 1000} kB" for size, slowdown in found.items())
    says = "With a window of 30, 17 kB more take 20 % longer, and 35 kB 40 %."
    one = f"One free number, {in_flight() / 1000:.0f} kB in a round trip, gives both: {ours}."
    return Claim("slowdowns", says, one, "reproduced" if ok else "not reproduced")


def _guess() -> Claim:
    size, low, high = GUESS
    found = _slowdown(size, 10)
    says = "With a window of 10, 17 kB would take 60 to 80 % longer. (The article's guess.)"
    ours = f"{found:.0%} by the network alone; less if a part of the control's time was not the network's."
    return Claim("guess", says, ours, "reproduced" if low <= found <= high else "not reproduced")


def _slope() -> Claim:
    links = {"100 ms and 100 Mbit/s": Network(rtt=0.1, down=1e8, initcwnd=30),
             "20 ms and 10 Mbit/s": Network(rtt=0.02, down=1e7, initcwnd=30)}  # fmt: skip
    found = {name: handshake(20_000, link) / handshake(3000, link) - 1 for name, link in links.items()}
    ours = " and ".join(f"{slowdown:.0%} at {name}" for name, slowdown in found.items())
    says = "Below the wall, the slope is not so gentle."
    return Claim("slope", says, f"It depends on the link: 17 kB more cost {ours}.", "cannot be tested")


def _bumps() -> Claim:
    says = "More connections go missing above 10 kB and above 30 kB."
    ours = (
        "The clients of 2021 are gone. Among today's there are limits on the number of certificates, and one of "
        "32 kB: a hypothesis, no more."
    )
    return Claim("bumps", says, ours, "cannot be tested")
