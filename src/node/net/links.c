/* links.c - libnl-route, the part of it that a VPC needs: see links.h. */
#include "node/net/links.h"
#include "base/map.h"
#include "node/net/links_impl.h"
#include "node/net/netns.h"
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/macvlan.h>
#include <netlink/route/link/macvtap.h>
#include <netlink/route/neighbour.h>
#include <netlink/socket.h>

#define BOUND_OFF ((unsigned)RTNL_BRIDGE_LEARNING | (unsigned)RTNL_BRIDGE_UNICAST_FLOOD)

bool
links_fail(struct err *err, int rc, const char *what)
{
    int kind = rc < 0 ? -rc : rc;
    enum err_code code = kind == NLE_OBJ_NOTFOUND || kind == NLE_NODEV ? ERR_NOT_FOUND
                         : kind == NLE_PERM                            ? ERR_DENIED
                                                                       : ERR_SYSTEM;
    return err_set(err, code, "%s: %s", what, nl_geterror(rc));
}

struct links *
links_open(struct err *err)
{
    struct nl_sock *sock = nl_socket_alloc();
    if (!sock) {
        (void)err_set(err, ERR_SYSTEM, "netlink socket: out of memory");
        return NULL;
    }
    int rc = nl_connect(sock, NETLINK_ROUTE);
    if (rc < 0) {
        nl_socket_free(sock);
        (void)links_fail(err, rc, "open netlink");
        return NULL;
    }
    struct links *links = xcalloc(1, sizeof *links);
    links->sock = sock;
    return links;
}

static bool
open_here(void *ctx, struct err *err)
{
    struct links **out = ctx;
    *out = links_open(err);
    return *out != NULL;
}

struct links *
links_open_in(int ns_fd, struct err *err)
{
    struct links *links = NULL;
    return netns_run(ns_fd, open_here, &links, err) ? links : NULL;
}

void
links_close(struct links *links)
{
    if (links) {
        nl_socket_free(links->sock);
        free(links);
    }
}

bool
links_look(struct links *links, const char *name, struct links_view *out,
           struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = NULL;
    int rc = rtnl_link_get_kernel(links->sock, 0, name, &link);
    *out = (struct links_view){0};
    if (rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV) {
        return true;
    }
    if (rc < 0) {
        return links_fail(err, rc, name);
    }
    unsigned flags = rtnl_link_get_flags(link);
    out->index = rtnl_link_get_ifindex(link);
    out->master = rtnl_link_get_master(link);
    out->lower = rtnl_link_get_link(link);
    const char *type = rtnl_link_get_type(link);
    (void)snprintf(out->type, sizeof out->type, "%s", type ? type : "");
    struct nl_addr *mac = rtnl_link_get_addr(link);
    if (mac && nl_addr_get_len(mac) == sizeof out->mac) {
        memcpy(out->mac, nl_addr_get_binary_addr(mac), sizeof out->mac);
    }
    out->up = flags & IFF_UP;
    out->loopback = flags & IFF_LOOPBACK;
    return true;
}

bool
links_find(struct links *links, const char *name, int *out_index, struct err *err)
{
    struct links_view view;
    if (!links_look(links, name, &view, err)) {
        return false;
    }
    *out_index = view.index;
    return true;
}

struct nl_addr *
links_addr4(uint32_t ipv4, int prefix)
{
    uint32_t be = htonl(ipv4);
    struct nl_addr *addr = nl_addr_build(AF_INET, &be, sizeof be);
    if (addr) {
        nl_addr_set_prefixlen(addr, prefix);
    }
    return addr;
}

struct nl_addr *
links_addr6(const struct in6_addr *ipv6, int prefix)
{
    struct nl_addr *addr =
        nl_addr_build(AF_INET6, (void *)(uintptr_t)ipv6, sizeof *ipv6);
    if (addr) {
        nl_addr_set_prefixlen(addr, prefix);
    }
    return addr;
}

bool
links_bridge(struct links *links, const char *name, const uint8_t mac[6],
             int *out_index, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_bridge_alloc();
    AUTO(nladdr) struct nl_addr *lladdr = nl_addr_build(AF_LLC, mac, 6);
    if (!link || !lladdr) {
        return err_set(err, ERR_SYSTEM, "bridge %s: out of memory", name);
    }
    rtnl_link_set_name(link, name);
    rtnl_link_set_addr(link, lladdr);
    rtnl_link_set_flags(link, IFF_UP);
    int rc = rtnl_link_add(links->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    if (rc < 0 && rc != -NLE_EXIST) {
        return links_fail(err, rc, name);
    }
    int index;
    if (!links_find(links, name, &index, err)) {
        return false;
    }
    if (index == 0) {
        return err_set(err, ERR_SYSTEM, "bridge %s vanished", name);
    }
    if (rc == -NLE_EXIST && !links_up(links, index, err)) {
        return false;
    }
    *out_index = index;
    return true;
}

static bool
link_change(struct links *links, int index, struct rtnl_link *change, const char *what,
            struct err *err)
{
    AUTO(rtlink) struct rtnl_link *orig = rtnl_link_alloc();
    if (!orig) {
        return err_set(err, ERR_SYSTEM, "%s: out of memory", what);
    }
    rtnl_link_set_ifindex(orig, index);
    int rc = rtnl_link_change(links->sock, orig, change, 0);
    return rc < 0 ? links_fail(err, rc, what) : true;
}

bool
links_up(struct links *links, int index, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_alloc();
    if (!change) {
        return err_set(err, ERR_SYSTEM, "set link up: out of memory");
    }
    rtnl_link_set_flags(change, IFF_UP);
    return link_change(links, index, change, "set link up", err);
}

static bool
down_index(struct links *links, int index, const char *name, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_alloc();
    if (!change) {
        return err_set(err, ERR_SYSTEM, "set %s down: out of memory", name);
    }
    rtnl_link_unset_flags(change, IFF_UP);
    return link_change(links, index, change, name, err);
}

bool
links_start(struct links *links, int index, int mtu, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_alloc();
    if (!change) {
        return err_set(err, ERR_SYSTEM, "set link up: out of memory");
    }
    rtnl_link_set_mtu(change, (unsigned)mtu);
    rtnl_link_set_flags(change, IFF_UP);
    return link_change(links, index, change, "set link up", err);
}

bool
links_stop(struct links *links, int index, struct err *err)
{
    return down_index(links, index, "set link down", err);
}

bool
links_enslave(struct links *links, int index, int bridge, int mtu, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_alloc();
    if (!change) {
        return err_set(err, ERR_SYSTEM, "join a bridge: out of memory");
    }
    rtnl_link_set_master(change, bridge);
    rtnl_link_set_mtu(change, (unsigned)mtu);
    rtnl_link_set_flags(change, IFF_UP);
    return link_change(links, index, change, "join a bridge", err);
}

static bool
add_address(struct links *links, int index, struct nl_addr *local, unsigned flags,
            struct err *err)
{
    AUTO(rtaddr) struct rtnl_addr *addr = rtnl_addr_alloc();
    if (!addr || !local) {
        return err_set(err, ERR_SYSTEM, "add address: out of memory");
    }
    rtnl_addr_set_ifindex(addr, index);
    rtnl_addr_set_flags(addr, flags);
    int rc = rtnl_addr_set_local(addr, local);
    if (rc == 0) {
        rc = rtnl_addr_add(links->sock, addr, NLM_F_CREATE | NLM_F_REPLACE);
    }
    return rc < 0 && rc != -NLE_EXIST ? links_fail(err, rc, "add address") : true;
}

bool
links_address(struct links *links, int index, uint32_t ipv4, int prefix,
              struct err *err)
{
    AUTO(nladdr) struct nl_addr *local = links_addr4(ipv4, prefix);
    return add_address(links, index, local, 0, err);
}

bool
links_drop_address(struct links *links, int index, uint32_t ipv4, int prefix,
                   struct err *err)
{
    AUTO(nladdr) struct nl_addr *local = links_addr4(ipv4, prefix);
    AUTO(rtaddr) struct rtnl_addr *addr = rtnl_addr_alloc();
    if (!addr || !local) {
        return err_set(err, ERR_SYSTEM, "drop address: out of memory");
    }
    rtnl_addr_set_ifindex(addr, index);
    int rc = rtnl_addr_set_local(addr, local);
    if (rc == 0) {
        rc = rtnl_addr_delete(links->sock, addr, 0);
    }
    bool gone = rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NOADDR || rc == -NLE_NODEV;
    return rc < 0 && !gone ? links_fail(err, rc, "drop address") : true;
}

/* Whether it is an IPv4 address of 'index' that stands for itself alone. */
static bool
is_single4(struct rtnl_addr *addr, int index, uint32_t *out)
{
    const struct nl_addr *local = rtnl_addr_get_local(addr);
    if (rtnl_addr_get_ifindex(addr) != index || !local ||
        nl_addr_get_family(local) != AF_INET || nl_addr_get_prefixlen(local) != 32) {
        return false;
    }
    uint32_t be;
    memcpy(&be, nl_addr_get_binary_addr(local), sizeof be);
    *out = ntohl(be);
    return true;
}

bool
links_drop_address_where(struct links *links, int index, links_address_fn *unwanted,
                         void *ctx, struct err *err)
{
    AUTO(nlcache) struct nl_cache *all = NULL;
    int rc = rtnl_addr_alloc_cache(links->sock, &all);
    if (rc < 0) {
        return links_fail(err, rc, "list addresses");
    }
    for (struct nl_object *o = nl_cache_get_first(all); o; o = nl_cache_get_next(o)) {
        uint32_t ipv4;
        if (is_single4((struct rtnl_addr *)o, index, &ipv4) && unwanted(ctx, ipv4) &&
            !links_drop_address(links, index, ipv4, 32, err)) {
            return false;
        }
    }
    return true;
}

bool
links_address6(struct links *links, int index, const struct in6_addr *ipv6, int prefix,
               struct err *err)
{
    AUTO(nladdr) struct nl_addr *local = links_addr6(ipv6, prefix);
    return add_address(links, index, local, IFA_F_NODAD, err);
}

static bool
add_neighbour(struct links *links, int index, struct nl_addr *dst, const uint8_t mac[6],
              struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    AUTO(nladdr)
    struct nl_addr *lladdr = nl_addr_build(AF_LLC, (void *)(uintptr_t)mac, 6);
    if (!neigh || !lladdr || !dst) {
        return err_set(err, ERR_SYSTEM, "add neighbour: out of memory");
    }
    rtnl_neigh_set_ifindex(neigh, index);
    (void)rtnl_neigh_set_dst(neigh, dst);
    rtnl_neigh_set_lladdr(neigh, lladdr);
    rtnl_neigh_set_state(neigh, NUD_PERMANENT);
    int rc = rtnl_neigh_add(links->sock, neigh, NLM_F_CREATE | NLM_F_REPLACE);
    return rc < 0 ? links_fail(err, rc, "add neighbour") : true;
}

bool
links_neighbour(struct links *links, int index, uint32_t ipv4, const uint8_t mac[6],
                struct err *err)
{
    AUTO(nladdr) struct nl_addr *dst = links_addr4(ipv4, 32);
    return add_neighbour(links, index, dst, mac, err);
}

bool
links_neighbour6(struct links *links, int index, const struct in6_addr *ipv6,
                 const uint8_t mac[6], struct err *err)
{
    AUTO(nladdr) struct nl_addr *dst = links_addr6(ipv6, 128);
    return add_neighbour(links, index, dst, mac, err);
}

static bool
drop_neighbour(struct links *links, int index, struct nl_addr *dst, struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    if (!neigh || !dst) {
        return err_set(err, ERR_SYSTEM, "drop neighbour: out of memory");
    }
    rtnl_neigh_set_ifindex(neigh, index);
    (void)rtnl_neigh_set_dst(neigh, dst);
    int rc = rtnl_neigh_delete(links->sock, neigh, 0);
    bool gone = rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV;
    return rc < 0 && !gone ? links_fail(err, rc, "drop neighbour") : true;
}

bool
links_drop_neighbour(struct links *links, int index, uint32_t ipv4, struct err *err)
{
    AUTO(nladdr) struct nl_addr *dst = links_addr4(ipv4, 32);
    return drop_neighbour(links, index, dst, err);
}

bool
links_drop_neighbour6(struct links *links, int index, const struct in6_addr *ipv6,
                      struct err *err)
{
    AUTO(nladdr) struct nl_addr *dst = links_addr6(ipv6, 128);
    return drop_neighbour(links, index, dst, err);
}

uint32_t
links_neighbour4(struct rtnl_neigh *neigh)
{
    uint32_t be = 0;
    struct nl_addr *dst = rtnl_neigh_get_dst(neigh);
    if (dst && nl_addr_get_family(dst) == AF_INET) {
        memcpy(&be, nl_addr_get_binary_addr(dst), sizeof be);
    }
    return ntohl(be);
}

static struct rtnl_neigh *
forward_of(int index, const uint8_t mac[6])
{
    struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    AUTO(nladdr)
    struct nl_addr *lladdr = nl_addr_build(AF_LLC, (void *)(uintptr_t)mac, 6);
    if (!neigh || !lladdr) {
        rtnl_neigh_put(neigh);
        return NULL;
    }
    rtnl_neigh_set_family(neigh, AF_BRIDGE);
    rtnl_neigh_set_ifindex(neigh, index);
    rtnl_neigh_set_lladdr(neigh, lladdr);
    rtnl_neigh_set_flags(neigh, NTF_MASTER);
    rtnl_neigh_set_state(neigh, NUD_NOARP); /* Static; PERMANENT: the bridge itself. */
    return neigh;
}

bool
links_forward(struct links *links, int index, const uint8_t mac[6], struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = forward_of(index, mac);
    if (!neigh) {
        return err_set(err, ERR_SYSTEM, "add forwarding entry: out of memory");
    }
    int rc = rtnl_neigh_add(links->sock, neigh, NLM_F_CREATE | NLM_F_REPLACE);
    return rc < 0 ? links_fail(err, rc, "add forwarding entry") : true;
}

bool
links_drop_forward(struct links *links, int index, const uint8_t mac[6],
                   struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = forward_of(index, mac);
    if (!neigh) {
        return err_set(err, ERR_SYSTEM, "drop forwarding entry: out of memory");
    }
    int rc = rtnl_neigh_delete(links->sock, neigh, 0);
    bool gone = rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV;
    return rc < 0 && !gone ? links_fail(err, rc, "drop forwarding entry") : true;
}

static bool
unset_port_flags(struct links *links, int index, unsigned flags, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *change = rtnl_link_bridge_alloc();
    if (!change) {
        return err_set(err, ERR_SYSTEM, "bridge port: out of memory");
    }
    rtnl_link_set_family(change, AF_BRIDGE);
    rtnl_link_set_ifindex(change, index);
    int rc = rtnl_link_bridge_unset_flags(change, flags);
    if (rc == 0) {
        rc = rtnl_link_change(links->sock, change, change, 0);
    }
    return rc < 0 ? links_fail(err, rc, "bridge port") : true;
}

bool
links_trust(struct links *links, int index, struct err *err)
{
    return unset_port_flags(links, index, RTNL_BRIDGE_LEARNING, err);
}

bool
links_bind(struct links *links, int index, struct err *err)
{
    return unset_port_flags(links, index, BOUND_OFF, err);
}

bool
links_bind_where(struct links *links, links_pick_fn *pick, void *ctx, size_t *out_drift,
                 struct err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_link_alloc_cache(links->sock, AF_BRIDGE, &cache);
    if (rc < 0) {
        return links_fail(err, rc, "list bridge ports");
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_link *link = (struct rtnl_link *)o;
        const char *name = rtnl_link_get_name(link);
        int flags = rtnl_link_is_bridge(link) ? rtnl_link_bridge_get_flags(link) : 0;
        if (name && pick(ctx, name) && flags > 0 && ((unsigned)flags & BOUND_OFF)) {
            (*out_drift)++;
            ok = links_bind(links, rtnl_link_get_ifindex(link), err);
        }
    }
    nl_cache_free(cache);
    return ok;
}

static void
set_mac(struct rtnl_link *link, const uint8_t *mac)
{
    AUTO(nladdr)
    struct nl_addr *lladdr =
        mac ? nl_addr_build(AF_LLC, (void *)(uintptr_t)mac, 6) : NULL;
    if (lladdr) {
        rtnl_link_set_addr(link, lladdr);
    }
}

bool
links_veth(struct links *links, const char *name, const uint8_t *mac, const char *peer,
           int peer_ns_fd, const uint8_t *peer_mac, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_veth_alloc();
    if (!link) {
        return err_set(err, ERR_SYSTEM, "veth %s: out of memory", name);
    }
    struct rtnl_link *other = rtnl_link_veth_get_peer(link);
    rtnl_link_set_name(link, name);
    rtnl_link_set_name(other, peer);
    rtnl_link_set_ns_fd(other, peer_ns_fd);
    set_mac(link, mac);
    set_mac(other, peer_mac);
    int rc = rtnl_link_add(links->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    rtnl_link_put(other); /* get_peer takes a reference. */
    return rc < 0 && rc != -NLE_EXIST ? links_fail(err, rc, name) : true;
}

static bool
add_macvlan(struct links *links, struct rtnl_link *link, int lower, const char *name,
            int ns_fd, const uint8_t mac[6], struct err *err)
{
    if (!link) {
        return err_set(err, ERR_SYSTEM, "macvlan %s: out of memory", name);
    }
    rtnl_link_set_name(link, name);
    rtnl_link_set_link(link, lower);
    rtnl_link_set_ns_fd(link, ns_fd);
    set_mac(link, mac);
    int rc = rtnl_link_add(links->sock, link, NLM_F_CREATE | NLM_F_EXCL);
    return rc < 0 && rc != -NLE_EXIST ? links_fail(err, rc, name) : true;
}

bool
links_macvlan(struct links *links, int lower, const char *name, int ns_fd,
              const uint8_t mac[6], struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_macvlan_alloc();
    if (link) {
        (void)rtnl_link_macvlan_set_mode(link, rtnl_link_macvlan_str2mode("bridge"));
    }
    return add_macvlan(links, link, lower, name, ns_fd, mac, err);
}

bool
links_macvtap(struct links *links, int lower, const char *name, int ns_fd,
              const uint8_t mac[6], struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_macvtap_alloc();
    if (link) {
        (void)rtnl_link_macvtap_set_mode(link, rtnl_link_macvtap_str2mode("bridge"));
    }
    return add_macvlan(links, link, lower, name, ns_fd, mac, err);
}

static bool
drop_index(struct links *links, int index, const char *name, struct err *err)
{
    AUTO(rtlink) struct rtnl_link *link = rtnl_link_alloc();
    if (!link) {
        return err_set(err, ERR_SYSTEM, "drop %s: out of memory", name);
    }
    rtnl_link_set_ifindex(link, index);
    int rc = rtnl_link_delete(links->sock, link);
    bool gone = rc == -NLE_OBJ_NOTFOUND || rc == -NLE_NODEV;
    return rc < 0 && !gone ? links_fail(err, rc, name) : true;
}

bool
links_drop(struct links *links, const char *name, struct err *err)
{
    int index;
    if (!links_find(links, name, &index, err)) {
        return false;
    }
    return index == 0 || drop_index(links, index, name, err);
}

static bool
up_index(struct links *links, int index, const char *name UNUSED, struct err *err)
{
    return links_up(links, index, err);
}

typedef bool each_link_fn(struct links *links, int index, const char *name,
                          struct err *err);

static bool
each_where(struct links *links, links_pick_fn *pick, void *ctx, each_link_fn *fn,
           struct err *err)
{
    struct nl_cache *cache = NULL;
    int rc = rtnl_link_alloc_cache(links->sock, AF_UNSPEC, &cache);
    if (rc < 0) {
        return links_fail(err, rc, "list links");
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_link *link = (struct rtnl_link *)o;
        const char *name = rtnl_link_get_name(link);
        if (name && strcmp(name, "lo") != 0 && pick(ctx, name)) {
            ok = fn(links, rtnl_link_get_ifindex(link), name, err);
        }
    }
    nl_cache_free(cache);
    return ok;
}

bool
links_drop_where(struct links *links, links_pick_fn *unwanted, void *ctx,
                 struct err *err)
{
    return each_where(links, unwanted, ctx, drop_index, err);
}

bool
links_down_where(struct links *links, links_pick_fn *unwanted, void *ctx,
                 struct err *err)
{
    return each_where(links, unwanted, ctx, down_index, err);
}

bool
links_up_where(struct links *links, links_pick_fn *pick, void *ctx, struct err *err)
{
    return each_where(links, pick, ctx, up_index, err);
}
