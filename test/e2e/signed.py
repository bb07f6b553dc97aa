"""Requests signed by hand, so that tests can send what no SDK would.

Signed keeps one connection open and signs in a few microseconds: thousands of calls in a
few seconds. Its answers carry status, AWS's code and the text as it came.
"""
import datetime
import hashlib
import hmac
import http.client
import json
import re
import urllib.parse

EC2_VERSION = "2016-11-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
TERMINATOR = "aws4_request"


def quote(text):
    return urllib.parse.quote(text, safe="-_.~")


def basic_time(offset_s=0):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset_s)
    return now.strftime("%Y%m%dT%H%M%SZ")


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text

    @property
    def code(self):
        found = re.search(r"<Code>([^<]*)</Code>", self.text)
        if found:
            return found.group(1)
        if self.text.startswith("{"):
            body = self.json()
            return body.get("__type") or body.get("Error", {}).get("Code")
        return None

    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"{self.status} {self.code}: {self.text.partition(chr(10))[2][:400] or self.text[:400]}"


class Signed:
    def __init__(self, endpoint, keys, region="us-east-1"):
        self.host = endpoint.split("//")[1]
        self.keys, self.region = keys, region
        self.connection = None
        self.signing = {}

    # ---- calls

    def ec2(self, action, params=(), headers=None, **how):
        """One operation of EC2; 'params' a dict or pairs."""
        pairs = params.items() if isinstance(params, dict) else params
        body = urllib.parse.urlencode(
            [("Action", action), ("Version", EC2_VERSION), *pairs], quote_via=urllib.parse.quote)
        return self.send("POST", "/", body.encode(), {"Content-Type": FORM, **(headers or {})},
                         **how)

    def moln(self, operation, ask=None, body=None, **how):
        """One operation of the operators' service."""
        if body is None:
            body = json.dumps(ask or {}).encode()
        how.setdefault("service", "moln")
        return self.send("POST", "/", body, {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"Moln_20261101.{operation}"}, **how)

    def send(self, method, target, body=b"", headers=None, service="ec2", **how):
        """Signs and sends; 'how' is sign()'s."""
        return self.raw(method, target, body,
                        self.sign(method, target, body, headers or {}, service, **how))

    def raw(self, method, target, body=b"", headers=None):
        """Sends as it is; a connection that the server closed meanwhile is opened anew."""
        for last in (False, True):
            if not self.connection:
                self.connection = http.client.HTTPConnection(self.host, timeout=30)
            try:
                self.connection.request(method, target, body, headers or {})
                reply = self.connection.getresponse()
                text = reply.read().decode("utf-8", "surrogateescape")
                if reply.will_close:
                    self.close()
                return Answer(reply.status, dict(reply.getheaders()), text)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                if last:
                    raise

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    # ---- signing

    def key_for(self, day, service, region):
        scope = (self.keys.secret, day, service, region)
        if scope not in self.signing:
            key = ("AWS4" + self.keys.secret).encode()
            for part in (day, region, service, TERMINATOR):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self.signing[scope] = key
        return self.signing[scope]

    def signature(self, method, target, signed, headers, payload, date, scope):
        """'headers' by their lower-case names, as they are signed."""
        path, _, query = target.partition("?")
        pairs = sorted((quote(k), quote(v)) for k, v in urllib.parse.parse_qsl(
            query, keep_blank_values=True) if k != "X-Amz-Signature")
        canonical = "\n".join([
            method, urllib.parse.quote(path, safe="/-_.~%"),
            "&".join(f"{k}={v}" for k, v in pairs),
            *(f"{name}:{' '.join(str(headers[name]).split())}" for name in signed), "",
            ";".join(signed), payload])
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        day, region, service, _ = scope.split("/")
        return hmac.new(self.key_for(day, service, region), text.encode(),
                        hashlib.sha256).hexdigest()

    def sign(self, method, target, body, headers, service, date=None, region=None,
             payload=None, leave_out=(), scope=None):
        """The headers with Authorization; what is in 'leave_out' is sent, but not signed."""
        date = date or basic_time()
        region = region or self.region
        headers = {"Host": self.host, "X-Amz-Date": date, **headers}
        if payload:
            headers["X-Amz-Content-Sha256"] = payload
        lower = {name.lower(): value for name, value in headers.items()}
        signed = sorted(name for name in lower if name not in leave_out)
        scope = scope or f"{date[:8]}/{region}/{service}/{TERMINATOR}"
        signature = self.signature(method, target, signed, lower,
                                   payload or hashlib.sha256(body).hexdigest(), date, scope)
        return {**headers, "Authorization":
                f"AWS4-HMAC-SHA256 Credential={self.keys.id}/{scope}, "
                f"SignedHeaders={';'.join(signed)}, Signature={signature}"}

    def presign(self, params, expires_s=60, date=None, service="ec2", method="GET",
                more=()):
        """A target that carries its own signature."""
        date = date or basic_time()
        scope = f"{date[:8]}/{self.region}/{service}/{TERMINATOR}"
        pairs = [*params.items(), ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                 ("X-Amz-Credential", f"{self.keys.id}/{scope}"), ("X-Amz-Date", date),
                 ("X-Amz-Expires", str(expires_s)), ("X-Amz-SignedHeaders", "host"), *more]
        target = "/?" + urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote)
        signature = self.signature(method, target, ["host"], {"host": self.host},
                                   hashlib.sha256(b"").hexdigest(), date, scope)
        return f"{target}&X-Amz-Signature={signature}"
