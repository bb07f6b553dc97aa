#!/usr/bin/env python3
"""gen_vectors.py - requests signed by botocore itself, as a C table for test_sigv4.c."""
import datetime
import json
import sys

sys.path.append("/usr/lib/python3/dist-packages")
import botocore.auth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402

NOW = datetime.datetime(2026, 1, 31, 23, 59, 58)
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

# method, path, query, headers, body, service
CASES = [
    ("POST", "/", "", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
     "Action=DescribeInstances&Version=2016-11-15", "ec2"),
    ("GET", "/", "Action=DescribeRegions&Version=2016-11-15", {}, "", "ec2"),
    ("GET", "/", "b=2&a=1&a=0&empty=&flag=", {}, "", "ec2"),
    ("GET", "/", "sp=a%20b&pct=%25&star=%2A&tilde=~&slash=%2F&utf=%C3%A5&b=%2B", {}, "", "ec2"),
    ("GET", "/", "a-b=1&a%20b=2&a.b=3&aB=4&a=5", {}, "", "ec2"),
    ("GET", "/a/./b//c/../d", "", {}, "", "ec2"),
    ("GET", "/dir/", "", {}, "", "ec2"),
    ("GET", "/with%20space/%C3%A5/a~b", "", {}, "", "ec2"),
    ("GET", "/with%20space/./a//b", "", {}, "", "s3"),
    ("GET", "/..", "", {}, "", "ec2"),
    ("POST", "/", "", {"X-Amz-Target": "Moln_20261101.ListNodes",
                       "Content-Type": "application/x-amz-json-1.1"}, "{}", "moln"),
    ("POST", "/", "", {"My-Header": "  a   b\t c  ", "X-Amz-Meta": "x"}, "body", "ec2"),
    ("POST", "/", "", {"My-Header": ""}, "", "sts"),
]


class Frozen(datetime.datetime):
    """A clock that stands."""

    @classmethod
    def utcnow(cls):
        return NOW


def c(text):
    return json.dumps(text.encode().decode("latin-1")).replace("\\u00", "\\x")


def headers_of(items):
    return "{" + ", ".join("{%s, %s}" % (c(k), c(v)) for k, v in items) + "}"


def main(out):
    botocore.auth.datetime.datetime = Frozen
    credentials = Credentials(KEY, SECRET)
    for number, (method, path, query, headers, body, service) in enumerate(CASES):
        url = "http://127.0.0.1:6656" + path + ("?" + query if query else "")
        request = AWSRequest(method=method, url=url, data=body.encode(), headers=headers)
        if service == "s3":
            auth = botocore.auth.S3SigV4Auth(credentials, service, "us-east-1")
        else:
            auth = botocore.auth.SigV4Auth(credentials, service, "us-east-1")
            request.headers["X-Amz-Content-SHA256"] = auth.payload(request)
        auth.add_auth(request)
        items = [("Host", "127.0.0.1:6656")] + list(request.headers.items())
        out.write("    {.method = %s, .path = %s, .query = %s, .body = %s, .service = %s,\n"
                  "     .given = %d, .headers = %s, .header_count = %d},\n"
                  % (c(method), c(path), c(query), c(body), c(service), len(headers),
                     headers_of(items), len(items)))
    for query in ("Action=DescribeInstances&Version=2016-11-15", "a=b%20c&flag="):
        request = AWSRequest(method="GET", url="http://127.0.0.1:6656/?" + query)
        botocore.auth.SigV4QueryAuth(credentials, "ec2", "us-east-1",
                                     expires=60).add_auth(request)
        signed = request.url.split("?", 1)[1]
        out.write("    {.method = \"GET\", .path = \"/\", .query = %s, .body = \"\",\n"
                  "     .service = \"ec2\", .presigned = true,\n"
                  "     .headers = %s, .header_count = 1},\n"
                  % (c(signed), headers_of([("Host", "127.0.0.1:6656")])))


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        main(file)
