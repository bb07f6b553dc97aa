"""Fixtures of the end-to-end tests. One cloud serves the whole run."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from cloud import Cloud  # noqa: E402


@pytest.fixture(scope="session")
def cloud():
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests start real machines: run them as root", 4)
    made = Cloud()
    yield made
    made.close()


@pytest.fixture(scope="session")
def ec2(cloud):
    return cloud.client("ec2")


@pytest.fixture(scope="session")
def micro(cloud):
    return cloud.image("micro")


@pytest.fixture(scope="session")
def key(cloud, ec2):
    """A key pair whose private half 'moln ssh' finds."""
    pair = ec2.create_key_pair(KeyName="tests", KeyType="ed25519")
    folder = cloud.state / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "tests.pem"
    path.touch(0o600)
    path.write_text(pair["KeyMaterial"])
    return "tests"


@pytest.fixture
def launch(cloud, ec2, micro, key):
    """launch(**RunInstances parameters) -> instance id; terminated after the test."""
    started = []

    def run(**params):
        params = {"ImageId": micro, "InstanceType": "t3.nano", "KeyName": key,
                  "MinCount": 1, "MaxCount": 1, **params}
        made = [i["InstanceId"] for i in ec2.run_instances(**params)["Instances"]]
        started.extend(made)
        return made[0] if len(made) == 1 else made

    yield run
    alive = [i for i in started
             if cloud.instance(i)["State"]["Name"] not in ("shutting-down", "terminated")]
    if alive:
        for instance_id in alive:
            ec2.modify_instance_attribute(InstanceId=instance_id,
                                          DisableApiTermination={"Value": False})
        ec2.terminate_instances(InstanceIds=alive)
        for instance_id in alive:
            cloud.wait_state(instance_id, "terminated")
