"""Cards on an interface that the operator lends: macvtaps on a pair of links whose far end is a
namespace that plays the provider's network. What QEMU would hold, the test holds: the card's
descriptor, with raw frames."""
import ctypes
import os
import socket
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from cloud import wait_for
from net_lab import frame, inside, ip, mac_bytes
from test_uplinks import Site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROUTER, OWN, SECOND, FOREIGN = "192.0.2.1", "192.0.2.5", "192.0.2.6", "192.0.2.77"
OWN6, FOREIGN6 = "2001:db8::5", "2001:db8::77"
MAC, PIDFD_GETFD = "02:00:00:00:00:05", 438
_libc = ctypes.CDLL(None, use_errno=True)


class Card:
    """A port's card, by a copy of the descriptor that the driver opened. It speaks and is heard
    in frames; a header of ten zero bytes goes before each."""

    def __init__(self, lab, port_id, mac):
        self.mac = mac
        pidfd = os.pidfd_open(lab.drive.pid)
        self.fd = _libc.syscall(PIDFD_GETFD, pidfd, lab.do(op="tap", id=port_id)["fd"], 0)
        os.close(pidfd)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())

    def send(self, data):
        os.write(self.fd, bytes(10) + data)

    def received(self):
        got = []
        while True:
            try:
                got.append(os.read(self.fd, 4096)[10:])
            except BlockingIOError:
                return got

    def hears(self, body, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            if any(body in data for data in self.received()):
                return True
            time.sleep(0.02)
        return False

    def close(self):
        os.close(self.fd)


class Lent:
    """A network with one subnet, whose block is the provider's, and a card on eth0 there."""

    def __init__(self, site, **uplink):
        self.site, self.lab, self.cards = site, site.lab, []
        self.lab.want("uplink", id="uplink-9", mode="passthrough", link="eth0",
                      default_too=True, **uplink)
        self.lab.want("network", id="vpc-1", cidrs=["192.0.2.0/24"], cidrs6=["2001:db8::/56"])
        self.lab.want("subnet", id="subnet-1", network_id="vpc-1", cidr="192.0.2.0/24",
                      cidr6="2001:db8::/64", acl_off=True)
        self.group()
        self.router_mac = mac_of(site.provider, "host")

    def group(self, *rules, id="sg-1"):
        self.lab.want("group", id=id, network_id="vpc-1", rules=list(rules))

    def port(self, id="eni-1", mac=MAC, ipv4=OWN, **more):
        return self.lab.want("port", **{
            "id": id, "subnet_id": "subnet-1", "mac": mac, "ipv4": ipv4, "mode": "macvtap",
            "uplink_id": "uplink-9", "check_source": True, "group_ids": ["sg-1"],
            "machine_id": "i-1", **more})

    def card(self, id="eni-1", mac=MAC):
        self.cards.append(Card(self.lab, id, mac))
        return self.cards[-1]

    def udp(self, card, dst, dport, body, sport=4000, src=OWN, to=None, mac=None):
        card.send(frame(mac or card.mac, to or self.router_mac, src, dst, 17, sport, dport,
                        body))

    def tcp(self, card, dst, dport, sport, body=b""):
        card.send(frame(card.mac, self.router_mac, OWN, dst, 6, sport, dport, body))

    def close(self):
        for card in self.cards:
            card.close()


def mac_of(namespace, link):
    out = subprocess.run(["ip", "-n", namespace, "-br", "link", "show", link], text=True,
                         capture_output=True, check=True).stdout
    return out.split()[2]


def out_of(**rule):
    return {"protocol": -1, "egress": True, **rule}


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


@pytest.fixture
def lent(site):
    made = Lent(site)
    yield made
    made.close()


class Wire:
    """All frames that come to the provider's end."""

    def __init__(self, site):
        def make():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sock.bind(("host", 0))
            sock.settimeout(1.0)
            return sock
        self.sock = inside(site.provider, make)

    def carries(self, body, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            self.sock.settimeout(max(end - time.time(), 0.01))
            try:
                data, where = self.sock.recvfrom(4096)
            except TimeoutError:
                return False
            if body in data and where[2] != socket.PACKET_OUTGOING:
                return True
        return False

    def send(self, data):
        self.sock.send(data)


def arp(mac, ip_address, target, op=1, source=None):
    head = bytes.fromhex("000108000604") + op.to_bytes(2, "big")
    return (b"\xff" * 6 + mac_bytes(source or mac) + b"\x08\x06" + head + mac_bytes(mac)
            + socket.inet_aton(ip_address) + bytes(6) + socket.inet_aton(target))


def test_groups_are_stateful_on_a_lent_interface(lent):
    lent.port()
    card, wire = lent.card(), Wire(lent.site)
    # In a group without rules it is mute, and hears nothing.
    lent.udp(card, ROUTER, 9, b"mute")
    assert not wire.carries(b"mute", 0.3)
    lent.group(out_of(cidr="0.0.0.0/0"), {"protocol": 6, "from_port": 22, "to_port": 22,
                                          "cidr": "192.0.2.0/24"})
    near = inside(lent.site.provider, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    near.bind((ROUTER, 5000))
    near.settimeout(20)
    card.send(arp(MAC, OWN, ROUTER))
    lent.udp(card, ROUTER, 5000, b"asks")
    body, where = near.recvfrom(100)
    assert (body, where) == (b"asks", (OWN, 4000))
    near.sendto(b"answers", where)
    assert card.hears(b"answers")
    near.sendto(b"unasked", (OWN, 4001))  # Another port: nobody asked from there.
    assert not card.hears(b"unasked", 0.3)

    # What a group let in goes on when its rule goes, and nothing new begins.
    def segment(sport, body):
        wire.send(frame(lent.router_mac, MAC, ROUTER, OWN, 6, sport, 22, body))
    segment(7000, b"comes in")
    assert card.hears(b"comes in")
    lent.group()
    segment(7000, b"goes on")
    assert card.hears(b"goes on")
    lent.tcp(card, ROUTER, 7000, 22, b"its answer")
    assert wire.carries(b"its answer")
    segment(7001, b"too late")
    assert not card.hears(b"too late", 0.3)
    lent.udp(card, ROUTER, 5001, b"no more")
    assert not wire.carries(b"no more", 0.3)
    near.close()


def test_a_card_says_only_what_is_its_own(lent):
    lent.group(out_of(cidr="0.0.0.0/0"), out_of(cidr="::/0"))
    lent.port(ipv4_more=[SECOND], ipv6=[OWN6])
    card, wire = lent.card(), Wire(lent.site)
    for n, (mac, src, passes) in enumerate((
            (MAC, OWN, True), (MAC, SECOND, True), (MAC, FOREIGN, False),
            ("02:00:00:00:00:66", OWN, False), (MAC, "169.254.169.254", False))):
        lent.udp(card, ROUTER, 9, b"udp %d" % n, src=src, mac=mac)
        assert wire.carries(b"udp %d" % n, 1 if passes else 0.3) == passes, (mac, src)
    for n, (src, passes) in enumerate(((OWN6, True), (FOREIGN6, False))):
        lent.udp(card, "2001:db8::1", 9, b"six %d" % n, src=src)
        assert wire.carries(b"six %d" % n, 1 if passes else 0.3) == passes, src
    for n, (args, passes) in enumerate((
            ((MAC, OWN, ROUTER), True), ((MAC, FOREIGN, ROUTER), False),
            ((MAC, OWN, FOREIGN, 2), True), ((MAC, ROUTER, FOREIGN, 2), False),
            (("02:00:00:00:00:66", OWN, ROUTER, 1, MAC), False))):
        data = arp(*args)
        card.send(data)
        assert wire.carries(data[6:42], 1 if passes else 0.3) == passes, args
    # It serves nobody by DHCP, and asks.
    lent.udp(card, "255.255.255.255", 68, b"offer", sport=67, to="ff:ff:ff:ff:ff:ff")
    assert not wire.carries(b"offer", 0.3)
    lent.udp(card, "255.255.255.255", 67, b"discover", sport=68, src="0.0.0.0",
             to="ff:ff:ff:ff:ff:ff")
    assert wire.carries(b"discover")
    # A tag would hide all of it.
    tagged = frame(MAC, lent.router_mac, OWN, ROUTER, 17, 1, 9, b"tagged")
    card.send(tagged[:12] + b"\x81\x00\x00\x05" + tagged[12:])
    assert not wire.carries(b"tagged", 0.3)
    # Without source check it says what others said.
    lent.port(ipv4_more=[SECOND], ipv6=[OWN6], check_source=False)
    lent.udp(card, ROUTER, 9, b"borrowed", src=FOREIGN)
    assert wire.carries(b"borrowed")


def test_members_of_a_group_are_let_in_by_their_addresses(lent):
    lent.group({"protocol": 17, "from_port": 9, "to_port": 9, "group_id": "sg-2"})
    lent.group(out_of(cidr="0.0.0.0/0"), id="sg-2")
    lent.port()
    lent.port(id="eni-2", mac="02:00:00:00:00:06", ipv4=SECOND, group_ids=["sg-2"])
    one, two = lent.card(), lent.card("eni-2", "02:00:00:00:00:06")

    def says(body):  # Two cards on one interface meet there, and are judged.
        lent.udp(two, OWN, 9, body, src=SECOND, to=MAC)
        return one.hears(body, 0.4)
    assert not says(b"no member")
    lent.lab.want("group_member", id="eni-2.sg-2", network_id="vpc-1", group_id="sg-2",
                  addresses=[SECOND])
    assert says(b"member")
    lent.lab.do(op="drop", kind="group_member", id="eni-2.sg-2")
    two.received()
    lent.udp(two, OWN, 9, b"no more", src=SECOND, to=MAC, sport=4001)
    assert not one.hears(b"no more", 0.3)


def test_cards_come_back_and_what_was_changed_is_put_right(lent):
    lent.group(out_of(cidr="0.0.0.0/0"))
    lent.port()
    card, wire = lent.card(), Wire(lent.site)
    aside = f"moln-{lent.lab.cloud}-passthrough"

    def links():
        out = subprocess.run(["ip", "-n", aside, "-br", "link"], capture_output=True, text=True,
                             check=True).stdout
        return [line.split("@")[0] for line in out.splitlines() if line.startswith("mt")]
    assert len(links()) == 1 and lent.lab.do(op="check")["drift"] == 0
    subprocess.run(["ip", "netns", "exec", aside, "nft", "flush", "ruleset"], check=True)
    lent.udp(card, ROUTER, 9, b"open", src=FOREIGN)
    assert lent.lab.do(op="check")["drift"] == 1 and lent.lab.do(op="check")["drift"] == 0
    wire.carries(b"open")
    lent.udp(card, ROUTER, 9, b"closed", src=FOREIGN)
    assert not wire.carries(b"closed", 0.3)
    # An agent that starts anew leaves it to the guest; the uplink's end does not.
    lent.lab.restart()
    lent.lab.want("uplink", id="uplink-9", mode="passthrough", link="eth0", default_too=True)
    lent.lab.want("network", id="vpc-1", cidrs=["192.0.2.0/24"])
    lent.lab.want("subnet", id="subnet-1", network_id="vpc-1", cidr="192.0.2.0/24",
                  acl_off=True)
    lent.group(out_of(cidr="0.0.0.0/0"))
    lent.port()
    lent.udp(card, ROUTER, 9, b"goes on")
    assert wire.carries(b"goes on")
    lent.lab.do(op="drop", kind="uplink", id="uplink-9")
    assert links() == []
    with pytest.raises(RuntimeError, match="uplink-9, of mode passthrough, is not here"):
        lent.lab.do(op="tap", id="eni-1")
    lent.lab.do(op="drop", kind="port", id="eni-1")
    tables = subprocess.run(["ip", "netns", "exec", aside, "nft", "list", "tables"],
                            capture_output=True, text=True, check=True).stdout
    assert tables == ""


def test_unfiltered_binds_the_mac_and_nothing_else(site):
    lent = Lent(site, unfiltered=True)
    lent.port()
    card, wire = lent.card(), Wire(site)
    lent.udp(card, ROUTER, 9, b"any address", src=FOREIGN)
    assert wire.carries(b"any address")
    lent.udp(card, ROUTER, 9, b"any MAC", mac="02:00:00:00:00:66")
    assert not wire.carries(b"any MAC", 0.3)
    wire.send(frame(lent.router_mac, MAC, ROUTER, OWN, 17, 1, 2, b"unasked"))
    assert card.hears(b"unasked")
    lent.close()


def test_virtual_functions_are_lent_where_the_host_has_them(site):
    """This host may have none: then it says what it lacks. eth0 is no PCI device in any case."""
    def lend(**more):
        site.lab.want("uplink", id="uplink-9", mode="passthrough", link="eth0",
                      default_too=True, device="vfio", **more)
    with pytest.raises(RuntimeError, match="unfiltered or not at all"):
        lend()
    with pytest.raises(RuntimeError, match="no IOMMU in use|modprobe vfio-pci|PCI device"):
        lend(unfiltered=True)


def test_a_port_says_which_interface_and_how(lent):
    for wrong in ({"uplink_id": ""}, {"mode": "tap"}, {"mode": "bridged"}, {"standby": True}):
        with pytest.raises(RuntimeError):
            lent.port(**wrong)


# ---- the whole way, from the API to a guest

@pytest.fixture
def lender(cloud):
    """An interface of the agent's host, with the provider's network at its far end."""
    namespace, link = f"ptfar-{os.getpid()}", f"pt{os.getpid()}"
    ip("netns", "add", namespace)
    ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", namespace)
    ip("link", "set", link, "up")
    for args in (("addr", "add", f"{FAR}/24", "dev", "far"), ("link", "set", "far", "up")):
        ip("-n", namespace, *args)
    try:
        yield link, namespace
        for uplink in cloud.moln("uplink", "ls", "--json")["Uplinks"]:
            cloud.moln("uplink", "rm", uplink["UplinkId"])
    finally:
        ip("link", "delete", link)
        ip("netns", "delete", namespace)


FAR, HERE = "198.51.100.1", "198.51.100.77"


def test_a_guests_local_network_interface(cloud, ec2, launch, lender):
    link, far = lender
    account = cloud.client("sts").get_caller_identity()["Account"]
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    ec2.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="198.51.100.0/24")
    home, lent = (ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone="us-east-1a")
                  ["Subnet"]["SubnetId"] for block in ("10.7.1.0/24", "198.51.100.0/24"))

    def enable(index):
        ec2.modify_subnet_attribute(SubnetId=lent, EnableLniAtDeviceIndex=index)
    with pytest.raises(ClientError, match="UnsupportedOperation.*lent to this account"):
        enable(1)
    for wrong, why in (((), "AccountId"), (("--account", "000000000000"), "no account"),
                       (("--account", account, "--address", "192.0.2.2/24"), "for mode bridge"),
                       (("--account", account, "--device", "vfio"), "say Unfiltered")):
        with pytest.raises(AssertionError, match=why):
            cloud.moln("uplink", "add", link, "--mode", "passthrough", "--zone", "us-east-1a",
                       *wrong)
    uplink = cloud.moln("uplink", "add", link, "--mode", "passthrough", "--zone", "us-east-1a",
                        "--account", account, "--json")["Uplink"]["UplinkId"]
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        enable(0)
    enable(1)
    shown = ec2.describe_subnets(Filters=[
        {"Name": "enable-lni-at-device-index", "Values": ["1"]}])["Subnets"]
    assert [(s["SubnetId"], s["EnableLniAtDeviceIndex"]) for s in shown] == [(lent, 1)]

    one = launch(SubnetId=home)
    eni = ec2.create_network_interface(SubnetId=lent, PrivateIpAddress=HERE)["NetworkInterface"]
    ec2.attach_network_interface(InstanceId=one, DeviceIndex=1,
                                 NetworkInterfaceId=eni["NetworkInterfaceId"])
    with pytest.raises(ClientError, match="DependencyViolation"):
        enable(2)
    with pytest.raises(AssertionError, match="must detach it first"):
        cloud.moln("uplink", "rm", uplink)
    cloud.wait_state(one, "running")
    mac, said = cloud.ssh(one, f"""
        for n in $(seq 60); do [ -e /sys/class/net/eth1 ] && break; sleep 0.5; done
        ip addr add {HERE}/24 dev eth1; ip link set eth1 up
        cat /sys/class/net/eth1/address
        ping -c 1 -w 10 {FAR} >/dev/null && echo heard""").split()
    assert (mac, said) == (eni["MacAddress"], "heard")
    # The provider's network sees the very card; the group decides what reaches the guest.
    neighbours = subprocess.run(["ip", "-n", far, "neigh"], capture_output=True, text=True,
                                check=True).stdout
    assert f"{HERE} dev far lladdr {mac}" in neighbours

    def reached():
        def connect():
            with socket.socket() as sock:
                sock.settimeout(1)
                return sock.connect_ex((HERE, 22)) == 0
        return inside(far, connect)
    assert not reached()
    group = eni["Groups"][0]["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
         "IpRanges": [{"CidrIp": "198.51.100.0/24"}]}])
    wait_for("the group to let it in", reached, 20)

    ec2.terminate_instances(InstanceIds=[one])
    cloud.wait_state(one, "terminated")
    ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])
    ec2.modify_subnet_attribute(SubnetId=lent, DisableLniAtDeviceIndex={"Value": True})
    for subnet in (home, lent):
        ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
