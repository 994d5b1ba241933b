"""Event logs of one invented machine, for all tests of the job."""

from pathlib import Path

import pytest

from event_logs import COUNTS, events, write_log


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder as KAPE makes it: three logs below C/Windows/System32/winevt/Logs, and a file of another kind."""
    folder = tmp_path / "host1"
    below = folder / "C" / "Windows" / "System32" / "winevt" / "Logs"
    for name, count in COUNTS.items():
        write_log(below / f"{name}.evtx", events(count, name), spare=2)
    (folder / "C" / "Windows" / "notes.txt").write_text("not a log")
    return folder
