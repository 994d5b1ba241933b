"""Runs that uploads start: for `-c uploads=PREFIX,...`.

    S3 ──▶ rule: below a prefix? ──▶ queue ──up to 5 minutes of messages at once──▶ Lambda ──▶ a run
                                       ▲  └── given up ──▶ dead letters              │
                                       └──────── a run is under way: not now ────────┘

A message says only that there is something new, and a run looks at the whole prefix: one run answers them all.
"""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.permissions import grant, receiving
from infra.trigger import KEPT, TIMEOUT, Trigger

_GATHERED = Duration.minutes(5)
# At least six times the Lambda's time limit plus its batching window, as AWS advises:
# docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
_HIDDEN = Duration.seconds(6 * TIMEOUT.to_seconds() + _GATHERED.to_seconds())
# A message sent back because a run is under way is hidden for this time again: about six days of waiting in total.
_RECEIVED_AT_MOST = 100


class Uploads(Construct):
    """The rule, and the queue."""

    def __init__(self, scope: Construct, prefixes: Sequence[str], bucket: s3.IBucket, trigger: Trigger) -> None:
        super().__init__(scope, "Uploads")
        self.queue = sqs.Queue(
            self,
            "Queue",
            retention_period=KEPT,
            visibility_timeout=_HIDDEN,
            dead_letter_queue=sqs.DeadLetterQueue(queue=trigger.lost, max_receive_count=_RECEIVED_AT_MOST),
            enforce_ssl=True,
        )
        self._collect(prefixes, bucket, trigger.lost)
        self._feed(trigger)

    def _collect(self, prefixes: Sequence[str], bucket: s3.IBucket, lost: sqs.Queue) -> None:
        keys = [{"prefix": f"{prefix}/"} for prefix in prefixes]
        events.Rule(
            self,
            "Uploaded",
            description="fanfold: pictures were uploaded",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={"bucket": {"name": [bucket.bucket_name]}, "object": {"key": keys}},
            ),
            targets=[targets.SqsQueue(self.queue, dead_letter_queue=lost)],
        )

    def _feed(self, trigger: Trigger) -> None:
        grant(trigger.role, receiving(self.queue.queue_arn))
        lambda_.EventSourceMapping(
            self,
            "Feed",
            target=trigger.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=10_000,
            max_batching_window=_GATHERED,
            max_concurrency=2,  # the least there is
            report_batch_item_failures=True,
        )
