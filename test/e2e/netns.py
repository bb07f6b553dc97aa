"""A host of its own for one more agent: a network namespace without any link but loopback, and
those of an Underlay between such hosts.

Its only way to the control plane is a Forward: bytes carried by this process between a listener
inside the namespace and a port of this host's loopback, which a test can cut.
"""
import ctypes
import os
import pathlib
import select
import signal
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """Lives as long as its holder, a process that does nothing: that keeps the network and
    the mounts. Its /run and the root of its cgroups are its own, since two agents of one cloud on
    one kernel must not meet in the names they give; its users are this host's."""

    HOLD = """
        mount -t tmpfs -o mode=755 none /run && mkdir /run/netns && ip link set lo up || exit 1
        for root in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            root=${root%/cgroup.procs}
            [ -e $root/cgroup.procs ] || continue
            mkdir $root/moln-host-$$ && mount --bind $root/moln-host-$$ $root || exit 1
        done
        echo up
        exec sleep inf"""

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", self.HOLD],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "up\n":
            self.close()
            raise OSError("no namespace for a second host")

    def command(self, *args):
        """args, to be run on the host."""
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", "--root",
                *map(str, args)]

    def inside(self, make, namespace=None):
        """What make() gives, called on a thread that entered the host's network; or a namespace
        that was made on the host."""
        made, why = [], []
        path = f"/proc/{self.holder.pid}/ns/net"
        if namespace:
            path = f"/proc/{self.holder.pid}/root/run/netns/{namespace}"

        def run():
            try:
                with open(path) as ns:
                    if _libc.setns(ns.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"enter {path}")
                made.append(make())
            except OSError as failure:
                why.append(failure)
        thread = threading.Thread(target=run)  # setns changes this thread alone.
        thread.start()
        thread.join()
        if why:
            raise why[0]
        return made[0]

    def listen(self, address="127.0.0.1", port=0, namespace=None):
        """A TCP listener: on the host's loopback, or in a namespace of it."""
        def make():
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(64)
            return sock
        return self.inside(make, namespace)

    def run(self, *args):
        """What a command says on the host."""
        return subprocess.run(self.command(*args), check=True, capture_output=True,
                              text=True).stdout

    def close(self):
        self.holder.kill()
        self.holder.wait()
        name, root = f"moln-host-{self.holder.pid}", pathlib.Path("/sys/fs/cgroup")
        for group in [*root.glob(name), *root.glob(f"*/{name}")]:
            for inner in sorted(group.rglob("*/"), reverse=True):
                inner.rmdir()
            group.rmdir()


class Underlay:
    """A private network between hosts: a bridge in a namespace of its own, with a pair of links
    to each host."""

    def __init__(self, hosts, mtu=1600):
        self.switch, self.addresses = Host(), []
        self.switch.run("ip", "link", "add", "br0", "mtu", str(mtu), "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")
        for n, host in enumerate(hosts, 1):
            self.plug(n, host, mtu)

    def plug(self, n, host, mtu=1600):
        self.addresses.append(f"192.168.77.{n}")
        self.switch.run("ip", "link", "add", f"u{n}", "mtu", str(mtu), "type", "veth",
                        "peer", "name", "under", "mtu", str(mtu), "netns",
                        str(host.holder.pid))
        self.switch.run("ip", "link", "set", f"u{n}", "master", "br0", "up")
        host.run("ip", "addr", "add", f"{self.addresses[-1]}/24", "dev", "under")
        host.run("ip", "link", "set", "under", "up")

    def close(self):
        self.switch.close()


class Forward:
    def __init__(self, listener, port):
        self.listener, self.target = listener, ("127.0.0.1", port)
        self.port = listener.getsockname()[1]
        self.open, self.pairs, self.ended = True, [], False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.ended:
            try:
                inner, _ = self.listener.accept()
            except OSError:
                return
            if not self.open:
                inner.close()
                continue
            try:
                outer = socket.create_connection(self.target, timeout=5)
            except OSError:
                inner.close()
                continue
            outer.settimeout(None)
            self.pairs.append((inner, outer))
            threading.Thread(target=self.pump, args=(inner, outer), daemon=True).start()

    @staticmethod
    def pump(a, b):
        try:
            while True:
                for ready in select.select([a, b], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (b if ready is a else a).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            a.close()
            b.close()

    def cut(self):
        self.open = False
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def heal(self):
        self.open = True

    def close(self):
        self.ended = True
        self.cut()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # Wakes the thread that accepts.
        except OSError:
            pass
        self.listener.close()


class Ways:
    """The ways from a host to each of the control processes, at the addresses by which these are
    known; cut and healed together."""

    def __init__(self, host, ports):
        self.forwards = [Forward(host.listen(port=port), port) for port in ports]
        self.places = ",".join(f"127.0.0.1:{forward.port}" for forward in self.forwards)

    def cut(self):
        for forward in self.forwards:
            forward.cut()

    def heal(self):
        for forward in self.forwards:
            forward.heal()

    def close(self):
        for forward in self.forwards:
            forward.close()


class ApartWays:
    """The same, carried by a process that does nothing else; they cannot be cut."""

    def __init__(self, host, ports):
        listeners = [host.listen() for _ in ports]
        self.places = ",".join(f"127.0.0.1:{sock.getsockname()[1]}" for sock in listeners)
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.alarm(0)
            for listener, port in zip(listeners, ports):
                Forward(listener, port)
            while True:
                signal.pause()
        for listener in listeners:
            listener.close()

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
