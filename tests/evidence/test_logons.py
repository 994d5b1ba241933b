"""The example `examples/logons.py`: who logged on, and who failed to."""

import sys
from pathlib import Path

import nursery
from commands import fanfold


def test_logons_are_counted(logs: Path, database: str) -> None:
    """Logons and failures of each account are counted by their kind."""
    assert fanfold("evidence", "scan", logs, database).returncode == 0
    script = Path(__file__).parents[2] / "examples" / "logons.py"
    done = nursery.run([sys.executable, script, database])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["emsadmin", "interactive", "270", "30"]
