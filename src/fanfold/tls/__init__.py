"""The job `tls`: what post-quantum signatures do to a TLS handshake, from scheme to milliseconds.

    zoo, profiles ──sizes──▶ bytes of a handshake ──simulate──▶ milliseconds on a link
    grid ──Tls──▶ a row for each cell, with the times of its handshakes

`zoo.py` holds the schemes, `sizes.py` counts, `simulate.py` computes; `cells.py` and `grid.py` are the source of the
job, and `work.py` does its cells. Real handshakes are made in a process of `lab.py`: `emulate.py` does the cells of a
link, with `link.py`, `relay.py`, `server.py` and `client.py`, and with certificates of `pki.py` and `staple.py`.
`serve/` is a server for real clients, and `analysis/` says what their pairs show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from fanfold.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from fanfold.job import Item
    from fanfold.source import Generated
    from fanfold.tls.work import Emulating, Simulating

__all__ = ["Tls"]

Backend = Literal["auto", "emulate", "simulate"]


@dataclass(frozen=True)
class Tls:
    """Measure the TLS handshakes of a grid of cells: signature schemes, sizes and links."""

    name: ClassVar[str] = "tls"

    backend: Backend = field(
        default="auto",
        metadata={
            "help": "How handshakes are made: emulate does real ones over an emulated network (Linux); simulate "
            "computes them, and sends nothing; auto is emulate, and never simulates instead."
        },
    )
    zoo: str | None = field(
        default=None, metadata={"help": "A TOML file of signature schemes beside fanfold's own, or instead of them."}
    )

    def source(self, addresses: Sequence[str]) -> "Generated":
        """The cells of the grid in a file."""
        from fanfold.tls.grid import Grid
        from fanfold.tls.written import path_of

        if len(addresses) != 1:
            raise UsageError("The source of the job 'tls' is one file, which describes a grid: first.grid.toml")
        return Grid.open(path_of(addresses[0]), self.zoo, self.chosen).source()

    def schema(self) -> "pa.Schema":
        """A row for each cell: what was asked, the bytes, the times of its handshakes and of their controls."""
        import pyarrow as pa

        from fanfold.job import key_field
        from fanfold.tls.work import FIELDS

        return pa.schema([key_field(), pa.field("version", pa.string(), nullable=False), *FIELDS])

    @property
    def chosen(self) -> Backend:
        """The back end: `auto` stands for the one that measures."""
        return "emulate" if self.backend == "auto" else self.backend

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise UsageError(f"'{self.backend}' is not a back end. Use one of: {', '.join(get_args(Backend))}.")
        if self.zoo == "":
            raise UsageError("The option zoo is empty. If it came from a shell variable, that variable is not set.")

    @property
    def worker_cpus(self) -> int:
        """A relay, a server and a client each want a core, or they would wait for each other."""
        return 1 if self.chosen == "simulate" else 3

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same cells would give other rows. Raises MissingExtra."""
        from fanfold.tls.lab import stack

        made = {"backend": self.chosen, "rows": "1"}
        return made if self.chosen == "simulate" else made | {"server": stack(), "client": stack()}

    def expected(self) -> "Callable[[Item], float | None] | None":
        """What says how long a cell will take, before any is done; None where that is soon seen."""
        from fanfold.tls.expected import Expected
        from fanfold.tls.zoo import load

        return None if self.chosen == "simulate" else Expected(load(self.zoo))

    def open(self) -> "Simulating | Emulating":
        """What does cells. Raises UsageError where links cannot be emulated, MissingExtra."""
        from fanfold.tls.work import Emulating, Simulating
        from fanfold.tls.zoo import load

        if self.chosen == "simulate":
            return Simulating(self.schema(), load(self.zoo))
        return Emulating(self.schema(), load(self.zoo), self.zoo)
