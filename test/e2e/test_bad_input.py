"""Bad input to operations: each parameter of each operation missing, malformed, too long,
unknown, given twice, of another account. Each gets AWS's kind of answer, and nothing
changes. The operations and their parameters are read from botocore's model and ours, so
that an operation added to a list is tried without a line here.
"""
import base64
import json
import re

import botocore.session
import pytest

from cloud import ROOT
from seeded import Seeded

MODEL = botocore.session.get_session().get_service_model("ec2")
OPERATORS = json.loads((ROOT / "src/service/moln/model.json").read_text())


def listed(service, kind="read|write"):
    path = ROOT / "src/service" / service / "operations.list"
    return [line.split()[0] for line in path.read_text().splitlines()
            if re.match(rf"[A-Z]\w+ ({kind})", line)]


OPERATIONS = listed("ec2")
READS = set(listed("ec2", "read"))
# Faults of ours, never a client's.
NEVER = {"InternalError", "InternalFailure", "Unavailable"}
# A request with DryRun that is good gets this, so that what we change in one is what is
# refused, and nothing is ever done.
DRY = "DryRunOperation"

# An ED25519 key of 32 bytes, as ImportKeyPair takes it: base64 of base64.
PUBLIC_KEY = base64.b64encode(b"ssh-ed25519 " + base64.b64encode(
    b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(range(32)))).decode()

# Requests that are good, for those operations that ask for more than their required members.
GOOD = {
    "CancelImportTask": {"ImportTaskId": "ImportTaskId"},
    "DeleteKeyPair": {"KeyName": "KeyName"},
    "DeleteLaunchTemplate": {"LaunchTemplateId": "LaunchTemplateId"},
    "DescribeInstanceAttribute": {"InstanceId": "InstanceId", "Attribute": "=userData"},
    "DescribeImageAttribute": {"ImageId": "ImageId", "Attribute": "=description"},
    "DescribeVpcAttribute": {"VpcId": "VpcId", "Attribute": "=enableDnsSupport"},
    "DescribeLaunchTemplateVersions": {"LaunchTemplateId": "LaunchTemplateId"},
    "CreateImage": {"InstanceId": "InstanceId", "Name": "=new"},
    "CreateKeyPair": {"KeyName": "=new"},
    "CreateLaunchTemplate": {"LaunchTemplateName": "=new",
                             "LaunchTemplateData.InstanceType": "=t3.nano"},
    "CreateLaunchTemplateVersion": {"LaunchTemplateId": "LaunchTemplateId",
                                    "LaunchTemplateData.InstanceType": "=t3.nano"},
    "CreateTags": {"ResourceId.1": "InstanceId", "Tag.1.Key": "=k", "Tag.1.Value": "=v"},
    "DeleteTags": {"ResourceId.1": "InstanceId", "Tag.1.Key": "=k"},
    "ImportKeyPair": {"KeyName": "=new", "PublicKeyMaterial": "=" + PUBLIC_KEY},
    "ModifyInstanceAttribute": {"InstanceId": "InstanceId",
                                "DisableApiTermination.Value": "=false"},
    "ModifyInstanceMetadataOptions": {"InstanceId": "InstanceId", "HttpTokens": "=required"},
    "ModifyImageAttribute": {"ImageId": "ImageId", "Description.Value": "=d"},
    "ModifyLaunchTemplate": {"LaunchTemplateId": "LaunchTemplateId", "SetDefaultVersion": "=1"},
    "ResetImageAttribute": {"ImageId": "ImageId", "Attribute": "=launchPermission"},
    "RunInstances": {"ImageId": "ImageId", "InstanceType": "=t3.nano", "MinCount": "=1",
                     "MaxCount": "=1"},
    "RebootInstances": {"InstanceId.1": "InstanceId"},
    "StartInstances": {"InstanceId.1": "InstanceId"},
    "StopInstances": {"InstanceId.1": "InstanceId"},
    "TerminateInstances": {"InstanceId.1": "InstanceId"},
    "DescribeNetworkInterfaceAttribute": {"NetworkInterfaceId": "NetworkInterfaceId",
                                          "Attribute": "=description"},
    "CreateNatGateway": {"SubnetId": "SubnetId", "ConnectivityType": "=private"},
    "CreateSecurityGroup": {"GroupName": "=new", "GroupDescription": "=new"},
    "ModifyNetworkInterfaceAttribute": {"NetworkInterfaceId": "NetworkInterfaceId",
                                        "Attachment.AttachmentId": "AttachmentId",
                                        "Attachment.DeleteOnTermination": "=true"},
    "ModifySecurityGroupRules": {
        "GroupId": "GroupId", "SecurityGroupRule.1.SecurityGroupRuleId": "SecurityGroupRuleId",
        "SecurityGroupRule.1.SecurityGroupRule.IpProtocol": "=-1",
        "SecurityGroupRule.1.SecurityGroupRule.CidrIpv4": "=10.0.0.0/8"},
    "GetConsoleOutput": {"InstanceId": "InstanceId"},
    "ModifyAddressAttribute": {"AllocationId": "AllocationId", "DomainName": "=a.test"},
}

# Good but for the state that the one import is in.
GOOD_BUT = {"CancelImportTask": "IncorrectState"}

# An empty VpcId or SubnetId means the default one here, an empty AllocationId none.
EMPTY_IS_NONE = {"RunInstances", "CreateSecurityGroup", "CreateNatGateway"}
# These succeed, and tell of each id how it went; a key pair may be gone already.
TELLS_OF_EACH = {"DeleteKeyPair", "DeleteFlowLogs", "DeleteVpcEndpoints"}

HOSTILE_TEXT = ["\x01", "\u202e𝔘\ufffe", "", "<&\"'>]]>", "%n%s%x", "'; drop table instance; --",
                "9" * 40, "-1", "x" * 70000, "../../etc/passwd", "a\r\nX-Injected: 1"]
NOT_OF_TYPE = {
    "integer": ["", "x", "1.5", "0x10", " 1", "1 ", "+-1", "9" * 40, "１"],
    "long": ["", "x", "1.5", "9" * 40],
    "boolean": ["", "perhaps", "truee", "2"],
    "timestamp": ["", "yesterday", "2026-13-45T00:00:00Z", "9" * 400],
    "double": ["", "x", "nan", "inf", "1e999"],
    "float": ["", "x", "nan", "inf", "1e999"],
    "blob": ["!!!!", "a"],
}


@pytest.fixture(scope="module")
def api():
    made = Api()
    made.first = made.everything()
    yield made
    made.close()


class Api(Seeded):
    def good(self, operation):
        """A request that can be served; one that would change a thing is dry."""
        ask = {name: value[1:] if value.startswith("=") else self.own[value]
               for name, value in GOOD.get(operation, {}).items()}
        shape = MODEL.operation_model(operation).input_shape
        if not ask:
            for name in shape.required_members:
                ask.update(self.sample(shape.members[name], wire_name(shape.members[name], name)))
        if operation not in READS and "DryRun" in shape.members:
            ask["DryRun"] = "true"
        return ask

    def sample(self, shape, name):
        if shape.type_name == "list":
            return self.sample(shape.member, name + ".1")
        if shape.type_name == "structure":
            found = {}
            for inner in shape.required_members:
                member = shape.members[inner]
                found.update(self.sample(member, f"{name}.{wire_name(member, inner)}"))
            return found
        kind = re.sub(r"(\.1)+$", "", name).split(".")[-1]
        if kind in self.own:
            return {name: self.own[kind]}
        if getattr(shape, "enum", None):
            return {name: shape.enum[0]}
        return {name: {"boolean": "true", "string": "x",
                       "timestamp": "2031-01-01T00:00:00Z"}.get(shape.type_name, "1")}

    def everything(self):
        """What the account has: unchanged by anything that was refused."""
        found = []
        for action in ("DescribeInstances", "DescribeVolumes", "DescribeKeyPairs",
                       "DescribeTags", "DescribeLaunchTemplates", "DescribeVpcs",
                       "DescribeSubnets", "DescribeSecurityGroups",
                       "DescribeSecurityGroupRules", "DescribeNetworkInterfaces",
                       "DescribeImportImageTasks"):
            answer = self.caller.ec2(action)
            assert answer.status == 200, answer
            found.append(re.sub(r"<requestId>[^<]*</requestId>", "", answer.text))
        found.append(self.caller.ec2("DescribeImages", {"Owner.1": "self"}).text.split(
            "</requestId>")[1])
        return found

    def unchanged(self):
        assert self.everything() == self.first


def wire_name(member, shape_name):
    name = member.serialization.get("queryName")
    if name:
        return name
    name = member.serialization.get("name", shape_name)
    return name[0].upper() + name[1:]


def leaves(shape, prefix="", depth=0):
    """(wire name, leaf shape) of each scalar parameter, lists at their first item."""
    if depth > 4:
        return
    for member_name, member in shape.members.items():
        name = prefix + wire_name(member, member_name)
        while member.type_name == "list":
            member = member.member
            name += ".1"
        if member.type_name == "structure":
            yield from leaves(member, name + ".", depth + 1)
        elif member.type_name != "map":
            yield name, member


def served(answer, *about):
    """Whatever it is, it is an answer as AWS gives them."""
    assert answer.status < 500 and answer.code not in NEVER, (*about, answer)
    assert answer.status == 200 or answer.code, (*about, answer)
    bad = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", answer.text)
    assert not bad, (*about, answer)
    return answer


def refused(answer, *codes, about=()):
    served(answer, *about)
    assert 400 <= answer.status < 500 and answer.code != DRY, (*about, answer)
    if codes:
        assert answer.code in codes, (*about, answer)
    return answer


def shape_of(operation):
    return MODEL.operation_model(operation).input_shape


def test_good_requests_are_good(api):
    """What the tests below change a thing in would be done as it stands."""
    wrong = []
    for operation in OPERATIONS:
        good = api.good(operation)
        if "DryRun" not in shape_of(operation).members:
            continue  # Could only be tried by doing it.
        answer = served(api.caller.ec2(operation, {**good, "DryRun": "true"}), operation)
        if operation in GOOD or operation in READS:
            if answer.code != GOOD_BUT.get(operation, DRY):
                wrong.append((operation, answer))
        if operation in READS and api.caller.ec2(operation, good).status != 200:
            wrong.append((operation, api.caller.ec2(operation, good)))
    assert not wrong
    api.unchanged()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_missing_parameters_are_named(api, operation):
    shape = shape_of(operation)
    good = api.good(operation)
    for member_name in shape.required_members:
        name = wire_name(shape.members[member_name], member_name)
        ask = {k: v for k, v in good.items() if k.split(".")[0] != name}
        answer = refused(api.caller.ec2(operation, ask), "MissingParameter")
        assert name.lower()[:8] in answer.text.lower(), answer
    if shape.required_members:
        refused(api.caller.ec2(operation), "MissingParameter")
    api.unchanged()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_unknown_and_doubled_parameters_are_named(api, operation):
    good = api.good(operation)
    for name in ("Surprise", "surprise.1.x", "Filter.1.Surprise", *(f"{k}.X" for k in good),
                 *(f"{k}.0" for k in good if k.endswith(".1")),
                 *(f"{k[:-1]}x" for k in good if k.endswith(".1"))):
        answer = refused(api.caller.ec2(operation, {**good, name: "1"}), "UnknownParameter",
                         "MissingParameter", "InvalidParameterValue")
        assert name.split(".")[0] in answer.text, answer
    for name, value in good.items():
        answer = refused(api.caller.ec2(operation, [*good.items(), (name, value)]),
                         "InvalidParameter")
        assert name in answer.text, answer
    api.unchanged()


def hostile(turn):
    """Some of the texts, others for the next parameter; those that XML cannot carry always."""
    rest = HOSTILE_TEXT[2:]
    return [*HOSTILE_TEXT[:2], *(rest[(turn + n) % len(rest)] for n in (0, 3, 6))]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_malformed_values_of_each_parameter(api, operation):
    good = api.good(operation)
    for turn, (name, leaf) in enumerate(leaves(shape_of(operation))):
        kind = leaf.type_name
        for value in NOT_OF_TYPE.get(kind, HOSTILE_TEXT):
            if name == "DryRun" or kind == "string":
                continue
            refused(api.caller.ec2(operation, {**good, name: value}), about=(name, value))
        for value in hostile(turn) if kind == "string" else ():
            answer = served(api.caller.ec2(operation, {**good, name: value}),
                            operation, name, value[:40])
            assert "X-Injected" not in answer.headers
            if value == "\x01" or "\ufffe" in value:
                refused(answer, about=(name, value))
        if getattr(leaf, "enum", None) and not (
                "InstanceType" in name and "LaunchTemplate" in operation):
            refused(api.caller.ec2(operation, {**good, name: "surprise"}), about=(name,))
    api.unchanged()


# Ids that name nothing of ours: accepted or refused, they open no door.
FOREIGN_KINDS = re.compile(r"Kms|Host|Capacity|License|Elastic|Ram[dD]isk|Kernel|User|Placement")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_ids_malformed_of_nobody_and_of_another_account(api, operation):
    """The answer about a thing of another account is the one about a thing of nobody."""
    good = api.good(operation)
    for name, _ in leaves(shape_of(operation)):
        kind = re.sub(r"(\.1)+$", "", name).split(".")[-1]
        kind = {"SecurityGroupId": "GroupId", "ResourceId": "InstanceId"}.get(kind, kind)
        if not re.search(r"Id$", kind) or FOREIGN_KINDS.search(name) or (
                "LaunchTemplateData" in name or operation in TELLS_OF_EACH):
            continue  # Templates are checked when they are used; a key pair may be gone.
        ask = {k: v for k, v in good.items() if kind != "LaunchTemplateId"
               or k != "LaunchTemplateName"}
        for wrong in ("", "surprise", "i-", "i-xyz", "vol-" + "0" * 16, "I-" + "A" * 17,
                      "i-0123456789abcdef0'", "ami-12 34"):
            if wrong or operation not in EMPTY_IS_NONE:
                refused(api.caller.ec2(operation, {**ask, name: wrong}), about=(name, wrong))
        if kind not in api.own:
            continue
        mine = api.own[kind]
        nobody = re.sub("[0-9a-f]{17}$", "0123456789abcdef0", mine)
        theirs = refused(api.other.ec2(operation, {**ask, name: mine}), about=(name, mine))
        none = refused(api.other.ec2(operation, {**ask, name: nobody}), about=(name, nobody))
        if (kind in ask or name in ask) and len(ask) > 2:
            continue  # Another id of the request may be named before this one.
        assert theirs.code == none.code, (theirs, none)
        assert mine not in ask.values() or mine in theirs.text
    api.unchanged()


def test_many_parameters_and_long_lists(api):
    caller = api.caller
    refused(caller.ec2("DescribeInstances", [(f"InstanceId.{n}", "i-" + "0" * 17)
                                             for n in range(1, 20000)]))
    refused(caller.ec2("DescribeInstances", {"InstanceId.99999": api.own["InstanceId"]}))
    refused(caller.ec2("DescribeInstances", {"InstanceId.4294967297": "i-" + "0" * 17}))
    refused(caller.ec2("DescribeInstances", {"." * 500: "1"}), "UnknownParameter")
    refused(caller.ec2("DescribeInstances", {"Filter.1." * 500 + "Name": "1"}),
            "UnknownParameter")
    refused(caller.ec2("DescribeInstances", [
        ("Filter.1.Name", "tag:Name"), *((f"Filter.1.Value.{n}", "x") for n in range(1, 300))]),
        "FilterLimitExceeded")
    refused(caller.ec2("CreateTags", [
        ("ResourceId.1", api.own["InstanceId"]),
        *((f"Tag.{n}.Key", f"k{n}") for n in range(1, 60))]), "TagLimitExceeded")
    refused(caller.ec2("CreateTags", {
        "ResourceId.1": api.own["InstanceId"], "Tag.1.Key": "k" * 129}),
        "InvalidParameterValue")
    refused(caller.ec2("CreateTags", {
        "ResourceId.1": api.own["InstanceId"], "Tag.1.Key": "aws:k"}), "InvalidParameterValue")
    pattern = "*a" * 4000 + "b"
    served(caller.ec2("DescribeInstances", {"Filter.1.Name": "tag:Name",
                                            "Filter.1.Value.1": pattern}))
    api.unchanged()


def test_text_that_xml_and_json_must_escape_comes_back_as_sent(api):
    ec2 = api.cloud.client()
    hostile = "<a b=\"c\">&amp;'\\ \t]]> 𝔘\u00a0é\u202e"
    ec2.create_tags(Resources=[api.own["InstanceId"]], Tags=[{"Key": hostile, "Value": hostile}])
    try:
        tags = ec2.describe_tags(Filters=[{"Name": "key", "Values": [
            hostile.replace("\\", "\\\\")]}])["Tags"]
        assert [(t["Key"], t["Value"]) for t in tags] == [(hostile, hostile)]
        answer = api.caller.ec2("DescribeTags", headers={"Accept": "application/json"})
        assert (hostile, hostile) in [(t["Key"], t["Value"]) for t in answer.json()["Tags"]]
    finally:
        ec2.delete_tags(Resources=[api.own["InstanceId"]], Tags=[{"Key": hostile}])
    for text in ("\x00", "\x0b", "\x1b[2J", "\ufffe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xff"):
        refused(api.caller.ec2("CreateTags", {
            "ResourceId.1": api.own["InstanceId"], "Tag.1.Key": "k", "Tag.1.Value": text}))
    api.unchanged()


def test_operations_that_are_not_served_are_named(api):
    answer = refused(api.caller.ec2("CreateFpgaImage"), "UnsupportedOperation",
                     "InvalidAction")
    assert "CreateFpgaImage" in answer.text
    for action in ("NoSuchThing", "describeinstances", "", "x" * 5000, "<b>", "Describe\x01"):
        refused(api.caller.ec2(action), "InvalidAction", "MissingAction")
    refused(api.caller.send("POST", "/", b"Version=2016-11-15"), "MissingAction")
    refused(api.caller.send("POST", "/", b"Action=DescribeRegions&Version=1999-01-01"),
            "NoSuchVersion")
    refused(api.caller.send("POST", "/", b"{\"Action\":\"DescribeRegions\"}"))
    refused(api.caller.send(
        "POST", "/?Action=DescribeRegions", b"Action=TerminateInstances&Version=2016-11-15"),
        "InvalidParameter")
    refused(api.caller.send("GET", "/?Action=GetCallerIdentity&Version=2011-06-15&X=1",
                            service="sts"))


# ---- the operators' service

def member_of(name):
    return OPERATORS["shapes"][name]


def operator_sample(shape):
    return {"integer": 1, "long": 1, "boolean": True, "timestamp": 1.5}.get(
        shape["type"], (shape.get("enum") or ["x"])[0])


@pytest.mark.parametrize("operation", listed("moln"))
def test_operators_parameters(api, operation):
    shape = member_of(OPERATORS["operations"][operation]["input"]["shape"])
    required = shape.get("required", [])
    call = api.operator.moln
    accounts = call("ListAccounts").json()["Accounts"]
    for name in required:
        refused(call(operation, {n: operator_sample(member_of(shape["members"][n]["shape"]))
                                 for n in required if n != name}), "ValidationException")
    refused(call(operation, {"Surprise": 1}), "SerializationException")
    for body in (b"[]", b"1", b"null", b"{", b"{}{}", b"\xff", b'{"a":' * 5000, b"[" * 100000,
                 b'{"Name":"\\u0000"}', b'{"Name":"a","Name":"b"}'):
        refused(call(operation, body=body), "SerializationException")
    for name, member in shape["members"].items():
        inner = member_of(member["shape"])
        wrong = {"string": [1, True, [], {}, None, "\x01" * 8, "x" * 70000],
                 "integer": ["1", 1.5, -10**30, 10**30, -1, [], {}],
                 "long": ["1", 1.5, 10**30, -1, {}], "boolean": ["true", 1, 0, []],
                 "timestamp": ["never", [], {}], "list": ["x", 1, {}, [1], ["\x01" * 8]],
                 }[inner["type"]]
        for value in wrong:
            answer = served(call(operation, {name: value}), operation, name, value)
            if value is not None and name != "NextToken":
                refused(answer)
    assert call("ListAccounts").json()["Accounts"] == accounts
