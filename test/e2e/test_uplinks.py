"""Uplinks on one host: what leaves by them, what comes in, what is refused. The host is a
namespace of the test's, the provider's network another one, joined by a pair of links: nothing
can leave either. Guests are namespaces with raw sockets."""
import os
import socket
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from cloud import wait_for
from net_lab import Lab, inside, ip
from pool import Pool
from test_gateways import Net, heard, outside_socket, udp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FAR = "198.51.100.1"  # A server somewhere behind the provider's router.
ROUTER, HOST, LEG = "192.0.2.1", "192.0.2.10", "192.0.2.20"
PUBLIC, OTHER, NAT = "192.0.2.100", "192.0.2.101", "192.0.2.102"


class Site:
    """A host with eth0 at the provider's, eth1 in a network of its own, and a lab on it."""
    made = 0

    def __init__(self):
        Site.made += 1
        self.host, self.provider, self.lan = (f"{n}{Site.made}-{os.getpid()}"
                                              for n in ("uphost", "upprov", "uplan"))
        for name in (self.host, self.provider, self.lan):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.host, "link", "add", "eth0", "type", "veth", "peer", "name", "host",
           "netns", self.provider)
        ip("-n", self.host, "link", "add", "eth1", "type", "veth", "peer", "name", "spare",
           "netns", self.lan)
        ip("-n", self.host, "addr", "add", f"{HOST}/24", "dev", "eth0")
        ip("-n", self.provider, "addr", "add", f"{ROUTER}/24", "dev", "host")
        ip("-n", self.provider, "addr", "add", f"{FAR}/32", "dev", "lo")
        for name, dev in ((self.host, "eth0"), (self.host, "eth1"), (self.provider, "host"),
                          (self.lan, "spare")):
            ip("-n", name, "link", "set", dev, "up")
        ip("-n", self.host, "route", "add", "default", "via", ROUTER)
        self.lab = Lab(f"up{Site.made}x", self.host)

    def server(self, port, address=FAR, namespace=None):
        def make():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            return sock
        return inside(namespace or self.provider, make)

    def setting(self, path, value=None):
        def use():
            full = f"/proc/sys/net/ipv4/{path}"
            if value is not None:
                with open(full, "w") as f:
                    f.write(value)
            with open(full) as f:
                return f.read().strip()
        return inside(self.host, use)

    def rules(self, namespace):
        return subprocess.run(["ip", "netns", "exec", namespace, "nft", "list", "ruleset"],
                              capture_output=True, text=True, check=True).stdout

    def uplink(self, mode="nat", **more):
        self.lab.want("uplink", id="uplink-1", mode=mode, link=more.pop("link", "eth0"),
                      **more)

    def network(self):
        net = Net(self.lab, "vpc-1", "10.0")
        self.lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4=NAT,
                      private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1")
        net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
        net.route(2, ("0.0.0.0/0", "nat", "nat-1"))
        return net

    def close(self):
        self.lab.close()
        for name in (self.host, self.provider, self.lan):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


def came(sock, seconds=1.5):
    sock.settimeout(seconds)
    try:
        return sock.recvfrom(200)
    except TimeoutError:
        return None


def test_nat_hides_all_behind_the_hosts_address(site):
    net = site.network()
    a, b = net.guest(1, 10, PUBLIC), net.guest(2, 10)
    bare = net.guest(1, 11)
    far = site.server(5000)
    time.sleep(1.2)
    udp(a, FAR, 5000, b"no uplink yet")
    assert came(far, 0.4) is None
    with pytest.raises(RuntimeError, match="carries this host's default route"):
        site.uplink()
    assert site.setting("conf/eth0/forwarding") == "0"
    site.uplink(default_too=True)
    for guest in (a, b):
        udp(guest, FAR, 5000, b"hello out")
        body, where = came(far)
        assert body == b"hello out" and where[0] == HOST
        far.sendto(b"hello back", where)
        assert heard(guest, b"hello back") == (FAR, 5000)
    udp(bare, FAR, 5000, b"no public address")
    assert came(far, 0.4) is None
    # Nobody outside begins; the host serves guests nothing, and routes for nobody else.
    near = site.server(5001, ROUTER)
    ip("-n", site.provider, "route", "add", f"{PUBLIC}/32", "via", HOST)
    near.sendto(b"unasked", (PUBLIC, 4000))
    assert heard(a, b"unasked", 0.4) is None
    ip("-n", site.provider, "route", "add", "203.0.113.0/24", "via", HOST)
    ip("-n", site.host, "addr", "add", "203.0.113.1/24", "dev", "eth1")
    ip("-n", site.lan, "addr", "add", "203.0.113.2/24", "dev", "spare")
    other = site.server(5002, "203.0.113.2", site.lan)
    near.sendto(b"through the host", ("203.0.113.2", 5002))
    assert came(other, 0.4) is None
    door = inside(site.host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    door.bind(("0.0.0.0", 5003))
    udp(a, HOST, 5003, b"to the host")
    assert came(door, 0.4) is None
    assert site.setting("conf/eth0/forwarding") == "1"
    assert site.setting("conf/eth1/forwarding") == "0"
    assert site.setting("ip_forward") == "0"
    # Elastic IPs go on meeting in the operator's namespace.
    here = outside_socket(site.lab, 6000)
    here.sendto(b"from the operator", (PUBLIC, 4000))
    assert heard(a, b"from the operator") == ("100.64.0.1", 6000)
    assert site.lab.do(op="check")["drift"] == 0
    subprocess.run(["ip", "netns", "exec", site.host, "nft", "flush", "ruleset"], check=True)
    assert site.lab.do(op="check")["drift"] == 1
    assert site.lab.do(op="check")["drift"] == 0
    udp(a, FAR, 5000, b"still out", sport=4100)
    assert came(far)[0] == b"still out"
    site.lab.do(op="drop", kind="uplink", id="uplink-1")
    udp(a, FAR, 5000, b"gone", sport=4101)
    assert came(far, 0.4) is None
    assert "_uplink" not in site.rules(site.host)
    door.close()


def test_nat_leaves_a_router_a_router(site):
    site.setting("conf/eth0/forwarding", "1")
    site.uplink(default_too=True)
    assert 'iifname "eth0" drop' not in site.rules(site.host)
    site.lab.do(op="drop", kind="uplink", id="uplink-1")
    assert site.setting("conf/eth0/forwarding") == "1"
    site.setting("conf/eth0/forwarding", "0")
    site.uplink(default_too=True)
    assert 'iifname "eth0" drop' in site.rules(site.host)
    site.uplink(mode="none")
    assert site.setting("conf/eth0/forwarding") == "0"


def test_bridge_puts_public_addresses_on_the_providers_network(site):
    net = site.network()
    a, b = net.guest(1, 10, PUBLIC), net.guest(2, 10)
    c = net.guest(1, 11, OTHER)
    far, near = site.server(5000), site.server(5001, ROUTER)
    time.sleep(1.2)
    place = {"address": f"{LEG}/24", "router": ROUTER, "default_too": True}
    for wrong in ({"address": LEG}, {"router": "198.18.0.1"}, {"router": LEG},
                  {"address": "x/24"}, {"address": f"{LEG}/33"}):
        with pytest.raises(RuntimeError):
            site.uplink(mode="bridge", **{**place, **wrong})
    site.uplink(mode="bridge", **place)
    udp(a, FAR, 5000, b"out")
    assert came(far) == (b"out", (PUBLIC, 4000))  # Its own address, not the host's.
    far.sendto(b"back", (PUBLIC, 4000))
    assert heard(a, b"back") == (FAR, 5000)
    near.sendto(b"unasked", (OTHER, 9))  # The group decides, not the uplink.
    assert heard(c, b"unasked") == (ROUTER, 5001)
    udp(b, FAR, 5000, b"by the gateway")
    body, where = came(far)
    assert body == b"by the gateway" and where[0] == NAT
    far.sendto(b"answer", where)
    assert heard(b, b"answer") == (FAR, 5000)
    near.sendto(b"to the gateway", (NAT, 9))
    assert heard(b, b"to the gateway", 0.3) is None
    udp(a, OTHER, 9, b"hairpin")
    assert heard(c, b"hairpin") == (PUBLIC, 4000)
    # Nobody answers for what no port has; and who has it next answers at once.
    neighbours = lambda: subprocess.run(["ip", "-n", site.provider, "neigh"], text=True,
                                        capture_output=True, check=True).stdout
    near.sendto(b"nobody", ("192.0.2.103", 9))
    time.sleep(0.3)
    assert "192.0.2.103 dev host lladdr" not in neighbours()
    site.lab.want("port", id=c.id, subnet_id="subnet-vpc-1-1", mac=c.mac, ipv4=c.ip,
                  check_source=True, group_ids=["sg-vpc-1"])
    ip("-n", site.provider, "neigh", "flush", "dev", "host")
    near.sendto(b"no more", (OTHER, 9))
    assert heard(c, b"no more", 0.4) is None
    # What is no public address of this node never leaves, whatever a router sends here.
    ip("-n", site.provider, "route", "add", "10.0.0.0/16", "via", LEG)
    near.sendto(b"private", (a.ip, 9))
    assert heard(a, b"private", 0.3) is None
    assert site.lab.do(op="check")["drift"] == 0
    subprocess.run(["ip", "-n", f"moln-{site.lab.cloud}-external", "link", "delete",
                    leg(site)], check=True)
    assert site.lab.do(op="check")["drift"] == 1
    udp(a, FAR, 5000, b"again", sport=4200)
    assert came(far) == (b"again", (PUBLIC, 4200))
    site.uplink(mode="nat", default_too=True)  # Another mode takes its place.
    udp(a, FAR, 5000, b"hidden", sport=4201)
    assert came(far)[1][0] == HOST
    site.lab.do(op="drop", kind="uplink", id="uplink-1")
    assert leg(site) is None


def leg(site):
    out = subprocess.run(["ip", "-n", f"moln-{site.lab.cloud}-external", "-br", "link"],
                         capture_output=True, text=True, check=True).stdout
    names = [line.split("@")[0].split()[0] for line in out.splitlines()]
    return next((n for n in names if n.startswith("me")), None)


@pytest.mark.parametrize("record, why", [
    ({"link": "eth9"}, "no interface 'eth9'"),
    ({"link": "lo"}, "leads nowhere"),
    ({"link": "eth2"}, "in use"),
    ({"link": "eth1"}, "no IPv4 address"),
    ({"link": "eth3"}, "is down"),
    ({"link": "eth4"}, "the underlay"),
    ({"link": "a" * 16}, "not an interface's name"),
    ({"link": ""}, "not an interface's name"),
    ({"mode": "router"}, "bad id or mode"),
    ({"id": "../x"}, "bad id or mode"),
])
def test_what_may_not_lead_out_is_refused(refusing, record, why):
    with pytest.raises(RuntimeError, match=why):
        refusing.lab.want("uplink", **{"id": "uplink-1", "mode": "nat", "link": "eth0",
                                       **record})
    assert "_uplink" not in refusing.rules(refusing.host)


@pytest.fixture(scope="module")
def refusing():
    site = Site()
    for command in ("link add br0 type bridge", "link add eth2 type veth peer name x2",
                    "link set eth2 master br0", "link set eth2 up",
                    "link add eth3 type veth peer name x3",
                    "link add eth4 type veth peer name x4", "link set x4 up",
                    "link set eth4 up", "addr add 192.168.77.1/24 dev eth4"):
        ip("-n", site.host, *command.split())
    site.lab.want("underlay", id="underlay", address="192.168.77.1", peers=[])
    yield site
    site.close()


def test_an_uplink_is_no_underlay(site):
    site.uplink(default_too=True)
    with pytest.raises(RuntimeError, match="nodes do not meet there"):
        site.lab.want("underlay", id="underlay", address=HOST, peers=[])
    with pytest.raises(RuntimeError, match="has uplink uplink-1 still"):
        site.lab.want("uplink", id="uplink-2", mode="nat", link="eth0", default_too=True)


@pytest.fixture(scope="module")
def joined():
    """A control plane, and a host in a namespace of its own with an interface 'up0'."""
    pool = Pool()
    node = pool.node("uplinked").start(token=pool.token())
    for args in ("link add up0 type veth peer name up0-far", "link set up0 up",
                 "link set up0-far up", "addr add 192.0.2.10/24 dev up0"):
        subprocess.run(pool.hosts[0].command("ip", *args.split()), check=True)
    yield pool, node.id()
    pool.close()


def test_an_operators_uplink_reaches_its_nodes(joined):
    pool, node = joined

    def moln(*args):
        return pool.cloud.moln("uplink", *args, "--json")

    def refused(*args, why):
        with pytest.raises(AssertionError, match=why):
            moln("add", *args)

    def state():
        uplinks = moln("ls")["Uplinks"]
        said = [n for u in uplinks for n in u["Nodes"]]
        return [(n["NodeId"], n["State"], n.get("Message", "")) for n in said]

    refused("up0", "--mode", "nat", "--zone", "us-east-9z", why="no zone")
    refused("up0", "--mode", "nat", "--node", f"node-{0:017}", why="no node")
    refused("up0", "--mode", "bridge", "--zone", "us-east-1a", why="name a node")
    refused("up0", "--mode", "bridge", "--node", node, why="needs Address")
    refused("up0", "--mode", "nat", "--node", node, "--router", "192.0.2.1", why="for mode")
    refused("up0", "--mode", "none", "--node", node, why="no Interface")
    refused("--mode", "nat", "--node", node, why="Name the Interface")
    assert moln("ls")["Uplinks"] == []
    wrong = moln("add", "up9", "--mode", "nat", "--zone", "us-east-1a")["Uplink"]["UplinkId"]
    refused("up0", "--mode", "nat", "--zone", "us-east-1a", why="has an uplink already")
    wait_for("the node's refusal", lambda: state() == [
        (node, "error", f"uplink {wrong}: this host has no interface 'up9'")])
    events = pool.cloud.moln("node", "events", "--json")["Events"]
    assert [e["Object"] for e in events if e["Kind"] == "uplink"] == [wrong]
    # A node's own comes before its zone's; taken away, the zone's comes back.
    own = moln("add", "up0", "--mode", "nat", "--node", node)["Uplink"]["UplinkId"]
    wait_for("its own uplink", lambda: state() == [(node, "ready", "")])
    rules = subprocess.run(pool.hosts[0].command("nft", "list", "ruleset"), capture_output=True,
                           text=True, check=True).stdout
    assert 'oifname "up0" masquerade' in rules
    moln("rm", own)
    wait_for("the zone's again", lambda: [s[1] for s in state()] == ["error"])
    moln("rm", wrong)
    wait_for("nothing", lambda: state() == [] and "_uplink" not in subprocess.run(
        pool.hosts[0].command("nft", "list", "ruleset"), capture_output=True, text=True,
        check=True).stdout)
    with pytest.raises(AssertionError, match="no uplink"):
        moln("rm", own)


def test_an_operator_names_the_public_addresses(joined):
    pool, _ = joined

    def moln(*args):
        return pool.cloud.moln("address-pool", *args, "--json")

    ec2 = pool.cloud.client()
    first = ec2.allocate_address()["PublicIp"]
    for bad, why in (("192.0.2.0/8", "no block"), ("224.0.0.0/24", "no block"),
                     ("hello/2024", "no block"), (f"{first}/32", "already")):
        with pytest.raises(AssertionError, match=why):
            moln("add", bad)
    made = moln("add", "192.0.2.64/30")["AddressPool"]
    assert made["Addresses"] == 2 and not made["Closed"]
    taken = [ec2.allocate_address()["PublicIp"] for _ in range(2)]
    assert sorted(taken) == ["192.0.2.65", "192.0.2.66"]
    with pytest.raises(ClientError, match="InsufficientAddressCapacity"):
        ec2.allocate_address()  # The first pool gives out nothing more.
    states = {p["PoolId"]: (p["Closed"], p["AddressesTaken"])
              for p in moln("ls")["AddressPools"]}
    assert states == {"default-us-east-1": (True, 1), made["PoolId"]: (False, 2)}
    assert moln("close", made["PoolId"])["AddressPool"]["Closed"]
    for address in ec2.describe_addresses()["Addresses"]:
        ec2.release_address(AllocationId=address["AllocationId"])
    with pytest.raises(ClientError, match="InsufficientAddressCapacity"):
        ec2.allocate_address()
