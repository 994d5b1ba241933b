"""Every benchmark, one after the other, then the README's table: about 55 minutes on two cores left alone."""

import subprocess
import sys

from measure import PEERS, ROOT

BENCHES = ROOT / "benches"
STEPS = (
    "images.py",
    "precision.py",
    "decode.py",
    "first.py",
    "rerun.py",
    "planning.py",
    "scale.py",
    "search.py",
    "duplicates.py",
    "estimate.py",
    "dynamodb.py",
    "results.py",
)


def main() -> None:
    if not PEERS.exists():
        subprocess.run([BENCHES / "peers.sh"], check=True)
    for step in STEPS:
        subprocess.run([sys.executable, BENCHES / step], check=True)


if __name__ == "__main__":
    main()
