"""kill -9 of the control plane, of the agent, and of both, at random moments, while a client
that retries launches and terminates instances.

Afterwards: no instance lost, doubled or left half made; no process, disk, tap, namespace or
cgroup without an owner. MOLN_CHAOS_KILLS sets how many (100 in the long run),
MOLN_CHAOS_SEED replays one: the same kills after the same pauses, and the same client.
"""
import os
import random
import signal
import sys
import threading
import time
import uuid

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cloud import Cloud, wait_for

KILLS = int(os.environ.get("MOLN_CHAOS_KILLS", "5"))
SEED = int(os.environ.get("MOLN_CHAOS_SEED", str(random.SystemRandom().randrange(2**32))))
ALIVE_AT_MOST = 3
ANSWER_S = 120  # A call is tried again for so long.
SETTLE_S = 180


class Client(threading.Thread):
    """Launches and terminates, trying each call again until it is answered."""

    def __init__(self, cloud, image_id, seed):
        super().__init__(daemon=True)
        self.cloud, self.image_id = cloud, image_id
        self.random = random.Random(seed)
        self.launched = {}  # client token -> instance id
        self.ended = set()
        self.retries = 0
        self.stopping = threading.Event()
        self.failure = None

    def call(self, operation, **params):
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                return getattr(self.cloud.client(), operation)(**params)
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                if status < 500 or time.monotonic() > deadline:
                    raise
            except BotoCoreError:
                if time.monotonic() > deadline:
                    raise
            self.retries += 1
            time.sleep(0.1)

    def launch(self):
        token = str(uuid.UUID(int=self.random.getrandbits(128)))
        reply = self.call("run_instances", ImageId=self.image_id, InstanceType="t3.nano",
                          MinCount=1, MaxCount=1, ClientToken=token)
        self.launched[token] = reply["Instances"][0]["InstanceId"]

    def terminate(self):
        victim = self.random.choice(self.alive())
        self.call("terminate_instances", InstanceIds=[victim])
        self.ended.add(victim)

    def alive(self):
        """In the order of their launches, so that a seed picks the same one again."""
        return [i for i in self.launched.values() if i not in self.ended]

    def run(self):
        try:
            while not self.stopping.is_set():
                alive = len(self.alive())
                if alive < ALIVE_AT_MOST and (alive == 0 or self.random.random() < 0.6):
                    self.launch()
                else:
                    self.terminate()
                time.sleep(self.random.uniform(0, 1))
        except Exception as error:  # Shown by the test, in its own thread.
            self.failure = error


# ---- the killing

def kill(cloud, chance):
    """Ends a program, or both, and starts it again, each after a pause of its own."""
    target = chance.choice(["molnd", "node", "both"])
    # Often soon after the last start, when a program is busiest with what it finds.
    time.sleep(chance.choice([chance.uniform(0, 0.5), chance.uniform(0.2, 3)]))
    down_s = chance.uniform(0, 0.5)
    for name in ("molnd", "node"):
        if target in (name, "both"):
            cloud.alive(getattr(cloud, name))  # It must not have ended by itself.
            cloud.stop(getattr(cloud, name), signal.SIGKILL)
    time.sleep(down_s)
    if target in ("molnd", "both"):
        cloud.start_molnd()
    if target in ("node", "both"):
        cloud.start_node()


# ---- the books

def describe(cloud):
    pages = cloud.client().get_paginator("describe_instances").paginate()
    return {i["InstanceId"]: i for page in pages for r in page["Reservations"]
            for i in r["Instances"]}


def check_instances(cloud, client):
    """Each launch made one instance, and each termination ended it."""
    described = describe(cloud)
    wanted = set(client.launched.values())
    assert len(wanted) == len(client.launched), "one instance answers two client tokens"
    assert set(described) == wanted, (
        f"lost: {wanted - set(described)}, nobody's: {set(described) - wanted}")
    states = {i: d["State"]["Name"] for i, d in described.items()}
    assert states == {i: "terminated" if i in client.ended else "running" for i in wanted}
    for token, instance_id in client.launched.items():
        assert described[instance_id]["ClientToken"] == token
    return {i for i, state in states.items() if state == "running"}


def disagreements(cloud, running):
    """What the rows, the kernel and the disk hold that 'running' does not explain."""
    held = cloud.holdings()
    addresses = [i for i in describe(cloud).values() if i["InstanceId"] in running]
    volumes = {v["VolumeId"] for v in cloud.client().describe_volumes()["Volumes"]}
    enis = {n["NetworkInterfaceId"] for i in addresses for n in i["NetworkInterfaces"]}
    networks = 1 if running else 0
    emulators = held.emulators()
    dnsmasqs = held.dnsmasqs()
    metadata = held.metadata_children()
    others = set(held.children()) - set(metadata) - set().union(*emulators.values(), set())
    claims = cloud.rows("SELECT coalesce(sum(machines), 0) AS m, "
                        "coalesce(sum(vcpus), 0) AS v FROM node_claim")[0]
    wanted = {id for (id,) in cloud.rows("SELECT id FROM node_want WHERE kind = 1")}
    checks = [
        ("emulators", {i: len(p) for i, p in emulators.items()}, {i: 1 for i in running}),
        ("cgroups", held.cgroups(), running),
        ("machine folders", held.folder("machines"), running),
        ("volumes", len(volumes), len(running)),
        ("disks", held.disks(), volumes),
        ("half-fetched blobs", {b for b in held.folder("blobs") if "." in b}, set()),
        ("VPC namespaces", len(held.vpcs()), networks),
        ("taps", len(held.taps()), len(running)),
        ("dnsmasq", [len(pids) for pids in dnsmasqs.values()], [1] * networks),
        ("metadata children's parents", list(metadata.values()), [cloud.node.pid]),
        ("other children", {p: held.children().get(p) for p in others}, {}),
        ("machines wanted of the node", wanted, running),
        ("records being taken down",
         cloud.rows("SELECT kind, id FROM node_want WHERE deleted <> 0"), []),
        ("machines seen", {i for (i,) in cloud.rows("SELECT id FROM machine_seen")}, running),
        ("disks seen", {i for (i,) in cloud.rows("SELECT id FROM disk_seen")}, volumes),
        ("interfaces", {i for (i,) in cloud.rows("SELECT id FROM eni")}, enis),
        ("addresses in use", {i for (i,) in cloud.rows("SELECT eni_id FROM address_use")},
         enis),
        ("claims: machines, vCPUs", claims, (len(running), 2 * len(running))),
    ]
    return [f"{what}: {found}, expected {expected}"
            for what, found, expected in checks if found != expected]


def check_books(cloud, client, limit_s=60):
    """What is described, what runs and what lies on disk agree, soon."""
    running = check_instances(cloud, client)
    try:
        wait_for("the books", lambda: not disagreements(cloud, running), limit_s, 0.5)
    except TimeoutError:
        pytest.fail("\n".join(disagreements(cloud, running)) or "they agreed at last, late")
    return running


def settled(cloud):
    return {d["State"]["Name"] for d in describe(cloud).values()} <= {"running", "terminated"}


def check_guests(cloud, running):
    """They got an address and their metadata: the host keys are shown after that."""
    for instance_id in sorted(running):
        def said():
            reply = cloud.client().get_console_output(InstanceId=instance_id, Latest=True)
            return "END SSH HOST KEY KEYS" in reply.get("Output", "") and reply["Output"]
        output = wait_for(f"{instance_id} to show its host keys", said, SETTLE_S, 1)
        assert "the metadata service does not answer" not in output


# ---- the test

def run(cloud, chance):
    client = Client(cloud, cloud.image("micro"), chance.getrandbits(64))
    client.start()
    for _ in range(KILLS):
        kill(cloud, chance)
        if client.failure:
            break
    client.stopping.set()
    client.join(ANSWER_S + 60)
    assert not client.is_alive(), "the client still waits for an answer"
    if client.failure:
        raise client.failure
    wait_for("everything to settle", lambda: settled(cloud), SETTLE_S, 0.5)
    check_guests(cloud, check_books(cloud, client))
    if client.alive():
        cloud.client().terminate_instances(InstanceIds=client.alive())
        client.ended.update(client.alive())
    wait_for("everything to end", lambda: settled(cloud) and not any(
        d["State"]["Name"] == "running" for d in describe(cloud).values()), SETTLE_S, 0.5)
    check_books(cloud, client)
    return f"{KILLS} kills, {len(client.launched)} launched, {client.retries} calls repeated"


@pytest.mark.timeout(900 + 40 * KILLS)
def test_nothing_is_lost_or_doubled_when_programs_are_killed(capsys):
    with capsys.disabled():
        print(f"\nMOLN_CHAOS_SEED={SEED} MOLN_CHAOS_KILLS={KILLS} replays this", flush=True)
    cloud = Cloud()
    try:
        summary = run(cloud, random.Random(SEED))
        with capsys.disabled():
            print(summary)
    except BaseException:
        print(f"molnd: {cloud.log_tail('molnd', 80)}\nmoln-node: "
              f"{cloud.log_tail('moln-node', 80)}")
        raise
    finally:
        cloud.close()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-s"]))
