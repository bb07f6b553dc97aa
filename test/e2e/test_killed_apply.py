"""The agent killed while it writes packet rules: they are wholly the old or wholly the new
ones, and the next agent makes them the new. Ten kills; a hundred with MOLN_LONG=1. MOLN_SEED
repeats a run's choices."""
import json
import os
import random
import time

import pytest

from net_lab import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason="needs root")

KILLS = 100 if os.environ.get("MOLN_LONG") else 10
GROUPS = 40


class State:
    """Records of one VPC: random groups, a prefix list, an ACL."""

    def __init__(self, rng):
        self.records = [("prefix_list", dict(
            id="pl-1", list_id="pl-1", network_id="vpc-1",
            cidrs=[f"10.{rng.randrange(256)}.{n}.0/24" for n in range(20)]))]
        for n in range(GROUPS):
            self.records.append(("group", dict(
                id=f"sg-{n}", network_id="vpc-1", rules=[self.rule(rng) for _ in range(20)])))
        self.records.append(("acl", dict(
            id="acl-1", network_id="vpc-1", rules=[
                dict(number=n, egress=rng.random() < 0.5, allow=True, protocol=-1,
                     cidr=f"10.{n}.0.0/16") for n in rng.sample(range(1, 200), 30)])))

    @staticmethod
    def rule(rng):
        port = rng.randrange(1, 60000)
        rule = dict(egress=rng.random() < 0.5, protocol=rng.choice([6, 17]), from_port=port,
                    to_port=port + rng.randrange(100))
        what = rng.randrange(3)
        return {**rule, **({"group_id": f"sg-{rng.randrange(GROUPS)}"} if what == 0 else
                           {"prefix_list_id": "pl-1"} if what == 1 else
                           {"cidr": f"10.{rng.randrange(256)}.0.0/16"})}

    def lines(self, base=()):
        """What the driver is to be told, as the agent tells it: all of it is one change."""
        told = [dict(op="want", kind=kind, record=record) for kind, record in self.records]
        return [dict(op="hold"), *base[:1], *told, *base[1:], dict(op="release")]


BASE = [dict(op="want", kind="network", record=dict(id="vpc-1", cidrs=["10.0.0.0/16"])),
        dict(op="want", kind="subnet", record=dict(id="subnet-1", network_id="vpc-1",
                                                   cidr="10.0.1.0/24", acl_id="acl-1")),
        dict(op="want", kind="port", record=dict(
            id="eni-1", subnet_id="subnet-1", mac="02:00:00:00:00:01", ipv4="10.0.1.10",
            check_source=True, group_ids=["sg-0", "sg-1"]))]


def begin(lab, lines):
    lab.drive.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
    lab.drive.stdin.flush()


def tell(lab, lines):
    begin(lab, lines)
    for line in lines:
        answer = json.loads(lab.drive.stdout.readline())
        assert answer["ok"], (line, answer)


def rules(lab):
    """All rules, and the prefix list's elements, which belong to them."""
    return (lab.nft("-s", "-t", "list", "ruleset"),
            lab.nft("list", "set", "inet", "moln", "l4_pl_1"))


@pytest.mark.timeout(300 + 20 * KILLS)
def test_rules_are_wholly_old_or_wholly_new_when_the_agent_is_killed():
    seed = int(os.environ.get("MOLN_SEED", time.time_ns() % 10**9))
    print(f"MOLN_SEED={seed}")
    rng = random.Random(seed)
    states = [State(rng), State(rng)]
    lab = Lab("ka")
    try:
        written, took = [], 0
        for state in (*states, states[0]):
            began = time.monotonic()
            tell(lab, state.lines(BASE))
            took = time.monotonic() - began
            written.append(rules(lab))
        assert written[0] == written[2] != written[1]
        now, ends = 0, [0, 0]
        for kill in range(KILLS):
            # In the middle of a change, or while a new agent takes over what stands.
            adopting = rng.random() < 0.3
            lines = states[now].lines(BASE) if adopting else states[1 - now].lines()
            if adopting:
                lab.restart()
            begin(lab, lines)
            time.sleep(rng.random() * took * (2 if adopting else 1.2))
            lab.drive.kill()
            lab.drive.wait()
            found = rules(lab)
            assert found in written[:2], f"seed {seed}, kill {kill}: neither old nor new"
            if adopting:
                assert found == written[now], f"seed {seed}, kill {kill}: changed"
            else:
                ends[found == written[1 - now]] += 1
                now = 1 - now
            lab.restart()  # It is told what is wanted now.
            tell(lab, states[now].lines(BASE))
            assert rules(lab) == written[now], f"seed {seed}, kill {kill}: not made so"
            assert lab.do(op="check")["drift"] == 0
        print(f"{KILLS} kills: {ends[0]} left the old rules, {ends[1]} the new")
        assert KILLS < 100 or min(ends) > 0, "no kill came in time"
    finally:
        lab.close()
