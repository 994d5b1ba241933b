"""Reads JSON Lines, as servers log them: an object a line, whose fields are the columns of a table of handshakes.

A number may be written as text, for many logs have nothing else. A line that is not one such object is counted.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from fanfold.errors import UsageError
from fanfold.tls.analysis.columns import ADDRESS, NEEDED, OPTIONAL, UNPARSABLE, no_table, wanted
from fanfold.tls.analysis.damage import arrow_errors

_LONGEST = 1 << 20  # bytes of a line
_LINES = 1 << 15  # in memory at a time
_OTHERS = (*NEEDED, *OPTIONAL)


def json_lines(source: str, dropped: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file; lines without form are counted in `dropped`.

    Raises UsageError if no line has one of the fields that every row needs, StorageError if it cannot be read.
    """
    names: dict[str, None] = {}  # all that were seen in the first lines, in their order
    known: set[str] = set()
    missing: list[str] = []
    with arrow_errors(source, "JSON Lines"), pa.input_stream(source, compression="detect") as opened:
        objects = _objects(source, io.BufferedReader(cast(io.RawIOBase, opened)), dropped)
        while some := [*islice(objects, _LINES)]:
            names = names or dict.fromkeys(name for one in some[:100] for name in _names(one))
            known.update(name for name in (*_OTHERS, *ADDRESS) if any(name in one for one in some))
            missing = wanted(known)[1]
            if missing not in ([], ["n"]):  # n may come later: controls need not have it
                break
            yield _batch(some)
    if not names:
        raise UsageError(f"No line of {source} is a JSON object. Write one a line: jq -c . FILE > FILE.jsonl")
    if missing:
        raise no_table(source, [*names], missing, "The fields of its lines are")


def _objects(source: str, file: io.BufferedReader, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
        if len(line) > _LONGEST:
            raise UsageError(f"Line {number:,} of {source} has more than {_LONGEST:,} bytes: this is not JSON Lines.")
        if not (text := line.strip(b" \t\r\n\xef\xbb\xbf")):
            continue
        try:
            found = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            yield found
        else:
            dropped[UNPARSABLE] += 1


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises ValueError if it has a field twice: nobody knows which one is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field comes twice")
    return found


def _names(found: dict[str, Any]) -> Iterator[str]:
    """The fields of an object, and of objects in it: client.ip."""
    for name, value in found.items():
        yield from (f"{name}.{below}" for below in value) if isinstance(value, dict) else (name,)


def _batch(some: list[dict[str, Any]]) -> pa.RecordBatch:
    """Objects as rows of texts. The first column of an address that a row has is the one that counts."""
    columns = {name: [_text(one.get(name)) for one in some] for name in _OTHERS}
    addresses = [next((text for name in ADDRESS if (text := _text(one.get(name)))), None) for one in some]
    return pa.RecordBatch.from_pydict(
        {name: pa.array(values, pa.string()) for name, values in {**columns, ADDRESS[0]: addresses}.items()}
    )


def _text(value: Any) -> str | None:
    """A text or a number as text; None for all else."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()  # halves of surrogate pairs
    return repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
