/* test_vfio.c - what a host lacks, and which virtual function is free, in trees that look like
 * sysfs. */
#include "base/file.h"
#include "base/vfio.h"
#include "test.h"
#include <errno.h>

static char *
make_dir(const char *sys, const char *path)
{
    char *full = xasprintf("%s/%s", sys, path);
    struct err err = {0};
    CHECK_OK(dir_make(full, 0755, &err), &err);
    return full;
}

static void
put_link(const char *sys, const char *path, const char *target)
{
    AUTO(free) char *full = xasprintf("%s/%s", sys, path);
    CHECK_EQ(symlink(target, full), 0);
}

static void
put_file(const char *sys, const char *path, const char *text)
{
    AUTO(free) char *full = xasprintf("%s/%s", sys, path);
    struct err err = {0};
    CHECK_OK(file_write(full, text, strlen(text), 0644, &err), &err);
}

static void
make(const char *sys, const char *path)
{
    free(make_dir(sys, path));
}

/* A function of 'eth0' in a group with 'beside' other devices, and a driver if one is named. */
static void
function(const char *sys, int number, int beside, const char *driver)
{
    AUTO(free) char *device = xasprintf("bus/pci/devices/0000:3b:02.%d", number);
    AUTO(free) char *group = xasprintf("kernel/iommu_groups/%d", 40 + number);
    AUTO(free) char *mine = xasprintf("%s/devices/0000:3b:02.%d", group, number);
    AUTO(free) char *other = xasprintf("%s/devices/0000:3b:1f.%d", group, number);
    AUTO(free) char *at = xasprintf("class/net/eth0/device/virtfn%d", number);
    AUTO(free) char *target = xasprintf("../0000:3b:02.%d", number);
    AUTO(free) char *to_group = xasprintf("%s/iommu_group", device);
    AUTO(free) char *group_path = xasprintf("%s/%s", sys, group);
    make(sys, device);
    make(sys, mine);
    if (beside > 0) {
        make(sys, other);
    }
    put_link(sys, to_group, group_path);
    put_link(sys, at, target);
    if (driver) {
        AUTO(free) char *to_driver = xasprintf("%s/driver", device);
        AUTO(free) char *driver_path = xasprintf("../../drivers/%s", driver);
        put_link(sys, to_driver, driver_path);
    }
}

TEST(vfio_says_what_a_host_lacks)
{
    char sys[] = "/tmp/moln-vfio-XXXXXX";
    struct vfio_function f;
    struct err err = {0};
    CHECK(mkdtemp(sys) != NULL);
    CHECK(strstr(vfio_lacks(sys), "no IOMMU in use"));
    make(sys, "kernel/iommu_groups/1");
    CHECK(strstr(vfio_lacks(sys), "modprobe vfio-pci"));
    CHECK(!vfio_function_free(sys, "eth0", &f, &err));
    CHECK(err.code == ERR_UNSUPPORTED && strstr(err.msg, "'eth0': this host has"));
    make(sys, "bus/pci/drivers/vfio-pci");
    CHECK(vfio_lacks(sys) == NULL);
    CHECK(!vfio_function_free(sys, "eth0", &f, &err));
    CHECK(strstr(err.msg, "no interface of a PCI device"));
    make(sys, "class/net/eth0/device");
    CHECK(!vfio_function_free(sys, "eth0", &f, &err));
    CHECK(err.code == ERR_UNSUPPORTED && strstr(err.msg, "sriov_numvfs"));
    CHECK_OK(dir_remove(sys, &err), &err);
}

TEST(vfio_takes_the_first_function_that_nobody_uses)
{
    char sys[] = "/tmp/moln-vfio-XXXXXX";
    struct vfio_function f;
    struct err err = {0};
    CHECK(mkdtemp(sys) != NULL);
    make(sys, "bus/pci/drivers/vfio-pci");
    make(sys, "class/net/eth0/device");
    function(sys, 0, 0, "vfio-pci"); /* Another guest's. */
    function(sys, 1, 1, NULL);       /* Not alone. */
    function(sys, 2, 0, "iavf");     /* The host speaks by it. */
    make(sys, "bus/pci/devices/0000:3b:02.2/net/eth7");
    put_file(sys, "bus/pci/devices/0000:3b:02.2/net/eth7/operstate", "up\n");
    CHECK(!vfio_function_free(sys, "eth0", &f, &err));
    CHECK(err.code == ERR_BUSY);
    CHECK(strstr(err.msg, "none of its 3 virtual functions is free (1 of them"));
    function(sys, 3, 0, "iavf");
    make(sys, "bus/pci/devices/0000:3b:02.3/net/eth8");
    put_file(sys, "bus/pci/devices/0000:3b:02.3/net/eth8/operstate", "down\n");
    CHECK_OK(vfio_function_free(sys, "eth0", &f, &err), &err);
    CHECK_STR(f.address, "0000:3b:02.3");
    CHECK(f.number == 3 && f.group == 43);
    CHECK_OK(vfio_function_at(sys, "eth0", 1, &f, &err), &err);
    CHECK_STR(f.address, "0000:3b:02.1");
    CHECK(!vfio_function_at(sys, "eth0", 4, &f, &err) && err.code == ERR_NOT_FOUND);
    CHECK_OK(dir_remove(sys, &err), &err);
}

/* A tree has no drivers that take anything: what is written is what a kernel would read. */
TEST(vfio_asks_for_its_driver_and_fails_when_that_does_not_take_it)
{
    char sys[] = "/tmp/moln-vfio-XXXXXX";
    struct vfio_function f;
    struct err err = {0};
    AUTO(free) char *said = NULL;
    CHECK(mkdtemp(sys) != NULL);
    make(sys, "bus/pci/drivers/vfio-pci");
    make(sys, "class/net/eth0/device");
    function(sys, 0, 0, NULL);
    put_file(sys, "bus/pci/devices/0000:3b:02.0/driver_override", "");
    put_file(sys, "bus/pci/drivers_probe", "");
    CHECK_OK(vfio_function_free(sys, "eth0", &f, &err), &err);
    CHECK(!vfio_bind(sys, &f, &err) && strstr(err.msg, "did not take it"));
    AUTO(free) char *path = xasprintf("%s/bus/pci/drivers_probe", sys);
    CHECK_OK(file_read(path, 64, &said, NULL, &err), &err);
    CHECK_STR(said, "0000:3b:02.0");
    CHECK_OK(vfio_unbind(sys, &f, &err), &err); /* It has no driver. */
    put_link(sys, "bus/pci/devices/0000:3b:02.0/driver", "../../drivers/vfio-pci");
    CHECK_OK(vfio_bind(sys, &f, &err), &err); /* It is there already. */
    CHECK_OK(dir_remove(sys, &err), &err);
}
