"""The stack of everything that stays: a bucket for pictures and database, and the DynamoDB table.

s3://BUCKET/images/...    pictures, under whatever prefix
            db/...        the database: tables, runs

With an existing bucket the stack has the DynamoDB table only: versioning and lifecycle of a bucket that is there are
its owner's.
"""

from aws_cdk import Acknowledgment, CfnOutput, CfnWaitConditionHandle, Duration, Fn, RemovalPolicy, Stack, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.settings import Settings

DATABASE = "db"
"""The database's prefix in the bucket."""


class Storage(Stack):
    """Bucket and table."""

    def __init__(self, scope: Construct, settings: Settings) -> None:
        super().__init__(scope, f"{settings.name}-Storage", description="fanfold: pictures, database, vectors by key")
        self._removal = RemovalPolicy.RETAIN if settings.retain else RemovalPolicy.DESTROY
        name = settings.bucket or self._new_bucket(notify=bool(settings.uploads)).bucket_name
        self.bucket = self._told("Bucket", name, "s3://{}: pictures, and the database in db/")
        self.table = ""
        if settings.table == "both":
            table = self._new_table(settings.retain)
            self.table = self._told("Table", table.table_name, "dynamodb://{}: vectors by key")
        if settings.bucket and not self.table:
            CfnWaitConditionHandle(self, "Nothing")  # an empty resource: CloudFormation takes no stack without any
        self._tell_of_teardown(settings)

    def _told(self, what: str, name: str, description: str) -> str:
        """Put a name into the stack's outputs. Returns it, for use in another stack."""
        export = f"{self.stack_name}-{what}"
        CfnOutput(self, f"{what}Name", value=name, description=description.format(what.upper()), export_name=export)
        return Fn.import_value(export)

    def _new_bucket(self, notify: bool) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            removal_policy=self._removal,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="old-versions",
                    noncurrent_version_expiration=Duration.days(14),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(id="broken-uploads", abort_incomplete_multipart_upload_after=Duration.days(2)),
            ],
        )
        if notify:  # what CloudFormation can do itself; `event_bridge_enabled` would bring a Lambda for it
            resource = bucket.node.default_child
            assert isinstance(resource, s3.CfnBucket)
            resource.add_property_override(
                "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
            )
        reason = (
            "Server access logs would need a second bucket, and a line for each of a run's millions of requests. To "
            "record who read what, turn on CloudTrail's data events for this bucket."
        )
        Validations.of(bucket).acknowledge(Acknowledgment(id="AwsSolutions-S1", reason=reason))
        return bucket

    def _new_table(self, retain: bool) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Vectors",
            partition_key=dynamodb.Attribute(name="ImageId", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=retain,
            removal_policy=self._removal,
        )

    def _tell_of_teardown(self, settings: Settings) -> None:
        """Outputs vanish with the stack, so infra/README.md has this, too."""
        if settings.bucket:
            left = f"the bucket, which existed before (fanfold's database is in {DATABASE}/)"
        elif settings.retain:
            left = "the bucket with all versions of its objects"
        else:
            left = "the bucket, unless it has been emptied before"
        table = ", the DynamoDB table" if settings.table == "both" and settings.retain else ""
        value = f"`cdk destroy` leaves {left}{table}. To remove them as well: 'Teardown' in infra/README.md."
        CfnOutput(self, "Teardown", value=value)
