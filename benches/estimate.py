"""How well does `fanfold plan images` predict a run's time? Estimated over actual seconds, for each input.

    .venv/bin/python benches/estimate.py [--inputs 500x375 12mp png small] [--rounds 3]

Each round plans and then runs directly afterwards, since a machine's speed drifts. The actual time is that of the whole
command, from start to end. The folders repeat their pictures (as hard links) until a run takes about 20 seconds;
`small` is a folder that is hardly larger than the sample.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import measure
import pictures
import results

WORK = pictures.DATA / "work"
INPUTS = {
    "500x375": ("500x375", 400, 1600),
    "12mp": ("12mp", 32, 320),
    "png": ("png", 796, 2388),
    "small": ("500x375", 100, 100),
}
"""Number of pictures made, and of files in the folder to embed."""


@dataclass
class Round:
    """One plan and one run."""

    estimated: float
    actual: float
    planning: float
    margin: float | None

    @property
    def ratio(self) -> float:
        """1 if the plan was exact."""
        return self.estimated / self.actual


def repeated(name: str, made: int, files: int) -> Path:
    """A folder of this many files: hard links to the pictures of an input, with a directory per repetition."""
    originals = pictures.in_folder(pictures.make(name, made))
    folder = WORK / f"estimate-{name}-{files}"
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(files):
        time, original = number // len(originals), originals[number % len(originals)]
        (folder / f"{time:03d}").mkdir(parents=True, exist_ok=True)
        os.link(original, folder / f"{time:03d}" / f"{number:06d}{original.suffix}")
    return folder


def one_round(folder: Path, files: int) -> Round:
    """Plan, then run."""
    database = WORK / "estimate.db"
    shutil.rmtree(database, ignore_errors=True)
    fanfold = measure.OURS / "fanfold"
    planned = measure.checked(measure.run([fanfold, "plan", "images", folder, database, "--json"]))
    assert not database.exists()
    ran = measure.checked(measure.run([fanfold, "images", "embed", folder, database, "--json"]))
    assert json.loads(ran.out)["ok"] == files, ran.out
    told = json.loads(planned.out)
    return Round(told["seconds"], ran.wall, planned.wall, told["estimate"]["margin"])


def row(name: str, files: int, rounds: Sequence[Round]) -> list[str]:
    """A line of the table."""
    ratios = sorted(one.ratio for one in rounds)
    return [
        name,
        f"{files:,}",
        f"{median(one.actual for one in rounds):.1f}",
        f"**{median(ratios):.2f}**",
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
        f"{median(one.margin or 0 for one in rounds):.0%}",
        f"{median(one.planning for one in rounds):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    busy = measure.idle()
    folders = {name: repeated(*INPUTS[name]) for name in args.inputs}
    told: dict[str, list[Round]] = {name: [] for name in args.inputs}
    for _ in range(args.rounds):
        for name, folder in folders.items():
            told[name].append(one_round(folder, INPUTS[name][2]))
            print(name, told[name][-1], flush=True)
    for folder in (*folders.values(), WORK / "estimate.db"):
        shutil.rmtree(folder, ignore_errors=True)
    head = ["", "pictures", "run, s", "estimated / actual", "of rounds", "margin told", "plan, s"]
    table = results.markdown(head, [row(name, INPUTS[name][2], told[name]) for name in args.inputs])
    off = [[abs(one.ratio - 1) for one in rounds] for rounds in told.values()]
    readme = (
        f"`fanfold plan` tells how long a run takes within {max(map(median, off)):.0%} on the input it knows worst "
        f"(median of {args.rounds}; the worst round of all was {max(map(max, off)):.0%} off)."
    )
    print(results.record("estimate", readme, table, busy))


if __name__ == "__main__":
    main()
