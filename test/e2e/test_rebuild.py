"""A root volume made anew: by `moln rebuild`, and by EC2's own call."""
import botocore.exceptions
import pytest

from cloud import wait_for


def root_of(cloud, instance_id):
    return cloud.instance(instance_id)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]


def refused(code, call, **params):
    with pytest.raises(botocore.exceptions.ClientError) as refusal:
        call(**params)
    assert refusal.value.response["Error"]["Code"] == code


def tasks(ec2, instance_id):
    return ec2.describe_replace_root_volume_tasks(
        Filters=[{"Name": "instance-id", "Values": [instance_id]}])["ReplaceRootVolumeTasks"]


def test_rebuilt_instance_keeps_its_name_and_loses_its_disk(cloud, ec2, launch):
    instance_id = launch()
    cloud.wait_state(instance_id, "running")
    before, root = cloud.instance(instance_id), root_of(cloud, instance_id)
    cloud.ssh(instance_id, "echo mine > /root/mark && sync")
    boot = cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id")
    refused("VolumeInUse", ec2.delete_volume, VolumeId=root)

    cloud.moln("rebuild", instance_id)
    after, fresh = cloud.instance(instance_id), root_of(cloud, instance_id)
    assert after["State"]["Name"] == "running" and fresh != root
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    assert cloud.ssh(instance_id, "cat /root/mark 2>/dev/null || echo none") == "none\n"
    assert cloud.ssh(instance_id, "cat /proc/sys/kernel/random/boot_id") != boot
    wait_for("the old volume to go", lambda: root not in cloud.holdings().disks(), 30)

    # EC2's call keeps the old volume; then it can be deleted.
    token = {"InstanceId": instance_id, "ClientToken": "again"}
    made = ec2.create_replace_root_volume_task(**token)["ReplaceRootVolumeTask"]
    again = ec2.create_replace_root_volume_task(**token)["ReplaceRootVolumeTask"]
    assert again["ReplaceRootVolumeTaskId"] == made["ReplaceRootVolumeTaskId"]
    wait_for("it to succeed", lambda: {t["TaskState"] for t in tasks(ec2, instance_id)} ==
             {"succeeded"}, 60)
    assert len(tasks(ec2, instance_id)) == 2
    kept = ec2.describe_volumes(VolumeIds=[fresh])["Volumes"][0]
    assert kept["State"] == "available" and not kept["Attachments"]
    ec2.delete_volume(VolumeId=fresh)
    wait_for("it to go", lambda: fresh not in cloud.holdings().disks(), 30)

    refused("InvalidAMIID.Malformed", ec2.create_replace_root_volume_task,
            InstanceId=instance_id, ImageId="ami-nonsense")
    refused("InvalidSnapshot.NotFound", ec2.create_replace_root_volume_task,
            InstanceId=instance_id, SnapshotId="snap-0123456789abcdef0")
    cloud.moln("stop", "--force", instance_id)
    refused("IncorrectInstanceState", ec2.create_replace_root_volume_task,
            InstanceId=instance_id)
