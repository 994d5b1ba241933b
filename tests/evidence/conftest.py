"""Event logs of one invented machine, for all tests of the job."""

from pathlib import Path

import pytest

from event_logs import write_machine


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder of a machine."""
    return write_machine(tmp_path / "host1")
