"""Fan one job out over many items; fold the results into one table, exactly once."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Detail",
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
    "fold",
    "open_table",
    "preview",
    "run",
]

# Name -> module. Imported when first used: `import fanfold` alone takes a millisecond, and pyarrow alone 100.
_HOMES = {
    "Detail": "job",
    "FanfoldError": "errors",
    "Failure": "job",
    "Item": "job",
    "Job": "job",
    "MissingExtra": "errors",
    "Opener": "job",
    "Outcome": "core.runs",
    "Preview": "estimate.preview",
    "RecipeMismatch": "errors",
    "Report": "core.report",
    "Run": "core.run",
    "SourceMismatch": "errors",
    "StorageError": "errors",
    "UsageError": "errors",
    "Work": "job",
    "fold": "api",
    "open_table": "api",
    "preview": "api",
    "run": "api",
}

if TYPE_CHECKING:
    from fanfold.api import fold, open_table, preview, run
    from fanfold.core.report import Report
    from fanfold.core.run import Run
    from fanfold.core.runs import Outcome
    from fanfold.errors import (
        FanfoldError,
        MissingExtra,
        RecipeMismatch,
        SourceMismatch,
        StorageError,
        UsageError,
    )
    from fanfold.estimate.preview import Preview
    from fanfold.job import Detail, Failure, Item, Job, Opener, Work


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fanfold' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"fanfold.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
