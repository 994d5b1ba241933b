"""The job `tls`: what post-quantum signatures do to a TLS handshake, from scheme to milliseconds.

    zoo, profiles ──sizes──▶ bytes of a handshake ──simulate──▶ milliseconds on a link
    grid ──Tls──▶ a row for each cell, with the times of its handshakes

`zoo.py` holds the schemes, `sizes.py` counts, `simulate.py` computes; `cells.py` and `grid.py` are the source of the
job, and `work.py` does its cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa

from fanfold.errors import UsageError
from fanfold.job import key_field

if TYPE_CHECKING:
    from fanfold.tls.grid import Grid
    from fanfold.tls.work import Measuring

__all__ = ["Tls"]


@dataclass(frozen=True)
class Tls:
    """Measure the TLS handshakes of a grid of cells: signature schemes, sizes and links."""

    name: ClassVar[str] = "tls"

    backend: Literal["simulate"] = field(
        default="simulate", metadata={"help": "How handshakes are made: simulate computes them, and sends nothing."}
    )
    zoo: str | None = field(
        default=None, metadata={"help": "A TOML file of signature schemes beside fanfold's own, or instead of them."}
    )

    def source(self, addresses: Sequence[str]) -> "Grid":
        """The cells of the grid in a file."""
        from fanfold.tls.grid import Grid

        if len(addresses) != 1:
            raise UsageError("The source of the job 'tls' is one file, which describes a grid: first.grid.toml")
        return Grid.open(Path(addresses[0]), self.zoo, self.backend)

    def schema(self) -> pa.Schema:
        """A row for each cell: what was asked, the bytes, the times of its handshakes and of their controls."""
        from fanfold.tls.work import FIELDS

        return pa.schema([key_field(), pa.field("version", pa.string(), nullable=False), *FIELDS])

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same cells would give other rows."""
        return {"backend": self.backend, "rows": "1"}

    def open(self) -> "Measuring":
        """Nothing needs to be set up to simulate."""
        from fanfold.tls.work import Measuring
        from fanfold.tls.zoo import load

        return Measuring(self.schema(), self.backend, load(self.zoo))
