"""Several control processes on one PostgreSQL: each serves every call, they share the work, and
a node goes to another when its own dies. Nothing is sold twice between them."""
import os
import random
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import botocore.exceptions
import pytest

from cloud import Cloud, Keys, wait_for
from holdings import Holdings
from pool import Pool
from stranger import REFUSE, Stranger


class Processes(Pool):
    """Two control processes, A and B, and one node that knows both and has little room."""

    def __init__(self):
        super().__init__(2, processes=2)
        self.a, self.b = self.clouds
        try:
            self.member = self.node("n").start(self.token("us-east-1a", "--vcpus", "10"))
            self.node_id = wait_for("the node to join", self.connected, 60)
        except BaseException:
            self.close()
            raise

    def connected(self, by=None):
        nodes = (by or self.a).moln("node", "ls", "--json")["Nodes"]
        return next((n["NodeId"] for n in nodes if n.get("Connected")), None)

    def members(self):
        return int(self.server.sql("SELECT count(*) FROM control", "cloud"))

    def holder(self):
        """The process that has the node's stream, and the other."""
        def look():
            link = self.server.sql(
                "SELECT link FROM node_stream JOIN control USING (run)", "cloud")
            return [i for i, port in enumerate(self.ports) if link.endswith(f":{port}")]
        at, = wait_for("the node to have a stream", look, 60)
        return self.clouds[at], self.clouds[1 - at]

    def held(self):
        return Holdings(self.member.state, self.cloud_id())


@pytest.fixture(scope="module")
def two(monkeypatch_module):
    monkeypatch_module.delenv("MOLN_TEST_POSTGRES", raising=False)  # It has its own.
    made = Processes()
    yield made
    made.close()


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def image(two):
    return two.a.image("micro")


def launch(process, image, **more):
    made = process.client().run_instances(
        ImageId=image, InstanceType="t3.nano", **{"MinCount": 1, "MaxCount": 1, **more})
    return [i["InstanceId"] for i in made["Instances"]]


def test_what_one_process_acknowledged_the_other_reads(two):
    a, b = two.a.client(), two.b.client(keys=two.a.keys)
    for i in range(40):
        writer, reader = (a, b) if i % 2 else (b, a)
        name = f"there-and-back-{i}"
        writer.create_key_pair(KeyName=name)
        assert reader.describe_key_pairs(KeyNames=[name])["KeyPairs"]
        reader.delete_key_pair(KeyName=name)
        with pytest.raises(botocore.exceptions.ClientError):
            writer.describe_key_pairs(KeyNames=[name])


def test_a_key_that_one_process_refuses_is_refused_by_the_other(two):
    made = two.a.moln("account", "create", "passing", "--json")
    keys = Keys(made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"])
    assert two.b.client(keys=keys).describe_vpcs()["Vpcs"]
    two.a.moln("account", "disable", made["Account"]["AccountId"])

    def refused():
        try:
            two.b.client(keys=keys).describe_vpcs()
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return None
    wait_for("the other process to refuse it", refused, 10)


def test_two_that_launch_at_once_never_oversell_a_node_or_an_address(two, image):
    ec2 = two.a.client()
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    small = ec2.create_subnet(VpcId=vpc, CidrBlock="172.31.255.0/28")["Subnet"]["SubnetId"]

    def one(process):
        try:
            return process.client(keys=two.a.keys).create_network_interface(
                SubnetId=small)["NetworkInterface"]
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(one, [two.a, two.b] * 10))
    made = [g for g in got if isinstance(g, dict)]
    assert len(made) == 11  # A /28 less the five that AWS keeps.
    assert len({m["PrivateIpAddress"] for m in made}) == 11
    assert {g for g in got if isinstance(g, str)} == {"InsufficientFreeAddressesInSubnet"}
    for m in made:
        two.b.client(keys=two.a.keys).delete_network_interface(
            NetworkInterfaceId=m["NetworkInterfaceId"])


def test_two_that_launch_at_once_fill_a_node_and_never_oversell_it(two, image):
    seed = int(os.environ.get("MOLN_SEED", time.time_ns() % 1000000))
    print(f"MOLN_SEED={seed}")
    chance = random.Random(seed)
    clients = [p.client(keys=two.a.keys) for p in (two.a, two.b)]

    def node():
        return next(n for n in two.b.moln("node", "ls", "--json")["Nodes"]
                    if n["NodeId"] == two.node_id)

    def one(call):
        client, most = call
        try:
            made = client.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1,
                                        MaxCount=most)
            return [i["InstanceId"] for i in made["Instances"]]
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
    before = node()
    room = (before["CapacityVcpus"] - before.get("ClaimedVcpus", 0)) // 2
    assert room > 1
    calls = [(chance.choice(clients), chance.choice([1, 1, 2, 3])) for _ in range(6 * room)]
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(one, calls))
    made = [i for g in got if isinstance(g, list) for i in g]
    try:
        assert len(made) == len(set(made)) == room, got
        assert {g for g in got if isinstance(g, str)} == {"InsufficientInstanceCapacity"}
        assert node()["ClaimedVcpus"] == before["CapacityVcpus"]
    finally:
        two.a.client().terminate_instances(InstanceIds=made)
    for guest in made:
        two.a.wait_state(guest, "terminated")
    assert node().get("ClaimedVcpus", 0) == before.get("ClaimedVcpus", 0)


def control_processes(process):
    return process.moln("control", "ls", "--json")["ControlProcesses"]


def test_nodes_are_shared_out_evenly_when_a_process_comes_back(two):
    def even():
        return [p["Nodes"] for p in control_processes(two.a)] == [1, 1]
    another = two.node("m", host=1).start(two.token())
    try:
        another.id()
        wait_for("each process to have a node", even, 60)
        two.b.stop(two.b.molnd, signal.SIGKILL)
        wait_for("one process to have both", lambda: [
            p["Nodes"] for p in control_processes(two.a)] == [2], 60)
        two.b.start_molnd()
        wait_for("each process to have a node again", even, 60)
        a, b = control_processes(two.a)
        assert {a["Address"], b["Address"]} == {f"127.0.0.1:{port}" for port in two.ports}
        loops = a["Loops"] + b["Loops"]
        assert len(loops) == len(set(loops)) and "janitor" in loops
        assert a["ControlId"] in two.b.moln("control", "ls").stdout
    finally:
        another.close()
        two.nodes.remove(another)


def test_guests_are_reached_through_the_process_without_their_stream(two, image):
    with_stream, other = two.holder()
    path = other.state / "keys" / "two.pem"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    other.client(keys=two.a.keys).import_key_pair(
        KeyName="two", PublicKeyMaterial=path.with_suffix(".pem.pub").read_bytes())
    guest = launch(with_stream, image, KeyName="two")[0]
    other.wait_state(guest, "running")

    def console(process):
        return process.client().get_console_output(
            InstanceId=guest, Latest=True).get("Output", "")
    wait_for("the guest's host keys", lambda: "END SSH HOST KEY KEYS" in console(other), 60)
    earlier = console(other)  # It may have gone on when the next one looks.
    assert console(with_stream).startswith(earlier[:1000])
    assert other.ssh(guest, "echo $((6 * 7))").strip() == "42"
    # Bytes, both ways, more than a window of the link holds.
    size = 3 << 20
    assert other.ssh(guest, f"head -c {size} /dev/zero | wc -c").strip() == str(size)
    assert len(other.ssh(guest, f"head -c {size} /dev/zero | tr '\\0' x")) == size
    two.a.client().terminate_instances(InstanceIds=[guest])
    two.a.wait_state(guest, "terminated")


def test_a_copied_certificate_is_refused_by_the_other_process_too(two):
    with_stream, other = two.holder()
    for port in two.ports:
        with Stranger(port, two.member.folder) as stranger:
            kind, said = stranger.hello()
            assert kind == REFUSE and "another agent" in said[2], said
    assert two.connected(other) == two.node_id and two.holder()[0] is with_stream


def test_a_node_does_not_pass_for_a_control_process(two, tmp_path):
    """Nor does a name that the cloud's CA did not sign."""
    shutil.copy(two.member.folder / "key.pem", tmp_path)
    subprocess.run(["openssl", "req", "-x509", "-key", tmp_path / "key.pem", "-subj",
                    "/CN=control-0123456789abcdef", "-days", "1", "-out",
                    tmp_path / "cert.pem"], check=True, capture_output=True)
    with Stranger(two.port, tmp_path) as stranger:
        kind, said = stranger.hello()
        assert kind == REFUSE, said


def test_clients_and_nodes_go_on_when_a_process_is_killed(two, image):
    first, other = two.holder()
    keys = two.a.keys
    here = launch(two.a, image)[0]
    two.a.wait_state(here, "running")

    first.stop(first.molnd, signal.SIGKILL)
    client = other.client(keys=keys)
    assert client.describe_instances(InstanceIds=[here])
    after = client.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1,
                                 MaxCount=1)["Instances"][0]["InstanceId"]
    other.wait_state(after, "running", client=client)
    client.terminate_instances(InstanceIds=[here])
    other.wait_state(here, "terminated", client=client)
    assert two.connected(other) == two.node_id

    first.start_molnd()
    again = first.client(keys=keys)
    assert again.describe_instances(InstanceIds=[after])
    again.terminate_instances(InstanceIds=[after])
    first.wait_state(after, "terminated", client=again)
    wait_for("both to be members", lambda: two.members() == 2, 30)
    wait_for("the guests' kernel objects to go", lambda: not two.held().emulators(), 30)


def test_a_process_that_was_stopped_comes_back_without_a_say_in_what_went_on(two, image):
    stopped, other = two.holder()
    client = other.client(keys=two.a.keys)
    stopped.molnd.send_signal(signal.SIGSTOP)
    try:
        wait_for("the node to go to the other process",
                 lambda: two.connected(other) and two.holder()[0] is other, 90)
        wait_for("the lease to run out", lambda: two.members() == 1, 30)
        guest = client.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=1,
                                     MaxCount=1)["Instances"][0]["InstanceId"]
        other.wait_state(guest, "running", client=client)
    finally:
        stopped.molnd.send_signal(signal.SIGCONT)
    again = stopped.client(keys=two.a.keys)
    assert again.describe_instances(InstanceIds=[guest])
    wait_for("both to be members", lambda: two.members() == 2, 30)
    assert two.holder()[0] is other  # What it had of the node is no stream any more.
    again.terminate_instances(InstanceIds=[guest])
    stopped.wait_state(guest, "terminated", client=again)


def test_the_database_may_go_away_and_come_back(two):
    client = two.a.client()
    two.server.stop("immediate")

    def code():
        try:
            client.describe_vpcs()
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"]
        return "served"
    assert code() == "Unavailable"
    two.server.start()
    wait_for("calls to be served", lambda: code() == "served", 30)
    wait_for("the node to be connected", two.connected, 60)


def test_a_cloud_moves_from_sqlite_to_postgresql_whole(two):
    url = two.server.database("moved")
    cloud = Cloud(node=False)
    try:
        ec2, keys = cloud.client(), cloud.keys
        pair = ec2.create_key_pair(KeyName="kept", KeyType="ed25519")
        ec2.create_launch_template(LaunchTemplateName="kept",
                                   LaunchTemplateData={"UserData": "c2VjcmV0"})

        def seen(client):
            return [client.describe_vpcs()["Vpcs"],
                    client.describe_security_groups()["SecurityGroups"],
                    client.describe_route_tables()["RouteTables"]]
        before = seen(ec2)
        source = f"sqlite:{cloud.state}/control/moln.db"

        def copy(*words):
            return cloud.moln("store", "copy", source, url, *words, check=False)
        running = copy()
        assert running.returncode and "in use" in running.stderr
        cloud.stop(cloud.molnd)
        (cloud.dir / "other.key").write_text("0" * 64)
        (cloud.dir / "other.key").chmod(0o644)
        wrong = copy("--master-key", cloud.dir / "other.key")
        assert wrong.returncode and "master key" in wrong.stderr
        done = copy()
        assert done.returncode == 0, done.stderr
        assert re.search(r"^access_key +2 ", done.stdout, re.M), done.stdout
        again = copy()
        assert again.returncode and "has rows already" in again.stderr
        assert two.server.sql("SELECT count(*) FROM access_key", "moved") == "2"

        cloud.daemon_args += ["--store", url]
        cloud.start_molnd()
        ec2 = cloud.client(keys=keys)
        assert seen(ec2) == before
        assert ec2.describe_key_pairs()["KeyPairs"][0]["KeyFingerprint"] == pair["KeyFingerprint"]
        data = ec2.describe_launch_template_versions(LaunchTemplateName="kept")
        assert data["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"] == "c2VjcmV0"
    finally:
        cloud.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_secrets_are_sealed_under_a_new_key(two, kind):
    where = ["--store", two.server.database("rekeyed")] if kind == "postgresql" else []
    cloud = Cloud(*where, node=False)
    key = cloud.state / "control" / "master.key"
    following = key.with_name("master.key.next")

    def rekey():
        return cloud.moln("store", "rekey", *where, check=False)
    try:
        cloud.client().create_launch_template(LaunchTemplateName="kept",
                                              LaunchTemplateData={"UserData": "c2VjcmV0"})
        before = key.read_text()
        running = rekey()
        assert running.returncode and re.search("in use|serves these rows", running.stderr)
        assert key.read_text() == before and not following.exists()
        cloud.stop(cloud.molnd)
        done = rekey()
        assert done.returncode == 0, done.stderr

        after = key.read_text()
        key.rename(following)  # As if it had been killed between its two halves.
        key.write_text(before)
        with pytest.raises(RuntimeError, match="moln store rekey.*run it again"):
            cloud.start_molnd()
        again = rekey()
        assert again.returncode == 0, again.stderr
        assert key.read_text() == after != before and not following.exists()
        cloud.start_molnd()
        data = cloud.client().describe_launch_template_versions(LaunchTemplateName="kept")
        assert data["LaunchTemplateVersions"][0]["LaunchTemplateData"]["UserData"] == "c2VjcmV0"
    finally:
        cloud.close()
