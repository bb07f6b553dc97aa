"""One VPC on two hosts: namespaces joined by a pair of links that is the underlay. Guests are
namespaces with raw sockets."""
import os
import time

import pytest

from net_lab import Underlay, frame, inside
from test_gateways import heard

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")


@pytest.fixture
def hosts():
    made = Underlay("ov", hosts=3, labs=2)
    yield made.labs, made.names
    made.close()


def setup_host(lab, n, peers):
    lab.want("underlay", id="underlay", address=f"192.168.77.{n}", peers=peers)
    lab.want("network", id="vpc-1", domain="test.internal", cidrs=["10.0.0.0/16"])
    # Only the group lets in; members are known by address, wherever they are.
    lab.want("group", id="sg-1", network_id="vpc-1", rules=[
        {"protocol": 17, "from_port": 9, "to_port": 9, "group_id": "sg-1"},
        {"protocol": -1, "cidr": "0.0.0.0/0", "egress": True},
        {"protocol": -1, "cidr": "::/0", "egress": True}])
    for s in (1, 2):
        lab.want("subnet", id=f"subnet-{s}", network_id="vpc-1", cidr=f"10.0.{s}.0/24",
                 cidr6=f"2001:db8:0:{s}::/64", acl_off=True, vni=4000 + s)


def place(labs, here, subnet, host, member=True, check=True):
    """A guest on one host; the other is told of it."""
    name, mac = f"eni-{subnet}-{host}", f"02:00:00:00:{subnet:02x}:{host:02x}"
    address, address6 = f"10.0.{subnet}.{host}", f"2001:db8:0:{subnet}::{host:x}"
    labs[here].want("port", id=name, subnet_id=f"subnet-{subnet}", mac=mac, ipv4=address,
                    ipv6=[address6], check_source=check, group_ids=["sg-1"])
    labs[1 - here].want("neighbour", id=name, subnet_id=f"subnet-{subnet}", mac=mac,
                        addresses=[address, address6],
                        node_address=f"192.168.77.{here + 1}")
    for lab in labs:
        if member:
            lab.want("group_member", id=f"sg-1.{name}", network_id="vpc-1", group_id="sg-1",
                     addresses=[address, address6])
    guest = labs[here].plug(name, mac)
    guest.ip, guest.ip6 = address, address6
    guest.router = labs[here].bridges(labs[here].namespaces()[0])[f"10.0.{subnet}.1/24"]
    return guest


def udp(a, to_mac, daddr, dport, body):
    a.send(frame(a.mac, to_mac, a.ip6 if ":" in daddr else a.ip, daddr, 17, 4000, dport,
                 body))


def test_a_vpc_spans_hosts_and_takes_vxlan_of_nodes_only(hosts):
    labs, names = hosts
    setup_host(labs[0], 1, ["192.168.77.2"])
    setup_host(labs[1], 2, ["192.168.77.1"])
    a, b = place(labs, 0, 1, 10), place(labs, 1, 1, 11)
    c, alien = place(labs, 1, 2, 12), place(labs, 0, 1, 13, member=False)
    for lab in labs:
        lab.ready()
    udp(a, b.mac, b.ip, 9, b"same subnet")
    assert heard(b, b"same subnet") == (a.ip, 4000)
    udp(b, a.mac, a.ip, 4000, b"not asked for")
    assert heard(a, b"not asked for", 0.3) is None
    b.send(frame(b.mac, a.mac, b.ip, a.ip, 17, 9, 4000, b"answer"))
    assert heard(a, b"answer") == (b.ip, 9)
    udp(a, a.router, c.ip, 9, b"routed")
    assert heard(c, b"routed") == (a.ip, 4000)
    udp(a, b.mac, b.ip, 10, b"other port")
    assert heard(b, b"other port", 0.3) is None
    udp(alien, b.mac, b.ip, 9, b"no member")
    assert heard(b, b"no member", 0.3) is None
    udp(a, b.mac, b.ip6, 9, b"six")
    deadline = time.time() + 20
    got = []
    while time.time() < deadline and not got:
        got = [d for d in b.received() if b"six" in d]
    assert got
    # The same frame in VXLAN from a host that is no node of ours; then from one that is.
    inner = frame(a.mac, b.mac, a.ip, b.ip, 17, 4000, 9, b"strange")
    vxlan = bytes([8, 0, 0, 0]) + (4001).to_bytes(3, "big") + b"\0" + inner
    for host, arrives in ((names[2], False), (names[0], True)):
        def send():
            import socket
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sendto(vxlan, ("192.168.77.2", 4789))
            sock.close()
            return True
        inside(host, send)
        assert (heard(b, b"strange", 20 if arrives else 0.4) is not None) == arrives
    labs[0].do(op="drop", kind="neighbour", id=b.id)
    udp(a, b.mac, b.ip, 9, b"gone")
    assert heard(b, b"gone", 0.3) is None
    assert [lab.do(op="check")["drift"] for lab in labs] == [0, 0]


def test_answers_to_what_was_sent_in_anothers_name_stop_at_that_others_groups(hosts):
    """Forged on one host, in the name of a guest on the other, to its neighbours there."""
    labs, _ = hosts
    setup_host(labs[0], 1, ["192.168.77.2"])
    setup_host(labs[1], 2, ["192.168.77.1"])
    liar = place(labs, 0, 1, 10, check=False)
    owner, near, far = place(labs, 1, 1, 11), place(labs, 1, 1, 12), place(labs, 1, 2, 13)
    time.sleep(1.5)
    for sport, to, mac in ((4001, near, near.mac), (4002, far, liar.router)):
        liar.send(frame(liar.mac, mac, owner.ip, to.ip, 17, sport, 9, b"in the owner's name"))
        assert heard(to, b"in the owner's name") == (owner.ip, sport)
        back = owner.mac if to is near else to.router
        to.send(frame(to.mac, back, to.ip, owner.ip, 17, 9, sport, b"unasked for"))
        assert heard(owner, b"unasked for", 0.3) is None
    # What the owner itself sent by way of it is answered: so do appliances work.
    owner.send(frame(owner.mac, liar.mac, owner.ip, near.ip, 17, 4003, 9, b"on its way"))
    assert heard(liar, b"on its way")
    liar.send(frame(liar.mac, near.mac, owner.ip, near.ip, 17, 4003, 9, b"sent on"))
    assert heard(near, b"sent on") == (owner.ip, 4003)
    near.send(frame(near.mac, owner.mac, near.ip, owner.ip, 17, 9, 4003, b"asked for"))
    assert heard(owner, b"asked for") == (near.ip, 9)
    assert [lab.do(op="check")["drift"] for lab in labs] == [0, 0]
