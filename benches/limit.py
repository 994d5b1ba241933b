"""This machine's best possible speed: fanfold's own decoding and its own model, each alone on all cores.

    python benches/limit.py decode LIST        read, decode, crop, resize: everything before the model
    python benches/limit.py model LIST         the model alone, on pictures decoded beforehand

One process per core with one thread each, all starting at the same time. A core that does both needs the sum of the two
times, so the limit is 1 / (1 / decode + 1 / model). Prints a JSON object: pictures and seconds.
"""

import json
import os
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

AT_LEAST = 128
"""Minimum number of pictures per process, repeated if necessary, because shorter runs are unreliable."""


def work(what: str, paths: list[str], barrier: Any, times: Any) -> None:
    """Act as one process: prepare, wait for the others, and do a share of the work."""
    from fanfold.images import Images
    from fanfold.images.decode import View, decode
    from fanfold.images.models.embedder import Embedder
    from fanfold.images.models.model import ready

    model = ready("efficientnet-lite0")
    view, batch = View(model.size, model.crop), Images().minibatch
    pixels = np.empty((batch, model.size, model.size, 3), np.uint8)
    embed = Embedder(model.file)
    for place, path in zip(pixels, paths, strict=False):
        decode(Path(path).read_bytes(), place, view)  # also a warm-up: tables are built and pages mapped
    embed(pixels)
    barrier.wait()
    started = time.time()
    if what == "decode":
        for path in paths:
            decode(Path(path).read_bytes(), pixels[0], view)
    else:
        for _ in range(0, len(paths), batch):
            embed(pixels)
    times.put((started, time.time()))


def main() -> None:
    what, file = sys.argv[1:]
    paths = Path(file).read_text().splitlines()
    cores = len(os.sched_getaffinity(0))
    shares = [paths[core::cores] for core in range(cores)]
    shares = [share * -(-AT_LEAST // len(share)) for share in shares]
    context = get_context("spawn")
    barrier, times = context.Barrier(cores), context.Queue()
    processes = [context.Process(target=work, args=(what, share, barrier, times)) for share in shares]
    for process in processes:
        process.start()
    started, ended = zip(*(times.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    print(json.dumps({"pictures": sum(map(len, shares)), "seconds": max(ended) - min(started)}))


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1"}
    main()
