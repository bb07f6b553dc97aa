"""The history of a pool while things are done to it, and what must be true of all of it.

Two witnesses, neither of them the programs' own word: the guests, each of which tells an
observer guest who it is, which boot this is, and a number that rises; and the database, read
from outside. A guest that ran twice at once would say a number twice.
"""
import collections
import threading
import time

PORT = 9000
# What a witness runs from its user data: a beat each half second, said once, heard or not.
BEAT = """#!/bin/sh
boot=$(cat /proc/sys/kernel/random/boot_id)
id=$(/usr/lib/micro/imds -w meta-data/instance-id)
(n=0; while n=$((n+1)); do
    echo "$id $boot $n" | nc -w 1 {observer} {port} >/dev/null 2>&1 &
    sleep 0.5
done) &
"""
OBSERVE = ("printf '#!/bin/sh\\nread -r line && echo \"$line\" >>/root/heard\\n' >/root/hear; "
           "chmod +x /root/hear; : >/root/heard; "
           f"nc -ll -p {PORT} -e /root/hear >/dev/null 2>&1 &")

Beat = collections.namedtuple("Beat", "instance boot number")


def beats(text):
    """What the observer heard, in order."""
    return [Beat(words[0], words[1], int(words[2]))
            for words in map(str.split, text.splitlines()) if len(words) == 3]


def check_beats(heard):
    """What was said wrongly: a number said twice, or a boot that speaks after a later one."""
    counts, boots = collections.Counter(heard), {}
    wrong = [f"{beat} was heard {count} times" for beat, count in counts.items() if count > 1]
    for beat in heard:
        known = boots.setdefault(beat.instance, [])
        if beat.boot not in known:
            known.append(beat.boot)
        elif beat.boot != known[-1]:
            wrong.append(f"{beat} speaks, and a later boot of it had spoken")
    return wrong


class Ledger:
    """Reads the database again and again: what nodes are promised, which addresses are had."""

    OVERSOLD = """
        SELECT s.id, c.vcpus, c.memory_bytes, s.memory_bytes
        FROM node_claim c JOIN node_seen s ON s.id = c.id JOIN node n ON n.id = c.id
        WHERE c.memory_bytes > CASE WHEN n.ceiling_memory_bytes > 0
              THEN n.ceiling_memory_bytes ELSE s.memory_bytes END
           OR c.vcpus > CASE WHEN n.ceiling_vcpus > 0 THEN n.ceiling_vcpus
              ELSE s.vcpus * 16 END"""
    TWICE = """
        SELECT account, subnet_id, ipv4, count(*) FROM eni
        GROUP BY account, subnet_id, ipv4 HAVING count(*) > 1"""

    def __init__(self, server):
        self.server, self.wrong, self.looks, self.ended = server, [], 0, False
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.ended:
            for what, query in (("oversold", self.OVERSOLD), ("given twice", self.TWICE)):
                found = self.server.sql(query, "cloud")
                if found:
                    self.wrong.append(f"{what}: {found}")
            self.looks += 1
            time.sleep(0.3)

    def close(self):
        self.ended = True
        self.thread.join()
        assert self.looks, "nothing was looked at"
        return self.wrong
