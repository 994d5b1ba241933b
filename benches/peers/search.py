"""Search by a peer in a separate process: build its index, then run each query alone. Prints JSON.

    python benches/peers/search.py faiss VECTORS.npy QUERIES.npy      IVF-Flat of FAISS, in memory
    python benches/peers/search.py lancedb DATABASE QUERIES.npy       the index LanceDB makes by default, as it searches

FAISS searches a sixteenth of its partitions. The rows found are numbers, so that the caller can judge them.
"""

import json
import sys
import time

import numpy as np


def faiss_index(path: str):
    """Build the index; return a function that queries it."""
    import faiss

    vectors = np.load(path, mmap_mode="r")
    count = int(len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], count, faiss.METRIC_INNER_PRODUCT)
    sample = np.sort(np.random.default_rng(0).choice(len(vectors), min(len(vectors), 64 * count), replace=False))
    index.train(np.ascontiguousarray(vectors[sample]))
    for at in range(0, len(vectors), 16384):
        index.add(np.ascontiguousarray(vectors[at : at + 16384]))
    index.nprobe = count // 16

    def ask(query: np.ndarray) -> list[int]:
        return index.search(query[None] / np.linalg.norm(query), 10)[1][0].tolist()

    return ask


def lancedb_index(path: str):
    """Build the index; return a function that queries it."""
    import lancedb

    table = lancedb.connect(path).open_table("images")
    table.create_index(metric="cosine")

    def ask(query: np.ndarray) -> list[int]:
        found = table.search(query).distance_type("cosine").select(["key"]).limit(10).to_arrow()
        return [int(key[:8]) for key in found["key"].to_pylist()]

    return ask


def main() -> None:
    """Build, query, and print the results."""
    which, path, asked = sys.argv[1:]
    began = time.perf_counter()
    ask = {"faiss": faiss_index, "lancedb": lancedb_index}[which](path)
    built = time.perf_counter() - began
    found, seconds = [], []
    queries = np.load(asked)
    for query in [*queries[:20], *queries]:  # the first ones are a warm-up
        at = time.perf_counter()
        found.append(ask(query))
        seconds.append(time.perf_counter() - at)
    print(json.dumps({"built": built, "found": found[20:], "seconds": seconds[20:]}))


if __name__ == "__main__":
    main()
