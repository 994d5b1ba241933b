"""Write docs/cli.md from the command line itself, so that the two cannot differ. `make docs` runs this."""

from pathlib import Path

from fanfold.cli import app

INTRODUCTION = """# Command line

<!-- Written by docs/generate.py; do not edit. -->

Results go to stdout, progress and errors to stderr.
Exit codes: 0 all done, 1 the run failed, 2 the command was wrong, 3 finished with failed items,
130 stopped by Ctrl-C.
A SIGTERM counts as Ctrl-C.
`--json` prints one JSON object a line.

"""


def page() -> str:
    """The whole page."""
    return INTRODUCTION + app.generate_docs(output_format="markdown", recursive=True, heading_level=2) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(page())
