#!/usr/bin/python3
"""How many launches a second the whole control plane carries, from RunInstances to "it runs":
signed calls, placement, rows, controllers, wants to nodes, their reports, rows again.

    bench/launch_rate.py [--build build] [--instances 2800]

The control plane (molnd) has processor 0; the store, which is the thread that writes and syncs molnd's
SQLite file, has processor 1, with the clients and the nodes (bench/sim_node.c, which says of every
machine at once that it runs). --one-core: molnd has all its threads on processor 0. A figure is the
number of instances over the time from the first call to the moment when the last is seen running.

rows_a_launch is what all transactions between wrote, start and import included (a few dozen rows);
MOLN_TEST_DIR=/dev/shm shows the rate without a disk's syncs. What row writes alone would allow is
bench-store's rows a second, divided by rows_a_launch.
"""
import argparse
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import api  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from quiet import come_first, cpu_s, move, on  # noqa: E402

STORE = "store-commit"  # The thread.


def running(cloud):
    """How many machines the nodes have said to run; read beside molnd, on our processor."""
    with sqlite3.connect(f"file:{cloud.state}/control/moln.db?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM machine_seen WHERE state = 'running'").fetchone()[0]


def measure(cloud, image_id, clients, a_call, instances):
    before, cpu, start = running(cloud), cpu_s(cloud.molnd), time.monotonic()
    store = cpu_s(cloud.molnd, STORE)
    calls = instances // clients // a_call
    done = subprocess.run([cloud.build / "bench/api-launch", cloud.state, image_id, str(clients),
                           str(calls), str(a_call)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr + cloud.log_tail("molnd"))
    answered = time.monotonic() - start
    made = clients * (calls + 5) * a_call  # The client's calls that warm up are launches too.
    while running(cloud) < before + made:
        time.sleep(0.02)
        if time.monotonic() - start > 300:
            raise RuntimeError(f"{running(cloud) - before} of {made} run")
    took, cpu = time.monotonic() - start, cpu_s(cloud.molnd) - cpu
    store = cpu_s(cloud.molnd, STORE) - store
    return {"clients": clients, "instances_a_call": a_call, "instances": made,
            "running_per_s": round(made / took), "answered_per_s": round(made / answered),
            "cpu_us_a_launch": round((cpu - store) / made * 1e6),
            "store_us_a_launch": round(store / made * 1e6)}


def counts(cloud):
    """What molnd wrote in all, as it says when it ends."""
    cloud.molnd.terminate()
    cloud.molnd.wait(60)
    log = (cloud.dir / "molnd.log").read_text()
    return [int(n) for n in re.findall(r"wrote (\d+) rows in (\d+) transactions and (\d+) commits",
                                       log)[-1]]


def run(args, clients, a_call):
    settings = api.settings_file()
    cloud, node = None, None
    try:
        cloud = on(api.SERVER, lambda: Cloud("--config", settings, build=args.build, node=False),
                   api.LOAD)
        come_first(cloud.molnd.pid)
        if not args.one_core:
            move(cloud.molnd, STORE, api.LOAD)
        with open(cloud.dir / "sim-node.log", "ab") as log:
            node = subprocess.Popen([cloud.build / "bench/sim-node", cloud.state], stderr=log)
        wait_for("the node", lambda: "ready" in cloud.moln("node", "ls").stdout, 30)
        image_id = api.import_image(cloud)
        figures = measure(cloud, image_id, clients, a_call, args.instances)
        rows, transactions, commits = counts(cloud)
        made = figures["instances"]
        print(json.dumps({"bench": "launch rate", **figures, "goal_per_s": 2000,
                          "rows_a_launch": round(rows / made, 1),
                          "transactions_a_launch": round(transactions / made, 2),
                          "launches_a_commit": round(made / commits, 1)}), flush=True)
    finally:
        settings.unlink()
        if node:
            node.terminate()
            node.wait()
        if cloud:
            cloud.close()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--instances", type=int, default=2800)
    options.add_argument("--one-core", action="store_true")
    args = options.parse_args()
    come_first()
    for clients, a_call in ((8, 1), (32, 1), (4, 10), (2, 100)):
        run(args, clients, a_call)


if __name__ == "__main__":
    main()
