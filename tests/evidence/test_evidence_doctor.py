"""`fanfold doctor`: the extras of the job, and what cannot be read without them."""

import json
import subprocess
import sys

import nursery

ABSENT = "sys.modules |= dict.fromkeys(['pyvmdk', 'pyscca'])"  # as if they were not installed


def fanfold(*words: str, prelude: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line after a line of Python."""
    code = f"import sys; sys.argv = ['fanfold', *{words!r}]; {prelude}\nfrom fanfold.cli import main; main()"
    return nursery.run([sys.executable, "-c", code])


def test_all_extras_are_there() -> None:
    """With all of them installed there is nothing to say."""
    shown = fanfold("doctor")
    assert "evidence-prefetch, evidence-vm, evidence-vss" in shown.stdout
    assert "fanfold[evidence" not in shown.stdout


def test_what_is_missing_is_named() -> None:
    """An extra that is missing is named, with what fails without it, and what to type."""
    told = json.loads(fanfold("doctor", "--json", prelude=ABSENT).stdout)
    assert told["evidence"] == {"installed": ["evidence-vss"], "missing": ["evidence-vm", "evidence-prefetch"]}
    advice = [sentence for sentence in told["advice"] if "evidence-" in sentence]
    assert [sentence.partition(" (")[0].partition(",")[0] for sentence in advice] == [
        "Disks of virtual machines", "Files of Prefetch",
    ]  # fmt: skip
    assert "To read them: pip install 'fanfold[evidence-vm]'" in advice[0]
