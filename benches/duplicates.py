"""Near-duplicates by partition: time, memory, and the fraction of pairs and groups found.

    .venv/bin/python benches/duplicates.py [--rows 200000] [--dimension 1280] [--kind clustered] [--judged 50000]

For all rows, the result is judged by the planted pairs (benches/vectors.py) with a cosine of 0.95 or more. For the
first --judged rows it is judged by a brute-force comparison of all pairs, which also finds pairs that were not planted.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import lance
import measure
import numpy as np
import results
import vectors

from fanfold.images.search.rows import stream, unit

THRESHOLD = 0.95

FIND = """
import json, sys, time, lance
from fanfold.images.search import duplicates
duplicates.EXACT_BELOW = 0
began = time.perf_counter()
found = duplicates.duplicates(lance.dataset(sys.argv[1]), exact=sys.argv[2] == "exact")
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "groups": [[int(key[:8]) for key in group.keys] for group in found]}))
"""


def find(table: Path, how: str) -> tuple[dict, measure.Measured]:
    """The groups found by a separate process, and its time and memory."""
    done = measure.run([sys.executable, "-c", FIND, table, how], memory=True)
    if done.code:
        raise SystemExit(done.err)
    return json.loads(done.out), done


def labelled(groups: Iterable[list[int]], rows: int) -> np.ndarray:
    """Each row's group, or its own number."""
    labels = np.arange(rows) + rows
    for number, group in enumerate(groups):
        labels[group] = number
    return labels


def planted(dataset: lance.LanceDataset) -> np.ndarray:
    """The rows planted as near-duplicates of the row before them, if the cosine is high enough."""
    kept, at = [], 0
    for block in stream(dataset, 0, dataset.count_rows()):
        directions = unit(block)
        alike = (directions[1:] * directions[:-1]).sum(axis=1) >= THRESHOLD
        kept += (np.flatnonzero(alike) + 1 + at).tolist()
        at += len(block)
    rows = np.asarray(kept)
    return rows[rows % vectors.SLICE % 10 == 9]


def true_pairs(dataset: lance.LanceDataset) -> np.ndarray:
    """All sufficiently similar pairs of a small table. int64[pairs, 2]"""
    directions = np.concatenate([unit(block) for block in stream(dataset, 0, dataset.count_rows())])
    found = []
    for at in range(0, len(directions), 1024):
        one, two = np.nonzero(directions[at : at + 1024] @ directions[at:].T >= THRESHOLD)
        found.append(np.stack([one, two], axis=1)[two > one] + at)
    return np.concatenate(found)


def judged(table: Path) -> tuple[float, float, int, dict, dict]:
    """Fractions of pairs and groups found in a small table, the number of pairs, and both results."""
    dataset = lance.dataset(table)
    told, _ = find(table, "partitions")
    exact, _ = find(table, "exact")
    labels = labelled(told["groups"], dataset.count_rows())
    pairs = true_pairs(dataset)
    whole = {frozenset(group) for group in told["groups"]}
    groups = [frozenset(group) in whole for group in exact["groups"]]
    return float((labels[pairs[:, 0]] == labels[pairs[:, 1]]).mean()), float(np.mean(groups)), len(pairs), told, exact


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--kind", choices=("clustered", "uniform"), default="clustered")
    parser.add_argument("--judged", type=int, default=50_000)
    parser.add_argument("--folder", help="where to make the tables, or where they were left by an earlier run")
    chosen = parser.parse_args()
    load = measure.idle()
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="fanfold-bench-"))
    try:
        table, small = folder / "db" / "images.lance", folder / "small.lance"
        for path, rows in ((table, chosen.rows), (small, chosen.judged)):
            if not path.exists():
                vectors.make(path, rows, chosen.dimension, chosen.kind)
        told, done = find(table, "partitions")
        pairs, groups, count, quick, exact = judged(small)
        wanted = planted(lance.dataset(table))
    finally:
        if not chosen.folder:
            shutil.rmtree(folder, ignore_errors=True)
    labels = labelled(told["groups"], chosen.rows)
    there = float((labels[wanted] == labels[wanted - 1]).mean())
    quadratic = exact["seconds"] * (chosen.rows / chosen.judged) ** 2
    readme = (
        f"Near-duplicates among {chosen.rows:,} vectors of {chosen.dimension}: {told['seconds']:.0f} s and "
        f"{done.peak / 1e9:.1f} GB, {there:.4f} of the planted pairs found "
        f"(all with all: about {quadratic:,.0f} s, reckoned from {chosen.judged:,})."
    )
    head = ["", "seconds", "pairs found", "groups found whole"]
    rest = (
        results.markdown(
            head,
            [
                [
                    f"{chosen.rows:,} rows, by partition",
                    f"{told['seconds']:.1f}",
                    f"{there:.4f} of {len(wanted):,}",
                    "",
                ],
                [
                    f"{chosen.judged:,} rows, by partition",
                    f"{quick['seconds']:.1f}",
                    f"{pairs:.4f} of {count:,}",
                    f"{groups:.4f} of {len(exact['groups']):,}",
                ],
                [f"{chosen.judged:,} rows, all with all", f"{exact['seconds']:.1f}", "1", "1"],
            ],
        )
        + f"\n\nVectors: {chosen.kind}; threshold {THRESHOLD}. {done.cpu:.0f} s of CPU time."
    )
    name = "duplicates" if chosen.kind == "clustered" else f"{chosen.kind} duplicates"
    print(results.record(name, readme, rest, load))


if __name__ == "__main__":
    main()
