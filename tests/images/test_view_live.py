"""What an open page hears of the table and of a run."""

import asyncio
import json
from pathlib import Path

import lance

from fanfold.core.runs import Outcome
from fanfold.images.viewer.live import Live
from fanfold.images.viewer.tables import Tables
from helpers import begun, embed


def test_a_run_is_followed_from_its_listing_to_its_end(tmp_path: Path, database: str) -> None:
    """A run of this table has its counts while it lives; one that has ended, or fills another table, has none."""
    run = begun(tmp_path / "texts", database, [["a", "b"], ["c"]])
    live = Live(Tables(database, "scripted"))
    before = sorted(map(str, Path(database).rglob("*")))
    assert live.state()["run"] == {"id": run.id, "ok": 0, "failed": 0, "planned": None}
    assert Live(Tables(database, "failures")).state()["run"] is None
    assert sorted(map(str, Path(database).rglob("*"))) == before
    run.put("plan.json", {"tasks": 2, "listed": 13, "planned": 3, "bytes": 3, "failed_before": 2})
    run.write_receipt(Outcome(0, 1, 2, "done", ok=1, failed=1))
    assert live.state()["run"] == {"id": run.id, "ok": 1, "failed": 1, "planned": 3}
    run.write_receipt(Outcome(1, 1, 1, "done", ok=1))
    assert live.state()["run"] == {"id": run.id, "ok": 2, "failed": 1, "planned": 3}
    run.end({"run": run.id, "listed": 13, "unchanged": 8, "ok": 2, "failed": 3}, "complete")
    assert live.state()["run"] is None


def test_events_come_when_something_changes(tmp_path: Path, database: str) -> None:
    """A page hears the state at once, again when the table has changed, and nothing in between; the end is quick."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    embed(tmp_path / "texts", database)
    live = Live(Tables(database, "scripted"))

    async def heard() -> list[dict[str, object]]:
        events, found = live.events(), []
        found.append(json.loads((await anext(events)).removeprefix("data: ")))
        lance.dataset(f"{database}/scripted.lance").delete("key = 'a.txt'")
        found.append(json.loads((await anext(events)).removeprefix("data: ")))
        live.stopping = True
        assert [event async for event in events] == []
        return found

    first, second = asyncio.run(heard())
    assert (first["rows"], second["rows"]) == (1, 0)
    assert first["version"] != second["version"]
