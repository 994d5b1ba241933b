"""`examples/tls.py`: a grid from a file, done and shown."""

import re
import sys
from pathlib import Path

import nursery

EXAMPLE = Path(__file__).parents[2] / "examples" / "tls.py"


def test_the_example_shows_slowdowns(tmp_path: Path) -> None:
    """Its table has a line for each link; a second time nothing is left to do, and it shows the same."""
    shown = []
    for _ in range(2):
        done = nursery.run([sys.executable, EXAMPLE], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown.append(done)
    assert sum(map(int, re.findall(r"(\d+) cells done", shown[0].stderr))) == 16
    assert "cells done" not in shown[1].stderr
    assert shown[0].stdout == shown[1].stdout
    (narrow, wide) = (
        [int(number) for number in re.findall(r"([+-]\d+)%", line)]
        for line in re.findall(r"^100 ms, 20 Mbit/s, window of .*", shown[1].stdout, re.M)
    )
    assert all(60 < slower < 160 for slower in narrow[1:])  # a round trip more
    assert all(slower < 60 for slower in (narrow[0], *wide[:3]))
    assert "<svg" in (tmp_path / "demo" / "tls-report" / "index.html").read_text()
