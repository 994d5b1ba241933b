"""Design effects: how many connections of one prefix are worth one that is independent of all others.

A client with a limit loses many connections, so those of a prefix go missing together, and a rate is less certain than
its number of connections says. With m[c] connections of prefix c, of which l[c] are lost, and the rate r = l / m:

    effect = sum of (l[c] - r m[c])^2  /  (m r (1 - r))

This is the variance of a rate of clusters over that of independent connections (L. Kish, Survey Sampling, 1965, 5.4 and
6.5). Wilson's interval for m / effect connections then holds the true rate as often as it says (E. L. Korn and B. I.
Graubard, Survey Methodology 24, 1998). Where each prefix has one connection, the effect is 1.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fanfold.tls.analysis.spill import Spill

Effects = np.ndarray[Any, np.dtype[np.float64]]
"""float64[groups, roles]: at least 1."""
_ROLES = (0, 1)  # control, live


def effects(losses: Spill, groups: Sequence[Iterable[int]], max_n: int) -> Effects:
    """The design effects of the rates of missing connections, for each group of n, by the role of what is there."""
    chosen = np.zeros((len(groups), max_n + 1), bool)
    for number, group in enumerate(groups):
        chosen[number, list(group)] = True
    sums = np.zeros((5, len(groups), len(_ROLES)))
    for part in losses.parts:
        rows = losses.read(part)
        for role in _ROLES:
            some = rows[(rows["role"] == role) & (rows["n"] > 0)]
            at = np.unique(some["prefix"], return_inverse=True)[1]
            for number in range(len(groups)):
                here = chosen[number, some["n"]]
                m, lost = np.bincount(at[here]), np.bincount(at[here], some["lost"][here])  # by prefix
                sums[:, number, role] += [one.sum() for one in (m, lost, m * m, m * lost, lost * lost)]
    many, few, many_many, many_few, few_few = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = few / many
        found = (few_few - 2 * rate * many_few + rate * rate * many_many) / (many * rate * (1 - rate))
    return np.fmax(found, 1.0)  # also for NaN: nothing is lost, or all
