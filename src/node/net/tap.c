/* tap.c - /dev/net/tun, inside a namespace: see tap.h. */
#include "node/net/tap.h"
#include "node/net/netns.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct tap {
    const char *name;
    int index; /* Of a macvtap. */
    int fd;
};

static bool
open_here(void *ctx, struct err *err)
{
    struct tap *tap = ctx;
    struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    (void)snprintf(req.ifr_name, sizeof req.ifr_name, "%s", tap->name);
    AUTO(fd) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return err_sys(err, errno, "open /dev/net/tun");
    }
    if (ioctl(fd, TUNSETIFF, &req) < 0) {
        return errno == EBUSY ? err_set(err, ERR_BUSY, "tap %s is in use", tap->name)
                              : err_sys(err, errno, "make tap %s", tap->name);
    }
    tap->fd = take_fd(&fd);
    return true;
}

bool
tap_open(int ns_fd, const char *name, int *out_fd, struct err *err)
{
    struct tap tap = {.name = name, .fd = -1};
    if (!netns_run(ns_fd, open_here, &tap, err)) {
        return false;
    }
    *out_fd = tap.fd;
    return true;
}

/* ---- macvtap -------------------------------------------------------------------------- */

/* Which device it is, as sysfs tells: a sysfs of this namespace, seen by this thread alone. */
static bool
device_of(const struct tap *tap, dev_t *out, struct err *err)
{
    char path[128], text[32] = {0};
    unsigned major, minor;
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        return err_sys(err, errno, "mount sysfs for a macvtap's device");
    }
    (void)snprintf(path, sizeof path, "/sys/class/net/%s/macvtap/tap%d/dev", tap->name,
                   tap->index);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) {
        return err_sys(err, errno, "read %s", path);
    }
    if (sscanf(text, "%u:%u", &major, &minor) != 2) {
        return err_set(err, ERR_SYSTEM, "%s says '%.20s'", path, text);
    }
    *out = makedev(major, minor);
    return true;
}

/* /dev may not show devices of another namespace: its node is made aside, and goes with the
 * thread. */
static bool
open_macvtap_here(void *ctx, struct err *err)
{
    struct tap *tap = ctx;
    struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    dev_t device = 0;
    if (!device_of(tap, &device, err)) {
        return false;
    }
    if (mount("tmpfs", "/sys", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k") < 0 ||
        mknod("/sys/tap", S_IFCHR | 0600, device) < 0) {
        return err_sys(err, errno, "make the device of macvtap %s", tap->name);
    }
    AUTO(fd) int fd = open("/sys/tap", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    (void)snprintf(req.ifr_name, sizeof req.ifr_name, "%s", tap->name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &req) < 0) {
        return err_sys(err, errno, "open the device of macvtap %s", tap->name);
    }
    tap->fd = take_fd(&fd);
    return true;
}

bool
tap_open_macvtap(int ns_fd, const char *name, int index, int *out_fd, struct err *err)
{
    struct tap tap = {.name = name, .index = index, .fd = -1};
    if (!netns_run(ns_fd, open_macvtap_here, &tap, err)) {
        return false;
    }
    *out_fd = tap.fd;
    return true;
}
