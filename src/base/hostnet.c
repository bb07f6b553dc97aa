/* hostnet.c - see hostnet.h. */
#include "base/hostnet.h"

#include "base/file.h"
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUTES_MAX (4 * MIB) /* Bytes of /proc/net/route. */
#define RTF_UP_FLAG 1u
#define VXLAN_ROOM_MTU 1550 /* A frame of 1,500 bytes with VXLAN's headers. */

static bool
private_number(uint32_t ip)
{
    static const struct {
        uint32_t base, mask;
    } blocks[] = {
        {0x0a000000u, 0xff000000u},
        {0xac100000u, 0xfff00000u}, /* 10/8, 172.16/12 */
        {0xc0a80000u, 0xffff0000u},
        {0x64400000u, 0xffc00000u}, /* 192.168/16, 100.64/10 */
        {0x7f000000u, 0xff000000u},
        {0xa9fe0000u, 0xffff0000u}, /* 127/8, 169.254/16 */
    };
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        if ((ip & blocks[i].mask) == blocks[i].base) {
            return true;
        }
    }
    return false;
}

static bool
link_of(struct in_addr ip, char *out, size_t size, struct err *err)
{
    struct ifaddrs *all;
    bool found = false;
    if (getifaddrs(&all) < 0) {
        return err_sys(err, errno, "list this host's addresses");
    }
    for (const struct ifaddrs *one = all; one && !found; one = one->ifa_next) {
        struct sockaddr_in have;
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) {
            continue;
        }
        memcpy(&have, one->ifa_addr, sizeof have);
        found = have.sin_addr.s_addr == ip.s_addr;
        if (found) {
            (void)snprintf(out, size, "%s", one->ifa_name);
        }
    }
    freeifaddrs(all);
    return found || err_set(err, ERR_NOT_FOUND, "no interface of this host has it");
}

static int
mtu_of(const char *link)
{
    struct ifreq req = {0};
    AUTO(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(req.ifr_name, sizeof req.ifr_name, "%.15s", link);
    return fd >= 0 && ioctl(fd, SIOCGIFMTU, &req) == 0 ? req.ifr_mtu : 0;
}

/* A line of /proc/net/route: interface, destination, gateway, flags, three counters, mask,
 * in hexadecimal. */
static bool
has_default_route(const char *link)
{
    AUTO(free) char *text = NULL;
    struct err ignored = {0};
    if (!file_read("/proc/net/route", ROUTES_MAX, &text, NULL, &ignored)) {
        return false;
    }
    for (const char *line = strchr(text, '\n'); line; line = strchr(line + 1, '\n')) {
        char name[32];
        unsigned to, via, flags, mask;
        if (sscanf(line + 1, "%31s %x %x %x %*u %*u %*u %x", name, &to, &via, &flags,
                   &mask) == 5 &&
            to == 0 && mask == 0 && (flags & RTF_UP_FLAG) && str_eq(name, link)) {
            return true;
        }
    }
    return false;
}

bool
hostnet_find(const char *address, struct hostnet *out, struct err *err)
{
    struct in_addr ip;
    struct hostnet found = {0};
    if (!address || inet_pton(AF_INET, address, &ip) != 1) {
        return err_set(err, ERR_INVALID, "'%s' is no IPv4 address",
                       address ? address : "");
    }
    if (!link_of(ip, found.link, sizeof found.link, err)) {
        return err_wrap(err, "%s", address);
    }
    found.mtu = mtu_of(found.link);
    found.is_private = private_number(ntohl(ip.s_addr));
    found.is_way_out = has_default_route(found.link);
    *out = found;
    return true;
}

const char *
hostnet_doubt(const struct hostnet *found)
{
    return !found->is_private
               ? "its address is a public one: guests' packets cross that network in "
                 "the clear"
           : found->is_way_out
               ? "the default route leaves by its interface: guests' "
                 "packets are in the clear to whoever is on that network"
           : found->mtu > 0 && found->mtu < VXLAN_ROOM_MTU
               ? "its interface carries less than 1,550 bytes: guests' packets are cut "
                 "in two (raise its MTU, to 1,600 say)"
               : NULL;
}
