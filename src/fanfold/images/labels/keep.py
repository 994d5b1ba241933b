"""Keeping labels: two columns beside the table, as `join` keeps those of a file, named after the file of labels."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from fanfold.errors import StorageError, UsageError
from fanfold.images.columns import joined
from fanfold.images.kept import rows_of
from fanfold.images.search.by_text import NO_LABEL, Fit

SCORE = "_score"
"""What the name of the column of scores ends in."""
_DIGITS = 6  # of a score, for people who read it


def name_of(dataset: lance.LanceDataset, path: Path) -> str:
    """The name of the column of labels: that of their file, in small letters.

    Raises UsageError if the table has such a column already, from elsewhere; StorageError.
    """
    name = re.sub(r"\W+", "_", path.stem).strip("_").lower()[:90]
    name = name if name[:1].isalpha() else f"label_{name}".rstrip("_")  # a filter would take it for a number
    taken = joined.owners(dataset, but=name)
    with suppress(StorageError):  # damaged columns of this name are replaced
        if (earlier := joined.called(dataset, name)) and earlier.by == joined.BY_KEY:
            taken[name] = f"{earlier.file}, which is joined to the table,"
    for column in (name, name + SCORE):
        if owner := taken.get(column):
            raise UsageError(
                f"The labels of {path} would be the column '{column}', but {owner} has one already. "
                "Give the file another name: the column has it, too."
            )
    return name


def keep(dataset: lance.LanceDataset, name: str, path: Path, labels: Sequence[str], fit: Fit) -> str:
    """Keep the label and the score of each row of a table, instead of earlier ones of this name; return where.

    Raises StorageError, FanfoldError if they cannot be kept.
    """
    without = fit.best == NO_LABEL
    numbers: Any = pa.array(fit.best, mask=without)
    chosen = pa.array(labels, pa.string()).take(numbers)
    scores = pa.array(fit.scores.astype(np.float64).round(_DIGITS), mask=without)
    columns = pa.table({name: chosen, name + SCORE: scores})
    _, place = joined.keep(dataset, name, path.name, columns, rows_of(dataset), joined.BY_ROW)
    return place
