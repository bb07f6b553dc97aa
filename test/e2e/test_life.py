"""The life of a cloud server, driven as a tenant drives it: boto3, SSH, the aws command."""
import base64
import json
import re
import subprocess

import pytest
from botocore.exceptions import ClientError

from cloud import wait_for


def code_of(error):
    return error.value.response["Error"]["Code"]


def host_key(cloud, instance_id):
    """The SSH host key that the guest told on its serial console."""
    return re.search(r"^ssh-ed25519 \S+", cloud.moln("logs", instance_id).stdout, re.M).group(0)


def test_server_matches_its_type_and_ran_its_user_data(cloud, ec2, launch):
    script = "#!/bin/sh\necho user-data says hello > /root/hello\n"
    instance_id = launch(UserData=script, TagSpecifications=[
        {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "first"}]}])
    running = cloud.wait_state(instance_id, "running")

    assert running["Tags"] == [{"Key": "Name", "Value": "first"}]
    kind = ec2.describe_instance_types(InstanceTypes=["t3.nano"])["InstanceTypes"][0]
    cpus = int(cloud.ssh(instance_id, "grep -c ^processor /proc/cpuinfo"))
    assert cpus == kind["VCpuInfo"]["DefaultVCpus"]
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)",
                               cloud.ssh(instance_id, "cat /proc/meminfo")).group(1))
    promised_kib = kind["MemoryInfo"]["SizeInMiB"] * 1024
    assert promised_kib * 0.8 < memory_kib <= promised_kib
    assert cloud.ssh(instance_id, "cat /root/hello").strip() == "user-data says hello"
    assert cloud.ssh(instance_id, "hostname").strip() == running["PrivateDnsName"].split(".")[0]
    assert running["PrivateIpAddress"] in cloud.ssh(instance_id, "ip addr show eth0")


def test_exit_status_of_a_command_over_ssh_comes_back(cloud, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    cloud.ssh(instance_id, "true")
    assert cloud.moln("ssh", instance_id, "--", "exit 7", check=False).returncode == 7


def test_metadata_service_knows_its_caller(cloud, launch):
    instance_id = launch(MetadataOptions={"HttpTokens": "required"})
    running = cloud.wait_state(instance_id, "running")
    base = "http://169.254.169.254/latest"
    # busybox wget has no PUT: the request is written out.
    token = cloud.ssh(instance_id, (
        r"printf 'PUT /latest/api/token HTTP/1.1\r\nHost: m\r\n"
        r"X-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n'"
        r" | nc 169.254.169.254 80 | tail -n 1")).strip()
    assert token

    def get(path):
        return cloud.ssh(instance_id, (f"wget -q -O - --header 'X-aws-ec2-metadata-token: {token}'"
                                       f" {base}/{path}"))

    assert get("meta-data/instance-id") == instance_id
    assert get("meta-data/local-ipv4") == running["PrivateIpAddress"]
    document = json.loads(get("dynamic/instance-identity/document"))
    assert document["instanceId"] == instance_id
    assert document["accountId"] == cloud.client("sts").get_caller_identity()["Account"]
    refused = cloud.ssh(instance_id, f"wget -q -O - {base}/meta-data/ 2>&1 || true")
    assert "401" in refused


def test_disk_survives_reboot_stop_and_change_of_type(cloud, ec2, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    cloud.ssh(instance_id, "echo kept > /root/kept && sync")

    boot_id = cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id")
    ec2.reboot_instances(InstanceIds=[instance_id])

    def rebooted():
        now = cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id", check=False)
        return now and now != boot_id
    wait_for("the reboot", rebooted)
    assert cloud.ssh(instance_id, "cat /root/kept").strip() == "kept"

    with pytest.raises(ClientError) as error:
        ec2.modify_instance_attribute(InstanceId=instance_id,
                                      InstanceType={"Value": "t3.micro"})
    assert code_of(error) == "IncorrectInstanceState"

    change = ec2.stop_instances(InstanceIds=[instance_id])["StoppingInstances"][0]
    assert change["PreviousState"]["Name"] == "running"
    assert change["CurrentState"]["Name"] == "stopping"
    cloud.wait_state(instance_id, "stopped")
    ec2.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": "t3.micro"})
    ec2.start_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "running")
    assert cloud.ssh(instance_id, "cat /root/kept").strip() == "kept"
    memory_kib = int(re.search(r"MemTotal:\s+(\d+)",
                               cloud.ssh(instance_id, "cat /proc/meminfo")).group(1))
    assert memory_kib > 700 * 1024


def test_image_of_an_instance_carries_its_disk_but_not_its_identity(cloud, ec2, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    # A user's place: an image of one's own is entered as ec2-user.
    # Not synced: without NoReboot the guest is shut down for the copy, as AWS does.
    cloud.ssh(instance_id, "echo golden > /home/ec2-user/golden")
    boot_id = cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id")
    image_id = ec2.create_image(InstanceId=instance_id, Name="golden")["ImageId"]

    def is_made(image_id):
        return ec2.describe_images(ImageIds=[image_id])["Images"][0]["State"] == "available"
    wait_for("the image", lambda: is_made(image_id))

    assert cloud.instance(instance_id)["State"]["Name"] == "running"
    copy_id = launch(ImageId=image_id)
    cloud.wait_state(copy_id, "running")
    assert cloud.ssh(copy_id, "cat /home/ec2-user/golden").strip() == "golden"
    assert host_key(cloud, copy_id) != host_key(cloud, instance_id)
    assert cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id") != boot_id
    # What was asked for before the end is done after it.
    last_id = ec2.create_image(InstanceId=copy_id, Name="last")["ImageId"]
    ec2.terminate_instances(InstanceIds=[copy_id])
    wait_for("the image of what has ended", lambda: is_made(last_id))
    for made in (image_id, last_id):
        ec2.deregister_image(ImageId=made)


def test_guest_that_shuts_down_is_stopped_or_terminated_as_asked(cloud, ec2, launch):
    stops, ends = launch(), launch(InstanceInitiatedShutdownBehavior="terminate")
    for instance_id in (stops, ends):
        cloud.wait_state(instance_id, "running")
        cloud.ssh(instance_id, "poweroff", check=False)
    stopped = cloud.wait_state(stops, "stopped")
    assert stopped["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    cloud.wait_state(ends, "terminated")


def test_terminated_server_leaves_nothing_and_stays_visible(cloud, ec2, launch):
    instance_id = launch()
    running = cloud.wait_state(instance_id, "running")
    volume_id = running["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")
    assert cloud.instance(instance_id)["StateTransitionReason"].startswith("User initiated")

    def disk_is_gone():
        return not list((cloud.state / "node" / "pool").rglob(f"*{volume_id}*"))
    wait_for("the disk to go", disk_is_gone, 30)
    assert not (cloud.state / "node" / "machines" / instance_id).exists()
    wait_for("the node's word of it", lambda: not ec2.describe_volumes(
        Filters=[{"Name": "volume-id", "Values": [volume_id]}])["Volumes"], 30)
    with pytest.raises(ClientError) as error:
        ec2.describe_volumes(VolumeIds=[volume_id])
    assert code_of(error) == "InvalidVolume.NotFound"


def test_console_output_holds_the_boot(cloud, ec2, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    cloud.ssh(instance_id, "true")
    output = ec2.get_console_output(InstanceId=instance_id, Latest=True)["Output"]
    assert "BEGIN SSH HOST KEY" in output


def test_aws_command_prints_what_ec2_json_prints(cloud, ec2, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    done = cloud.moln("aws", "ec2", "describe-instances", "--instance-ids", instance_id,
                      "--output", "json")
    printed = json.loads(done.stdout)["Reservations"][0]["Instances"][0]
    assert printed["InstanceId"] == instance_id
    shown = cloud.moln("show", instance_id, "--json")
    assert shown["InstanceId"] == instance_id
    listed = subprocess.run(
        [cloud.build / "moln", "ls"], env=cloud.env, capture_output=True, text=True, check=True)
    assert instance_id in listed.stdout


def test_user_data_is_returned_as_it_was_given(cloud, ec2, launch):
    data = bytes(range(256))
    instance_id = launch(UserData=data)
    reply = ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    assert base64.b64decode(reply["UserData"]["Value"]) == data
