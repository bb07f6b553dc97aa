#!/usr/bin/python3
"""Rebuild: from ReplaceRootVolume to a guest that answers on its new root volume, beside what a
person would do with a bare QEMU: end it, make a fresh overlay, start it again.

    bench/rebuild.py [--runs 10] [--build build]

Both clocks begin with a guest that runs, and its end, its new disk and its boot lie within. Told
are three moments of each: the first line of init on the serial console; the guest's new host keys
there, when it has its address and knows who it is; the first bytes of SSH. Ours asks the metadata
service, and SSH goes through `moln tunnel`; the bare one has a metadata server of a few lines
here, and QEMU's user network. The two alternate. Goal: a stateless instance answers within 10 s.
"""
import argparse
import http.server
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

from cloud import Cloud, wait_for  # noqa: E402
from quiet import GuestsFirst, come_first  # noqa: E402

FIRST, LAST = b"moln micro: init", b"END SSH HOST KEY KEYS"
LIMIT_S = 120


def wait_for_line(read, line):
    """The time at which the console has it."""
    deadline = time.monotonic() + LIMIT_S
    while line not in read():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the guest did not say {line}")
        time.sleep(0.005)
    return time.monotonic()


def wait_for_ssh(connect):
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if connect().startswith(b"SSH-2.0"):
            return time.monotonic()
        time.sleep(0.02)
    raise TimeoutError("SSH does not answer")


def moments(start, read, connect):
    first, last = wait_for_line(read, FIRST), wait_for_line(read, LAST)
    return first - start, last - start, wait_for_ssh(connect) - start


class Metadata(http.server.BaseHTTPRequestHandler):
    """As much of the metadata service as the micro image asks for."""

    says = {"meta-data/instance-id": "i-0123456789abcdef0",
            "meta-data/local-hostname": "bare.internal", "meta-data/public-keys/": ""}

    def answer(self, body):
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or "")))
        self.end_headers()
        self.wfile.write((body or "").encode())

    def do_PUT(self):
        self.answer("token")

    def do_GET(self):
        self.answer(self.says.get(self.path.removeprefix("/latest/")))

    def log_message(self, *_):
        pass


class Bare:
    def __init__(self, folder, files):
        self.folder, self.files, self.qemu = folder, files, None
        self.metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=self.metadata.serve_forever, daemon=True).start()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.ssh = free.getsockname()[1]
        self.console = folder / "console"
        self.rebuild()

    def rebuild(self):
        """Seconds to each moment."""
        start = time.monotonic()
        self.end()
        overlay = self.folder / "bare.qcow2"
        overlay.unlink(missing_ok=True)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                        self.files["disk"], overlay, "8G"], check=True)
        self.console.write_bytes(b"")
        # A process for each connection: QEMU's own forwarding serves one in all.
        forward = (f"hostfwd=tcp:127.0.0.1:{self.ssh}-:22,guestfwd=tcp:169.254.169.254:80-"
                   f"cmd:busybox nc 127.0.0.1 {self.metadata.server_port}")
        self.qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35",
             "-accel", self.files["accel"], "-cpu", "max", "-m", "512", "-smp", "2",
             "-kernel", self.files["kernel"], "-initrd", self.files["initrd"], "-append",
             self.files["cmdline"], "-serial", f"file:{self.console}", "-drive",
             f"file={overlay},if=none,id=d,format=qcow2", "-device", "virtio-blk-pci,drive=d",
             "-netdev", f"user,id=n,net=169.254.169.0/24,restrict=on,{forward}",
             "-device", "virtio-net-pci,netdev=n"],
            stdin=subprocess.DEVNULL, start_new_session=True)  # As ours has one of its own.
        come_first(self.qemu.pid)
        return moments(start, self.console.read_bytes, self.connect)

    def connect(self):
        try:
            with socket.create_connection(("127.0.0.1", self.ssh), timeout=2) as sock:
                return sock.recv(64)
        except OSError:
            return b""

    def end(self):
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()
            self.qemu = None


class Ours:
    def __init__(self, cloud):
        self.cloud, self.ec2 = cloud, cloud.client()
        made = self.ec2.run_instances(ImageId=cloud.image("micro"), InstanceType="t3.nano",
                                      MinCount=1, MaxCount=1)
        self.id = made["Instances"][0]["InstanceId"]
        self.log = cloud.state / "node" / "machines" / self.id / "console.log"
        cloud.wait_state(self.id, "running")
        wait_for_line(self.log.read_bytes, LAST)

    def rebuild(self):
        """Seconds until the task has succeeded, and to each moment."""
        before = self.log.stat().st_size
        start = time.monotonic()
        task = self.ec2.create_replace_root_volume_task(
            InstanceId=self.id, DeleteReplacedRootVolume=True)["ReplaceRootVolumeTask"]
        done = []
        watch = threading.Thread(target=self.wait_task, args=(
            task["ReplaceRootVolumeTaskId"], start, done))
        watch.start()
        told = moments(start, lambda: self.log.read_bytes()[before:], self.connect)
        watch.join()
        return done[0], *told

    def wait_task(self, task_id, start, out):
        client = self.cloud.client()
        wait_for("the task to succeed", lambda: client.describe_replace_root_volume_tasks(
            ReplaceRootVolumeTaskIds=[task_id])["ReplaceRootVolumeTasks"][0]["TaskState"] ==
            "succeeded", LIMIT_S, 0.05)
        out.append(time.monotonic() - start)

    def connect(self):
        tunnel = subprocess.Popen([self.cloud.build / "moln", "tunnel", self.id, "22"],
                                  env=self.cloud.env, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            return os.read(tunnel.stdout.fileno(), 64)
        finally:
            tunnel.kill()
            tunnel.communicate()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--images", default=os.environ.get("MOLN_IMAGES"))
    args = options.parse_args()
    come_first()
    with tempfile.TemporaryDirectory(prefix="moln-b-", dir="/tmp") as made:
        folder = pathlib.Path(made)
        images = pathlib.Path(args.images) if args.images else folder / "micro"
        if not args.images:
            subprocess.run([ROOT / "share/images/micro/build", images], check=True,
                           stdout=subprocess.DEVNULL)
        files = {"disk": str(images / "disk.qcow2"), "kernel": str(images / "vmlinuz"),
                 "initrd": str(images / "initrd"),
                 "cmdline": (images / "cmdline").read_text().strip()}
        cloud, bare = Cloud(build=args.build), None
        come_first(cloud.molnd.pid, cloud.node.pid)
        GuestsFirst(cloud)
        try:
            mine = Ours(cloud)
            status = cloud.moln("node", "ls", "--json")["Nodes"][0]
            files["accel"] = "kvm" if status.get("Accelerator") == "kvm" else "tcg"
            bare = Bare(folder, files)
            pairs = []
            for _ in range(args.runs + 1):
                pairs.append((*mine.rebuild(), *bare.rebuild()))
                print("moln: running %.3f s, init %.3f, host keys %.3f, SSH %.3f; "
                      "bare: init %.3f, host keys %.3f, SSH %.3f" % pairs[-1],
                      file=sys.stderr, flush=True)
            del pairs[0]  # It warms caches.
        finally:
            if bare:
                bare.end()
            cloud.close()
    running, *told = (statistics.median(column) for column in zip(*pairs))
    names = ["init", "host_keys", "ssh"]
    print(json.dumps({
        "bench": "rebuild", "runs": args.runs, "accel": files["accel"],
        "moln_running_s": round(running, 3),
        **{f"moln_{name}_s": round(s, 3) for name, s in zip(names, told[:3])},
        "moln_worst_ssh_s": round(max(row[3] for row in pairs), 3),
        **{f"bare_{name}_s": round(s, 3) for name, s in zip(names, told[3:])},
        "ratio": round(told[2] / told[5], 3), "goal_s": 10}))


if __name__ == "__main__":
    main()
