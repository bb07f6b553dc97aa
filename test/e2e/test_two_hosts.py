"""A VPC on two hosts: two agents in namespaces of their own, joined to one control plane, and
real guests that reach each other, or do not, as groups, tables and ACLs say."""
import base64
import gzip
import os
import pathlib
import re
import select
import socket
import sqlite3
import subprocess

import pytest

from cloud import Keys, wait_for
from guest import Guest
from netns import Host
from pool import Pool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    try:
        made.join()
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
            self.env |= {"AWS_ENDPOINT_URL": pool.cloud.endpoint,
                         "AWS_ACCESS_KEY_ID": keys.id, "AWS_SECRET_ACCESS_KEY": keys.secret,
                         "AWS_DEFAULT_REGION": "us-east-1"}
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

    def end(self):
        guests = list(self.guests.values())
        for guest in guests:
            guest.close()
        self.ec2.terminate_instances(InstanceIds=[guest.id for guest in guests])
        for guest in guests:
            self.cloud.wait_state(guest.id, "terminated", client=self.ec2)


ALL = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
       "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
ECHO = 9000  # Where each guest echoes TCP, and UDP.


def tcp(port, **source):
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}


def udp(port, **source):
    return tcp(port, **source) | {"IpProtocol": "udp"}


@pytest.fixture(scope="module")
def one(pool):
    """Two subnets of one VPC: a and b in the first, on two hosts; c in the second, on the second
    host, which lets in what is in a's and b's group, to one port."""
    pool.cloud.image("micro")
    vpc = Vpc(pool, "10.0")
    vpc.subnet(1)
    vpc.subnet(2)
    vpc.open = vpc.group("open", ALL)
    vpc.closed = vpc.group("closed", tcp(ECHO, UserIdGroupPairs=[{"GroupId": vpc.open}]))
    vpc.a = vpc.launch("a", 0, 1, vpc.open)
    vpc.b = vpc.launch("b", 1, 1, vpc.open)
    vpc.c = vpc.launch("c", 1, 2, vpc.closed)
    yield vpc
    vpc.end()


@pytest.fixture(scope="module")
def peer(pool, one):
    """A VPC of the same account, peered with the first: d, on the first host."""
    vpc = Vpc(pool, "10.1")
    vpc.subnet(1)
    vpc.open = vpc.group("open", ALL)
    vpc.d = vpc.launch("d", 0, 1, vpc.open)
    yield vpc
    vpc.end()


@pytest.fixture(scope="module")
def stranger(pool, one):
    """Another tenant's VPC with the same block: e, with a's very address, on b's host."""
    account = pool.cloud.moln("account", "create", "stranger", "--json")
    keys = Keys(account["AccessKey"]["AccessKeyId"], account["AccessKey"]["SecretAccessKey"])
    vpc = Vpc(pool, "10.0", keys)
    vpc.subnet(1)
    vpc.e = vpc.launch("e", 1, 1, vpc.group("open", ALL), PrivateIpAddress=one.a.ip)
    yield vpc
    vpc.end()


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """udp.c as a guest's shell can be given it."""
    made = tmp_path_factory.mktemp("udp") / "udp"
    subprocess.run(["cc", "-static", "-Os", "-s", "-o", made,
                    pathlib.Path(__file__).with_name("udp.c")], check=True)
    return base64.encodebytes(gzip.compress(made.read_bytes())).decode()


@pytest.fixture(scope="module")
def booted(one, peer, stranger, speaker):
    """All of them answer SSH, and echo."""
    guests = [*one.guests.values(), *peer.guests.values(), *stranger.guests.values()]
    for guest in guests:
        guest.open()
        guest.text(f"nc -ll -p {ECHO} -e cat >/dev/null 2>&1 &")
        guest.text(f"base64 -d <<END | gunzip >/tmp/udp\n{speaker}END\n"
                   f"chmod +x /tmp/udp; /tmp/udp echo {ECHO} >/dev/null 2>&1 &", 120)
    return guests


def echoes(guest, address, word="word", wait_s=20):
    """Whether the address echoes over TCP."""
    return word in guest.run(f"(echo {word}; sleep 1) | "
                             f"timeout {wait_s} nc -w {wait_s} {address} {ECHO}")[1]


def asks(guest, address, size=32, wait_s=2):
    """Whether the address echoes a datagram of that size."""
    return guest.run(f"/tmp/udp ask {address} {ECHO} {size} {wait_s * 1000}")[0] == 0


def eventually(what, check):
    return wait_for(what, check, 20)


# ---- reaching each other

def test_guests_meet_across_hosts_and_subnets(pool, one, booted):
    shown = {n["NodeId"]: n["UnderlayAddress"] for n in pool.listed().values()}
    assert [shown[node] for node in pool.ids] == pool.underlay.addresses
    doctor = subprocess.run(
        pool.nodes[0].host.command("env", f"MOLN_STATE={pool.nodes[0].state}",
                                   pool.cloud.build / "moln", "doctor"),
        capture_output=True, text=True).stdout
    assert f"ok     underlay         {pool.underlay.addresses[0]} on under" in doctor

    assert one.a.pings(one.b.ip) and one.b.pings(one.a.ip)
    assert one.a.pings(one.b.ip, size=1472), "a full frame does not pass"
    assert echoes(one.a, one.b.ip) and echoes(one.b, one.a.ip)
    # What a closed port answers comes back, related to what was sent.
    assert one.b.ip in one.a.text(f"traceroute -n -q 1 -w 2 -m 2 {one.b.ip}").split("\n", 1)[1]
    # Another subnet is another host's bridge: each host routes for its own guests.
    assert echoes(one.a, one.c.ip) and echoes(one.b, one.c.ip)


def has_ipv6(guest):
    guest.text(f"ip -6 addr show dev eth0 | grep -q {guest.ip6[0]} || "
               f"ip -6 addr add {guest.ip6[0]}/64 dev eth0 nodad")
    eventually(f"{guest.id} to have a router",
               lambda: "default via fe80::" in guest.text("ip -6 route"))


def test_ipv6_crosses_hosts(one, booted):
    """Bridged in one subnet, and routed between two, each host for its own guests."""
    for guest in (one.a, one.b, one.c):
        has_ipv6(guest)
    assert one.a.pings(one.b.ip6[0]) and one.b.pings(one.a.ip6[0])
    assert one.c.pings(one.a.ip6[0]) and one.c.pings(one.b.ip6[0], size=1400)
    assert not one.a.pings(one.c.ip6[0], 1), "a closed group lets ping in"


# ---- groups

def test_group_lets_in_members_of_another_and_nobody_else(one, booted):
    assert not one.a.pings(one.c.ip, 1), "a closed group lets ping in"
    assert echoes(one.c, one.a.ip), "a closed group keeps its own from speaking"
    # An interface that leaves the group that is let in is kept out, on whichever host.
    plain = one.group("plain")
    one.ec2.modify_network_interface_attribute(NetworkInterfaceId=one.b.eni, Groups=[plain])
    eventually("b to be out", lambda: not echoes(one.b, one.c.ip, wait_s=1))
    assert echoes(one.a, one.c.ip)
    one.ec2.modify_network_interface_attribute(NetworkInterfaceId=one.b.eni, Groups=[one.open])
    eventually("b to be in", lambda: echoes(one.b, one.c.ip))
    one.ec2.delete_security_group(GroupId=plain)


def test_rule_that_goes_leaves_open_connections_and_lets_no_new_one(one, booted):
    """As AWS has it: a tracked connection is not cut when the rule that let it in goes."""
    rule = [tcp(ECHO, UserIdGroupPairs=[{"GroupId": one.open}])]
    one.a.text("rm -f /tmp/in /tmp/out; mkfifo /tmp/in")
    one.a.text(f"nc {one.c.ip} {ECHO} </tmp/in >/tmp/out 2>&1 &")
    one.a.text("exec 7>/tmp/in; echo first >&7")
    eventually("an echo", lambda: "first" in one.a.run("cat /tmp/out")[1])
    one.ec2.revoke_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    eventually("new connections to be refused", lambda: not echoes(one.a, one.c.ip, wait_s=1))
    one.a.text("echo second >&7")
    eventually("an echo on the old one", lambda: "second" in one.a.run("cat /tmp/out")[1])
    one.ec2.authorize_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    eventually("new connections to be let in", lambda: echoes(one.a, one.c.ip))
    one.a.text("exec 7>&-")


def test_udp_arrives_whole_where_groups_let_it_and_nowhere_else(one, booted):
    """In one subnet and between two, on hosts and across them, in one frame and in several."""
    for guest in (one.a, one.b, one.c):
        has_ipv6(guest)
    for to in (one.b.ip, one.b.ip6[0]):
        assert all(asks(one.a, to, size) for size in (0, 1400, 4000)), to
    assert asks(one.b, one.a.ip) and asks(one.b, one.a.ip6[0])
    for guest in (one.a, one.b):  # Answers come in by no rule of c's.
        assert asks(one.c, guest.ip, 4000) and asks(one.c, guest.ip6[0])
        assert not asks(guest, one.c.ip, wait_s=1) and not asks(guest, one.c.ip6[0], wait_s=1)
    rule = [udp(ECHO, UserIdGroupPairs=[{"GroupId": one.open}])]
    one.ec2.authorize_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    for guest in (one.a, one.b):
        eventually("UDP to be let in", lambda: asks(guest, one.c.ip, wait_s=1))
        assert asks(guest, one.c.ip, 4000) and asks(guest, one.c.ip6[0])
    one.ec2.revoke_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    for guest in (one.a, one.b):
        eventually("UDP to be refused", lambda: not asks(guest, one.c.ip, wait_s=1))


# ---- ACLs

def test_acl_is_asked_by_number_and_knows_no_connections(one, booted):
    acl = one.ec2.create_network_acl(VpcId=one.id)["NetworkAcl"]["NetworkAclId"]

    def entry(number, action, egress, **ports):
        one.ec2.create_network_acl_entry(
            NetworkAclId=acl, RuleNumber=number, RuleAction=action, Egress=egress,
            Protocol="6", CidrBlock="0.0.0.0/0", PortRange=ports or {"From": 0, "To": 65535})
    entry(100, "allow", False)
    entry(100, "allow", True)
    found = one.ec2.describe_network_acls(Filters=[
        {"Name": "association.subnet-id", "Values": [one.subnets[2]]}])["NetworkAcls"][0]
    was = next(a for a in found["Associations"] if a["SubnetId"] == one.subnets[2])
    now = one.ec2.replace_network_acl_association(
        AssociationId=was["NetworkAclAssociationId"], NetworkAclId=acl)["NewAssociationId"]
    eventually("the allowing ACL", lambda: echoes(one.a, one.c.ip))
    entry(90, "deny", False, From=ECHO, To=ECHO)
    eventually("the lower number to deny", lambda: not echoes(one.a, one.c.ip, wait_s=1))
    one.ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=90, Egress=False)
    entry(110, "deny", False, From=ECHO, To=ECHO)
    eventually("the higher number not to matter", lambda: echoes(one.a, one.c.ip))
    # Answers are packets like others: without a rule for them there is no connection.
    one.ec2.delete_network_acl_entry(NetworkAclId=acl, RuleNumber=100, Egress=True)
    eventually("answers to be denied", lambda: not echoes(one.a, one.c.ip, wait_s=1))
    assert echoes(one.a, one.b.ip), "an ACL is asked within its subnet"
    one.ec2.replace_network_acl_association(AssociationId=now,
                                            NetworkAclId=found["NetworkAclId"])
    eventually("the old ACL", lambda: echoes(one.a, one.c.ip))
    one.ec2.delete_network_acl(NetworkAclId=acl)


# ---- peering, and tenants

def peers_public_name_leads_where_it_lets(one, peer, pcx):
    """To the public address, and to the private one once its side of the peering says so."""
    ec2 = peer.ec2
    for vpc in (one, peer):
        ec2.modify_vpc_attribute(VpcId=vpc.id, EnableDnsHostnames={"Value": True})
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=peer.id)
    address = ec2.allocate_address(Domain="vpc")
    joined = ec2.associate_address(AllocationId=address["AllocationId"],
                                   NetworkInterfaceId=peer.d.eni)["AssociationId"]
    name = ec2.describe_network_interfaces(NetworkInterfaceIds=[peer.d.eni])[
        "NetworkInterfaces"][0]["Association"]["PublicDnsName"]

    def leads_to(guest):
        said = guest.run(f"nslookup {name}")[1].split("\n\n", 1)[-1]
        return " ".join(re.findall(r"^Address(?: \d+)?: (\S+)", said, re.M))
    for guest in (one.a, one.b):
        eventually("the public address", lambda: leads_to(guest) == address["PublicIp"])
    ec2.modify_vpc_peering_connection_options(
        VpcPeeringConnectionId=pcx,
        AccepterPeeringConnectionOptions={"AllowDnsResolutionFromRemoteVpc": True})
    for guest in (one.a, one.b, peer.d):
        eventually("the private address", lambda: leads_to(guest) == peer.d.ip)
    ec2.disassociate_address(AssociationId=joined)
    eventually("the public address again", lambda: leads_to(one.b) == address["PublicIp"])
    ec2.release_address(AllocationId=address["AllocationId"])
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=peer.id)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    for vpc in (one, peer):
        ec2.modify_vpc_attribute(VpcId=vpc.id, EnableDnsHostnames={"Value": False})


def test_peers_meet_across_hosts_while_routes_and_peering_are_there(one, peer, booted):
    d = peer.d
    assert not one.b.pings(d.ip, 1)
    pcx = one.ec2.create_vpc_peering_connection(VpcId=one.id, PeerVpcId=peer.id)[
        "VpcPeeringConnection"]["VpcPeeringConnectionId"]
    one.ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    for vpc, other in ((one, peer), (peer, one)):
        vpc.ec2.create_route(RouteTableId=vpc.table, VpcPeeringConnectionId=pcx,
                             DestinationCidrBlock=f"{other.block}.0.0/16")
    for guest in (one.a, one.b):  # One on d's host, one on the other.
        eventually(f"{guest.ip} to reach its peer", lambda: echoes(guest, d.ip))
        eventually(f"{guest.ip}'s peer to reach it", lambda: echoes(d, guest.ip))
        assert guest.pings(d.ip) and d.pings(guest.ip) and d.pings(guest.ip, size=1472)
        assert asks(guest, d.ip, 4000) and asks(d, guest.ip)
    peers_public_name_leads_where_it_lets(one, peer, pcx)
    # A group of the peer's, named in a rule.
    assert not echoes(d, one.c.ip, wait_s=1) and not asks(d, one.c.ip, wait_s=1)
    rule = [tcp(ECHO, UserIdGroupPairs=[{"GroupId": peer.open, "VpcId": peer.id}])]
    one.ec2.authorize_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    eventually("the peer's group to be let in", lambda: echoes(d, one.c.ip))
    one.ec2.revoke_security_group_ingress(GroupId=one.closed, IpPermissions=rule)
    one.ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=pcx)
    eventually("the peering to be gone", lambda: not echoes(one.b, d.ip, wait_s=1))
    for vpc, other in ((one, peer), (peer, one)):
        vpc.ec2.delete_route(RouteTableId=vpc.table,
                             DestinationCidrBlock=f"{other.block}.0.0/16")


def test_tenants_with_the_same_block_never_meet(one, stranger, booted):
    e = stranger.e
    assert e.ip == one.a.ip and e.mac != one.a.mac
    one.a.text("echo ours >/tmp/whose")
    e.text("echo theirs >/tmp/whose")
    for name, vpc, guest in (("ours", one, one.b), ("theirs", stranger, e)):
        guest.text("ip neigh flush dev eth0")
        assert guest is e or guest.pings(one.a.ip)
    assert not e.pings(one.b.ip, 1) and not e.pings(one.c.ip, 1)
    assert one.a.mac in one.b.text("ip neigh show dev eth0")
    assert e.mac not in one.b.text("ip neigh show dev eth0")


# ---- the outside

class Outside:
    """The operator's namespace on a host: it hears on one port, and says who spoke."""
    PORT = 7000

    def __init__(self, pool, host):
        self.host = pool.hosts[host]
        self.name = f"moln-{pool.cloud_id()}-external"
        self.listener = eventually("the outside", self.listen)
        self.listener.settimeout(2)

    def listen(self):
        """None until it is there: first comes its name, then the namespace, then its address."""
        try:
            return self.host.listen("100.64.0.1", self.PORT, self.name)
        except OSError:
            return None

    def caller(self, guest):
        """The address that a guest shows there; None when it does not come."""
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.accept()[0].close()  # Who came too late for the last look.
        guest.start(f"timeout 5 nc -w 2 100.64.0.1 {self.PORT} </dev/null")
        try:
            sock, (address, _) = self.listener.accept()
            sock.close()
            return address
        except TimeoutError:
            return None
        finally:
            guest.said()

    def reaches(self, address, wait_s=1):
        """Whether the outside is echoed to by a guest at that address."""
        def call():
            try:
                with socket.create_connection((address, ECHO), wait_s) as sock:
                    sock.sendall(b"knock")
                    return sock.recv(5) == b"knock"
            except OSError:
                return False
        return self.host.inside(call, self.name)

    def close(self):
        self.listener.close()


def nat_home(pool, nat_id):
    """Which host does a NAT gateway, by the rows."""
    def look():
        with sqlite3.connect(f"file:{pool.database()}?mode=ro", uri=True) as db:
            row = db.execute("SELECT node_id FROM nat_gateway WHERE id = ?",
                             (nat_id,)).fetchone()
        return row and row[0] in pool.ids and [pool.ids.index(row[0])]
    return eventually("the gateway's home", look)[0]


def each_side_reaches_the_others(pool, one, sides, ips):
    """While the hosts have an uplink of mode overlay: the operator from either, and a and b by
    their Elastic IPs."""
    assert not sides[0].reaches(ips[1]) and not sides[1].reaches(ips[0])
    uplink = pool.cloud.moln("uplink", "add", "--mode", "overlay", "--zone", "us-east-1a",
                             "--json")["Uplink"]["UplinkId"]
    eventually("both sides to reach both",
               lambda: sides[0].reaches(ips[1]) and sides[1].reaches(ips[0]))
    assert sides[0].reaches(ips[0]) and sides[1].reaches(ips[1])
    assert echoes(one.a, ips[1]) and asks(one.b, ips[0])
    shown = [u for u in pool.cloud.moln("uplink", "ls", "--json")["Uplinks"]
             if u["UplinkId"] == uplink]
    assert [n["State"] for n in shown[0]["Nodes"]] == ["ready"] * 2
    pool.cloud.moln("uplink", "rm", uplink)
    eventually("each to reach its own", lambda: not sides[0].reaches(ips[1]) and
               not sides[1].reaches(ips[0]))
    assert sides[0].reaches(ips[0]) and sides[1].reaches(ips[1])


def test_elastic_ips_and_nat_lead_out_and_in(pool, one, booted):
    """a and b have Elastic IPs, each on its host; c, and a once it is moved behind it too, use a
    NAT gateway, which is at home on one host for both."""
    ec2 = one.ec2
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=one.id)
    public = ec2.create_route_table(VpcId=one.id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=public, SubnetId=one.subnets[1])
    ec2.create_route(RouteTableId=public, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    addresses = [ec2.allocate_address(Domain="vpc") for _ in range(3)]
    for guest, address in zip((one.a, one.b), addresses):
        ec2.associate_address(AllocationId=address["AllocationId"],
                              NetworkInterfaceId=guest.eni)
    nat = ec2.create_nat_gateway(SubnetId=one.subnets[1],
                                 AllocationId=addresses[2]["AllocationId"])["NatGateway"]
    ec2.create_route(RouteTableId=one.table, DestinationCidrBlock="0.0.0.0/0",
                     NatGatewayId=nat["NatGatewayId"])
    ips = [address["PublicIp"] for address in addresses]
    sides = [Outside(pool, host) for host in (0, 1)]
    try:
        eventually("a to bear its own", lambda: sides[0].caller(one.a) == ips[0])
        eventually("b to bear its own", lambda: sides[1].caller(one.b) == ips[1])
        home = sides[nat_home(pool, nat["NatGatewayId"])]
        eventually("c to bear the gateway's", lambda: home.caller(one.c) == ips[2])
        assert sides[0].reaches(ips[0]) and sides[1].reaches(ips[1])
        assert not sides[1].reaches(ips[2]) and not sides[0].reaches(ips[2])
        each_side_reaches_the_others(pool, one, sides, ips)
        # Out and in again where both are at home; the connection bears a public address.
        assert echoes(one.c, ips[sides.index(home)])
        # Both subnets behind the gateway: guests of both hosts come out where it is at home.
        ec2.replace_route(RouteTableId=public, DestinationCidrBlock="0.0.0.0/0",
                          NatGatewayId=nat["NatGatewayId"])
        for guest in (one.a, one.b, one.c):
            eventually(f"{guest.ip} to come by the gateway",
                       lambda: home.caller(guest) == ips[2])
        ec2.replace_route(RouteTableId=public, DestinationCidrBlock="0.0.0.0/0",
                          GatewayId=gateway)
        eventually("b to bear its own again", lambda: sides[1].caller(one.b) == ips[1])
        assert one.b.pings(one.a.ip), "private addresses are not private any more"
        # Without its address, or its way, a guest is inside only.
        ec2.disassociate_address(AssociationId=ec2.describe_addresses(
            AllocationIds=[addresses[0]["AllocationId"]])["Addresses"][0]["AssociationId"])
        eventually("a to be inside", lambda: sides[0].caller(one.a) is None)
        assert not sides[0].reaches(ips[0])
        ec2.delete_nat_gateway(NatGatewayId=nat["NatGatewayId"])
        eventually("c to be inside", lambda: home.caller(one.c) is None)
    finally:
        for side in sides:
            side.close()
        ec2.delete_route(RouteTableId=one.table, DestinationCidrBlock="0.0.0.0/0")


class Tap:
    """What passes on an interface of a host, as IPv4 or ARP."""

    def __init__(self, host, link):
        def make():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sock.bind((link, 0))
            sock.setblocking(False)
            return sock
        self.sock = host.inside(make)

    def heard(self):
        frames = []
        while True:
            try:
                frame = self.sock.recv(65536)
            except BlockingIOError:
                return [f for f in frames if f[12:14] in (b"\x08\x00", b"\x08\x06")]
            frames.append(frame)


def test_nothing_leaves_by_the_hosts_own_interfaces(pool, one, booted):
    """Each host gets an interface to the world, with its default route; the underlay is there
    anyway. Guests try all they know, those with a way out first."""
    world, taps, under = Host(), [], [Tap(host, "under") for host in pool.hosts]
    try:
        for n, host in enumerate(pool.hosts, 1):
            host.run("ip", "link", "add", "wan", "type", "veth", "peer", "name", f"wan{n}",
                     "netns", str(world.holder.pid))
            host.run("ip", "addr", "add", f"203.0.113.{n}/24", "dev", "wan")
            host.run("ip", "link", "set", "wan", "up")
            world.run("ip", "link", "set", f"wan{n}", "up")
            host.run("ip", "route", "add", "default", "via", "203.0.113.100")
            taps.append(Tap(host, "wan"))
        targets = ["203.0.113.1", "203.0.113.2", "203.0.113.100", "8.8.8.8",
                   *pool.underlay.addresses]
        for guest in (one.a, one.b, one.c):
            guest.start("(" + "\n".join(
                f"ping -c 1 -W 1 {to} && echo reached {to} &\n"
                f"nc -w 1 {to} {pool.port} && echo reached {to} &\n"
                f"traceroute -n -q 1 -w 1 -m 1 {to} >/dev/null &"
                for to in targets) + "\nping -c 1 -W 1 -b 255.255.255.255 &\n"
                "ping -c 1 -W 1 224.0.0.1 &\nwait)")
        for guest in (one.a, one.b, one.c):
            assert "reached" not in guest.said(60)[1]
        assert one.a.pings(one.b.ip)
        for tap in taps:
            assert not tap.heard()
        for tap in under:
            said = tap.heard()
            assert said, "the tap is deaf"
            for frame in said:  # ARP of the hosts, and VXLAN: nothing of a guest's own.
                assert frame[12:14] == b"\x08\x06" or (
                    frame[23] == 17 and frame[36:38] == (4789).to_bytes(2, "big") and
                    {socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])} ==
                    set(pool.underlay.addresses)), frame
    finally:
        for tap in taps + under:
            tap.sock.close()
        for host in pool.hosts:
            subprocess.run(host.command("ip", "link", "del", "wan"), check=False)
        world.close()


# ---- guests that lie

def test_guest_that_forges_gets_nowhere(one, booted):
    """b takes a's address, another MAC, a's place in ARP, and the DHCP server's."""
    a, b, c = one.a, one.b, one.c
    a.text("ip neigh flush dev eth0")
    assert a.pings(b.ip)
    # Addresses that are not its own: nobody's, the router's (by which SSH comes), and c's, who
    # is on the same host. Neither packets nor ARP leave the tap.
    for stolen in ("10.0.1.77", "10.0.1.1", c.ip):
        said = b.text(f"ip addr add {stolen}/32 dev eth0; "
                      f"timeout 3 ping -c 1 -W 1 -I {stolen} {a.ip} >/tmp/forged 2>&1; "
                      f"timeout 3 arping -c 1 -U -I eth0 {stolen} >/dev/null 2>&1; "
                      f"ip addr del {stolen}/32 dev eth0; cat /tmp/forged")
        assert " 0 packets received" in said, said
        known = a.text("ip neigh show dev eth0").splitlines()
        assert [line.split()[0] for line in known if b.mac in line] == [b.ip], known
    # Another MAC: silence, until it is put back.
    said = b.text("ip link set eth0 down; ip link set eth0 address 02:de:ad:be:ef:01; "
                  f"ip link set eth0 up; timeout 3 ping -c 1 -W 1 {a.ip} >/tmp/forged 2>&1; "
                  f"ip link set eth0 down; ip link set eth0 address {b.mac}; "
                  "ip link set eth0 up; ip route add default via 10.0.1.1; cat /tmp/forged")
    assert " 0 packets received" in said, said
    assert b.pings(a.ip)
    # A DHCP server of a guest's: nobody hears it, and the real one goes on.
    b.text("mkdir -p /var/lib/misc; touch /var/lib/misc/udhcpd.leases; printf 'start 10.0.1.100\\nend "
           "10.0.1.120\\ninterface eth0\\noption router 10.0.1.66\\n' >/tmp/udhcpd.conf; "
           "udhcpd /tmp/udhcpd.conf")
    said = a.text("udhcpc -i eth0 -n -q -t 3 -T 1 -f -s /bin/true 2>&1")
    assert a.ip in said and "10.0.1.10" not in said.replace(a.ip, "")
    b.run("kill $(pidof udhcpd)")
