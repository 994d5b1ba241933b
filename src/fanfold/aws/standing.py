"""How a run stands, for those who wait for it: what the Lambda answers to {"Run": ID}.

{"Run", "Database", "Table", "State": "running", "Doing": a text, "AskAgain": seconds}
{"Run", "Database", "Table", "State": "succeeded", "Report": as `fanfold report --json` has it}
{"Run", "Database", "Table", "State": "failed", "Cause": a text}
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fanfold.aws.deployment import Deployment
from fanfold.executors.aws_batch import AwsBatch
from fanfold.report import Report
from fanfold.runs import RunDirectory

COMMIT_WITHIN = 900.0
"""Seconds after the end of a run's last job in which another may still be submitted that commits: see `trigger`."""
SOONEST, LATEST = 5, 300
"""Seconds after which to ask again: a twentieth of a run's age, within these."""
REFUSED_AT_MOST = 20
"""Rows that a report may name as refused: the output of a Step Functions execution holds 256 KiB at most."""


def standing(run: RunDirectory, deployment: Deployment) -> dict[str, Any]:
    """How a run stands. Raises StorageError when S3 or AWS Batch cannot be used."""
    asked = run.get("run.json") or {}
    known = {"Run": run.id, "Database": run.database, "Table": asked.get("table", "")}
    report = run.get("report.json")
    if report and report["ended"] != "interrupted":
        return known | _ended(run, report)
    if doing := _doing(run, deployment):
        return known | {"State": "running", "Doing": doing, "AskAgain": _pause(asked)}
    return known | _failed(run, "has ended without a commit: the next run commits what it did.")


def _ended(run: RunDirectory, content: Mapping[str, Any]) -> dict[str, Any]:
    report = Report.from_json(content)
    if content["ended"] == "cancelled":
        return _failed(run, "was cancelled: what it did is kept, and the next run does the rest.")
    if report.lost:
        return _failed(run, f"lost {report.lost:,} of {report.listed:,} items: the next run does them.")
    if not report.complete:
        return _failed(run, "did not see its whole source: the next run does.")
    return {"State": "succeeded", "Report": _short(content)}


def _failed(run: RunDirectory, why: str) -> dict[str, Any]:
    return {"State": "failed", "Cause": f"Run {run.id} {why} More: fanfold report {run.database} {run.id}"}


def _doing(run: RunDirectory, deployment: Deployment) -> str:
    """What a run that has not ended is doing; nothing if nobody will end it."""
    jobs = run.get("jobs.json")
    if jobs is None or not jobs["executor"].startswith("aws-batch:"):
        return "at work" if run.is_alive() else ""
    executor = AwsBatch(deployment)
    if doing := executor.state(run):
        return doing
    return "AWS Batch, commit: to be submitted" if time.time() - executor.ended(run) < COMMIT_WITHIN else ""


def _pause(asked: Mapping[str, Any]) -> int:
    """Seconds until it is worth asking again."""
    began = datetime.fromisoformat(asked["started"]) if "started" in asked else datetime.now(UTC)
    return min(LATEST, max(SOONEST, round((datetime.now(UTC) - began).total_seconds() / 20)))


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without most of the rows that mirrors refused, should there be many; how many is said."""
    mirrors = {}
    for address, taken in report.get("mirror", {}).items():
        refused = taken.get("refused", {})
        some = dict(list(refused.items())[:REFUSED_AT_MOST])
        mirrors[address] = {**taken, "refused": some, "refused_in_all": len(refused)}
    return {**report, "mirror": mirrors}
