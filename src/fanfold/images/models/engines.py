"""What runs a model: ONNX Runtime, or OpenVINO where it is installed and is faster on this machine.

    candidates ──both run the probe──▶ pictures a second, each ──▶ the faster one
                                                  └──▶ kept in the cache, for the next worker

A table's recipe does not name the engine: the vectors of both are the same, but for rounding.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fanfold.errors import FanfoldError
from fanfold.images.models.cache import cache_dir, one_at_a_time, write_whole
from fanfold.images.models.embedder import Embed, Pixels, check_alike, open_embedder, threads
from fanfold.images.models.model import Ready, probe, ready
from fanfold.images.models.openvino import OpenVino, has_bf16, is_installed
from fanfold.machine import look

ONNX, OPENVINO = "onnxruntime", "openvino"
MINIBATCH = 2
"""Pictures per call of the model on a CPU: what its caches hold."""
_LARGE = 8  # where AMX multiplies tiles, or for eight-bit integers, more pictures at a time are faster
_MARGIN = 1.15
"""How much faster OpenVINO has to be: a choice that hangs on noise would differ from machine to machine."""
_ROUNDS, _SECONDS = 3, 0.15  # of a measurement; the best round counts, since other work only slows down
_ALIKE = {"fp32": 0.99999, "int8": 0.98, "bf16": 0.98}
"""Least cosine of OpenVINO's vector with ONNX Runtime's."""


@dataclass(frozen=True, slots=True, order=True)
class Engine:
    """An engine, and how many pictures it gets per call."""

    name: str
    batch: int

    def __str__(self) -> str:
        return f"{self.name}, {self.batch} at a time"


def opened(made: Ready, engine: str, batch_size: int | None) -> tuple[Embed, int]:
    """What makes vectors on this machine's CPU, and the pictures per call that suit it.

    `engine` is onnxruntime, openvino, or auto, the faster of the two. Raises FanfoldError where it cannot run.
    """
    chosen = fastest(made, candidates(made, engine, batch_size))
    embed = _opened(made, chosen)
    if chosen.name == OPENVINO:
        picture = probe(made.size)[None]
        ours = open_embedder(made.file, made.batch, "cpu", picture[0])(picture)[0]
        check_alike(embed(picture)[0], ours, "OpenVINO", "ONNX Runtime", _ALIKE[made.precision], "--engine onnxruntime")
    return embed, chosen.batch


def candidates(made: Ready, engine: str, batch_size: int | None) -> list[Engine]:
    """What may run a model, the usual one first. Only OpenVINO computes in bfloat16, only ONNX Runtime in float16."""
    given = made.batch or batch_size
    ours = [Engine(ONNX, batch_size or MINIBATCH)]
    theirs = [Engine(OPENVINO, batch) for batch in ([given] if given else [MINIBATCH, _LARGE])]
    if made.precision == "bf16":
        return theirs
    if made.precision == "fp16" or engine == ONNX or (engine == "auto" and not is_installed()):
        return ours
    return theirs if engine == OPENVINO else ours + theirs


def fastest(made: Ready, among: list[Engine]) -> Engine:
    """The fastest engine, by a measurement of a second or two that is kept in the cache."""
    if len(among) == 1:
        return among[0]
    found = rates(made, among)
    usual, best = among[0], max(among, key=found.__getitem__)
    return best if found[best] > _MARGIN * found[usual] else usual


def speeds(model: str) -> dict[str, float]:
    """Pictures per CPU second here, by precision, for those that need no calibration. Empty without OpenVINO.

    Raises FanfoldError for a model that cannot be prepared.
    """
    if not is_installed():
        return {}
    found = [ready(model, precision) for precision in ("fp32", *(["bf16"] if has_bf16() else []))]
    return {one.precision: max(rates(one, candidates(one, "auto", None)).values()) for one in found}


def rates(made: Ready, among: list[Engine]) -> Mapping[Engine, float]:
    """Pictures per CPU second of each engine; 0 for one that cannot run the model. Measured once, then kept.

    Workers that start together wait for the first one's measurement: two could come to different choices.
    """
    kept = cache_dir() / "engines" / f"{_identity(made, among)}.json"
    with one_at_a_time(kept):
        if (found := _read(kept, among)) is not None:
            return found
        measured = _measured(made, among)
        with suppress(FanfoldError):  # a cache that cannot be written to
            write_whole(kept, json.dumps({str(engine): round(rate, 2) for engine, rate in measured.items()}).encode())
    return measured


def _read(kept: Path, among: list[Engine]) -> dict[Engine, float] | None:
    """What was measured before; None where nothing was, or where the file is damaged."""
    try:
        found = json.loads(kept.read_bytes())
        return {engine: float(found[str(engine)]) for engine in among}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _identity(made: Ready, among: list[Engine]) -> str:
    """Of a measurement: the model, the machine, and the versions of what was measured."""
    versions = [version(name) for name in sorted({engine.name for engine in among})]
    processor = look().processor
    parts = (made.file, made.precision, threads(), processor, versions, [str(engine) for engine in among])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _measured(made: Ready, among: list[Engine]) -> dict[Engine, float]:
    """All engines take turns, so that other work on the machine slows all of them."""
    running: dict[Engine, Embed] = {}
    for engine in among:
        with suppress(FanfoldError):
            running[engine] = _opened(made, engine)
    best = dict.fromkeys(among, 0.0)
    for _ in range(_ROUNDS):
        for engine, embed in running.items():
            best[engine] = max(best[engine], _rate(partial(embed, _pictures(made.size, engine.batch)), engine.batch))
    return best


def _pictures(size: int, count: int) -> Pixels:
    return np.repeat(probe(size)[None], count, axis=0)


def _rate(run: Callable[[], object], pictures: int) -> float:
    """Pictures per CPU second."""
    run()  # what is set up at the first call does not count
    calls, started, since = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < _SECONDS or not calls:
        run()
        calls += 1
    return calls * pictures / max(1e-9, time.process_time() - since)


def _opened(made: Ready, engine: Engine) -> Embed:
    if engine.name == OPENVINO:
        return OpenVino(made.file, made.size, engine.batch, made.precision)
    return open_embedder(made.file, made.batch, "cpu", probe(made.size))
