"""The network that containers run in: public addresses, no open port, and no way out but TLS.

    internet ◀── gateway ◀── subnet in zone a ── machines: a public address each, no port open
                        ◀── subnet in zone b ── machines
    S3, DynamoDB ◀── gateway endpoints (free) ◀── both

Machines must reach ECS, ECR and CloudWatch Logs. A NAT gateway, or interface endpoints for these in two zones, would
cost some 30 to 100 dollars a month for nothing while no run is under way; a public address costs half a cent an hour,
and only while its machine runs. Pictures and vectors take the gateway endpoints. Their policies let nothing be written
but to the deployment's bucket and to DynamoDB tables of this account, so that code which breaks out of a decoder cannot
carry data off to another bucket.
"""

from collections.abc import Sequence

from aws_cdk import RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct


class Network(Construct):
    """A VPC of two zones, and the security group of its machines."""

    def __init__(self, scope: Construct, bucket: s3.IBucket) -> None:
        super().__init__(scope, "Network")
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            subnet_configuration=[ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC)],
            restrict_default_security_group=True,  # it is not used; a small Lambda of the CDK's empties it
        )
        self._open_s3(bucket)
        self._open_dynamodb()
        self.security_group = ec2.SecurityGroup(
            self, "Closed", vpc=self.vpc, allow_all_outbound=False, description="fanfold: nothing comes in"
        )
        # Every service that is used answers by TLS. The network's own names and clock need no rule.
        self.security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "TLS")
        self._log_rejected()

    def _open_s3(self, bucket: s3.IBucket) -> None:
        """ECR keeps the layers of container images in S3, and a list may name pictures in other public buckets."""
        endpoint = self.vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoint.add_to_policy(_through(["s3:*"], [bucket.bucket_arn, bucket.arn_for_objects("*")]))
        endpoint.add_to_policy(_through(["s3:GetObject"], ["*"]))

    def _open_dynamodb(self) -> None:
        endpoint = self.vpc.add_gateway_endpoint("DynamoDb", service=ec2.GatewayVpcEndpointAwsService.DYNAMODB)
        tables = Stack.of(self).format_arn(service="dynamodb", resource="table", resource_name="*")
        endpoint.add_to_policy(_through(["dynamodb:*"], [tables]))

    @property
    def subnet_ids(self) -> list[str]:
        """Where machines may be."""
        return [subnet.subnet_id for subnet in self.vpc.public_subnets]

    def _log_rejected(self) -> None:
        """Log refused traffic, for two weeks: it shows who tried to connect, and why a machine is blocked."""
        group = logs.LogGroup(
            self, "Rejected", retention=logs.RetentionDays.TWO_WEEKS, removal_policy=RemovalPolicy.DESTROY
        )
        role = iam.Role(self, "FlowLogs", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        self.vpc.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )


def _through(actions: Sequence[str], resources: Sequence[str]) -> iam.PolicyStatement:
    """What an endpoint allows for all callers; roles decide which callers may do it."""
    return iam.PolicyStatement(principals=[iam.AnyPrincipal()], actions=[*actions], resources=[*resources])
