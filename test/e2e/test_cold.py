"""A stopped guest's disk moves between two hosts: whole, or not at all; and a start finds it a
place where its own host has none."""
import os
import signal

import pytest

from cloud import wait_for
from pool import Pool
from test_migrate import emulators, ended, holdings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    try:
        made.join()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def guest(pool):
    """On the first host, with a file on its disk, and stopped."""
    with pool.guest_on_first() as found:
        found.text("dd if=/dev/urandom of=/root/data bs=64k count=16 2>/dev/null;"
                   " md5sum /root/data >/root/sum; sync")
        stop(pool, found)
        yield found


def stop(pool, guest):
    guest.close()
    guest.ec2.stop_instances(InstanceIds=[guest.id])
    pool.cloud.wait_state(guest.id, "stopped")


def start(pool, guest):
    """It runs, with what it had written."""
    guest.ec2.start_instances(InstanceIds=[guest.id])
    pool.cloud.wait_state(guest.id, "running")
    guest.open()
    guest.text("md5sum -c /root/sum")


def where(pool, guest):
    """The hosts that have its disk, and those that have files of it besides."""
    volume = guest.ec2.describe_volumes(Filters=[
        {"Name": "attachment.instance-id", "Values": [guest.id]}])["Volumes"][0]["VolumeId"]
    disks = [n for n in (0, 1) if volume in holdings(pool, n)["disks"]]
    parts = [p.name for node in pool.nodes for p in (node.folder / "pool").glob("*.part")]
    socks = [p.name for node in pool.nodes for p in node.folder.glob("move-*")]
    return disks, parts + socks


def move(pool, guest, to, *more):
    return pool.cloud.moln("migrate", guest.id, "--to", pool.ids[to], *more,
                           "--json")["Migration"]


def test_stopped_guest_moves_with_its_disk(pool, guest):
    forecast = pool.cloud.moln("migrate", guest.id, "--forecast", "--json")["Forecasts"][0]
    assert forecast["DowntimeMilliseconds"] == 0 and "stopped" in forecast["Basis"], forecast
    with pytest.raises(AssertionError, match="no memory"):
        move(pool, guest, 1, "--post-copy")
    done = move(pool, guest, 1)
    assert done["State"] == "done" and done["Stopped"], done
    assert done["DiskDoneBytes"] == done["DiskBytes"] > 1 << 20
    assert where(pool, guest) == ([1], [])
    assert holdings(pool, 0) == {"machines": [], "disks": [], "orphans": [], "taps": []}
    events = pool.cloud.moln("node", "events", pool.ids[1], "--json")["Events"]
    assert [e for e in events if e["Object"] == guest.id and "did not run" in e["Message"]]
    assert guest.ec2.describe_instances(InstanceIds=[guest.id])["Reservations"][0]["Instances"][
        0]["State"]["Name"] == "stopped"


def test_drain_takes_what_is_stopped_along(pool, guest):
    pool.cloud.moln("node", "drain", pool.ids[1], "--wait")
    last = wait_for("its end", lambda: ended(pool, guest))
    assert (last["State"], last["Reason"]) == ("done", "drain"), last
    assert where(pool, guest) == ([0], [])
    pool.cloud.moln("node", "uncordon", pool.ids[1])


@pytest.mark.parametrize("victim", [0, 1], ids=["giver", "receiver"])
def test_what_is_cut_on_the_way_stays_whole_at_its_giver(pool, guest, victim):
    begun = move(pool, guest, 1, "--mbit", "2", "--no-wait")["MigrationId"]
    wait_for("some of it to be copied", lambda: pool.cloud.moln(
        "migrate", "show", begun, "--json")["Migration"].get("DiskDoneBytes"))
    pool.nodes[victim].stop(signal.SIGKILL)
    pool.nodes[victim].start()
    end = wait_for("its end", lambda: ended(pool, guest))
    assert (end["MigrationId"], end["State"]) == (begun, "failed"), end
    wait_for("nothing to be left of it", lambda: where(pool, guest) == ([0], []))


def test_start_comes_first_and_finds_another_host_when_its_own_has_no_room(pool, guest):
    begun = move(pool, guest, 1, "--mbit", "2", "--no-wait")["MigrationId"]
    start(pool, guest)  # Its own host has room: it waits for nobody.
    end = wait_for("its end", lambda: ended(pool, guest))
    assert (end["MigrationId"], end["State"]) == (begun, "failed") and "started" in end["Message"]
    assert where(pool, guest) == ([0], []) and len(emulators(guest.id)) == 1
    stop(pool, guest)
    pool.cloud.moln("node", "cordon", pool.ids[0])
    start(pool, guest)
    end = wait_for("its end", lambda: ended(pool, guest))
    assert (end["State"], end["Reason"]) == ("done", "start"), end
    assert where(pool, guest) == ([1], []) and len(emulators(guest.id)) == 1
    # So its host can go.
    pool.cloud.moln("node", "revoke", pool.ids[0])
    pool.cloud.moln("node", "rm", pool.ids[0])
    assert list(pool.listed()) == [pool.ids[1]]
