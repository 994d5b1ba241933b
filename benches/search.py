"""Search with the vector index: build time, milliseconds per query, and the fraction of true neighbours found.

    .venv/bin/python benches/search.py [--rows 200000] [--dimension 1280] [--queries 200] [--kind clustered] [--alone]

Recall@10 is relative to a brute-force search. The queries are made like the rows, but are not among them. Warm: the
same opened table, one query after the other; cold: `fanfold images search` as a command, including Python's start. Each
peer (benches/peers/search.py) builds its own index over the same vectors; --alone leaves the peers out.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import lance
import measure
import numpy as np
import results
import vectors

from fanfold.images.search.neighbours import nearest
from fanfold.images.search.rows import stream, unit

BUILD = """
import sys, time, lance
from fanfold.images.search import vector_index
dataset = lance.dataset(sys.argv[1])
began = time.perf_counter()
vector_index.build(dataset)
print(time.perf_counter() - began)
"""


def truth(dataset: lance.LanceDataset, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """The rows nearest to each query, by brute-force search. int64[queries, k]"""
    asked, at = unit(queries), 0
    best, rows = np.full((len(queries), k), -2.0, np.float32), np.zeros((len(queries), k), np.int64)
    for block in stream(dataset, 0, dataset.count_rows()):
        cosines = np.concatenate([best, asked @ unit(block).T], axis=1)
        numbers = np.concatenate([rows, np.broadcast_to(np.arange(at, at + len(block)), (len(asked), len(block)))], 1)
        chosen = np.argpartition(-cosines, k, axis=1)[:, :k]
        best, rows = np.take_along_axis(cosines, chosen, 1), np.take_along_axis(numbers, chosen, 1)
        at += len(block)
    return rows


def recall(found: Sequence[Sequence[int]], true: np.ndarray) -> float:
    """The fraction of the true neighbours that were found."""
    return sum(len(set(some) & set(all)) for some, all in zip(found, true.tolist(), strict=True)) / true.size


def ours(dataset: lance.LanceDataset, queries: np.ndarray, exact: bool = False) -> tuple[list[list[int]], list[float]]:
    """The rows found for each query, and the seconds it took."""
    found, seconds = [], []
    for query in queries:
        began = time.perf_counter()
        hits = nearest(dataset, query, 10, exact=exact)
        seconds.append(time.perf_counter() - began)
        found.append([int(hit.key[:8]) for hit in hits])
    return found, seconds


def line(name: str, built: float, memory: int, found: list[list[int]], seconds: list[float], true: np.ndarray) -> list:
    """A row of the table."""
    ms = np.asarray(seconds) * 1000
    cells = [f"{built:.0f} s" if built else "none", f"{memory / 1e9:.1f} GB" if memory else ""]
    return [
        name,
        *cells,
        f"{recall(found, true[: len(found)]):.3f}",
        f"{np.median(ms):.1f}",
        f"{np.percentile(ms, 95):.1f}",
    ]


def peer(which: str, given: Path, folder: Path, true: np.ndarray) -> list:
    """A row of the table for a peer in its own environment."""
    script = measure.ROOT / "benches" / "peers" / "search.py"
    done = measure.run([measure.PEERS / "python", script, which, given, folder / "queries.npy"], memory=True)
    if done.code:
        raise SystemExit(done.err)
    told = json.loads(done.out.splitlines()[-1])
    names = {"faiss": "FAISS IVF-Flat, in memory", "lancedb": "LanceDB, its default index and search"}
    return line(names[which], told["built"], done.peak, told["found"], told["seconds"], true)


def as_array(dataset: lance.LanceDataset, path: Path) -> Path:
    """The vectors at length 1 as an .npy file, written block by block."""
    shape = (dataset.count_rows(), dataset.schema.field("vector").type.list_size)
    array, at = np.lib.format.open_memmap(path, "w+", np.float32, shape), 0
    for block in stream(dataset, 0, len(array)):
        array[at : at + len(block)] = unit(block)
        at += len(block)
    return path


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kind", choices=("clustered", "uniform"), default="clustered")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--folder", help="where to make the tables, or where they were left by an earlier run")
    chosen = parser.parse_args()
    load = measure.idle()
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="fanfold-bench-"))
    try:
        table = folder / "db" / "images.lance"
        if not table.exists():
            vectors.make(table, chosen.rows, chosen.dimension, chosen.kind)
        queries = vectors.queries(chosen.queries, chosen.dimension, chosen.kind)
        np.save(folder / "queries.npy", queries)
        true = truth(lance.dataset(table), queries)
        rows = []
        if not chosen.alone:
            shutil.copytree(table, folder / "theirs" / "images.lance", ignore=shutil.ignore_patterns("_indices"))
            rows.append(peer("lancedb", folder / "theirs", folder, true))
            shutil.rmtree(folder / "theirs")
            rows.append(peer("faiss", as_array(lance.dataset(table), folder / "vectors.npy"), folder, true))
            (folder / "vectors.npy").unlink()
        exactly = line("fanfold --exact", 0, 0, *ours(lance.dataset(table), queries[:5], exact=True), true)
        done = measure.run([sys.executable, "-c", BUILD, table], memory=True)
        if done.code:
            raise SystemExit(done.err)
        dataset = lance.dataset(table)
        os.sync()  # otherwise the first queries wait for the build's writes
        ours(dataset, vectors.queries(50, chosen.dimension, chosen.kind, seed=2))  # warm-up
        indexed = line("fanfold", float(done.out), done.peak, *ours(dataset, queries), true)
        key = f"{chosen.rows // 2:08d}.jpg"
        search = [measure.OURS / "fanfold", "images", "search", folder / "db", key]
        cold = [measure.run(search) for _ in range(3)]
        assert not any(one.code for one in cold), cold[0].err
        size = sum(file.stat().st_size for file in (table / "_indices").rglob("*") if file.is_file())
    finally:
        if not chosen.folder:
            shutil.rmtree(folder, ignore_errors=True)
    head = ["", "build", "memory", "recall@10", "ms median", "ms p95"]
    readme = (
        f"Search of {chosen.rows:,} vectors of {chosen.dimension}: {indexed[4]} ms with the index, "
        f"recall@10 {indexed[3]} ({exactly[4]} ms without, 1.0); built in {indexed[1]}."
    )
    rest = results.markdown(head, [indexed, exactly, *rows]) + (
        f"\n\nVectors: {chosen.kind}. The index takes {size / 1e6:.0f} MB on disk and {done.cpu:.0f} s of CPU time. "
        f"`fanfold images search`, a new process: {min(one.wall for one in cold):.1f} s."
    )
    print(results.record(f"{chosen.kind} search" if chosen.kind != "clustered" else "search", readme, rest, load))


if __name__ == "__main__":
    main()
