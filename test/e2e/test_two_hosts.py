"""A VPC on two hosts: two agents in namespaces of their own, joined to one control plane, and
real guests that reach each other, or do not, as groups, tables and ACLs say."""
import os
import subprocess

import pytest

from guest import Guest
from pool import Pool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    try:
        for n in (0, 1):
            made.node(f"h{n}", n).start(made.token())
        made.ids = [node.id() for node in made.nodes]
        yield made
    finally:
        made.close()


class Vpc:
    """A VPC with a subnet for each third octet, an open group, and guests placed on hosts."""

    def __init__(self, pool, block, keys=None):
        self.pool, self.cloud = pool, pool.cloud
        self.ec2 = pool.cloud.client(keys=keys)
        self.env = dict(pool.cloud.env)
        if keys:
            self.env |= {"AWS_ACCESS_KEY_ID": keys.id, "AWS_SECRET_ACCESS_KEY": keys.secret}
        self.key = pool.key(self.ec2)
        self.block, self.subnets, self.guests = block, {}, {}
        self.id = self.ec2.create_vpc(CidrBlock=f"{block}.0.0/16",
                                      AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
        found = self.ec2.describe_vpcs(VpcIds=[self.id])["Vpcs"][0]
        self.block6 = found["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
        self.table = self.ec2.describe_route_tables(
            Filters=[{"Name": "vpc-id", "Values": [self.id]}])["RouteTables"][0]["RouteTableId"]

    def subnet(self, octet):
        block6 = self.block6.replace("00::/56", f"{octet:02x}::/64")
        self.subnets[octet] = self.ec2.create_subnet(
            VpcId=self.id, CidrBlock=f"{self.block}.{octet}.0/24", Ipv6CidrBlock=block6,
            AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]

    def group(self, name, *ingress):
        made = self.ec2.create_security_group(GroupName=name, Description="a test's",
                                              VpcId=self.id)["GroupId"]
        for permission in ingress:
            self.ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[permission])
        return made

    def launch(self, name, host, octet, group, **more):
        """One guest, on that host and no other."""
        for n, node in enumerate(self.pool.ids):
            self.cloud.moln("node", "uncordon" if n == host else "cordon", node)
        made = self.ec2.run_instances(
            ImageId=self.cloud.image("micro"), InstanceType="t3.nano", MinCount=1, MaxCount=1,
            NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": self.subnets[octet],
                                "Groups": [group], "Ipv6AddressCount": 1, **more}],
            KeyName=self.key)["Instances"][0]
        self.guests[name] = Guest(self.cloud, made, self.env)
        return self.guests[name]


ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
       "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}


@pytest.fixture(scope="module")
def one(pool):
    """Two subnets of one VPC: a and b in the first, on two hosts; c in the second."""
    pool.cloud.image("micro")
    vpc = Vpc(pool, "10.0")
    vpc.subnet(1)
    vpc.subnet(2)
    group = vpc.group("open", ALL)
    vpc.a = vpc.launch("a", 0, 1, group)
    vpc.b = vpc.launch("b", 1, 1, group)
    vpc.c = vpc.launch("c", 1, 2, group)
    for guest in vpc.guests.values():
        guest.open()
    yield vpc
    for guest in vpc.guests.values():
        guest.close()
    vpc.ec2.terminate_instances(InstanceIds=[g.id for g in vpc.guests.values()])
    for guest in vpc.guests.values():
        pool.cloud.wait_state(guest.id, "terminated")


def test_guests_meet_across_hosts_and_subnets(pool, one):
    shown = {n["NodeId"]: n["UnderlayAddress"] for n in pool.listed().values()}
    assert [shown[node] for node in pool.ids] == pool.underlay.addresses
    doctor = subprocess.run(
        pool.nodes[0].host.command("env", f"MOLN_STATE={pool.nodes[0].state}",
                                   pool.cloud.build / "moln", "doctor"),
        capture_output=True, text=True).stdout
    assert f"ok     underlay         {pool.underlay.addresses[0]} on under" in doctor
    for to in (one.b, one.c):
        assert one.a.pings(to.ip), f"{one.a.ip} does not reach {to.ip}"
        assert to.pings(one.a.ip), f"{to.ip} does not reach {one.a.ip}"
    assert one.a.pings(one.b.ip, size=1472)
