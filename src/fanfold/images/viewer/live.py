"""What happens while a page is open: new rows, and the run that makes them.

    table, run directory ──look, every second──▶ state ──if it changed──▶ every page (server-sent events)

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fanfold.core import driver
from fanfold.core.catalog import list_runs
from fanfold.core.report import Count
from fanfold.core.runs import DEAD_AFTER, DETACHED_DEAD_AFTER, RunDirectory
from fanfold.core.table import Table
from fanfold.errors import FanfoldError
from fanfold.images.viewer.tables import Tables, quoted
from fanfold.storage import errors_of, is_url

EVERY, EVERY_REMOTE = 1.0, 5.0
"""Seconds between two looks; at a database on an object store."""
_SILENCE = 15.0  # seconds after which a comment shows that the connection lives
_RUNS = 3  # the newest, one of which may be under way


class Live:
    """Looks at a table while pages listen."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._every = EVERY_REMOTE if is_url(tables.database) else EVERY
        self._runs: dict[str, _Progress] = {}
        self._listeners = 0
        self._state: dict[str, Any] = {}
        self._looked = 0.0
        self._looking = threading.Lock()
        self.stopping = False

    def state(self) -> dict[str, Any]:
        """The table's newest version and its rows, failures, and the run under way."""
        try:
            version = self._tables.newest()
            found: dict[str, Any] = {"version": version.name, "rows": version.rows, "failures": self._failures()}
        except FanfoldError as error:
            return {"error": str(error)}
        return found | {"run": self._run()}

    async def events(self) -> AsyncIterator[str]:
        """The states, as they change, in the form of server-sent events."""
        sent, silent = "", 0.0
        while not self.stopping:
            state = json.dumps(await asyncio.to_thread(self._shared))
            if state != sent:
                sent, silent = state, 0.0
                yield f"data: {state}\n\n"
            elif silent > _SILENCE:
                silent = 0.0
                yield ": still here\n\n"
            for _ in range(int(self._every * 4)):  # it ends soon when the server does
                if self.stopping:
                    return
                await asyncio.sleep(0.25)
            silent += self._every

    def _shared(self) -> dict[str, Any]:
        """The state; several pages share a look."""
        with self._looking:
            now = datetime.now(UTC).timestamp()
            if not 0 <= now - self._looked < self._every * 0.9:
                self._state, self._looked = self.state(), now
            return self._state

    def _failures(self) -> int:
        table = Table.open(self._tables.database, "failures")
        return int(table.dataset.count_rows(filter=f"`table` = {quoted(self._tables.table)}")) if table else 0

    def _run(self) -> dict[str, Any] | None:
        """The progress of a run that fills the table now."""
        with suppress(FanfoldError):
            for id in reversed(list_runs(self._tables.database)[-_RUNS:]):
                progress = self._runs.setdefault(id, _Progress(RunDirectory(self._tables.database, id, create=False)))
                if found := progress.look(self._tables.table):
                    return found
        return None


class _Progress:
    """One run's progress, from its plan and its receipts."""

    def __init__(self, run: RunDirectory) -> None:
        self._run, self._count, self._ended = run, Count(), False
        self._seen: set[str] = set()

    def look(self, table: str) -> dict[str, Any] | None:
        """Its counts; None if it has ended, or fills another table."""
        if self._ended or self._run.asked.table != table:
            return None
        if self._run.get("report.json") is not None or not _lives(self._run):
            self._ended = self._run.get("report.json") is not None
            return None
        for outcome in self._run.receipts(self._seen):
            self._count.add(outcome)
        report, plan = self._count.report(self._run), self._run.get("plan.json")
        before = plan.get("failed_before", 0) if plan else 0
        planned = plan["planned"] if plan else None
        return {"id": self._run.id, "ok": report.ok, "failed": report.failed - before, "planned": planned}


def _lives(run: RunDirectory) -> bool:
    """Whether a run is driven still. `RunDirectory.is_alive` is surer, but writes a file."""
    if run.get("stopped.json") is not None:
        return False
    detached = run.asked.detached and run.get("jobs.json") is not None
    if not detached and driver.is_here(run.asked.driver):
        return driver.lives(run.asked.driver)
    with suppress(FanfoldError, OSError), errors_of(run.address):
        silent = datetime.now(UTC) - run.store.head("alive")["last_modified"]
        return silent < timedelta(seconds=DETACHED_DEAD_AFTER if detached else DEAD_AFTER)
    return False
