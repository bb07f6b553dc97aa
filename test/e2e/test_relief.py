"""A host whose guests wait for memory helps itself, and in the end gives one away: its owner notices
nothing, and the events say why. The pressure is the kernel's own word, recorded, in place of
what /proc says on the first host."""
import os

import pytest

from cloud import wait_for
from pool import Pool
from test_migrate import emulators, holdings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LOUD = ("some avg10=38.54 avg60=21.36 avg300=6.12 total=48012345\n"
        "full avg10=12.20 avg60=8.73 avg300=2.31 total=21054321\n")
QUIET = ("some avg10=0.00 avg60=0.00 avg300=0.00 total=48012345\n"
         "full avg10=0.00 avg60=0.00 avg300=0.00 total=21054321\n")


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    try:
        made.pressure = made.cloud.dir / "pressure"
        made.pressure.write_text(QUIET)
        made.hosts[0].run("mount", "--bind", made.pressure, "/proc/pressure/memory")
        made.join()
        yield made
    finally:
        made.close()


@pytest.fixture
def guest(pool):
    with pool.guest_on_first() as made:
        yield made


def told(pool, kind, text):
    return [e for e in pool.cloud.moln("events", "--kind", kind, "--json")["Events"]
            if text in e["Message"]]


def moved_away(pool, guest):
    all_of_it = pool.cloud.moln("migrate", "ls", guest.id, "--all", "--json")["Migrations"]
    return next((m for m in all_of_it if m["State"] in ("done", "failed")), None)


def test_pressure_that_nothing_else_ends_moves_a_guest_away(pool, guest):
    boot_id = guest.text("cat /proc/sys/kernel/random/boot_id")
    guest.text("(while sleep 0.2; do echo x >>/root/ticks; done) &")
    pool.pressure.write_text(LOUD)
    end = wait_for("a guest to be moved away", lambda: moved_away(pool, guest), 120)
    assert (end["State"], end["Reason"], end["ToNode"]) == ("done", "pressure", pool.ids[1]), end
    pool.pressure.write_text(QUIET)
    # Its owner's call says what it always said; the guest is the same one, and went on.
    seen = guest.ec2.describe_instances(InstanceIds=[guest.id])["Reservations"][0]["Instances"][0]
    assert seen["State"]["Name"] == "running" and seen["PrivateIpAddress"] == guest.ip
    guest.close()
    guest.open()
    assert guest.text("cat /proc/sys/kernel/random/boot_id") == boot_id
    before = int(guest.text("wc -l </root/ticks"))
    wait_for("it to go on", lambda: int(guest.text("wc -l </root/ticks")) > before)
    assert len(emulators(guest.id)) == 1 and guest.id in holdings(pool, 1)["machines"]
    # Operators hear of both.
    assert told(pool, "pressure", "should be moved away")
    moved, = told(pool, "migration", "short of memory")
    assert moved["Object"] == guest.id and "moved from" in moved["Message"]
    log = pool.nodes[0].log.read_text()
    stages = [log.index(f"relief: {stage}") for stage in ("reclaim", "balloon", "move")]
    assert stages == sorted(stages)
