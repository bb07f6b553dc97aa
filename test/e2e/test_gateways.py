"""Ways out of a VPC on one host: Elastic IPs, NAT gateways, hairpin, peering, routes. Guests
are namespaces with raw sockets; the outside is the cloud's own external namespace."""
import os
import socket
import struct
import subprocess
import time

import pytest

from net_lab import Lab, checksum, frame, inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")

RST, SYN, ACK = 4, 2, 16
ANY = [{"protocol": -1, "cidr": "0.0.0.0/0"},
       {"protocol": -1, "cidr": "0.0.0.0/0", "egress": True}]


class Net:
    """One VPC with a public subnet (1) and a private one (2)."""

    def __init__(self, lab, vpc, block):
        self.lab, self.vpc, self.block = lab, vpc, block
        before = set(lab.namespaces())
        self.tell()
        self.ns = (set(lab.namespaces()) - before).pop()
        self.macs = lab.bridges(self.ns)

    def tell(self):
        lab, vpc, block = self.lab, self.vpc, self.block
        lab.want("network", id=vpc, domain="test.internal", cidrs=[f"{block}.0.0/16"])
        lab.want("group", id=f"sg-{vpc}", network_id=vpc, rules=ANY)
        for n in (1, 2):
            lab.want("route_table", id=f"rtb-{vpc}-{n}", network_id=vpc, routes=[])
            lab.want("subnet", id=f"subnet-{vpc}-{n}", network_id=vpc,
                     cidr=f"{block}.{n}.0/24", acl_off=True,
                     route_table_id=f"rtb-{vpc}-{n}")

    def route(self, n, *routes):
        self.lab.want("route_table", id=f"rtb-{self.vpc}-{n}", network_id=self.vpc,
                      routes=[dict(zip(("cidr", "target", "target_id", "address",
                                        "subnet_id"), r)) for r in routes])

    def port(self, n, host, mac, public=None, check=True):
        ip, port = f"{self.block}.{n}.{host}", f"eni-{self.vpc}-{n}-{host}"
        self.lab.want("port", id=port, subnet_id=f"subnet-{self.vpc}-{n}", mac=mac, ipv4=ip,
                      check_source=check, group_ids=[f"sg-{self.vpc}"],
                      publics=[{"private": ip, "public": public}] if public else [])
        return ip, port

    def guest(self, n, host, public=None, check=True):
        mac = f"02:00:00:{len(self.lab.guests):02x}:00:{host:02x}"
        ip, port = self.port(n, host, mac, public, check)
        guest = self.lab.plug(port, mac)
        guest.ip, guest.router = ip, self.macs[f"{self.block}.{n}.1/24"]
        return guest


def udp(guest, daddr, dport, body, sport=4000, saddr=None):
    guest.send(frame(guest.mac, guest.router, saddr or guest.ip, daddr, 17, sport, dport,
                     body))


def heard(guest, body, seconds=20):
    """(source, source port) of the datagram with this body."""
    end = time.time() + seconds
    while time.time() < end:
        for data in guest.received():
            if body in data:
                return (socket.inet_ntoa(data[26:30]), int.from_bytes(data[34:36], "big"))
        time.sleep(0.02)
    return None


def outside_socket(lab, port):
    def make():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("100.64.0.1", port))
        sock.settimeout(20)
        return sock
    return inside(f"moln-{lab.cloud}-external", make)


def nothing_comes(sock, seconds=0.5):
    """No datagram, for as long as one could be under way."""
    limit = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        return not sock.recvfrom(200)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(limit)


def leads(lab):
    """Public addresses that lead from the outside into some network."""
    def shown(what):
        return subprocess.run(["ip", "-n", f"moln-{lab.cloud}-external", "-4", what],
                              capture_output=True, text=True, check=True).stdout.splitlines()
    routes, neighbours = (sorted(line.split()[0] for line in shown(what) if " mx" in line)
                          for what in ("route", "neigh"))
    assert routes == neighbours
    return routes


@pytest.fixture
def lab():
    made = Lab("gw")
    yield made
    made.close()


def test_elastic_ip_goes_both_ways_and_hairpins(lab):
    net = Net(lab, "vpc-1", "10.0")
    net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
    a, b = net.guest(1, 10, "203.0.113.10"), net.guest(1, 11, "203.0.113.11")
    bare = net.guest(1, 12)
    lab.ready()
    out = outside_socket(lab, 5000)
    udp(a, "100.64.0.1", 5000, b"hello out")
    assert out.recvfrom(100) == (b"hello out", ("203.0.113.10", 4000))
    out.sendto(b"hello back", ("203.0.113.10", 4000))
    assert heard(a, b"hello back") == ("100.64.0.1", 5000)
    out.sendto(b"unasked", ("203.0.113.11", 7))  # The group lets it in.
    assert heard(b, b"unasked") == ("100.64.0.1", 5000)
    udp(bare, "100.64.0.1", 5000, b"no address")  # Without a public address: nothing.
    assert nothing_comes(out)
    udp(a, "203.0.113.11", 9, b"hairpin")
    assert heard(b, b"hairpin") == ("203.0.113.10", 4000)
    udp(b, "203.0.113.10", 4000, b"and back", sport=9)
    assert heard(a, b"and back") == ("203.0.113.11", 9)
    # Without its address it is silent.
    lab.want("port", id=a.id, subnet_id="subnet-vpc-1-1", mac=a.mac, ipv4=a.ip,
             check_source=True, group_ids=["sg-vpc-1"])
    udp(a, "100.64.0.1", 5000, b"gone", sport=4001)
    assert nothing_comes(out)
    assert leads(lab) == ["203.0.113.11"]
    assert lab.do(op="check")["drift"] == 0
    lab.do(op="drop", kind="port", id=b.id)
    assert leads(lab) == []
    out.close()


def test_nat_gateway_hides_a_private_subnet(lab):
    net = Net(lab, "vpc-1", "10.0")
    lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4="203.0.113.99",
             private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1")
    net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
    net.route(2, ("0.0.0.0/0", "nat", "nat-1"), ("100.64.0.7/32", "blackhole"))
    a = net.guest(2, 10)
    lab.ready()
    out = outside_socket(lab, 5000)
    udp(a, "100.64.0.1", 5000, b"hello out")
    body, where = out.recvfrom(100)
    assert body == b"hello out" and where[0] == "203.0.113.99"
    out.sendto(b"hello back", where)
    assert heard(a, b"hello back") == ("100.64.0.1", 5000)
    out.sendto(b"unasked", ("203.0.113.99", 7))
    assert heard(a, b"unasked", 0.4) is None
    lab.do(op="drop", kind="nat_gateway", id="nat-1")
    udp(a, "100.64.0.1", 5000, b"gone", sport=4001)
    assert nothing_comes(out)
    out.close()


def test_a_leased_nat_gateway_speaks_once_its_node_has_the_lease(lab):
    """And goes on without it, and whoever drives the network: another may not be there to."""
    net = Net(lab, "vpc-1", "10.0")
    a = net.guest(2, 10)

    def tell():
        lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4="203.0.113.99",
                 private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1", leased=True)
        net.route(2, ("0.0.0.0/0", "nat", "nat-1"))
    tell()
    time.sleep(1.2)
    out = outside_socket(lab, 5000)
    out.settimeout(0.4)

    def speaks():
        udp(a, "100.64.0.1", 5000, b"hello")
        try:
            return out.recvfrom(100)[1][0] == "203.0.113.99"
        except TimeoutError:
            return False
    assert not speaks()
    lab.do(op="lease", ms=600000)
    assert speaks() and lab.do(op="check")["drift"] == 0
    lab.do(op="lease", ms=0)
    assert speaks()
    lab.restart()
    net.tell()
    net.port(2, 10, a.mac)
    tell()
    assert speaks() and lab.do(op="check")["drift"] == 0
    lab.do(op="drop", kind="nat_gateway", id="nat-1")
    tell()
    assert not speaks()  # Who begins anew has no lease.
    out.close()


def test_peers_meet_where_routes_say_so_and_strangers_never(lab):
    one, two = Net(lab, "vpc-1", "10.0"), Net(lab, "vpc-2", "10.1")
    same = Net(lab, "vpc-3", "10.0")  # The same addresses, another tenant.
    a, b, c = one.guest(1, 10), two.guest(1, 10), same.guest(1, 10)
    lab.ready()
    udp(a, "10.1.1.10", 9, b"too early")
    assert heard(b, b"too early", 0.3) is None
    lab.want("peering", id="pcx-1", network_a="vpc-1", network_b="vpc-2")
    one.route(1, ("10.1.0.0/16", "peering", "pcx-1"))
    udp(a, "10.1.1.10", 9, b"hello peer", sport=4001)
    assert heard(b, b"hello peer") == ("10.0.1.10", 4001)
    udp(b, "10.0.1.10", 4001, b"no way back", sport=9)
    assert heard(a, b"no way back", 0.3) is None
    two.route(1, ("10.0.0.0/16", "peering", "pcx-1"))
    udp(b, "10.0.1.10", 4001, b"way back", sport=9)
    assert heard(a, b"way back") == ("10.1.1.10", 9)
    assert heard(c, b"hello peer", 0.1) is None and heard(c, b"way back", 0.1) is None
    lab.do(op="drop", kind="peering", id="pcx-1")
    udp(a, "10.1.1.10", 9, b"too late", sport=4002)
    assert heard(b, b"too late", 0.3) is None


def test_route_through_an_instance_that_forwards(lab):
    net = Net(lab, "vpc-1", "10.0")
    net.route(1, ("198.51.100.0/24", "eni", "eni-vpc-1-2-20", "10.0.2.20", "subnet-vpc-1-2"))
    a, box = net.guest(1, 10), net.guest(2, 20, check=False)
    strict = net.guest(2, 21)
    lab.ready()
    udp(a, "198.51.100.7", 9, b"through")
    assert heard(box, b"through") == ("10.0.1.10", 4000)
    net.route(1, ("198.51.100.0/24", "eni", "eni-vpc-1-2-21", "10.0.2.21", "subnet-vpc-1-2"))
    udp(a, "198.51.100.7", 9, b"checked", sport=4001)  # Destination check is on there.
    assert heard(strict, b"checked", 0.3) is None


def test_nothing_of_it_reaches_the_host(lab):
    net = Net(lab, "vpc-1", "10.0")
    net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
    net.guest(1, 10, "203.0.113.10")
    out = subprocess.run(["ip", "-n", f"moln-{lab.cloud}-external", "-o", "link"],
                         capture_output=True, text=True, check=True).stdout
    names = sorted(line.split(": ")[1].split("@")[0][:2] for line in out.splitlines())
    assert names == ["lo", "mx"]
    routes = subprocess.run(["ip", "-n", f"moln-{lab.cloud}-external", "route", "get",
                             "192.0.2.1"], capture_output=True, text=True)
    assert routes.returncode != 0


def tcp(guest, daddr, flags, sport=4000, dport=80):
    """A TCP segment with these flags, written by hand."""
    data = bytearray(frame(guest.mac, guest.router, guest.ip, daddr, 6, sport, dport, b""))
    data[14 + 20 + 13] = flags
    data[14 + 36:14 + 38] = b"\0\0"
    segment = bytes(data[34:])
    pseudo = bytes(data[26:34]) + struct.pack("!BBH", 0, 6, len(segment))
    data[14 + 36:14 + 38] = struct.pack("!H", checksum(pseudo + segment))
    guest.send(bytes(data))


def test_a_nat_gateway_keeps_awss_times_and_limits(lab):
    net = Net(lab, "vpc-1", "10.0")
    lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4="203.0.113.99",
             private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1")
    net.route(2, ("0.0.0.0/0", "nat", "nat-1"))
    a = net.guest(2, 10)
    lab.ready()
    out = outside_socket(lab, 5000)
    udp(a, "100.64.0.1", 5000, b"hello")
    _, where = out.recvfrom(100)
    a.send(frame(a.mac, a.router, a.ip, "100.64.0.1", 1, 77, None, b"ping"))
    assert any(d[23] == 1 and d[34] == 0 for d in wait_frames(a)), "ICMP comes back too"
    door = inside(f"moln-{lab.cloud}-external", lambda: socket.create_server(("100.64.0.1", 80)))
    tcp(a, "100.64.0.1", SYN)
    assert any(d[23] == 6 and d[47] == SYN | ACK for d in wait_frames(a))
    tcp(a, "100.64.0.1", ACK)
    time.sleep(0.2)

    def tracked():
        text = inside(net.ns, lambda: open("/proc/thread-self/net/nf_conntrack").read())
        found = {}
        for line in text.splitlines():
            words = line.split()
            if "dst=203.0.113.99" in line:
                found[words[2]] = int(words[4])
        return found
    assert 300 < tracked()["udp"] <= 350 and tracked()["tcp"] <= 350
    # What goes on after it was forgotten is told so; it is no connection's begin.
    tcp(a, "100.64.0.1", ACK, sport=4444)
    assert any(d[23] == 6 and d[47] & RST for d in wait_frames(a))
    out.sendto(b"answer", where)
    assert heard(a, b"answer")
    assert lab.do(op="check")["drift"] == 0
    out.close()
    door.close()


def test_a_nat_gateway_that_has_no_port_left_says_so(lab):
    net = Net(lab, "vpc-1", "10.0")
    lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4="203.0.113.99",
             private_ipv4="10.0.1.4", subnet_id="subnet-vpc-1-1")
    net.route(2, ("0.0.0.0/0", "nat", "nat-1"))
    a, b = net.guest(2, 10), net.guest(2, 11)
    lab.ready()
    lab.do(op="check")
    for n in range(1024, 65536):
        udp(a, "100.64.0.1", 5000, b"", sport=n)
    assert lab.do(op="check")["events"] == []
    for n in range(200):
        udp(b, "100.64.0.1", 5000, b"", sport=2000 + n)
    out = outside_socket(lab, 5001)
    udp(b, "100.64.0.1", 5001, b"another destination has ports of its own")
    assert out.recvfrom(100)[1][0] == "203.0.113.99"
    assert lab.do(op="check")["events"] == [
        "ErrorPortAllocation: 200 packets of new connections found no port or no room"]


def wait_frames(guest, seconds=0.6):
    got, end = [], time.time() + seconds
    while time.time() < end:
        got += guest.received()
        time.sleep(0.02)
    return got
