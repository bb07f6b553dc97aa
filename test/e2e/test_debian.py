"""The image debian-12: a full Debian whose own cloud-init takes moln for EC2."""
import json

import pytest


@pytest.fixture(scope="module")
def debian(cloud):
    return cloud.image("debian-12")


@pytest.mark.timeout(3600)
def test_debian_is_set_up_by_cloud_init_as_on_ec2(cloud, debian, launch):
    user_data = "#cloud-config\nhostname: tour\nruncmd:\n  - echo ran > /root/ran\n"
    instance_id = launch(ImageId=debian, InstanceType="t3.micro", UserData=user_data,
                         MetadataOptions={"HttpTokens": "required"})
    cloud.wait_state(instance_id, "running", 300)

    cloud.ssh(instance_id, "sudo cloud-init status --wait", limit_s=1200)
    status = json.loads(cloud.ssh(instance_id, "sudo cat /run/cloud-init/status.json"))
    assert "DataSourceEc2" in status["v1"]["datasource"]
    assert cloud.ssh(instance_id, "hostname").strip() == "tour"
    assert cloud.ssh(instance_id, "sudo cat /root/ran").strip() == "ran"
    assert cloud.ssh(instance_id, "cloud-init query instance_id").strip() == instance_id
    assert cloud.ssh(instance_id, "systemctl is-system-running --wait",
                     check=False).strip() in ("running", "degraded")
