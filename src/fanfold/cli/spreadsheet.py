"""Texts for a spreadsheet: none is a formula, or moves the cursor. An attacker may have chosen a file's name."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fanfold.cli.show import harmless


def safe(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows whose texts, and names of columns, a spreadsheet shows as they are: with an apostrophe before a formula."""
    columns = [without_formulas(column) if pa.types.is_string(column.type) else column for column in batch.columns]
    names: Any = pa.array(batch.schema.names, pa.string())
    return pa.RecordBatch.from_arrays(columns, names=without_formulas(names).to_pylist())


def without_formulas(texts: Any) -> Any:
    """Texts of which none is a formula."""
    quoted = pc.replace_substring_regex(texts, r"(?s)^('*[=+@]|'*-.)", r"'\1")  # a hyphen alone is not a formula
    if not pc.any(pc.invert(pc.utf8_is_printable(quoted))).as_py():
        return quoted
    return pa.array([text and harmless(text).replace("\n", "\\n") for text in quoted.to_pylist()], pa.string())
