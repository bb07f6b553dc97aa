#!/usr/bin/python3
"""Memory of an idle cloud: both programs with nothing to do, and what each instance adds.

    bench/idle.py [--build build] [--guests 10] [--rows 1000] [--settle 20]

Real guests are started one by one and left idle; counted are molnd, moln-node and every process
that they started but QEMU and dnsmasq. Then molnd alone, with instances of a simulated node
(bench/sim_node.c). Memory is PSS: a page that several share counts for each in part.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

from api import add_instances, import_image, settings_file  # noqa: E402
from cloud import Cloud  # noqa: E402
from quiet import family, pss_kib  # noqa: E402

GUEST = ("qemu", "dnsmasq")


def memory_kib(*programs):
    return sum(pss_kib(pid) for program in programs for pid, name in family(program)
               if not name.startswith(GUEST))


def settled(seconds, *programs):
    time.sleep(seconds)
    return memory_kib(*programs)


def real(args):
    cloud = Cloud(build=args.build)
    try:
        empty = settled(args.settle, cloud.molnd, cloud.node)
        image_id = cloud.image("micro")
        after = []
        for _ in range(args.guests):
            made = cloud.client().run_instances(ImageId=image_id, InstanceType="t3.nano",
                                                MinCount=1, MaxCount=1)
            cloud.wait_state(made["Instances"][0]["InstanceId"], "running")
            after.append(settled(args.settle // 4, cloud.molnd, cloud.node))
        last = settled(args.settle, cloud.molnd, cloud.node)
        parts = {name: sum(pss_kib(pid) for pid, its in members if its == name)
                 for members in [family(cloud.molnd) + family(cloud.node)]
                 for name in {its for _, its in members} if not name.startswith(GUEST)}
    finally:
        cloud.close()
    each = (last - after[0]) / max(1, args.guests - 1)
    print(json.dumps({"bench": "idle", "empty_mib": round(empty / 1024, 1), "goal_mib": 30,
                      "guests": args.guests, "with_guests_mib": round(last / 1024, 1),
                      "each_further_kib": round(each, 1), "goal_each_kib": 100,
                      "parts_kib": parts}), flush=True)


def rows(args):
    settings = settings_file()
    cloud = node = None
    try:
        cloud = Cloud("--config", settings, build=args.build, node=False)
        with open(cloud.dir / "sim-node.log", "ab") as log:
            node = subprocess.Popen([cloud.build / "bench/sim-node", cloud.state], stderr=log)
        image_id = import_image(cloud)
        empty = settled(args.settle, cloud.molnd)
        add_instances(cloud, image_id, args.rows)
        full = settled(args.settle, cloud.molnd)
    finally:
        settings.unlink()
        if node:
            node.terminate()
            node.wait()
        if cloud:
            cloud.close()
    print(json.dumps({"bench": "idle molnd", "empty_mib": round(empty / 1024, 1),
                      "instances": args.rows, "full_mib": round(full / 1024, 1),
                      "each_kib": round((full - empty) / args.rows, 1)}), flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--guests", type=int, default=10)
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--settle", type=int, default=20)
    args = options.parse_args()
    real(args)
    rows(args)


if __name__ == "__main__":
    main()
