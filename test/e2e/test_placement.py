"""Where instances go: groups, hosts, and what tenants and operators are told when there is no
place. One host, whose own agent measured it."""
import pytest
from botocore.exceptions import ClientError

from cloud import wait_for


@pytest.fixture
def group(ec2):
    """group(name, strategy, ...) makes a placement group; deleted after the test."""
    made = []

    def make(name, **params):
        ec2.create_placement_group(GroupName=name, **params)
        made.append(name)
        return name

    yield make
    for name in made:
        ec2.delete_placement_group(GroupName=name)


def code(error):
    return error.value.response["Error"]["Code"]


def node_id(cloud):
    def ready():
        return [n for n in cloud.moln("node", "ls", "--json")["Nodes"]
                if n["Connected"] and n.get("CapacityVcpus")]
    return wait_for("the node to have spoken", ready, 60)[0]["NodeId"]


def test_host_measures_itself(cloud, ec2):
    node = cloud.moln("node", "show", node_id(cloud), "--json")["Node"]
    hardware = node["Hardware"]
    assert hardware["Speed"] > 0 and hardware["Cores"] >= 1
    assert hardware["Disks"] and hardware["Numa"] and node["CpuModel"]
    assert node["CapacityMemoryBytes"] <= node["MemoryBytes"]
    shown = cloud.moln("node", "show", node["NodeId"]).stdout
    assert "of the reference" in shown and node["CpuModel"] in shown


def test_spread_group_on_one_host_holds_one(cloud, ec2, micro, group, launch):
    group("far", Strategy="spread")
    instance_id = launch(Placement={"GroupName": "far"})
    cloud.wait_state(instance_id, "running")
    assert cloud.instance(instance_id)["Placement"]["GroupName"] == "far"
    [seen] = ec2.describe_instances(Filters=[{"Name": "placement-group-name",
                                              "Values": ["far"]}])["Reservations"]
    assert seen["Instances"][0]["InstanceId"] == instance_id

    with pytest.raises(ClientError) as error:
        launch(Placement={"GroupName": "far"})
    assert code(error) == "InsufficientInstanceCapacity"
    told = error.value.response["Error"]["Message"]
    assert "host" not in told  # A tenant learns nothing of hosts, or of who is on them.

    def why():  # Refused calls are recorded a moment later, together.
        return [r["Detail"] for r in cloud.moln("audit", "--json")["Records"]
                if r.get("ErrorCode") == "InsufficientInstanceCapacity" and "Detail" in r]
    assert "kept apart by the placement group" in wait_for("the record", why, 20)[-1]

    with pytest.raises(ClientError) as error:
        ec2.delete_placement_group(GroupName="far")
    assert code(error) == "InvalidPlacementGroup.InUse"
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def test_partition_comes_from_a_launch_template(cloud, ec2, micro, group, launch):
    group("parts", Strategy="partition", PartitionCount=3)
    ec2.create_launch_template(LaunchTemplateName="in-parts", LaunchTemplateData={
        "Placement": {"GroupName": "parts", "PartitionNumber": 2}})
    instance_id = launch(LaunchTemplate={"LaunchTemplateName": "in-parts"})
    placement = cloud.instance(instance_id)["Placement"]
    assert (placement["GroupName"], placement["PartitionNumber"]) == ("parts", 2)
    with pytest.raises(ClientError) as error:
        launch(Placement={"GroupName": "parts", "PartitionNumber": 1})
    assert code(error) == "InsufficientInstanceCapacity"
    ec2.delete_launch_template(LaunchTemplateName="in-parts")
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")


def test_host_is_dedicated_only_while_it_is_empty(cloud, ec2, launch):
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    instance_id = launch()
    with pytest.raises(ClientError) as error:
        ec2.allocate_hosts(AvailabilityZone=zone, InstanceFamily="t3", Quantity=1)
    assert code(error) == "InsufficientHostCapacity"
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")
    wait_for("the host to be empty", lambda: cloud.moln(
        "node", "show", node_id(cloud), "--json")["Node"]["Machines"] == 0, 60)

    [host_id] = ec2.allocate_hosts(AvailabilityZone=zone, InstanceFamily="t3",
                                   Quantity=1)["HostIds"]
    with pytest.raises(ClientError) as error:
        launch()
    assert code(error) == "InsufficientInstanceCapacity"
    instance_id = launch(Placement={"Tenancy": "host", "HostId": host_id})
    cloud.wait_state(instance_id, "running")
    [host] = ec2.describe_hosts(HostIds=[host_id])["Hosts"]
    assert [i["InstanceId"] for i in host["Instances"]] == [instance_id]
    assert ec2.release_hosts(HostIds=[host_id])["Unsuccessful"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    cloud.wait_state(instance_id, "terminated")
    assert ec2.release_hosts(HostIds=[host_id])["Successful"] == [host_id]


def test_operator_asks_where_machines_would_go(cloud):
    node = node_id(cloud)
    fits = cloud.moln("place", "explain", "t3.nano", "--json")
    assert fits["NodeIds"] == [node]
    cloud.moln("node", "cordon", node)
    try:
        told = cloud.moln("place", "explain", "t3.nano").stdout
        assert "1 find no place" in told and "1 cordoned" in told
    finally:
        cloud.moln("node", "uncordon", node)
