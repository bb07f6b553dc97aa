"""The matrix: random groups, rules, ACLs and packets. A model, written here from AWS's
documentation and not from the code, says which packets arrive; the kernel must agree on
every one. MOLN_SEED repeats a run; MOLN_MATRIX says how many packets (2,000)."""
import ipaddress
import os
import random
import struct
import time

import pytest

from net_lab import Lab, frame

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")

PACKETS = int(os.environ.get("MOLN_MATRIX", "2000"))
PORTS = [22, 53, 80, 443, 8080]
ESP = 50
# ICMP's questions, by protocol and type, and the type of their answers.
ANSWERS = {(1, 8): 0, (1, 13): 14, (58, 128): 129}


class Port:
    def __init__(self, n, subnet, groups, check):
        self.id, self.subnet, self.groups, self.check = f"eni-{n:x}", subnet, groups, check
        self.mac = f"02:00:00:00:00:{n:02x}"
        self.ip4 = f"10.0.{subnet}.{n + 10}"
        self.ip6 = f"2001:db8:0:{subnet:x}::{n + 10:x}"

    def ip(self, v6):
        return self.ip6 if v6 else self.ip4


class Packet:
    def __init__(self, src, dst, saddr, daddr, proto, sport, dport):
        self.src, self.dst, self.saddr, self.daddr = src, dst, saddr, daddr
        self.proto, self.sport, self.dport = proto, sport, dport

    def flow(self):
        """By what tracking knows a packet: of protocols without ports, by its ends alone."""
        if self.proto not in (1, 6, 17, 58):
            return (self.saddr, self.daddr, self.proto)
        return (self.saddr, self.daddr, self.proto, self.sport, self.dport)

    def reply(self):
        if self.proto in (1, 58):
            return Packet(self.dst, self.src, self.daddr, self.saddr, self.proto, self.sport,
                          ANSWERS[self.proto, self.kind()])

        return Packet(self.dst, self.src, self.daddr, self.saddr, self.proto, self.dport,
                      self.sport)

    def kind(self):
        """The ICMP type; all packets here have code 0."""
        return {1: 8, 58: 128}[self.proto] if self.dport is None else self.dport

    def __repr__(self):
        return (f"{self.src.id}({','.join(self.src.groups)})->{self.dst.id}"
                f"({','.join(self.dst.groups)}) {self.saddr}>{self.daddr} "
                f"proto {self.proto} {self.sport}>{self.dport}")


class Model:
    """Allow or deny, by AWS's words."""

    def __init__(self, groups, lists, acls, ports):
        self.groups, self.lists, self.acls, self.ports = groups, lists, acls, ports
        self.open = set()  # Tracked flows, from each interface's side.

    def names(self, rule, address):
        if rule.get("cidr"):
            return ipaddress.ip_address(address) in ipaddress.ip_network(rule["cidr"])
        if rule.get("prefix_list_id"):
            return any(ipaddress.ip_address(address) in ipaddress.ip_network(c)
                       for c in self.lists[rule["prefix_list_id"]])
        return any(rule["group_id"] in p.groups and address in (p.ip4, p.ip6)
                   for p in self.ports)

    @staticmethod
    def matches(rule, packet):
        proto = rule["protocol"]
        if proto == -1:
            return True
        if proto != packet.proto:
            return False
        if proto in (1, 58):
            return (rule["from_port"] in (-1, packet.kind()) and
                    (rule["from_port"] == -1 or rule["to_port"] in (-1, 0)))
        return proto == ESP or rule["from_port"] <= packet.dport <= rule["to_port"]

    def group_allows(self, port, egress, other, packet):
        return any(rule["egress"] == egress and self.matches(rule, packet) and
                   self.names(rule, other)
                   for g in port.groups for rule in self.groups[g])

    def acl_allows(self, subnet, egress, other, packet):
        for rule in sorted(self.acls[subnet], key=lambda r: r["number"]):
            if rule["egress"] != egress:
                continue
            if ipaddress.ip_address(other) not in ipaddress.ip_network(rule["cidr"]):
                continue
            if rule["protocol"] != -1 and rule["protocol"] != packet.proto:
                continue
            if (packet.proto in (6, 17) and rule["protocol"] != -1 and
                    not rule["from_port"] <= packet.dport <= rule["to_port"]):
                continue
            if (packet.proto in (1, 58) and rule["protocol"] != -1 and
                    rule["icmp_type"] != -1 and
                    (rule["icmp_type"] != packet.kind() or rule["icmp_code"] == 1)):
                continue
            return rule["allow"]
        return False

    def allows(self, packet):
        src, dst = packet.src, packet.dst
        if src.check and packet.saddr not in (src.ip4, src.ip6):
            return False
        if dst.check and packet.daddr not in (dst.ip4, dst.ip6):
            return False
        tracked = packet.flow()
        out = (src.id, tracked) in self.open or self.group_allows(
            src, True, packet.daddr, packet)
        if not out:
            return False
        if src.subnet != dst.subnet and not (
                self.acl_allows(src.subnet, True, packet.daddr, packet) and
                self.acl_allows(dst.subnet, False, packet.saddr, packet)):
            return False
        return (dst.id, tracked) in self.open or self.group_allows(
            dst, False, packet.saddr, packet)

    def foresee(self, batch):
        """Which of them arrive. What is tracked without ports opens the way for the next."""
        expected = {}
        for number, packet in batch:
            expected[number] = self.allows(packet)
            if expected[number] and packet.proto == ESP:
                self.track(packet)
        return expected

    def track(self, packet):
        for port in (packet.src, packet.dst):
            self.open.add((port.id, packet.flow()))
            self.open.add((port.id, packet.reply().flow()))


def random_rule(rng, groups, lists, egress):
    proto = rng.choice([-1, -1, -1, 6, 6, 17, 17, 1, 58, ESP])
    rule = {"egress": egress, "protocol": proto, "from_port": -1, "to_port": -1}
    if proto in (6, 17):
        a = rng.choice([0, *PORTS])
        rule["from_port"], rule["to_port"] = (0, 65535) if a == 0 else (
            a, rng.choice([a, a + rng.randrange(400)]))
    elif proto in (1, 58) and rng.random() < 0.6:
        rule["from_port"] = rng.choice([0, 8, 13, 128, 129])
        rule["to_port"] = rng.choice([-1, -1, 0, 1])
    what = rng.random()
    if what < 0.5:
        rule["group_id"] = rng.choice(groups)
    elif what < 0.6:
        rule["prefix_list_id"] = rng.choice(lists)
    elif proto == 58 or (proto != 1 and rng.random() < 0.3):
        rule["cidr"] = rng.choice(["::/0", "2001:db8:0:1::/64", "2001:db8::/47"])
    else:
        rule["cidr"] = rng.choice(["0.0.0.0/0", "10.0.1.0/24", "10.0.0.0/16", "10.0.2.8/29",
                                   "10.0.1.12/32", "203.0.113.0/24"])
    return rule


def random_acl(rng):
    if rng.random() < 0.4:
        return [{"number": 100, "egress": e, "allow": True, "protocol": -1, "cidr": c,
                 "from_port": 0, "to_port": 0, "icmp_type": -1, "icmp_code": -1}
                for e in (True, False) for c in ("0.0.0.0/0", "::/0")]
    rules = []
    for number in rng.sample(range(1, 500), rng.randrange(2, 10)):
        proto = rng.choice([-1, -1, 6, 17, 1, 58, ESP])
        kind = rng.choice([-1, 8, 13, 128, 0]) if proto in (1, 58) else -1
        a = rng.choice([1, *PORTS])
        rules.append({"number": number, "egress": rng.random() < 0.5,
                      "allow": rng.random() < 0.75, "protocol": proto,
                      "from_port": a if proto in (6, 17) else 0,
                      "to_port": a + rng.choice([0, 500, 60000 - a])
                      if proto in (6, 17) else 0,
                      "icmp_type": kind,
                      "icmp_code": rng.choice([-1, 0, 1]) if kind >= 0 else -1,
                      "cidr": rng.choice(["0.0.0.0/0", "::/0", "10.0.0.0/16", "10.0.1.0/24",
                                          "2001:db8::/47"])})
    return rules


def random_packet(rng, ports, sport):
    src, dst = rng.sample(ports, 2)
    v6 = rng.random() < 0.4
    saddr, daddr = src.ip(v6), dst.ip(v6)
    if rng.random() < 0.1:  # From a stranger's address.
        saddr = rng.choice(["2001:db8:99::7" if v6 else "203.0.113.7", rng.choice(
            [p.ip(v6) for p in ports if p is not dst])])
    if src.subnet == dst.subnet and rng.random() < 0.05:  # To one.
        daddr = "2001:db8:99::9" if v6 else "203.0.113.9"
    proto = rng.choice([6, 17, 6, 17, 58 if v6 else 1, ESP])
    dport = rng.choice(PORTS) + rng.choice([0, 0, 0, 100])
    if proto in (1, 58):
        dport = rng.choice([kind for p, kind in ANSWERS if p == proto])
    return Packet(src, dst, saddr, daddr, proto, sport, dport)


def build(lab, rng):
    groups = [f"sg-{i}" for i in range(rng.randrange(4, 9))]
    lists = {f"pl-{i}": rng.sample(["10.0.1.0/25", "10.0.2.0/28", "203.0.113.0/24",
                                    "2001:db8:0:2::/64", "10.0.1.0/26"], 3)
             for i in range(2)}
    rules = {g: [random_rule(rng, groups, list(lists), rng.random() < 0.5)
                 for _ in range(rng.randrange(3, 10))] for g in groups}
    acls = {1: random_acl(rng), 2: random_acl(rng)}
    ports = [Port(n, rng.choice([1, 2]), rng.sample(groups, rng.randrange(1, 5)),
                  rng.random() < 0.75) for n in range(8)]
    lab.want("network", id="vpc-1", domain="test.internal")
    lab.do(op="hold")
    for name, cidrs in lists.items():
        lab.want("prefix_list", id=name, list_id=name, network_id="vpc-1", cidrs=cidrs)
    for number, acl in acls.items():
        lab.want("acl", id=f"acl-{number}", network_id="vpc-1", rules=acl)
        lab.want("subnet", id=f"subnet-{number}", network_id="vpc-1",
                 cidr=f"10.0.{number}.0/24", cidr6=f"2001:db8:0:{number}::/64",
                 acl_id=f"acl-{number}")
    for group in groups:
        lab.want("group", id=group, network_id="vpc-1", rules=rules[group])
    for p in ports:
        lab.want("port", id=p.id, subnet_id=f"subnet-{p.subnet}", mac=p.mac, ipv4=p.ip4,
                 ipv6=[p.ip6], check_source=p.check, group_ids=p.groups)
        for g in p.groups:
            lab.want("group_member", id=f"{g}.{p.id}", network_id="vpc-1", group_id=g,
                     addresses=[p.ip4, p.ip6])
    lab.do(op="release")
    for p in ports:
        lab.plug(p.id, p.mac)
    return Model(rules, lists, acls, ports)


def send(lab, routers, batch, expected):
    """Sends all of them; the numbers of those that arrived, with where. What is 'expected' has
    time to come; whatever else comes is given up when it has been quiet."""
    for number, packet in batch:
        to = packet.dst.mac if packet.src.subnet == packet.dst.subnet else routers[
            packet.src.subnet]
        lab.guests[packet.src.id].send(frame(
            packet.src.mac, to, packet.saddr, packet.daddr, packet.proto, packet.sport,
            packet.dport, b"matrix" + struct.pack("!I", number)))
    arrived = set()
    missing = {(number, packet.dst.id) for number, packet in batch if expected[number]}
    quiet, deadline = 0, time.monotonic() + 20
    while quiet < 4 or (missing - arrived and time.monotonic() < deadline):
        quiet = 0 if lab.settle() else quiet + 1
        for port_id, guest in lab.guests.items():
            for data in guest.received():
                at = data.find(b"matrix")
                if at >= 0:
                    arrived.add((struct.unpack("!I", data[at + 6:at + 10])[0], port_id))
    return arrived


def judge(batch, arrived, expected, seed):
    wrong = []
    for number, packet in batch:
        came = (number, packet.dst.id) in arrived
        if came != expected[number]:
            wrong.append(f"{'came' if came else 'did not come'}: {packet}")
    for number, port_id in arrived:
        packet = dict(batch)[number]
        if port_id != packet.dst.id:
            wrong.append(f"came to {port_id}: {packet}")
    assert not wrong, f"seed {seed}: {len(wrong)} wrong:\n" + "\n".join(wrong[:20])


def test_matrix_kernel_agrees_with_the_model():
    seed = int(os.environ.get("MOLN_SEED", time.time_ns() % 10**9))
    print(f"MOLN_SEED={seed}")
    rng = random.Random(seed)
    sent = allowed = 0
    while sent < PACKETS:
        lab = Lab("mx")
        try:
            model = build(lab, rng)
            macs = lab.bridges(lab.namespaces()[0])
            routers = {n: macs[f"10.0.{n}.1/24"] for n in (1, 2)}
            lab.ready()
            for _ in range(5):
                batch = [(sent + i, random_packet(rng, model.ports, 20000 + sent + i))
                         for i in range(100)]
                expected = model.foresee(batch)
                judge(batch, send(lab, routers, batch, expected), expected, seed)
                sent += len(batch)
                allowed += sum(expected.values())
                for n, p in batch:
                    if expected[n]:
                        model.track(p)
                answers = [(10**6 + n, p.reply()) for n, p in batch
                           if p.proto != 6 and (p.src.subnet == p.dst.subnet or
                                                p.saddr in (p.src.ip4, p.src.ip6))]
                expected = model.foresee(answers)
                judge(answers, send(lab, routers, answers, expected), expected, seed)
                sent += len(answers)
                allowed += sum(expected.values())
            assert lab.do(op="check")["drift"] == 0
        finally:
            lab.close()
    print(f"{sent} packets, {allowed} allowed")
    assert sent // 20 < allowed < sent * 19 // 20, "too few were allowed to say anything"
