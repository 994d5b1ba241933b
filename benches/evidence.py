"""Event logs of a disk image: fanfold compared with log2timeline (plaso). The same image, from nothing to a table.

    python3 -m venv .venv-plaso && .venv-plaso/bin/pip install plaso     (a minute: it compiles)
    .venv/bin/python benches/evidence.py IMAGE [--rounds 3] [--plaso .venv-plaso/bin]

Each candidate is a separate process with two workers; the first round warms up the disk cache and measures memory.
The results are medians of the other rounds, whose order rotates.
"""

import argparse
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import measure
import results

from fanfold.evidence import tables

WORKERS = 2


@dataclass
class Candidate:
    """A way to do it."""

    name: str
    label: str
    command: Callable[[Path, Path], list[object]]
    """Given the image and a folder to write to."""


def fanfold(*flags: str) -> Callable[[Path, Path], list[object]]:
    """A scan with these flags."""
    return lambda image, folder: [
        measure.OURS / "fanfold", "evidence", "scan", image, folder / "db", "--workers", WORKERS, *flags,
    ]  # fmt: skip


def candidates(plaso: Path | None) -> list[Candidate]:
    """All of them; log2timeline if it is there."""
    found = [
        Candidate("logs", "**fanfold**, the logs", fanfold("--no-carve", "--verify", "none")),
        Candidate("verify", "**fanfold**, and the image verified", fanfold("--no-carve")),
        Candidate("all", "**fanfold**, and all bytes searched for logs", fanfold()),
    ]
    if plaso:
        found.append(Candidate("plaso", "log2timeline (plaso), the logs", lambda image, folder: [
            plaso / "log2timeline", "--parsers", "winevtx", "--workers", WORKERS, "--status_view", "none", "-u", "-q",
            "--partitions", "all", "--volumes", "none", "--logfile", folder / "log.gz",
            "--storage-file", folder / "out.plaso", image,
        ]))  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="the first file of a disk image")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--plaso", type=Path, help="the folder of log2timeline")
    args = parser.parse_args()
    busy = measure.idle()
    chosen = candidates(args.plaso)
    rounds: dict[str, list[measure.Measured]] = defaultdict(list)
    records = 0
    for number in range(args.rounds + 1):
        at = number % len(chosen)
        for candidate in [*chosen[at:], *chosen[:at]]:
            folder = Path(tempfile.mkdtemp(prefix="bench-evidence-"))
            measured = measure.checked(measure.run(candidate.command(args.image, folder), memory=number == 0))
            rounds[candidate.name].append(measured)
            print(f"round {number}  {candidate.name:8} {measured.wall:6.2f} s")
            if candidate.name == "logs":
                records = tables.table_of(str(folder / "db"), tables.EVENTS).count_rows()
            shutil.rmtree(folder)
    base = median(one.wall for one in rounds["logs"][1:])
    rows = []
    for candidate in chosen:
        first, *timed = rounds[candidate.name]
        walls = [one.wall for one in timed]
        rows.append([
            candidate.label, f"{median(walls):.2f}", f"{min(walls):.2f} to {max(walls):.2f}",
            f"{median(one.cpu for one in timed):.2f}", f"{first.peak / 1e6:,.0f}", f"{records / median(walls):,.0f}",
            f"{median(walls) / base:.1f}x",
        ])  # fmt: skip
    size = sum(file.stat().st_size for file in args.image.parent.glob(f"{args.image.stem}.*"))
    head = [f"{records:,} records in an image of {size / 1e6:,.0f} MB", "s", "of rounds", "CPU s", "peak memory, MB",
            "records/s", "takes"]  # fmt: skip
    print(results.record("evidence", results.markdown(head, rows), "", busy))


if __name__ == "__main__":
    main()
