#!/usr/bin/python3
"""A PostgreSQL server of a test's own: in a folder under /tmp (or MOLN_TEST_DIR), on a unix socket only, as an
unprivileged user, and gone when the test is.

    test/postgres.py COMMAND [AND COMMAND ...]

runs each command with MOLN_TEST_POSTGRES set to the server's URL, and ends with the first
status that is not 0. With --durable first, the server syncs the disk as an operator's
would. As a module: with Postgres() as server: server.database("name").
"""
import glob
import os
import pwd
import shutil
import subprocess
import sys
import tempfile

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    # What is tested survives killed processes, not power cuts.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}


class Postgres:
    def __init__(self, settings=None):
        self.bin = max(glob.glob("/usr/lib/postgresql/*/bin"),
                       key=lambda d: int(d.split("/")[-2]))
        self.dir = tempfile.mkdtemp(prefix="moln-pg-",
                                    dir=os.environ.get("MOLN_TEST_DIR", "/tmp"))
        self.user = "nobody" if os.geteuid() == 0 else None
        self.settings = dict(SETTINGS, **(settings or {}))
        self.server = None

    def __enter__(self):
        if self.user:
            os.chown(self.dir, pwd.getpwnam(self.user).pw_uid, -1)
        os.chmod(self.dir, 0o755)
        self.run("initdb", "-D", self.data(), "-A", "trust", "-U", "moln", "--no-sync",
                 "-E", "UTF8", "--locale=C")
        with open(f"{self.data()}/postgresql.conf", "a") as conf:
            conf.write(f"unix_socket_directories = '{self.dir}'\n")
            for name, value in self.settings.items():
                conf.write(f"{name} = '{value}'\n")
        self.start()
        return self

    def __exit__(self, *_):
        self.stop("immediate")
        shutil.rmtree(self.dir, ignore_errors=True)

    def data(self):
        return f"{self.dir}/data"

    def run(self, program, *args, check=True):
        return subprocess.run([f"{self.bin}/{program}", *args], check=check, cwd=self.dir,
                              user=self.user, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)

    def start(self):
        self.run("pg_ctl", "-D", self.data(), "-w", "-l", f"{self.dir}/log", "start")

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data(), "-w", "-m", mode, "stop", check=False)

    def url(self, database="postgres"):
        return f"postgresql://moln@/{database}?host={self.dir}"

    def sql(self, text, database="postgres"):
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text,
                        self.url(database)).stdout.strip()

    def pid(self):
        with open(f"{self.data()}/postmaster.pid") as file:
            return int(file.readline())

    def questions(self, database):
        """A psql that stays, for who asks often: ask(it, SQL) gives an answer of one line."""
        return subprocess.Popen([f"{self.bin}/psql", "-XAtq", self.url(database)], text=True,
                                bufsize=1, cwd=self.dir, user=self.user,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def database(self, name):
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)


def ask(questions, sql):
    questions.stdin.write(sql + ";\n")
    return questions.stdout.readline().strip()


def main(words):
    settings = {}
    if words[:1] == ["--durable"]:
        settings, words = {"fsync": "on", "full_page_writes": "on"}, words[1:]
    commands = [[]]
    for word in words:
        if word == "AND":
            commands.append([])
        else:
            commands[-1].append(word)
    with Postgres(settings) as server:
        env = dict(os.environ, MOLN_TEST_POSTGRES=server.url())
        for command in commands:
            status = subprocess.run(command, env=env).returncode
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
