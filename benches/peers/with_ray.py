"""Ray Data: files are read in tasks, and embedded by a pool of actors with ONNX Runtime, on a cluster of this machine.

One actor per core with one thread each, like the example in Ray's guide to offline batch inference.
"""

import io
from typing import Any

import numpy as np
import onnxruntime as ort
import ray
import ray.data
from common import Bench, crop_and_resize, open_rgb

bench = Bench(actors=2, threads=1, batch=16, blocks=0)


class Embedder:
    """Holds the session of an actor."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = bench["threads"]
        self.session = ort.InferenceSession(bench.model, options)
        bench.start()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """float32[n, 1280] for n files."""
        pixels = np.stack([crop_and_resize(open_rgb(io.BytesIO(content))) for content in batch["bytes"]])
        normalised = (pixels.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
        return {"path": batch["path"], "vector": self.session.run(None, {"pixels": normalised})[0]}


ray.init(log_to_driver=False, logging_level="error")
ray.data.DataContext.get_current().enable_progress_bars = False
files = ray.data.read_binary_files(bench.paths, include_paths=True, override_num_blocks=bench["blocks"] or None)
# A tenth of a core is requested: the actors compute all the time, and reading needs a place beside them.
pool = ray.data.ActorPoolStrategy(size=bench["actors"])
result = files.map_batches(Embedder, batch_size=bench["batch"], compute=pool, num_cpus=0.1)
vectors = {row["path"]: row["vector"] for row in result.iter_rows()}
bench.finish(np.stack([vectors[path] for path in bench.paths]))
