"""What is said of files that pyarrow cannot read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from fanfold.errors import StorageError


@contextmanager
def arrow_errors(source: str, kind: str) -> Iterator[None]:
    """Raise StorageError for what pyarrow says of a damaged file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        detail: Any = str(error).strip().splitlines() or [type(error).__name__]
        raise StorageError(f"{source} cannot be read as {kind}: {detail[0]}") from error
