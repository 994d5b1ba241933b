"""A folder of a million files: the time until the first vectors appear, and the memory while listing it all.

    .venv/bin/python benches/first.py [--files 1000000] [--rounds 3] [--stay 180]

Starts the command line like a script (progress on a pipe: one line per second at first), waits for the first line with
a finished vector, and stops it. A last round continues until everything is listed, or for `--stay` seconds, and
measures memory.
"""

import argparse
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import measure
import pictures
import results

LINE = re.compile(r"^([\d,]+) of ([\d,]+)(\+?) done")


@dataclass
class Seen:
    """Facts from the progress lines, in seconds since the start."""

    first: float = 0.0
    """The first line with a vector done."""
    done: int = 0
    """Vectors done in that line."""
    listed: float = 0.0
    """The first line with a complete listing; 0 if there was none."""
    planned: int = 0
    """Items listed, in the last line read."""
    peak: int = 0
    """Bytes of memory."""


def watch(folder: Path, database: Path, stay: float = 0.0) -> Seen:
    """Start fanfold, watch its progress, and stop it."""
    shutil.rmtree(database, ignore_errors=True)
    seen, before, started = Seen(), set(measure.descendants(os.getpid())), time.perf_counter()
    command = [measure.OURS / "fanfold", "images", "embed", folder, database]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        with measure.watched(before if stay else None) as memory:
            for line in process.stderr:
                if (found := LINE.match(line)) and _enough(seen, found, time.perf_counter() - started, stay):
                    break
        process.terminate()
        process.communicate()
    seen.peak = memory.peak
    shutil.rmtree(database)
    return seen


def _enough(seen: Seen, found: re.Match[str], now: float, stay: float) -> bool:
    """Record a progress line; return whether everything needed was seen."""
    done, seen.planned = (int(number.replace(",", "")) for number in found.groups()[:2])
    if done and not seen.first:
        seen.first, seen.done = now, done
    if not found[3] and not seen.listed:
        seen.listed = now
    return bool(seen.first and (seen.listed or now > stay))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stay", type=float, default=180.0, help="seconds of the last round, at most")
    args = parser.parse_args()
    busy = measure.idle()
    folder, database = pictures.many(args.files), pictures.DATA / "work" / "first.db"
    rounds = [watch(folder, database) for _ in range(args.rounds)]
    last = watch(folder, database, args.stay)
    seconds = median(seen.first for seen in rounds)
    spread = f"{min(seen.first for seen in rounds):.1f} to {max(seen.first for seen in rounds):.1f} s"
    listed = f"all listed after {last.listed:.0f} s" if last.listed else f"{last.planned:,} listed in {args.stay:.0f} s"
    readme = (
        f"In a folder of {args.files:,} pictures the first vectors show after {seconds:.1f} s; "
        f"{listed}, in {last.peak / 1e6:,.0f} MB."
    )
    rest = (
        f"{args.rounds} rounds of {spread}, with {', '.join(str(seen.done) for seen in rounds)} vectors in that line."
    )
    print(results.record("first", readme, rest, busy))


if __name__ == "__main__":
    main()
