"""The job `evidence`: what event logs show, and what they cannot.

    files, disk images ──Containers──▶ units ──Evidence──▶ rows of logs, and of every record in them

`containers.py` looks into what was given, and `kinds.py` knows the kinds of it; `work.py` reads the units that are
there; `disk/` reads disk images, `eventlog/` decodes event logs, `facts/` reads other files; `report/` says what all of
it shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from fanfold.errors import MissingExtra
from fanfold.job import detail_key_field, key_field

if TYPE_CHECKING:
    from fanfold.evidence.units import Units
    from fanfold.evidence.work import Reading

__all__ = ["Evidence"]

_NEEDED = ("evtx", "isal", "msgspec", "pytsk3", "tzlocal")

# Found, not imported: listing jobs must stay fast, and a broken package has its own error when it is used.
if not all(map(find_spec, _NEEDED)):
    raise MissingExtra("evidence", "The job 'evidence'")

_VERSION = pa.field("version", pa.string(), nullable=False)


_FACT_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("image", pa.string()),
    pa.field("volume", pa.string()),
    pa.field("path", pa.string()),  # of the file that it is from
    pa.field("kind", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("value", pa.string(), nullable=False),  # JSON
    pa.field("source", pa.string()),  # where in the file
    pa.field("problem", pa.string()),  # what of the file was not read, so that it may not say all
]


@dataclass(frozen=True)
class Evidence:
    """Read the event logs of Windows machines: every record once, with where it lies and what was not read."""

    name: ClassVar[str] = "evidence"

    def source(self, addresses: Sequence[str]) -> "Units":
        """The units that a database has listed: its address, then the stages to do, if not only `live`."""
        from fanfold.evidence.units import Units

        return Units.open(list(addresses))

    def schema(self) -> pa.Schema:
        """A row for each unit, with what was read of it."""
        from fanfold.evidence.eventlog.coverage import COVERAGE_FIELDS

        unit: list[pa.Field[Any]] = [
            key_field(),
            _VERSION,
            pa.field("container", pa.string(), nullable=False),  # its key; the version is that of the container
            pa.field("image", pa.string()),
            pa.field("volume", pa.string()),
            pa.field("path", pa.string()),
            pa.field("origin", pa.string()),
            pa.field("kind", pa.string()),  # log, facts, carve, verify or chunks
            pa.field("problem", pa.string()),  # what kept the rest of the unit from being read
        ]
        return pa.schema([*unit, *COVERAGE_FIELDS])

    def details(self) -> Mapping[str, pa.Schema]:
        """A row for each record of an event log, and for each fact from elsewhere."""
        from fanfold.evidence.eventlog.rows import EVENT_FIELDS

        named = [detail_key_field(), _VERSION]
        return {"events": pa.schema([*named, *EVENT_FIELDS]), "facts": pa.schema([*named, *_FACT_FIELDS])}

    def recipe(self) -> Mapping[str, str]:
        """Changes when the same units would give other rows."""
        return {"rows": "9", "parser": "evtx 0.14"}

    def open(self) -> "Reading":
        """Nothing needs to be loaded."""
        from fanfold.evidence.work import Reading

        return Reading(self.schema(), **self.details())
