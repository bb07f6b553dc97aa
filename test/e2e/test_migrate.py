"""Guests move between two hosts while they run: with their memory, disk, console, address and
open connections, and whatever is killed on the way there is one of each in the end."""
import datetime
import os
import pathlib
import random
import re
import signal
import time

import botocore.exceptions
import pytest

from cloud import wait_for
from pool import Pool
from test_two_hosts import ALL, Vpc

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LONG = bool(os.environ.get("MOLN_LONG"))
MOVES = 10 if LONG else 1  # There and back.


# A host's own switch for post-copy.
ALLOWED = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")


@pytest.fixture(scope="module")
def pool():
    before = ALLOWED.read_text()
    ALLOWED.write_text("1")
    made = Pool(2)
    try:
        made.join()
        yield made
    finally:
        ALLOWED.write_text(before)
        made.close()


@pytest.fixture(scope="module")
def vpc(pool):
    """'mover' starts on the first host; 'friend' stays on the second."""
    pool.cloud.image("micro")
    made = Vpc(pool, "10.0")
    made.subnet(1)
    group = made.group("open", ALL)
    made.mover = made.launch("mover", 0, 1, group)
    made.friend = made.launch("friend", 1, 1, group)
    for n in pool.ids:
        pool.cloud.moln("node", "uncordon", n)
    for guest in made.guests.values():
        guest.open()
    yield made
    for guest in made.guests.values():
        guest.close()
    made.ec2.terminate_instances(InstanceIds=[g.id for g in made.guests.values()])
    for guest in made.guests.values():
        pool.cloud.wait_state(guest.id, "terminated")


def migrate(pool, guest, to):
    done = pool.cloud.moln("migrate", guest.id, "--to", pool.ids[to], "--json")["Migration"]
    assert done["State"] == "done", done
    return done


def holdings(pool, n):
    """What is left of machines on a host, by its disk, cgroups and network namespaces."""
    node = pool.nodes[n]
    folder = node.folder
    taps = node.host.run("sh", "-c", "for n in /run/netns/moln-*; do [ -e $n ] || continue; "
                         "ip -n ${n##*/} -br link | grep ^mt; done; true")
    return {
        "machines": sorted(p.name for p in (folder / "machines").glob("i-*")),
        "disks": sorted(p.name.split("+")[0] for p in (folder / "pool").glob("*.qcow2")),
        "orphans": sorted(p.name for p in (folder / "pool" / "orphans").iterdir()),
        "taps": taps.split(),
    }


class Stream:
    """Numbered lines that one guest sends another, twenty a second, over one connection."""

    def __init__(self, sender, receiver, port):
        self.receiver, self.path, self.port = receiver, f"/root/heard-{port}", port
        # An nc whose input has ended would end the connection.
        receiver.text(f"sleep 100000 | nc -l -p {port} >{self.path} & sleep 0.2")
        sender.text(f"(n=0; while n=$((n+1)); do echo $n; sleep 0.05; done)"
                    f" | nc {receiver.ip} {port} >/dev/null &")

    def heard(self):
        lines = self.receiver.text(f"cat {self.path}").split()
        assert lines == [str(n + 1) for n in range(len(lines))], "a line is lost or doubled"
        return len(lines)

    def goes_on(self):
        before = self.heard()
        wait_for(f"the stream to port {self.port} to go on after line {before}",
                 lambda: self.heard() > before + 5, 20)


WRITER = """
cat >/root/writer <<'END'
n=0
while [ ! -e /root/stop ]; do
    n=$((n+1))
    dd if=/dev/urandom of=/root/data.$((n%8)) bs=64k count=8 2>/dev/null
    md5sum /root/data.$((n%8)) >/root/sum.$((n%8))
    sync
done
END
(sh /root/writer; touch /root/stopped) &
"""


def leads_to(pool, address):
    """The hosts from whose outside a public address leads into a network."""
    return [n for n, node in enumerate(pool.nodes) if address in node.host.run(
        "sh", "-c", "for n in /run/netns/moln-*-external; do [ -e $n ] || continue; "
        "ip -n ${n##*/} -4 route; done; true")]


@pytest.fixture
def elastic(vpc):
    """An Elastic IP of 'mover'."""
    ec2 = vpc.ec2
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc.id)
    ec2.create_route(RouteTableId=vpc.table, DestinationCidrBlock="0.0.0.0/0",
                     GatewayId=gateway)
    made = ec2.allocate_address()
    ec2.associate_address(AllocationId=made["AllocationId"], InstanceId=vpc.mover.id)
    yield made
    ec2.disassociate_address(AssociationId=ec2.describe_addresses()["Addresses"][0][
        "AssociationId"])
    ec2.release_address(AllocationId=made["AllocationId"])
    ec2.delete_route(RouteTableId=vpc.table, DestinationCidrBlock="0.0.0.0/0")
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc.id)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)


@pytest.mark.timeout(600 + 120 * MOVES)
def test_guest_moves_there_and_back(pool, vpc, elastic):
    mover, friend = vpc.mover, vpc.friend

    def has_address(n):
        wait_for(f"{elastic['PublicIp']} to be at host {n} alone",
                 lambda: leads_to(pool, elastic["PublicIp"]) == [n], 20)
    has_address(0)
    boot_id = mover.text("cat /proc/sys/kernel/random/boot_id")
    inbound, outbound = Stream(friend, mover, 7000), Stream(mover, friend, 7001)
    inbound.goes_on()
    outbound.goes_on()
    mover.text(WRITER)  # Memory and disk change all the while.
    empty = {"machines": [], "disks": [], "orphans": [], "taps": []}
    build = build_of(mover)
    for turn, to in enumerate((1, 0) * MOVES):
        forecast = pool.cloud.moln("migrate", mover.id, "--forecast", "--json")["Forecasts"][0]
        assert forecast["ToNode"] == pool.ids[to] and "Refusal" not in forecast
        assert forecast["TotalMilliseconds"] > forecast["DowntimeMilliseconds"] > 0
        assert ("the last migration" in forecast["Basis"]) == (turn > 0)
        done = migrate(pool, mover, to)
        assert done["ForecastMilliseconds"] > 0
        assert build_of(mover) == build
        assert done["DiskBytes"] > 0 and done["MemorySentBytes"] > 0
        assert 0 < done["DowntimeMilliseconds"] < done["ElapsedMilliseconds"]
        mover.close()  # Its shell came through the old host.
        mover.open()
        assert mover.text("cat /proc/sys/kernel/random/boot_id") == boot_id
        assert not re.search("BUG:|Oops|corruption", mover.text("dmesg")), "memory got lost"
        inbound.goes_on()
        outbound.goes_on()
        left = holdings(pool, 1 - to)
        assert mover.id not in left["machines"]
        if to == 1:
            assert left == empty
        assert holdings(pool, to)["machines"].count(mover.id) == 1
        has_address(to)
        events = pool.cloud.moln("node", "events", pool.ids[to], "--json")["Events"]
        assert [e for e in events if e["Kind"] == "migration" and e["Object"] == mover.id
                and done["MigrationId"] in e["Message"]]
    vpc.ec2.associate_address(AllocationId=elastic["AllocationId"], InstanceId=friend.id,
                              AllowReassociation=True)
    has_address(1)
    mover.text("touch /root/stop; while [ ! -e /root/stopped ]; do sleep 0.1; done;"
               " cat /root/sum.* | md5sum -c -")
    # What it said on the console before is still there, once.
    output = vpc.ec2.get_console_output(InstanceId=mover.id, Latest=True)["Output"]
    assert output.count("BEGIN SSH HOST KEY KEYS") == 1


def test_zone_has_a_baseline_that_its_guests_get(pool, vpc):
    def zone():
        return pool.cloud.moln("pool", "us-east-1a", "--json")["Baselines"]
    first, = zone()
    assert (first["Nodes"], first["NodesBelow"], first["Automatic"]) == (2, 0, True)
    assert build_of(vpc.mover)[0] == first["MachineType"]
    with pytest.raises(AssertionError, match="offers the processor z14"):
        pool.cloud.moln("pool", "us-east-1a", "--cpu-baseline", "z14")
    lower = pool.cloud.moln("pool", "us-east-1a", "--cpu-baseline", "qemu64", "--json")["Baseline"]
    assert (lower["CpuModel"], lower["MachineType"]) == ("qemu64", first["MachineType"])
    assert not zone()[0]["Automatic"] and zone()[0]["NodesBelow"] == 0
    pool.cloud.moln("pool", "us-east-1a", "--cpu-baseline", "auto")
    assert zone()[0]["CpuModel"] == first["CpuModel"]


def test_drained_host_is_empty_and_its_tenants_are_told(pool, vpc):
    """What runs there moves on; a scheduled event stands until it has."""
    mover, source = vpc.mover, pool.ids[0]
    boot_id = mover.text("cat /proc/sys/kernel/random/boot_id")

    def status():
        return vpc.ec2.describe_instance_status(InstanceIds=[mover.id])["InstanceStatuses"][0]
    # Nobody takes it: it stays, and its owner knows.
    pool.cloud.moln("node", "cordon", pool.ids[1])
    pool.cloud.moln("node", "drain", source)
    assert [e["Code"] for e in status()["Events"]] == ["system-maintenance"]
    wait_for("the reason to be told", lambda: [
        e for e in pool.cloud.moln("node", "events", source, "--json")["Events"]
        if e["Kind"] == "drain" and e["Object"] == mover.id], 30)
    assert pool.listed()[source]["Draining"] and pool.listed()[source]["Machines"] == 1
    # Now one takes it.
    pool.cloud.moln("node", "uncordon", pool.ids[1])
    pool.cloud.moln("node", "drain", source, "--wait")
    assert pool.listed()[source]["Machines"] == 0
    last = pool.cloud.moln("migrate", "ls", mover.id, "--all", "--json")["Migrations"]
    assert max(last, key=lambda m: m["CreatedAt"])["Reason"] == "drain"
    wait_for("the event's end", lambda: all(
        e["Description"].startswith("[Completed]") for e in status().get("Events", [])), 30)
    pool.cloud.moln("node", "uncordon", source)
    mover.close()
    mover.open()
    assert mover.text("cat /proc/sys/kernel/random/boot_id") == boot_id
    migrate(pool, mover, 0)
    mover.close()
    mover.open()


def test_drain_that_is_planned_waits_and_owners_choose_their_time(pool, vpc):
    """The host takes nothing new at once; its guests are told when, and may say another time."""
    mover, source = vpc.mover, pool.ids[0]
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    begin, end = now + datetime.timedelta(hours=2), now + datetime.timedelta(hours=48)

    def event():
        status = vpc.ec2.describe_instance_status(InstanceIds=[mover.id])["InstanceStatuses"][0]
        return max(status["Events"], key=lambda e: e["NotBefore"])

    def put_off(to):
        return vpc.ec2.modify_instance_event_start_time(
            InstanceId=mover.id, InstanceEventId=event()["InstanceEventId"], NotBefore=to)["Event"]
    pool.cloud.moln("node", "drain", source, "--at", begin.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "--deadline", end.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert (event()["NotBefore"], event()["NotBeforeDeadline"]) == (begin, end)
    assert "drains later" in pool.cloud.moln("node", "ls").stdout
    later = now + datetime.timedelta(hours=24)
    assert put_off(later)["NotBefore"] == later == event()["NotBefore"]
    for wrong in (end + datetime.timedelta(seconds=1), now + datetime.timedelta(minutes=59)):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            put_off(wrong)
        assert refused.value.response["Error"]["Code"] == "InvalidInstanceEventStartTime"
    assert event()["NotBefore"] == later
    assert pool.listed()[source]["Machines"] == 1
    pool.cloud.moln("node", "uncordon", source)
    assert event()["Description"].startswith("[Canceled]")


def test_rebalancing_moves_one_of_two(pool, vpc):
    """Both guests on one host: one of them is moved to the other, and then they are alike."""
    migrate(pool, vpc.mover, 1)
    planned = pool.cloud.moln("rebalance", "us-east-1a", "--dry-run", "--json")["Migrations"]
    assert [(m["FromNode"], m["ToNode"]) for m in planned] == [(pool.ids[1], pool.ids[0])]
    assert "MigrationId" not in planned[0]
    assert planned[0]["ForecastMilliseconds"] > 0
    begun = pool.cloud.moln("rebalance", "us-east-1a", "--json")["Migrations"]
    assert len(begun) == 1 and begun[0]["Reason"] == "rebalance"
    moved = next(g for g in vpc.guests.values() if g.id == begun[0]["InstanceId"])
    assert wait_for("its end", lambda: ended(pool, moved))["State"] == "done"
    assert pool.cloud.moln("rebalance", "us-east-1a", "--json")["Migrations"] == []
    if moved is vpc.friend:  # The other tests want them where they were.
        migrate(pool, vpc.friend, 1)
        migrate(pool, vpc.mover, 0)
    for guest in vpc.guests.values():
        guest.close()
        guest.open()


def test_what_its_owner_does_comes_before_a_migration(pool, vpc):
    """A card that is plugged in meanwhile: the guest gets it, and moves another time. (After
    the drain, which would let the instance rest for a minute now.)"""
    mover, ec2 = vpc.mover, vpc.ec2
    eni = ec2.create_network_interface(
        SubnetId=vpc.subnets[1])["NetworkInterface"]["NetworkInterfaceId"]
    pool.cloud.moln("migrate", mover.id, "--to", pool.ids[1], "--mbit", "1",
                    "--force", "--no-wait")  # It would never end, and shall not.
    attached = ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=mover.id,
                                            DeviceIndex=1)["AttachmentId"]
    end = wait_for("the migration's end", lambda: ended(pool, mover))
    assert end["State"] == "failed" and "network interface" in end["Message"], end
    wait_for("the card", lambda: "eth1" in mover.text("ls /sys/class/net").split(), 30)
    ec2.detach_network_interface(AttachmentId=attached)
    wait_for("the card's end", lambda: "eth1" not in mover.text("ls /sys/class/net").split(), 30)
    wait_for("the interface to be free", lambda: ec2.describe_network_interfaces(
        NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]["Status"] == "available", 30)
    ec2.delete_network_interface(NetworkInterfaceId=eni)


def test_what_cannot_be_moved_is_refused_with_the_reason(pool, vpc):
    for args, why in [
            ((vpc.mover.id, "--to", pool.ids[0]), "already"),
            ((vpc.mover.id, "--to", "node-00000000000000000"), "no node"),
            (("i-00000000000000000",), "no instance"),
            ((vpc.mover.id, "--downtime", "1"), "downtime")]:
        with pytest.raises(AssertionError, match=why):
            pool.cloud.moln("migrate", *args)
    assert pool.cloud.moln("migrate", "ls", "--json")["Migrations"] == []


def build_of(guest):
    """The machine type and the processor in its emulator's words."""
    pid, = emulators(guest.id)
    words = (pathlib.Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    return tuple(words[words.index(option) + 1].split(",")[0] for option in ("-machine", "-cpu"))


def emulators(instance_id):
    """Pids of the machine's QEMUs, on whichever host."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "qemu-system" in words[0] and f"-name\0{instance_id}," in "\0".join(words):
            found.append(int(entry.name))
    return found


# ---- post-copy

# Memory that is written all the while, faster than the way is wide; and lines that tell it is whole.
DIRTIER = """
mkdir -p /root/m && mount -t tmpfs none /root/m
cat >/root/dirtier <<'END'
n=0
dd if=/dev/urandom of=/root/m/seed bs=1M count=8 2>/dev/null
while [ ! -e /root/m/stop ]; do
    n=$((n+1))
    for i in 0 1 2 3 4; do cp /root/m/seed /root/m/$i; cmp /root/m/seed /root/m/$i || echo BAD; done
    echo $n >>/root/said
done
END
(sh /root/dirtier >>/root/said 2>&1; touch /root/dirtied) &
"""
CLEAN = """
touch /root/m/stop; while [ ! -e /root/dirtied ]; do sleep 0.1; done
umount /root/m; rm /root/said /root/dirtied
"""


def state(pool, migration):
    return pool.cloud.moln("migrate", "show", migration, "--json")["Migration"]["State"]


def allow(vpc, guest):
    """Its owner's word that it may depend on two hosts for a while."""
    vpc.ec2.create_tags(Resources=[guest.id],
                        Tags=[{"Key": "moln:migration", "Value": "post-copy"}])


def follow(pool, guest, to):
    """Begins a move; its id, once the guest has gone on there and memory follows it."""
    begun = pool.cloud.moln("migrate", guest.id, "--to", pool.ids[to], "--post-copy", "--mbit",
                            "120", "--no-wait", "--json")["Migration"]["MigrationId"]
    wait_for("its memory to follow", lambda: state(pool, begun) == "following", pause_s=0.05)
    assert len(emulators(guest.id)) == 2  # The giver's holds what has not come yet.
    return begun


def check_whole(pool, guest, boot_id):
    done = wait_for("its end", lambda: ended(pool, guest))
    assert done["State"] == "done" and done["PostCopy"], done
    wait_for("one emulator", lambda: len(emulators(guest.id)) == 1, 30)
    guest.close()
    guest.open()
    assert guest.text("cat /proc/sys/kernel/random/boot_id") == boot_id
    said = guest.text("cat /root/said").split()
    assert said == [str(n + 1) for n in range(len(said))], said  # Never BAD, never twice.
    wait_for("it to go on", lambda: len(guest.text("cat /root/said").split()) > len(said))


def test_memory_follows_its_guest(pool, vpc):
    mover = vpc.mover
    boot_id = mover.text("cat /proc/sys/kernel/random/boot_id")
    with pytest.raises(AssertionError, match="moln:migration=post-copy"):
        pool.cloud.moln("migrate", mover.id, "--post-copy", "--no-wait")
    allow(vpc, mover)
    mover.text(DIRTIER)
    for to in (1, 0):
        follow(pool, mover, to)
        check_whole(pool, mover, boot_id)
    mover.text(CLEAN)


def cut_the_way(pool, begun):
    link = ("ip", "link", "set", "u2")
    pool.underlay.switch.run(*link, "down")
    wait_for("the cut to be noticed", lambda: state(pool, begun) == "interrupted", 60)
    with pytest.raises(AssertionError, match="too late"):
        pool.cloud.moln("migrate", "cancel", begun)
    pool.underlay.switch.run(*link, "up")


def kill_an_agent(pool, n):
    """What it carried ends with it."""
    pool.nodes[n].stop(signal.SIGKILL)
    pool.nodes[n].start()


def test_what_cuts_a_following_memory_is_waited_out(pool, vpc):
    mover = vpc.mover
    boot_id = mover.text("cat /proc/sys/kernel/random/boot_id")
    allow(vpc, mover)
    mover.text(DIRTIER)
    for _ in range(5 if LONG else 1):
        cut_the_way(pool, follow(pool, mover, 1))
        check_whole(pool, mover, boot_id)
        follow(pool, mover, 0)
        kill_an_agent(pool, 1)  # The giver's.
        kill_an_agent(pool, 0)
        check_whole(pool, mover, boot_id)
    mover.text(CLEAN)
    for guest in vpc.guests.values():  # Its way was cut too.
        guest.close()
        guest.open()


# ---- kills

class Victims:
    """The programs that take part, each to be killed and started again."""

    def __init__(self, pool):
        self.pool = pool

    def names(self):
        return ["giver", "receiver", "control"]

    def kill(self, name, giver):
        pool = self.pool
        if name == "control":
            pool.cloud.stop(pool.cloud.molnd, signal.SIGKILL)
            return pool.cloud.start_molnd
        node = pool.nodes[giver if name == "giver" else 1 - giver]
        node.stop(signal.SIGKILL)
        return node.start


def ended(pool, guest):
    """The instance's newest migration, once it has ended; None before."""
    try:
        known = pool.cloud.moln("migrate", "ls", guest.id, "--all", "--json")["Migrations"]
    except AssertionError:
        return None  # The control plane is not back yet.
    newest = max(known, key=lambda m: m["CreatedAt"])
    return newest if newest["State"] in ("done", "failed") else None

SEED = int(os.environ.get("MOLN_CHAOS_SEED", random.randrange(10**9)))

KILLS = int(os.environ.get("MOLN_CHAOS_KILLS", 40 if os.environ.get("MOLN_LONG") else 4))


@pytest.mark.timeout(600 + 60 * KILLS)
def test_one_guest_whatever_is_killed_on_the_way(pool, vpc):
    print(f"MOLN_CHAOS_SEED={SEED} MOLN_CHAOS_KILLS={KILLS}")
    chance, victims, mover = random.Random(SEED), Victims(pool), vpc.mover
    boot_id = mover.text("cat /proc/sys/kernel/random/boot_id")
    here, outcomes = 0, []
    inbound = Stream(vpc.friend, mover, 7002)
    for turn in range(KILLS):
        pool.cloud.moln("migrate", mover.id, "--to", pool.ids[1 - here], "--no-wait")
        victim = victims.names()[turn % 3] if turn < 3 else chance.choice(victims.names())
        time.sleep(chance.uniform(0, 1.2))
        again = victims.kill(victim, here)
        time.sleep(chance.uniform(0, 0.8))
        again()
        end = wait_for(f"the end of migration {turn}, {victim} killed", lambda: ended(pool, mover))
        outcomes.append((victim, end["State"], end.get("Message", "")))
        print(*outcomes[-1])
        here = 1 - here if end["State"] == "done" else here
        wait_for("one emulator", lambda: len(emulators(mover.id)) == 1, 30)
        wait_for("both nodes", lambda: all(pool.is_connected(n) for n in pool.ids), 60)
        mover.close()
        mover.open()
        assert mover.text("cat /proc/sys/kernel/random/boot_id") == boot_id, outcomes
        inbound.goes_on()
        assert holdings(pool, here)["machines"].count(mover.id) == 1, outcomes
        wait_for("nothing to be left on the other host", lambda: mover.id not in
                 holdings(pool, 1 - here)["machines"], 30)
