"""How fast rows become items of a DynamoDB table: fanfold compared with plain boto3.

    .venv/bin/python benches/dynamodb.py [--items 3000] [--rounds 3]

The server is a local, in-memory dynalite with a new table for every run. It is one thread of JavaScript, slower than
any of its clients, and there is no network, so the rates say little about AWS; the client's CPU time per item is its
own. All ways write the same items, which are then read back and compared.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import boto3
import measure
import numpy as np
import pyarrow as pa
import results

sys.path.insert(0, str(measure.ROOT / "tests" / "aws"))

from dynamo_servers import ABSENT, dynalite, environment

from fanfold.aws.dynamodb.table import DynamoTable

DIMENSION = 512
METADATA = {"fanfold.model": "resnet18", "fanfold.recipe": '{"model": "resnet18"}'}
CREATED = datetime(2026, 11, 22, 20, 18, 5, tzinfo=UTC)


def rows(count: int) -> pa.Table:
    """Rows like those of the job `images`, with the same random vectors every time."""
    keys = [f"photos/{number:06d}.jpg" for number in range(count)]
    vectors = np.random.default_rng(0).standard_normal(count * DIMENSION, np.float32)
    columns: dict[str, Any] = {
        "key": keys,
        "version": [f"{number:032x}" for number in range(count)],
        "uri": [f"s3://bucket/{key}" for key in keys],
        "vector": pa.FixedSizeListArray.from_arrays(vectors, DIMENSION),
        "width": pa.array([640] * count, pa.int32()),
        "height": pa.array([480] * count, pa.int32()),
        "created": pa.array([CREATED] * count, pa.timestamp("us", "UTC")),
    }
    return pa.table(columns)


def fanfold_put(table: DynamoTable, some: pa.Table) -> None:
    table.put(some, {})


def fanfold_replace(table: DynamoTable, some: pa.Table) -> None:
    """Every item exists already, so each needs a separate call with a condition."""
    table.put(some, dict(zip(some["key"].to_pylist(), some["version"].to_pylist(), strict=True)))


def put_item(table: DynamoTable, some: pa.Table) -> None:
    """Write items as the article does."""
    plain = boto3.resource("dynamodb").Table(table.name)
    for row in some.to_pylist():
        plain.put_item(Item=article_item(row))


def batch_writer(table: DynamoTable, some: pa.Table) -> None:
    """Write items as boto3's guide advises for many items."""
    with boto3.resource("dynamodb").Table(table.name).batch_writer() as writer:
        for row in some.to_pylist():
            writer.put_item(Item=article_item(row))


def article_item(row: dict[str, Any]) -> dict[str, Any]:
    """An item as a user would write it by hand."""
    vector = np.array(row["vector"], np.float32)
    return {
        "ImageId": row["key"],
        "Version": row["version"],
        "Uri": row["uri"],
        "Vector": vector.tobytes(),
        "DataType": str(vector.dtype),
        "Dimension": len(vector),
        "Width": row["width"],
        "Height": row["height"],
        "Created": row["created"].isoformat(),
        "Model": "resnet18",
        "Recipe": "0123456789abcdef",
    }


WAYS: dict[str, tuple[str, Callable[[DynamoTable, pa.Table], None]]] = {
    "put": ("**fanfold**", fanfold_put),
    "batch_writer": ("boto3, `batch_writer`", batch_writer),
    "put_item": ("boto3, `put_item` one at a time: the article's", put_item),
    "replace": ("*fanfold, replacing changed items*", fanfold_replace),
}


def write(way: str, count: int) -> None:
    """Act as one of the measured processes: write the items, print the seconds, and check the items."""
    some = rows(count)
    table = DynamoTable.create(f"dynamodb://{way}", METADATA)
    if way == "replace":
        table.put(some, {})
    wall, cpu = time.perf_counter(), time.process_time()
    WAYS[way][1](table, some)
    print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
    check(table, some)


def check(table: DynamoTable, some: pa.Table) -> None:
    """Check that all the items are there."""
    _, vectors, missing = table.get(some["key"].to_pylist())
    assert not missing
    assert vectors.tobytes() == some["vector"].combine_chunks().flatten().to_numpy().tobytes()


def run(way: str, count: int) -> tuple[float, float, int]:
    """Seconds, CPU seconds and the process's peak memory in bytes, with a new server."""
    with dynalite() as address:
        command = [sys.executable, __file__, "--items", count, "--way", way]
        took = measure.checked(measure.run(command, env=environment(address), memory=True))
    wall, cpu = json.loads(took.out)
    return wall, cpu, took.peak


def report(took: dict[str, list[tuple[float, float, int]]], count: int) -> str:
    """The table, with ratios to the first way."""
    lines = []
    rates = {way: count / median(wall for wall, _, _ in all) for way, all in took.items()}
    cpus = {way: median(cpu for _, cpu, _ in all) * 1000 / count for way, all in took.items()}
    for way, all in took.items():
        spread = f"{count / max(wall for wall, _, _ in all):,.0f} to {count / min(wall for wall, _, _ in all):,.0f}"
        peak = max(peak for _, _, peak in all) / 1e6
        ratios = f"{rates['put'] / rates[way]:.2f}x", f"{cpus[way] / cpus['put']:.2f}x"
        lines.append(
            (WAYS[way][0], f"{rates[way]:,.0f}", spread, ratios[0], f"{cpus[way]:.2f}", ratios[1], f"{peak:,.0f}")
        )
    head = ["", "items/s", "of rounds", "fanfold is", "CPU s/1,000 items", "of fanfold's", "peak memory, MB"]
    return results.markdown(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if ABSENT:
        raise SystemExit(f"This bench {ABSENT}")
    if args.way:
        return write(args.way, args.items)
    busy = measure.idle()
    rounds = [{way: run(way, args.items) for way in WAYS} for _ in range(args.rounds)]
    took = {way: [one[way] for one in rounds] for way in WAYS}
    about = (
        f"{args.items:,} items of {DIMENSION} values into dynalite on this machine, in memory; {args.rounds} rounds."
        " It is one thread of JavaScript and limits every rate; the CPU time is the client's alone."
    )
    readme = report(took, args.items)
    print(results.record("dynamodb", readme, about, busy))
    return None


if __name__ == "__main__":
    main()
