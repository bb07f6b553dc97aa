"""A lab for the network of one host: src/node/net driven by a small program, and guests
that are network namespaces with raw sockets in place of machines. Everything stays inside
namespaces that the lab makes."""
import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def find_driver():
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    for build in (os.environ.get("MOLN_BUILD"), "build-test", "build"):
        path = os.path.join(root, build or "", "test", "unit", "node", "net_drive")
        if os.path.exists(path):
            return path
    raise FileNotFoundError("net_drive is not built: meson setup build-test -Dtests=true")


def inside(namespace, function):
    """What function() gives, called on a thread that entered the namespace."""
    got = []

    def run():
        with open(f"/run/netns/{namespace}") as ns:
            if _libc.setns(ns.fileno(), CLONE_NEWNET):
                return
        got.append(function())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if not got:
        raise OSError(ctypes.get_errno(), f"enter namespace {namespace}")
    return got[0]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def layer4(proto, sport, dport, pseudo, body):
    """TCP SYN, UDP, or an ICMP echo request (sport: identifier)."""
    if proto == 6:
        head = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, 2, 8192, 0, 0)
        at = 16
    elif proto == 17:
        head = struct.pack("!HHHH", sport, dport, 8 + len(body), 0)
        at = 6
    elif proto not in (1, 58):
        return struct.pack("!II", sport, 1) + body  # ESP's index and number, or like it.
    else:
        kind = {1: 8, 58: 128}[proto] if dport is None else dport
        head = struct.pack("!BBHHH", kind, 0, 0, sport, 1)
        at, pseudo = 2, pseudo if proto == 58 else b""
    if pseudo:
        pseudo += struct.pack("!HBB", len(head) + len(body), 0, proto)
    data = bytearray(head + body)
    data[at:at + 2] = struct.pack("!H", checksum(pseudo + bytes(data)))
    return bytes(data)


def frame(src_mac, dst_mac, src, dst, proto, sport, dport, body):
    """An Ethernet frame; addresses as text, of either family."""
    if ":" in src:
        a, b = socket.inet_pton(socket.AF_INET6, src), socket.inet_pton(socket.AF_INET6, dst)
        data = layer4(proto, sport, dport, a + b + b"\0\0", body)
        packet = struct.pack("!IHBB", 6 << 28, len(data), proto, 64) + a + b + data
        kind = 0x86dd
    else:
        a, b = socket.inet_aton(src), socket.inet_aton(dst)
        pseudo = a + b
        data = layer4_v4(proto, sport, dport, pseudo, body)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, proto, 0) + a + b
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        packet, kind = head + data, 0x0800
    return mac_bytes(dst_mac) + mac_bytes(src_mac) + struct.pack("!H", kind) + packet


def layer4_v4(proto, sport, dport, pseudo, body):
    if proto in (6, 17):
        length = (20 if proto == 6 else 8) + len(body)
        data = bytearray(layer4(proto, sport, dport, b"", body))
        at = 16 if proto == 6 else 6
        data[at:at + 2] = b"\0\0"
        data[at:at + 2] = struct.pack("!H", checksum(
            pseudo + struct.pack("!BBH", 0, proto, length) + bytes(data)))
        return bytes(data)
    return layer4(proto, sport, dport, b"", body)


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def links(namespace):
    out = subprocess.run(["ip", "-n", namespace, "-j", "link"], capture_output=True, text=True,
                         check=True).stdout
    return json.loads(out)


class Underlay:
    """Namespaces that are hosts: the first carries the bridge that joins them. Host n, from 1,
    has the address 192.168.77.n. Labs are made on the first 'labs' of them."""

    def __init__(self, name, hosts, labs):
        self.names = [f"{name}{n}-{os.getpid()}" for n in range(1, hosts + 1)]
        self.labs = []
        try:
            self._join()
            self.labs = [Lab(f"{name}{n}", self.names[n]) for n in range(labs)]
        except BaseException:
            self.close()
            raise

    def _join(self):
        first = self.names[0]
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", first, "link", "add", "br0", "type", "bridge")
        ip("-n", first, "link", "set", "br0", "up")
        ip("-n", first, "addr", "add", "192.168.77.1/24", "dev", "br0")
        for n, name in enumerate(self.names[1:], 2):
            ip("-n", name, "link", "add", "under", "type", "veth", "peer", "name", f"u{n}",
               "netns", first)
            ip("-n", first, "link", "set", f"u{n}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"192.168.77.{n}/24", "dev", "under")
            ip("-n", name, "link", "set", "under", "up")

    def close(self):
        for lab in self.labs:
            lab.close()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


class Guest:
    """A namespace with one veth end and a raw socket on it; its own stack says nothing."""

    def __init__(self, lab, port_id, mac):
        self.lab, self.id, self.mac = lab, port_id, mac
        self.ns = f"{lab.cloud}-{port_id}"
        subprocess.run(["ip", "netns", "add", self.ns], check=True)
        lab.do(op="veth", id=port_id, namespace=f"/run/netns/{self.ns}", name="eth0")

        def raw():
            for path in ("all", "default", "eth0"):
                with open(f"/proc/sys/net/ipv6/conf/{path}/disable_ipv6", "w") as f:
                    f.write("1")
            subprocess.run(["ip", "link", "set", "eth0", "arp", "off", "up"], check=True)
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind(("eth0", 0))
            sock.setblocking(False)
            return sock
        self.sock = inside(self.ns, raw)

    def send(self, data):
        self.sock.send(data)

    def received(self):
        got = []
        while True:
            try:
                data, where = self.sock.recvfrom(4096)
            except BlockingIOError:
                return got
            if where[2] != socket.PACKET_OUTGOING:
                got.append(data)

    def close(self):
        self.sock.close()
        subprocess.run(["ip", "netns", "delete", self.ns], check=False)


class KernelGuest:
    """A namespace whose own stack speaks for the port, as a guest's would."""

    def __init__(self, lab, port_id):
        self.ns = f"{lab.cloud}-{port_id}"
        subprocess.run(["ip", "netns", "add", self.ns], check=True)
        lab.do(op="veth", id=port_id, namespace=f"/run/netns/{self.ns}", name="eth0")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")

    def run(self, *args, check=True, **how):
        """What a program says that runs in it."""
        return subprocess.run(["ip", "netns", "exec", self.ns, *args], check=check, text=True,
                              stdout=subprocess.PIPE, **how).stdout

    def inside(self, function):
        return inside(self.ns, function)

    def close(self):
        self.run("ip", "link", "delete", "eth0", check=False)  # The namespace goes later.
        subprocess.run(["ip", "netns", "delete", self.ns], check=False)


class Lab:
    def __init__(self, name, host=None):
        """'host': a namespace that is this lab's host, with its underlay."""
        self.cloud = f"{name}{os.getpid()}"
        self.guests = {}
        self.kernel_guests = []
        self.host = host
        self.enter = ["nsenter", f"--net=/run/netns/{host}"] if host else []
        self.drive = None
        self.restart()

    def restart(self):
        """The driver, anew: what it left in the kernel is found again, as by an agent."""
        if self.drive:
            self.drive.kill()
            self.drive.wait()
            self.drive.stdin.close()
            self.drive.stdout.close()
        self.drive = subprocess.Popen([*self.enter, find_driver(), self.cloud],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, **command):
        self.drive.stdin.write(json.dumps(command) + "\n")
        self.drive.stdin.flush()
        answer = json.loads(self.drive.stdout.readline())
        if not answer["ok"]:
            raise RuntimeError(f"{command}: {answer['message']}")
        return answer

    def want(self, kind, **record):
        return self.do(op="want", kind=kind, record=record)

    def plug(self, port_id, mac):
        self.guests[port_id] = Guest(self, port_id, mac)
        return self.guests[port_id]

    def plug_kernel(self, port_id):
        made = KernelGuest(self, port_id)
        self.kernel_guests.append(made)
        return made

    def namespaces(self):
        """The networks' first; the cloud's own, as 'external', after them."""
        out = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        return sorted((line.split()[0] for line in out.splitlines()
                       if line.startswith(f"moln-{self.cloud}-")),
                      key=lambda name: name.endswith(("-external", "-passthrough")))

    def nft(self, *args):
        """nft in the lab's first network."""
        return subprocess.run(["ip", "netns", "exec", self.namespaces()[0], "nft", *args],
                              capture_output=True, text=True, check=True).stdout

    def bridges(self, namespace):
        """address/prefix -> MAC of each bridge."""
        out = subprocess.run(["ip", "-n", namespace, "-j", "addr"], capture_output=True,
                             text=True, check=True).stdout
        return {f"{a['local']}/{a['prefixlen']}": link["address"]
                for link in json.loads(out) if link["ifname"].startswith("mb")
                for a in link["addr_info"]}

    def ready(self):
        """Waits until no link has a carrier that the kernel has not yet acted upon: it looks
        once a second, and until then nothing is sent on it."""
        places = [*self.namespaces(), *(g.ns for g in (*self.guests.values(),
                                                      *self.kernel_guests))]
        if self.host:
            places.append(self.host)
        deadline = time.monotonic() + 60
        while late := [link for place in places for link in links(place)
                       if "LOWER_UP" in link["flags"]
                       and link["operstate"] not in ("UP", "UNKNOWN")]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"links that do not come up: {late}")
            time.sleep(0.02)

    def settle(self):
        """Until no guest has anything more to read."""
        socks = [g.sock for g in self.guests.values()]
        return bool(select.select(socks, [], [], 0.02)[0])

    def close(self):
        for guest in [*self.guests.values(), *self.kernel_guests]:
            guest.close()
        self.drive.stdin.close()
        self.drive.wait(30)
