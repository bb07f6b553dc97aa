#!/usr/bin/python3
"""How many launches a second the whole control plane carries, from RunInstances to "it runs":
signed calls, placement, rows, controllers, wants to nodes, their reports, rows again.

    bench/launch_rate.py [--build build] [--instances 2800] [--one-core] [--postgresql]
                         [--loads 8x1,32x1,4x10,2x100]

The control plane (molnd) has processor 0; the store, which is the two threads that write and sync
molnd's SQLite file, has processor 1, with the clients and the nodes (bench/sim_node.c, which says of every
machine at once that it runs). --one-core: molnd has all its threads on processor 0. A figure is the
number of instances over the time from the first call to the moment when the last is seen running.

--postgresql: the store is a server on a unix socket, all of it on processor 1, that syncs its disk.

rows_a_launch is what all commits between wrote, start and import included (a few dozen rows);
bytes_a_launch what went to the disk for it (on SQLite). The ceilings are what either side would do in
a second of a whole processor of its own, if the other and the disk cost nothing.
MOLN_TEST_DIR=/dev/shm shows the rate without a disk's syncs.
"""
import argparse
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import time
import types

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "test")]

import api  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from postgres import Postgres, ask  # noqa: E402
from quiet import come_first, cpu_of, cpu_s, family, move, on  # noqa: E402

STORE = ("store-commit", "store-flush")  # The threads.


SEEN = "SELECT count(*) FROM machine_seen WHERE state = 'running'"


def running(cloud):
    """How many machines the nodes have said to run; read beside molnd, on our processor."""
    if cloud.server:
        return int(ask(cloud.questions, SEEN))
    with sqlite3.connect(f"file:{cloud.state}/control/moln.db?mode=ro", uri=True) as db:
        return db.execute(SEEN).fetchone()[0]


def store_cpu_s(cloud):
    """Processor time of the store so far: of a thread of molnd's, or of the server's processes."""
    if not cloud.server:
        both = sum(cpu_s(cloud.molnd, name) for name in STORE)
        return both, both
    server = types.SimpleNamespace(pid=cloud.server.pid())
    return 0, sum(cpu_of(f"/proc/{pid}") for pid, _ in family(server))


def written_bytes(cloud):
    text = pathlib.Path(f"/proc/{cloud.molnd.pid}/io").read_text()
    return int(re.search(r"^write_bytes: (\d+)", text, re.M)[1])


def measure(cloud, image_id, clients, a_call, instances):
    before, cpu, start = running(cloud), cpu_s(cloud.molnd), time.monotonic()
    inside, store = store_cpu_s(cloud)
    written = written_bytes(cloud)
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
    after = store_cpu_s(cloud)
    control_us = (cpu - (after[0] - inside)) / made * 1e6
    store_us = (after[1] - store) / made * 1e6
    return {"clients": clients, "instances_a_call": a_call, "instances": made,
            "running_per_s": round(made / took), "answered_per_s": round(made / answered),
            "control_us_a_launch": round(control_us), "store_us_a_launch": round(store_us),
            "control_ceiling_per_s": round(1e6 / control_us),
            "store_ceiling_per_s": round(1e6 / store_us),
            "bytes_a_launch": round((written_bytes(cloud) - written) / made)}


def syncs(cloud):
    """How often the server has synced its log, and the time that took in all."""
    return map(float, ask(cloud.questions,
                          "SELECT wal_sync || ' ' || wal_sync_time FROM pg_stat_wal").split())


def counts(cloud):
    """What molnd wrote in all, as it says when it ends."""
    cloud.molnd.terminate()
    cloud.molnd.wait(60)
    log = (cloud.dir / "molnd.log").read_text()
    return [int(n) for n in re.findall(r"wrote (\d+) rows in (\d+) transactions and (\d+) commits",
                                       log)[-1]]


def run(args, clients, a_call):
    settings = api.settings_file()
    cloud, node, server, questions = None, None, None, None
    try:
        more = []
        if args.postgresql:
            settings_of = {"fsync": "on", "full_page_writes": "on", "track_wal_io_timing": "on"}
            server = on(api.LOAD, lambda: Postgres(settings_of).__enter__(), api.LOAD)
            more = ["--store", server.database("cloud")]
        cloud = on(api.SERVER, lambda: Cloud("--config", settings, *more, build=args.build,
                                             node=False), api.LOAD)
        cloud.server = server
        come_first(cloud.molnd.pid)
        if server:
            come_first(server.pid())  # It began a session of its own.
            questions = cloud.questions = server.questions("cloud")
        if not args.one_core and not server:
            for name in STORE:
                move(cloud.molnd, name, api.LOAD)
        with open(cloud.dir / "sim-node.log", "ab") as log:
            node = subprocess.Popen([cloud.build / "bench/sim-node", cloud.state], stderr=log)
        wait_for("the node", lambda: "ready" in cloud.moln("node", "ls").stdout, 30)
        image_id = api.import_image(cloud)
        before = syncs(cloud) if server else None
        figures = measure(cloud, image_id, clients, a_call, args.instances)
        if server:
            count, ms = (now - then for now, then in zip(syncs(cloud), before))
            figures.update(syncs_a_launch=round(count / figures["instances"], 2),
                           sync_ms=round(ms / max(count, 1), 2))
        rows, transactions, commits = counts(cloud)
        made = figures["instances"]
        print(json.dumps({"bench": "launch rate", **figures, "goal_per_s": 2000,
                          "rows_a_launch": round(rows / made, 1),
                          "transactions_a_launch": round(transactions / made, 2),
                          "commits_a_launch": round(commits / made, 2),
                          "store": "PostgreSQL" if server else "SQLite"}), flush=True)
    finally:
        settings.unlink()
        if node:
            node.terminate()
            node.wait()
        if cloud:
            cloud.close()
        if server:
            if questions:
                questions.terminate()
            server.__exit__()


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--instances", type=int, default=2800)
    options.add_argument("--one-core", action="store_true")
    options.add_argument("--postgresql", action="store_true")
    options.add_argument("--loads", default="8x1,32x1,4x10,2x100",
                         help="clients x instances a call")
    args = options.parse_args()
    come_first()
    for load in args.loads.split(","):
        run(args, *map(int, load.split("x")))


if __name__ == "__main__":
    main()
