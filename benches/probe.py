"""Finds what the TLS clients of clients.toml accept, and writes it to known.toml; `fanfold tls probe --known` shows it.

    CLIENTS=/tmp/clients benches/clients.sh
    CLIENTS=/tmp/clients .venv/bin/python benches/probe.py            or: benches/probe.py Java

A client that cannot be run here is left out, and its earlier rows stay.
"""

import argparse
import json
import os
import re
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from fanfold.errors import UsageError
from fanfold.tls.probe import known
from fanfold.tls.probe.chains import rows
from fanfold.tls.probe.client import Command
from fanfold.tls.probe.known import Known
from fanfold.tls.probe.probe import Probed, probe
from fanfold.tls.zoo import load

HERE = Path(__file__).parent
SCHEME, PROFILE = "ML-DSA-65", "2026"
"""What shows whether a client knows ML-DSA."""


def main() -> None:
    """Probe them one after the other, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", default=[""], help="only clients whose name has one of these texts")
    only = [text.lower() for text in parser.parse_args().only]
    environment()
    for entry in tomllib.loads((HERE / "clients.toml").read_text())["client"]:
        name = f"{entry['client']}, {entry['by']}"
        if any(text in name.lower() for text in only):
            try:
                one = probed(entry)
            except (OSError, UsageError, subprocess.SubprocessError) as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            known.known.cache_clear()  # another process may have written
            found = {(one.client, one.by): one for one in known.known()} | {(one.client, one.by): one}
            known.FILE.write_text(written(found.values()))
            print(one, flush=True)


def environment() -> None:
    """Let the clients find each other, and their libraries."""
    clients = Path(os.environ["CLIENTS"])
    debian = clients / "debian"
    os.environ |= {"HERE": str(HERE / "clients"), "PYTHON": sys.executable}
    os.environ["PATH"] += f":{debian}/usr/bin:{debian}/usr/lib/firefox-esr"
    os.environ["LD_LIBRARY_PATH"] = f"{debian}/usr/lib/x86_64-linux-gnu:{debian}/lib/x86_64-linux-gnu"
    os.environ["ERL_ROOTDIR"] = f"{debian}/usr/lib/erlang"


def probed(entry: Mapping[str, Any]) -> Known:
    """A client's row. Raises UsageError, OSError or SubprocessError for one that cannot be run here."""
    shown = subprocess.run(expanded(entry["version"]), capture_output=True, text=True, check=True, timeout=60).stdout
    match = re.search(entry["pattern"], shown)
    if not match:
        raise UsageError(f"its version is not in: {shown}")
    http, timeout = entry.get("http", True), entry.get("timeout", 15)
    command = expanded(entry["command"])
    found = probe(command, http=http, timeout=timeout, limits_only=True)
    print(f"  {found.kind}: {found.count}\n  {found.bytes}", flush=True)
    return Known(
        client=entry["client"],
        version=entry.get("prefix", "") + match[1],
        kind=found.kind,
        certificates=found.most_certificates,
        bytes=found.most_bytes,
        one=found.one_certificate,
        ml_dsa=knows_ml_dsa(Command(command, http, timeout)),
        tls=found.tls.removeprefix("TLSv"),
        date=date.today(),
        by=entry["by"],
        how=" ".join(map(shortened, entry["command"])),
        ended=ended(found),
    )


def expanded(words: list[str]) -> list[str]:
    """Words with the variables of the environment; {placeholders} stay."""
    return [string.Template(word).safe_substitute(os.environ) for word in words]


def shortened(word: str) -> str:
    """A word without the folder that is of this machine."""
    return word.rpartition("/")[2].replace("$PYTHON", "python") if word.startswith("$") else word


def knows_ml_dsa(command: Command) -> bool:
    """Whether a client accepts a chain of ML-DSA."""
    shown = next(row for row in rows(load()) if (row.scheme.name, row.profile) == (SCHEME, PROFILE))
    return any(command.ask(shown.credentials).outcome == "accepted" for _ in range(3))


def ended(found: Probed) -> str:
    """How the smallest one that was not accepted ended."""
    limit = found.count if found.kind == "count" else found.bytes
    answer = limit.at_limit
    if not answer or found.kind == "none":
        return ""
    return f"{answer.by} {answer.alert}".strip()


def written(rows: Iterable[Known]) -> str:
    """The rows as TOML."""
    parts = [
        "# What TLS clients accept. Written by benches/probe.py, but for what the article of 2021 says.\nformat = 1\n"
    ]
    for row in sorted(rows, key=lambda row: (row.client.lower(), row.date, row.version, row.by)):
        lines = [f"{name} = {toml(value)}" for name, value in asdict(row).items() if value not in (None, "")]
        parts.append("\n".join(["[[client]]", *lines]) + "\n")
    return "\n".join(parts)


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


if __name__ == "__main__":
    main()
