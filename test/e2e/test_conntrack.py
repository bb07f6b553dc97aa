"""A port's connections go with it from one host to another: through groups that by then let
nothing in, behind its public address, and behind a NAT gateway. Three hosts are namespaces
joined by an underlay; guests are namespaces with a network stack of their own."""
import os
import random
import socket
import subprocess

import pytest

from net_lab import Underlay, inside, ip

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

EGRESS = {"protocol": -1, "cidr": "0.0.0.0/0", "egress": True}
PUBLIC, NAT = "203.0.113.10", "203.0.113.99"
OUTSIDE = "100.64.0.1"


class Stack:
    """A guest with a stack. It stays what it is when its port moves."""

    def __init__(self, name, mac, address, router):
        self.id, self.mac, self.ip, self.router = f"eni-{name}", mac, address, router
        self.ns = f"ct-{name}-{os.getpid()}"
        ip("netns", "add", self.ns)
        ip("-n", self.ns, "link", "set", "lo", "up")

    def plug(self, lab):
        lab.do(op="veth", id=self.id, namespace=f"/run/netns/{self.ns}", name="eth0")
        ip("-n", self.ns, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        ip("-n", self.ns, "link", "set", "eth0", "up")
        ip("-n", self.ns, "route", "add", "default", "via", self.router)

    def socket(self, kind, port=0, listen=False):
        def make():
            sock = socket.socket(socket.AF_INET, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.ip, port))
            sock.settimeout(5)
            if listen:
                sock.listen()
            return sock
        return inside(self.ns, make)

    def close(self):
        subprocess.run(["ip", "netns", "delete", self.ns], check=False)


class World:
    """Guest p moves from host 1 to host 3; x stays on host 2; q on host 1 has p's NAT gateway
    and its port numbers."""

    def __init__(self):
        self.under = Underlay("ct", hosts=3, labs=3)
        self.labs = self.under.labs
        self.guests = []
        for n, lab in enumerate(self.labs, 1):
            lab.want("underlay", id="underlay", address=f"192.168.77.{n}",
                     peers=[f"192.168.77.{m}" for m in (1, 2, 3) if m != n])
            lab.want("network", id="vpc-1", domain="test.internal", cidrs=["10.0.0.0/16"])
            lab.want("nat_gateway", id="nat-1", network_id="vpc-1", public_ipv4=NAT,
                     private_ipv4="10.0.1.4", subnet_id="subnet-1")
            lab.want("route_table", id="rtb-1", network_id="vpc-1",
                     routes=[{"cidr": "0.0.0.0/0", "target": "igw", "target_id": "igw-1"}])
            lab.want("route_table", id="rtb-2", network_id="vpc-1",
                     routes=[{"cidr": "0.0.0.0/0", "target": "nat", "target_id": "nat-1"}])
            for s in (1, 2):
                lab.want("subnet", id=f"subnet-{s}", network_id="vpc-1",
                         cidr=f"10.0.{s}.0/24", acl_off=True, vni=4000 + s,
                         route_table_id=f"rtb-{s}")
        # Everybody, but not by one rule for everybody: those connections are remembered.
        self.groups([{"protocol": -1, "cidr": "0.0.0.0/1"},
                     {"protocol": -1, "cidr": "128.0.0.0/1"}, {**EGRESS, "cidr": "0.0.0.0/1"},
                     {**EGRESS, "cidr": "128.0.0.0/1"}])

    def groups(self, rules):
        """The group of p and q; x's lets everything through."""
        for lab in self.labs:
            lab.want("group", id="sg-p", network_id="vpc-1", rules=rules)
            lab.want("group", id="sg-x", network_id="vpc-1",
                     rules=[{"protocol": -1, "cidr": "0.0.0.0/0"}, EGRESS])

    def guest(self, name, subnet, last):
        made = Stack(name, f"02:00:00:00:{subnet:02x}:{last:02x}", f"10.0.{subnet}.{last}",
                     f"10.0.{subnet}.1")
        made.subnet = subnet
        self.guests.append(made)
        return made

    def place(self, guest, host, public=None, check=True):
        """Wanted on one host; the others are told where it is."""
        group = "sg-x" if guest.id == "eni-x" else "sg-p"
        self.labs[host - 1].want(
            "port", id=guest.id, subnet_id=f"subnet-{guest.subnet}", mac=guest.mac,
            ipv4=guest.ip, check_source=check, group_ids=[group],
            publics=[{"private": guest.ip, "public": public}] if public else [])
        for n, lab in enumerate(self.labs, 1):
            if n != host:
                lab.want("neighbour", id=guest.id, subnet_id=f"subnet-{guest.subnet}",
                         mac=guest.mac, addresses=[guest.ip],
                         node_address=f"192.168.77.{host}")

    def leave(self, guest, host):
        """What the host knew of the port as a neighbour's goes when the port comes."""
        self.labs[host - 1].do(op="drop", kind="port", id=guest.id)

    def outside(self, host, port):
        def make():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((OUTSIDE, port))
            sock.settimeout(20)
            return sock
        return inside(f"moln-{self.labs[host - 1].cloud}-external", make)

    def close(self):
        for guest in self.guests:
            guest.close()
        self.under.close()


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def answered(sock, peer, body):
    """'body' from sock arrives at peer, in time."""
    sock.sendall(body)
    got = b""
    while len(got) < len(body):
        got += peer.recv(len(body) - len(got))
    return got == body


def silent(sock, seconds=0.5):
    sock.settimeout(seconds)
    try:
        return sock.recv(100) == b""
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)


def connect(a, b, port):
    """A TCP connection from guest a to guest b: both ends."""
    door = b.socket(socket.SOCK_STREAM, port, listen=True)
    call = a.socket(socket.SOCK_STREAM)
    for _ in range(20):  # The links may take a moment to come up.
        try:
            call.connect((b.ip, port))
            break
        except TimeoutError:
            continue
    got, _ = door.accept()
    got.settimeout(5)
    door.close()
    return call, got


def move(world, guest, public=None, check=True):
    """From host 1 to host 3; gives what the export said. Nothing is imported yet."""
    export = world.labs[0].do(op="export", id=guest.id)
    world.labs[2].do(op="drop", kind="neighbour", id=guest.id)
    world.leave(guest, 1)
    world.place(guest, 3, public, check)
    guest.plug(world.labs[2])
    return export


@pytest.mark.parametrize("check", [True, False], ids=["", "without source check"])
def test_open_connections_survive_a_move_into_closed_groups(world, check):
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    world.place(p, 1, PUBLIC, check)
    world.place(x, 2)
    p.plug(world.labs[0])
    x.plug(world.labs[1])
    out, out_far = connect(p, x, 7000)
    called, caller = connect(x, p, 7001)[::-1]
    talk, far = p.socket(socket.SOCK_DGRAM, 4000), world.outside(1, 5000)
    talk.sendto(b"hello", (OUTSIDE, 5000))
    assert far.recvfrom(100) == (b"hello", (PUBLIC, 4000))
    far.sendto(b"back", (PUBLIC, 4000))
    assert talk.recv(100) == b"back"
    assert answered(out, out_far, b"one") and answered(caller, called, b"two")
    world.groups([])  # From here on only what is tracked passes, either way.
    assert answered(out, out_far, b"three") and answered(caller, called, b"four")

    export = move(world, p, PUBLIC, check)
    assert export["moved"] >= 3 and export["left"] == 0
    out_far.sendall(b"lost at first")
    caller.sendall(b"this too")
    assert silent(out) and silent(called)
    done = world.labs[2].do(op="import", id=p.id, bytes=export["bytes"])
    assert (done["moved"], done["left"]) == (export["moved"], 0)
    assert out.recv(100) == b"lost at first" and called.recv(100) == b"this too"
    assert answered(out, out_far, b"five" * 20000) and answered(called, caller, b"six" * 20000)
    here = world.outside(3, 5000)  # The same outside, as the new host reaches it.
    here.sendto(b"again", (PUBLIC, 4000))
    assert talk.recv(100) == b"again"
    talk.sendto(b"and out", (OUTSIDE, 5000))
    assert here.recvfrom(100) == (b"and out", (PUBLIC, 4000))
    here.sendto(b"a stranger", (PUBLIC, 4001))
    assert silent(talk)
    fresh = x.socket(socket.SOCK_STREAM)
    fresh.settimeout(0.5)
    with pytest.raises(TimeoutError):  # A new one is judged as ever.
        fresh.connect((p.ip, 7001))
    twice = world.labs[2].do(op="import", id=p.id, bytes=export["bytes"])
    assert twice["moved"] == export["moved"]
    assert answered(out, out_far, b"seven") and answered(called, caller, b"eight")
    assert world.labs[2].do(op="check")["drift"] == 0


def test_a_nat_gateways_ports_go_along(world):
    p, q = world.guest("p", 2, 10), world.guest("q", 2, 11)
    for guest in (q, p):
        world.place(guest, 1)
        guest.plug(world.labs[0])
    talks = [g.socket(socket.SOCK_DGRAM, 4000) for g in (q, p)]
    far = world.outside(1, 5000)
    for lab in world.labs:
        lab.ready()
    seen = []
    for talk in talks:  # Both from port 4000: the second one gets another.
        talk.sendto(b"hello", (OUTSIDE, 5000))
        seen.append(far.recvfrom(100)[1])
        far.sendto(b"back", seen[-1])
        assert talk.recv(100) == b"back"
    assert seen[0][0] == seen[1][0] == NAT and seen[0][1] != seen[1][1]
    world.groups([])
    export = move(world, p)
    done = world.labs[2].do(op="import", id=p.id, bytes=export["bytes"])
    assert (export["moved"], done["moved"]) == (1, 1)
    here = world.outside(3, 5000)
    for _ in range(5):
        here.sendto(b"again", seen[1])
        if not silent(talks[1], 0.4):
            break
    else:
        raise AssertionError("nothing came by the moved translation")
    talks[1].sendto(b"and out", (OUTSIDE, 5000))
    assert here.recvfrom(100) == (b"and out", seen[1])
    here.sendto(b"not its", seen[0])
    assert silent(talks[1], 0.3)


def test_what_is_not_the_ports_is_not_imported(world):
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    world.place(p, 1, PUBLIC)
    world.place(x, 2)
    p.plug(world.labs[0])
    x.plug(world.labs[1])
    ends = connect(p, x, 7000)
    talk, far = p.socket(socket.SOCK_DGRAM, 4000), world.outside(1, 5000)
    talk.sendto(b"hello", (OUTSIDE, 5000))
    far.recvfrom(100)
    data = world.labs[0].do(op="export", id=p.id)["bytes"]
    # What was told already is not told again; what is new since, is.
    again = world.labs[0].do(op="export", id=p.id, known=data)
    assert (again["moved"], again["bytes"]) == (0, "")
    p.socket(socket.SOCK_DGRAM, 4001).sendto(b"new", (OUTSIDE, 5000))
    far.recvfrom(100)
    assert world.labs[0].do(op="export", id=p.id, known=data)["moved"] == 1
    third = world.labs[2]
    other = world.guest("o", 1, 30)
    world.place(other, 3)
    before = tracked(third)
    got = third.do(op="import", id=other.id, bytes=data)  # Another port's.
    assert got["moved"] == 0 and got["left"] == 2 and tracked(third) == before
    third.do(op="drop", kind="neighbour", id=p.id)
    world.place(p, 3)  # No public address here: its translation does not come.
    got = third.do(op="import", id=p.id, bytes=data)
    assert (got["moved"], got["left"]) == (1, 1)
    # x on this very host: its own groups judge, and no stranger's list of connections.
    third.do(op="drop", kind="neighbour", id=x.id)
    world.place(x, 3)
    assert third.do(op="import", id=p.id, bytes=data)["moved"] == 0
    for bad in ("00", data[:-2], data + "00", "ffff" + data, "0002080a", "00"*6):
        with pytest.raises(RuntimeError):
            third.do(op="import", id=p.id, bytes=bad)
    with pytest.raises(RuntimeError, match="not here"):
        third.do(op="import", id="eni-none", bytes=data)
    with pytest.raises(RuntimeError, match="not here"):
        third.do(op="export", id="eni-none")
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(400):  # Whatever arrives, it answers, and tracks nothing of others.
        wild = bytearray.fromhex(data)
        for _ in range(chance.randint(1, 4)):
            wild[chance.randrange(len(wild))] = chance.randrange(256)
        try:
            third.do(op="import", id=p.id, bytes=wild.hex())
        except RuntimeError:
            pass
    for line in tracked(third):
        assert f"={p.ip} " in line, line
    for sock in ends:
        sock.close()


def ends(lab, address):
    """How many of the lab's connections have the address at an end."""
    return sum(f"={address} " in line for line in tracked(lab))


@pytest.mark.parametrize("where", [1, 2], ids=["the other end here", "the other end elsewhere"])
def test_who_gets_an_address_next_inherits_no_connection(world, where):
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    world.place(p, 1, PUBLIC)
    world.place(x, where)
    p.plug(world.labs[0])
    x.plug(world.labs[where - 1])
    sockets = connect(p, x, 7000)
    talk, far = p.socket(socket.SOCK_DGRAM, 4000), world.outside(1, 5000)
    talk.sendto(b"hello", (OUTSIDE, 5000))
    assert far.recvfrom(100) == (b"hello", (PUBLIC, 4000))
    call, other = x.socket(socket.SOCK_DGRAM, 4001), p.socket(socket.SOCK_DGRAM, 4001)
    call.sendto(b"hello", (p.ip, 4001))
    assert other.recv(100) == b"hello"
    other.sendto(b"back", (x.ip, 4001))
    assert call.recv(100) == b"back"
    world.groups([EGRESS])
    call.sendto(b"tracked", (p.ip, 4001))
    assert other.recv(100) == b"tracked"
    assert ends(world.labs[0], p.ip) >= 3 and ends(world.labs[where - 1], p.ip) >= 2
    y = world.guest("y", 1, 30)  # Whose connection stays.
    world.place(y, 1)
    y.plug(world.labs[0])
    others = connect(y, x, 7001)

    world.leave(p, 1)
    for lab in world.labs[1:]:
        lab.do(op="drop", kind="neighbour", id=p.id)
    for lab in world.labs:
        assert ends(lab, p.ip) == 0
    assert ends(world.labs[0], PUBLIC) == 0 and answered(*others, b"goes on")
    q = world.guest("q", 1, 10)
    q.mac = "02:00:00:00:01:99"
    world.place(q, 1, PUBLIC)
    q.plug(world.labs[0])
    heir = q.socket(socket.SOCK_DGRAM, 4001)
    call.sendto(b"not for you", (q.ip, 4001))
    far.sendto(b"nor this", (PUBLIC, 4000))
    assert silent(heir) and silent(q.socket(socket.SOCK_DGRAM, 4000))
    for sock in (*sockets, *others, talk, far, call, other):
        sock.close()


def test_an_address_that_changes_hands_takes_its_connections_along(world):
    """A secondary and a public address go from p to q; the rest of p's goes on."""
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    q = world.guest("q", 1, 11)
    world.place(p, 1, PUBLIC)
    world.place(q, 1)
    world.place(x, 2)
    for guest, host in ((p, 1), (q, 1), (x, 2)):
        guest.plug(world.labs[host - 1])
    own = connect(p, x, 7000)
    talk, far = p.socket(socket.SOCK_DGRAM, 4000), world.outside(1, 5000)
    talk.sendto(b"hello", (OUTSIDE, 5000))
    assert far.recvfrom(100) == (b"hello", (PUBLIC, 4000))
    world.groups([EGRESS])
    world.place(p, 1)
    assert ends(world.labs[0], PUBLIC) == 0 and answered(*own, b"goes on")
    world.place(q, 1, PUBLIC)
    heir = q.socket(socket.SOCK_DGRAM, 4000)
    far.sendto(b"not for you", (PUBLIC, 4000))
    assert silent(heir) and silent(talk, 0.1)


def test_the_end_that_stays_keeps_what_the_other_end_took_along(world):
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    for guest in (p, x):
        world.place(guest, 1)
        guest.plug(world.labs[0])
    pair = connect(p, x, 7000)
    export = world.labs[0].do(op="export", id=p.id)
    world.groups([])
    world.labs[2].do(op="drop", kind="neighbour", id=p.id)
    world.place(p, 3)  # Host 1 is told where it is now, and then to drop its port.
    world.leave(p, 1)
    assert ends(world.labs[0], x.ip) == 1
    p.plug(world.labs[2])
    world.labs[2].do(op="import", id=p.id, bytes=export["bytes"])
    assert answered(*pair, b"there") and answered(*pair[::-1], b"and back")


WEB = {"protocol": 6, "from_port": 7000, "to_port": 7000}
OTHER = {"protocol": 17, "from_port": 1, "to_port": 9}


def breaks(pair):
    """What its caller sends arrives no more."""
    pair[0].sendall(b"after")
    return silent(pair[1])


@pytest.mark.parametrize("was, now, cut", [
    ([WEB | {"cidr": "0.0.0.0/0"}, EGRESS], [OTHER | {"cidr": "0.0.0.0/0"}, EGRESS], True),
    ([WEB | {"cidr": "0.0.0.0/0"}, EGRESS], [WEB | {"cidr": "10.0.2.0/24"}, EGRESS], True),
    ([WEB | {"cidr": "0.0.0.0/0"}, EGRESS], [WEB | {"cidr": "10.0.1.0/24"}, EGRESS], False),
    ([WEB | {"cidr": "0.0.0.0/0"}, EGRESS], [WEB | {"group_id": "sg-x"}, EGRESS], False),
    ([WEB | {"cidr": "10.0.1.0/24"}, EGRESS], [EGRESS], False),
    ([WEB | {"cidr": "0.0.0.0/0"}], [], False),
    ([WEB | {"cidr": "0.0.0.0/0"}, EGRESS | {"protocol": 17}], [EGRESS], False),
], ids=["rule gone", "narrower without it", "narrower with it", "by a group", "was narrow",
        "no way back for all", "way back of another kind"])
def test_a_rule_for_everybody_takes_its_connections_along(world, was, now, cut):
    """As AWS has it: what such a rule lets in, where all may go back, is not remembered."""
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    world.place(p, 1)
    world.place(x, 2)
    world.labs[0].want("group_member", id="m-x", network_id="vpc-1", group_id="sg-x",
                       addresses=[x.ip])
    p.plug(world.labs[0])
    x.plug(world.labs[1])
    world.groups(was)
    pair = connect(x, p, 7000)
    assert answered(*pair, b"before")
    world.labs[0].do(op="hold")  # As the agent does: rules come into force at the release.
    world.groups(now)
    world.labs[0].do(op="release")
    assert breaks(pair) if cut else answered(*pair, b"after")
    for sock in pair:
        sock.close()


def test_leaving_a_group_that_is_open_to_everybody_cuts(world):
    p, x = world.guest("p", 1, 10), world.guest("x", 1, 20)
    lab = world.labs[0]
    port = {"id": p.id, "subnet_id": "subnet-1", "mac": p.mac, "ipv4": p.ip,
            "check_source": True}
    lab.want("group", id="sg-out", network_id="vpc-1", rules=[EGRESS])
    world.groups([WEB | {"cidr": "0.0.0.0/0"}])
    lab.want("port", **port, group_ids=["sg-p", "sg-out"])
    world.place(x, 1)
    p.plug(lab)
    x.plug(lab)
    pair, out = connect(x, p, 7000), connect(p, x, 7001)
    assert answered(*pair, b"before") and answered(*out, b"before")
    lab.want("port", **port, group_ids=["sg-out"])
    assert breaks(pair) and answered(*out, b"goes on")


def tracked(lab):
    """The connections of the lab's network, as the kernel prints them."""
    return inside(lab.namespaces()[0],
                  lambda: open("/proc/thread-self/net/nf_conntrack").read().splitlines())
