"""Report on an invented server: its disk image is made here, then scanned; the report is text, and a page.

python examples/evidence.py [DISK.E01]      without DISK.E01: the invented server
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

DEMO = Path("demo")
TESTS = Path(__file__).resolve().parent.parent / "tests"


def main() -> int:
    """Scan, report."""
    given = Path(sys.argv[1]).expanduser() if len(sys.argv) > 1 else invented(DEMO)
    database, page = DEMO / f"{given.name}.db", DEMO / f"{given.name}.html"
    code = call("fanfold", "evidence", "scan", given, database)
    if code not in (0, 3):  # 3: some of it cannot be read; the report says what
        return code
    if code := call("fanfold", "evidence", "report", database, "--html", page):
        return code
    if code := call("fanfold", "evidence", "report", database):
        return code
    print(f"The report as a page: {page}")
    return 0


def call(*command: object) -> int:
    """Show a command, run it, and return its exit code."""
    words = [str(word) for word in command]
    print("$", shlex.join(words), flush=True)
    code = subprocess.call([str(Path(sys.executable).parent / words[0]), *words[1:]])
    print(flush=True)
    return code


def invented(folder: Path) -> Path:
    """The disk image of a server where somebody sits down, connects a USB disk and runs an imaging program from it."""
    sys.path[:0] = [str(TESTS), str(TESTS / "evidence")]
    import mesa

    shutil.rmtree(folder / "mesa.E01.db", ignore_errors=True)  # the image is new, too
    return mesa.disk_image(folder)


if __name__ == "__main__":
    sys.exit(main())
