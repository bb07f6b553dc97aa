"""What the benchmarks share: how to measure on a machine that others use too."""
import os
import pathlib
import threading
import time

NICE_20_SHARES = "88761"  # What the kernel weighs nice -20 with; 1024 is nice 0.


def come_first(*pids):
    """This process (or those given), and all that it starts in its session, before whatever else
    the machine is doing. Sessions are the kernel's scheduling groups, so a daemon that began its
    own must be named."""
    for pid in pids or ["self"]:
        try:
            pathlib.Path(f"/proc/{pid}/autogroup").write_text("-20")
        except OSError as err:  # Not root; or it is over already.
            if not pids:
                print(f"measured with the priority of everybody else: {err}")


class GuestsFirst(threading.Thread):
    """Does the same for a cloud's guests, which have a control group of their own."""

    def __init__(self, cloud):
        super().__init__(daemon=True)
        self.cloud = cloud
        self.start()

    def run(self):
        while self.cloud.node.poll() is None:
            try:
                group = pathlib.Path(f"/sys/fs/cgroup/cpu/moln-{self.cloud.cloud_id()}")
                shares = group / "cpu.shares"
                if shares.read_text().strip() != NICE_20_SHARES:
                    shares.write_text(NICE_20_SHARES)
            except (OSError, ValueError):
                pass
            time.sleep(0.005)


def on(processors, start, after):
    """Runs start() so that what it starts stays on these processors; then go on to 'after'."""
    os.sched_setaffinity(0, processors)
    try:
        return start()
    finally:
        os.sched_setaffinity(0, after)


def threads(process):
    """(id, name) of each of a process's threads."""
    return [(int(task.name), (task / "comm").read_text().strip())
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir()]


def move(process, name, processors):
    """Puts the threads of a process that are called so on these processors."""
    for thread, called in threads(process):
        if called == name:
            os.sched_setaffinity(thread, processors)


def cpu_s(process, name=None):
    """Processor time so far of all of a process's threads, or of those that are called so."""
    if name:
        return sum(cpu_of(f"/proc/{process.pid}/task/{thread}") for thread, called in threads(process)
                   if called == name)
    return cpu_of(f"/proc/{process.pid}")


def cpu_of(path):
    words = pathlib.Path(f"{path}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def family(process):
    """(pid, name) of a process and all that it started, and so on."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                head, rest = (entry / "stat").read_text().rsplit(")", 1)
            except OSError:
                continue
            parents[int(entry.name)] = (int(rest.split()[1]), head.split("(", 1)[1])
    members, added = {process.pid}, True
    while added:
        more = {pid for pid, (parent, _) in parents.items() if parent in members} - members
        members |= more
        added = bool(more)
    return [(pid, parents[pid][1]) for pid in sorted(members) if pid in parents]


def pss_kib(pid):
    """A process's memory; of pages shared by several, its part."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
