"""Three hosts and two control processes on one PostgreSQL: join, place, migrate, drain, lose a
process, lose a host, cut one off, heal it, upgrade the agents. Then the history is read: no
guest ran twice at once, none was lost, no address was given twice, no host was oversold.
"""
import json
import os
import pathlib
import shutil
import signal

import pytest

from cloud import wait_for
from guest import Guest
from history import BEAT, OBSERVE, PORT, Ledger, Beat, beats, check_beats
from holdings import Holdings
from pool import Pool
from test_recovery import REBUILD, SETTINGS, node_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
RECOVERS = {"MaintenanceOptions": {"AutoRecovery": "default"}, "TagSpecifications": REBUILD}


class World:
    """The pool, its guests, and the witnesses."""

    def __init__(self, settings):
        self.pool = Pool(3, "--config", settings, processes=2)
        self.cloud, self.nodes = self.pool.cloud, []
        self.observer = None
        try:
            for n in range(3):
                self.nodes.append(self.pool.node(f"h{n}", n).start(self.pool.token()))
            self.ids = [node.id() for node in self.nodes]
            self.cloud.image("micro")
            self.ledger = Ledger(self.pool.server)
        except BaseException:
            self.pool.close()
            raise
        self.held = Holdings(self.cloud.state, self.pool.cloud_id())
        self.key = self.pool.key(self.ec2())

    def ec2(self, process=0):
        return self.pool.clouds[process].client(keys=self.cloud.keys)

    def launch(self, process=0, **more):
        made = self.ec2(process).run_instances(
            ImageId=self.cloud.image("micro"), InstanceType="t3.nano", KeyName=self.key,
            **{"MinCount": 1, "MaxCount": 1, **more})["Instances"]
        for instance in made:
            self.cloud.wait_state(instance["InstanceId"], "running", 180)
        return made if len(made) > 1 else made[0]

    def host_of(self, instance_id):
        """The index of the host that its emulator is on; None while it is nowhere."""
        node = node_of(self.pool, self.nodes, self.held, instance_id)
        return self.nodes.index(node) if node else None

    def heard(self):
        try:
            return beats(self.observer.text("cat /root/heard"))
        except EOFError:  # What its shell came through is gone.
            self.observer.close()
            return beats(self.observer.open().text("cat /root/heard"))

    def beats_on(self, *ids, limit_s=90):
        """Waits until each says something that it had not said."""
        before, silent = set(self.heard()), set(ids)

        def all_heard():
            silent.difference_update(beat.instance for beat in set(self.heard()) - before)
            return not silent
        try:
            wait_for("a beat of each", all_heard, limit_s, pause_s=1)
        except TimeoutError as late:
            raise AssertionError(f"{late}; silent: " + "".join(
                f"\n{i} on host {self.host_of(i)}, whose console ends: "
                f"{self.cloud.moln('logs', i, check=False).stdout[-1000:]}" for i in silent))

    def fail(self, n):
        """Takes a host away with everything that runs on it, as a power cut does."""
        host, node = self.nodes[n].host, self.nodes[n]
        node.forward.cut()
        names = {"moln-node", "moln-fence"}
        mine = f"/moln-host-{host.holder.pid}/"
        for _ in range(3):  # What was being started meanwhile goes too.
            for entry in pathlib.Path("/proc").iterdir():
                try:
                    if not entry.name.isdigit():
                        continue
                    there = (entry / "comm").read_text().strip() in names and os.readlink(
                        entry / "ns/net") == os.readlink(f"/proc/{host.holder.pid}/ns/net")
                    if there or mine in (entry / "cgroup").read_text():
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue
        node.process.wait(30)

    def close(self):
        wrong = self.ledger.close()
        if self.observer:
            self.observer.close()
        self.pool.close()
        assert not wrong, wrong


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    settings = tmp_path_factory.mktemp("many") / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    settings.parent.chmod(0o755)
    os.chmod(settings.parent.parent, 0o755)
    made = World(settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def guests(world):
    """The observer, which asks for nothing; two that beat and are recovered, two that are not;
    on three hosts, by either process."""
    first = world.launch()
    world.observer = Guest(world.cloud, first).open(240)
    world.observer.text(OBSERVE)
    data = BEAT.format(observer=world.observer.ip, port=PORT)
    group = world.ec2().create_placement_group(GroupName="apart", Strategy="spread")
    assert group
    apart = {"Placement": {"GroupName": "apart"}}
    recovered = [i["InstanceId"] for i in world.launch(
        1, UserData=data, MinCount=2, MaxCount=2, **apart, **RECOVERS)]
    plain = [i["InstanceId"] for i in world.launch(UserData=data, MinCount=2, MaxCount=2)]
    assert len({world.host_of(i) for i in recovered}) == 2
    return first["InstanceId"], recovered, plain


@pytest.mark.timeout(900)
def test_nothing_is_lost_whatever_is_done_to_the_pool(world, guests):
    watched, recovered, plain = guests
    everybody = [*recovered, *plain]
    world.beats_on(*everybody)

    # Moved while it beats: the same boot goes on, elsewhere.
    mover, here = plain[0], world.host_of(plain[0])
    there = (here + 1) % 3
    done = world.cloud.moln("migrate", mover, "--to", world.ids[there], "--json")["Migration"]
    assert done["State"] == "done" and world.host_of(mover) == there
    world.beats_on(mover)
    assert len({beat.boot for beat in world.heard() if beat.instance == mover}) == 1

    # A host is drained for maintenance: all of its guests move, none stops.
    drained = world.host_of(plain[1])
    world.cloud.moln("node", "drain", "--wait", world.ids[drained])
    assert drained not in [world.host_of(i) for i in [watched, *everybody]]
    world.beats_on(*everybody)
    world.cloud.moln("node", "uncordon", world.ids[drained])

    # A control process dies; the other serves, and the nodes go over to it.
    lost = world.pool.clouds[1]
    lost.stop(lost.molnd, signal.SIGKILL)
    wait_for("all nodes to be with the first", lambda: all(
        world.pool.is_connected(i) for i in world.ids), 60)
    world.beats_on(*everybody)
    lost.start_molnd()

    # A host loses power. What asked for it runs elsewhere; the rest comes back with the host.
    dead = next(h for h in (world.host_of(i) for i in recovered)
                if h is not None and h != world.host_of(watched))
    gone = [i for i in everybody if world.host_of(i) == dead]
    moved = [i for i in gone if i in recovered]
    world.fail(dead)
    wait_for("those that asked to be elsewhere", lambda: all(
        world.host_of(i) not in (None, dead) for i in moved), 120)
    world.beats_on(*(i for i in everybody if i not in gone or i in moved), limit_s=180)
    world.nodes[dead].forward.heal()
    world.nodes[dead].start()
    for instance_id in (i for i in gone if i in plain):
        wait_for("it to be back", lambda i=instance_id: world.host_of(i) == dead, 60)
        # User data runs once in a guest's life, and this one is the same guest.
        world.cloud.ssh(instance_id, "sh /var/lib/micro/user-data >/dev/null 2>&1", 240)
    world.beats_on(*everybody, limit_s=180)

    # A host is cut off, guests and all, and healed.
    cut = next(h for h in (world.host_of(i) for i in recovered)
               if h is not None and h != world.host_of(watched))
    leased = [i for i in recovered if world.host_of(i) == cut]
    world.nodes[cut].forward.cut()
    wait_for("the lease to run out and they to be elsewhere", lambda: all(
        world.host_of(i) not in (None, cut) for i in leased), 120)
    world.nodes[cut].forward.heal()
    wait_for("it to be back", lambda: world.pool.is_connected(world.ids[cut]), 60)
    world.beats_on(*everybody, limit_s=180)

    # The agents are upgraded one by one; no guest notices.
    boots = {beat.instance: beat.boot for beat in world.heard()}
    newer = world.cloud.dir / "newer"
    newer.mkdir(mode=0o755)
    for name in ("moln-node", "moln-fence"):
        shutil.copy(world.cloud.build / name, newer / name)
    for node in world.nodes:
        node.stop()
        node.build = newer
        node.start()
        wait_for("it to be back", lambda: all(
            world.pool.is_connected(i) for i in world.ids), 60)
    world.beats_on(*everybody)
    assert {beat.instance: beat.boot for beat in world.heard()} == boots

    # What the witnesses say of all this.
    wrong = check_beats(world.heard())
    assert not wrong, wrong
    assert not world.ledger.wrong, world.ledger.wrong
    world.ec2().terminate_instances(InstanceIds=[watched, *everybody])
    for instance_id in [watched, *everybody]:
        world.cloud.wait_state(instance_id, "terminated")
    wait_for("all of it to go",
             lambda: not world.held.emulators() and not world.held.cgroups(), 60)


def test_the_checker_finds_a_guest_that_ran_twice():
    good = [Beat("i-1", "a", n) for n in range(5)] + [Beat("i-1", "b", n) for n in range(3)]
    assert not check_beats(good)
    assert check_beats([*good, Beat("i-1", "b", 2)])
    assert check_beats([*good, Beat("i-1", "a", 5)])
    lost = [Beat("i-1", "a", 1), Beat("i-1", "a", 7)]
    assert not check_beats(lost)  # What was said while nobody could hear it.
