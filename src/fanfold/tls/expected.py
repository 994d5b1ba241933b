"""How long cells will take, before any is done: what the simulation of their handshakes says, and a bit more."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fanfold.tls.cells import Cell, cell_of
from fanfold.tls.flights import predicted
from fanfold.tls.simulate import handshake
from fanfold.tls.zoo import Zoo

if TYPE_CHECKING:  # pyarrow, which comes with it, has threads, and a lab must have none when it starts
    from fanfold.job import Item

WARM_UP = 2
"""Handshakes of each context that are thrown away."""
_MACHINE = 0.004
"""Seconds of a handshake that are not the network's: computation, and from one process to the other."""
_LINK = 0.2
"""Seconds to make a link, and the credentials for it."""


class Expected:
    """Says what each cell will take, in the order of the listing: those of one link have it in common."""

    def __init__(self, zoo: Zoo) -> None:
        self._zoo = zoo
        self._link: Any = None
        self._warm: set[tuple[str, str]] = set()

    def __call__(self, item: "Item") -> float | None:
        """Seconds; None where segments are lost, which nobody knows before."""
        cell = cell_of(item.key)
        if cell.loss or cell.queue_kb:
            return None
        link, seconds = (cell.kex, cell.seed, *cell.link), 0.0
        if link != self._link:
            self._link, self._warm, seconds = link, set(), _LINK
        for chain, each in self._handshakes(cell):
            count = cell.reps + (WARM_UP if (chain, cell.tls) not in self._warm else 0)
            self._warm.add((chain, cell.tls))
            seconds += count * each
        return seconds

    def _handshakes(self, cell: Cell) -> Iterator[tuple[str, float]]:
        """The chains of a cell and of its control, each with the seconds of one handshake: it connects, says hello."""
        chains = cell.parsed, cell.parsed.control
        for chain, size in zip(chains, predicted(cell, self._zoo), strict=True):
            yield str(chain), 1.5 * cell.rtt_ms / 1000 + handshake(size, cell.network) + _MACHINE
