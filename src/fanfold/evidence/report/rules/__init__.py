"""The questions, in the order of the report."""

from fanfold.evidence.report.findings import Rule
from fanfold.evidence.report.rules import (
    accounts,
    clearing,
    clock_changes,
    devices,
    limits,
    logons,
    machine,
    neighbours,
    noteworthy,
    power,
    programs,
    remote,
    taking,
)

RULES: tuple[Rule, ...] = (
    machine.RULE,
    logons.RULE,
    remote.RULE,
    devices.RULE,
    programs.RULE,
    taking.RULE,
    neighbours.RULE,
    accounts.RULE,
    noteworthy.RULE,
    power.RULE,
    clock_changes.RULE,
    clearing.RULE,
    limits.RULE,
)
"""All rules. `limits` comes last: it says what none of the others can tell."""
