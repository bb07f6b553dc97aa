"""What a guest's emulator may do on its host, read from /proc: nothing but run its guest."""
import os
import pathlib
import re

import pytest

from seen import emulator_of, status_of

NAMESPACES = ("mnt", "pid", "ipc", "net", "uts")
MIB = 1 << 20


@pytest.fixture(scope="module")
def pair(cloud, ec2, micro, key):
    """Two running instances: (id, pid of its emulator, its volume)."""
    made = [i["InstanceId"] for i in ec2.run_instances(
        ImageId=micro, InstanceType="t3.nano", KeyName=key, MinCount=2,
        MaxCount=2)["Instances"]]
    found = []
    for instance_id in made:
        running = cloud.wait_state(instance_id, "running")
        volume = running["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        found.append((instance_id, emulator_of(instance_id), volume))
    yield found
    ec2.terminate_instances(InstanceIds=made)
    for instance_id in made:
        cloud.wait_state(instance_id, "terminated")


def cgroup_of(pid, controller):
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return pathlib.Path("/sys/fs/cgroup", controller) / path.lstrip("/")
        if controllers == "" and pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return pathlib.Path("/sys/fs/cgroup") / path.lstrip("/")
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def test_emulator_has_an_identity_of_its_own_and_no_rights(pair):
    uids = set()
    for _, pid, _ in pair:
        status = status_of(pid)
        ids = set(status["Uid"].split()) | set(status["Gid"].split())
        assert len(ids) == 1 and int(min(ids)) > 1 << 16, "one uid, which is the gid too"
        uids |= ids
        assert status["Groups"] == ""
        for held in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[held], 16) == 0, held
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    assert len(uids) == 2


def test_emulator_lives_in_namespaces_of_its_own(pair):
    for kind in NAMESPACES:
        places = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in
                  ("self", pair[0][1], pair[1][1])}
        assert len(places) == 3, kind


def test_emulator_sees_no_file_but_its_program(cloud, pair):
    for instance_id, pid, _ in pair:
        root = pathlib.Path(f"/proc/{pid}/root")
        assert set(os.listdir(root)) <= {"usr", "bin", "lib", "lib64", "etc", "dev", "proc"}
        assert set(os.listdir(root / "etc")) == {"ld.so.cache"}
        assert set(os.listdir(root / "dev")) <= {"null", "urandom", "kvm"}
        assert not (root / str(cloud.state).lstrip("/")).exists()
        seen = [name for name in os.listdir(root / "proc") if name.isdigit()]
        assert seen == ["1"], "it sees no process but itself"
        mounts = pathlib.Path(f"/proc/{pid}/mounts").read_text().splitlines()
        writable = [m for m in mounts if "rw" in m.split()[3].split(",")
                    and not m.split()[1].startswith(("/proc", "/dev/"))]
        assert writable == [], instance_id


def test_emulator_holds_its_own_disk_and_no_other(cloud, pair):
    for index, (instance_id, pid, volume) in enumerate(pair):
        other_id, _, other_volume = pair[1 - index]
        files = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        assert any(volume in name for name in files)
        assert not [name for name in files if other_volume in name or other_id in name]
        ours = [name for name in files if name.startswith(str(cloud.state))]
        for name in ours:
            relative = name[len(str(cloud.state)):]
            assert re.match(rf"/node/(pool/{volume}|machines/{instance_id}/|blobs/blob-)",
                            relative), name
        assert files.count("/dev/net/tun") == 1


def test_emulator_is_limited_and_counted(cloud, ec2, pair):
    size = ec2.describe_instance_types(InstanceTypes=["t3.nano"])["InstanceTypes"][0]
    guest_bytes = size["MemoryInfo"]["SizeInMiB"] * MIB
    promised = cloud.moln("node", "ls", "--json")["Nodes"][0]
    allowed = 0
    for instance_id, pid, _ in pair:
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max open files\s+1024\s+1024", limits)
        assert re.search(r"Max core file size\s+0\s+0", limits)
        processes = int(re.search(r"Max processes\s+(\d+)", limits).group(1))
        assert processes < 1024
        group = cgroup_of(pid, "memory")
        assert group.name == instance_id
        name = next(n for n in ("memory.max", "memory.limit_in_bytes") if (group / n).exists())
        limit = int((group / name).read_text())
        assert guest_bytes < limit < guest_bytes + 1024 * MIB
        allowed += limit
        assert int((cgroup_of(pid, "pids") / "pids.max").read_text()) < 1024
    if promised["Machines"] == len(pair):  # Else others' are counted too.
        assert abs(promised["ClaimedMemoryBytes"] - allowed) < MIB, \
            "placement counts what the host allows"
    else:
        assert promised["ClaimedMemoryBytes"] >= allowed - MIB


def test_host_is_called_by_its_name(cloud):
    assert cloud.moln("node", "ls", "--json")["Nodes"][0]["Name"] == os.uname().nodename
