"""A whole cloud of its own for tests: molnd, moln-node, an image, clients.

Each Cloud has its own state folder, port, kernel objects and processes, so that it runs
beside a cloud that is up; close() ends and removes all of it, also after a failure.
"""
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time

import boto3
import botocore.config

from holdings import Holdings

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MOLN_BUILD", ROOT / "build-test"))
USER = os.environ.get("MOLN_TEST_USER", "moln")


def wait_for(what, check, limit_s=120, pause_s=0.2):
    """Calls check() until it returns something true; says what was waited for. The limit tells
    what hangs from what is slow, and promises nothing: a busy host has a minute at least."""
    limit_s = max(limit_s, 60)
    deadline = time.monotonic() + limit_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_s} s for {what}")
        time.sleep(pause_s)


def free_port():
    """A TCP port of this host's that none of its own connections can take meanwhile, as it could
    one that the kernel gave: a client that tries a program that is away would keep it out."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", random.randrange(8000, first) if first > 10000 else 0))
            return sock.getsockname()[1]


class Keys:
    """An account's or operator's key, as STATE/credentials holds it."""

    def __init__(self, key_id, secret):
        self.id, self.secret = key_id, secret

    @classmethod
    def read(cls, path):
        values = dict(
            map(str.strip, line.split("=", 1))
            for line in path.read_text().splitlines()
            if "=" in line
        )
        return cls(values["aws_access_key_id"], values["aws_secret_access_key"])


class Cloud:
    def __init__(self, *daemon_args, build=BUILD, node=True):
        self.build = pathlib.Path(build)
        where = os.environ.get("MOLN_TEST_DIR", "/tmp")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="moln-t-", dir=where))
        self.dir.chmod(0o755)
        self.state = self.dir / "s"
        self.daemon_args = list(daemon_args) + self.store_args()
        self.molnd = self.node = None
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AWS_", "MOLN_STATE", "SUDO_"))
        }
        self.env["MOLN_STATE"] = str(self.state)
        # The programs are killed here, or end at once: leaks are the unit tests' affair.
        self.env.setdefault("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1")
        # Nothing of what these clouds do may look for a name beyond this machine.
        self.env["AWS_EC2_METADATA_DISABLED"] = "true"
        try:
            self.start_molnd()
            if node:
                self.start_node()
        except BaseException:
            self.close()
            raise

    def store_args(self):
        """With MOLN_TEST_POSTGRES, every cloud has a database of that server."""
        server = os.environ.get("MOLN_TEST_POSTGRES")
        self.postgres = None
        if not server:
            return []
        name = self.dir.name.replace("-", "_")
        subprocess.run(["psql", "-XAtq", "-c", f'CREATE DATABASE "{name}"', server],
                       check=True)
        self.postgres = server.replace("/postgres?", f"/{name}?")
        return ["--store", self.postgres]

    def rows(self, query):
        """What the rows are, behind the control plane's back: SQL for both databases."""
        if not self.postgres:
            path = self.state / "control" / "moln.db"
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
                return db.execute(query).fetchall()
        text = f"SELECT coalesce(json_agg(r), '[]') FROM ({query}) AS r"
        done = subprocess.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text,
                               self.postgres], check=True, capture_output=True, text=True)
        return [tuple(row.values()) for row in json.loads(done.stdout)]

    # ---- processes

    def spawn(self, name, *args):
        log = open(self.dir / f"{name}.log", "ab")
        return subprocess.Popen(
            [self.build / name, "--state", self.state, *args],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
            start_new_session=True,
        )

    def start_molnd(self, *args):
        endpoint = self.state / "endpoint"
        listen = f"127.0.0.1:{free_port()}"
        if endpoint.exists():  # A restart keeps its port, as an operator's would.
            listen = endpoint.read_text().strip().split("//")[1]
            endpoint.unlink()
        self.molnd = self.spawn("molnd", "--listen", listen, "--user", USER,
                                *self.daemon_args, *args)
        wait_for("molnd's endpoint", lambda: self.alive(self.molnd) and endpoint.exists(), 60)
        self.endpoint = endpoint.read_text().strip()
        self.keys = Keys.read(self.state / "credentials")
        self.operator_keys = Keys.read(self.state / "operator")

    def start_node(self, *args):
        self.node = self.spawn("moln-node", *args)

    def alive(self, process):
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}:\n"
                               + self.log_tail(pathlib.Path(process.args[0]).name))
        return True

    def log_tail(self, name, count=40):
        path = self.dir / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-count:])

    @staticmethod
    def stop(process, how=signal.SIGTERM, limit_s=120):
        if process and process.poll() is None:
            process.send_signal(how)
            process.wait(limit_s)

    def close(self):
        """Ends and removes everything; raises when something was left behind."""
        self.stop(self.node)
        self.stop(self.molnd)
        held = self.holdings()
        purge = subprocess.run([self.build / "moln-node", "--state", self.state, "--purge"],
                               env=self.env, capture_output=True, text=True)
        left = self.leftovers() + (held.everything() if held else [])
        if os.environ.get("MOLN_KEEP"):
            print(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if purge.returncode or left:
            raise AssertionError(f"left behind: {left}; purge said: {purge.stderr}")

    def cloud_id(self):
        path = self.state / "node" / "node.json"
        if not path.exists():
            return None
        return json.loads(path.read_text()).get("cloud_id")

    def holdings(self):
        """What the local node holds on this host; None when it never joined."""
        cloud_id = self.cloud_id()
        return Holdings(self.state, cloud_id) if cloud_id else None

    def leftovers(self):
        """Processes that name this cloud's folder."""
        found = [pid for pid, line in processes() if str(self.state) in line
                 and pid not in (os.getpid(),)]
        return [f"process {pid}" for pid in found]

    # ---- clients

    def client(self, service="ec2", keys=None, region="us-east-1", **config):
        keys = keys or self.keys
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=region,
            aws_access_key_id=keys.id, aws_secret_access_key=keys.secret,
            config=botocore.config.Config(
                retries={"max_attempts": 0}, connect_timeout=20, read_timeout=60, **config),
        )

    def moln(self, *args, check=True, input=None, timeout=300):
        """The moln command; its JSON when --json was asked for."""
        done = subprocess.run([self.build / "moln", *args], env=self.env, input=input,
                              capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"moln {' '.join(map(str, args))}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        if check and "--json" in args:
            return json.loads(done.stdout)
        return done

    def image(self, name="micro"):
        """The id of a built-in image, built at first use."""
        for image in self.client().describe_images(Owners=["amazon"])["Images"]:
            if image["Name"] == name and image["State"] == "available":
                return image["ImageId"]
        self.moln("image", "build", name, timeout=2400)
        return wait_for(f"image {name}", lambda: next(
            (i["ImageId"] for i in self.client().describe_images(Owners=["amazon"])["Images"]
             if i["Name"] == name and i["State"] == "available"), None))

    def instance(self, instance_id, client=None):
        reply = (client or self.client()).describe_instances(InstanceIds=[instance_id])
        return reply["Reservations"][0]["Instances"][0]

    def wait_state(self, instance_id, state, limit_s=120, client=None):
        def look():
            if self.node and self.node.poll() not in (None, 0, -9, -15):
                self.alive(self.node)  # Says how it ended.
            found = self.instance(instance_id, client)
            return found if found["State"]["Name"] == state else None
        try:
            return wait_for(f"{instance_id} to be {state}", look, limit_s)
        except TimeoutError as late:
            raise AssertionError(
                f"{late}; it is {self.instance(instance_id, client)['State']}\n"
                f"molnd: {self.log_tail('molnd')}\nmoln-node: {self.log_tail('moln-node')}")

    def ssh(self, instance_id, command, limit_s=120, check=True):
        """Runs a command in the guest, waiting for SSH to answer at first."""
        deadline = time.monotonic() + limit_s
        while True:
            done = self.moln("ssh", "--wait", str(limit_s), instance_id, "--", command,
                             check=False, timeout=limit_s + 300)
            if done.returncode != 255 or time.monotonic() > deadline:
                break
            time.sleep(1)
        if check and done.returncode:
            console = self.moln("logs", instance_id, check=False)
            raise AssertionError(f"ssh {instance_id} {command!r}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}\n{self.log_tail('molnd', 10)}\n"
                                 f"{self.log_tail('moln-node', 10)}\n"
                                 f"console: {(console.stdout + console.stderr)[-2000:]}")
        return done.stdout


def processes():
    """(pid, command line) of every process."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(
                    errors="replace")
            except OSError:
                continue
            yield int(entry.name), line
