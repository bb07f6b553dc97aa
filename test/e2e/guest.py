"""A shell in a guest that stays open: one handshake, many commands."""
import contextlib
import re
import select
import subprocess
import time


class Guest:
    """An instance of a cloud, with a shell in it by `moln ssh`."""

    def __init__(self, cloud, instance, env=None):
        self.cloud, self.id = cloud, instance["InstanceId"]
        card = instance["NetworkInterfaces"][0]
        self.ip, self.mac = instance["PrivateIpAddress"], card["MacAddress"]
        self.eni = card["NetworkInterfaceId"]
        self.ip6 = [address["Ipv6Address"] for address in card["Ipv6Addresses"]]
        self.env, self.shell, self.count = env or cloud.env, None, 0

    def open(self, limit_s=240):
        """Tries until SSH answers."""
        deadline = time.monotonic() + limit_s
        while True:
            self.shell = subprocess.Popen(
                [self.cloud.build / "moln", "ssh", self.id, "--", "sh"], env=self.env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                self.run("true", limit_s=60)
                return self
            except (EOFError, TimeoutError) as why:  # Nobody answers yet, or does not go on.
                self.close()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no SSH within {limit_s} s: {why}\n{self.console()}") \
                        from None
                time.sleep(1)

    def console(self):
        """The end of what it said on its serial console."""
        done = subprocess.run([self.cloud.build / "moln", "logs", self.id], env=self.env,
                              text=True, errors="replace", capture_output=True)
        return (done.stdout + done.stderr)[-2000:]

    def start(self, command):
        """Writes it; said() gives what it said."""
        self.count += 1
        self.shell.stdin.write(f"{{ {command}\n}} 2>&1 </dev/null; s=$?\n"
                               f"echo; echo END-{self.count} $s\n".encode())
        self.shell.stdin.flush()

    def said(self, limit_s=120):
        """(status, output) of what was started."""
        heard, deadline = b"", time.monotonic() + limit_s
        while True:
            end = re.search(rb"\n?\nEND-%d (\d+)\n" % self.count, b"\n" + heard)
            if end:
                output = (b"\n" + heard)[1:end.start()]
                return int(end.group(1)), output.decode(errors="replace")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.id} says no end of it: {heard[-400:]}")
            if select.select([self.shell.stdout], [], [], 0.5)[0]:
                data = self.shell.stdout.raw.read(65536)
                if not data:
                    raise EOFError(heard.decode(errors="replace"))
                heard += data

    def run(self, command, limit_s=120):
        try:
            self.start(command)
        except BrokenPipeError:
            raise EOFError from None
        return self.said(limit_s)

    def text(self, command, limit_s=120):
        """What a command says that must succeed."""
        status, output = self.run(command, limit_s)
        assert status == 0, f"{self.id}: {command}: {status}\n{output}"
        return output

    def pings(self, address, wait_s=2, size=56):
        return self.run(f"ping -c 1 -W {wait_s} -s {size} {address}")[0] == 0

    def close(self):
        if self.shell:
            self.shell.kill()
            self.shell.wait()
            with contextlib.suppress(BrokenPipeError):
                self.shell.stdin.close()
            self.shell.stdout.close()
            self.shell = None
