"""Ways to a guest that need no route: forward, console, ssh and the tunnel underneath."""
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest

from cloud import Keys, wait_for
from signed import Signed


@pytest.fixture(scope="module")
def guest(cloud, ec2, micro, key):
    instance_id = ec2.run_instances(ImageId=micro, InstanceType="t3.nano", KeyName=key,
                                    MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    cloud.wait_state(instance_id, "running")
    cloud.ssh(instance_id, "true")
    yield instance_id
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def read_until(read, pattern, limit_s=60):
    """What read() gives until 'pattern' is in it."""
    heard, deadline = b"", time.monotonic() + limit_s
    while not re.search(pattern, heard):
        assert time.monotonic() < deadline, f"no {pattern} in {heard[-400:]}"
        heard += read()
    return heard


def of_fd(fd):
    def read():
        return os.read(fd, 65536) if select.select([fd], [], [], 1)[0] else b""
    return read


def test_forward_carries_several_connections_to_the_port(cloud, guest):
    process = subprocess.Popen([cloud.build / "moln", "forward", guest, "22:0"], env=cloud.env,
                               stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.match(r"127\.0\.0\.1:(\d+) ", process.stdout.readline()).group(1))
        both = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(2)]
        for one in both:
            one.settimeout(60)
            assert one.recv(64).startswith(b"SSH-2.0-")
            one.close()
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_console_is_a_terminal_in_the_guest(cloud, guest):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([cloud.build / "moln", "console", guest], env=cloud.env,
                               stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True)
    os.close(theirs)
    try:
        read_until(of_fd(ours), rb"leave with")
        deadline = time.monotonic() + 60
        heard = b""
        while b"# " not in heard:  # Enter wakes the shell of init's askfirst.
            assert time.monotonic() < deadline, heard
            os.write(ours, b"\r")
            heard += read_until(of_fd(ours), rb"\n", 20) + of_fd(ours)()
        os.write(ours, b"echo $((6*7))-said\r")
        read_until(of_fd(ours), rb"42-said")
        os.write(ours, b"\x1d")
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
        os.close(ours)
    # What was typed and answered is in the log as well.
    assert "42-said" in cloud.moln("logs", guest).stdout


def upgrade(cloud, target, what="moln-tunnel", keys=None):
    """Asks for a stream; (status, what was said, socket)."""
    asker = Signed(cloud.endpoint, keys or cloud.keys)
    headers = asker.sign("POST", target, b"", {"Upgrade": what, "Connection": "Upgrade"},
                         "moln-data", leave_out=("connection",))
    host, port = asker.host.split(":")
    sock = socket.create_connection((host, int(port)), 10)
    sock.settimeout(30)
    lines = [f"POST {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()),
             "Content-Length: 0"]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    said = read_until(lambda: sock.recv(65536), rb"\r\n\r\n")
    return int(said.split()[1]), said.decode(), sock


def test_tunnel_goes_to_the_named_instance_and_port_alone(cloud, guest):
    status, said, sock = upgrade(cloud, f"/moln-data/tunnel/{guest}?port=22")
    assert status == 101, said
    first = said.split("\r\n\r\n", 1)[1].encode() or sock.recv(64)
    assert first.startswith(b"SSH-")
    # A port where nobody listens: the stream ends without a byte.
    status, said, sock = upgrade(cloud, f"/moln-data/tunnel/{guest}?port=23")
    assert status == 101 and sock.recv(64) == b""
    for target in (f"{guest}?port=0", f"{guest}?port=65536", f"{guest}?port=-1", guest,
                   f"{guest}?port=22x", "i-..%2f..?port=22", "169.254.169.254?port=80"):
        status, said, _ = upgrade(cloud, f"/moln-data/tunnel/{target}")
        assert status >= 400, (target, said)
    status, said, _ = upgrade(cloud, "/moln-data/tunnel/i-0123456789abcdef0?port=22")
    assert status >= 400 and "InvalidInstanceID.NotFound" in said
    # Another address cannot be asked for.
    status, said, sock = upgrade(
        cloud, f"/moln-data/tunnel/{guest}?address=169.254.169.254&port=80")
    assert status >= 400 or sock.recv(64) == b""


def test_tunnels_of_another_account_and_of_one_without_them_are_refused(cloud, guest):
    made = cloud.moln("account", "create", "reach").stdout
    path = cloud.dir / "reach.credentials"
    path.write_text(made)
    stranger = Keys.read(path)
    for kind, what in (("tunnel", "moln-tunnel"), ("console", "moln-console")):
        status, said, _ = upgrade(cloud, f"/moln-data/{kind}/{guest}?port=22", what, stranger)
        assert status >= 400 and "InvalidInstanceID.NotFound" in said
    status, said, _ = upgrade(cloud, f"/moln-data/tunnel/{guest}?port=22",
                              keys=cloud.operator_keys)
    assert status >= 400

    account = cloud.client("sts").get_caller_identity()["Account"]
    cloud.moln("account", "tunnels", account, "off")
    try:
        status, said, _ = upgrade(cloud, f"/moln-data/tunnel/{guest}?port=22")
        assert status == 403 and "switched tunnels off" in said
    finally:
        cloud.moln("account", "tunnels", account, "on")


def test_ssh_refuses_a_host_key_that_the_console_did_not_show(cloud, guest):
    """Somebody answers on port 22 with a key of their own: no command reaches them."""
    cloud.ssh(guest, "cp /etc/dropbear/ed25519 /root/own && rm -f /root/other && "
                     "dropbearkey -t ed25519 -f /root/other >/dev/null 2>&1 && "
                     "cp /root/other /etc/dropbear/ed25519 && "
                     "(sleep 1; kill $(cat /var/run/dropbear.pid 2>/dev/null || "
                     "pidof dropbear)) >/dev/null 2>&1 &")

    def refused():
        done = cloud.moln("ssh", guest, "--", "echo reached", check=False)
        assert done.returncode in (0, 255), done.stderr
        return done if done.returncode == 255 and "erification failed" in done.stderr else None
    done = wait_for("the refusal", refused, 90, pause_s=1)
    assert "reached" not in done.stdout
