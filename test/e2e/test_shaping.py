"""A port's bandwidth, both ways: frames counted by a raw socket."""
import os
import time

import pytest

from net_lab import Lab, frame

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")


def rate(a, b, seconds=1.5):
    """Megabits a second that arrive at b when a sends without pause."""
    data = frame(a.mac, b.mac, a.ip, b.ip, 17, 4000, 9, b"x" * 1400)
    b.received()
    got, start = 0, time.time()
    while time.time() - start < seconds:
        for _ in range(20):
            try:
                a.send(data)
            except OSError:
                break
        got += sum(len(d) for d in b.received())
    return got * 8 / 1e6 / (time.time() - start)


def reached(a, b, enough, seconds=1.5):
    """The rate, tried again when a busy host kept the sender from sending 'enough'."""
    for _ in range(10):
        if (got := rate(a, b, seconds)) > enough:
            break
    return got


def test_a_ports_bandwidth_is_what_its_type_promises():
    lab = Lab("sh")
    try:
        lab.want("network", id="vpc-1")
        lab.want("subnet", id="subnet-1", network_id="vpc-1", cidr="10.0.1.0/24",
                 acl_off=True)
        lab.want("group", id="sg-1", network_id="vpc-1", rules=[
            {"protocol": -1, "cidr": "0.0.0.0/0"},
            {"protocol": -1, "cidr": "0.0.0.0/0", "egress": True}])

        def want(host, **speeds):
            lab.want("port", id=f"eni-{host}", subnet_id="subnet-1", ipv4=f"10.0.1.{host}",
                     mac=f"02:00:00:00:00:{host}", check_source=True, group_ids=["sg-1"],
                     **speeds)
        guests = []
        for host in (10, 11):
            want(host, **({"up_bps": 8_000_000, "down_bps": 16_000_000} if host == 10 else {}))
            guest = lab.plug(f"eni-{host}", f"02:00:00:00:00:{host}")
            guest.ip = f"10.0.1.{host}"
            guests.append(guest)
        a, b = guests
        lab.ready()
        up, down = reached(a, b, 5), reached(b, a, 10)
        print(f"up {up:.1f} of 8, down {down:.1f} of 16 Mbit/s")
        assert 5 < up < 10 and 10 < down < 20
        want(10, up_bps=0, down_bps=0)
        assert reached(a, b, 30, 0.7) > 30
    finally:
        lab.close()
