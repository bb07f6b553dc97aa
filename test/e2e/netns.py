"""A host of its own for a second agent: a network namespace without any link but loopback.

Its only way out is a Forward: bytes carried by this process between a listener inside the
namespace and a port of this host's loopback, which a test can cut.
"""
import ctypes
import os
import select
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """Lives as long as its holder, a process that does nothing: that keeps the network and
    the mounts. Its /run/netns is its own, since two agents on one kernel must not meet in
    the names they give; its cgroups and users are this host's."""

    HOLD = 'mount -t tmpfs none /run/netns && ip link set lo up && echo up && exec sleep inf'

    def __init__(self):
        os.makedirs("/run/netns", exist_ok=True)
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", self.HOLD],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "up\n":
            self.close()
            raise OSError("no namespace for a second host")

    def command(self, *args):
        """args, to be run on the host."""
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--mount",
                *map(str, args)]

    def listen(self):
        """A TCP listener on the host's loopback."""
        made = []

        def inside():
            with open(f"/proc/{self.holder.pid}/ns/net") as ns:
                if _libc.setns(ns.fileno(), CLONE_NEWNET):
                    return
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen(64)
            made.append(sock)
        thread = threading.Thread(target=inside)  # setns changes this thread alone.
        thread.start()
        thread.join()
        if not made:
            raise OSError(ctypes.get_errno(), "enter the second host")
        return made[0]

    def close(self):
        self.holder.kill()
        self.holder.wait()


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
