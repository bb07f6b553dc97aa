#!/usr/bin/env python3
"""test_clients.py - the gateway alone, spoken to by botocore and by broken clients.

    test_clients.py GATEWAY_SERVER
"""
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

sys.path.append("/usr/lib/python3/dist-packages")
import botocore.session  # noqa: E402
from botocore.auth import SigV4Auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

ACCOUNT = "123456789012"
KEY = ("AKIATESTTESTTEST0001", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
OPERATOR = ("MOLNTESTTESTTEST0001", "operatorsecretoperatorsecretoperatorsecr")
SERVER = sys.argv.pop(1)


class Gateway:
    """The server under test, plain or with TLS."""

    def __init__(self, *args):
        self.process = subprocess.Popen([SERVER, *args], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.host = f"127.0.0.1:{self.port}"
        self.tls = bool(args)

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(60)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port), 20)
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        return sock

    def send(self, data, last=False):
        """Raw bytes out, all that comes back until the connection ends."""
        with self.connect() as sock:
            try:
                sock.sendall(data)
                if last:  # Half a request: the server may well wait for the rest of it.
                    sock.settimeout(2)
                    sock.shutdown(socket.SHUT_WR)
                return read_all(sock)
            except OSError:  # Cut off, at whatever moment: that is an answer too.
                return b""


def read_all(sock):
    out = b""
    while chunk := sock.recv(65536):
        out += chunk
    return out


def client(gateway, service, key=KEY, **more):
    session = botocore.session.Session()
    return session.create_client(
        service, region_name="us-east-1",
        endpoint_url=f"http{'s' if gateway.tls else ''}://{gateway.host}",
        aws_access_key_id=key[0], aws_secret_access_key=key[1], verify=False,
        config=Config(retries={"max_attempts": 0}, parameter_validation=False), **more)


def signed(gateway, method, target, service, body=b"", key=KEY, headers=None, region="us-east-1"):
    """A signed request as bytes."""
    request = AWSRequest(method=method, url=f"http://{gateway.host}{target}", data=body,
                         headers=headers or {})
    SigV4Auth(Credentials(*key), service, region).add_auth(request)
    head = f"{method} {target} HTTP/1.1\r\nHost: {gateway.host}\r\n"
    for name, value in request.headers.items():
        head += f"{name}: {value}\r\n"
    if "Upgrade" not in request.headers:
        head += "Connection: close\r\n"
    return (head + f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def code_of(error):
    return error.exception.response["Error"]["Code"]


class Clients(unittest.TestCase):
    gateway = None

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()

    @classmethod
    def tearDownClass(cls):
        assert cls.gateway.stop() == 0

    def form(self, body, service="ec2", **more):
        headers = {"Content-Type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        return self.gateway.send(signed(self.gateway, "POST", "/", service, body.encode(),
                                        headers=headers, **more))

    def test_caller_identity(self):
        answer = client(self.gateway, "sts").get_caller_identity()
        self.assertEqual(answer["Account"], ACCOUNT)

    def test_ec2_reads_in_xml_and_in_json_agree(self):
        xml = client(self.gateway, "ec2").describe_regions()
        xml.pop("ResponseMetadata")
        raw = self.form("Action=DescribeRegions&Version=2016-11-15",
                        headers={"Accept": "application/json"})
        self.assertEqual(json.loads(raw.split(b"\r\n\r\n", 1)[1]), xml)

    def test_unknown_key_and_wrong_secret(self):
        for key in (("AKIANOBODY0000000000", "x" * 40), (KEY[0], "y" * 40)):
            with self.assertRaises(ClientError) as error:
                client(self.gateway, "ec2", key).describe_regions()
            self.assertEqual(code_of(error), "AuthFailure")
        with self.assertRaises(ClientError) as error:
            client(self.gateway, "sts", (KEY[0], "y" * 40)).get_caller_identity()
        self.assertEqual(code_of(error), "SignatureDoesNotMatch")
        with self.assertRaises(ClientError) as error:
            client(self.gateway, "sts", ("AKIANOBODY", "y" * 40)).get_caller_identity()
        self.assertEqual(code_of(error), "InvalidClientTokenId")

    def test_tenants_and_operators_are_apart(self):
        with self.assertRaises(ClientError) as error:
            client(self.gateway, "ec2", OPERATOR).describe_regions()
        self.assertEqual(code_of(error), "AuthFailure")
        body = b"{}"
        headers = {"X-Amz-Target": "Moln_20261101.ListAccounts",
                   "Content-Type": "application/x-amz-json-1.1"}
        raw = self.gateway.send(signed(self.gateway, "POST", "/", "moln", body, KEY, headers))
        self.assertIn(b"UnrecognizedClientException", raw)

    def test_region_and_service_must_be_served(self):
        raw = self.form("Action=DescribeRegions&Version=2016-11-15", region="mars-north-1")
        self.assertIn(b"<Code>AuthFailure</Code>", raw)
        self.assertIn(b"mars-north-1", raw)
        self.assertIn(b"SignatureDoesNotMatch",
                      self.form("Action=ListQueues&Version=2012-11-05", "sqs"))

    def test_operations_not_served(self):
        with self.assertRaises(ClientError) as error:
            client(self.gateway, "ec2").describe_vpn_gateways()
        self.assertEqual(code_of(error), "UnsupportedOperation")
        self.assertIn(b"InvalidAction", self.form("Action=Fly&Version=2016-11-15"))
        self.assertIn(b"MissingAction", self.form("Version=2016-11-15"))
        self.assertIn(b"NoSuchVersion",
                      self.form("Action=DescribeRegions&Version=1999-01-01"))

    def test_presigned_reads(self):
        ec2 = client(self.gateway, "ec2")
        url = ec2.generate_presigned_url("describe_regions", ExpiresIn=60, HttpMethod="GET")
        target = url.split(self.gateway.host, 1)[1]
        raw = self.gateway.send(f"GET {target} HTTP/1.1\r\nHost: {self.gateway.host}\r\n"
                                "Connection: close\r\n\r\n".encode())
        self.assertIn(b"<regionName>us-east-1</regionName>", raw)
        self.assertIn(b"AuthFailure", self.gateway.send(
            f"GET {target}&Extra=1 HTTP/1.1\r\nHost: {self.gateway.host}\r\n"
            "Connection: close\r\n\r\n".encode()))

    def test_bodies_past_the_limit(self):
        answer = self.form("Action=DescribeRegions&Version=2016-11-15&X=" + "x" * (11 << 20))
        self.assertTrue(answer.startswith(b"HTTP/1.1 413"), answer[:64])
        self.assertIn(b"RequestEntityTooLarge", answer)
        answer = self.form("Action=DescribeRegions&Version=2016-11-15&X=" + "x" * (9 << 20))
        self.assertIn(b"UnknownParameter", answer)

    def test_broken_http(self):
        host = self.gateway.host.encode()
        for data in (b"", b"\0" * 100, b"GET", b"GET / HTTP/9.9\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
                     b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: -1\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 99\r\n\r\nx",
                     b"POST / HTTP/1.1\r\nHost: " + host +
                     b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            answer = self.gateway.send(data, last=True)
            self.assertFalse(answer.startswith(b"HTTP/1.1 2"), data[:40])
        self.test_caller_identity()

    def test_uploads(self):
        body = os.urandom(3 << 20)
        headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
        raw = self.gateway.send(signed(self.gateway, "PUT", "/moln-data/uploads?name=a.qcow2",
                                       "moln-data", body, KEY, headers))
        answer = json.loads(raw.split(b"\r\n\r\n", 1)[1])
        self.assertEqual(answer["SizeBytes"], len(body))
        self.assertRegex(answer["UploadId"], r"^blob-[0-9a-f]{17}$")
        request = signed(self.gateway, "PUT", "/moln-data/uploads?name=b", "moln-data", b"",
                         KEY, headers)
        big = request.replace(b"Content-Length: 0", b"Content-Length: 9999999999\r\nExpect: 100-continue")
        self.assertIn(b"LimitExceededException", self.gateway.send(big))
        self.assertIn(b"UnrecognizedClientException", self.gateway.send(
            signed(self.gateway, "PUT", "/moln-data/uploads?name=c", "moln-data", b"x",
                   ("AKIANOBODY", "z" * 40), headers)))

    def test_streams_are_handed_over(self):
        headers = {"Upgrade": "moln-tunnel", "Connection": "Upgrade"}
        request = signed(self.gateway, "POST", "/moln-data/tunnel/i-0123456789abcdef0?port=22",
                         "moln-data", b"", KEY, headers)
        with self.gateway.connect() as sock:
            sock.sendall(request)
            answer = read_all(sock)
        self.assertTrue(answer.startswith(b"HTTP/1.1 101"), answer)
        self.assertTrue(answer.endswith(b"hello from the instance\n"), answer)
        for target, code in (("/moln-data/tunnel/i-0123456789abcdef0?port=0", b"InvalidParam"),
                             ("/moln-data/tunnel/i-0123456789abcdef9?port=22",
                              b"InvalidInstanceID.NotFound"),
                             ("/moln-data/tunnel/x?port=22", b"InvalidInstanceID.Malformed")):
            raw = signed(self.gateway, "POST", target, "moln-data", b"", KEY, headers)
            with self.gateway.connect() as sock:
                sock.sendall(raw)
                self.assertIn(code, sock.recv(65536))

    def test_many_at_once(self):
        ec2 = client(self.gateway, "ec2")
        begin = time.monotonic()
        for _ in range(200):
            ec2.describe_regions()
        print(f"200 reads with botocore: {time.monotonic() - begin:.2f} s", file=sys.stderr)


class Tls(unittest.TestCase):
    def test_reads_unsigned_payload_and_streams(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key = folder + "/cert.pem", folder + "/key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
                            cert, "-subj", "/CN=localhost", "-days", "2"], check=True,
                           capture_output=True)
            gateway = Gateway(cert, key)
            try:
                self.assertEqual(client(gateway, "sts").get_caller_identity()["Account"],
                                 ACCOUNT)
                headers = {"Upgrade": "moln-tunnel", "Connection": "Upgrade"}
                with gateway.connect() as sock:
                    sock.sendall(signed(gateway, "POST",
                                        "/moln-data/tunnel/i-0123456789abcdef0?port=22",
                                        "moln-data", b"", KEY, headers))
                    answer = read_all(sock)
                self.assertTrue(answer.endswith(b"hello from the instance\n"), answer)
            finally:
                self.assertEqual(gateway.stop(), 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main(warnings="ignore", verbosity=2)
