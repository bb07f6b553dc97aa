"""Names and endpoints inside a VPC: what a real guest resolves, and the API that it calls
through an interface endpoint, under the endpoint's own security group."""
import base64
import json
import os
import re
import ssl
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from cloud import Cloud, wait_for
from guest import Guest
from net_lab import Lab
from signed import EC2_VERSION, FORM, Signed
from test_gateways import ANY, RST, SYN, Net, tcp, wait_frames

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SERVICE = "com.amazonaws.us-east-1.ec2"
PRIVATE = "ec2.us-east-1.amazonaws.com"


class Vpc:
    """With names, a way out, and one guest that is called by its id."""

    def __init__(self, cloud, ec2, image, key):
        self.ec2 = ec2
        self.id = ec2.create_vpc(CidrBlock="10.40.0.0/16",
                                 AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
        ec2.modify_vpc_attribute(VpcId=self.id, EnableDnsHostnames={"Value": True})
        block6 = ec2.describe_vpcs(VpcIds=[self.id])["Vpcs"][0][
            "Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
        zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
        self.subnet = ec2.create_subnet(
            VpcId=self.id, CidrBlock="10.40.1.0/24", AvailabilityZone=zone,
            Ipv6CidrBlock=block6.replace("::/56", "::/64"))["Subnet"]["SubnetId"]
        self.gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=self.gateway, VpcId=self.id)
        for attribute in ({"PrivateDnsHostnameTypeOnLaunch": "resource-name"},
                          {"EnableResourceNameDnsARecordOnLaunch": {"Value": True}}):
            ec2.modify_subnet_attribute(SubnetId=self.subnet, **attribute)
        made = ec2.run_instances(
            ImageId=image, InstanceType="t3.nano", KeyName=key, MinCount=1, MaxCount=1,
            PrivateDnsNameOptions={"EnableResourceNameDnsAAAARecord": True},
            NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": self.subnet,
                                "AssociatePublicIpAddress": True, "Ipv6AddressCount": 1}])
        self.guest = Guest(cloud, made["Instances"][0])
        self.shown = made["Instances"][0]
        self.open, self.closed = self.group("endpoint", HTTP), self.group("closed")

    def group(self, name, *ingress):
        made = self.ec2.create_security_group(GroupName=name, Description="a test's",
                                              VpcId=self.id)["GroupId"]
        if ingress:
            self.ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=list(ingress))
        return made

    def instance(self):
        return self.ec2.describe_instances(
            InstanceIds=[self.guest.id])["Reservations"][0]["Instances"][0]


HTTP = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
        "IpRanges": [{"CidrIp": "10.40.0.0/16"}]}


@pytest.fixture(scope="module")
def vpc(cloud, ec2, micro, key):
    made = Vpc(cloud, ec2, micro, key)
    made.guest.open()
    yield made
    made.guest.close()
    ec2.terminate_instances(InstanceIds=[made.guest.id])
    cloud.wait_state(made.guest.id, "terminated")


def looked_up(guest, name):
    """Addresses, or names, that the guest's resolver gives."""
    said = guest.run(f"nslookup {name}")[1]
    return set(re.findall(r"^Address(?: \d+)?: (\S+)|name = (\S+)", said.split("\n\n", 1)[-1],
                          re.M)) if said else set()


def resolves(guest, name):
    return {a or b for a, b in looked_up(guest, name)}


def test_names_lead_to_private_addresses_and_back(vpc, ec2):
    guest, shown = vpc.guest, vpc.instance()
    name = f"{guest.id}.ec2.internal"
    assert shown["PrivateDnsName"] == name == vpc.shown["PrivateDnsName"]
    assert shown["PrivateDnsNameOptions"] == {
        "HostnameType": "resource-name", "EnableResourceNameDnsARecord": True,
        "EnableResourceNameDnsAAAARecord": True}
    assert guest.text("hostname").strip().split(".")[0] == guest.id
    wait_for("the name's addresses",
             lambda: resolves(guest, name) == {guest.ip, guest.ip6[0]}, 20)
    assert resolves(guest, guest.ip) == {name}
    assert resolves(guest, guest.ip6[0]) == {name}
    assert resolves(guest, "ip-10-40-1-77.ec2.internal") == {"10.40.1.77"}
    public = shown["PublicDnsName"]
    assert public.startswith("ec2-") and resolves(guest, public) == {guest.ip}
    # Of others' addresses inside is outside: they are what they are called.
    assert resolves(guest, "ec2-198-51-100-7.compute-1.amazonaws.com") == {"198.51.100.7"}
    found = ec2.describe_instances(Filters=[
        {"Name": "private-dns-name-options.hostname-type", "Values": ["resource-name"]},
        {"Name": "private-dns-name", "Values": [name]}])["Reservations"]
    assert len(found) == 1

    ec2.modify_private_dns_name_options(InstanceId=guest.id, EnableResourceNameDnsARecord=False)
    wait_for("the name without IPv4", lambda: resolves(guest, name) == {guest.ip6[0]}, 20)
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        ec2.modify_private_dns_name_options(InstanceId=guest.id,
                                            PrivateDnsHostnameType="ip-name")
    ec2.modify_vpc_attribute(VpcId=vpc.id, EnableDnsHostnames={"Value": False})
    wait_for("no public names", lambda: not resolves(guest, public), 20)
    ec2.modify_vpc_attribute(VpcId=vpc.id, EnableDnsHostnames={"Value": True})
    wait_for("public names", lambda: resolves(guest, public) == {guest.ip}, 20)


def call(cloud, guest, host, action="DescribeVpcs", limit_s=2):
    """What the guest hears when it sends a signed request to the host, in plain HTTP."""
    signed = Signed(f"http://{host}", cloud.keys)
    body = f"Action={action}&Version={EC2_VERSION}".encode()
    headers = signed.sign("POST", "/", body, {"Content-Type": FORM}, "ec2")
    lines = ["POST / HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()),
             f"Content-Length: {len(body)}", "Connection: close", "", ""]
    whole = base64.b64encode("\r\n".join(lines).encode() + body).decode()
    return guest.run(f"echo {whole} | base64 -d >/tmp/ask; "
                     f"(cat /tmp/ask; sleep {limit_s}) | timeout {limit_s} nc -w {limit_s} {host} 80",
                     30)[1]


@pytest.fixture
def endpoint(vpc, ec2):
    made = ec2.create_vpc_endpoint(
        VpcId=vpc.id, VpcEndpointType="Interface", ServiceName=SERVICE,
        SubnetIds=[vpc.subnet], SecurityGroupIds=[vpc.open])["VpcEndpoint"]
    yield made
    ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])


def test_a_guest_calls_the_api_through_an_endpoint(cloud, vpc, ec2, endpoint):
    guest = vpc.guest
    card = ec2.describe_network_interfaces(
        NetworkInterfaceIds=endpoint["NetworkInterfaceIds"])["NetworkInterfaces"][0]
    address, names = card["PrivateIpAddress"], [e["DnsName"] for e in endpoint["DnsEntries"]]
    assert card["InterfaceType"] == "vpc_endpoint" and card["RequesterManaged"]
    assert names[0].startswith(endpoint["VpcEndpointId"]) and names[-1] == PRIVATE
    assert len(names) == 3
    for name in names:
        wait_for(name, lambda: resolves(guest, name) == {address}, 20)
    for name in (PRIVATE, names[0]):  # A slow guest may need a second try.
        said = wait_for("an answer", lambda n=name: call(cloud, guest, n))
        assert said.startswith("HTTP/1.1 200") and vpc.id in said
    # Nobody's request is trusted for where it comes from.
    said = wait_for("an answer", lambda: guest.run(
        f"(printf 'GET /?Action=DescribeVpcs&Version={EC2_VERSION} HTTP/1.0\\r\\n"
        f"\\r\\n'; sleep 2) | nc -w 3 {address} 80")[1])
    assert vpc.id not in said and "HTTP/1.1 4" in said
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"],
                            AddSecurityGroupIds=[vpc.closed],
                            RemoveSecurityGroupIds=[vpc.open])
    wait_for("the closed group to refuse",
             lambda: "HTTP" not in call(cloud, guest, address), 20)
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint["VpcEndpointId"],
                            AddSecurityGroupIds=[vpc.open])
    wait_for("the open group to let in", lambda: vpc.id in call(cloud, guest, address), 20)


def test_a_flood_through_an_endpoint_leaves_the_link_alone(cloud, vpc, endpoint):
    """16 connections of one caller are carried, whatever it opens; its own SSH, which is on the
    same link, goes on, and so does the next caller once the flood is over."""
    guest = vpc.guest
    guest.text("for i in $(seq 80); do (sleep 8 | nc -w 8 " + PRIVATE + " 80 >/dev/null 2>&1 &) ;"
               " done; true")
    assert guest.text("echo here").strip() == "here"
    assert cloud.moln("node", "ls", "--json")["Nodes"][0]["Connected"]
    guest.text("sleep 9", 30)
    wait_for("the next caller", lambda: vpc.id in call(cloud, guest, PRIVATE), 30)


def test_endpoints_refuse_what_is_not_there(vpc, ec2, endpoint):
    def refused(code, **how):
        how = {"VpcId": vpc.id, "VpcEndpointType": "Interface", "ServiceName": SERVICE,
               "SubnetIds": [vpc.subnet], "PrivateDnsEnabled": False, **how}
        with pytest.raises(ClientError) as caught:
            ec2.create_vpc_endpoint(**how)
        assert caught.value.response["Error"]["Code"] == code
    before = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    for name in ("s3", "dynamodb"):
        refused("InvalidServiceName", VpcEndpointType="Gateway", SubnetIds=[],
                ServiceName=f"com.amazonaws.us-east-1.{name}")
    refused("InvalidParameter", VpcEndpointType="Gateway")
    refused("InvalidParameter", PrivateDnsEnabled=True)  # Another has the name.
    refused("InvalidParameter", RouteTableIds=["rtb-0123456789abcdef0"])
    refused("DuplicateSubnetsInSameZone", SubnetIds=[vpc.subnet, vpc.subnet])
    refused("InvalidSubnetID.NotFound", SubnetIds=["subnet-0123456789abcdef0"])
    refused("InvalidPolicyDocument", PolicyDocument="{")
    refused("InvalidPolicyDocument", PolicyDocument='{"Statement": [{"Effect": "Maybe"}]}')
    deny = {"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}}
    refused("UnsupportedOperation", PolicyDocument=json.dumps(deny))
    assert ec2.describe_vpc_endpoints()["VpcEndpoints"] == before
    names = ec2.describe_vpc_endpoint_services()["ServiceNames"]
    assert names == ["com.amazonaws.us-east-1.ec2", "com.amazonaws.us-east-1.sts"]
    assert not ec2.describe_vpc_endpoint_services(Filters=[
        {"Name": "service-type", "Values": ["Gateway"]}])["ServiceNames"]


def test_an_endpoints_address_is_the_nodes_own_and_goes_with_it():
    lab = Lab("ep")
    try:
        lab.want("network", id="vpc-1", domain="test.internal", cidrs=["10.0.0.0/16"],
                 public_domain="compute-1.amazonaws.com")
        lab.want("group", id="sg-1", network_id="vpc-1", rules=[])
        lab.want("subnet", id="subnet-1", network_id="vpc-1", cidr="10.0.1.0/24", acl_off=True)
        record = {"id": "eni-e", "subnet_id": "subnet-1", "network_id": "vpc-1",
                  "ipv4": "10.0.1.9", "group_ids": ["sg-1"]}
        lab.want("endpoint", **record)
        space = lab.namespaces()[0]
        assert "10.0.1.9/32" in lab.bridges(space)
        assert lab.do(op="check")["drift"] == 0
        for bad in ({"ipv4": "10.0.1.2"}, {"ipv4": "10.0.2.9"}, {"group_ids": ["../x"]}):
            with pytest.raises(RuntimeError, match="bad address or groups"):
                lab.want("endpoint", **(record | {"id": "eni-f"} | bad))
        with pytest.raises(RuntimeError, match="cannot change"):
            lab.want("endpoint", **(record | {"ipv4": "10.0.1.10"}))
        port = {"id": "eni-p", "subnet_id": "subnet-1", "mac": "02:00:00:00:00:01",
                "ipv4": "10.0.1.9", "check_source": True}
        with pytest.raises(RuntimeError, match="endpoint has its address"):
            lab.want("port", **port)
        lab.do(op="drop", kind="endpoint", id="eni-e")
        assert "10.0.1.9/32" not in lab.bridges(space)
        lab.want("port", **port)
        with pytest.raises(RuntimeError, match="eni-p has its address"):
            lab.want("endpoint", **record)
        for name in ("a b", "a\nb", "-x", "a..b"):
            with pytest.raises(RuntimeError, match="cannot be"):
                lab.want("name", id="n", network_id="vpc-1", name=name, addresses=["10.0.1.9"])
        with pytest.raises(RuntimeError, match="cannot be"):
            lab.want("name", id="n", network_id="vpc-1", name="a.b", addresses=["10.0.1"])
    finally:
        lab.close()


class Knocks:
    """Two subnets of one VPC, an endpoint in the second, and a peer's VPC. Nobody listens at the
    endpoint, and its host says so to whoever comes that far, and back."""

    def __init__(self, lab):
        self.lab, self.sport = lab, 4000
        net = Net(lab, "vpc-1", "10.0")
        peer = Net(lab, "vpc-2", "10.1")
        self.acl("acl-1")
        self.acl("acl-2")
        for n in (1, 2):
            self.subnet(n, f"acl-{n}")
        lab.want("endpoint", id="eni-e", subnet_id="subnet-vpc-1-2", network_id="vpc-1",
                 ipv4="10.0.2.9", group_ids=["sg-vpc-1"])
        lab.want("peering", id="pcx-1", network_a="vpc-1", network_b="vpc-2")
        for vpc, other in ((net, "10.1.0.0/16"), (peer, "10.0.0.0/16")):
            for n in (1, 2):
                vpc.route(n, (other, "peering", "pcx-1"))
        self.near, self.same, self.peer = net.guest(1, 10), net.guest(2, 10), peer.guest(1, 10)
        time.sleep(1.2)

    def subnet(self, n, acl):
        self.lab.want("subnet", id=f"subnet-vpc-1-{n}", network_id="vpc-1", acl_id=acl,
                      cidr=f"10.0.{n}.0/24", route_table_id=f"rtb-vpc-1-{n}")

    def acl(self, name, **denied):
        """All may pass, but what is denied before that."""
        every = {"protocol": -1, "cidr": "0.0.0.0/0", "from_port": 0, "to_port": 0,
                 "icmp_type": -1, "icmp_code": -1}
        rules = [{**every, "number": 100, "egress": way, "allow": True} for way in (False, True)]
        if denied:
            rules.append({**every, "number": 50, "allow": False, **denied})
        self.lab.want("acl", id=name, network_id="vpc-1", rules=rules)

    def reach(self):
        """Who of the three reaches it."""
        self.sport += 1
        guests = (self.near, self.same, self.peer)
        for guest in guests:
            tcp(guest, "10.0.2.9", SYN, self.sport)
        return tuple(any(d[23] == 6 and d[47] & RST for d in wait_frames(guest, 0.3))
                     for guest in guests)


def test_acls_are_asked_on_the_way_to_an_endpoint_and_peers_reach_it():
    lab = Lab("ea")
    try:
        knocks = Knocks(lab)
        assert knocks.reach() == (True, True, True)
        # The endpoint's subnet's, for what comes and for what it answers.
        knocks.acl("acl-2", egress=False, protocol=6, from_port=80, to_port=80)
        assert knocks.reach() == (False, True, False)
        knocks.acl("acl-2", egress=True, cidr="10.0.1.0/24")
        assert knocks.reach() == (False, True, True)
        knocks.acl("acl-2", egress=True, cidr="10.1.0.0/16")
        assert knocks.reach() == (True, True, False)
        knocks.acl("acl-2")
        # The guest's subnet's.
        knocks.acl("acl-1", egress=True, cidr="10.0.2.9/32")
        assert knocks.reach() == (False, True, True)
        knocks.acl("acl-1", egress=False, protocol=6, from_port=1024, to_port=65535)
        assert knocks.reach() == (False, True, True)
        knocks.acl("acl-1")
        assert knocks.reach() == (True, True, True)
        knocks.acl("acl-3", egress=False)
        knocks.subnet(2, "acl-3")
        assert knocks.reach() == (False, True, False)
        assert lab.do(op="check")["drift"] == 0
        lab.want("group", id="sg-vpc-1", network_id="vpc-1", rules=ANY[1:])
        knocks.subnet(2, "acl-2")
        assert knocks.reach() == (False, False, False)
        lab.do(op="drop", kind="endpoint", id="eni-e")
        assert lab.do(op="check")["drift"] == 0
    finally:
        lab.close()


def make_key(cloud, ec2):
    """A key pair whose private half 'moln ssh' finds."""
    folder = cloud.state / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "tls.pem"
    path.touch(0o600)
    path.write_text(ec2.create_key_pair(KeyName="tls")["KeyMaterial"])
    return "tls"


class Piped:
    """TLS with what a guest's nc reaches: its input and output carry the bytes."""

    def __init__(self, cloud, instance_id, host, name, ca):
        self.nc = subprocess.Popen([cloud.build / "moln", "ssh", instance_id, "--", "nc", host, "443"],
                                   env=cloud.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.came, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ssl.create_default_context(cafile=ca).wrap_bio(
            self.came, self.sent, server_hostname=name)

    def do(self, what):
        """what(), with more of the other end as long as it needs that."""
        while True:
            try:
                return what()
            except ssl.SSLWantReadError:
                data = None
            finally:
                self.nc.stdin.write(self.sent.read())
                self.nc.stdin.flush()
            data = os.read(self.nc.stdout.fileno(), 65536)
            self.came.write(data) if data else self.came.write_eof()

    def close(self):
        self.nc.kill()
        self.nc.wait()
        self.nc.stdin.close()
        self.nc.stdout.close()


@pytest.mark.skipif(not os.environ.get("MOLN_LONG"), reason="a cloud of its own: MOLN_LONG=1")
def test_an_endpoint_carries_tls_to_who_has_the_certificate(tmp_path):
    """The handshake is with molnd, which proves to be who the guest called."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=moln", "-keyout", key, "-out", cert, "-addext",
                    f"subjectAltName=IP:127.0.0.1,DNS:{PRIVATE}"], check=True, capture_output=True)
    for path in (cert, key, tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    os.environ["AWS_CA_BUNDLE"] = str(cert)
    cloud = Cloud("--tls-cert", str(cert), "--tls-key", str(key))
    try:
        cloud.env["AWS_CA_BUNDLE"] = str(cert)
        assert cloud.endpoint.startswith("https://")
        ec2, image = cloud.client(), cloud.image("micro")
        made = Vpc(cloud, ec2, image, make_key(cloud, ec2))
        https = {**HTTP, "FromPort": 443, "ToPort": 443}
        ec2.authorize_security_group_ingress(GroupId=made.closed, IpPermissions=[https])
        ec2.create_vpc_endpoint(VpcId=made.id, VpcEndpointType="Interface", ServiceName=SERVICE,
                                SubnetIds=[made.subnet], SecurityGroupIds=[made.closed])
        made.guest.open()
        address = wait_for("the name", lambda: resolves(made.guest, PRIVATE), 20).pop()
        piped = Piped(cloud, made.guest.id, address, PRIVATE, cert)
        piped.do(piped.tls.do_handshake)
        piped.do(lambda: piped.tls.write(
            f"GET /?Action=DescribeVpcs&Version={EC2_VERSION} HTTP/1.0\r\n\r\n".encode()))
        assert piped.do(lambda: piped.tls.read(4096)).startswith(b"HTTP/1.1 4")  # Not signed.
        piped.close()
        made.guest.close()
        ec2.terminate_instances(InstanceIds=[made.guest.id])
        cloud.wait_state(made.guest.id, "terminated", client=ec2)
    finally:
        del os.environ["AWS_CA_BUNDLE"]
        cloud.close()
