#!/usr/bin/python3
"""The API beside a bare HTTP server: DescribeInstances with 1, 100 and 1,000 instances, signed and
verified over keep-alive, and RunInstances until it is durable.

    bench/api.py [--build build] [--seconds 6] [--rounds 3] [--only-launch]

MOLN_TEST_DIR=/dev/shm shows what RunInstances takes where a sync of the disk costs nothing.

One molnd on SQLite, all of it on processor 0; the load on processor 1, with the simulated node that
says of every instance that it runs (bench/sim_node.c). wrk replays one signed request, which molnd
verifies each time anew. The peer is libmicrohttpd with molnd's settings, answering the same bytes
and nothing else, measured in turn with it. Medians of the rounds.

per_s is what came in a second; per_cpu_s is what came in a second of the server's own processor
time (all its threads): the figure of one core, whatever else the machine was doing.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test" / "e2e"))

import botocore.auth  # noqa: E402
import botocore.awsrequest  # noqa: E402
import botocore.credentials  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from quiet import come_first, cpu_s, on  # noqa: E402

SERVER, LOAD = {0}, {1}  # Processors.
GOALS = {1: 20000, 100: 2000, 1000: 200}
BODY = "Action=DescribeInstances&Version=2016-11-15"

# What wrk sends, and what it prints at its end.
SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
%(headers)s
done = function(summary, latency, requests)
  io.write(string.format('{"count": %%d, "per_s": %%.1f, "p50_ms": %%.3f, "p99_ms": %%.3f, "bad": %%d}\\n',
    summary.requests, summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status + summary.errors.read +
    summary.errors.timeout))
end
"""


def signed(cloud):
    """The headers of one DescribeInstances, good for 15 minutes."""
    request = botocore.awsrequest.AWSRequest("POST", cloud.endpoint + "/", data=BODY, headers={
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    keys = botocore.credentials.Credentials(cloud.keys.id, cloud.keys.secret)
    botocore.auth.SigV4Auth(keys, "ec2", "us-east-1").add_auth(request)
    return dict(request.headers.items())


def wrk(cloud, server, endpoint, seconds, connections):
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
                      for name, value in signed(cloud).items())
    script = cloud.dir / "wrk.lua"
    script.write_text(SCRIPT % {"body": json.dumps(BODY), "headers": lines})
    cpu = cpu_s(server)
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script,
                           endpoint + "/"], capture_output=True, text=True, check=True)
    cpu = cpu_s(server) - cpu
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    figures["per_cpu_s"] = round(figures.pop("count") / cpu, 1)
    if figures.pop("bad"):
        raise RuntimeError(f"some requests failed:\n{done.stdout}")
    return figures


def median(figures):
    return {name: statistics.median(each[name] for each in figures) for name in figures[0]}


def measure_describe(cloud, args, count):
    """One table line: molnd and the bare server in turns."""
    answer = cloud.dir / "answer.xml"
    request = ["curl", "-s", "-o", answer, "--data-binary", BODY, cloud.endpoint + "/"]
    for name, value in signed(cloud).items():
        request += ["-H", f"{name}: {value}"]
    subprocess.run(request, check=True)
    bare = on(SERVER, lambda: subprocess.Popen(
        [cloud.build / "bench/bare-http", answer], stdout=subprocess.PIPE, text=True), LOAD)
    try:
        peer = f"http://127.0.0.1:{bare.stdout.readline().strip()}"
        connections = 8 if count < 1000 else 2
        turns = [(wrk(cloud, cloud.molnd, cloud.endpoint, args.seconds, connections),
                  wrk(cloud, bare, peer, args.seconds, connections)) for _ in range(args.rounds)]
    finally:
        bare.terminate()
        bare.wait()
    ours, theirs = (median(column) for column in zip(*turns))
    print(json.dumps({"bench": "DescribeInstances", "instances": count,
                      "bytes": answer.stat().st_size, **ours, "goal_per_s": GOALS[count],
                      "bare_per_s": theirs["per_s"], "bare_per_cpu_s": theirs["per_cpu_s"],
                      "ratio": round(ours["per_cpu_s"] / theirs["per_cpu_s"], 3)}), flush=True)


def disk_sync_ms(folder, count=500):
    """What one sync of the disk takes just now: median and 99th percentile. The peer of a durable
    call, which waits for at least one."""
    took = []
    with open(folder / "sync", "wb", buffering=0) as file:
        for _ in range(count):
            file.write(bytes(4096))
            start = time.monotonic()
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - start) * 1e3)
    took.sort()
    return {"disk_sync_p50_ms": round(took[count // 2], 2),
            "disk_sync_p99_ms": round(took[count * 99 // 100], 2)}


def measure_launch(cloud, image_id, clients, calls):
    done = subprocess.run([cloud.build / "bench/api-launch", cloud.state, image_id,
                           str(clients), str(calls)],
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr + cloud.log_tail("molnd"))
    print(json.dumps({"bench": "RunInstances", **json.loads(done.stdout), "goal_p99_ms": 10,
                      **disk_sync_ms(cloud.dir)}), flush=True)


def add_instances(cloud, image_id, count):
    ec2 = cloud.client()
    for done in range(0, count, 100):
        batch = min(100, count - done)
        ec2.run_instances(ImageId=image_id, InstanceType="t3.nano", MinCount=batch,
                          MaxCount=batch)
    wait_for("all of them to run", lambda: not ec2.describe_instances(
        Filters=[{"Name": "instance-state-name", "Values": ["pending"]}])["Reservations"])


def import_image(cloud):
    disk = cloud.dir / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    cloud.moln("image", "import", disk)
    return cloud.client().describe_images(Owners=["self"])["Images"][0]["ImageId"]


def settings_file():
    """Limits that no benchmark reaches."""
    path = pathlib.Path(f"/tmp/moln-bench-{os.getpid()}.json")
    path.write_text(json.dumps({
        "quota_vcpus": 1 << 20, "quota_instances": 1 << 20, "quota_disk_gib": 1 << 20,
        "read_rate": 1 << 20, "write_rate": 1 << 20}))
    return path


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--build", default=str(ROOT / "build"))
    options.add_argument("--seconds", type=int, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only-launch", action="store_true")
    args = options.parse_args()
    come_first()
    settings = settings_file()
    cloud = node = None
    try:
        cloud = on(SERVER, lambda: Cloud("--config", settings, build=args.build, node=False),
                   LOAD)
        come_first(cloud.molnd.pid)
        with open(cloud.dir / "sim-node.log", "ab") as log:
            node = subprocess.Popen([cloud.build / "bench/sim-node", cloud.state], stderr=log)
        image_id = import_image(cloud)
        have = 0
        for count in [] if args.only_launch else GOALS:
            add_instances(cloud, image_id, count - have)
            have = count
            measure_describe(cloud, args, count)
        for clients in (1, 4, 8):
            measure_launch(cloud, image_id, clients, 880 // clients)
    finally:
        settings.unlink()
        if node:
            node.terminate()
            node.wait()
        if cloud:
            cloud.close()


if __name__ == "__main__":
    main()
