"""What goes wrong on a host: killed emulators, panics, a full disk, an agent that dies."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from cloud import Cloud, wait_for
from seen import emulator_of, events_of

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
GRACE_S = 60  # What the agent gives a guest that was asked to shut down.


class Guest:
    """One instance, and what a test asks of it."""

    def __init__(self, cloud, instance_id):
        self.cloud, self.id = cloud, instance_id

    def sh(self, command, **more):
        return self.cloud.ssh(self.id, command, **more).strip()

    @property
    def pid(self):
        return emulator_of(self.id)

    def boot_id(self):
        return self.sh(BOOT_ID)

    def up_again(self, boot_id, limit_s=120):
        """Waits for another boot; all the while the API says 'running'."""
        def look():
            assert self.cloud.instance(self.id)["State"]["Name"] == "running"
            now = self.sh(BOOT_ID, check=False, limit_s=1)
            return now if now and now != boot_id else None
        return wait_for(f"another boot of {self.id}", look, limit_s)

    def told(self, kind, count=1, limit_s=30):
        """The messages of 'kind' that the node told about it, once there are 'count'."""
        def look():
            found = events_of(self.cloud, self.id, kind)
            return found if len(found) >= count else None
        return wait_for(f"{count} events {kind} of {self.id}", look, limit_s)


@pytest.fixture(scope="module")
def stubborn(cloud, ec2, micro, key):
    """A guest that was told to stop and does not listen; (guest, when)."""
    instance_id = ec2.run_instances(ImageId=micro, InstanceType="t3.nano", KeyName=key,
                                    MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    cloud.wait_state(instance_id, "running")
    deafen(cloud, instance_id)
    ec2.stop_instances(InstanceIds=[instance_id])
    yield Guest(cloud, instance_id), time.monotonic()
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def deafen(cloud, instance_id):
    cloud.ssh(instance_id, "kill -STOP $(pidof acpid)")


@pytest.fixture(scope="module")
def guest(cloud, ec2, micro, key, stubborn):
    instance_id = ec2.run_instances(ImageId=micro, InstanceType="t3.nano", KeyName=key,
                                    MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    cloud.wait_state(instance_id, "running")
    made = Guest(cloud, instance_id)
    made.sh("echo kept > /root/kept && sync")
    yield made
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def test_killed_emulator_is_started_again_and_told(guest):
    boot_id, pid = guest.boot_id(), guest.pid
    os.kill(pid, signal.SIGKILL)
    guest.up_again(boot_id)
    assert guest.pid != pid
    assert guest.sh("cat /root/kept") == "kept"
    assert "signal 9" in guest.told("crash")[-1]


def test_guest_that_reboots_itself_keeps_running(guest):
    boot_id, pid = guest.boot_id(), guest.pid
    guest.sh("(sleep 1; reboot) >/dev/null 2>&1 &")
    guest.up_again(boot_id)
    assert guest.pid == pid, "a reboot is the same machine"
    assert guest.sh("cat /root/kept") == "kept"


def test_panicked_guest_is_started_again_and_told(guest):
    boot_id, pid = guest.boot_id(), guest.pid
    crashes = len(events_of(guest.cloud, guest.id, "crash"))
    guest.sh("sync; (sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    guest.up_again(boot_id)
    assert guest.pid != pid
    assert guest.sh("cat /root/kept") == "kept"
    assert "guest_panic" in guest.told("crash", crashes + 1)[-1]


def test_force_stops_at_once_a_guest_that_does_not_listen(cloud, ec2, guest):
    deafen(cloud, guest.id)
    began = time.monotonic()
    ec2.stop_instances(InstanceIds=[guest.id], Force=True)
    cloud.wait_state(guest.id, "stopped")
    assert time.monotonic() - began < GRACE_S / 2
    ec2.start_instances(InstanceIds=[guest.id])
    cloud.wait_state(guest.id, "running")
    assert guest.sh("cat /root/kept") == "kept"


# ---- a pool that fills up

@pytest.fixture
def small_pool():
    """A cloud whose node's folder is 320 MiB."""
    cloud = Cloud(node=False)
    folder = cloud.state / "node"
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m,mode=700", "pool", folder],
                   check=True)
    try:
        cloud.start_node()
        yield cloud
    finally:
        # A mount point cannot be removed: the purge takes what is in it, then it goes.
        try:
            cloud.stop(cloud.node)
            subprocess.run([cloud.build / "moln-node", "--state", cloud.state, "--power-off"],
                           env=cloud.env, check=True)
            assert cloud.holdings().everything() == []
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
            cloud.close()


def test_full_pool_pauses_the_writer_and_corrupts_nothing(small_pool):
    cloud = small_pool
    ec2 = cloud.client()
    pair = ec2.create_key_pair(KeyName="full", KeyType="ed25519")
    keys = cloud.state / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    (keys / "full.pem").touch(0o600)
    (keys / "full.pem").write_text(pair["KeyMaterial"])
    guest = Guest(cloud, ec2.run_instances(
        ImageId=cloud.image(), InstanceType="t3.nano", KeyName="full", MinCount=1,
        MaxCount=1)["Instances"][0]["InstanceId"])
    cloud.wait_state(guest.id, "running")
    # What the guest has not written yet would fill the pool before the writer begins.
    guest.sh("dd if=/dev/urandom of=/tmp/want bs=1M count=64 2>/dev/null; sync")
    want = guest.sh("sha256sum </tmp/want")

    filler = cloud.state / "node" / "filler"
    stat = os.statvfs(filler.parent)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - (16 << 20))
    guest.sh("(cat /tmp/want >/root/got; sync; touch /run/written) >/dev/null 2>&1 &")
    guest.told("io_pause", limit_s=60)
    running = cloud.instance(guest.id)
    assert running["State"]["Name"] == "running"

    def system_status():
        status = ec2.describe_instance_status(InstanceIds=[guest.id])["InstanceStatuses"][0]
        return status["SystemStatus"]["Status"]
    wait_for("the impaired status", lambda: system_status() == "impaired", 30)
    time.sleep(6)  # It tries no room that is not there.
    assert system_status() == "impaired" and not events_of(cloud, guest.id, "io_resume")

    filler.unlink()
    guest.told("io_resume", limit_s=60)
    wait_for("the writer", lambda: guest.sh("ls /run/written", check=False), 60)
    guest.sh("echo 3 >/proc/sys/vm/drop_caches")
    assert guest.sh("sha256sum </root/got") == want
    assert not re.search("error|corrupt", guest.sh("dmesg | grep -i ext4 || true"), re.I)
    wait_for("the good status", lambda: system_status() == "ok", 30)

    ec2.stop_instances(InstanceIds=[guest.id])
    cloud.wait_state(guest.id, "stopped")
    for disk in pathlib.Path(cloud.state / "node" / "pool").rglob("*.qcow2"):
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", disk], check=True)
    ec2.terminate_instances(InstanceIds=[guest.id])
    cloud.wait_state(guest.id, "terminated")


# ---- an agent that goes

# After all that went on meanwhile, and before the agent is another one, which would give the
# guest its time anew.
def test_deaf_guest_is_stopped_hard_after_the_grace(cloud, ec2, stubborn):
    deaf, asked_at = stubborn
    cloud.wait_state(deaf.id, "stopped", GRACE_S + 60)
    assert time.monotonic() - asked_at >= GRACE_S - 5
    assert deaf.pid is None


def test_guest_goes_on_without_its_agent(cloud, ec2, guest):
    def session():
        return guest.sh("cat /run/imds.token")

    boot_id, pid, token = guest.boot_id(), guest.pid, session()
    assert token and guest.sh("/usr/lib/micro/imds meta-data/instance-id") == guest.id
    # 80 KiB and a last line on the console, while nobody is there to read them.
    guest.sh("(sleep 2; i=0; while [ $i -lt 1280 ]; do printf '%063d\\n' $i; i=$((i+1)); done;"
             " echo said-while-alone) >/dev/ttyS0 2>/dev/null </dev/null &")
    cloud.stop(cloud.node, signal.SIGKILL)
    time.sleep(4)
    assert guest.pid == pid
    cloud.start_node()

    def console():
        reply = ec2.get_console_output(InstanceId=guest.id, Latest=True)
        return reply["Output"] if "said-while-alone" in reply.get("Output", "") else None
    kept = wait_for("the console", lambda: attempt(console), 60)
    assert 60 << 10 < len(kept.encode()) <= 64 << 10
    assert guest.boot_id() == boot_id and guest.pid == pid
    assert guest.sh("/usr/lib/micro/imds meta-data/instance-id") == guest.id
    assert session() == token, "the session that was opened before still serves"
    assert cloud.instance(guest.id)["State"]["Name"] == "running"


def attempt(call):
    """call(), or None while the node is away."""
    try:
        return call()
    except Exception:  # noqa: BLE001
        return None


def test_power_off_leaves_nothing_running_and_the_next_start_all(cloud, guest):
    boot_id = guest.boot_id()
    done = subprocess.run([cloud.build / "moln-node", "--state", cloud.state, "--power-off"],
                          env=cloud.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    cloud.node.wait(10)
    assert cloud.holdings().everything() == []
    assert guest.pid is None
    cloud.start_node()
    guest.up_again(boot_id)
    assert guest.sh("cat /root/kept") == "kept"
