"""Run every benchmark in turn, then update the README's table: three hours on two idle cores, 30 GB."""

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
    "scale.py --items 100000 1000000 10000000 --s3 100000 1000000 10000000",
    "search.py",
    "search.py --rows 1000000 --alone",
    "duplicates.py --rows 1000000",
    "words.py",
    "map.py",
    "view.py",
    "estimate.py",
    "dynamodb.py",
    "tls.py",
    "tls_serve.py",
    "results.py",
)


def main() -> None:
    if not PEERS.exists():
        subprocess.run([BENCHES / "peers.sh"], check=True)
    for step in STEPS:
        bench, *words = step.split()
        subprocess.run([sys.executable, BENCHES / bench, *words], check=True)


if __name__ == "__main__":
    main()
