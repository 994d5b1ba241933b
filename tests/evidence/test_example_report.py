"""The example `examples/evidence.py`: a disk image is made, scanned and reported on."""

import sys
from pathlib import Path

import nursery

EXAMPLE = Path(__file__).parents[2] / "examples" / "evidence.py"


def test_the_demo_reports_on_the_invented_server(tmp_path: Path) -> None:
    """It prints what happened, makes the page, and can be run again."""
    for _ in range(2):
        done = nursery.run([sys.executable, EXAMPLE], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "EMSSERVER\\emsadmin logged on at the console." in done.stdout
        assert "Its content has the MD5 and SHA1 that are stored with it." in done.stdout
        assert done.stdout.endswith("The report as a page: demo/mesa.E01.html\n")
        assert "easystore 264D" in (tmp_path / "demo" / "mesa.E01.html").read_text()


def test_the_demo_takes_a_disk(tmp_path: Path) -> None:
    """A disk image that cannot be read ends it with the scan's exit code."""
    (tmp_path / "disk.E01").write_bytes(b"EVF\x09\x0d\x0a\xff\x00" + bytes(100))
    done = nursery.run([sys.executable, EXAMPLE, "disk.E01"], cwd=tmp_path)
    assert done.returncode != 0
    assert "fanfold evidence report" not in done.stdout.splitlines()[-1]
