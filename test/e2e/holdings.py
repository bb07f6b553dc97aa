"""What one cloud's node holds on this host: found from the kernel and the disk, not from
what the programs say, so that what nobody owns is found too. What goes while one looks is gone.
"""
import contextlib
import hashlib
import json
import pathlib
import re
import subprocess

NETNS = pathlib.Path("/run/netns")
UID_BASE, UID_SLOTS, UIDS_PER_CLOUD = 0x70000000, 4096, 65536  # src/node/machine/machine.c


class Holdings:
    """'state' is the node's folder; 'cloud_id' names its kernel objects."""

    def __init__(self, state, cloud_id):
        self.state, self.cloud_id = pathlib.Path(state), cloud_id
        digest = hashlib.sha256(cloud_id.encode()).digest()
        slot = int.from_bytes(digest[:2], "big") % UID_SLOTS
        first = UID_BASE + slot * UIDS_PER_CLOUD
        self.uids = range(first, first + UIDS_PER_CLOUD)

    # ---- processes

    def is_others(self, entry, parent):
        """Whether a process with one of our users is another cloud's, which has the same ones by
        chance: one in 4096."""
        clouds = re.findall("/moln-(?!host-)([^/\n]+)", (entry / "cgroup").read_text())
        if clouds:
            return self.cloud_id not in clouds
        with contextlib.suppress(OSError):
            agent = pathlib.Path(f"/proc/{parent}/cmdline").read_text(errors="replace")
            return "moln-node" in agent and str(self.state.parent) not in agent
        return False

    def children(self):
        """pid -> (parent, command line) of every process without privileges: emulators,
        metadata children, inspections of images."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                status = dict(line.split(":", 1) for line in
                              (entry / "status").read_text().splitlines())
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                parent = int(status["PPid"])
                if (status["State"].split()[0] == "Z"
                        or int(status["Uid"].split()[0]) not in self.uids
                        or self.is_others(entry, parent)):
                    continue
            except OSError:
                continue
            found[int(entry.name)] = (parent, " ".join(words))
        return found

    def emulators(self):
        """Instance id -> pids, by the cgroups that the processes are in."""
        found = {}
        for pid, (_, line) in self.children().items():
            if "qemu-system" not in line.split(" ")[0]:
                continue
            try:
                groups = pathlib.Path(f"/proc/{pid}/cgroup").read_text()
            except OSError:
                continue
            for group in groups.splitlines():
                path = group.split(":", 2)[2]
                if f"/moln-{self.cloud_id}/" in path:
                    found.setdefault(path.rsplit("/", 1)[1], set()).add(pid)
        return found

    def metadata_children(self):
        return {pid: parent for pid, (parent, line) in self.children().items()
                if "--metadata-child" in line}

    def dnsmasqs(self):
        """Namespace name -> pids."""
        names, found = {}, {}
        for path in self.namespaces():
            with contextlib.suppress(OSError):
                names[path.stat().st_ino] = path.name
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "comm").read_text() == "dnsmasq\n":
                    inode = (entry / "ns" / "net").stat().st_ino
                    line = (entry / "cmdline").read_bytes().decode(errors="replace")
                    if inode in names or f"/run/moln-{self.cloud_id}/" in line:
                        found.setdefault(names.get(inode, "?"), set()).add(int(entry.name))
            except OSError:
                continue
        return found

    # ---- kernel objects

    def namespaces(self):
        return sorted(NETNS.glob(f"moln-{self.cloud_id}-*")) if NETNS.exists() else []

    def vpcs(self):
        """The namespaces that are VPCs: not the one outside of all, which stays."""
        return [path for path in self.namespaces() if not path.name.endswith("-external")]

    def taps(self):
        found = []
        for path in self.namespaces():
            shown = subprocess.run(["ip", "-netns", path.name, "-json", "link"],
                                   capture_output=True, text=True, check=False)
            if shown.returncode:
                assert not path.exists(), shown.stderr
                continue
            found += [link["ifname"] for link in json.loads(shown.stdout or "[]")
                      if link["ifname"].startswith("mt")]
        return found

    def cgroups(self):
        """Names of the groups in any hierarchy."""
        found = set()
        for pattern in (f"*/moln-{self.cloud_id}", f"*/moln-host-*/moln-{self.cloud_id}"):
            for cloud in pathlib.Path("/sys/fs/cgroup").glob(pattern):
                with contextlib.suppress(OSError):
                    found.update(group.name for group in cloud.iterdir() if group.is_dir())
        return found

    # ---- files

    def folder(self, name):
        path = self.state / "node" / name
        return {p.name for p in path.iterdir()} if path.exists() else set()

    def disks(self):
        """File names in the pool by volume id; what is no volume under its own name."""
        names = self.folder("pool") - {"orphans"} | {
            f"orphans/{name}" for name in self.folder("pool/orphans")}
        return {(n.split("+")[0].split(".qcow2")[0] if n.endswith(".qcow2") else n)
                for n in names}

    def everything(self):
        """All of it, in words; empty after a purge."""
        return ([f"process {pid}: {line}" for pid, (_, line) in self.children().items()] +
                [f"dnsmasq {pids} in {name}" for name, pids in self.dnsmasqs().items()] +
                [f"namespace {path.name}" for path in self.namespaces()] +
                [f"cgroup {name}" for name in self.cgroups()] +
                [str(p) for p in [pathlib.Path(f"/run/moln-{self.cloud_id}")] if p.exists()])
