"""Scans in this process, and what they leave in a database."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fanfold
import nursery
from fanfold.evidence import Evidence, tables
from fanfold.evidence.containers import Containers
from fanfold.evidence.copies import ShadowCopies
from faults import wait_for
from helpers import Here

STAGES = (["live"], ["deleted"], ["carved", "verify"])


def scan(source: object, database: str, *stages: list[str]) -> list[fanfold.Report]:
    """All runs of a scan: that of the containers, then one for each group of stages; all in one, if none is named.

    Shadow copies are listed before a stage of theirs.
    """
    given = source if isinstance(source, list) else [str(source)]
    copies = [(ShadowCopies(), [database])] if ["shadow"] in stages else []
    reports = []
    for job, addresses in (
        (Containers(), given), *copies, *((Evidence(), [database, *some]) for some in stages or ([],))
    ):  # fmt: skip
        run = fanfold.run(job, source=addresses, database=database, executor=Here())
        for _ in run:
            pass
        reports.append(run.report)
    return reports


def rows(database: str, table: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    found: list[dict[str, Any]] = fanfold.open_table(database, table).to_table().to_pylist()
    return found


def records(database: str, *columns: str, where: str | None = None) -> Counter[tuple[Any, ...]]:
    """How often each record is in the table of events, by its machine, log and id, or by other columns."""
    found = tables.events(database, where, columns or ["image", "path", "record_id"])
    return Counter(tuple(row.values()) for batch in found for row in batch.to_pylist())


def killed(asked: Sequence[str], database: str, sign: str) -> None:
    """Start a command, and kill it as soon as something in the database has a name like `sign`."""
    driver = nursery.Popen(asked, stdout=nursery.DEVNULL, stderr=nursery.DEVNULL, start_new_session=True)
    wait_for(lambda: driver.poll() is not None or list(Path(database).glob(sign)))
    driver.kill()
    driver.wait()
