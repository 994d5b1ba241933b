"""Databases that an older version of fanfold has made: what to do is said."""

from pathlib import Path

import lance
import pytest
from scans import scan

from commands import fanfold as command
from event_logs import events, write_log
from fanfold.evidence import Evidence


@pytest.mark.parametrize(
    ("words", "table", "column"),
    [
        (["report"], "evidence", "renumbered"),
        (["report"], "evidence_events", "written_id"),
        (["report"], "containers", "sidecar"),
        (["coverage"], "evidence", "renumbered"),
        (["events"], "evidence_events", "written_id"),
        (["show", "Security#1"], "evidence_events", "written_id"),
        (["timeline"], "evidence_events", "written_id"),
    ],
)
def test_a_table_that_lacks_a_column(words: list[str], table: str, column: str, tmp_path: Path) -> None:
    """Each command that shows records ends with the table, what it lacks, and what to type next."""
    write_log(tmp_path / "given" / "Security.evtx", events(3))
    scan(tmp_path / "given", str(tmp_path / "db"))
    asked = ["evidence", words[0], "db", *words[1:]]
    assert command(*asked, cwd=tmp_path).returncode == 0
    lance.dataset(str(tmp_path / "db" / f"{table}.lance")).drop_columns([column])
    done = command(*asked, cwd=tmp_path)
    says = (
        f"db was made by an older fanfold: its table {table} has no column '{column}'. "
        "Scan again, into a new database: fanfold evidence scan SOURCE... DATABASE"
    )
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert not done.stdout


def test_a_scan_into_a_database_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan never mixes rows that were read otherwise: it ends before it reads, and says what to do."""
    write_log(tmp_path / "given" / "Security.evtx", events(3))
    scan(tmp_path / "given", str(tmp_path / "db"))
    monkeypatch.setattr(Evidence, "recipe", lambda _: {"rows": "0", "parser": "evtx 0.1"})
    done = command("evidence", "scan", "given", "db", cwd=tmp_path)
    assert done.returncode == 2
    assert "db was made by another version of fanfold, which read evidence otherwise. Scan again" in " ".join(
        done.stderr.split()
    )
