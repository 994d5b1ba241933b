"""A grid of cells in a TOML file, as a source of items.

[grid]                      the product of all lists
rtt_ms = [20, 100]
chain = ["p256", "p256+1x17000"]
...
[fixed]                     one value for all cells
reps = 20
[[cells]]                   single cells
rtt_ms = 300
...
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fanfold.errors import UsageError, problem_of
from fanfold.job import Item
from fanfold.source import Generated
from fanfold.tls.cells import Cell, checked_cell, defaults
from fanfold.tls.written import content_of, line_of, tables_of
from fanfold.tls.zoo import Scheme, Zoo, found_in, load

SUFFIX = ".grid.toml"
ROOT = "cells"
"""What keys are relative to: all grids have the same, so that one table may hold the cells of several."""
_TABLES = ("grid", "fixed", "cells")
_SLOW_START = ("cubic", "reno")
"""Congestion controls that begin as the simulation does."""


@dataclass
class Grid:
    """The cells of a grid. It is checked when it is opened, and lists its cells one by one."""

    file: Path
    text: str
    axes: dict[str, list[Any]]
    """Values by field, in the order of keys."""
    single: list[dict[str, Any]]
    fixed: Mapping[str, Any]
    zoo: Zoo
    backend: str
    left_out: Counter[str] = field(default_factory=Counter)
    """Cells that are not listed, by the reason."""
    _doubles: int = 0
    """Cells that the lists name again: a value that comes twice, perhaps in another spelling."""

    @classmethod
    def open(cls, file: Path, zoo: str | None = None, backend: str = "simulate") -> "Grid":
        """The grid in a file. Raises UsageError for one that is not valid, with the line and the cell."""
        content, text = content_of(file)
        for name in content:
            _known(dict.fromkeys(_TABLES), name, "table of a grid", file, line_of(text, (name,)))
        fixed = _values(content.get("fixed", {}), "fixed", file, text)
        lists = _values(content.get("grid", {}), "grid", file, text)
        if both := [name for name in lists if name in fixed]:
            line = line_of(text, ("fixed", both[0]))
            raise UsageError(f"{file}, line {line}: '{both[0]}' is in [grid], too. Leave one of them out.")
        axes = {name: [value] for name, value in fixed.items()}
        axes |= {name: [*value] if isinstance(value, list) else [value] for name, value in lists.items()}
        cells = tables_of(content, "cells", file, text)
        single = [fixed | _values(cell, "cells", file, text) for cell in cells]
        made = cls(file, text, axes if "grid" in content else {}, single, fixed, load(zoo), backend)
        made._check()
        return made

    def _check(self) -> None:
        """Raise UsageError for a value that no cell can have."""
        if empty := [name for name, values in self.axes.items() if not values]:
            line = line_of(self.text, ("grid", empty[0]))
            raise UsageError(
                f"{self.file}, line {line}: '{empty[0]}' has no values, so the grid has no cells. Give it one."
            )
        if not self.axes and not self.single:
            raise UsageError(f"{self.file} has no cells. Give it a [grid] or some [[cells]].")
        first = {name: values[0] for name, values in self.axes.items()}
        written = prod(map(len, self.axes.values()))
        for name, values in self.axes.items():  # each value is tried once, not every product of them
            found = [getattr(self._cell(first | {name: value}, "grid", 0), name) for value in values]
            self.axes[name] = [*dict.fromkeys(found)]  # p256 and ecdsa-p256 are one chain
        self._doubles = written - prod(map(len, self.axes.values()))
        self.single = [asdict(self._cell(values, "cells", number)) for number, values in enumerate(self.single)]

    def _cell(self, values: Mapping[str, Any], table: str, number: int) -> Cell:
        """The cell with these values. Raises UsageError."""
        try:
            return checked_cell(values, self.zoo)
        except ValidationError as error:
            name, problem = str(error.errors(include_url=False)[0]["loc"][0]), f"{problem_of(error)}."
        except UsageError as error:
            name, problem = "chain", str(error)
        place = (table, number, name) if table == "cells" and name not in self.fixed else (table, name)
        line = line_of(self.text, ("fixed", name) if name in self.fixed else place if name in values else (table,))
        raise UsageError(f"{self.file}, line {line}: {problem}")

    def source(self) -> Generated:
        """The cells as a source of items."""
        return Generated([str(self.file)], self.items, ROOT, self.left_out)

    def items(self) -> Iterator[Item]:
        """Each cell once, those of one link together."""
        singles = {cell.key: cell for cell in (Cell(**one) for one in self.single)}
        if twice := self._doubles + len(self.single) - len(singles):
            self.left_out["listed twice"] += twice
        for cell in self._product():
            if singles.pop(cell.key, None):
                self.left_out["listed twice"] += 1
            yield from self._item(cell)
        for cell in singles.values():
            yield from self._item(cell)

    def _product(self) -> Iterator[Cell]:
        ordered = {name: self.axes[name] for name in sorted(self.axes, key=_by_link)}
        for values in product(*ordered.values()) if ordered else ():
            yield Cell(**dict(zip(ordered, values, strict=True)))

    def _item(self, cell: Cell) -> Iterator[Item]:
        if why := self._impossible(cell):
            self.left_out[why] += 1
        else:
            key = cell.key
            yield Item(key, 0, cell.version(self._scheme(cell)), key)

    def _impossible(self, cell: Cell) -> str:
        """Why a cell cannot be measured in this way; empty if it can."""
        if cell.tls == "1.2" and self._scheme(cell).level:
            return "post-quantum certificates need TLS 1.3"
        if self.backend != "simulate" and cell.tls == "1.2" and cell.kex != "x25519":
            return f'TLS 1.2 has no {cell.kex} (write kex = "x25519")'
        if self.backend == "simulate" and (cell.loss or cell.queue_kb):
            return "loss and queues cannot be simulated"
        if self.backend == "simulate" and cell.cc not in _SLOW_START:
            return f"the congestion control {cell.cc} cannot be simulated"
        return ""

    def _scheme(self, cell: Cell) -> Scheme:
        return self.zoo.scheme(cell.parsed.scheme)


def _by_link(name: str) -> tuple[bool, int]:
    """The chain, and what else does not belong to the link, varies fastest."""
    names = [*defaults()]
    return name in ("chain", "reps", "kex", "tls", "seed"), names.index(name)


def _values(table: Any, name: str, file: Path, text: str) -> dict[str, Any]:
    """A table's values. Raises UsageError for what is not a field of a cell."""
    if not isinstance(table, dict):
        raise UsageError(f"{file}, line {line_of(text, (name,))}: '{name}' must be a table: [{name}]")
    for key in table:
        _known(defaults(), key, "field of a cell", file, line_of(text, (name, key)))
    return table


def _known(names: Mapping[str, Any], name: str, what: str, file: Path, line: int) -> None:
    """Raise UsageError for a name that is not one of these."""
    try:
        found_in(names, name, what)
    except UsageError as error:
        raise UsageError(f"{file}, line {line}: {error}") from error
