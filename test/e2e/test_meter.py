"""What guests use: CPU credits of burstable types, and the limit of those who have none."""
import os
import pathlib
import signal

import pytest

from cloud import wait_for


def quota_percent(cloud, instance_id):
    """Of one processor, as the kernel holds the guest to it; None: not at all."""
    group = f"moln-{cloud.cloud_id()}/{instance_id}"
    for path in pathlib.Path("/sys/fs/cgroup").glob(f"cpu*/{group}/cpu.cfs_quota_us"):
        quota = int(path.read_text())
        return quota // 1000 if quota > 0 else None
    for path in pathlib.Path("/sys/fs/cgroup").glob(f"{group}/cpu.max"):
        quota = path.read_text().split()[0]
        return None if quota == "max" else int(quota) // 1000
    raise AssertionError(f"no cgroup {group}")


def resident(cloud, instance_id):
    """Bytes, by the guest's cgroup."""
    group = f"moln-{cloud.cloud_id()}/{instance_id}"
    for pattern in (f"memory/{group}/memory.usage_in_bytes", f"{group}/memory.current"):
        for path in pathlib.Path("/sys/fs/cgroup").glob(pattern):
            return int(path.read_text())
    raise AssertionError(f"no cgroup {group}")


def use(cloud):
    node = next(n["NodeId"] for n in cloud.moln("node", "ls", "--json")["Nodes"] if n["Local"])
    answer = cloud.moln("node", "use", node, "--json")
    return {m["InstanceId"]: m for m in answer.get("Machines", [])}


def test_credits_are_counted_and_who_has_none_is_held_to_its_baseline(cloud, ec2, launch):
    standard = {"CreditSpecification": {"CpuCredits": "standard"}}
    poor = launch(InstanceType="t3.nano", **standard)      # Begins with none.
    rich = launch(InstanceType="t2.nano", **standard)      # Begins with 30 a vCPU.
    free = launch(InstanceType="t3.nano")                  # May owe.
    for instance_id in (poor, rich, free):
        cloud.wait_state(instance_id, "running")
    wait_for("the kernel to hold it", lambda: quota_percent(cloud, poor) == 10, 30)
    assert quota_percent(cloud, rich) is None and quota_percent(cloud, free) is None

    # An agent that was away reckons with what ran meanwhile.
    cloud.stop(cloud.node, signal.SIGKILL)
    cloud.start_node()
    # Its first word may be of the idle second in which the host was judged fit again.
    seen = wait_for("a minute's word of all three", lambda: (
        lambda told: told if {poor, rich, free} <= told.keys() and told[free]["BusyMilli"] > 0
        else None)(use(cloud)), 150, 1)
    assert seen[poor]["Held"] and not seen[rich]["Held"]
    assert seen[poor]["CreditBalanceMilli"] < 1000
    assert 20_000 < seen[rich]["CreditBalanceMilli"] <= 31_000
    assert seen[free]["MemoryBytes"] > 64 << 20


KSM_RUN = pathlib.Path("/sys/kernel/mm/ksm/run")


def guest_memory_is_mergeable(cloud, instance_id):
    (pid,) = cloud.holdings().emulators()[instance_id]
    return "merge=on" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()


@pytest.mark.skipif(not os.access(KSM_RUN, os.W_OK) or KSM_RUN.read_text() != "0\n",
                    reason="no KSM on this host, or somebody uses it")
def test_guests_share_memory_only_on_a_host_marked_for_their_account(cloud, launch):
    node = next(n["NodeId"] for n in cloud.moln("node", "ls", "--json")["Nodes"] if n["Local"])
    before = launch(InstanceType="t3.nano")
    cloud.wait_state(before, "running")
    owner = cloud.client("sts").get_caller_identity()["Account"]
    cloud.moln("node", "mark", node, "--single-account", owner)
    try:
        after = launch(InstanceType="t3.nano")
        cloud.wait_state(after, "running")
        assert not guest_memory_is_mergeable(cloud, before)
        assert guest_memory_is_mergeable(cloud, after)
        wait_for("the kernel to merge", lambda: KSM_RUN.read_text() == "1\n", 30)
        told = cloud.moln("node", "show", node, "--json")["Node"]
        assert told["SingleAccount"] == owner
    finally:
        cloud.moln("node", "unmark", node)
    wait_for("the kernel to take it apart", lambda: KSM_RUN.read_text() == "0\n", 30)
    events = [e for e in cloud.moln("node", "events", "--json")["Events"] if e["Kind"] == "ksm"]
    assert len(events) == 2


def test_memory_that_a_guest_frees_goes_back_to_the_host(cloud, launch):
    instance_id = launch(InstanceType="t3.nano")
    cloud.wait_state(instance_id, "running")
    cloud.ssh(instance_id, "mount -t tmpfs -o size=300m none /mnt && "
                           "dd if=/dev/zero of=/mnt/x bs=1M count=220 2>/dev/null")
    full = resident(cloud, instance_id)
    cloud.ssh(instance_id, "rm /mnt/x")
    wait_for("half of it to come back",
             lambda: full - resident(cloud, instance_id) > 110 << 20, 60)
