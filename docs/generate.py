"""Write what the docs say about commands, options and models from the code itself, so that they cannot differ.

`make docs` runs this; a test runs it too, and compares.
"""

import re
from dataclasses import fields
from pathlib import Path

from fanfold.cli import app
from fanfold.images import Images
from fanfold.images.models.registry import MODELS
from fanfold.tls.probe.known import known
from fanfold.tls.probe.show import COLUMNS, known_row

INTRODUCTION = """# Command line

<!-- Written by docs/generate.py; do not edit. -->

Results go to stdout, progress and errors to stderr.
Exit codes: 0 all done, 1 the run failed, 2 the command was wrong, 3 finished with failed items, 130 stopped by
Ctrl-C, 143 by SIGTERM.
`--json` prints one JSON object per line.

"""


def command_page() -> str:
    """The whole of cli.md."""
    return INTRODUCTION + app.generate_docs(output_format="markdown", recursive=True, heading_level=2) + "\n"


def option_table() -> str:
    """The images job's fields."""
    rows = [
        f"| `{field.name}` | `--{field.name.replace('_', '-')}` | `{field.default}` | {field.metadata['help']} |"
        for field in fields(Images)
    ]
    return "\n".join(["| field | flag | default | meaning |", "|---|---|---|---|", *rows])


def model_table() -> str:
    """The models that have a name."""
    rows = [
        f"| `{model.name}` | {model.dimension} | {model.licence} | "
        f"{_size(model.download_bytes)} | {_size(model.text.download_bytes if model.text else 0)} | `{model.extra}` |"
        for model in MODELS
    ]
    head = "| model | dimension | licence | download | text encoder | extra |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count else "none"


def client_table() -> str:
    """What TLS clients are known to accept."""
    rows = [f"| {' | '.join(known_row(one))} |" for one in known()]
    return "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *rows])


def filled(page: str, name: str, content: str) -> str:
    """The page with `content` between the comments called `name`."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", rf"\1{content}\n\2", page, flags=re.S)


def main(folder: Path) -> None:
    """Renew the generated parts of the pages in a folder."""
    (folder / "cli.md").write_text(command_page())
    page = (folder / "images.md").read_text()
    page = filled(filled(page, "options", option_table()), "models", model_table())
    (folder / "images.md").write_text(page)
    page = (folder / "tls.md").read_text()
    (folder / "tls.md").write_text(filled(page, "clients", client_table()))


if __name__ == "__main__":
    main(Path(__file__).parent)
