/* tap.c - /dev/net/tun, inside a namespace: see tap.h. */
#include "node/net/tap.h"
#include "node/net/netns.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

struct tap {
    const char *name;
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
