"""What a host shows of a cloud from outside: its emulators, its kernel's objects, its events."""
import pathlib

from cloud import processes


def emulator_of(instance_id):
    """The pid of the QEMU that runs an instance; None when there is none."""
    for pid, line in processes():
        if line.startswith("/usr/bin/qemu-system") and f"-name {instance_id}," in line:
            return pid
    return None


def events_of(cloud, instance_id, kind):
    """What nodes told about an instance, oldest first."""
    found = cloud.moln("node", "events", "--json")["Events"]
    return [e["Message"] for e in found if e["Object"] == instance_id and e["Kind"] == kind]


def status_of(pid):
    """/proc/PID/status as a dict."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: value.strip() for key, _, value in
            (line.partition(":") for line in text.splitlines())}
