"""Dual stack and DHCP on one host, as a guest's own stack sees them: router advertisements,
DHCPv6, names both ways, DHCP options sets. Guests are namespaces with the kernel's stack."""
import os
import socket
import struct
import subprocess
import time

import pytest

from cloud import wait_for
from net_lab import Lab, checksum, frame, inside, mac_bytes

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")

ANY = [{"protocol": -1, "cidr": cidr, "egress": egress}
       for cidr in ("0.0.0.0/0", "::/0") for egress in (False, True)]


@pytest.fixture
def lab():
    made = Lab("v6")
    yield made
    made.close()


def network(lab, **more):
    lab.want("network", id="vpc-1", domain="test.internal", cidrs=["10.0.0.0/16"],
             cidrs6=["2001:db8::/56"], **more)
    lab.want("group", id="sg-1", network_id="vpc-1", rules=ANY)
    for n in (1, 2):
        lab.want("subnet", id=f"subnet-{n}", network_id="vpc-1", cidr=f"10.0.{n}.0/24",
                 cidr6=f"2001:db8:0:{n}::/64", acl_off=True)


def guest(lab, subnet, host):
    port = f"eni-{subnet}-{host}"
    lab.want("port", id=port, subnet_id=f"subnet-{subnet}", ipv4=f"10.0.{subnet}.{host}",
             mac=f"02:00:00:00:{subnet:02x}:{host:02x}", group_ids=["sg-1"],
             ipv6=[f"2001:db8:0:{subnet}::{host:x}"], hostname=f"ip-10-0-{subnet}-{host}",
             check_source=True)
    made = lab.plug_kernel(port)
    made.ip, made.ip6 = f"10.0.{subnet}.{host}", f"2001:db8:0:{subnet}::{host:x}"
    return made


# ---- DHCPv6, written from RFC 8415

def option(code, body):
    return struct.pack("!HH", code, len(body)) + body


def options(data):
    found = {}
    while len(data) >= 4:
        code, length = struct.unpack("!HH", data[:4])
        found[code] = data[4:4 + length]
        data = data[4 + length:]
    return found


class Dhcp6:
    """A client on eth0: from its link-local address to all servers."""

    def __init__(self, duid):
        self.index = socket.if_nametoindex("eth0")
        self.duid = option(1, duid)
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("::", 546))
        self.sock.settimeout(0.3)

    def ask(self, kind, *more, limit_s=5):
        """The answer's kind and options; asks again until it comes, or None."""
        message = bytes([kind]) + b"\x12\x34\x56" + self.duid + option(8, b"\0\0")
        message += b"".join(more) + option(6, struct.pack("!HHHH", 23, 24, 31, 56))
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                self.sock.sendto(message, ("ff02::1:2", 547, 0, self.index))
                answer, _ = self.sock.recvfrom(2000)
                return answer[0], options(answer[4:])
            except (TimeoutError, OSError):
                time.sleep(0.05)
        return None


IA = option(3, b"\0\0\0\1" + bytes(8))


def lease6(duid=b"\0\3\0\1" + b"moln!!"):
    """Solicit, advertise, request, reply: the address, and the reply's other options."""
    client = Dhcp6(duid)
    solicited = client.ask(1, IA)
    if not solicited:
        return None
    kind, found = solicited
    assert kind == 2 and 3 in found, found
    kind, found = client.ask(3, option(2, found[2]), option(3, found[3]))
    assert kind == 7
    inner = options(found[3][12:])
    return socket.inet_ntop(socket.AF_INET6, inner[5][:16]), found


def test_advertisement_leads_to_dhcpv6_and_guests_meet(lab):
    network(lab)
    a, b = guest(lab, 1, 10), guest(lab, 2, 11)
    for one in (a, b):
        routes = wait_for("a router advertisement", lambda: (
            lambda text: "default" in text and text)(one.run("ip", "-6", "route")), 10)
        via = next(line for line in routes.splitlines() if line.startswith("default"))
        assert "via fe80::" in via and "proto ra" in via
        # The block is on the link, and nobody makes himself an address in it.
        assert one.ip6.rsplit("::", 1)[0] + "::/64 dev eth0" in routes
        assert "scope global" not in one.run("ip", "-6", "addr", "show", "dev", "eth0")
        address, found = one.inside(lease6)
        assert address == one.ip6
        assert found[24] == b"\x04test\x08internal\0" and not found.get(23)
        one.run("ip", "addr", "add", f"{address}/128", "dev", "eth0", "nodad")
    def serve():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((b.ip6, 7))
        sock.settimeout(2)
        return sock
    there = b.inside(serve)

    def ask():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.settimeout(2)
        sock.connect((b.ip6, 7))
        sock.send(b"hello six")
        return sock
    here = a.inside(ask)
    body, where = there.recvfrom(100)
    assert body == b"hello six" and where[0] == a.ip6
    there.sendto(b"back", where)
    assert here.recv(100) == b"back"
    assert lab.do(op="check")["drift"] == 0


def test_the_next_machine_of_a_port_gets_its_address_under_another_identity(lab):
    network(lab)
    one = guest(lab, 1, 10)
    assert one.inside(lease6)[0] == one.ip6
    one.close()
    two = guest(lab, 1, 10)
    assert two.inside(lambda: lease6(b"\0\3\0\1other!"))[0] == one.ip6


def test_dhcpv6_answers_only_ports_with_an_address(lab):
    network(lab)
    one = guest(lab, 1, 10)
    assert one.inside(lease6)[0] == one.ip6
    lab.want("port", id="eni-1-10", subnet_id="subnet-1", ipv4=one.ip, group_ids=["sg-1"],
             mac="02:00:00:00:01:0a", hostname="ip-10-0-1-10", check_source=True)
    assert one.inside(lambda: Dhcp6(b"\0\3\0\1moln!!").ask(1, IA, limit_s=1)) is None
    lab.want("port", id="eni-1-10", subnet_id="subnet-1", ipv4=one.ip, group_ids=["sg-1"],
             mac="02:00:00:00:01:0a", hostname="ip-10-0-1-10", check_source=True,
             ipv6=["2001:db8:0:1::77"])
    assert wait_for("the new address", lambda: one.inside(lease6)[0] == "2001:db8:0:1::77", 5)


# ---- ways out

def with_address6(one):
    one.run("ip", "addr", "add", f"{one.ip6}/128", "dev", "eth0", "nodad")
    wait_for("a router", lambda: "default" in one.run("ip", "-6", "route"), 10)


def udp6(where, address, port=0):
    """A socket in a guest, or in the namespace of that name."""
    def make():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((address, port))
        sock.settimeout(0.5)
        return sock
    return inside(where, make) if isinstance(where, str) else where.inside(make)


def came(sock, body, seconds=20):
    """Who sent it; None: it did not come."""
    sock.settimeout(seconds)
    try:
        while True:
            data, where = sock.recvfrom(100)
            if data == body:
                return where[:2]
    except TimeoutError:
        return None


def routes(lab, vpc, n, *entries):
    lab.want("route_table", id=f"rtb-{vpc}-{n}", network_id=f"vpc-{vpc}",
             routes=[dict(zip(("cidr", "target", "target_id"), e)) for e in entries])


def test_gateways_and_peerings_speak_ipv6(lab):
    made = {}
    for v in (1, 2):
        lab.want("network", id=f"vpc-{v}", cidrs=[f"10.{v}.0.0/16"],
                 cidrs6=[f"2001:db8:{v}::/56"])
        lab.want("group", id=f"sg-{v}", network_id=f"vpc-{v}", rules=ANY)
        for n in (1, 2):
            routes(lab, v, n)
            lab.want("subnet", id=f"subnet-{v}-{n}", network_id=f"vpc-{v}", acl_off=True,
                     cidr=f"10.{v}.{n}.0/24", cidr6=f"2001:db8:{v}:{n}::/64",
                     route_table_id=f"rtb-{v}-{n}")
            if (v, n) == (2, 2):
                continue
            port = f"eni-{v}-{n}"
            lab.want("port", id=port, subnet_id=f"subnet-{v}-{n}", ipv4=f"10.{v}.{n}.10",
                     mac=f"02:00:00:00:{v:02x}:{n:02x}", group_ids=[f"sg-{v}"],
                     ipv6=[f"2001:db8:{v}:{n}::a"], check_source=(v, n) != (1, 1))
            made[v, n] = lab.plug_kernel(port)
            made[v, n].ip6 = f"2001:db8:{v}:{n}::a"
    for one in made.values():
        with_address6(one)
    public, private, peer = (udp6(made[k], made[k].ip6, 7) for k in ((1, 1), (1, 2), (2, 1)))
    a, b, c = (made[k].ip6 for k in ((1, 1), (1, 2), (2, 1)))
    # Nothing leaves by itself; then by the route's target.
    public.sendto(b"no route", (c, 7))
    assert came(peer, b"no route", 0.5) is None
    routes(lab, 1, 1, ("::/0", "igw", "igw-1"), ("2001:db8:2::/56", "peering", "pcx-1"))
    routes(lab, 1, 2, ("::/0", "egress_only", "eigw-1"))
    lab.want("peering", id="pcx-1", network_a="vpc-1", network_b="vpc-2")
    routes(lab, 2, 1, ("2001:db8:1::/56", "peering", "pcx-1"))
    out = udp6(f"moln-{lab.cloud}-external", "fd64:64::1", 5000)
    for sock, address in ((public, a), (private, b)):
        sock.sendto(b"out", ("fd64:64::1", 5000))
        assert came(out, b"out") == (address, 7)  # By its own address.
        out.sendto(b"back", (address, 7))
        assert came(sock, b"back") == ("fd64:64::1", 5000)
    # Unasked: where the table leads to an internet gateway, and not behind an egress-only one.
    stranger = udp6(f"moln-{lab.cloud}-external", "fd64:64::1", 5001)
    stranger.sendto(b"unasked", (a, 7))
    stranger.sendto(b"unasked", (b, 7))
    assert came(public, b"unasked") == ("fd64:64::1", 5001)
    assert came(private, b"unasked", 0.5) is None
    # With the source check off a guest may forward, but not send out under a foreign name.
    made[1, 1].run("ip", "addr", "add", "2001:db8:ffff::1/128", "dev", "eth0", "nodad")
    udp6(made[1, 1], "2001:db8:ffff::1", 7).sendto(b"forged", ("fd64:64::1", 5000))
    assert came(out, b"forged", 0.5) is None
    public.sendto(b"hello peer", (c, 7))
    assert came(peer, b"hello peer") == (a, 7)
    peer.sendto(b"hello back", (a, 7))
    assert came(public, b"hello back") == (c, 7)
    private.sendto(b"no route", (c, 7))
    assert came(peer, b"no route", 0.5) is None
    # The other VPC has no gateway: the peer's is not its own.
    peer.sendto(b"through", ("fd64:64::1", 5000))
    assert came(out, b"through", 0.5) is None
    assert lab.do(op="check")["drift"] == 0
    routes(lab, 1, 1, ("2001:db8:2::/56", "peering", "pcx-1"))
    stranger.sendto(b"too late", (a, 7))
    assert came(public, b"too late", 0.5) is None
    assert lab.do(op="check")["drift"] == 0


# ---- DHCP and names, by busybox

def lease4(one):
    """What udhcpc hands to its script, by option's name."""
    script = f"/run/netns/.{one.ns}.sh"
    with open(script, "w") as f:
        f.write("#!/bin/sh\n[ $1 = bound ] && env\nexit 0\n")
    os.chmod(script, 0o755)
    try:
        said = one.run("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T",
                       "1", "-A", "1", "-s", script, *(w for o in (
                           "domain", "dns", "ntpsrv", "wins", "hostname") for w in ("-O", o)),
                       stderr=subprocess.DEVNULL)
    finally:
        os.unlink(script)
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def resolve(one, name, server, kind=1):
    """(response code, answers' data) of one question."""
    labels = b"".join(bytes([len(w)]) + w.encode() for w in name.split(".")) + b"\0"
    question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack("!HH", kind, 1)

    def ask():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0.5)
        sock.connect((server, 53))
        for _ in range(4):
            try:
                sock.send(question)
                return sock.recv(600)
            except (TimeoutError, ConnectionError):
                pass
        return None
    answer = one.inside(ask)
    if not answer:
        return None
    flags, _, count = struct.unpack("!HHH", answer[2:8])
    got, data = [], answer[len(question):]
    for _ in range(count):
        length = struct.unpack("!H", data[10:12])[0]
        got.append(data[12:12 + length])
        data = data[12 + length:]
    return flags & 15, got


def with_address(one):
    one.run("ip", "addr", "add", f"{one.ip}/24", "dev", "eth0")
    one.run("ip", "route", "add", "default", "via", one.ip.rsplit(".", 1)[0] + ".1")


def test_names_resolve_both_ways_wherever_their_port_is(lab):
    network(lab)
    one = guest(lab, 1, 10)
    said = lease4(one)
    assert said["ip"] == one.ip and said["dns"] == "10.0.1.2"
    assert said["domain"] == "test.internal" and said["hostname"] == "ip-10-0-1-10"
    assert said["ntpsrv"] == "169.254.169.123" and said["router"] == "10.0.1.1"
    with_address(one)
    for server in ("10.0.1.2", "10.0.2.2", "169.254.169.253"):
        # The second is nobody's on this node: its port is elsewhere in the VPC.
        for name in ("10-0-1-10", "10-0-200-7"):
            address = bytes(map(int, name.split("-")))
            assert resolve(one, f"ip-{name}.test.internal", server) == (0, [address])
            back = ".".join(reversed(name.split("-"))) + ".in-addr.arpa"
            code, names = resolve(one, back, server, 12)
            assert code == 0 and f"ip-{name}".encode() in names[0]
    assert resolve(one, "ip-10-0-1-10.test.internal", "10.0.1.2", 28) == (0, [])
    assert resolve(one, "ip-11-0-1-10.test.internal", "10.0.1.2")[0] == 3
    assert resolve(one, "example.com", "10.0.1.2")[0] == 5  # Refused: nothing is forwarded.


def test_a_set_of_options_replaces_the_networks_own(lab):
    lab.want("dhcp_options", id="dopt-1", domain="corp.example",
             name_servers=["10.0.9.53", "AmazonProvidedDNS"], ntp_servers=["10.0.9.123"],
             netbios_servers=["10.0.9.44"], netbios_node_type=2)
    network(lab, dhcp_options_id="dopt-1")
    one = guest(lab, 1, 10)
    said = lease4(one)
    assert said["domain"] == "corp.example" and said["dns"] == "10.0.9.53 10.0.1.2"
    assert said["ntpsrv"] == "10.0.9.123" and said["wins"] == "10.0.9.44"
    assert one.inside(lease6)[1][24] == b"\x04corp\x07example\0"
    with_address(one)  # Names are still the cloud's own.
    assert resolve(one, "ip-10-0-1-10.test.internal", "10.0.1.2")[0] == 0
    lab.want("dhcp_options", id="dopt-1", domain="new.example")
    assert wait_for("the new set", lambda: lease4(one)["domain"] == "new.example", 10)
    with pytest.raises(RuntimeError, match="dopt-1"):
        lab.want("dhcp_options", id="dopt-1", name_servers=["10.0.0.1\nuser=root"])
    # Without support for DNS nobody answers, and nobody is named.
    network(lab, dhcp_options_id="dopt-1", dns_off=True)
    assert wait_for("no name server", lambda: "dns" not in lease4(one), 10)
    assert resolve(one, "ip-10-0-1-10.test.internal", "10.0.1.2") is None
    network(lab, names_off=True)
    said = wait_for("its own options again", lambda: (
        lambda s: s["domain"] == "test.internal" and s)(lease4(one)), 10)
    assert said["dns"] == "10.0.1.2"
    assert resolve(one, "ip-10-0-1-10.test.internal", "10.0.1.2")[0] != 0


# ---- guests that lie

def icmp6(guest, mac, src, dst, kind, body):
    """A frame as neighbours send them: of one hop, from 'guest' to MAC and address."""
    a, b = (socket.inet_pton(socket.AF_INET6, ip) for ip in (src, dst))
    data = bytes([kind, 0, 0, 0]) + body
    total = checksum(a + b + struct.pack("!II", len(data), 58) + data)
    data = data[:2] + struct.pack("!H", total) + data[4:]
    return (mac_bytes(mac) + mac_bytes(guest.mac) + b"\x86\xdd" +
            struct.pack("!IHBB", 6 << 28, len(data), 58, 255) + a + b + data)


def test_guest_that_forges_routers_neighbours_and_servers_is_not_heard(lab):
    network(lab)
    made = {}
    for host in (5, 6, 7):
        port = f"eni-1-{host}"
        mac = f"02:00:00:00:01:{host:02x}"
        lab.want("port", id=port, subnet_id="subnet-1", ipv4=f"10.0.1.{host}", mac=mac,
                 group_ids=["sg-1"], ipv6=[f"2001:db8:0:1::{host}"], check_source=True)
        made[host] = lab.plug(port, mac)
        made[host].own, made[host].local = f"2001:db8:0:1::{host}", f"fe80::ff:fe00:10{host}"
    liar, heir, other = made[5], made[6], made[7]
    lab.ready()
    everybody, router = ("33:33:00:00:00:01", "ff02::1"), "fe80::1"
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 1800, 1800, 0) + socket.inet_pton(
        socket.AF_INET6, "2001:db8:bad::")
    advert = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix

    def claim(address):
        return (struct.pack("!I", 0xa0000000) + socket.inet_pton(socket.AF_INET6, address) +
                b"\2\1" + mac_bytes(liar.mac))

    for source in (liar.local, liar.own, router, other.local):
        for mac, to in (everybody, (heir.mac, heir.own)):
            liar.send(icmp6(liar, mac, source, to, 134, advert))  # A router.
            liar.send(icmp6(liar, mac, source, to, 137, bytes(4) + 2 * socket.inet_pton(
                socket.AF_INET6, other.own)))  # A better way.
            for stolen in (other.own, other.local, router, "2001:db8:0:1::1"):
                liar.send(icmp6(liar, mac, source, to, 136, claim(stolen)))
    for source in (other.own, other.local, router):  # A question in another's name.
        liar.send(icmp6(liar, everybody[0], source, everybody[1], 135, bytes(4) + socket.inet_pton(
            socket.AF_INET6, heir.own) + b"\1\1" + mac_bytes(liar.mac)))
    liar.send(frame(liar.mac, heir.mac, liar.own, heir.own, 17, 547, 546, b"lease"))
    liar.send(frame(liar.mac, heir.mac, "10.0.1.5", "10.0.1.6", 17, 67, 68, b"lease"))
    liar.send(frame(liar.mac, "ff:ff:ff:ff:ff:ff", "10.0.1.5", "255.255.255.255", 17, 67, 68,
                    b"lease"))
    # What is its own passes, so that the silence means something.
    liar.send(icmp6(liar, heir.mac, liar.own, heir.own, 136, claim(liar.own)))
    liar.send(frame(liar.mac, heir.mac, liar.own, heir.own, 58, 7, None, b"the end"))
    frames = []
    wait_for("what is its own", lambda: frames.extend(heir.received()) or any(
        b"the end" in f for f in frames), 10)
    from_liar = [f for f in frames + other.received() if f[6:12] == mac_bytes(liar.mac)]
    assert [f[54] for f in from_liar if f[12:14] == b"\x86\xdd"] == [136, 128], from_liar
    assert not [f for f in from_liar if b"lease" in f]
