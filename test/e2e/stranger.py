"""A client of the link written from its description (src/link/link.h, link.schema), with no
line of ours in it: says to the control plane what no agent of ours would.
"""
import socket
import ssl
import struct
import time

HELLO, WELCOME, REFUSE = 1, 2, 3
REPORT, ACK = 6, 7
ENROLL = 15
PROTOCOL, NODE_ID, BOOT_ID, CLOCK_NS, AGENT_VERSION, HAVE_REVISION, CLOUD_ID = range(1, 8)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def encode(fields):
    """{number: int, str or bytes} in TLV: integers in zigzag, the others with their length."""
    out = b""
    for number, value in fields.items():
        if isinstance(value, int):
            out += varint(number << 3) + varint(value << 1 if value >= 0 else ~(value << 1))
        else:
            data = value if isinstance(value, bytes) else value.encode()
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at:at + value].decode(errors="replace"), at + value
        else:
            value = value >> 1 ^ -(value & 1)
        fields[key >> 3] = value
    return fields


class Stranger:
    """One stream. 'folder' has cert.pem and key.pem to show; None: no certificate."""

    def __init__(self, port, folder=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if folder:
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.sock = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=20))

    def send(self, kind, fields):
        body = encode(fields)
        self.sock.sendall(struct.pack(">IB", len(body) + 1, kind) + body)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise EOFError("the stream ended")
            data += part
        return data

    def receive(self):
        """(kind, fields) of the next frame."""
        length, kind = struct.unpack(">IB", self.read(5))
        return kind, decode(self.read(length - 1))

    def hello(self, late_s=0, **more):
        """Says hello; (kind, fields) of the answer."""
        fields = {PROTOCOL: 1, CLOCK_NS: time.time_ns() - int(late_s * 1e9)}
        fields.update({globals()[name.upper()]: value for name, value in more.items()})
        self.send(HELLO, fields)
        return self.receive()

    def report(self, sequence, kind, record):
        """A seen record of a kind, as the report with that sequence."""
        self.send(REPORT, {1: kind, 2: encode(record), 3: sequence})

    def acknowledged(self, sequence):
        """Reads until all reports up to that one are stored."""
        while True:
            kind, said = self.receive()
            if kind == ACK and said.get(2, 0) >= sequence:
                return

    def ended_after(self):
        """Reads to the end; seconds that took."""
        begin = time.monotonic()
        try:
            while self.sock.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return time.monotonic() - begin

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
