"""Messages to people: alarms and stuck jobs by e-mail, and a dashboard.

    alarm: a job failed, the Lambda failed, dead letters ──▶ topic ──▶ e-mail
    AWS Batch: jobs wait in vain ──▶ rule ─────────────────────▲

AWS Batch has no metric of failed jobs, but EventBridge counts how often a rule calls its target: the rule that tells
the Lambda of failed jobs is the metric (AWS/Events Invocations by RuleName, sent when it is not zero; see
docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html).
"""

from collections.abc import Sequence

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.permissions import publishing, role
from infra.settings import Settings
from infra.trigger import Trigger

_EVERY = Duration.minutes(5)


class Watch(Construct):
    """A topic, what writes to it, and the dashboard."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        table: dynamodb.ITable | None,
        trigger: Trigger,
        log: logs.LogGroup,
        queue: str,
    ) -> None:
        super().__init__(scope, "Watch")
        self.name = settings.name
        self.key = self._new_key()
        self.topic = self._new_topic(settings.alarm_email)
        failed = _called(trigger.failed_jobs)
        errors = trigger.function.metric_errors(period=_EVERY)
        lost = trigger.lost.metric_approximate_number_of_messages_visible(period=_EVERY, statistic="Maximum")
        self._alarm("FailedJobs", failed, "an AWS Batch job failed. Type: fanfold report DATABASE")
        self._alarm("FailedCalls", errors, "the Lambda failed. See its log.")
        self._alarm(
            "DeadLetters", lost, "an event was not delivered, or uploads began no run. See the dead-letter queue."
        )
        waiting = _called(self._report_waiting(queue, trigger))
        trouble = {"failed jobs": failed, "failed calls": errors, "jobs that wait in vain": waiting}
        self._show(table, trigger, log, [metric.with_(label=label) for label, metric in trouble.items()])

    def _new_key(self) -> kms.Key:
        """CloudWatch's alarms cannot use the default key of SNS; a key of our own can allow them."""
        key = kms.Key(
            self,
            "Key",
            description=f"fanfold {self.name}: encrypts the messages of alarms",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.DESTROY,
            pending_window=Duration.days(7),
        )
        key.add_to_resource_policy(self._for_alarms(["kms:Decrypt", "kms:GenerateDataKey"], "*"))
        return key

    def _new_topic(self, email: str) -> sns.Topic:
        """A topic that has a policy (for TLS) must also name its publishers."""
        topic = sns.Topic(self, "Alarms", enforce_ssl=True, master_key=self.key)
        topic.add_to_resource_policy(self._for_alarms(["sns:Publish"], topic.topic_arn))
        if email:
            sns.Subscription(self, "Email", topic=topic, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=email)
        CfnOutput(Stack.of(self), "AlarmTopic", value=topic.topic_arn, description="Subscribe to get alarms")
        return topic

    def _for_alarms(self, actions: Sequence[str], resource: str) -> iam.PolicyStatement:
        return iam.PolicyStatement(
            sid="AlarmsOfThisAccount",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=[*actions],
            resources=[resource],
            conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
        )

    def _report_waiting(self, queue: str, trigger: Trigger) -> events.Rule:
        """AWS Batch sends events about jobs that no machine comes for, with the reason as far as it knows.

        docs.aws.amazon.com/batch/latest/userguide/batch-job-queue-blocked-events.html
        """
        job, why = events.EventField.from_path("$.detail.jobName"), events.EventField.from_path("$.detail.statusReason")
        text = (
            f"fanfold {self.name}: jobs wait, but no machine comes for them. The first job is {job}. "
            f"The reason from AWS Batch: {why}. What to do: see 'Jobs that wait' in infra/README.md."
        )
        sender = role(self, "Sender", "events.amazonaws.com", publishing(self.topic.topic_arn, self.key.key_arn))
        return events.Rule(
            self,
            "Waiting",
            description="fanfold: jobs wait, and no machine comes",
            event_pattern=events.EventPattern(
                source=["aws.batch"], detail_type=["Batch Job Queue Blocked"], detail={"jobQueue": [queue]}
            ),
            targets=[
                targets.SnsTopic(
                    self.topic,
                    message=events.RuleTargetInput.from_text(text),
                    authorize_using_role=True,
                    role=sender.without_policy_updates(),  # it has its own already, without `GenerateDataKey*`
                    dead_letter_queue=trigger.lost,
                )
            ],
        )

    def _alarm(self, id: str, metric: cloudwatch.IMetric, description: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            id,
            metric=metric,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"fanfold {self.name}: {description}",
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))

    def _show(
        self,
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
        # Unlike all other names here, a dashboard's name belongs to the whole account, not to a region.
        name = f"{self.name}-{Stack.of(self).region}"
        cloudwatch.Dashboard(self, "Dashboard", dashboard_name=name, widgets=rows)


def _called(rule: events.Rule) -> cloudwatch.Metric:
    """How often a rule called its target."""
    return cloudwatch.Metric(
        namespace="AWS/Events",
        metric_name="Invocations",
        dimensions_map={"RuleName": rule.rule_name},
        statistic="Sum",
        period=_EVERY,
    )


def _graph(title: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=[*metrics], width=12)


def _log_of(group: logs.LogGroup) -> cloudwatch.LogQueryWidget:
    return cloudwatch.LogQueryWidget(
        title="Latest output of containers",
        log_group_names=[group.log_group_name],
        query_lines=["fields @timestamp, @logStream, @message", "sort @timestamp desc", "limit 50"],
        width=24,
        height=8,
    )
