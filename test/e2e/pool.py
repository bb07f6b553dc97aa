"""A cloud whose nodes are on hosts of their own, and joined it over mutual TLS."""
import contextlib
import re
import signal
import sqlite3
import subprocess
import sys

from cloud import BUILD, ROOT, Cloud, free_port, wait_for
from guest import Guest
from holdings import Holdings
from netns import ApartWays, Host, Underlay, Ways

sys.path.insert(0, str(ROOT / "test"))

from postgres import Postgres  # noqa: E402


class RemoteNode:
    """An agent on one of the pool's hosts."""

    def __init__(self, pool, name, host=0):
        self.pool, self.state = pool, pool.cloud.dir / name
        self.host, self.forward = pool.hosts[host], pool.forwards[host]
        self.build = pool.cloud.build
        self.underlay = pool.underlay.addresses[host] if pool.underlay else None
        self.log = pool.cloud.dir / f"{name}.log"
        self.log.touch()
        self.process, self.more = None, []  # Further options of the agent.

    @property
    def folder(self):
        return self.state / "node"

    def start(self, token=None):
        args = ["--join", self.forward.places]
        if self.underlay:
            args += ["--underlay", self.underlay]
        args += self.more
        if token:
            path = self.pool.cloud.dir / f"{self.state.name}.token"
            path.touch(0o600)
            path.write_text(token + "\n")
            args += ["--token-file", path]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.run_there(*args), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.pool.cloud.env, start_new_session=True)
        return self

    def run_there(self, *args):
        return self.host.command(self.build / "moln-node", "--state", self.state, *args)

    def stop(self, how=signal.SIGTERM):
        self.pool.cloud.stop(self.process, how)

    def said(self, pattern, limit_s=60):
        return wait_for(f"{pattern!r} in {self.log}, which says:\n{self.log.read_text()}",
                        lambda: re.search(pattern, self.log.read_text()), limit_s)

    def id(self):
        return self.said(r"connected to the control plane as (node-\w+)").group(1)

    def joined(self):
        return (self.folder / "cert.pem").exists()

    def close(self):
        self.stop()
        done = subprocess.run(self.run_there("--purge"), env=self.pool.cloud.env,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class Pool:
    """A cloud without a local node, hosts beside it, and the only way between each of them and
    the control plane; with several hosts, a private network between them. Several control
    processes share a PostgreSQL; the first is 'cloud'. 'apart': those ways are processes of
    their own, which this one cannot keep waiting."""

    def __init__(self, hosts=1, *daemon_args, processes=1, build=BUILD, apart=False):
        self.ports = [free_port() for _ in range(processes)]  # Kept when molnd starts again.
        self.nodes, self.clouds, self.hosts, self.forwards = [], [], [], []
        self.server = Postgres().__enter__() if processes > 1 else None
        self.underlay = None
        try:
            for port in self.ports:
                self.clouds.append(Cloud("--link", f"127.0.0.1:{port}", *self.shared(),
                                         *daemon_args, build=build, node=False))
            self.cloud, self.port = self.clouds[0], self.ports[0]
            self.hosts.extend(Host() for _ in range(hosts))
            self.underlay = Underlay(self.hosts) if hosts > 1 else None
            ways = ApartWays if apart else Ways
            self.forwards.extend(ways(host, self.ports) for host in self.hosts)
            self.forward = self.forwards[0]
        except BaseException:
            self.end()
            raise

    def shared(self):
        """What makes one more molnd a process of the same control plane."""
        if not self.server:
            return []
        if not self.clouds:
            return ["--store", self.server.database("cloud")]
        control = self.clouds[0].state / "control"
        return ["--store", self.server.url("cloud"), "--master-key", control / "master.key",
                "--blobs", control / "blobs"]

    def node(self, name, host=0):
        self.nodes.append(RemoteNode(self, name, host))
        return self.nodes[-1]

    def join(self, *more):
        """An agent on each host, with these options; 'ids' are their nodes'."""
        for n in range(len(self.hosts)):
            node = self.node(f"h{n}", n)
            node.more = list(more)
            node.start(self.token())
        self.ids = [node.id() for node in self.nodes]

    def token(self, zone="us-east-1a", *limits):
        return self.cloud.moln("node", "token", zone, *limits, "--json")["Token"]

    def key(self, ec2):
        """The name of a key pair of the client's account whose private half 'moln ssh' finds."""
        path = self.cloud.state / "keys" / "pool.pem"
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path],
                           check=True)
        if not ec2.describe_key_pairs()["KeyPairs"]:
            ec2.import_key_pair(KeyName="pool", PublicKeyMaterial=path.with_suffix(
                ".pem.pub").read_bytes())
        return "pool"

    @contextlib.contextmanager
    def guest_on_first(self):
        """A guest on the first host, with its shell open; it goes at the end."""
        image = self.cloud.image("micro")  # While every host may still be given work.
        others = self.ids[1:]
        ec2 = self.cloud.client()
        for other in others:
            self.cloud.moln("node", "cordon", other)
        made = ec2.run_instances(
            ImageId=image, InstanceType="t3.nano", MinCount=1, MaxCount=1,
            KeyName=self.key(ec2))["Instances"][0]["InstanceId"]
        guest = Guest(self.cloud, self.cloud.wait_state(made, "running"))
        for other in others:
            self.cloud.moln("node", "uncordon", other)
        guest.ec2 = ec2
        yield guest.open()
        guest.close()
        ec2.terminate_instances(InstanceIds=[made])
        self.cloud.wait_state(made, "terminated")

    def listed(self):
        return {n["NodeId"]: n for n in self.cloud.moln("node", "ls", "--json")["Nodes"]}

    def is_connected(self, node_id):
        return bool(self.listed().get(node_id, {}).get("Connected"))

    def close(self):
        try:
            held = Holdings(self.cloud.state, self.cloud_id())
            for node in self.nodes:
                node.close()
            left = held.everything()
        finally:
            self.end()
        assert not left, left

    def end(self):
        for way in self.forwards:
            way.close()
        if self.underlay:
            self.underlay.close()
        for host in self.hosts:
            host.close()
        for made in reversed(self.clouds):
            made.close()
        if self.server:
            self.server.__exit__()

    def cloud_id(self):
        if self.server:
            return self.server.sql("SELECT cloud_id FROM cloud", "cloud")
        with sqlite3.connect(f"file:{self.database()}?mode=ro", uri=True) as db:
            return db.execute("SELECT cloud_id FROM cloud").fetchone()[0]

    def database(self):
        return self.cloud.state / "control" / "moln.db"
