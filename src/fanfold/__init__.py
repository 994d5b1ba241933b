"""Fan one job out over many items; fold the results into one table, exactly once."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Failure",
    "FanfoldError",
    "Item",
    "Job",
    "MissingExtra",
    "Opener",
    "Outcome",
    "Preview",
    "RecipeMismatch",
    "Report",
    "Run",
    "SourceMismatch",
    "StorageError",
    "UsageError",
    "Work",
    "open_table",
    "preview",
    "run",
]

# Name -> module. Imported when first used: `import fanfold` alone takes a millisecond, and pyarrow alone 100.
_HOMES = {
    "FanfoldError": "errors",
    "Failure": "job",
    "Item": "job",
    "Job": "job",
    "MissingExtra": "errors",
    "Opener": "job",
    "Outcome": "runs",
    "Preview": "estimate",
    "RecipeMismatch": "errors",
    "Report": "report",
    "Run": "driver",
    "SourceMismatch": "errors",
    "StorageError": "errors",
    "UsageError": "errors",
    "Work": "job",
    "open_table": "database",
    "preview": "estimate",
    "run": "driver",
}

if TYPE_CHECKING:
    from fanfold.database import open_table
    from fanfold.driver import Run, run
    from fanfold.errors import (
        FanfoldError,
        MissingExtra,
        RecipeMismatch,
        SourceMismatch,
        StorageError,
        UsageError,
    )
    from fanfold.estimate import Preview, preview
    from fanfold.job import Failure, Item, Job, Opener, Work
    from fanfold.report import Report
    from fanfold.runs import Outcome


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fanfold' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"fanfold.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
