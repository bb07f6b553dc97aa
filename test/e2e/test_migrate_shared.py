"""A guest whose disk lies where both hosts see it moves with its memory alone, and one of the two
emulators may write the image at any time."""
import os
import subprocess

import pytest

from cloud import wait_for
from pool import Pool
from test_migrate import WRITER, emulators, ended

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    try:
        made.shared = made.cloud.dir / "shared"
        made.shared.mkdir()
        made.join("--shared-pool", made.shared)
        yield made
    finally:
        made.close()


@pytest.fixture
def guest(pool):
    with pool.guest_on_first() as made:
        yield made
    wait_for("its file to go", lambda: not images(pool))


def images(pool):
    return [p for p in pool.shared.iterdir() if p.suffix == ".qcow2"]


def is_locked(image):
    """Whether an emulator holds the image for itself."""
    done = subprocess.run(["qemu-img", "info", image], capture_output=True, text=True)
    return "lock" in done.stderr


def test_memory_moves_and_the_disk_stays(pool, guest):
    boot_id = guest.text("cat /proc/sys/kernel/random/boot_id")
    guest.text(WRITER)
    [image] = images(pool)
    inode = image.stat().st_ino
    for to in (1, 0):
        done = pool.cloud.moln("migrate", guest.id, "--to", pool.ids[to], "--json")["Migration"]
        assert done["State"] == "done", done
        assert not done.get("DiskBytes") and done["MemorySentBytes"] > 0
        assert [p.stat().st_ino for p in images(pool)] == [inode]
        assert len(emulators(guest.id)) == 1 and is_locked(image)
        guest.close()
        guest.open()
        assert guest.text("cat /proc/sys/kernel/random/boot_id") == boot_id
    # One that is called off on the way leaves the image to its giver.
    begun = pool.cloud.moln("migrate", guest.id, "--to", pool.ids[1], "--mbit", "40", "--no-wait",
                            "--json")["Migration"]["MigrationId"]
    wait_for("memory on its way", lambda: pool.cloud.moln(
        "migrate", "show", begun, "--json")["Migration"].get("MemorySentBytes"))
    pool.cloud.moln("migrate", "cancel", begun)
    assert wait_for("its end", lambda: ended(pool, guest))["State"] == "failed"
    guest.text("touch /root/stop; while [ ! -e /root/stopped ]; do sleep 0.1; done;"
               " cat /root/sum.* | md5sum -c -")
    assert is_locked(image) and len(emulators(guest.id)) == 1
