/* vfio.c - see vfio.h. */
#include "base/vfio.h"
#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#define PATH_LEN 320
#define FUNCTIONS_MAX 256

static void path_of(char out[PATH_LEN], const char *sys, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static void
path_of(char out[PATH_LEN], const char *sys, const char *fmt, ...)
{
    char rest[PATH_LEN / 2];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(rest, sizeof rest, fmt, args);
    va_end(args);
    (void)snprintf(out, PATH_LEN, "%.120s/%s", sys, rest);
}

/* The last part of what a link in sysfs names; false: there is no such link. */
static bool
link_name(const char *path, char out[64])
{
    char target[PATH_LEN];
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0) {
        return false;
    }
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    (void)snprintf(out, 64, "%.63s", slash ? slash + 1 : target);
    return true;
}

/* How many entries a folder has; -1: it is not there. */
static int
entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    if (!dir) {
        return -1;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        count += e->d_name[0] != '.';
    }
    (void)closedir(dir);
    return count;
}

const char *
vfio_lacks(const char *sys)
{
    char path[PATH_LEN];
    path_of(path, sys, "kernel/iommu_groups");
    if (entries(path) <= 0) {
        return "no IOMMU in use (switch on VT-d or AMD-Vi in the firmware, and "
               "intel_iommu=on on the kernel's command line)";
    }
    path_of(path, sys, "bus/pci/drivers/vfio-pci");
    return entries(path) < 0 ? "the driver vfio-pci is not there (modprobe vfio-pci)"
                             : NULL;
}

/* ---- which -------------------------------------------------------------------------------
 */

bool
vfio_function_at(const char *sys, const char *link, uint32_t number,
                 struct vfio_function *out, struct err *err)
{
    char path[PATH_LEN], address[64], group[64];
    path_of(path, sys, "class/net/%.15s/device/virtfn%u", link, number);
    if (!link_name(path, address)) {
        return err_set(err, ERR_NOT_FOUND, "'%s' has no virtual function %u", link,
                       number);
    }
    path_of(path, sys, "bus/pci/devices/%.15s/iommu_group", address);
    if (strlen(address) >= sizeof out->address || !link_name(path, group)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "virtual function %u of '%s', %s, is in no IOMMU group", number,
                       link, address);
    }
    *out =
        (struct vfio_function){.number = number, .group = (int)strtol(group, NULL, 10)};
    (void)snprintf(out->address, sizeof out->address, "%.15s", address);
    return true;
}

/* Whether an interface that the host has of it is up. */
static bool
host_uses(const char *sys, const char *address)
{
    char path[PATH_LEN];
    bool up = false;
    path_of(path, sys, "bus/pci/devices/%.15s/net", address);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        AUTO(free) char *state = NULL;
        struct err ignored = {0};
        path_of(path, sys, "bus/pci/devices/%.15s/net/%.32s/operstate", address,
                e->d_name);
        up |= e->d_name[0] != '.' && file_read(path, 64, &state, NULL, &ignored) &&
              str_starts(state, "up");
    }
    if (dir) {
        (void)closedir(dir);
    }
    return up;
}

static bool
has_driver(const char *sys, const char *address, const char *driver)
{
    char path[PATH_LEN], name[64];
    path_of(path, sys, "bus/pci/devices/%.15s/driver", address);
    return link_name(path, name) && str_eq(name, driver);
}

/* Alone in its group: a device beside it could reach its memory. */
static bool
is_alone(const char *sys, const char *address)
{
    char path[PATH_LEN];
    path_of(path, sys, "bus/pci/devices/%.15s/iommu_group/devices", address);
    return entries(path) == 1;
}

bool
vfio_function_free(const char *sys, const char *link, struct vfio_function *out,
                   struct err *err)
{
    char path[PATH_LEN];
    const char *lacks = vfio_lacks(sys);
    uint32_t count = 0, shared = 0;
    if (lacks) {
        return err_set(err, ERR_UNSUPPORTED, "'%s': this host has %s", link, lacks);
    }
    path_of(path, sys, "class/net/%.15s/device", link);
    if (entries(path) < 0) {
        return err_set(err, ERR_UNSUPPORTED, "'%s' is no interface of a PCI device",
                       link);
    }
    for (; count < FUNCTIONS_MAX; count++) {
        struct vfio_function f;
        struct err why = {0};
        if (!vfio_function_at(sys, link, count, &f, &why)) {
            if (why.code == ERR_NOT_FOUND) {
                break;
            }
            *err = why;
            return false;
        }
        if (has_driver(sys, f.address, "vfio-pci") || host_uses(sys, f.address)) {
            continue;
        }
        if (is_alone(sys, f.address)) {
            *out = f;
            return true;
        }
        shared++;
    }
    if (count == 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s' has no virtual functions (write how many it is to have to "
                       "/sys/class/net/%s/device/sriov_numvfs)",
                       link, link);
    }
    return err_set(err, ERR_BUSY,
                   "'%s': none of its %u virtual functions is free (%u of them are not "
                   "alone in their IOMMU group)",
                   link, count, shared);
}

/* ---- whose -------------------------------------------------------------------------------
 */

static bool
put(const char *path, const char *text, struct err *err)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return (fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text)) ||
           err_sys(err, errno, "write %s", path);
}

static bool
release(const char *sys, const char *address, struct err *err)
{
    char path[PATH_LEN];
    path_of(path, sys, "bus/pci/devices/%.15s/driver/unbind", address);
    return access(path, F_OK) < 0 || put(path, address, err);
}

bool
vfio_bind(const char *sys, const struct vfio_function *f, struct err *err)
{
    char override[PATH_LEN], probe[PATH_LEN];
    path_of(override, sys, "bus/pci/devices/%.15s/driver_override", f->address);
    path_of(probe, sys, "bus/pci/drivers_probe");
    if (has_driver(sys, f->address, "vfio-pci")) {
        return true;
    }
    if (!put(override, "vfio-pci\n", err) || !release(sys, f->address, err) ||
        !put(probe, f->address, err)) {
        return err_wrap(err, "device %s", f->address);
    }
    return has_driver(sys, f->address, "vfio-pci") ||
           err_set(err, ERR_SYSTEM, "device %s: vfio-pci did not take it", f->address);
}

bool
vfio_unbind(const char *sys, const struct vfio_function *f, struct err *err)
{
    char override[PATH_LEN];
    path_of(override, sys, "bus/pci/devices/%.15s/driver_override", f->address);
    return !has_driver(sys, f->address, "vfio-pci") ||
           (release(sys, f->address, err) && put(override, "\n", err)) ||
           err_wrap(err, "device %s", f->address);
}
