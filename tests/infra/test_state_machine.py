"""The state machine of `-c workflow=true` in its template; tests/aws/test_workflow.py runs it."""

import json
from typing import Any

import pytest
from emulator import ABSENT
from templates import Stacks, Synthesise, all_of, may, properties

from fanfold.aws.standing import LATEST, SOONEST

pytestmark = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)


@pytest.fixture(scope="module")
def stacks(synthesise: Synthesise) -> Stacks:
    """A deployment with a workflow."""
    return synthesise(workflow="true")


def defined(stacks: Stacks) -> dict[str, Any]:
    """The definition, with `-` for the values from CloudFormation."""
    parts = properties(stacks.compute, "AWS::StepFunctions::StateMachine")["DefinitionString"]["Fn::Join"][1]
    definition: dict[str, Any] = json.loads("".join(part if isinstance(part, str) else "-" for part in parts))
    return definition


def test_there_is_no_state_machine_unless_asked(synthesise: Synthesise) -> None:
    """The state machine costs nothing at rest, but is optional, since not every system waits for runs."""
    default = synthesise(compute="spot")
    assert all_of(default.compute, "AWS::StepFunctions::StateMachine") == {}
    assert "batch:DescribeJobs" not in may(default.compute, "TriggerRole")


def test_lambda_that_stays_busy_is_asked_again_six_times_and_a_run_is_begun_once(stacks: Stacks) -> None:
    """A call that may have run already is retried only if that is harmless, and every call has a time limit."""
    states = defined(stacks)["States"]
    calls = {name: state for name, state in states.items() if state["Type"] == "Task"}
    retried = {name: set(state["Retry"][0]["ErrorEquals"]) for name, state in calls.items()}
    assert retried["Begin"] == {f"Lambda.{one}Exception" for one in ("TooManyRequests", "Service", "AWSLambda")}
    assert retried["Ask"] > retried["Begin"] | {"StorageError", "States.Timeout"}
    assert {state["Retry"][0]["MaxAttempts"] for state in calls.values()} == {6}
    function = properties(stacks.compute, "AWS::Lambda::Function", "Trigger")
    assert calls["Begin"]["TimeoutSeconds"] > function["Timeout"] > calls["Ask"]["TimeoutSeconds"] > 0


def test_an_execution_of_the_longest_run_fits_its_history(stacks: Stacks) -> None:
    """Step Functions ends an execution at 25,000 events: nine for each question, for a week of questions."""
    longest = defined(stacks)["TimeoutSeconds"]
    age, questions = 0.0, 0
    while age < longest:
        age += min(LATEST, max(SOONEST, age / 20))
        questions += 1
    assert 9 * questions + 20 < 25_000


def test_the_state_machine_may_call_the_lambda_and_write_its_log(stacks: Stacks) -> None:
    """The state machine may do only that, and the Lambda may read the state of jobs."""
    (function,) = [id for id in all_of(stacks.compute, "AWS::Lambda::Function") if id.startswith("Trigger")]
    allowed = may(stacks.compute, "WorkflowRole")
    assert allowed.pop("lambda:InvokeFunction") == {f"<{function}.Arn>"}
    assert all(action.startswith("logs:") for action in allowed)
    assert may(stacks.compute, "TriggerRole")["batch:DescribeJobs"] == {"*"}
    logging = properties(stacks.compute, "AWS::StepFunctions::StateMachine")["LoggingConfiguration"]
    assert logging["Level"] == "ALL"
    log = properties(stacks.compute, "AWS::Logs::LogGroup", "Workflow")
    assert (log["LogGroupName"], log["RetentionInDays"]) == ("/aws/vendedlogs/states/fanfold", 30)
