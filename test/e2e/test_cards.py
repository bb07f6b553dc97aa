"""Network cards of real guests: IPv6, cards plugged into and pulled out of a running guest,
secondary addresses, the metadata service by each card."""
import ipaddress
import signal

import pytest

from cloud import wait_for


@pytest.fixture(scope="module")
def place(ec2):
    """A dual-stack subnet of its own; its instances get an IPv6 address each."""
    vpc = ec2.create_vpc(CidrBlock="10.6.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    six = next(ipaddress.ip_network(block).subnets(new_prefix=64))
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.6.1.0/24",
                               Ipv6CidrBlock=str(six))["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet, AssignIpv6AddressOnCreation={"Value": True})
    options = ec2.create_dhcp_options(DhcpConfigurations=[
        {"Key": "domain-name", "Values": ["corp.example"]},
        {"Key": "domain-name-servers", "Values": ["10.6.9.53", "AmazonProvidedDNS"]}])
    options = options["DhcpOptions"]["DhcpOptionsId"]
    ec2.associate_dhcp_options(DhcpOptionsId=options, VpcId=vpc["VpcId"])
    yield subnet
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    ec2.delete_dhcp_options(DhcpOptionsId=options)


def interface(ec2, subnet):
    return ec2.create_network_interface(
        SubnetId=subnet, SecondaryPrivateIpAddressCount=1)["NetworkInterface"]


# Waiting is the guest's own work: a session costs an emulated one half a second. An address
# that is tentative still does not answer.
AWAIT = """
await() {{ for n in $(seq 120); do "$@" && return; sleep 0.5; done; echo late: "$@"; exit 1; }}
are() {{ [ "$(ip addr show dev $1 | sed -n '/tentative/d; s/.*inet6\\? \\([^/]*\\).* global.*/\\1/p' | sort |
    tr '\\n' ' ')" = "$2" ]; }}
{0}
"""


def guest_does(cloud, instance_id, *lines):
    return cloud.ssh(instance_id, AWAIT.format("set -e\n" + "\n".join(lines)))


def has(card, *addresses):
    return f"await are {card} '{' '.join(sorted(addresses))} '"


def pings(*addresses, source=None):
    by = f"-I {source} " if source else ""
    return "\n".join(f"ping -c 1 {by}{a} >/dev/null" for a in addresses)


def attachment_of(ec2, eni):
    shown = ec2.describe_network_interfaces(
        NetworkInterfaceIds=[eni["NetworkInterfaceId"]])["NetworkInterfaces"][0]
    return shown["Attachment"]["AttachmentId"]


def test_cards_come_and_go_while_the_guest_runs(cloud, ec2, place, launch):
    one, two = launch(SubnetId=place, MaxCount=2)
    mine, other = (cloud.wait_state(i, "running") for i in (one, two))
    mine, other = ([i["PrivateIpAddress"], i["Ipv6Address"]] for i in (mine, other))
    guest_does(cloud, two, has("eth0", *other))
    told = guest_does(cloud, one, has("eth0", *mine), pings(*other), "cat /etc/resolv.conf")
    assert told.split() == ["search", "corp.example", "nameserver", "10.6.9.53",
                            "nameserver", "10.6.1.2"]

    eni = interface(ec2, place)
    its = [a["PrivateIpAddress"] for a in eni["PrivateIpAddresses"]]
    its6 = eni["Ipv6Addresses"][0]["Ipv6Address"]
    ec2.attach_network_interface(InstanceId=one, DeviceIndex=1,
                                 NetworkInterfaceId=eni["NetworkInterfaceId"])
    about = f"meta-data/network/interfaces/macs/{eni['MacAddress']}"
    # Each address speaks and is heard; the metadata service knows the card, and answers by
    # the card's own way too, to a token of its own.
    said = guest_does(
        cloud, one, has("eth1", *its, its6),
        *(pings(other[0], source=address) for address in its),
        f"for p in interface-id device-number local-ipv4s ipv6s; do "
        f"/usr/lib/micro/imds {about}/$p; echo; done; rm /run/imds.token",
        f"ip route add 169.254.169.254 via 10.6.1.1 dev eth1 src {its[0]}",
        "/usr/lib/micro/imds meta-data/instance-id; echo",
        "ip route del 169.254.169.254; rm /run/imds.token").split()
    assert said == [eni["NetworkInterfaceId"], "1", *its, its6, one]
    guest_does(cloud, two, pings(*its, its6))

    # The agent is another one now: it finds both cards, and pulls the right one.
    cloud.stop(cloud.node, signal.SIGKILL)
    cloud.start_node()
    ec2.detach_network_interface(AttachmentId=attachment_of(ec2, eni))
    guest_does(cloud, one, "await [ ! -e /sys/class/net/eth1 ]", has("eth0", *mine),
               pings(*other))
    wait_for("the node to hear of it", lambda: "pulled out" in cloud.log_tail("moln-node", 1000))

    # The other guest gets it, and has it in the same place when it starts again.
    ec2.attach_network_interface(InstanceId=two, DeviceIndex=1,
                                 NetworkInterfaceId=eni["NetworkInterfaceId"])
    where = guest_does(cloud, two, has("eth1", *its, its6),
                       "readlink /sys/class/net/eth1/device")
    ec2.stop_instances(InstanceIds=[two], Force=True)
    cloud.wait_state(two, "stopped")
    ec2.start_instances(InstanceIds=[two])
    cloud.wait_state(two, "running")
    assert guest_does(cloud, two, has("eth1", *its, its6),
                      "readlink /sys/class/net/eth1/device") == where
    ec2.detach_network_interface(AttachmentId=attachment_of(ec2, eni))
    ec2.delete_network_interface(NetworkInterfaceId=eni["NetworkInterfaceId"])
