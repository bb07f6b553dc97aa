"""Flow logs: what is counted of real packets, field by field, against what was sent; and what a
tenant reads in the end. Guests are namespaces with raw sockets."""
import base64
import ipaddress
import os
import time

import pytest
from botocore.exceptions import ClientError

from cloud import wait_for
from net_lab import Lab, frame
from test_gateways import ANY, Net, heard, outside_socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

IP4, UDP4 = 20, 28  # Heads, in bytes.


@pytest.fixture
def lab():
    made = Lab("fl")
    yield made
    made.close()


class Minutes:
    """The lab's logs read at the end of one minute after the other."""

    def __init__(self, lab):
        self.lab, self.next = lab, int(time.time()) // 60 * 60 + 60

    def read(self, minutes=1):
        self.next += 60 * (minutes - 1)
        self.at = self.next
        self.next += 60
        return self.lab.do(op="flows", at=self.at)["batches"]

    def flows(self, log="fl-1", minutes=1):
        """(interface, from, to, from port, to port, protocol, packets, bytes, way, verdict)."""
        found = set()
        for batch in self.read(minutes):
            for f in batch["flows"] if batch["log_id"] == log else ():
                if f.get("status"):
                    found.add((f["port_id"], f["status"]))
                    continue
                ends = [str(ipaddress.ip_address(base64.b64decode(f[e])))
                        for e in ("from", "to")]
                found.add((f["port_id"], *ends, f.get("from_port", 0), f.get("to_port", 0),
                           f["protocol"], f["packets"], f["bytes"],
                           "out" if f.get("egress") else "in",
                           "REJECT" if f.get("refused") else "ACCEPT"))
        return found


def log(lab, resource, name="fl-1", traffic="ALL", interval=60):
    lab.want("flow_log", id=name, network_id="vpc-1", resource_id=resource, traffic=traffic,
             interval_s=interval, account="111122223333")


def send(a, b_ip, proto, sport, dport, body, times=1, mac=None):
    for _ in range(times):
        a.send(frame(a.mac, mac or a.router, a.ip, b_ip, proto, sport, dport, body))


def test_counts_are_those_of_the_packets(lab):
    net = Net(lab, "vpc-1", "10.0")
    net.route(1, ("0.0.0.0/0", "igw", "igw-1"))
    a, b, c = net.guest(1, 10, "203.0.113.10"), net.guest(2, 10), net.guest(1, 11)
    lab.want("group", id="sg-closed", network_id="vpc-1", rules=[ANY[1]])
    lab.want("port", id=c.id, subnet_id="subnet-vpc-1-1", mac=c.mac, ipv4=c.ip,
             check_source=True, group_ids=["sg-closed"])
    lab.ready()
    send(a, b.ip, 17, 1, 2, b"before the log")
    log(lab, "vpc-1")
    minutes = Minutes(lab)
    assert minutes.flows() == {(g.id, "nodata") for g in (a, b, c)}
    send(a, b.ip, 17, 4000, 9, b"x" * 100, times=3)
    send(b, a.ip, 17, 9, 4000, b"y" * 10, times=2)
    send(a, c.ip, 17, 4001, 7, b"refused", times=4, mac=c.mac)  # Within one subnet.
    send(a, b.ip, 6, 4002, 80, b"")
    send(a, b.ip, 1, 77, None, b"ping")
    out = outside_socket(lab, 5000)
    send(a, "100.64.0.1", 17, 4003, 5000, b"out")
    assert out.recvfrom(100)[1] == ("203.0.113.10", 4003)
    out.sendto(b"back", ("203.0.113.10", 4003))
    assert heard(a, b"back")
    send(a, "10.0.1.1", 17, 4004, 9, b"to the router")
    send(a, "169.254.169.253", 17, 4005, 53, b"to DNS")
    time.sleep(0.3)
    udp3 = (4000, 9, 17, 3, 3 * (UDP4 + 100))
    assert minutes.flows() == {
        (a.id, a.ip, b.ip, *udp3, "out", "ACCEPT"), (b.id, a.ip, b.ip, *udp3, "in", "ACCEPT"),
        (b.id, b.ip, a.ip, 9, 4000, 17, 2, 2 * (UDP4 + 10), "out", "ACCEPT"),
        (a.id, b.ip, a.ip, 9, 4000, 17, 2, 2 * (UDP4 + 10), "in", "ACCEPT"),
        (a.id, a.ip, c.ip, 4001, 7, 17, 4, 4 * (UDP4 + 7), "out", "ACCEPT"),
        (c.id, a.ip, c.ip, 4001, 7, 17, 4, 4 * (UDP4 + 7), "in", "REJECT"),
        (a.id, a.ip, b.ip, 4002, 80, 6, 1, IP4 + 20, "out", "ACCEPT"),
        (b.id, a.ip, b.ip, 4002, 80, 6, 1, IP4 + 20, "in", "ACCEPT"),
        (a.id, a.ip, b.ip, 0, 0, 1, 1, IP4 + 8 + 4, "out", "ACCEPT"),
        (b.id, a.ip, b.ip, 0, 0, 1, 1, IP4 + 8 + 4, "in", "ACCEPT"),
        (a.id, a.ip, "100.64.0.1", 4003, 5000, 17, 1, UDP4 + 3, "out", "ACCEPT"),
        (a.id, "100.64.0.1", a.ip, 5000, 4003, 17, 1, UDP4 + 4, "in", "ACCEPT")}
    # A second minute tells what is new in it, and nothing twice.
    send(a, b.ip, 17, 4000, 9, b"z")
    time.sleep(0.2)
    assert minutes.flows() == {
        (a.id, a.ip, b.ip, 4000, 9, 17, 1, UDP4 + 1, "out", "ACCEPT"),
        (b.id, a.ip, b.ip, 4000, 9, 17, 1, UDP4 + 1, "in", "ACCEPT"), (c.id, "nodata")}
    assert lab.do(op="check")["drift"] == 0
    out.close()


def test_acls_refuse_where_they_stand(lab):
    net = Net(lab, "vpc-1", "10.0")
    a, b = net.guest(1, 10), net.guest(2, 10)
    rule = {"protocol": 17, "cidr": "0.0.0.0/0", "icmp_type": -1, "icmp_code": -1}
    every = {"number": 200, "allow": True, "protocol": -1, "cidr": "0.0.0.0/0",
             "icmp_type": -1, "icmp_code": -1}
    lab.want("acl", id="acl-1", network_id="vpc-1", rules=[
        {**rule, "number": 100, "egress": True, "from_port": 7, "to_port": 7},
        every, {**every, "egress": True}])
    lab.want("acl", id="acl-2", network_id="vpc-1", rules=[
        {**rule, "number": 100, "from_port": 8, "to_port": 8}, every,
        {**every, "egress": True}])
    for n in (1, 2):
        lab.want("subnet", id=f"subnet-vpc-1-{n}", network_id="vpc-1", cidr=f"10.0.{n}.0/24",
                 acl_id=f"acl-{n}", route_table_id=f"rtb-vpc-1-{n}")
    lab.ready()
    log(lab, "subnet-vpc-1-1")
    log(lab, b.id, "fl-2", "REJECT")
    minutes = Minutes(lab)
    send(a, b.ip, 17, 1, 7, b"leaving", times=2)
    send(a, b.ip, 17, 1, 8, b"entering", times=3)
    send(a, b.ip, 17, 1, 9, b"through")
    time.sleep(0.3)
    at = minutes.next
    assert minutes.flows() == {
        (a.id, a.ip, b.ip, 1, 7, 17, 2, 2 * (UDP4 + 7), "out", "REJECT"),
        (a.id, a.ip, b.ip, 1, 8, 17, 3, 3 * (UDP4 + 8), "out", "ACCEPT"),
        (a.id, a.ip, b.ip, 1, 9, 17, 1, UDP4 + 7, "out", "ACCEPT")}
    minutes.next = at
    send(a, b.ip, 17, 1, 8, b"entering")
    send(a, b.ip, 17, 1, 9, b"through")
    time.sleep(0.3)
    minutes.next = at + 60
    assert minutes.flows("fl-2") == {
        (b.id, a.ip, b.ip, 1, 8, 17, 1, UDP4 + 8, "in", "REJECT")}


def test_ten_minutes_are_added_up_and_a_gone_interface_is_told_of(lab):
    net = Net(lab, "vpc-1", "10.0")
    a, b = net.guest(1, 10), net.guest(1, 11)
    lab.want("port", id=b.id, subnet_id="subnet-vpc-1-1", mac=b.mac, ipv4=b.ip,
             ipv6=[], check_source=True, group_ids=["sg-vpc-1"])
    lab.ready()
    log(lab, "vpc-1", "fl-10", interval=600)
    log(lab, a.id, "fl-1", "ACCEPT")
    minutes = Minutes(lab)
    minutes.next = minutes.next // 600 * 600 + 660  # The one that began before is done.
    minutes.read()
    seen = []
    for n in range(9):
        send(a, b.ip, 17, 1, 2, b"x" * n, mac=b.mac)
        time.sleep(0.1)
        batches = minutes.read()
        seen += [x["log_id"] for x in batches]
    assert set(seen) == {"fl-1", "fl-10"} and seen.count("fl-10") == 1 and seen[-1] == "fl-10"
    last = [f for x in batches if x["log_id"] == "fl-10" for f in x["flows"]]
    assert sorted((f["port_id"], f["packets"], f["bytes"]) for f in last) == [
        (a.id, 9, 9 * UDP4 + 36), (b.id, 9, 9 * UDP4 + 36)]
    send(a, b.ip, 17, 1, 2, b"its last", mac=b.mac)
    time.sleep(0.2)
    lab.do(op="drop", kind="port", id=a.id)
    assert (a.id, a.ip, b.ip, 1, 2, 17, 1, UDP4 + 8, "out", "ACCEPT") in minutes.flows("fl-1")
    lab.do(op="drop", kind="flow_log", id="fl-1")
    lab.do(op="drop", kind="flow_log", id="fl-10")
    assert "flow_" not in lab.nft("list", "ruleset")
    assert lab.do(op="check")["drift"] == 0
    log(lab, "vpc-1")
    assert minutes.flows() == {(b.id, "nodata")}


def test_a_flood_is_bounded_and_said_so(lab):
    net = Net(lab, "vpc-1", "10.0")
    a, b = net.guest(1, 10), net.guest(1, 11)
    lab.want("group", id="sg-closed", network_id="vpc-1", rules=[ANY[1]])
    lab.want("port", id=b.id, subnet_id="subnet-vpc-1-1", mac=b.mac, ipv4=b.ip,
             check_source=True, group_ids=["sg-closed"])
    lab.ready()
    log(lab, b.id)
    minutes = Minutes(lab)
    for n in range(6000):
        send(a, b.ip, 17, 1024 + n, 9, b"", mac=b.mac)
    time.sleep(0.5)
    found = minutes.flows()
    assert (b.id, "skipdata") in found
    assert 3000 < len(found) <= 4097
    lab.want("port", id=b.id, subnet_id="subnet-vpc-1-1", mac=b.mac, ipv4=b.ip,
             check_source=True, group_ids=["sg-vpc-1"])
    send(a, b.ip, 17, 1, 9, b"alive", mac=b.mac)
    assert heard(b, b"alive")
    lab.do(op="flows", at=minutes.next - 1)


def test_what_no_control_plane_writes_is_refused(lab):
    Net(lab, "vpc-1", "10.0")
    good = {"id": "fl-1", "network_id": "vpc-1", "resource_id": "vpc-1", "traffic": "ALL",
            "interval_s": 60}
    for bad in ({"id": "../x"}, {"id": "fl-" + "x" * 60}, {"network_id": "vpc-2"},
                {"resource_id": "a b"}, {"traffic": "SOME"}, {"interval_s": 61}):
        with pytest.raises(RuntimeError):
            lab.want("flow_log", **{**good, **bad})
    assert "flow_" not in lab.nft("list", "ruleset")


def test_a_tenants_log_is_read_in_the_end(cloud, ec2, launch):
    for bad, why in (({"LogFormat": "${version} ${colour}"}, "Unknown fields provided: .*colour"),
                     ({"MaxAggregationInterval": 61}, "aggregation")):
        with pytest.raises(ClientError, match=why):
            ec2.create_flow_logs(ResourceType="VPC", ResourceIds=["vpc-0"],
                                 TrafficType="ALL", LogGroupName="flows", **bad)
    guest = launch()
    cloud.ssh(guest, "true")
    card = cloud.instance(guest)["NetworkInterfaces"][0]
    eni, ip = card["NetworkInterfaceId"], card["PrivateIpAddress"]
    made = ec2.create_flow_logs(
        ResourceType="NetworkInterface", ResourceIds=[eni], TrafficType="ALL",
        LogGroupName="flows", MaxAggregationInterval=60,
        LogFormat="${instance-id} ${interface-id} ${srcaddr} ${dstaddr} ${protocol} "
                  "${packets} ${bytes} ${flow-direction} ${action} ${log-status}")
    name = made["FlowLogIds"][0]
    began = time.time()
    cloud.ssh(guest, "ping -c 3 -W 1 192.0.2.55", check=False)

    def lines():
        return cloud.moln("logs", "flow", name).stdout.splitlines()
    wait_for("the minute's records", lambda: len(lines()) > 1, 75)
    said = lines()
    assert said[0] == ("instance-id interface-id srcaddr dstaddr protocol packets bytes "
                       "flow-direction action log-status")
    assert f"{guest} {eni} {ip} 192.0.2.55 1 3 252 egress ACCEPT OK" in said
    files = list((cloud.state / "control" / "flow-logs").glob(f"*/{name}/*.log"))
    assert files and files[0].read_text().splitlines() == said
    assert time.time() - began < 130
    ec2.delete_flow_logs(FlowLogIds=[name])
    assert lines() == said  # What was recorded stays.
