"""Disks made elsewhere: what comes in, what boots, and what is turned away."""
import os
import pathlib

import pytest
from botocore.exceptions import ClientError

import disks
from cloud import Keys, wait_for
from signed import Signed

MIB, GIB = 1 << 20, 1 << 30


def qemu_img(*words):
    disks.run("qemu-img", *words)


@pytest.fixture(scope="module")
def micro_disk(cloud, micro, tmp_path_factory):
    """The beginning of image micro's root disk, where all its files are; raw."""
    path = tmp_path_factory.mktemp("disks") / "micro.raw"
    for blob in (cloud.state / "control" / "blobs").iterdir():
        with open(blob, "rb") as file:
            if file.read(4) == b"QFI\xfb":
                qemu_img("dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=48", f"if={blob}",
                         f"of={path}")
                return path
    raise AssertionError("image micro has no disk")


def left_over(cloud):
    """Uploads and work of imports that are not gone."""
    found = list((cloud.state / "node" / "jobs").iterdir())
    found += (cloud.state / "control" / "blobs").iterdir()
    return {str(path.relative_to(cloud.state)) for path in found}


class Importer:
    """One account's imports."""

    left = set()  # Of all that were turned away or cancelled: files that must go.

    def __init__(self, cloud, keys=None):
        self.cloud, self.keys = cloud, keys or cloud.keys
        self.ec2 = cloud.client(keys=self.keys)

    def upload(self, path):
        body = pathlib.Path(path).read_bytes()
        asker = Signed(self.cloud.endpoint, self.keys)
        answer = asker.send("PUT", f"/moln-data/uploads?name={pathlib.Path(path).name}", body,
                            {"Content-Type": "application/octet-stream"}, "moln-data",
                            payload="UNSIGNED-PAYLOAD")
        assert answer.status == 200, answer
        return "moln-upload://" + answer.json()["UploadId"]

    def start(self, url, **container):
        return self.ec2.import_image(
            DiskContainers=[{"Url": url, **container}])["ImportTaskId"]

    def task(self, task_id):
        return self.ec2.describe_import_image_tasks(
            ImportTaskIds=[task_id])["ImportImageTasks"][0]

    def ended(self, task_id, limit_s=120):
        return wait_for(f"the end of {task_id}", lambda: (
            lambda t: t if t["Status"] in ("completed", "deleted") else None)(
                self.task(task_id)), limit_s)

    def image_of(self, path, **container):
        """The image that an import of 'path' makes."""
        task = self.ended(self.start(self.upload(path), **container))
        assert task["Status"] == "completed", task
        return self.ec2.describe_images(ImageIds=[task["ImageId"]])["Images"][0]

    def refusal_of(self, path, **container):
        """Why an import of 'path' is turned away; what it left so far is remembered."""
        before = left_over(self.cloud)
        images = self.images()
        task = self.ended(self.start(self.upload(path), **container))
        assert task["Status"] == "deleted", task
        assert self.images() == images and "ImageId" not in task
        self.left |= left_over(self.cloud) - before
        return task["StatusMessage"]

    def images(self):
        return {i["ImageId"] for i in self.ec2.describe_images(Owners=["self"])["Images"]}


@pytest.fixture(scope="module")
def importer(cloud, micro):
    return Importer(cloud)


@pytest.mark.parametrize("form,options", [
    ("qcow2", ["-c"]), ("raw", []), ("vmdk", ["-o", "subformat=streamOptimized"])])
def test_disk_of_each_format_comes_in_unchanged(cloud, ec2, micro_disk, tmp_path, form, options):
    path = tmp_path / f"disk.{form}"
    qemu_img("convert", "-f", "raw", "-O", form, *options, micro_disk, path)
    before = left_over(cloud)
    task = cloud.moln("image", "import", path, "--name", f"from-{form}", "--json")
    assert task["SnapshotDetails"][0]["Format"].lower() == form
    image = ec2.describe_images(ImageIds=[task["ImageId"]])["Images"][0]
    assert image["State"] == "available" and image["Architecture"] == "x86_64"
    assert image["BootMode"] == "legacy-bios"
    assert {"Key": "Name", "Value": f"from-{form}"} in image["Tags"]
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 1
    # The upload goes within a minute; what stays is the disk, bit for bit.
    new = [cloud.state / name for name in left_over(cloud) - before]
    made = [path for path in new if path.read_bytes()[:4] == b"QFI\xfb"]
    assert made
    for path in made:
        qemu_img("compare", "-f", "raw", "-F", "qcow2", micro_disk, path)
    ec2.deregister_image(ImageId=image["ImageId"])


def console_says(ec2, instance_id, text):
    wait_for(f"{text!r} on the console", lambda: text in ec2.get_console_output(
        InstanceId=instance_id, Latest=True).get("Output", ""), 240)


@pytest.mark.parametrize("firmware,make,mode", [
    ("bios", disks.bios_disk, "legacy-bios"), ("uefi", disks.uefi_disk, "uefi")])
def test_imported_disk_boots_by_its_own_loader(cloud, ec2, importer, launch, tmp_path,
                                               firmware, make, mode):
    image = importer.image_of(make(tmp_path / f"{firmware}.raw", f"{firmware} says hello\r\n"))
    assert image["BootMode"] == mode, "found out from the disk itself"
    instance_id = launch(ImageId=image["ImageId"])
    cloud.wait_state(instance_id, "running")
    console_says(ec2, instance_id, f"{firmware} says hello")


def backing_file(folder, micro_disk):
    qemu_img("create", "-q", "-f", "qcow2", "-b", micro_disk, "-F", "raw", folder / "d")


def backing_password(folder, _):
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", "/etc/shadow", "-F", "raw",
             folder / "d", "1M")


def data_file(folder, _):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/data", folder / "d", "1M")


def external_extent(folder, _):
    qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", folder / "d", "1M")


def several_extents(folder, _):
    """A sparse vmdk whose own description names another file."""
    qemu_img("create", "-q", "-f", "vmdk", folder / "d", "1M")
    data = (folder / "d").read_bytes()
    at = data.index(b'RW 2048 SPARSE "d"')
    named = b'RW 2048 FLAT "/etc/shadow" 0'
    (folder / "d").write_bytes(data[:at] + named + data[at + len(named):])


def encrypted(folder, _):
    """Its header says LUKS; qemu-img takes seconds to make a whole one."""
    qemu_img("create", "-q", "-f", "qcow2", folder / "d", "4M")
    data = bytearray((folder / "d").read_bytes())
    data[32:36] = (2).to_bytes(4, "big")
    (folder / "d").write_bytes(data)


def truncated(folder, micro_disk):
    qemu_img("convert", "-f", "raw", "-O", "qcow2", micro_disk, folder / "d")
    os.truncate(folder / "d", (folder / "d").stat().st_size // 3)


def truncated_vmdk(folder, micro_disk):
    qemu_img("convert", "-f", "raw", "-O", "vmdk", micro_disk, folder / "d")
    os.truncate(folder / "d", (folder / "d").stat().st_size // 2)


def garbage(folder, _):
    (folder / "d").write_bytes(b"QFI\xfb\0\0\0\x03" + os.urandom(65536))


def endless(folder, _):
    qemu_img("create", "-q", "-f", "qcow2", folder / "d", "60T")



@pytest.mark.parametrize("make,why", [
    (backing_file, "backing file"), (backing_password, "backing file"),
    (data_file, "external data file"), (external_extent, "in other files"),
    (several_extents, "names another file"), (encrypted, "encrypted"),
    (truncated, "damaged or cut off"), (truncated_vmdk, "damaged or cut off"),
    (garbage, "version|cannot|backing|features|encrypted"), (endless, "too large")],
    ids=lambda value: getattr(value, "__name__", ""))
def test_disk_that_is_not_whole_or_not_alone_is_refused(importer, micro_disk, tmp_path, make,
                                                        why):
    make(tmp_path, micro_disk)
    said = importer.refusal_of(tmp_path / "d")
    assert said.startswith("ClientError: ")
    assert any(word in said for word in why.split("|")), said
    assert "root:" not in said


def test_disk_of_another_format_than_declared_is_refused(importer, tmp_path):
    (tmp_path / "d").write_bytes(os.urandom(4096))
    assert "declared" in importer.refusal_of(tmp_path / "d", Format="QCOW2")


@pytest.fixture(scope="module")
def poor(cloud, micro):
    """An account that may have 2 GiB of disk."""
    made = cloud.moln("account", "create", "poor", "--disk", "2").stdout
    path = cloud.dir / "poor.credentials"
    path.write_text(made)
    return Importer(cloud, Keys.read(path))


def test_disk_larger_than_the_quota_is_refused(poor, tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "d", "3G")
    assert "too large" in poor.refusal_of(tmp_path / "d")
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "d", "2G")
    image = poor.image_of(tmp_path / "d")
    assert image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 2


@pytest.mark.parametrize("url", [
    "https://example.com/disk.raw", "http://127.0.0.1/disk.raw", "file:///etc/passwd",
    "s3://bucket/disk.raw", "moln-upload://../../control/master.key",
    "moln-upload://blob-0123456789abcdef0", "/etc/passwd"])
def test_other_sources_are_refused(importer, url):
    before = importer.ec2.describe_import_image_tasks()["ImportImageTasks"]
    with pytest.raises(ClientError) as error:
        importer.start(url)
    assert error.value.response["Error"]["Code"].startswith("Invalid")
    assert importer.ec2.describe_import_image_tasks()["ImportImageTasks"] == before


def test_upload_of_another_account_is_not_there(importer, poor, tmp_path):
    url = importer.upload(disks.bios_disk(tmp_path / "d", "mine"))
    with pytest.raises(ClientError):
        poor.start(url)


def test_cancelled_import_leaves_nothing(cloud, importer, tmp_path):
    with open(tmp_path / "d", "wb") as file:
        for _ in range(48):
            file.write(os.urandom(MIB))
    before, images = left_over(cloud), importer.images()
    task = importer.start(importer.upload(tmp_path / "d"))
    importer.ec2.cancel_import_task(ImportTaskId=task, CancelReason="changed my mind")
    ended = importer.ended(task)
    assert ended["Status"] == "deleted" and "changed my mind" in ended["StatusMessage"]
    assert importer.images() == images
    importer.left |= left_over(cloud) - before
    with pytest.raises(ClientError) as error:
        importer.ec2.cancel_import_task(ImportTaskId=task)
    assert error.value.response["Error"]["Code"] == "IncorrectState"


def test_nothing_of_what_was_refused_or_cancelled_stays(cloud, importer):
    assert importer.left
    wait_for("its files to go", lambda: not importer.left & left_over(cloud), 90)
    wait_for("the work to go", lambda: not list((cloud.state / "node" / "jobs").iterdir()), 30)
