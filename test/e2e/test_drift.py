"""What somebody else changed in the kernel is found, put right, and counted."""
import os
import resource
import subprocess

import pytest

from cloud import processes, wait_for
from net_lab import Lab, frame, inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")


def tell_again(lab):
    """What a new agent hears of two ports in one group, all at once."""
    lab.do(op="hold")
    lab.want("network", id="vpc-1")
    lab.want("group", id="sg-any", network_id="vpc-1", rules=[
        {"protocol": -1, "cidr": "0.0.0.0/0", "egress": egress} for egress in (True, False)])
    lab.want("subnet", id="subnet-1", network_id="vpc-1", cidr="10.0.1.0/24",
             cidr6="2001:db8::/64", acl_off=True)
    for n in (2, 3):
        lab.want("port", id=f"eni-{n}", subnet_id="subnet-1", mac=f"02:00:00:00:00:0{n}",
                 ipv4=f"10.0.1.{n + 10}", check_source=True, group_ids=["sg-any"])
    lab.do(op="release")


@pytest.fixture
def lab():
    made = Lab("dr")
    made.want("network", id="vpc-1")
    made.want("subnet", id="subnet-1", network_id="vpc-1", cidr="10.0.1.0/24",
              cidr6="2001:db8::/64", acl_off=True)
    made.want("group", id="sg-1", network_id="vpc-1",
              rules=[{"protocol": 6, "from_port": 22, "to_port": 22, "cidr": "10.0.0.0/8"}])
    made.want("group_member", id="sg-1.eni-1", network_id="vpc-1", group_id="sg-1",
              addresses=["10.0.1.10"])
    made.want("port", id="eni-1", subnet_id="subnet-1", mac="02:00:00:00:00:0a",
              ipv4="10.0.1.10", check_source=True, group_ids=["sg-1"])
    assert made.do(op="check")["drift"] == 0
    yield made
    made.close()


def test_rules_that_were_changed_are_written_anew(lab):
    before = lab.nft("-s", "list", "ruleset")
    for change in ("flush chain inet moln forward",
                   "insert rule inet moln leaving accept",
                   "flush chain inet moln g_sg_1_in",
                   "insert rule inet moln g_sg_1_in accept"):
        lab.nft(change)
        assert lab.do(op="check")["drift"] >= 1, change
        assert lab.nft("-s", "list", "ruleset") == before, change
        assert lab.do(op="check")["drift"] == 0, change


def test_elements_that_were_changed_are_put_right(lab):
    lab.nft("add element inet moln m4_sg_1 { 10.0.1.99 }")
    lab.nft("flush map bridge moln from4")
    lab.nft("flush map inet moln arriving_at")
    lab.nft("add element bridge moln borrow { mt000000000000 }")
    assert lab.do(op="check")["drift"] == 4
    assert "10.0.1.99" not in lab.nft("list", "set", "inet", "moln", "m4_sg_1")
    assert "10.0.1.10" in lab.nft("list", "map", "bridge", "moln", "from4")
    assert lab.do(op="check")["drift"] == 0


def test_namespace_that_lost_its_name_leaves_no_dnsmasq(lab):
    def dnsmasqs():
        return [pid for pid, line in processes() if f"/run/moln-{lab.cloud}/" in line]
    wait_for("its dnsmasq", dnsmasqs)
    subprocess.run(["ip", "netns", "delete", lab.namespaces()[0]], check=True)
    for kind, name in (("port", "eni-1"), ("subnet", "subnet-1"), ("network", "vpc-1")):
        lab.do(op="drop", kind=kind, id=name)
    wait_for("its end", lambda: not dnsmasqs())


def test_a_tap_gets_what_is_for_its_mac_alone(lab):
    guests = []
    lab.want("group", id="sg-any", network_id="vpc-1", rules=[
        {"protocol": -1, "cidr": "0.0.0.0/0", "egress": egress} for egress in (True, False)])
    for n in (2, 3):
        mac = f"02:00:00:00:00:0{n}"
        lab.want("port", id=f"eni-{n}", subnet_id="subnet-1", mac=mac, ipv4=f"10.0.1.{n + 10}",
                 check_source=True, group_ids=["sg-any"])
        guests.append(lab.plug(f"eni-{n}", mac))
    a, b = guests
    taps = [line.split(":")[1].split("@")[0].strip() for line in subprocess.run(
        ["ip", "-n", lab.namespaces()[0], "-o", "link"], capture_output=True, text=True,
        check=True).stdout.splitlines() if ": mt" in line]
    assert len(taps) == 2 and lab.do(op="check")["drift"] == 0

    def reaches(mac):
        lab.settle()
        b.received()
        a.send(frame(a.mac, mac, "10.0.1.12", "10.0.1.13", 6, 4000, 22, b"whose?"))
        lab.settle()
        return any(b"whose?" in data for data in b.received())
    assert wait_for("the bridge", lambda: reaches(b.mac), 5)
    assert not reaches("02:00:00:00:00:99")
    for tap in taps:
        subprocess.run(["bridge", "-n", lab.namespaces()[0], "link", "set", "dev", tap,
                        "flood", "on", "learning", "on"], check=True)
    assert wait_for("the flood", lambda: reaches("02:00:00:00:00:99"))  # It would be noticed.
    assert lab.do(op="check")["drift"] == 2
    assert not reaches("02:00:00:00:00:99")


def test_settings_that_filtering_stands_on_are_set_back(lab):
    path = "/proc/sys/net/bridge/bridge-nf-call-iptables"

    def write():
        with open(path, "w") as f:
            f.write("0")
        return True

    def read():
        with open(path) as f:
            return f.read().strip()
    ns = lab.namespaces()[0]
    inside(ns, write)
    assert lab.do(op="check")["drift"] == 1
    assert inside(ns, read) == "1"


SETTINGS = [("ipv4/ip_forward", "0"), ("ipv4/conf/all/rp_filter", "1"),
            ("ipv4/conf/all/accept_redirects", "1"), ("ipv4/conf/all/send_redirects", "1"),
            ("ipv6/conf/all/forwarding", "0"), ("ipv6/conf/default/accept_ra", "1"),
            ("ipv6/conf/all/accept_redirects", "1"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
            ("ipv4/conf/{}/rp_filter", "1"), ("ipv4/conf/{}/send_redirects", "1"),
            ("ipv4/conf/{}/forwarding", "0"), ("ipv6/conf/{}/accept_ra", "2"),
            ("ipv6/conf/{}/forwarding", "0"), ("ipv6/conf/{}/proxy_ndp", "1")]


def test_each_setting_is_watched_for_all_and_for_each_link_that_routes(lab):
    ns = lab.namespaces()[0]
    bridge = next(line.split(": ")[1] for line in subprocess.run(
        ["ip", "-n", ns, "-o", "link"], capture_output=True, text=True,
        check=True).stdout.splitlines() if ": mb" in line)

    def put(path, value):
        with open(f"/proc/sys/net/{path.format(bridge)}", "w") as f:
            f.write(value)
        return True

    def read(path):
        with open(f"/proc/sys/net/{path.format(bridge)}") as f:
            return f.read().strip()
    for path, value in SETTINGS:
        before = inside(ns, lambda: read(path))
        inside(ns, lambda: put(path, value))
        assert lab.do(op="check")["drift"] >= 1, path
        assert inside(ns, lambda: read(path)) == before != value, path
        assert lab.do(op="check")["drift"] == 0, path


def test_interfaces_are_cut_off_while_their_rules_cannot_be_kept(lab):
    """The fault: no descriptor is left to the agent, so that it can neither read a setting nor
    speak to netfilter."""
    tell_again(lab)
    a, b = (lab.plug(f"eni-{n}", f"02:00:00:00:00:0{n}") for n in (2, 3))

    def reaches():
        lab.settle()
        b.received()
        a.send(frame(a.mac, b.mac, "10.0.1.12", "10.0.1.13", 17, 4000, 22, b"through"))
        lab.settle()
        return any(b"through" in data for data in b.received())
    assert wait_for("the bridge", reaches, 5) and lab.do(op="check")["drift"] == 0
    limits = resource.prlimit(lab.drive.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.drive.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with pytest.raises(RuntimeError):
        lab.do(op="check")
    assert not reaches()
    with pytest.raises(RuntimeError):
        lab.do(op="check")
    resource.prlimit(lab.drive.pid, resource.RLIMIT_NOFILE, limits)
    with pytest.raises(RuntimeError, match="not in place"):  # Nor does another join them.
        lab.plug("eni-1", "02:00:00:00:00:0a")
    subprocess.run(["ip", "netns", "delete", f"{lab.cloud}-eni-1"], check=True)
    lab.do(op="check")
    assert wait_for("the interfaces to come back", reaches, 5)
    # Cut off, and then the agent dies: the next one brings them back.
    resource.prlimit(lab.drive.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    with pytest.raises(RuntimeError):
        lab.do(op="check")
    lab.restart()
    assert not reaches()
    tell_again(lab)
    lab.do(op="check")
    assert wait_for("the interfaces to come back", reaches, 5)


def test_a_change_that_the_kernel_refuses_leaves_the_old_rules(lab):
    before = lab.nft("-s", "list", "ruleset")
    for record in ({"protocol": 6, "from_port": 9, "to_port": 8, "cidr": "10.0.0.0/8"},
                   {"protocol": 6, "cidr": "10.0.0.0/8 accept"},
                   {"protocol": 6}):
        with pytest.raises(RuntimeError):
            lab.want("group", id="sg-1", network_id="vpc-1", rules=[record])
    assert lab.nft("-s", "list", "ruleset") == before


def test_the_host_itself_has_none_of_it(lab):
    own = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout
    assert not any(line.split(": ")[1].startswith(("mb", "mt", "mu", "mp"))
                   for line in own.splitlines() if lab.cloud in line)
