"""Public addresses on two hosts without a provider's network: an uplink of mode overlay joins the
hosts' external namespaces. Hosts are namespaces joined by an underlay, guests namespaces with raw
sockets."""
import os
import socket
import time

import pytest

from net_lab import Underlay, inside
from test_gateways import Net, heard, leads, udp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PUBLICS = ["203.0.113.10", "203.0.113.11"]
OWN = ["100.88.0.1", "100.88.0.2"]


@pytest.fixture
def labs():
    made = Underlay("ou", hosts=3, labs=3)
    for n, lab in enumerate(made.labs, 1):
        lab.want("underlay", id="underlay", address=f"192.168.77.{n}", peers=[])
    yield made.labs
    made.close()


def overlay(lab, n):
    lab.want("uplink", id="uplink-1", mode="overlay", vni=5000, address=f"100.88.0.{n}/13")


def public(lab, name, address, n):
    lab.want("public", id=name, addresses=[address], node_address=f"192.168.77.{n}")


def outside(lab, address):
    """A socket of the operator's in the host's external namespace."""
    def make():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 5000))
        sock.settimeout(1.0)
        return sock
    return inside(f"moln-{lab.cloud}-external", make)


def test_public_addresses_meet_across_hosts_and_nothing_else_does(labs):
    """A VPC of its own on each of two hosts; the third has no part in it."""
    guests = []
    for n, lab in enumerate(labs[:2]):
        net = Net(lab, f"vpc-{n}", f"10.{n}")
        net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
        guests.append(net.guest(1, 10, PUBLICS[n]))
    a, b = guests
    time.sleep(1.2)
    udp(a, PUBLICS[1], 9, b"too early")
    assert heard(b, b"too early", 0.3) is None
    for n in (0, 1):
        overlay(labs[n], n + 1)
        public(labs[n], "eni-other", PUBLICS[1 - n], 2 - n)
        public(labs[n], "node-other", OWN[1 - n], 2 - n)
    udp(a, PUBLICS[1], 9, b"hello there")
    assert heard(b, b"hello there") == (PUBLICS[0], 4000)
    udp(b, PUBLICS[0], 4000, b"and back", sport=9)
    assert heard(a, b"and back") == (PUBLICS[1], 9)
    # The operator, from either host; a guest's own host is not another's.
    for n, guest in ((0, b), (1, a)):
        sock = outside(labs[n], OWN[n])
        sock.sendto(b"from outside", (PUBLICS[1 - n], 7))
        assert heard(guest, b"from outside") == (OWN[n], 5000)
        udp(guest, OWN[n], 5000, b"answer", sport=7)
        assert sock.recvfrom(100) == (b"answer", (PUBLICS[1 - n], 7))
        sock.close()
    door = outside(labs[0], OWN[0])
    udp(b, OWN[0], 5000, b"unasked", sport=4444)
    with pytest.raises(TimeoutError):
        door.recvfrom(100)
    door.close()
    assert leads(labs[0]) == [PUBLICS[0]]
    assert [lab.do(op="check")["drift"] for lab in labs] == [0, 0, 0]
    # What another host says is not believed for what is not its own, nor passed on.
    public(labs[0], "eni-other", PUBLICS[1], 3)
    udp(a, PUBLICS[1], 9, b"to the third", sport=4001)
    assert heard(b, b"to the third", 0.3) is None
    public(labs[0], "eni-other", PUBLICS[1], 2)
    udp(a, PUBLICS[1], 9, b"again", sport=4002)
    assert heard(b, b"again")
    labs[0].do(op="drop", kind="public", id="eni-other")
    udp(a, PUBLICS[1], 9, b"gone", sport=4003)
    assert heard(b, b"gone", 0.3) is None
    public(labs[0], "eni-other", PUBLICS[1], 2)
    labs[0].do(op="drop", kind="uplink", id="uplink-1")
    udp(a, PUBLICS[1], 9, b"no way", sport=4004)
    assert heard(b, b"no way", 0.3) is None
    # It goes on where it was when whoever drives it starts again.
    overlay(labs[0], 1)
    udp(a, PUBLICS[1], 9, b"anew", sport=4005)
    assert heard(b, b"anew")


@pytest.mark.parametrize("record", [{"vni": 0}, {"vni": 1 << 24}, {"address": "x/13"},
                                    {"address": "100.88.0.1"}])
def test_an_overlay_that_cannot_be_is_refused(labs, record):
    with pytest.raises(RuntimeError, match="bad address or VNI"):
        labs[0].want("uplink", **{"id": "uplink-1", "mode": "overlay", "vni": 5000,
                                  "address": "100.88.0.1/13", **record})
    with pytest.raises(RuntimeError, match="cannot be"):
        public(labs[0], "eni-1", "10.0.0", 2)
    labs[0].do(op="drop", kind="underlay", id="underlay")
    with pytest.raises(RuntimeError, match="names no underlay"):
        overlay(labs[0], 1)
