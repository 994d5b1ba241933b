"""The network that containers run in: public addresses, nothing that answers on them, and no way out but TLS.

    internet ◀── gateway ◀── subnet in zone a ── machines: a public address each, no port open
                        ◀── subnet in zone b ── machines
    S3, DynamoDB ◀── gateway endpoints (free) ◀── both

Machines must reach ECS, ECR and CloudWatch Logs. A NAT gateway, or interface endpoints for these in two zones, would
cost some 30 to 100 dollars a month for nothing while no run is under way; a public address costs half a cent an hour,
and only while its machine runs. Pictures and vectors take the gateway endpoints.
"""

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct


class Network(Construct):
    """A VPC of two zones, and the security group of its machines."""

    def __init__(self, scope: Construct) -> None:
        super().__init__(scope, "Network")
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=0,
            subnet_configuration=[ec2.SubnetConfiguration(name="public", subnet_type=ec2.SubnetType.PUBLIC)],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
        )
        self.security_group = ec2.SecurityGroup(
            self, "Closed", vpc=self.vpc, allow_all_outbound=False, description="fanfold: nothing comes in"
        )
        # Every service that is talked to answers by TLS. The network's own names and clock need no rule.
        self.security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "TLS")
        self._log_rejected()

    @property
    def subnet_ids(self) -> list[str]:
        """Where machines may be."""
        return [subnet.subnet_id for subnet in self.vpc.public_subnets]

    def _log_rejected(self) -> None:
        """Keep what was refused, for two weeks: it tells who knocks, and why a machine does not get through."""
        group = logs.LogGroup(
            self, "Rejected", retention=logs.RetentionDays.TWO_WEEKS, removal_policy=RemovalPolicy.DESTROY
        )
        role = iam.Role(self, "FlowLogs", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        self.vpc.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
