"""The state of a run: the Lambda's answer to {"Run": ID}.

{"Run", "Database", "Table", "State": "running", "Doing": a text, "AskAgain": seconds}
{"Run", "Database", "Table", "State": "succeeded", "Report": as `fanfold report --json` has it}
{"Run", "Database", "Table", "State": "failed", "Cause": a text}
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fanfold.aws.batch import AwsBatch
from fanfold.aws.deployment import Deployment
from fanfold.core.report import Report
from fanfold.core.runs import RunDirectory

COMMIT_WITHIN = 900.0
"""Seconds after the end of a run's last job in which `trigger` may still submit another committing job."""
SOONEST, LATEST = 5, 300
"""Limits of the seconds until the next question, which are a twentieth of the run's age."""
REFUSED_AT_MOST = 20
"""Most refused rows in a report: the output of a Step Functions execution has at most 256 KiB."""


def standing(run: RunDirectory, deployment: Deployment) -> dict[str, Any]:
    """The state of a run. Raises StorageError when S3 or AWS Batch cannot be used."""
    known = {"Run": run.id, "Database": run.database, "Table": run.asked.table}
    report = run.get("report.json")
    if report and report["ended"] != "interrupted":
        return known | _ended(run, report)
    if doing := _doing(run, deployment):
        return known | {"State": "running", "Doing": doing, "AskAgain": _pause(run.asked.started)}
    return known | _failed(run, "ended without a commit. The next run commits its finished work.")


def _ended(run: RunDirectory, content: Mapping[str, Any]) -> dict[str, Any]:
    report = Report.from_json(content)
    if content["ended"] == "cancelled":
        return _failed(run, "was cancelled. Finished work is kept, and the next run does the rest.")
    if report.lost:
        return _failed(run, f"lost {report.lost:,} of {report.listed:,} items. The next run does them.")
    if not report.complete:
        return _failed(run, "did not list its whole source. The next run does the rest.")
    return {"State": "succeeded", "Report": _short(content)}


def _failed(run: RunDirectory, why: str) -> dict[str, Any]:
    return {"State": "failed", "Cause": f"Run {run.id} {why} More: fanfold report {run.database} {run.id}"}


def _doing(run: RunDirectory, deployment: Deployment) -> str:
    """The state of a run that has not ended; empty if nothing will end it."""
    jobs = run.get("jobs.json")
    if jobs is None or not jobs["executor"].startswith("aws-batch:"):
        return "at work" if run.is_alive() else ""
    executor = AwsBatch(deployment)
    if doing := executor.state(run):
        return doing
    return "AWS Batch, commit: to be submitted" if time.time() - executor.ended(run) < COMMIT_WITHIN else ""


def _pause(started: str) -> int:
    """Seconds to wait before the next question."""
    began = datetime.fromisoformat(started) if started else datetime.now(UTC)
    return min(LATEST, max(SOONEST, round((datetime.now(UTC) - began).total_seconds() / 20)))


def _short(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report with the first of the rows that mirrors refused, and their number."""
    mirrors = {}
    for address, taken in report.get("mirror", {}).items():
        refused = taken.get("refused", {})
        some = dict(list(refused.items())[:REFUSED_AT_MOST])
        mirrors[address] = {**taken, "refused": some, "refused_in_all": len(refused)}
    return {**report, "mirror": mirrors}
