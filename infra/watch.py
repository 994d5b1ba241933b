"""What a person is told: alarms by e-mail, and a dashboard.

AWS Batch has no metric of failed jobs, but EventBridge counts how often a rule calls its target: the rule that tells
the Lambda of failed jobs is the metric (AWS/Events Invocations by RuleName, sent when it is not zero; see
docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html).
"""

from collections.abc import Sequence

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.settings import Settings
from infra.trigger import Trigger

_EVERY = Duration.minutes(5)


class Watch(Construct):
    """A topic, alarms that write to it, and the dashboard."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        table: dynamodb.ITable | None,
        trigger: Trigger,
        log: logs.LogGroup,
        lost: sqs.Queue | None,
    ) -> None:
        super().__init__(scope, "Watch")
        self.topic = self._new_topic(settings.alarm_email)
        failed = cloudwatch.Metric(
            namespace="AWS/Events",
            metric_name="Invocations",
            dimensions_map={"RuleName": trigger.failed_jobs.rule_name},
            statistic="Sum",
            period=_EVERY,
        )
        errors = trigger.function.metric_errors(period=_EVERY)
        self._alarm(
            "FailedJobs", failed, f"fanfold {settings.name}: an AWS Batch job failed. fanfold report says more."
        )
        self._alarm("FailedCalls", errors, f"fanfold {settings.name}: the Lambda failed. Its log says why.")
        if lost:
            waiting = lost.metric_approximate_number_of_messages_visible(period=_EVERY, statistic="Maximum")
            self._alarm("LostUploads", waiting, f"fanfold {settings.name}: uploads that no run was begun for.")
        trouble = [failed.with_(label="failed jobs"), errors.with_(label="failed calls")]
        self._show(settings, table, trigger, log, trouble)

    def _new_topic(self, email: str) -> sns.Topic:
        """A topic with a policy of its own, as that for TLS is, must also name who may publish."""
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        if email:
            sns.Subscription(self, "Email", topic=topic, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=email)
        CfnOutput(Stack.of(self), "AlarmTopic", value=topic.topic_arn, description="Subscribe to be told of alarms")
        return topic

    def _alarm(self, id: str, metric: cloudwatch.IMetric, description: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=description,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))

    def _show(
        self,
        settings: Settings,
        table: dynamodb.ITable | None,
        trigger: Trigger,
        log: logs.LogGroup,
        trouble: Sequence[cloudwatch.IMetric],
    ) -> None:
        calls = trigger.function.metric_invocations(period=_EVERY, label="calls of the Lambda")
        rows: list[list[cloudwatch.IWidget]] = [
            [_graph("Runs begun", [calls]), _graph("Trouble", trouble)],
            [_log_of(log)],
        ]
        if table:
            written = table.metric_consumed_write_capacity_units(period=_EVERY, label="write units")
            throttled = table.metric("WriteThrottleEvents", period=_EVERY, statistic="Sum", label="throttled")
            rows.insert(1, [_graph("DynamoDB: written", [written]), _graph("DynamoDB: throttled", [throttled])])
        cloudwatch.Dashboard(self, "Dashboard", dashboard_name=settings.name, widgets=rows)


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=[*metrics], width=12)


def _log_of(group: logs.LogGroup) -> cloudwatch.LogQueryWidget:
    return cloudwatch.LogQueryWidget(
        title="What containers said last",
        log_group_names=[group.log_group_name],
        query_lines=["fields @timestamp, @logStream, @message", "sort @timestamp desc", "limit 50"],
        width=24,
        height=8,
    )
