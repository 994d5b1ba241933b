"""Tables of any size with made-up vectors, distributed like a model's or uniformly; written in slices.

    clustered   a latent point of 48 dimensions near one of 10,000 centres (of very unequal sizes), through a random
                layer with a rectifier and noise: non-negative, half zeros, cosine 0.3 between any two and 0.6 to 0.7
                within a cluster. EfficientNet-Lite0's vectors of benches/pictures.py: 0.28, 0.39 zeros, 0.78 to the
                nearest neighbour (crops of the same photograph)
    uniform     directions without any structure: hard for every index, and unlike any model's

One row in ten is a near-duplicate of the row `before` it: their cosine is uniform between 0.94 and 1. The same
picture saved again at quality 50 is at 0.93 to 0.98, brightened by 15 % at 0.97 to 1, cropped by 5 % at 0.94 to 0.97
(measured with Lite0 over 60 pictures).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

SLICE = 8192
"""Rows per slice."""
LATENT, CENTRES = 48, 10_000
LEAST = 0.94
"""The lowest cosine of a planted near-duplicate."""

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def make(path: Path, rows: int, dimension: int, kind: str = "clustered") -> lance.LanceDataset:
    """The table at `path`, with those columns of `fanfold images embed` that a search reads."""
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("uri", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, SLICE):
            matrix = block(start // SLICE, min(SLICE, rows - start), dimension, kind)
            keys = pa.array([f"{row:08d}.jpg" for row in range(start, start + len(matrix))])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), dimension)
            yield pa.RecordBatch.from_arrays([keys, keys, vectors], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    return lance.write_dataset(reader, path, max_rows_per_file=131_072, max_rows_per_group=SLICE)


def block(number: int, rows: int, dimension: int, kind: str = "clustered") -> Matrix:
    """Slice `number` of the table. float32[rows, dimension]; every tenth row is similar to the one before it."""
    random = np.random.default_rng([7, number])
    matrix = _fresh(random, rows, dimension, kind)
    copies = np.arange(9, rows, 10)
    matrix[copies] = like(matrix[copies - 1], random.uniform(LEAST, 1, len(copies)), random)
    return matrix


def queries(count: int, dimension: int, kind: str = "clustered", seed: int = 1) -> Matrix:
    """The query vectors: made like the table's, and not in it. float32[count, dimension]."""
    return _fresh(np.random.default_rng([8, seed]), count, dimension, kind)


def like(matrix: Matrix, cosines: Any, random: np.random.Generator) -> Matrix:
    """For each row another one at this cosine (approximately: rectified again if it has no negative values)."""
    noise = random.standard_normal(matrix.shape, np.float32)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    noise *= length / np.linalg.norm(noise, axis=1, keepdims=True)
    angle = np.arccos(np.asarray(cosines, np.float32))[:, None]
    return np.asarray(matrix * np.cos(angle) + noise * np.sin(angle), np.float32)


def _fresh(random: np.random.Generator, rows: int, dimension: int, kind: str) -> Matrix:
    if kind == "uniform":
        return random.standard_normal((rows, dimension), np.float32)
    fixed = np.random.default_rng(6)  # the model and the data are the same for all slices
    layer = fixed.standard_normal((LATENT, dimension), np.float32) / np.sqrt(LATENT, dtype=np.float32)
    centres = fixed.standard_normal((CENTRES, LATENT), np.float32)
    share = fixed.lognormal(0, 1.5, CENTRES)
    chosen = centres[random.choice(CENTRES, rows, p=share / share.sum())]
    latent = np.sqrt(0.6) * chosen + np.sqrt(0.4) * random.standard_normal((rows, LATENT))
    matrix = latent.astype(np.float32) @ layer
    matrix += np.float32(0.2) * random.standard_normal(matrix.shape, np.float32)
    return np.maximum(matrix, 0, out=matrix)
