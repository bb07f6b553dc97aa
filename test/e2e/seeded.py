"""A cloud with something of everything in it, to be attacked.

Its one instance boots a disk of zeros: an emulator that waits in its BIOS costs next to
nothing, and no guest ever does anything of itself.
"""
import pathlib

import cloud as clouds
from signed import Signed


def tiny_image(cloud):
    """An AMI of one megabyte of zeros, through the import that tenants use."""
    disk = cloud.dir / "zeros.raw"
    disk.write_bytes(bytes(1 << 20))
    cloud.moln("image", "import", disk, "--name", "zeros")
    return cloud.client().describe_images(Owners=["self"])["Images"][0]["ImageId"]


class Seeded:
    """own: an id, or name, of each kind; 'other' is an account without any."""

    def __init__(self, *daemon_args):
        # Thousands of requests a second are the attack here, not what is to be throttled.
        rates = pathlib.Path(__file__).with_name("seeded.json")
        self.cloud = clouds.Cloud(*(daemon_args or ("--config", str(rates))))
        try:
            self.seed()
        except BaseException:
            self.close()
            raise

    def seed(self):
        cloud, ec2 = self.cloud, self.cloud.client()
        image = tiny_image(cloud)
        subnet = ec2.describe_subnets()["Subnets"][0]
        ec2.create_key_pair(KeyName="mine", KeyType="ed25519")
        template = ec2.create_launch_template(
            LaunchTemplateName="mine", LaunchTemplateData={"InstanceType": "t3.nano"})
        launched = ec2.run_instances(
            ImageId=image, InstanceType="t3.nano", KeyName="mine", MinCount=1, MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance",
                                "Tags": [{"Key": "Name", "Value": "mine"}]}])["Instances"][0]
        instance_id = launched["InstanceId"]
        cloud.wait_state(instance_id, "running")
        self.own = {
            "InstanceId": instance_id, "ImageId": image, "KeyName": "mine",
            "VpcId": subnet["VpcId"], "SubnetId": subnet["SubnetId"],
            "GroupId": ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],
            "SecurityGroupRuleId":
                ec2.describe_security_group_rules()["SecurityGroupRules"][0][
                    "SecurityGroupRuleId"],
            "VolumeId": ec2.describe_volumes()["Volumes"][0]["VolumeId"],
            "NetworkInterfaceId": launched["NetworkInterfaces"][0]["NetworkInterfaceId"],
            "AttachmentId": launched["NetworkInterfaces"][0]["Attachment"]["AttachmentId"],
            "LaunchTemplateId": template["LaunchTemplate"]["LaunchTemplateId"],
            "LaunchTemplateName": "mine",
            "KeyPairId": ec2.describe_key_pairs()["KeyPairs"][0]["KeyPairId"],
            "SnapshotId": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"][0][
                "SnapshotId"],
            "ImportTaskId": ec2.describe_import_image_tasks()["ImportImageTasks"][0][
                "ImportTaskId"],
            "RouteTableId": ec2.describe_route_tables()["RouteTables"][0]["RouteTableId"],
            "NetworkAclId": ec2.describe_network_acls()["NetworkAcls"][0]["NetworkAclId"],
            "DhcpOptionsId": ec2.describe_dhcp_options()["DhcpOptions"][0]["DhcpOptionsId"],
        }
        self.own["PrefixListId"] = ec2.create_managed_prefix_list(
            PrefixListName="mine", MaxEntries=5, AddressFamily="IPv4",
        )["PrefixList"]["PrefixListId"]
        self.seed_vpc(ec2)
        other = cloud.moln("account", "create", "other", "--json")["AccessKey"]
        self.other_keys = clouds.Keys(other["AccessKeyId"], other["SecretAccessKey"])
        self.caller = Signed(cloud.endpoint, cloud.keys)
        self.other = Signed(cloud.endpoint, self.other_keys)
        self.operator = Signed(cloud.endpoint, cloud.operator_keys)

    def seed_vpc(self, ec2):
        """What an account has not got from the start."""
        vpc, subnet = self.own["VpcId"], self.own["SubnetId"]
        self.own["InternetGatewayId"] = ec2.describe_internet_gateways()[
            "InternetGateways"][0]["InternetGatewayId"]
        self.own["AllocationId"] = ec2.allocate_address()["AllocationId"]
        self.own["EgressOnlyInternetGatewayId"] = ec2.create_egress_only_internet_gateway(
            VpcId=vpc)["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]
        self.own["NatGatewayId"] = ec2.create_nat_gateway(
            SubnetId=subnet, ConnectivityType="private")["NatGateway"]["NatGatewayId"]
        self.own["VpcEndpointId"] = ec2.create_vpc_endpoint(
            VpcId=vpc, VpcEndpointType="Interface", SubnetIds=[subnet],
            ServiceName="com.amazonaws.us-east-1.ec2")["VpcEndpoint"]["VpcEndpointId"]
        self.own["FlowLogId"] = ec2.create_flow_logs(
            ResourceType="VPC", ResourceIds=[vpc], TrafficType="ALL",
            LogDestinationType="s3", LogDestination="arn:aws:s3:::mine")["FlowLogIds"][0]

    def close(self):
        self.cloud.close()
