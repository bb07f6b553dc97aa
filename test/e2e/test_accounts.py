"""Accounts, their keys and quotas, as operators set them and tenants feel them; what EC2
promises whoever lists and repeats: filters, pages, tokens, read-after-write.
"""
import base64
import json
import re
import shutil
import time

import botocore.exceptions
import pytest

from cloud import Cloud, Keys, wait_for
from seeded import Seeded
from signed import Signed


@pytest.fixture(scope="module")
def api():
    made = Seeded()
    yield made
    made.close()


@pytest.fixture
def account(api):
    """A tenant of its own: id, keys, EC2 client."""
    made = Account(api.cloud)
    yield made
    made.end()


class Account:
    def __init__(self, cloud):
        made = cloud.moln("account", "create", "tenant", "--json")
        self.cloud = cloud
        self.id = made["Account"]["AccountId"]
        self.keys = Keys(made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"])
        self.ec2 = cloud.client(keys=self.keys)
        self.signed = Signed(cloud.endpoint, self.keys)

    def end(self):
        """Ends what runs, if the account can still say so."""
        reply = self.signed.ec2("DescribeInstances")
        ids = re.findall("<instanceId>(i-[0-9a-f]+)", reply.text)
        if ids:
            self.signed.ec2("TerminateInstances", {
                f"InstanceId.{n}": instance_id for n, instance_id in enumerate(ids, 1)})

    def keys_of(self):
        return {key["AccessKeyId"]: key["State"] for key in self.cloud.moln(
            "account", "key", "ls", self.id, "--json")["AccessKeys"]}


def code_of(call, *args, **params):
    """The code with which the call is refused."""
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        call(*args, **params)
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500 or \
        refusal.value.response["Error"]["Code"] == "RequestLimitExceeded"
    return refusal.value.response["Error"]["Code"]


def moln_fails(cloud, *args):
    done = cloud.moln(*args, check=False)
    assert done.returncode == 1 and done.stderr, done
    return done.stderr


def launch(api, ec2, **params):
    """An image is its account's own: another launches once it may."""
    api.cloud.client().modify_image_attribute(
        ImageId=api.own["ImageId"], LaunchPermission={"Add": [{"Group": "all"}]})
    return ec2.run_instances(**{"ImageId": api.own["ImageId"], "InstanceType": "t3.nano",
                                "MinCount": 1, "MaxCount": 1, **params})


# ---- accounts

def test_an_account_begins_with_a_default_vpc_and_nothing_else(account):
    vpcs = account.ec2.describe_vpcs()["Vpcs"]
    assert [vpc["IsDefault"] for vpc in vpcs] == [True]
    assert account.ec2.describe_subnets()["Subnets"]
    assert account.ec2.describe_instances()["Reservations"] == []
    assert account.ec2.describe_key_pairs()["KeyPairs"] == []
    who = account.cloud.client("sts", keys=account.keys).get_caller_identity()
    assert who["Account"] == account.id and re.fullmatch(r"\d{12}", account.id)


def test_a_disabled_account_is_refused_until_it_is_enabled(account):
    account.cloud.moln("account", "disable", account.id)
    assert code_of(account.ec2.describe_instances) == "Blocked"
    assert code_of(account.ec2.create_key_pair, KeyName="k") == "Blocked"
    account.cloud.moln("account", "enable", account.id)
    assert account.ec2.describe_key_pairs()["KeyPairs"] == []


def test_an_account_that_owns_things_is_not_deleted(account):
    account.ec2.create_key_pair(KeyName="k")
    assert "key pairs" in moln_fails(account.cloud, "account", "rm", account.id)
    account.ec2.delete_key_pair(KeyName="k")
    account.cloud.moln("account", "rm", account.id)
    assert code_of(account.ec2.describe_instances) == "AuthFailure"
    assert account.id not in [a["AccountId"] for a in account.cloud.moln(
        "account", "ls", "--json")["Accounts"]]
    moln_fails(account.cloud, "account", "show", account.id)
    # The id of a dead account is nobody's again.
    moln_fails(account.cloud, "account", "create", "again", "--id", account.id)


def test_an_account_with_instances_is_not_deleted(api):
    owner = api.cloud.client("sts").get_caller_identity()["Account"]
    assert "instances" in moln_fails(api.cloud, "account", "rm", owner)


# ---- keys

def test_two_keys_live_at_a_time(account):
    cloud = account.cloud
    second = cloud.moln("account", "key", "create", account.id, "--json")["AccessKey"]
    assert len(account.keys_of()) == 2
    assert "already" in moln_fails(cloud, "account", "key", "create", account.id)
    both = cloud.client(keys=Keys(second["AccessKeyId"], second["SecretAccessKey"]))
    assert both.describe_vpcs()["Vpcs"] == account.ec2.describe_vpcs()["Vpcs"]

    cloud.moln("account", "key", "deactivate", account.keys.id)
    assert account.signed.ec2("DescribeVpcs").code == "AuthFailure"  # At once.
    cloud.moln("account", "key", "activate", account.keys.id)
    assert account.signed.ec2("DescribeVpcs").status == 200

    cloud.moln("account", "key", "rm", second["AccessKeyId"])
    assert code_of(both.describe_vpcs) == "AuthFailure"
    assert account.keys_of() == {account.keys.id: "active"}


def test_a_rotated_key_gives_way_to_its_successor(account):
    new = account.cloud.moln("account", "key", "rotate", account.keys.id, "--json")
    assert code_of(account.ec2.describe_vpcs) == "AuthFailure"
    new = new["AccessKey"]
    after = account.cloud.client(keys=Keys(new["AccessKeyId"], new["SecretAccessKey"]))
    assert after.describe_vpcs()["Vpcs"]
    assert account.keys_of() == {account.keys.id: "inactive", new["AccessKeyId"]: "active"}


def test_operators_and_tenants_never_meet(api, account):
    for operation in ("ListAccounts", "GetStatus", "CreateAccount", "ListAuditRecords"):
        answer = account.signed.moln(operation)
        assert answer.status == 400 and answer.code == "UnrecognizedClientException", answer
    for action in ("DescribeInstances", "CreateKeyPair"):
        assert api.operator.ec2(action).code == "AuthFailure"
    assert api.operator.send("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15",
                             service="sts").code == "InvalidClientTokenId"
    upload = {"service": "moln-data", "payload": "UNSIGNED-PAYLOAD"}
    assert 400 <= api.operator.send("PUT", "/moln-data/uploads", b"x", **upload).status < 500
    assert 400 <= account.signed.send("PUT", "/moln/uploads", b"x", service="moln",
                                      payload="UNSIGNED-PAYLOAD").status < 500


def test_operators_keys(api):
    cloud = api.cloud
    made = cloud.moln("operator", "key", "create", "second", "--json")["AccessKey"]
    second = Signed(cloud.endpoint, Keys(made["AccessKeyId"], made["SecretAccessKey"]))
    assert second.moln("ListAccounts").status == 200
    cloud.moln("operator", "key", "deactivate", made["AccessKeyId"])
    assert second.moln("ListAccounts").status == 400
    # The last one stays: nobody could make another.
    moln_fails(cloud, "operator", "key", "deactivate", cloud.operator_keys.id)


# ---- quotas

def test_quotas_hold_and_are_told_by_their_codes(api, account):
    quota = lambda **limits: account.cloud.moln(  # noqa: E731
        "account", "quota", account.id, *(f"--{k}={v}" for k, v in limits.items()))
    quota(instances=1)
    launch(api, account.ec2)
    assert code_of(launch, api, account.ec2) == "InstanceLimitExceeded"
    quota(instances=10, vcpus=2)
    assert code_of(launch, api, account.ec2) == "VcpuLimitExceeded"
    quota(vcpus=1000, disk=1)
    assert code_of(launch, api, account.ec2) == "VolumeLimitExceeded"
    # As many as fit, when fewer will do.
    quota(instances=3, disk=1000)
    assert len(launch(api, account.ec2, MaxCount=9)["Instances"]) == 2
    assert code_of(launch, api, account.ec2, DryRun=True) in (
        "InstanceLimitExceeded", "DryRunOperation")
    shown = account.cloud.moln("account", "show", account.id, "--json")["Account"]
    assert (shown["UsedInstances"], shown["QuotaInstances"]) == (3, 3)
    other = Account(account.cloud)  # One account's quota is not another's.
    launch(api, other.ec2)
    other.end()


def test_uploads_count_against_the_disk_quota(account):
    account.cloud.moln("account", "quota", account.id, "--disk", "1")
    big = account.signed.sign("PUT", "/moln-data/uploads", b"", {"Content-Length": str(2 << 30)},
                              "moln-data", payload="UNSIGNED-PAYLOAD", leave_out=())
    answer = account.signed.raw("PUT", "/moln-data/uploads", b"", {**big, "Expect": "100-continue"})
    assert answer.code == "LimitExceededException", answer


def test_tunnels_are_switched_off_per_account(api, account):
    instance = launch(api, account.ec2)["Instances"][0]["InstanceId"]

    def ask(what="tunnel", query="?port=22"):
        return account.signed.send(
            "POST", f"/moln-data/{what}/{instance}{query}", b"",
            {"Connection": "Upgrade", "Upgrade": f"moln-{what}"}, service="moln-data")

    account.cloud.moln("account", "tunnels", account.id, "off")
    for answer in (ask(), ask("console", "")):
        assert answer.status == 403 and answer.code == "AccessDenied", answer
    shown = account.cloud.moln("account", "show", account.id, "--json")["Account"]
    assert shown["Tunnels"] is False
    account.cloud.moln("account", "tunnels", account.id, "on")
    assert ask().code != "AccessDenied"


# ---- audit

def records(api, **ask):
    found, token = [], None
    while True:
        page = api.operator.moln("ListAuditRecords", {
            **ask, "MaxResults": 1000, **({"NextToken": token} if token else {})}).json()
        found += page["Records"]
        token = page.get("NextToken")
        if not token:
            return found


def test_every_call_is_recorded_with_how_it_ended(api, account):
    caller = account.signed
    caller.ec2("CreateKeyPair", {"KeyName": "k"}, headers={"User-Agent": "test/1 (<x>)"})
    caller.ec2("CreateKeyPair", {"KeyName": "k"})
    caller.ec2("DescribeVpcs")
    caller.ec2("TerminateInstances", {"InstanceId.1": "i-0123456789abcdef0"})
    Signed(api.cloud.endpoint, Keys(account.keys.id, "x" * 40)).ec2("DescribeVpcs")
    api.cloud.moln("account", "quota", account.id, "--instances", "7")
    api.operator.moln("DisableAccount", {"AccountId": "000000000001"})

    def all_mine():  # Reads are written a moment later.
        found = records(api, AccountId=account.id)
        return found if len(found) >= 4 else None
    mine = wait_for("the records", all_mine)
    ended = [(r["Operation"], r.get("ErrorCode")) for r in mine]
    assert ended == [
        ("CreateKeyPair", None), ("CreateKeyPair", "InvalidKeyPair.Duplicate"),
        ("DescribeVpcs", None), ("TerminateInstances", "InvalidInstanceID.NotFound")], ended
    first = mine[0]
    assert first["AccessKeyId"] == account.keys.id and first["SourceIp"] == "127.0.0.1"
    assert first["Service"] == "ec2" and first["Region"] == "us-east-1"
    assert first["UserAgent"] == "test/1 (<x>)" and first["RequestId"]
    assert abs(first["At"] - time.time()) < 60

    stranger = wait_for("the stranger's", lambda: [
        r for r in records(api) if r.get("ErrorCode") == "AuthFailure"])
    assert all("AccountId" not in r for r in stranger)

    def all_theirs():
        found = records(api, AccountId="operator")
        return found if any("000000000001" in r.get("Detail", "") for r in found) else None
    operators = wait_for("the operator's", all_theirs)
    quota = [r for r in operators if r["Operation"] == "SetAccountQuota"][-1]
    assert quota["AccessKeyId"] == api.cloud.operator_keys.id
    assert json.loads(quota["Detail"]) == {"AccountId": account.id, "QuotaInstances": 7}
    failed = [r for r in operators if r["Operation"] == "DisableAccount"][-1]
    assert failed["ErrorCode"] == "ResourceNotFoundException"

    table = api.cloud.moln("audit", "--account", account.id).stdout.splitlines()
    assert [line.split()[4:7:2] for line in table[1:]] == [
        [f"ec2:{name}", error or "ok"] for name, error in ended], table
    refused = api.cloud.moln("audit", "--from", "yesterday", check=False)
    assert refused.returncode and "fromDay" in refused.stderr, refused.stderr
    assert "000000000001" in failed["Detail"]
    assert account.keys.secret not in json.dumps(records(api))


# ---- what EC2 promises

def test_filters_match_by_wildcards_and_by_nothing_else(account):
    ec2 = account.ec2
    names = ["web-1", "web-2", "db-1", "w*b", "w?b", "[a-z]", "back\\slash", "WEB-1"]
    for name in names:
        ec2.create_key_pair(KeyName=name, KeyType="ed25519")

    def found(*values):
        return sorted(k["KeyName"] for k in ec2.describe_key_pairs(
            Filters=[{"Name": "key-name", "Values": list(values)}])["KeyPairs"])

    assert found("web-*") == ["web-1", "web-2"]
    assert found("?eb-1", "db-?") == ["db-1", "web-1"]
    assert found("w\\*b") == ["w*b"]
    assert found("w\\?b") == ["w?b"]
    assert found("w?b") == ["w*b", "w?b"]
    assert found("[a-z]") == ["[a-z]"]
    assert found("back\\\\slash") == ["back\\slash"]
    assert found("*") == sorted(names)
    assert found("web") == [] and found("") == []
    assert found("*-1", "*-2") == ["WEB-1", "db-1", "web-1", "web-2"]
    assert code_of(ec2.describe_key_pairs, Filters=[{"Name": "no-such", "Values": ["x"]}]) == \
        "InvalidParameterValue"


def test_filters_of_a_request_are_all_to_match(api):
    ec2 = api.cloud.client()

    def found(**filters):
        reply = ec2.describe_instances(Filters=[
            {"Name": k.replace("__", ":").replace("_", "-"), "Values": v}
            for k, v in filters.items()])
        return [i["InstanceId"] for r in reply["Reservations"] for i in r["Instances"]]

    mine = api.own["InstanceId"]
    assert found(tag__Name=["mine"]) == [mine]
    assert found(tag__Name=["m*"], instance_type=["t3.*"], image_id=[api.own["ImageId"]]) == [mine]
    assert found(tag__Name=["mine"], instance_type=["m5.*"]) == []
    assert found(tag_key=["Na*"]) == [mine] and found(tag_key=["Nam"]) == []
    assert mine in found(instance_state_name=["run*"])
    assert not found(instance_state_name=["RUNNING"])


def test_pages_stay_stable_while_things_come_and_go(account):
    ec2 = account.ec2
    for n in range(40):
        ec2.create_launch_template(LaunchTemplateName=f"t{n:02}",
                                   LaunchTemplateData={"InstanceType": "t3.nano"})
    whole = [t["LaunchTemplateId"] for t in ec2.describe_launch_templates()["LaunchTemplates"]]
    seen, token, turn = [], None, 0
    while True:
        page = ec2.describe_launch_templates(
            MaxResults=7, **({"NextToken": token} if token else {}))
        seen += [t["LaunchTemplateId"] for t in page["LaunchTemplates"]]
        assert len(page["LaunchTemplates"]) <= 7
        ec2.create_launch_template(LaunchTemplateName=f"new{turn}",
                                   LaunchTemplateData={"InstanceType": "t3.nano"})
        if turn == 2:
            ec2.delete_launch_template(LaunchTemplateId=whole[-1])
            ec2.delete_launch_template(LaunchTemplateId=seen[0])
        turn += 1
        token = page.get("NextToken")
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert set(whole) - set(seen) <= {whole[-1]}


def test_tokens_of_pages_belong_to_their_request(api, account):
    ec2 = account.ec2
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": f"k{n}" + "𝔘" * 125, "Value": "v"}
                                           for n in range(12)])
    first = ec2.describe_tags(MaxResults=5)
    token = first["NextToken"]
    rest = ec2.get_paginator("describe_tags").paginate(PaginationConfig={"PageSize": 5})
    assert len([t for page in rest for t in page["Tags"]]) == 12
    for other in (token[:-2], token + "00", "x", "0" * 64, "\u00e9" * 40, token[::-1]):
        assert code_of(ec2.describe_tags, MaxResults=5, NextToken=other) == \
            "InvalidParameterValue"
    assert code_of(ec2.describe_tags, MaxResults=5, NextToken=token, Filters=[
        {"Name": "key", "Values": ["*"]}]) == "InvalidParameterValue"
    assert code_of(ec2.describe_instances, NextToken=token) == "InvalidParameterValue"
    assert code_of(api.cloud.client().describe_tags, NextToken=token) == "InvalidParameterValue"


def test_max_results_has_bounds_and_goes_not_with_ids(api):
    ec2 = api.cloud.client()
    own = api.own
    for call, ids in ((ec2.describe_instances, {"InstanceIds": [own["InstanceId"]]}),
                      (ec2.describe_volumes, {"VolumeIds": [own["VolumeId"]]}),
                      (ec2.describe_instance_status, {"InstanceIds": [own["InstanceId"]]})):
        assert code_of(call, MaxResults=10, **ids) == "InvalidParameterCombination"
        above = () if call == ec2.describe_volumes else (1001, 2**31)  # There it is cut.
        for bad in (0, 1, 4, -1, *above):
            assert code_of(call, MaxResults=bad).startswith("InvalidParameterValue")


def test_what_was_written_is_read_at_once(account):
    ec2 = account.ec2
    for n in range(50):
        name = f"k{n}"
        pair = ec2.import_key_pair(KeyName=name, PublicKeyMaterial=public_key(n))
        assert ec2.describe_key_pairs(KeyNames=[name])["KeyPairs"][0]["KeyPairId"] == \
            pair["KeyPairId"]
        ec2.create_tags(Resources=[pair["KeyPairId"]], Tags=[{"Key": "n", "Value": str(n)}])
        assert [k["KeyName"] for k in ec2.describe_key_pairs(
            Filters=[{"Name": "tag:n", "Values": [str(n)]}])["KeyPairs"]] == [name]
        ec2.delete_key_pair(KeyName=name)
        assert code_of(ec2.describe_key_pairs, KeyNames=[name]) == "InvalidKeyPair.NotFound"


def public_key(n):
    return b"ssh-ed25519 " + base64.b64encode(
        b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes([n] * 32))


def test_client_tokens_do_a_thing_once(api, account):
    ec2 = account.ec2
    first = launch(api, ec2, ClientToken="once")
    again = launch(api, ec2, ClientToken="once")
    assert first["ReservationId"] == again["ReservationId"]
    assert [i["InstanceId"] for i in first["Instances"]] == [
        i["InstanceId"] for i in again["Instances"]]
    assert code_of(launch, api, ec2, ClientToken="once", InstanceType="t3.micro") == \
        "IdempotentParameterMismatch"
    other = Account(account.cloud)
    assert launch(api, other.ec2, ClientToken="once")["ReservationId"] != first["ReservationId"]
    other.end()
    assert len(ec2.describe_instances()["Reservations"]) == 1
    template = {"LaunchTemplateName": "once", "LaunchTemplateData": {"InstanceType": "t3.nano"}}
    one = ec2.create_launch_template(ClientToken="t", **template)["LaunchTemplate"]
    two = ec2.create_launch_template(ClientToken="t", **template)["LaunchTemplate"]
    assert one["LaunchTemplateId"] == two["LaunchTemplateId"]
    assert code_of(launch, api, ec2, ClientToken="x" * 65) == "InvalidParameterValue"


def test_a_dry_run_changes_nothing(api, account):
    ec2 = account.ec2
    assert code_of(launch, api, ec2, DryRun=True, ClientToken="dry") == "DryRunOperation"
    assert code_of(ec2.create_key_pair, KeyName="dry", DryRun=True) == "DryRunOperation"
    assert ec2.describe_instances()["Reservations"] == []
    assert ec2.describe_key_pairs()["KeyPairs"] == []
    assert launch(api, ec2, ClientToken="dry")["Instances"]
    assert code_of(api.cloud.client().terminate_instances, DryRun=True,
                   InstanceIds=[api.own["InstanceId"]]) == "DryRunOperation"
    assert api.cloud.instance(api.own["InstanceId"])["State"]["Name"] == "running"


# ---- clouds of their own

def test_low_rates_throttle_an_account_and_no_other(tmp_path):
    config = tmp_path / "molnd.json"
    config.write_text(json.dumps({"read_rate": 1, "write_rate": 1}))
    config.chmod(0o644)
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755) if str(parent) != "/tmp" else None
    cloud = Cloud("--config", config, node=False)
    try:
        caller = Signed(cloud.endpoint, cloud.keys)
        reads = [caller.ec2("DescribeRegions") for _ in range(30)]
        assert {(r.status, r.code) for r in reads} == {
            (200, None), (503, "RequestLimitExceeded")}
        assert [r.status for r in reads[:2]] == [200, 200]  # A burst of two seconds' worth.
        writes = [caller.ec2("CreateKeyPair", {"KeyName": f"k{n}", "KeyType": "ed25519"})
                  for n in range(30)]
        assert {w.code for w in writes} == {None, "RequestLimitExceeded"}
        # No other tenant is held up by this one; operators have their own measure.
        other = Account(cloud)
        assert other.signed.ec2("DescribeRegions").status == 200
        time.sleep(1.2)
        assert caller.ec2("DescribeRegions").status == 200
        operator = Signed(cloud.endpoint, cloud.operator_keys)
        assert "ThrottlingException" in {operator.moln("ListAccounts").code for _ in range(30)}
    finally:
        cloud.close()


def test_a_backup_brings_back_rows_and_master_key(tmp_path, monkeypatch):
    monkeypatch.delenv("MOLN_TEST_POSTGRES", raising=False)  # There it is pg_dump's work.
    file = tmp_path / "cloud.backup"
    cloud = Cloud(node=False)
    try:
        tenant = Account(cloud)
        tenant.ec2.create_key_pair(KeyName="kept")
        tenant.ec2.create_launch_template(
            LaunchTemplateName="kept", LaunchTemplateData={"UserData": "c2VjcmV0"})
        cloud.moln("backup", file)
        assert file.stat().st_mode & 0o777 == 0o600
        moln_fails(cloud, "backup", file)  # Never over an older one.
        tenant.ec2.create_key_pair(KeyName="later")
        moln_fails(cloud, "restore", file)  # Not under a running control plane.
        before = [tenant.ec2.describe_vpcs()["Vpcs"],
                  tenant.ec2.describe_security_groups()["SecurityGroups"]]
        keys, operator = cloud.keys, cloud.operator_keys
    finally:
        cloud.close()

    new = Cloud(node=False)
    try:
        new.stop(new.molnd)
        shutil.rmtree(new.state)
        new.state.mkdir(mode=0o755)
        (tmp_path / "broken").write_bytes(file.read_bytes()[:5000])
        moln_fails(new, "restore", tmp_path / "broken")
        new.moln("restore", file)
        new.start_molnd()
        old = new.client(keys=tenant.keys)
        assert [k["KeyName"] for k in old.describe_key_pairs()["KeyPairs"]] == ["kept"]
        assert [old.describe_vpcs()["Vpcs"],
                old.describe_security_groups()["SecurityGroups"]] == before
        data = old.describe_launch_template_versions(LaunchTemplateName="kept")[
            "LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert data["UserData"] == "c2VjcmV0"  # Sealed under the master key.
        assert new.client(keys=keys).describe_vpcs()["Vpcs"]
        assert Signed(new.endpoint, operator).moln("ListAccounts").status == 200
        assert new.keys.id == keys.id  # The state folder's own files are right again, too.
    finally:
        new.close()
