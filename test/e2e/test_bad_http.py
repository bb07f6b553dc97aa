"""Bad HTTP and bad signatures: broken heads, bodies too large, chunked, pipelined, slow;
clocks that are off, payloads not signed, headers left out of a signature. The control
plane answers with AWS's codes or closes the connection, and serves the next caller.
"""
import contextlib
import concurrent.futures
import hashlib
import json
import socket
import subprocess
import time

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cloud import Cloud, Keys, wait_for
from signed import FORM, Signed, basic_time

ASK = "Action=DescribeRegions&Version=2016-11-15"


@pytest.fixture(scope="module")
def api():
    cloud = Cloud(node=False)
    try:
        yield Signed(cloud.endpoint, cloud.keys), cloud
        cloud.alive(cloud.molnd)
    finally:
        cloud.close()


@pytest.fixture
def caller(api):
    return api[0]


@pytest.fixture(autouse=True)
def goes_on(api):
    """After each of these the next caller is served, by the same process."""
    yield
    caller, cloud = api
    cloud.alive(cloud.molnd)
    assert caller.ec2("DescribeRegions").status == 200


def refused(answer, *codes):
    assert 400 <= answer.status < 500, answer
    assert answer.code in codes, answer
    return answer


# ---- signatures

def test_keys_that_are_not_right(caller):
    host = "http://" + caller.host
    wrong = Signed(host, Keys(caller.keys.id, "x" * 40))
    refused(wrong.ec2("DescribeRegions"), "AuthFailure")
    refused(wrong.send("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15",
                       service="sts"), "SignatureDoesNotMatch")
    for nobody in ("AKIA" + "A" * 16, "", "a", "x" * 150, "AKIA'; --", "AKIA%00", "operator"):
        refused(Signed(host, Keys(nobody, "x" * 40)).ec2("DescribeRegions"), "AuthFailure",
                "IncompleteSignature")
    refused(wrong.moln("ListAccounts"), "InvalidSignatureException",
            "UnrecognizedClientException")
    refused(caller.moln("ListAccounts"), "UnrecognizedClientException")
    refused(caller.ec2("DescribeRegions", headers={"X-Amz-Security-Token": "t"}), "AuthFailure")


def test_clocks_that_are_off(caller):
    for offset_s in (-3600, -16 * 60, 16 * 60, 3600, 86400 * 365):
        refused(caller.ec2("DescribeRegions", date=basic_time(offset_s)), "RequestExpired")
    for offset_s in (-14 * 60, 14 * 60):
        assert caller.ec2("DescribeRegions", date=basic_time(offset_s)).status == 200
    for date in ("2026", "x" * 16, "20261301T000000Z", "20260230T000000Z", "99999999T999999Z"):
        refused(caller.ec2("DescribeRegions", date=date), "IncompleteSignature",
                "SignatureDoesNotMatch", "AuthFailure", "RequestExpired")
    refused(caller.ec2("DescribeRegions", scope="20200101/us-east-1/ec2/aws4_request"),
            "AuthFailure")


def test_scopes_that_are_not_ours(caller):
    for region in ("us-east-2", "*", "US-EAST-1", "us-east-1%01"):
        refused(caller.ec2("DescribeRegions", region=region), "AuthFailure",
                "IncompleteSignature")
    for service in ("s3", "iam", "EC2", "moln-data"):
        answer = caller.ec2("DescribeRegions", service=service)
        assert 400 <= answer.status < 500, answer
    # The key of one service's scope does not sign another's.
    day = basic_time()[:8]
    headers = caller.sign("POST", "/", ASK.encode(), {"Content-Type": FORM}, "sts")
    headers["Authorization"] = headers["Authorization"].replace(
        f"{day}/us-east-1/sts", f"{day}/us-east-1/ec2")
    refused(caller.raw("POST", "/", ASK.encode(), headers), "AuthFailure")


def test_headers_left_out_of_a_signature(caller):
    body = ASK.encode()
    for left_out in ("host", "x-amz-date"):
        refused(caller.send("POST", "/", body, leave_out=(left_out,)), "AuthFailure")
    refused(caller.send("POST", "/", body, {"X-Amz-Foo": "1"}, leave_out=("x-amz-foo",)),
            "AuthFailure")
    assert caller.send("POST", "/", body, {"X-Foo": "1"}, leave_out=("x-foo",)).status == 200
    headers = caller.sign("POST", "/", body, {"X-Gone": "1"}, "ec2")
    del headers["X-Gone"]
    refused(caller.raw("POST", "/", body, headers), "AuthFailure")


def test_authorization_headers_that_are_broken(caller):
    body = ASK.encode()
    good = caller.sign("POST", "/", body, {}, "ec2")
    authorization = good["Authorization"]
    algorithm, rest = authorization.split(" ", 1)
    credential, signed, signature = rest.split(", ")
    for broken in (
            "", "Basic eDp5", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ,,,,", algorithm + "x " + rest,
            f"{algorithm} {credential}, {signed}", f"{algorithm} {credential}, {signature}",
            f"{algorithm} {signed}, {signature}", f"{authorization}, {credential}",
            f"{authorization}, Extra=1", authorization[:-1], authorization + "0",
            authorization.replace("Signature=", "Signature=G"),
            authorization.replace("/aws4_request", ""),
            authorization.replace("aws4_request", "aws5_request"),
            authorization.replace("/ec2/", "//"), authorization.replace("/ec2/", "/ec2/ec2/"),
            f"{algorithm} Credential={'/' * 4000}, {signed}, {signature}",
            f"{algorithm} Credential={'a' * 40000}, {signed}, {signature}"):
        refused(caller.raw("POST", "/", body, {**good, "Authorization": broken}),
                "IncompleteSignature", "MissingAuthenticationToken", "AuthFailure",
                "SignatureDoesNotMatch")
    refused(caller.raw("POST", "/", body, {**good, "Authorization": authorization.replace(
        "SignedHeaders=host;x-amz-date", "SignedHeaders=x-amz-date;host")}), "AuthFailure")
    refused(caller.raw("POST", "/", body), "MissingAuthenticationToken")
    refused(caller.raw("POST", "/", body, {**good, "X-Amz-Date": basic_time(-5)}), "AuthFailure")


def test_bodies_that_were_not_signed(caller):
    body = ASK.encode()
    good = caller.sign("POST", "/", body, {"Content-Type": FORM}, "ec2")
    refused(caller.raw("POST", "/", body + b"&DryRun=true", good), "AuthFailure")
    refused(caller.raw("POST", "/?DryRun=true", body, good), "AuthFailure")
    refused(caller.raw("GET", "/?" + ASK, b"", good), "AuthFailure")
    # What stands for the body in the signature is the body's digest, in the clear at least.
    refused(caller.send("POST", "/", body, payload="UNSIGNED-PAYLOAD"), "AuthFailure")
    refused(caller.send("POST", "/", body, payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            "AuthFailure")
    refused(caller.send("POST", "/", body, payload=hashlib.sha256(b"").hexdigest()),
            "AuthFailure")
    digest = hashlib.sha256(body).hexdigest()
    assert caller.send("POST", "/", body, payload=digest).status == 200
    operators = caller.moln("ListAccounts", payload="UNSIGNED-PAYLOAD")
    refused(operators, "InvalidSignatureException", "UnrecognizedClientException")


def test_presigned_requests(caller):
    ask = {"Action": "DescribeRegions", "Version": "2016-11-15"}
    assert caller.raw("GET", caller.presign(ask)).status == 200
    assert caller.raw("GET", caller.presign({**ask, "Filter.1.Name": "region-name",
                                             "Filter.1.Value.1": "us *-é"})).status == 200
    refused(caller.raw("GET", caller.presign(ask, date=basic_time(-120))), "RequestExpired")
    refused(caller.raw("GET", caller.presign(ask, date=basic_time(1200))), "RequestExpired")
    for expires_s in (0, -1, 604801, "60x", "9" * 30, ""):
        refused(caller.raw("GET", caller.presign(ask, expires_s)), "IncompleteSignature")
    good = caller.presign(ask)
    refused(caller.raw("POST", good), "AuthFailure")
    refused(caller.raw("GET", good + "&DryRun=true"), "AuthFailure")
    refused(caller.raw("GET", good.replace("DescribeRegions", "DescribeVpcs")), "AuthFailure")
    refused(caller.raw("GET", good, headers={"X-Amz-Foo": "1"}), "AuthFailure")
    refused(caller.raw("GET", good, headers=caller.sign("GET", good, b"", {}, "ec2")),
            "IncompleteSignature")
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders"):
        refused(caller.raw("GET", caller.presign(ask, more=[(f"X-Amz-{name}", "x")])),
                "IncompleteSignature")
        refused(caller.raw("GET", good.replace(f"X-Amz-{name}=", "X-Amz-Else=")),
                "IncompleteSignature")
    refused(caller.raw("GET", good[:-1]), "IncompleteSignature")
    request = AWSRequest("GET", f"http://{caller.host}/", params=ask)
    SigV4QueryAuth(Credentials(caller.keys.id, caller.keys.secret), "ec2", "us-east-1",
                   expires=60).add_auth(request)
    assert caller.raw("GET", "/?" + request.prepare().url.split("?", 1)[1]).status == 200


def test_botocores_own_signature_of_odd_text(caller):
    """Ours and botocore's agree on what must be encoded."""
    body = (ASK + "&Filter.1.Name=region-name&Filter.1.Value.1=%7E%2A+%20%C3%A9").encode()
    request = AWSRequest("POST", f"http://{caller.host}/", data=body, headers={
        "Content-Type": FORM, "X-Blanks": "  a   b  "})
    SigV4Auth(Credentials(caller.keys.id, caller.keys.secret), "ec2", "us-east-1").add_auth(request)
    assert caller.raw("POST", "/", body, dict(request.headers)).status == 200


# ---- HTTP

def talk(host, *pieces, pause_s=0.0, end=False):
    """All that the server says to these bytes."""
    address, port = host.rsplit(":", 1)
    said = b""
    with socket.create_connection((address, int(port)), timeout=10) as sock:
        sock.settimeout(5)
        try:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(pause_s)
            if end:
                sock.shutdown(socket.SHUT_WR)
            while True:
                got = sock.recv(65536)
                if not got:
                    break
                said += got
        except OSError:
            pass
    return said


def head(caller, target="/", body=b"", method="POST", **headers):
    """A whole signed request as bytes."""
    given = {"Content-Type": FORM, "Connection": "close",
             **{name.replace("_", "-"): value for name, value in headers.items()}}
    signed = caller.sign(method, target, body, given, "ec2", leave_out=("connection",))
    if "Transfer-Encoding" not in given:
        signed.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in signed.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("piece", [
    b"GET\r\n\r\n", b"\r\n\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
    b"\x00" * 4096 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nabcde",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"GET /?%zz=%&a&&=&=b&\xff\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", b"A" * 5000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //../..//etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /moln-data/tunnel/i-0123456789abcdef0 HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: moln-tunnel\r\n\r\n",
    b"PUT /moln-data/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
], ids=lambda piece: repr(piece[:24])[2:-1])
def test_broken_http(caller, piece):
    said = talk(caller.host, piece, end=True)
    assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505",
                                           b"HTTP/1.1 501")), said[:200]


def test_bodies_too_large(caller):
    body = ASK.encode() + b"&X=" + b"a" * (10 << 20)
    refused(caller.send("POST", "/", body), "RequestEntityTooLarge")
    body = ASK.encode() + b"&X=" + b"a" * ((10 << 20) - 200)
    refused(caller.send("POST", "/", body), "UnknownParameter")
    # Told at once, or cut off: not read for ever.
    said = talk(caller.host, head(caller, Content_Length=str(1 << 40)), b"x" * 100000, end=True)
    assert said == b"" or b" 413 " in said.split(b"\r\n")[0], said[:200]


def test_chunked_bodies(caller):
    body = ASK.encode()
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in body) + b"0\r\n\r\n"
    said = talk(caller.host, head(caller, body=body, Transfer_Encoding="chunked"), chunks)
    assert said.startswith(b"HTTP/1.1 200"), said[:300]
    endless = b"%x\r\n" % (1 << 20) + b"a" * (1 << 20) + b"\r\n"
    said = talk(caller.host, head(caller, Transfer_Encoding="chunked"), *[endless] * 12,
                b"0\r\n\r\n")
    assert said == b"" or b" 413 " in said.split(b"\r\n")[0], said[:300]
    # Two lengths are two readings: refused, never one request taken for two.
    smuggled = head(caller, body=body, Transfer_Encoding="chunked", Content_Length="4")
    said = talk(caller.host, smuggled, b"0\r\n\r\n" + head(caller, body=body) + body)
    assert said.count(b"HTTP/1.1 200") <= 1 and not said.startswith(b"HTTP/1.1 200"), said[:300]


def test_pipelined_requests_are_answered_in_order(caller):
    asks = [b"Action=DescribeRegions&Version=2016-11-15",
            b"Action=NoSuchThing&Version=2016-11-15",
            b"Action=DescribeVpcs&Version=2016-11-15",
            b"Action=CreateTags&Version=2016-11-15"] * 5
    wire = b"".join(head(caller, body=ask, Connection="keep-alive") + ask for ask in asks[:-1])
    said = talk(caller.host, wire + head(caller, body=asks[-1]) + asks[-1])
    seen = [said.find(mark, 0) for mark in (b"DescribeRegionsResponse", b"InvalidAction",
                                            b"DescribeVpcsResponse", b"MissingParameter")]
    assert said.count(b"HTTP/1.1 ") == 20 and seen == sorted(seen) and seen[0] > 0, said[:2000]


def still_waits(sock):
    """Neither answered nor cut off."""
    sock.setblocking(False)
    try:
        return sock.recv(1) and False
    except BlockingIOError:
        return True


def test_slow_requests_hold_up_nobody(caller):
    body = ASK.encode()
    wire = head(caller, body=body) + body
    said = talk(caller.host, *[wire[i:i + 40] for i in range(0, len(wire), 40)], pause_s=0.02)
    assert said.startswith(b"HTTP/1.1 200")
    address, port = caller.host.rsplit(":", 1)
    waiting = [socket.create_connection((address, int(port)), timeout=5) for _ in range(200)]
    try:
        for sock in waiting:
            sock.sendall(wire[:100])
        for _ in range(20):
            assert caller.ec2("DescribeRegions").status == 200
        assert any(still_waits(sock) for sock in waiting)  # None of them had to go first.
    finally:
        for sock in waiting:
            sock.close()


def test_connections_cut_in_the_middle(caller):
    body = b"Action=CreateKeyPair&Version=2016-11-15&KeyName=cut"
    wire = head(caller, body=body) + body
    address, port = caller.host.rsplit(":", 1)
    for at in range(0, len(wire) - 1, 37):
        with socket.create_connection((address, int(port)), timeout=5) as sock:
            sock.sendall(wire[:at])
    assert "cut" not in caller.ec2("DescribeKeyPairs").text
    for _ in range(20):  # Whole, but nobody waits for the answer.
        with socket.create_connection((address, int(port)), timeout=5) as sock:
            sock.sendall(wire)


def test_doubled_headers(caller):
    body = ASK.encode()
    whole = head(caller, body=body)
    for line in (b"Authorization: AWS4-HMAC-SHA256 x", b"X-Amz-Date: 20200101T000000Z",
                 b"Host: elsewhere", b"Content-Length: 3",
                 b"X-Amz-Content-Sha256: UNSIGNED-PAYLOAD"):
        for twice in (whole.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"),
                      whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n" + line + b"\r\n")):
            said = talk(caller.host, twice + body)
            assert said == b"" or said.startswith(b"HTTP/1.1 4"), (line, said[:300])


def test_json_only_where_it_is_asked_for(caller):
    answer = caller.ec2("DescribeRegions", headers={"Accept": "application/json"})
    assert answer.json()["Regions"][0]["RegionName"] == "us-east-1"
    refusal = caller.ec2("NoSuchThing", headers={"Accept": "application/json"})
    assert refusal.json()["Error"]["Code"] == "InvalidAction"
    assert caller.ec2("DescribeRegions", headers={"Accept": "*/*"}).text.startswith("<?xml")


# ---- uploads and tunnels, where HTTP is used otherwise

def test_uploads_that_are_not_right(api):
    caller, cloud = api

    def put(target="/moln-data/uploads", body=b"x", method="PUT", service="moln-data",
            payload="UNSIGNED-PAYLOAD"):
        return caller.send(method, target, body, service=service, payload=payload)

    assert put().status == 200
    refused(put(payload="0" * 64), "InvalidSignatureException")
    for answer in (put(body=b""), put(method="POST"), put("/moln/uploads"),
                   put("/moln-data/uploads?name=" + "n" * 300),
                   put("/moln-data/uploads?name=%zz"), put("/moln-data/uploads/x"),
                   put("/moln-data/"), put(service="ec2")):
        assert 400 <= answer.status < 500, answer
    refused(caller.raw("PUT", "/moln-data/uploads", b"x"), "MissingAuthenticationToken",
            "MissingAuthenticationTokenException")
    half = b"cut upload" * 10
    said = talk(caller.host, cut_upload(caller), half, end=True)
    assert not said.startswith(b"HTTP/1.1 200")

    def lies(path):
        with contextlib.suppress(FileNotFoundError):  # It may go meanwhile.
            return path.stat().st_size == len(half) and path.read_bytes() == half
    # An end that comes with the last bytes may be noticed with the connection's idle limit only.
    wait_for("the cut upload to go", lambda: not any(
        lies(path) for path in (cloud.state / "control/blobs").iterdir()), 90)


def cut_upload(caller):
    signed = caller.sign("PUT", "/moln-data/uploads", b"", {}, "moln-data",
                         payload="UNSIGNED-PAYLOAD")
    lines = ["PUT /moln-data/uploads HTTP/1.1", *(f"{k}: {v}" for k, v in signed.items()),
             "Content-Length: 1000"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_tunnels_that_are_not_right(caller):
    upgrade = {"Connection": "Upgrade", "Upgrade": "moln-tunnel"}
    for target, headers in (
            ("/moln-data/tunnel/i-0123456789abcdef0?port=22", upgrade),
            ("/moln-data/tunnel/i-0123456789abcdef0?port=0", upgrade),
            ("/moln-data/tunnel/i-0123456789abcdef0?port=65536", upgrade),
            ("/moln-data/tunnel/i-0123456789abcdef0?port=22x", upgrade),
            ("/moln-data/tunnel/i-0123456789abcdef0", upgrade),
            ("/moln-data/tunnel/i-0123456789abcdef0?port=22", {}),
            ("/moln-data/tunnel/?port=22", upgrade), ("/moln-data/tunnel/..?port=22", upgrade),
            ("/moln-data/tunnel/" + "x" * 3000, upgrade),
            ("/moln-data/console/i-0123456789abcdef0", upgrade),
            ("/moln-data/console/i-0123456789abcdef0", {**upgrade, "Upgrade": "moln-console"})):
        answer = caller.send("POST", target, b"", headers, service="moln-data")
        assert 400 <= answer.status < 500 and answer.code, (target, answer)


def test_many_callers_at_once_get_their_own_answers(caller):
    def ask(n):
        mine = Signed("http://" + caller.host, caller.keys)
        for turn in range(10):
            name = f"k{n}-{turn}"
            assert f"<keyName>{name}</keyName>" in mine.ec2(
                "CreateKeyPair", {"KeyName": name, "KeyType": "ed25519"}).text
            assert name in mine.ec2("DescribeKeyPairs", {"KeyName.1": name}).text
            assert mine.ec2("DeleteKeyPair", {"KeyName": name}).status == 200
        mine.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))


# ---- clients that people have

def test_debians_aws_and_boto3_tell_errors_by_their_codes(api):
    caller, cloud = api
    env = {**cloud.env, "AWS_ACCESS_KEY_ID": cloud.keys.id,
           "AWS_SECRET_ACCESS_KEY": cloud.keys.secret, "AWS_DEFAULT_REGION": "us-east-1"}
    aws = lambda *args: subprocess.run(  # noqa: E731
        ["aws", "--endpoint-url", cloud.endpoint, *args], env=env, capture_output=True,
        text=True)
    assert json.loads(aws("ec2", "describe-regions", "--output", "json").stdout)["Regions"]
    gone = aws("ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0")
    assert gone.returncode and "InvalidInstanceID.NotFound" in gone.stderr
    who = json.loads(aws("sts", "get-caller-identity", "--output", "json").stdout)
    assert who["Arn"].endswith(f"{who['Account']}:root")
    with pytest.raises(cloud.client().exceptions.ClientError) as wrong:
        cloud.client(keys=Keys(cloud.keys.id, "x" * 40)).describe_regions()
    assert wrong.value.response["Error"]["Code"] == "AuthFailure"
    assert wrong.value.response["ResponseMetadata"]["RequestId"]
