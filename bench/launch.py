#!/usr/bin/python3
"""Launch latency: from RunInstances to the first line of init on the serial console, beside a
bare QEMU command line with the same kernel, initial RAM disk and image.

    bench/launch.py [--runs 20] [--build build]

The two alternate, so that a noisy machine disturbs both alike. The bare run makes its overlay
before its clock starts; ours makes it within. Prints medians and their ratio (goal: at most
1.15).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

from cloud import Cloud  # noqa: E402
from quiet import GuestsFirst, come_first  # noqa: E402

FIRST_LINE = b"moln micro: init"


def wait_for_line(read, limit_s=60):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if FIRST_LINE in read():
            return time.monotonic()
        time.sleep(0.002)
    raise TimeoutError("init did not speak")


def remove(cloud, ec2, instance_id):
    """At once: a guest that boots would not hear yet that it shall shut down."""
    cloud.wait_state(instance_id, "running")
    ec2.stop_instances(InstanceIds=[instance_id], Force=True)
    cloud.wait_state(instance_id, "stopped")
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def ours(cloud, image_id):
    ec2 = cloud.client()
    start = time.monotonic()
    made = ec2.run_instances(ImageId=image_id, InstanceType="t3.nano", MinCount=1, MaxCount=1)
    instance_id = made["Instances"][0]["InstanceId"]
    log = cloud.state / "node" / "machines" / instance_id / "console.log"
    end = wait_for_line(lambda: log.read_bytes() if log.exists() else b"")
    remove(cloud, ec2, instance_id)
    return end - start


def bare(folder, files):
    overlay = folder / "bare.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                    files["disk"], overlay, "8G"], check=True)
    console = folder / "console"
    console.write_bytes(b"")
    start = time.monotonic()
    qemu = subprocess.Popen(
        ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "q35",
         "-accel", files["accel"], "-cpu", "max", "-m", "512", "-smp", "2",
         "-kernel", files["kernel"], "-initrd", files["initrd"], "-append",
         files["cmdline"], "-serial", f"file:{console}", "-drive",
         f"file={overlay},if=none,id=d,format=qcow2", "-device", "virtio-blk-pci,drive=d"],
        stdin=subprocess.DEVNULL, start_new_session=True)  # As ours has one of its own.
    come_first(qemu.pid)
    try:
        return wait_for_line(console.read_bytes) - start
    finally:
        qemu.kill()
        qemu.wait()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
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
        files = {
            "disk": str(images / "disk.qcow2"),
            "kernel": str(images / "vmlinuz"),
            "initrd": str(images / "initrd"),
            "cmdline": (images / "cmdline").read_text().strip(),
        }
        cloud = Cloud(build=args.build)
        come_first(cloud.molnd.pid, cloud.node.pid)
        GuestsFirst(cloud)
        try:
            image_id = cloud.image("micro")
            status = cloud.moln("node", "ls", "--json")["Nodes"][0]
            files["accel"] = "kvm" if status.get("Accelerator") == "kvm" else "tcg"
            pairs = []
            for _ in range(args.runs + 1):
                pairs.append((ours(cloud, image_id), bare(folder, files)))
                print("moln %.3f s, bare %.3f s" % pairs[-1], file=sys.stderr, flush=True)
            del pairs[0]  # It warms caches.
        finally:
            cloud.close()
    mine, theirs = (statistics.median(column) for column in zip(*pairs))
    print(json.dumps({"bench": "launch", "runs": args.runs, "accel": files["accel"],
                      "moln_median_s": round(mine, 3), "bare_median_s": round(theirs, 3),
                      "ratio": round(mine / theirs, 3), "goal": 1.15}))


if __name__ == "__main__":
    main()
