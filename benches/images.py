"""Pictures to vectors: fanfold compared with its alternatives. Same pictures, same weights, one command.

    benches/peers.sh, once, for the programs to compare with, then:
    .venv/bin/python benches/images.py [--pictures 800] [--large 96] [--rounds 3] [--inputs 500x375,12mp,png]

Every candidate is a separate process. The first round warms up the disk cache and measures memory; the results are
medians of the other rounds, whose order rotates. The limit is this machine's speed if only decoding and the model took
time (see limit.py), measured in the same rounds.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import measure
import numpy as np
import pictures
import results
from candidates import BEFORE, CANDIDATES, FANFOLD, Result, Task, before

TITLES = {"500x375": "500 x 375 JPEG", "12mp": "12 megapixel JPEG", "png": "PNG of all sizes"}


def main() -> None:
    args = arguments()
    busy = measure.idle()
    everything = {name: bench(name, args) for name in args.inputs}
    if args.json:
        args.json.write_text(json.dumps(everything, indent=1))
    notes = "; ".join([busy, peers_versions()])
    print(results.record("images", summary(everything), details(everything), notes))


def arguments() -> argparse.Namespace:
    """The command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=800, help="how many of 500 x 375 pixels")
    parser.add_argument("--large", type=int, default=96, help="how many of 12 megapixels")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--inputs", type=lambda text: text.split(","), default=list(pictures.INPUTS))
    parser.add_argument("--only", type=lambda text: text.split(","), help="candidates, e.g. fanfold,loader")
    parser.add_argument("--before", type=Path, help="the fanfold of another version, to measure beside this one")
    parser.add_argument("--json", type=Path, help="a file for every number of every round")
    return parser.parse_args()


def bench(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one input with all candidates in all rounds."""
    folder = pictures.make(name, args.large if name == "12mp" else args.pictures)
    task = Task(folder, pictures.in_folder(folder))
    chosen = [candidate for candidate in CANDIDATES if not args.only or candidate.name in args.only]
    chosen += [before(args.before)] if args.before else []
    rounds: dict[str, list[Result]] = defaultdict(list)
    limits: dict[str, list[float]] = defaultdict(list)
    say(f"{name}: {pictures.describe(task.paths)}")
    for number in range(args.rounds + 1):
        for candidate in rotated(chosen, number):
            result = candidate.run(task, memory=number == 0)
            rounds[candidate.name].append(result)
            say(f"  round {number}  {candidate.name:10} {result.rate:7.1f}/s  {result.wall:6.1f} s in all")
        for part in ("decode", "model") if number else ():
            limits[part].append(limit(part, task))
            say(f"  round {number}  {part + ' only':10} {limits[part][-1]:7.1f}/s")
    cosines = {candidate.name: cosine(candidate.vectors(task), FANFOLD.vectors(task)) for candidate in chosen}
    told = {candidate.name: facts(candidate.label, rounds[candidate.name]) for candidate in chosen}
    return {
        "input": pictures.describe(task.paths),
        "candidates": {key: fact | {"cosine": cosines[key]} for key, fact in told.items()},
        "limit": {part: median(rates) for part, rates in limits.items()},
    }


def rotated(candidates: Sequence[Any], by: int) -> list[Any]:
    """The candidates, starting with another one in each round."""
    at = by % len(candidates)
    return [*candidates[at:], *candidates[:at]]


def limit(part: str, task: Task) -> float:
    """Pictures per second if this machine did only this part."""
    took = measure.run([measure.OURS / "python", measure.ROOT / "benches" / "limit.py", part, task.list])
    told = json.loads(measure.checked(took).out)
    return told["pictures"] / told["seconds"]


def cosine(ones: np.ndarray, others: np.ndarray) -> float:
    """Mean cosine, row by row."""
    norms = np.linalg.norm(ones, axis=1) * np.linalg.norm(others, axis=1)
    return float(np.mean(np.einsum("ij,ij->i", ones, others) / norms))


def facts(label: str, rounds: Sequence[Result]) -> dict[str, Any]:
    """The results of a candidate's rounds: memory of the first, medians of the others."""
    timed = rounds[1:] or rounds
    return {
        "label": label,
        "rate": median(result.rate for result in timed),
        "slowest": min(result.rate for result in timed),
        "fastest": max(result.rate for result in timed),
        "wall": median(result.wall for result in timed),
        "cpu": median(result.cpu / result.pictures for result in timed),
        "peak": rounds[0].peak,
        "rounds": [asdict(result) for result in rounds],
    }


def whole(limits: dict[str, float]) -> float:
    """Pictures per second of a machine that has to decode and to run the model."""
    return 1 / sum(1 / rate for rate in limits.values())


# -- tables -----------------------------------------------------------------------------------------------------------


def summary(everything: dict[str, Any]) -> str:
    """The table for the README: pictures per second, and fanfold's speed relative to each candidate."""
    first = next(iter(everything.values()))
    head = ["pictures/s (fanfold is so many times as fast)", *(TITLES[name] for name in everything), "peak memory"]
    shown = [key for key in first["candidates"] if key != BEFORE]  # another version is for RESULTS.md alone
    rows = [[first["candidates"][key]["label"], *_rates(everything, key)] for key in shown]
    limits = [f"{whole(told['limit']):.0f} ({_ratio(told, whole(told['limit']))})" for told in everything.values()]
    return results.markdown(head, [*rows, ["*limit of this machine*", *limits, ""]])


def _rates(everything: dict[str, Any], key: str) -> list[str]:
    facts = [told["candidates"][key] for told in everything.values()]
    cells = [
        f"{fact['rate']:.1f}" + (f" ({_ratio(told, fact['rate'])})" if key != FANFOLD.name else "")
        for told, fact in zip(everything.values(), facts, strict=True)
    ]
    return [*cells, f"{max(fact['peak'] for fact in facts) / 1e6:,.0f} MB"]


def _ratio(told: dict[str, Any], rate: float) -> str:
    ours = told["candidates"].get(FANFOLD.name)
    return f"{ours['rate'] / rate:.2f}x" if ours else "-"


def details(everything: dict[str, Any]) -> str:
    """A table for every input, with everything that was measured."""
    return "\n\n".join(_detail(name, told) for name, told in everything.items())


def _detail(name: str, told: dict[str, Any]) -> str:
    head = ["", "pictures/s", "of rounds", "whole run, s", "CPU s/picture", "peak memory, MB", "cosine", "fanfold is"]
    rows = [
        [
            fact["label"],
            f"{fact['rate']:.1f}",
            f"{fact['slowest']:.1f} to {fact['fastest']:.1f}",
            f"{fact['wall']:.1f}",
            f"{fact['cpu']:.4f}",
            f"{fact['peak'] / 1e6:,.0f}",
            f"{fact['cosine']:.4f}",
            _ratio(told, fact["rate"]),
        ]
        for fact in told["candidates"].values()
    ]
    top = whole(told["limit"])
    parts = ", ".join(f"{part} alone {rate:.0f}/s" for part, rate in told["limit"].items())
    said = f"Limit of this machine: {top:.1f}/s ({parts}); fanfold reaches {_ratio(told, top)} of it."
    if "fastembed" in told["candidates"] and name == "png":
        said += " Its cosine tells that fastembed drops transparency; it does less work, and is shown all the same."
    return f"### {TITLES[name]}: {told['input']}\n\n{results.markdown(head, rows)}\n\n{said}"


def peers_versions() -> str:
    """The versions of the candidates' libraries."""
    ours = measure.versions(measure.OURS / "python", "onnxruntime", "pillow", "simplejpeg", "pylance")
    peers = measure.versions(measure.PEERS / "python", "torch", "fastembed", "daft", "ray", "onnxruntime", "pillow")
    return f"here {ours}; peers {peers}"


def say(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
