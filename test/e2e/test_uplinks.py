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
from test_ipv6 import came as came6, udp6, with_address6

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
        self.lab = None
        try:
            self._join()
            self.lab = Lab(f"up{Site.made}x", self.host)
        except BaseException:
            self.close()
            raise

    def _join(self):
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
        if self.lab:
            self.lab.close()
        for name in (self.host, self.provider, self.lan):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


def came(sock, seconds=20):
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
    site.lab.ready()
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
    site.lab.ready()
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
    assert sorted(proxies(site.lab, "-4")) == [PUBLIC, NAT]
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


def test_a_leased_gateway_is_answered_for_until_another_says_it_has_it(site):
    """As the node does that took its place, while this one is cut off and hears nothing else."""
    site.network().guest(1, 10, PUBLIC)
    site.lab.do(op="drop", kind="nat_gateway", id="nat-1")
    site.lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4=NAT,
                  private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1", leased=True)
    near = site.server(5001, ROUTER)
    site.uplink(mode="bridge", address=f"{LEG}/24", router=ROUTER, default_too=True)

    def answered(address):
        ip("-n", site.provider, "neigh", "flush", "dev", "host")
        near.sendto(b"who has it?", (address, 9))
        said = lambda: subprocess.run(["ip", "-n", site.provider, "neigh", "show", address],
                                      text=True, capture_output=True, check=True).stdout
        known = wait_for("an answer, or three questions without", lambda: (
            lambda said: said if "lladdr" in said or "FAILED" in said else None)(said()))
        return "lladdr" in known
    assert answered(PUBLIC) and not answered(NAT)
    site.lab.do(op="lease", ms=600000)
    assert answered(NAT)
    site.lab.do(op="lease", ms=0)
    assert answered(NAT)
    for address in (PUBLIC, NAT):
        inside(site.provider, lambda: say_it_is_ours(address))
    assert not answered(NAT) and answered(PUBLIC)
    site.lab.do(op="lease", ms=600000)
    assert answered(NAT)


def say_it_is_ours(address):
    """A gratuitous ARP."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("host", 0))
        mac, all_of_them, ip4 = sock.getsockname()[4], b"\xff" * 6, socket.inet_aton(address)
        sock.send(all_of_them + mac + b"\x08\x06" + b"\0\1\x08\0\x06\x04\0\1" +
                  mac + ip4 + all_of_them + ip4)


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
    refused("up0", "--mode", "bridge", "--node", node, why="needs Address")
    bridge = ("up0", "--mode", "bridge", "--router", "192.0.2.1", "--address")
    refused(*bridge, "192.0.2.2/24", "--zone", "us-east-1a", why="name a range")
    refused(*bridge, "192.0.2.2-192.0.2.3/24", "--node", node, why="a range is for a zone")
    for wrong in ("192.0.2.3-192.0.2.2/24", "192.0.2.2-192.0.3.2/24", "192.0.2.1-192.0.2.9/24",
                  "192.0.2.2-x/24", "10.0.0.1-10.200.0.1/8"):
        refused(*bridge, wrong, "--zone", "us-east-1a", why="of one network")
    for six in (("--address6", "2001:db8::2/64"), ("--router6", "2001:db8::1"),
                ("--address6", "2001:db8::2/64", "--router6", "2001:db8:1::1"),
                ("--address6", "2001:db8::2/64", "--router6", "2001:db8::3"),
                ("--address6", "192.0.2.2/24", "--router6", "fe80::1")):
        refused(*bridge, "192.0.2.2-192.0.2.9/24", "--zone", "us-east-1a", *six,
                why="belong together")
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
    wait_for("its own to be gone", lambda: [s[1] for s in state()] == ["error"])
    moln("rm", wrong)
    # A zone's bridge gives each of its nodes an address of a range.
    wrong = moln("add", *bridge, "192.0.2.20-192.0.2.29/24", "--zone", "us-east-1a",
                 "--address6", "2001:db8:77::20/64", "--router6", "fe80::1")["Uplink"]
    assert (wrong["Address"], wrong["Address6"]) == ("192.0.2.20-192.0.2.29/24",
                                                     "2001:db8:77::20/64")
    wrong = wrong["UplinkId"]
    wait_for("the zone's bridge", lambda: state() == [(node, "ready", "")])
    assert moln("ls")["Uplinks"][0]["Nodes"][0]["Address"] == "192.0.2.20/24"
    outside = f"moln-{pool.cloud_id()}-external"
    addresses = pool.hosts[0].run("ip", "-n", outside, "-br", "addr")
    assert "192.0.2.20/24" in addresses and "2001:db8:77::20/64" in addresses
    moln("rm", wrong)
    wrong = moln("add", "up9", "--mode", "nat", "--zone", "us-east-1a")["Uplink"]["UplinkId"]
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
    # Of an IPv6 block VPCs get a part each, and give it back.
    for bad, why in (("fd00::/48", "no block"), ("2001:db8:40::/57", "no block"),
                     ("2001:db8::/20", "no block")):
        with pytest.raises(AssertionError, match=why):
            moln("add", bad)
    six = moln("add", "2001:db8:40::/55")["AddressPool"]
    assert (six["Addresses"], six["AddressesTaken"]) == (2, 0)
    with pytest.raises(AssertionError, match="already"):
        moln("add", "2001:db8:40::/48")

    def vpc():
        made = ec2.create_vpc(CidrBlock="10.9.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
        return (made["VpcId"],
                made["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"])
    one, two = vpc(), vpc()
    assert [one[1], two[1]] == ["2001:db8:40::/56", "2001:db8:40:100::/56"]
    with pytest.raises(ClientError, match="InsufficientAddressCapacity"):
        vpc()
    ec2.delete_vpc(VpcId=one[0])
    assert vpc()[1] == one[1]
    assert {p["PoolId"]: p["AddressesTaken"] for p in moln("ls")["AddressPools"]}[
        six["PoolId"]] == 2
    assert moln("close", made["PoolId"])["AddressPool"]["Closed"]
    for address in ec2.describe_addresses()["Addresses"]:
        ec2.release_address(AllocationId=address["AllocationId"])
    with pytest.raises(ClientError, match="InsufficientAddressCapacity"):
        ec2.allocate_address()


# ---- IPv6: by its own addresses, on the provider's network

ROUTER6, LEG6, FAR6 = "2001:db8:77::1", "2001:db8:77::20", "2001:db8:f::1"


def six_network(lab, name, block):
    """A subnet behind an internet gateway (1) and one behind an egress-only one (2)."""
    lab.want("network", id=name, cidrs=["10.1.0.0/16"], cidrs6=[f"{block}::/56"])
    lab.want("group", id=f"sg-{name}", network_id=name, rules=[
        {"protocol": -1, "cidr": cidr, "egress": egress}
        for cidr in ("0.0.0.0/0", "::/0") for egress in (False, True)])
    for n, target in ((1, "igw"), (2, "egress_only")):
        lab.want("route_table", id=f"rtb-{name}-{n}", network_id=name,
                 routes=[{"cidr": "::/0", "target": target, "target_id": "gw-1"}])
        lab.want("subnet", id=f"subnet-{name}-{n}", network_id=name, cidr=f"10.1.{n}.0/24",
                 cidr6=f"{block}:{n}::/64", acl_off=True,
                 route_table_id=f"rtb-{name}-{n}")


def six_guest(lab, name, n, address):
    port = f"eni-{name}-{n}"
    lab.want("port", id=port, subnet_id=f"subnet-{name}-{n}", mac=f"02:00:00:00:06:{n:02x}",
             ipv4=f"10.1.{n}.10", ipv6=[address], check_source=True,
             group_ids=[f"sg-{name}"])
    guest = lab.plug_kernel(port)
    guest.ip6 = address
    with_address6(guest)
    return guest


def proxies(lab, family="-6"):
    """For which addresses the kernel answers on the uplink."""
    out = subprocess.run(["ip", family, "-n", f"moln-{lab.cloud}-external", "neigh", "show",
                          "proxy"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines()]


def test_bridge_carries_ipv6_by_its_own_addresses(site):
    lab, block = site.lab, "2001:db8:1"
    for address, dev in ((f"{ROUTER6}/64", "host"), (f"{FAR6}/128", "lo")):
        ip("-n", site.provider, "addr", "add", address, "dev", dev, "nodad")
    ip("-n", site.provider, "route", "add", "2001:db8:1::/48", "dev", "host")
    six_network(lab, "vpc-6", block)
    a, b = (six_guest(lab, "vpc-6", n, f"{block}:{n}::a") for n in (1, 2))
    far = udp6(site.provider, FAR6, 5000)
    place = {"address": f"{LEG}/24", "router": ROUTER, "default_too": True}
    for wrong in ({"address6": f"{LEG6}/64"}, {"router6": ROUTER6},
                  {"address6": f"{LEG6}/64", "router6": LEG6},
                  {"address6": f"{LEG6}/64", "router6": "2001:db8:78::1"}):
        with pytest.raises(RuntimeError, match="named together"):
            site.uplink(mode="bridge", **place, **wrong)
    site.uplink(mode="bridge", **place)
    mine, hidden = (udp6(guest, guest.ip6, 7) for guest in (a, b))
    mine.sendto(b"without IPv6", (FAR6, 5000))
    assert came6(far, b"without IPv6", 0.5) is None
    site.uplink(mode="bridge", **place, address6=f"{LEG6}/64", router6=ROUTER6)
    for sock, guest in ((mine, a), (hidden, b)):
        def reached():  # The new link's own address takes its time to be ready.
            sock.sendto(guest.ip6.encode(), (FAR6, 5000))
            return came6(far, guest.ip6.encode(), 0.5)
        assert wait_for("the way out", reached, 10) == (guest.ip6, 7)
        far.sendto(b"back", (guest.ip6, 7))
        assert came6(sock, b"back") == (FAR6, 5000)
    # Unasked: to what an internet gateway leads to, and not behind an egress-only one.
    near = udp6(site.provider, ROUTER6, 5001)
    near.sendto(b"unasked", (a.ip6, 7))
    near.sendto(b"unasked", (b.ip6, 7))
    assert came6(mine, b"unasked") == (ROUTER6, 5001)
    assert came6(hidden, b"unasked", 0.5) is None
    # Neither what nobody has, nor what nobody routes.
    near.sendto(b"nobody", (f"{block}:1::b", 7))
    time.sleep(0.3)
    seen = subprocess.run(["ip", "-6", "-n", site.provider, "neigh"], capture_output=True,
                          text=True, check=True).stdout
    assert f"{a.ip6} dev host lladdr" in seen and f"{block}:1::b dev host lladdr" not in seen
    assert lab.do(op="check")["drift"] == 0
    lab.do(op="drop", kind="port", id="eni-vpc-6-1")
    ip("-n", site.provider, "-6", "neigh", "flush", "dev", "host")
    near.sendto(b"gone", (a.ip6, 7))
    time.sleep(0.3)
    assert proxies(lab) == [b.ip6]


# ---- an address that goes to another host

class Two:
    """Two hosts on the provider's network, each with a lab that has a bridge there, and the same
    network with the same port: at home on the first, on standby on the second."""
    LEGS = ("192.0.2.21", "192.0.2.22")
    SIX = "2001:db8:1:1::a"

    def __init__(self):
        self.provider = f"uptwo-{os.getpid()}"
        self.hosts = [f"uptwo{n}-{os.getpid()}" for n in (1, 2)]
        ip("netns", "add", self.provider)
        ip("-n", self.provider, "link", "add", "host", "type", "bridge")
        for n, host in enumerate(self.hosts):
            ip("netns", "add", host)
            ip("-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{n}",
               "netns", self.provider)
            ip("-n", host, "link", "set", "eth0", "up")
            ip("-n", self.provider, "link", "set", f"p{n}", "master", "host", "up")
        for address in (f"{ROUTER}/24", f"{ROUTER6}/64"):
            ip("-n", self.provider, "addr", "add", address, "dev", "host", *(
                ["nodad"] if ":" in address else []))
        ip("-n", self.provider, "link", "set", "host", "up")
        ip("-n", self.provider, "route", "add", "2001:db8:1::/48", "dev", "host")
        self.labs = [Lab(f"two{n}", host) for n, host in enumerate(self.hosts)]
        for n, lab in enumerate(self.labs):
            lab.want("uplink", id="uplink-1", mode="bridge", link="eth0", router=ROUTER,
                     address=f"{self.LEGS[n]}/24", router6=ROUTER6,
                     address6=f"2001:db8:77::2{n + 1}/64")
            six_network(lab, "vpc-6", "2001:db8:1")
            lab.want("route_table", id="rtb-vpc-6-1", network_id="vpc-6", routes=[
                {"cidr": cidr, "target": "igw", "target_id": "igw-1"}
                for cidr in ("0.0.0.0/0", "::/0")])
            self.port(n, standby=n > 0)
            lab.plug("eni-1", "02:00:00:00:00:01")

    def port(self, n, **more):
        self.labs[n].want("port", **{
            "id": "eni-1", "subnet_id": "subnet-vpc-6-1", "mac": "02:00:00:00:00:01",
            "ipv4": "10.1.1.10", "ipv6": [self.SIX], "check_source": True,
            "publics": [{"private": "10.1.1.10", "public": PUBLIC}],
            "group_ids": ["sg-vpc-6"], **more})

    def guest(self, n):
        return self.labs[n].guests["eni-1"]

    def holdings(self, n):
        """What of the address is on a host: who answers, what leads in, what is translated."""
        lab = self.labs[n]
        outside = f"moln-{lab.cloud}-external"
        routes, neighbours = (subprocess.run(
            ["ip", "-n", outside, "-4", what], capture_output=True, text=True,
            check=True).stdout for what in ("route", "neigh"))
        rules = subprocess.run(["ip", "netns", "exec", outside, "nft", "list", "ruleset"],
                               capture_output=True, text=True, check=True).stdout
        vpc = subprocess.run(["ip", "netns", "exec", next(
            n for n in lab.namespaces() if n != outside), "nft", "list", "ruleset"],
            capture_output=True, text=True, check=True).stdout
        return [*proxies(lab, "-4"), *proxies(lab), *(
            where for where, text in (("route", routes), ("neighbour", neighbours),
                                      ("rules", rules), ("vpc", vpc)) if PUBLIC in text)]

    def answers(self, address):
        """The link-layer address that the provider's network believes it has."""
        out = subprocess.run(["ip", "-n", self.provider, "neigh", "show", address],
                             capture_output=True, text=True, check=True).stdout.split()
        return out[out.index("lladdr") + 1] if "lladdr" in out else None

    def leg_mac(self, n):
        outside = f"moln-{self.labs[n].cloud}-external"
        out = subprocess.run(["ip", "-n", outside, "-br", "link"], capture_output=True,
                             text=True, check=True).stdout
        return next(line.split()[2] for line in out.splitlines() if line.startswith("me"))

    def close(self):
        for lab in self.labs:
            lab.close()
        for name in (self.provider, *self.hosts):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def two():
    made = Two()
    yield made
    made.close()


@pytest.mark.parametrize("leaves", ["by standby", "by its end", "by another association"])
def test_an_address_that_moved_leaves_nothing_and_is_told(two, leaves):
    near = inside(two.provider, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    near.bind((ROUTER, 5000))
    near6 = udp6(two.provider, ROUTER6, 5000)

    def reaches(n, body):
        near.sendto(body, (PUBLIC, 9))
        near6.sendto(b"six", (two.SIX, 9))
        return heard(two.guest(n), body, 0.5)
    wait_for("the first host to have it", lambda: reaches(0, b"here") and two.answers(two.SIX),
             15)
    assert two.answers(PUBLIC) == two.answers(two.SIX) == two.leg_mac(0)
    assert two.holdings(0) == [PUBLIC, two.SIX, "route", "neighbour", "rules", "vpc"]
    assert two.holdings(1) == []
    if leaves == "by standby":
        two.port(0, standby=True)
    elif leaves == "by its end":
        two.labs[0].do(op="drop", kind="port", id="eni-1")
    else:
        two.port(0, publics=[], ipv6=["2001:db8:1:1::b"])
    assert two.holdings(0) == ([] if leaves != "by another association" else ["2001:db8:1:1::b"])
    two.port(1)
    # Told, and not asked for: the entries of the neighbours change by themselves.
    wait_for("the neighbours to be told", lambda: two.answers(PUBLIC) == two.answers(two.SIX)
             == two.leg_mac(1), 10)
    assert two.holdings(1) == [PUBLIC, two.SIX, "route", "neighbour", "rules", "vpc"]
    wait_for("the second host to have it", lambda: reaches(1, b"there"), 5)
    assert leaves == "by its end" or heard(two.guest(0), b"there", 0.2) is None
    for lab in two.labs:
        assert lab.do(op="check")["drift"] == 0
    near.close()
    near6.close()
