"""A second host joins over mutual TLS: with a good token and no other; it comes back with
its certificate and no other; its guests outlive its agent and its link."""
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud import wait_for
from holdings import Holdings
from pool import Pool
from stranger import REFUSE, WELCOME, Stranger

CODE, MESSAGE = 1, 2  # Of a refusal.


@pytest.fixture(scope="module")
def pool():
    made = Pool()
    yield made
    made.close()


@pytest.fixture(scope="module")
def member(pool):
    """A node that has joined."""
    node = pool.node("n2").start(pool.token())
    node.said("connected to the control plane")
    return node


@pytest.fixture
def idle(pool, member):
    """Its agent is away; the certificate is free for a test to use."""
    member.stop()
    wait_for("its stream to end", lambda: not pool.is_connected(member.id()), 20)
    yield member
    member.start()
    wait_for("the node to be back", lambda: pool.is_connected(member.id()), 60)


def refused(stranger, code, **hello):
    """Says hello; the reason of the refusal."""
    kind, said = stranger.hello(**hello)
    assert kind == REFUSE and said[CODE] == code, said
    stranger.ended_after()
    return said[MESSAGE]


# ---- joining, and what a node is for

def test_guests_of_a_joined_node_outlive_its_agent_and_its_link(pool, member):
    cloud, ec2 = pool.cloud, pool.cloud.client()
    image_id = cloud.image("micro")
    instance_id = ec2.run_instances(ImageId=image_id, InstanceType="t3.nano", MinCount=1,
                                    MaxCount=1)["Instances"][0]["InstanceId"]
    cloud.wait_state(instance_id, "running")
    held = Holdings(member.state, pool.cloud_id())
    emulator = held.emulators()
    assert set(emulator) == {instance_id}

    # The link is cut, and its agent is killed and comes back before the link does.
    pool.forward.cut()
    wait_for("the cut to be seen", lambda: not pool.is_connected(member.id()), 30)
    member.stop(signal.SIGKILL)
    assert held.emulators() == emulator
    member.start()
    member.said(f"machine {instance_id}: adopted")
    assert cloud.instance(instance_id)["State"]["Name"] == "running"
    pool.forward.heal()
    wait_for("the node to be back", lambda: pool.is_connected(member.id()), 60)
    assert held.emulators() == emulator

    # It got an address and its metadata, and its console is read over the link.
    def said():
        output = ec2.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")
        return "END SSH HOST KEY KEYS" in output and output
    output = wait_for("the guest's host keys", said, 120, 0.5)
    assert "the metadata service does not answer" not in output

    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")
    wait_for("its kernel objects to go",
             lambda: not held.emulators() and not held.cgroups() and not held.disks(), 30)


# ---- tokens

def test_token_serves_once(pool, member):
    token = (pool.cloud.dir / "n2.token").read_text().strip()
    before = pool.listed()
    thief = pool.node("thief").start(token)
    thief.said("used already")
    assert not thief.joined() and pool.listed().keys() == before.keys()


def test_token_that_expired_is_refused(pool):
    token, cloud = pool.token(), pool.cloud
    token_id = "tok-" + token.split("-")[2]
    # A control plane keeps its rows in memory: they age while it is down.
    cloud.stop(cloud.molnd)
    with sqlite3.connect(pool.database()) as db:
        aged = db.execute("UPDATE node_token SET expires_at = ? WHERE id = ?",
                          (time.time_ns() - 10**9, token_id))
        assert aged.rowcount == 1
    db.close()
    cloud.start_molnd()
    late = pool.node("late").start(token)
    late.said("has expired")
    assert not late.joined()


@pytest.mark.parametrize("name,spoil", [
    ("short", lambda t: t[:-1]),
    ("wrong-secret", lambda t: t[:-12] + ("0" if t[-12] != "0" else "1") + t[-11:]),
    ("other-kind", lambda t: t.replace("moln1-", "moln9-")),
])
def test_mangled_token_is_refused_before_anything_is_sent(pool, name, spoil):
    node = pool.node(name).start(spoil(pool.token()))
    node.said("token")
    assert node.process.wait(30) != 0, "an agent that can never join goes on"
    assert "control plane" not in node.log.read_text()


def test_node_and_cloud_that_are_strangers_refuse_each_other(pool, member):
    other = Pool()
    try:
        # A token of another cloud: its node sees the wrong CA, and sends nothing.
        node = pool.node("foreign").start(other.token())
        node.said("CA")
        assert not node.joined()
        # A node folder of another cloud: the node refuses, and so does the control plane.
        native = other.node("native").start(other.token())
        native.said("connected to the control plane")
        native.stop()
        copy = pool.node("copy-of-native")
        shutil.copytree(native.state, copy.state)
        copy.start()
        copy.said("certificate|CA")
        copy.stop()
        with Stranger(pool.port, native.folder) as stranger:
            refused(stranger, "certificate")
    finally:
        other.close()


# ---- certificates

def test_hello_needs_a_certificate_of_its_own(pool, idle):
    with Stranger(pool.port) as stranger:
        refused(stranger, "certificate")
    with Stranger(pool.port, idle.folder) as stranger:
        refused(stranger, "certificate", node_id="node-0123456789abcdef0")
    with Stranger(pool.port, idle.folder) as stranger:
        refused(stranger, "unknown", cloud_id="00000000")


def test_certificate_signed_by_oneself_is_refused(pool, idle, tmp_path):
    subject = subprocess.run(
        ["openssl", "x509", "-in", idle.folder / "cert.pem", "-noout", "-subject", "-nameopt",
         "compat"], check=True, capture_output=True, text=True).stdout.split("=", 1)[1].strip()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj",
                    subject if subject.startswith("/") else f"/{subject}", "-keyout",
                    tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
                   check=True, capture_output=True)
    with Stranger(pool.port, tmp_path) as stranger:
        refused(stranger, "certificate")


def test_copied_folder_is_refused_while_its_owner_is_here(pool, member):
    thief = pool.node("n2-copied")
    shutil.copytree(member.state, thief.state)
    (thief.folder / "moln-node.pid").unlink()
    with Stranger(pool.port, thief.folder) as stranger:
        assert "another agent" in refused(stranger, "certificate")
    assert pool.is_connected(member.id())
    events = pool.cloud.moln("node", "events", "--json")["Events"]
    assert any(e["Kind"] == "certificate" for e in events)


@pytest.mark.parametrize("late_s", [31, -31, 10**9])
def test_clock_more_than_30_s_off_is_refused(pool, idle, late_s):
    with Stranger(pool.port, idle.folder) as stranger:
        assert "30 s" in refused(stranger, "clock", late_s=late_s)


def test_clock_less_than_30_s_off_is_welcome(pool, idle):
    for late_s in (25, -25):
        with Stranger(pool.port, idle.folder) as stranger:
            assert stranger.hello(late_s=late_s)[0] == WELCOME
        wait_for("its end", lambda: not pool.is_connected(idle.id()), 20)


# ---- what a node may say

MACHINE, NODE, EVENT = 1, 32, 33  # Kinds of records.


def test_what_a_node_says_fills_nothing(pool, idle):
    """Texts are cut; of more events than a host can have had, some are kept, and that is told."""
    with Stranger(pool.port, idle.folder) as stranger:
        assert stranger.hello()[0] == WELCOME
        huge = "é" * 700_000
        stranger.report(1, EVENT, {1: huge, 2: huge[:9], 3: "m" * 2_000_000, 5: "warn"})
        stranger.report(2, NODE, {1: "b", 2: huge, 3: 1, 7: huge})
        stranger.acknowledged(2)
        for first in range(3, 2103, 500):
            for sequence in range(first, first + 500):
                stranger.report(sequence, EVENT, {1: "crash", 2: "x", 3: "y", 5: "warn"})
            stranger.acknowledged(first + 499)
    node = f"WHERE node_id = '{idle.id()}'"
    count, longest = pool.cloud.rows(
        f"SELECT count(*) AS n, max(length(message)) AS l FROM node_event {node}")[0]
    assert 2000 <= count <= 2010 and longest <= 1024
    assert pool.cloud.rows(
        f"SELECT count(*) AS n FROM node_event {node} AND kind = 'flood'")[0][0] == 1
    seen, = pool.cloud.rows(
        f"SELECT max(length(version)) AS l FROM node_seen WHERE id = '{idle.id()}'")[0]
    assert seen <= 1024


def test_lies_change_nothing_and_operators_read_of_them(pool, member):
    """More than its ceiling, other hardware than was accepted, another host's machine, and what a
    revoked node asks for: each is refused, and has its line in 'moln events'."""
    cloud, ec2 = pool.cloud, pool.cloud.client()
    held = Holdings(member.state, pool.cloud_id())
    liar = pool.node("n5").start(pool.token("us-east-1a", "--vcpus", "1", "--memory", "1"))
    node_id = liar.id()
    wait_for("its first report", lambda: "Vcpus" in pool.listed()[node_id], 30)
    liar.stop()
    wait_for("its stream to end", lambda: not pool.is_connected(node_id), 20)
    before = pool.listed()[node_id]
    # Now that its agent has ended: two on one host would meet in the names that they give.
    instance_id = ec2.run_instances(ImageId=cloud.image("micro"), InstanceType="t3.nano",
                                    MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    cloud.wait_state(instance_id, "running")

    def events():
        return {e["Kind"]: e["Message"]
                for e in cloud.moln("events", node_id, "--json")["Events"]}
    with Stranger(pool.port, liar.folder) as stranger:
        assert stranger.hello()[0] == WELCOME
        stranger.report(1, MACHINE, {1: instance_id, 2: 1, 3: "stopped"})
        stranger.report(2, NODE, {1: "b", 2: "1", 3: 640, 4: 1 << 40, 7: "tcg", 8: "another"})
        stranger.acknowledged(2)
    assert cloud.instance(instance_id)["State"]["Name"] == "running"
    after = pool.listed()[node_id]
    assert after["CapacityVcpus"] == before["CapacityVcpus"] == 1
    assert after["CapacityMemoryBytes"] == before["CapacityMemoryBytes"]
    told = events()
    assert "640" in told["ceiling"] and "640" in told["quarantine"]
    assert instance_id in told["foreign-report"] and member.id() in told["foreign-report"]
    assert after["Quarantine"]
    cloud.moln("node", "revoke", node_id)
    with Stranger(pool.port, liar.folder) as stranger:
        refused(stranger, "revoked")
    assert events()["revoked"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")
    wait_for("its kernel objects to go", lambda: not (
        held.emulators() or held.cgroups() or held.dnsmasqs()), 60)


# ---- revoking

def test_revoked_node_is_cut_off_within_a_second_and_stays_out(pool):
    node = pool.node("n4").start(pool.token())
    node_id = node.id()
    node.stop()
    wait_for("its stream to end", lambda: not pool.is_connected(node_id), 20)
    with Stranger(pool.port, node.folder) as stranger:
        assert stranger.hello()[0] == WELCOME
        wait_for("its welcome", lambda: pool.is_connected(node_id), 20)
        with ThreadPoolExecutor(1) as reader:
            end = reader.submit(lambda: (stranger.ended_after(), time.monotonic())[1])
            pool.cloud.moln("node", "revoke", node_id)
            revoked_at = time.monotonic()
            assert end.result(30) - revoked_at < 1
    with Stranger(pool.port, node.folder) as stranger:
        refused(stranger, "revoked")
    node.start()
    node.said("was revoked")
    assert not pool.is_connected(node_id)


def test_a_node_names_no_address_to_send_others_to(pool, idle):
    """Other hosts connect to its underlay address: one that is their own, or near them only, is not
    taken, and one that was is forgotten."""
    with Stranger(pool.port, idle.folder) as stranger:
        assert stranger.hello()[0] == WELCOME
        said = ["192.0.2.7", "127.0.0.1", "192.0.2.7", "169.254.169.254", "224.0.0.1", "a.host"]
        for sequence, address in enumerate(said, 10_000):
            stranger.report(sequence, NODE, {1: "b", 2: "1", 3: 1, 12: address})
            stranger.acknowledged(sequence)
            told = pool.listed()[idle.id()].get("UnderlayAddress")
            assert told == (address if address.startswith("192.") else None)
