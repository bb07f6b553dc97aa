"""Instances that asked for recovery, when their host is lost: ended there, then started elsewhere,
never in two places at once; all others are left alone.

A watcher looks at the kernel all the while, from outside of all hosts, and keeps the history.
"""
import contextlib
import json
import os
import pathlib
import signal
import threading
import time

import pytest

from cloud import wait_for
from holdings import Holdings
from pool import Pool
from test_two_hosts import ALL, Outside, Vpc, nat_home

LEASE_S, STOP_S, MARGIN_S = 5, 1, 1
SETTINGS = {"lease_s": LEASE_S, "lease_stop_s": STOP_S, "lease_margin_s": MARGIN_S}
REBUILD = [{"ResourceType": "instance",
            "Tags": [{"Key": "moln:recovery", "Value": "rebuild"}]}]


class Watcher:
    """Every 20 ms: which emulators run for each instance. More than one is a breach, whatever
    the programs say."""

    def __init__(self, held):
        self.held, self.breaches, self.history, self.ended = held, [], {}, False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.ended:
            now = time.monotonic()
            for instance_id, pids in self.held.emulators().items():
                seen = self.history.setdefault(instance_id, {})
                for pid in pids:
                    first, _ = seen.get(pid, (now, now))
                    seen[pid] = (first, now)
                if len(pids) > 1:
                    self.breaches.append((now, instance_id, pids))
            time.sleep(0.02)

    def close(self):
        self.ended = True
        self.thread.join()
        assert not self.breaches, self.breaches
        for instance_id, seen in self.history.items():
            lives = sorted(seen.values())
            for (_, last), (first, _) in zip(lives, lives[1:]):
                assert last < first, (instance_id, seen)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    settings = tmp_path_factory.mktemp("recovery") / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    settings.parent.chmod(0o755)
    os.chmod(settings.parent.parent, 0o755)
    made = Pool(2, "--config", str(settings))
    yield made
    made.close()


@pytest.fixture(scope="module")
def nodes(pool):
    made = [pool.node(f"n{n}", n).start(pool.token()) for n in (0, 1)]
    for node in made:
        node.said("connected to the control plane")
    return made


@pytest.fixture(scope="module")
def held(pool, nodes):
    return Holdings(pool.cloud.state, pool.cloud_id())


@pytest.fixture
def watcher(held):
    made = Watcher(held)
    yield made
    made.close()


@pytest.fixture
def ec2(pool):
    return pool.cloud.client()


def launch(pool, ec2, recover=True):
    more = {"MaintenanceOptions": {"AutoRecovery": "default"},
            "TagSpecifications": REBUILD} if recover else {}
    instance_id = ec2.run_instances(ImageId=pool.cloud.image("micro"), InstanceType="t3.nano",
                                    MinCount=1, MaxCount=1, **more)["Instances"][0]["InstanceId"]
    return instance_id


def node_of(pool, nodes, held, instance_id):
    """The node whose host's cgroups the emulator is in."""
    for pid in held.emulators().get(instance_id, set()):
        try:
            groups = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:  # It has just ended.
            continue
        for node in nodes:
            if f"/moln-host-{node.host.holder.pid}/" in groups:
                return node
    return None


def fence_of(node):
    """The pid of the node's supervisor: it is on the node's host, and no other is."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm") as comm:
                    if comm.read() != "moln-fence\n":
                        continue
                if os.readlink(f"/proc/{entry}/ns/net") == os.readlink(
                        f"/proc/{node.host.holder.pid}/ns/net"):
                    return int(entry)
            except OSError:
                continue
    return None


def events(pool, kind):
    return pool.cloud.moln("events", "--kind", kind, "--json")["Events"]


def end(pool, ec2, held, *ids):
    ec2.terminate_instances(InstanceIds=list(ids))
    for instance_id in ids:
        pool.cloud.wait_state(instance_id, "terminated")
    wait_for("all of it to go", lambda: not held.emulators() and not held.cgroups(), 60)


def test_cut_off_node_ends_leased_guests_and_they_start_elsewhere(pool, nodes, held, ec2,
                                                                  watcher):
    leased, plain = launch(pool, ec2), launch(pool, ec2, recover=False)
    for instance_id in (leased, plain):
        pool.cloud.wait_state(instance_id, "running")
    assert pool.cloud.instance(leased)["MaintenanceOptions"]["AutoRecovery"] == "default"
    assert pool.cloud.instance(plain)["MaintenanceOptions"]["AutoRecovery"] == "disabled"
    home = node_of(pool, nodes, held, leased)
    other = next(n for n in nodes if n is not home)
    plain_home, plain_pids = node_of(pool, nodes, held, plain), held.emulators()[plain]
    plain_home.forward.cut()
    home.forward.cut()
    if plain_home is not home:
        plain_home.forward.heal()
    wait_for("the lease to run out", lambda: node_of(pool, nodes, held, leased) is not home, 30)
    wait_for("it to be elsewhere", lambda: node_of(pool, nodes, held, leased) is other, 60)
    pool.cloud.wait_state(leased, "running")
    assert held.emulators()[plain] == plain_pids
    assert any(leased in str(e) for e in events(pool, "recovery"))

    # The node comes back: it is told, starts nothing twice, and removes what it kept.
    home.forward.heal()
    wait_for("it to be back", lambda: pool.is_connected(home.id()), 60)
    wait_for("its old disk to go", lambda: sum(
        leased_disk(node) for node in nodes) == 2, 60)
    assert held.emulators()[plain] == plain_pids
    assert node_of(pool, nodes, held, leased) is other
    end(pool, ec2, held, leased, plain)


def leased_disk(node):
    return len([n for n in node.folder.joinpath("pool").iterdir() if n.suffix == ".qcow2"])


def test_recovery_asked_for_later_holds_at_once_and_without_the_agent(pool, nodes, held, ec2,
                                                                      watcher):
    leased = launch(pool, ec2, recover=False)
    pool.cloud.wait_state(leased, "running")
    home, pids = node_of(pool, nodes, held, leased), held.emulators()[leased]
    ec2.create_tags(Resources=[leased], Tags=REBUILD[0]["Tags"])
    ec2.modify_instance_maintenance_options(InstanceId=leased, AutoRecovery="default")
    wait_for("the fence to have it", lambda: any(
        leased in str(e) and "from now on" in e["Message"] for e in events(pool, "lease")), 30)
    assert held.emulators()[leased] == pids
    fence = fence_of(home)
    os.kill(home.process.pid, signal.SIGSTOP)
    wait_for("it to be elsewhere",
             lambda: node_of(pool, nodes, held, leased) not in (None, home), 60)
    assert fence_of(home) == fence
    os.kill(home.process.pid, signal.SIGCONT)
    wait_for("it to be back", lambda: pool.is_connected(home.id()), 60)
    end(pool, ec2, held, leased)


def children_of(pid):
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.add(int(entry))
            except OSError:
                continue
    return found


def test_host_that_dies_as_a_whole_loses_what_asked_for_recovery_and_keeps_the_rest(
        pool, nodes, held, ec2, watcher):
    # Hosts fill in rounds: each has a leased guest, and one of them the plain one besides.
    leased, plain = [launch(pool, ec2), launch(pool, ec2)], launch(pool, ec2, recover=False)
    for instance_id in (*leased, plain):
        pool.cloud.wait_state(instance_id, "running")
    home = node_of(pool, nodes, held, plain)
    lost = [i for i in leased if node_of(pool, nodes, held, i) is home]
    assert lost
    agent = home.process.pid
    dead = {agent, fence_of(home)} | children_of(agent)
    for instance_id in (*lost, plain):
        dead |= held.emulators()[instance_id]
    for pid in dead:  # A host without power: nobody is left to tell of it.
        with contextlib.suppress(ProcessLookupError):  # Some go with others.
            os.kill(pid, signal.SIGKILL)
    home.process.wait()
    for instance_id in lost:
        wait_for("it to be elsewhere",
                 lambda: node_of(pool, nodes, held, instance_id) not in (None, home), 60)
        pool.cloud.wait_state(instance_id, "running")
    assert plain not in held.emulators()

    home.start()  # It comes up again, and looks after what it still has.
    wait_for("it to be back", lambda: pool.is_connected(home.id()), 60)
    wait_for("what it kept to run", lambda: node_of(pool, nodes, held, plain) is home, 60)
    for instance_id in lost:
        assert node_of(pool, nodes, held, instance_id) is not home
    end(pool, ec2, held, *leased, plain)


def test_agent_that_is_started_again_in_time_keeps_its_guests(pool, nodes, held, ec2, watcher):
    leased = launch(pool, ec2)
    pool.cloud.wait_state(leased, "running")
    home, pids = node_of(pool, nodes, held, leased), held.emulators()[leased]
    home.stop(signal.SIGKILL)
    home.start()
    time.sleep(LEASE_S + 1)  # Longer than one that is not renewed.
    assert held.emulators()[leased] == pids
    end(pool, ec2, held, leased)


def test_guests_do_not_outlive_the_fence(pool, nodes, held, ec2, watcher):
    leased, plain = launch(pool, ec2), launch(pool, ec2, recover=False)
    for instance_id in (leased, plain):
        pool.cloud.wait_state(instance_id, "running")
    home, pids = node_of(pool, nodes, held, leased), held.emulators()
    os.kill(fence_of(home), signal.SIGKILL)
    wait_for("it to go", lambda: not pids[leased] & held.emulators().get(leased, set()), 10)
    wait_for("it to come back here",
             lambda: node_of(pool, nodes, held, leased) is home, 30)
    assert held.emulators()[plain] == pids[plain]
    end(pool, ec2, held, leased, plain)


def test_disk_in_a_shared_pool_is_kept(pool, nodes, held, ec2, watcher):
    cloud, shared = pool.cloud, pool.cloud.dir / "shared"
    shared.mkdir()
    for node in nodes:
        node.more = ["--shared-pool", shared]
        node.stop()
        node.start()
    wait_for("both to be back", lambda: all(pool.is_connected(n.id()) for n in nodes), 60)
    key = pool.key(ec2)
    # No tag: what lies where both see it need not be made anew.
    leased = ec2.run_instances(
        ImageId=cloud.image("micro"), InstanceType="t3.nano", MinCount=1, MaxCount=1, KeyName=key,
        MaintenanceOptions={"AutoRecovery": "default"})["Instances"][0]["InstanceId"]
    cloud.wait_state(leased, "running")
    assert [p for p in shared.iterdir() if p.suffix == ".qcow2"]
    cloud.ssh(leased, "echo kept > /root/mark && sync")
    home = node_of(pool, nodes, held, leased)
    home.forward.cut()
    wait_for("it to be elsewhere",
             lambda: node_of(pool, nodes, held, leased) not in (None, home), 60)
    cloud.wait_state(leased, "running")
    home.forward.heal()
    assert cloud.ssh(leased, "cat /root/mark") == "kept\n"
    wait_for("it to be back", lambda: pool.is_connected(home.id()), 60)
    # The old node's part has ended, and the file is there; it goes with the instance.
    assert [p for p in shared.iterdir() if p.suffix == ".qcow2"]

    # Stopped, it starts on the other host when its own takes none.
    ec2.stop_instances(InstanceIds=[leased], Force=True)
    cloud.wait_state(leased, "stopped")
    there = next(n for n in nodes if n is not home)
    cloud.moln("node", "cordon", there.id())
    ec2.start_instances(InstanceIds=[leased])
    cloud.wait_state(leased, "running")
    assert node_of(pool, nodes, held, leased) is home
    assert cloud.ssh(leased, "cat /root/mark") == "kept\n"
    cloud.moln("node", "uncordon", there.id())
    end(pool, ec2, held, leased)
    wait_for("its file to go",
             lambda: not [p for p in shared.iterdir() if p.suffix == ".qcow2"], 60)


def test_nat_gateway_finds_another_home_when_its_host_is_cut_off(pool, nodes):
    """And keeps it when that host is back; the guests of both come out there."""
    pool.ids = [node.id() for node in nodes]
    vpc = Vpc(pool, "10.9")
    ec2 = vpc.ec2
    for octet in (1, 2):
        vpc.subnet(octet)
    group = vpc.group("open", ALL)
    guests = [vpc.launch(f"g{host}", host, 1, group) for host in (0, 1)]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc.id)
    public = ec2.create_route_table(VpcId=vpc.id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=public, SubnetId=vpc.subnets[2])
    ec2.create_route(RouteTableId=public, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    address = ec2.allocate_address(Domain="vpc")
    nat = ec2.create_nat_gateway(SubnetId=vpc.subnets[2], AllocationId=address[
        "AllocationId"])["NatGateway"]["NatGatewayId"]
    ec2.create_route(RouteTableId=vpc.table, DestinationCidrBlock="0.0.0.0/0",
                     NatGatewayId=nat)
    for guest in guests:
        guest.open()
    sides = [Outside(pool, host) for host in (0, 1)]
    try:
        was = nat_home(pool, nat)
        now = 1 - was

        def all_come_out_at(home, these):
            return all(sides[home].caller(guest) == address["PublicIp"] for guest in these)
        wait_for("its first home", lambda: all_come_out_at(was, guests), 60)
        pool.forwards[was].cut()
        wait_for("its second home", lambda: nat_home(pool, nat) == now, 60)
        wait_for("the way out by that", lambda: all_come_out_at(now, guests[now:now + 1]), 60)
        pool.forwards[was].heal()
        guests[was].open()
        wait_for("the others' way there", lambda: all_come_out_at(now, guests), 60)
        assert nat_home(pool, nat) == now
        assert all(sides[was].caller(guest) is None for guest in guests)
    finally:
        pool.forwards[was].heal()
        for side in sides:
            side.close()
        ec2.delete_nat_gateway(NatGatewayId=nat)
        vpc.end()
