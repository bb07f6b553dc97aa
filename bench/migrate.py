#!/usr/bin/python3
"""Live migration: total time and downtime, beside bare QEMU commands that do the same.

    bench/migrate.py [--runs 10] [--build build]

One guest with a local disk goes to and fro between two hosts (network namespaces), and a bare
QEMU's between two processes, in turns, so that a noisy machine disturbs both alike. Both begin
with the command, start an emulator to receive, mirror the disk and copy the memory; total ends
when the guest runs there. Ours goes by mutual TLS from agent to agent and asks the control
plane before it switches; the bare one goes by unix sockets, in the clear. Prints medians and
ratios (goal: at most 1.1; downtime at most QEMU's limit, 300 ms). Ours makes the guest's memory
ahead of its contents (docs/decisions/0019); with --ahead the bare one does so, too, by QEMU's own
means.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

from pool import Pool  # noqa: E402
from quiet import NICE_20_SHARES, come_first  # noqa: E402
from signed import Signed  # noqa: E402


class Bare:
    """A QEMU with a guest like ours, spoken to by QMP and nothing between."""

    count = 0

    def __init__(self, folder, files, incoming):
        Bare.count += 1
        name = f"{folder}/bare{Bare.count}"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                        files["disk"], f"{name}.qcow2", "8G"], check=True)
        self.console = pathlib.Path(f"{name}.console")
        self.nbd, self.events = f"{name}.nbd", []
        words = [
            "qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine",
            "q35,memory-backend=ram", "-accel", files["accel"], "-cpu", "max,la57=off",
            "-m", "size=524280K", "-smp", "2",
            "-object", "memory-backend-memfd,id=ram,size=524280K,share=on",
            "-kernel", files["kernel"], "-initrd", files["initrd"], "-append",
            files["cmdline"], "-serial", f"file:{self.console}",
            "-blockdev", json.dumps({"driver": "qcow2", "node-name": "disk0", "file": {
                "driver": "file", "filename": f"{name}.qcow2"}}),
            "-device", "virtio-blk-pci,drive=disk0,addr=0xa",
            "-qmp", f"unix:{name}.qmp,server=on,wait=off"]
        self.process = subprocess.Popen(words + (["-S", "-incoming", "defer"] if incoming else []),
                                        stdin=subprocess.DEVNULL, start_new_session=True)
        come_first(self.process.pid)
        self.sock = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.sock.connect(f"{name}.qmp")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
        self.file = self.sock.makefile("rw")
        self.file.readline()
        self.do("qmp_capabilities")

    def read(self):
        said = json.loads(self.file.readline())
        if "event" in said:
            self.events.append(said)
        return said

    def do(self, command, **arguments):
        json.dump({"execute": command, "arguments": {
            key.replace("_", "-"): value for key, value in arguments.items()}}, self.file)
        self.file.flush()
        while True:
            said = self.read()
            if "error" in said:
                raise RuntimeError(f"{command}: {said['error']}")
            if "return" in said:
                return said["return"]

    def event(self, name, **data):
        """Waits for it; its time in seconds."""
        while True:
            for said in self.events:
                if said["event"] == name and data.items() <= said.get("data", {}).items():
                    stamp = said["timestamp"]
                    return stamp["seconds"] + stamp["microseconds"] / 1e6
            self.read()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.sock.close()


class Moves:
    """Asks the control plane to move the guest, over one connection that stays open: a command
    a look would take the processors from what is measured."""

    def __init__(self, cloud, instance_id):
        self.api, self.instance_id = Signed(cloud.endpoint, cloud.operator_keys), instance_id

    def ask(self, operation, **ask):
        answer = self.api.moln(operation, ask)
        if answer.status != 200:
            raise RuntimeError(f"{operation}: {answer}")
        return answer.json()["Migration"]

    def until(self, migration, states):
        while migration["State"] not in states:
            time.sleep(0.005)
            migration = self.ask("DescribeMigration", MigrationId=migration["MigrationId"])
        return migration

    def move(self, node_id):
        """(total, copying, downtime) of one move."""
        start = time.monotonic()
        begun = self.ask("StartMigration", InstanceId=self.instance_id, ToNode=node_id)
        now = self.until(begun, ("settling", "done", "failed"))
        total = time.monotonic() - start
        done = self.until(now, ("done", "failed"))
        if done["State"] != "done":
            raise RuntimeError(done)
        return (total, done["ElapsedMilliseconds"] / 1e3, done["DowntimeMilliseconds"] / 1e3)


def bare_move(folder, files, source, ahead):
    """(receiver, total, downtime) of one move."""
    start = time.monotonic()
    to = Bare(folder, files, True)
    on = [{"capability": name, "state": True} for name in ("events", "pause-before-switchover")]
    to.do("migrate-set-capabilities", capabilities=on[:1])
    to.do("nbd-server-start", addr={"type": "unix", "data": {"path": to.nbd}})
    to.do("block-export-add", type="nbd", id="disk0", node_name="disk0", name="disk0",
          writable=True)
    to.do("migrate-incoming", uri=f"unix:{to.nbd}.memory")
    source.events.clear()
    source.do("blockdev-add", driver="nbd", node_name="there", export="disk0",
              server={"type": "unix", "path": to.nbd})
    source.do("blockdev-mirror", job_id="there", device="disk0", target="there", sync="top",
              copy_mode="write-blocking")
    source.event("BLOCK_JOB_READY")
    source.do("migrate-set-capabilities", capabilities=on)
    source.do("migrate-set-parameters", max_bandwidth=1 << 36, downtime_limit=200)
    source.do("migrate", uri=f"unix:{to.nbd}.memory")
    if ahead:
        to.do("qom-set", path="/objects/ram", property="prealloc", value=True)
    source.event("MIGRATION", status="pre-switchover")
    source.do("block-job-cancel", device="there")
    source.event("BLOCK_JOB_COMPLETED")
    source.do("migrate-continue", state="pre-switchover")
    source.event("MIGRATION", status="completed")
    to.event("MIGRATION", status="completed")
    to.do("nbd-server-stop")
    to.do("cont")
    resumed = to.event("RESUME")
    total = time.monotonic() - start
    stopped = source.event("STOP")
    source.end()
    return to, total, resumed - stopped


def pool_first(pool):
    """The programs and guests of a pool before whatever else the machine is doing, as the bare
    QEMUs are: guests are in a control group of their host's."""
    come_first()
    come_first(pool.cloud.molnd.pid, *(node.process.pid for node in pool.nodes))
    for host in pool.hosts:
        for name, most in (("cpu/moln-host-{}/cpu.shares", NICE_20_SHARES),
                           ("moln-host-{}/cpu.weight", "10000")):
            file = pathlib.Path("/sys/fs/cgroup") / name.format(host.holder.pid)
            if file.exists():
                file.write_text(most)


def launch(pool):
    ec2 = pool.cloud.client()
    made = ec2.run_instances(ImageId=pool.cloud.image("micro"), InstanceType="t3.nano",
                             MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    pool.cloud.wait_state(made, "running")
    deadline = time.monotonic() + 120
    while "END SSH HOST KEY KEYS" not in ec2.get_console_output(
            InstanceId=made, Latest=True).get("Output", ""):
        if time.monotonic() > deadline:
            raise TimeoutError("the guest did not come up")
        time.sleep(0.3)
    return made


def measure(args, folder, clean):
    """Lists of (total, copying, downtime) of ours, and (total, downtime) of the bare ones."""
    images = pathlib.Path(args.images) if args.images else folder / "micro"
    if not args.images:
        subprocess.run([ROOT / "share/images/micro/build", images], check=True,
                       stdout=subprocess.DEVNULL)
    files = {"disk": str(images / "disk.qcow2"), "kernel": str(images / "vmlinuz"),
             "initrd": str(images / "initrd"),
             "cmdline": (images / "cmdline").read_text().strip()}
    pool = Pool(2, apart=True, build=pathlib.Path(args.build).resolve())
    clean.callback(pool.close)
    nodes = [pool.node(f"h{n}", n).start(pool.token()).id() for n in (0, 1)]
    pool_first(pool)
    kvm = pool.listed()[nodes[0]].get("Accelerator") == "kvm"
    files["accel"] = "kvm" if kvm else "tcg,thread=multi"
    guest = Moves(pool.cloud, launch(pool))
    here = [n for n in nodes if pool.listed()[n]["Machines"]][0]
    bare = Bare(folder, files, False)
    clean.callback(lambda: bare.end())  # The newest of them.
    deadline = time.monotonic() + 60
    while b"moln micro" not in bare.console.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(10)  # Both guests idle.
    mine, theirs = [], []
    for turn in range(args.runs + 2):
        here = nodes[1 - nodes.index(here)]
        ours = guest.move(here)
        bare, total, downtime = bare_move(folder, files, bare, args.ahead)
        print(f"moln {ours[0]:.3f} s, stood still {ours[2] * 1e3:.0f} ms; bare "
              f"{total:.3f} s, {downtime * 1e3:.0f} ms", file=sys.stderr, flush=True)
        if turn >= 2:  # The first two fetch the image and warm caches.
            mine.append(ours)
            theirs.append((total, downtime))
    return mine, theirs, files["accel"]


def give_up(number, _frame):
    signal.alarm(0)
    raise SystemExit(f"ended by signal {signal.Signals(number).name}")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--images", default=os.environ.get("MOLN_IMAGES"))
    options.add_argument("--ahead", action="store_true", help="the bare one fills memory, too")
    options.add_argument("--limit", type=int, default=600, help="seconds until it gives up")
    args = options.parse_args()
    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(args.limit)
    where = os.environ.get("MOLN_TEST_DIR", "/tmp")  # /dev/shm: without a disk to wait for.
    with tempfile.TemporaryDirectory(prefix="moln-b-", dir=where) as made, \
            contextlib.ExitStack() as clean:
        mine, theirs, accel = measure(args, pathlib.Path(made), clean)
        signal.alarm(0)
    ours, copying, still = (statistics.median(column) for column in zip(*mine))
    total, downtime = (statistics.median(column) for column in zip(*theirs))
    print(json.dumps({
        "bench": "migrate", "runs": args.runs, "accel": accel, "bare_ahead": args.ahead,
        "moln_total_s": round(ours, 3), "moln_copying_s": round(copying, 3),
        "bare_total_s": round(total, 3), "ratio": round(ours / total, 3), "goal": 1.1,
        "moln_downtime_ms": round(still * 1e3), "worst_ms": round(max(m[2] for m in mine) * 1e3),
        "bare_downtime_ms": round(downtime * 1e3), "limit_ms": 300}))


if __name__ == "__main__":
    main()
