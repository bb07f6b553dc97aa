"""A guest that writes its memory faster than the network carries it moves by post-copy: it goes on at
the receiver, and its memory follows. A cut on the way there makes it wait, and the rest follows later."""
import os
import pathlib

import pytest

from cloud import wait_for
from guest import Guest
from pool import Pool
from test_migrate import emulators, ended

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ALLOWED = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")
LIMIT_MBIT = "120"


@pytest.fixture(scope="module")
def pool():
    before = ALLOWED.read_text()
    ALLOWED.write_text("1")
    made = Pool(2)
    try:
        for n in (0, 1):
            made.node(f"h{n}", n).start(made.token())
        made.ids = [node.id() for node in made.nodes]
        yield made
    finally:
        made.close()
        ALLOWED.write_text(before)


@pytest.fixture
def guest(pool):
    pool.cloud.image("micro")
    ec2 = pool.cloud.client()
    pool.cloud.moln("node", "cordon", pool.ids[1])
    made = ec2.run_instances(ImageId=pool.cloud.image("micro"), InstanceType="t3.nano", MinCount=1,
                             MaxCount=1, KeyName=pool.key(ec2))["Instances"][0]["InstanceId"]
    found = Guest(pool.cloud, pool.cloud.wait_state(made, "running"))
    pool.cloud.moln("node", "uncordon", pool.ids[1])
    yield found.open()
    found.close()
    ec2.terminate_instances(InstanceIds=[made])
    pool.cloud.wait_state(made, "terminated")


# Memory that is written all the while, and each second a line that tells it is whole.
WRITER = """
mkdir -p /root/m && mount -t tmpfs none /root/m
cat >/root/writer <<'END'
n=0
dd if=/dev/urandom of=/root/m/seed bs=1M count=8 2>/dev/null
while :; do
    n=$((n+1))
    for i in 0 1 2 3 4; do cp /root/m/seed /root/m/$i; cmp /root/m/seed /root/m/$i || echo BAD; done
    echo $n >>/root/said
done
END
(sh /root/writer >>/root/said 2>&1) &
"""


def test_memory_follows_and_waits_out_a_cut(pool, guest):
    boot_id = guest.text("cat /proc/sys/kernel/random/boot_id")
    guest.text(WRITER)
    begun = pool.cloud.moln("migrate", guest.id, "--to", pool.ids[1], "--post-copy", "--mbit",
                            LIMIT_MBIT, "--no-wait", "--json")["Migration"]["MigrationId"]

    def state():
        return pool.cloud.moln("migrate", "show", begun, "--json")["Migration"]["State"]
    wait_for("its memory to follow", lambda: state() == "following", pause_s=0.05)
    assert len(emulators(guest.id)) == 2  # The giver's holds what has not come yet.
    link = ("ip", "link", "set", "u2")
    pool.underlay.switch.run(*link, "down")
    wait_for("the cut to be noticed", lambda: state() == "interrupted", 60)
    with pytest.raises(AssertionError, match="too late"):
        pool.cloud.moln("migrate", "cancel", begun)
    pool.underlay.switch.run(*link, "up")
    done = wait_for("its end", lambda: ended(pool, guest))
    assert done["State"] == "done" and done["PostCopy"], done
    assert len(emulators(guest.id)) == 1
    guest.close()
    guest.open()
    assert guest.text("cat /proc/sys/kernel/random/boot_id") == boot_id
    said = guest.text("cat /root/said").split()
    assert said == [str(n + 1) for n in range(len(said))], said  # Never BAD, never twice.
    wait_for("it to go on", lambda: len(guest.text("cat /root/said").split()) > len(said))
