"""Try every candidate's other settings, so that each can be shown at its best.

    .venv/bin/python benches/tune.py [--pictures 400] [--rounds 2] [--input 500x375] [--only tuned,daft]

The settings to use are written in candidates.py by hand, for the reasons given there.
"""

import argparse
from collections import defaultdict

import measure
import pictures
import results
from candidates import CANDIDATES, Result, Task

from images import say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--input", choices=pictures.INPUTS, default=pictures.INPUTS[0])
    parser.add_argument("--only", type=lambda text: text.split(","))
    args = parser.parse_args()
    busy = measure.idle()
    folder = pictures.make(args.input, args.pictures)
    task = Task(folder, pictures.in_folder(folder))
    chosen = [candidate for candidate in CANDIDATES if not args.only or candidate.name in args.only]
    best: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for _ in range(args.rounds):
        for candidate in chosen:
            for settings in ({}, *candidate.others):
                told = " ".join(f"{name}={value}" for name, value in settings.items()) or "as chosen"
                best[candidate.label, told].append(candidate.run(task, settings=settings))
                say(f"{candidate.name:10} {told:28} {best[candidate.label, told][-1].rate:7.1f}/s")
    rows = [[label, told, *_best(found)] for (label, told), found in best.items()]
    table = results.markdown(["", "settings", "pictures/s", "CPU s/picture"], rows)
    print(results.record("tune", table, f"Best of {args.rounds} rounds; {pictures.describe(task.paths)}.", busy))


def _best(found: list[Result]) -> tuple[str, str]:
    top = max(found, key=lambda result: result.rate)
    return f"{top.rate:.1f}", f"{top.cpu / top.pictures:.4f}"


if __name__ == "__main__":
    main()
