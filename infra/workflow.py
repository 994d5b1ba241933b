"""A state machine that starts a run and ends with it: for `-c workflow=true`, and for systems that wait for a run.

    Begin ──▶ has a run begun? ──▶ Ask ──▶ how does it stand? ──▶ Succeeded, with its report
                    │               ▲             │    └────────▶ Failed, with a cause
                    ▼               └── Wait ◀────┘
              NothingBegun

The Lambda does it all: it answers with the state of the run, and when to ask again (`fanfold.aws.standing`). An
execution has 25,000 events at most. Three states are nine of them, and a week of asking every five minutes 18,000.
"""

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra.permissions import acknowledge, delivering, invoking, role
from infra.trigger import TIMEOUT

_LONGEST = Duration.days(7)  # of a run: planning, workers and waiting for machines may take days each
_ANSWERED_WITHIN = Duration.minutes(3)
# docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html
_BUSY = ["Lambda.TooManyRequestsException", "Lambda.ServiceException", "Lambda.AWSLambdaException"]
# After these the Lambda may have run all the same. Asking twice does no harm; starting twice makes two runs.
_UNANSWERED = ["Lambda.ClientExecutionTimeoutException", "Lambda.SdkClientException", "States.Timeout", "StorageError"]


class Workflow(Construct):
    """The state machine, its role and its log."""

    def __init__(self, scope: Construct, name: str, function: lambda_.IFunction) -> None:
        super().__init__(scope, "Workflow")
        self.function = function
        may = role(self, "Role", "states.amazonaws.com", [invoking(function.function_arn), delivering()])
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            comment="fanfold: a run, from its beginning to its report",
            definition_body=sfn.DefinitionBody.from_chainable(self._define()),
            role=may.without_policy_updates(),  # it has its own already, for no version but the newest
            timeout=_LONGEST,
            logs=sfn.LogOptions(destination=self._new_log(name), level=sfn.LogLevel.ALL, include_execution_data=True),
        )
        self.machine.node.add_dependency(may)
        acknowledge(
            self.machine, "AwsSolutions-SF2", "One Lambda is all that it calls, and its history shows each call."
        )
        CfnOutput(
            Stack.of(self),
            "WorkflowArn",
            value=self.machine.state_machine_arn,
            description="""aws stepfunctions start-execution --state-machine-arn ... --input '{"Paths": ["images"]}'""",
        )

    def _new_log(self, name: str) -> logs.LogGroup:
        """CloudWatch lets logs be delivered under this prefix without a policy that grows with every log."""
        return logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/vendedlogs/states/{name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _define(self) -> sfn.IChainable:
        begin = self._call("Begin", None, within=Duration.seconds(TIMEOUT.to_seconds() + 60), again=_BUSY)
        question = sfn.TaskInput.from_object({"Run": sfn.JsonPath.string_at("$.Run")})
        ask = self._call("Ask", question, within=_ANSWERED_WITHIN, again=_BUSY + _UNANSWERED)
        wait = sfn.Wait(self, "Wait", time=sfn.WaitTime.seconds_path("$.AskAgain"))
        answer = sfn.JsonPath.json_to_string(sfn.JsonPath.object_at("$"))
        nothing = sfn.Fail(self, "NothingBegun", error="NothingBegun", cause_path=answer)
        ask.next(
            sfn.Choice(self, "HowDoesItStand")
            .when(sfn.Condition.string_equals("$.State", "succeeded"), sfn.Succeed(self, "Succeeded"))
            .when(sfn.Condition.string_equals("$.State", "running"), wait.next(ask))
            .otherwise(sfn.Fail(self, "Failed", error="RunFailed", cause_path="$.Cause"))
        )
        return begin.next(
            sfn.Choice(self, "HasARunBegun").when(sfn.Condition.is_present("$.Run"), ask).otherwise(nothing)
        )

    def _call(
        self, id: str, payload: sfn.TaskInput | None, *, within: Duration, again: list[str]
    ) -> tasks.LambdaInvoke:
        """Call the Lambda, with the state's input if nothing else is given."""
        call = tasks.LambdaInvoke(
            self,
            id,
            lambda_function=self.function,
            payload=payload,
            output_path="$.Payload",
            retry_on_service_exceptions=False,
            task_timeout=sfn.Timeout.duration(within),
        )
        call.add_retry(
            errors=again,
            interval=Duration.seconds(2),
            max_attempts=6,
            backoff_rate=2,
            jitter_strategy=sfn.JitterType.FULL,
        )
        return call
