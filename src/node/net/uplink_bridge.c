/* uplink_bridge.c - an uplink on the provider's own network: see uplink.h.
 *
 * A macvlan on the interface stands in the external namespace with an address of its own,
 * and answers ARP for each public address that leads to a network of this node. When an
 * address comes here, the neighbours are told at once. The host itself cannot speak with a
 * macvlan on its own interface: that is the kernel's way. */
#include "node/net/links_impl.h"
#include "node/net/netns.h"
#include "node/net/routes.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>

static void
leg_mac(const struct net *net, uint32_t address, uint8_t out[6])
{
    AUTO(free) char *id = xasprintf("uplink/%08x", address); /* Each node's another. */
    addr_router_mac(net->cloud_id, id, out);
}

/* A link of that name that is not this uplink's is of a former time. */
static bool
drop_other(struct net *net, const struct uplink *u, const char *leg,
           const uint8_t mac[6], struct err *err)
{
    struct links_view view;
    return links_look(net->outside, leg, &view, err) &&
           (view.index == 0 ||
            (str_eq(view.type, "macvlan") && view.lower == u->index &&
             memcmp(view.mac, mac, sizeof view.mac) == 0) ||
            links_drop(net->outside, leg, err));
}

bool
uplink_bridge_make(struct net *net, const struct uplink *u, struct err *err)
{
    char leg[IFNAMSIZ];
    uint8_t mac[6];
    int index;
    struct route_entry entry = {.kind = ROUTE_VIA,
                                .via = {.ipv4 = u->router, .prefix = 32}};
    uplink_leg_name(net, leg);
    leg_mac(net, u->address, mac);
    if (!drop_other(net, u, leg, mac, err) ||
        !links_macvlan(net->host, u->index, leg, net->outside_fd, mac, err) ||
        !links_find(net->outside, leg, &index, err) ||
        !setup_put(net->outside_fd, "1", err, "ipv6/conf/%s/disable_ipv6", leg) ||
        /* Else the kernel waits up to 0.8 s with an answer for others. */
        !setup_put(net->outside_fd, "0", err, "ipv4/neigh/%s/proxy_delay", leg) ||
        !links_address(net->outside, index, u->address, u->prefix, err) ||
        !links_up(net->outside, index, err)) {
        return false;
    }
    entry.index = index;
    return routes_put(net->outside, ROUTES_MAIN, &entry, err);
}

/* ---- who answers ----------------------------------------------------------------------
 */

struct telling {
    struct net *net;
    const struct uplink *uplink;
    int index;
    VEC(uint32_t) fresh; /* Answered for from now on. */
};

/* "I have it", to all who may still think otherwise. */
static bool
tell_here(void *ctx, struct err *err)
{
    struct telling *t = ctx;
    AUTO(fd) int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ARP));
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ARP),
                             .sll_ifindex = t->index,
                             .sll_halen = ETH_ALEN,
                             .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    struct ether_arp arp = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                                       .ar_pro = htons(ETHERTYPE_IP),
                                       .ar_hln = ETH_ALEN,
                                       .ar_pln = 4,
                                       .ar_op = htons(ARPOP_REQUEST)}};
    if (fd < 0) {
        return err_sys(err, errno, "open a socket for ARP");
    }
    leg_mac(t->net, t->uplink->address, arp.arp_sha);
    for (size_t i = 0; i < t->fresh.count; i++) {
        uint32_t be = htonl(t->fresh.items[i]);
        memcpy(arp.arp_spa, &be, sizeof be);
        memcpy(arp.arp_tpa, &be, sizeof be);
        /* Lost, it is found out later: a hint, no more. */
        (void)!sendto(fd, &arp, sizeof arp, 0, (struct sockaddr *)&to, sizeof to);
    }
    return true;
}

static bool
among(const uint32_t *list, size_t count, uint32_t ipv4)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == ipv4) {
            return true;
        }
    }
    return false;
}

static bool
answer_change(struct links *links, int index, uint32_t ipv4, bool add, struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    AUTO(nladdr) struct nl_addr *dst = links_addr4(ipv4, 32);
    if (!neigh || !dst) {
        return err_set(err, ERR_SYSTEM, "answer by ARP: out of memory");
    }
    rtnl_neigh_set_ifindex(neigh, index);
    (void)rtnl_neigh_set_dst(neigh, dst);
    rtnl_neigh_set_flags(neigh, NTF_PROXY);
    int rc = add ? rtnl_neigh_add(links->sock, neigh, NLM_F_CREATE | NLM_F_REPLACE)
                 : rtnl_neigh_delete(links->sock, neigh, 0);
    bool gone = !add && rc == -NLE_OBJ_NOTFOUND;
    return rc < 0 && !gone ? links_fail(err, rc, "answer by ARP") : true;
}

/* Drops what is not wanted, and notes what is there already. */
static bool
drop_others(struct telling *t, const uint32_t *wanted, size_t count, bool *there,
            struct err *err)
{
    struct links *links = t->net->outside;
    struct nl_cache *cache = NULL;
    int rc = rtnl_neigh_alloc_cache_flags(links->sock, &cache, NTF_PROXY);
    if (rc < 0) {
        return links_fail(err, rc, "list who answers by ARP");
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_neigh *neigh = (struct rtnl_neigh *)o;
        uint32_t ipv4 = links_neighbour4(neigh);
        if (rtnl_neigh_get_ifindex(neigh) != t->index || ipv4 == 0) {
            continue;
        }
        if (!among(wanted, count, ipv4)) {
            ok = answer_change(links, t->index, ipv4, false, err);
        }
        for (size_t i = 0; i < count; i++) {
            there[i] |= wanted[i] == ipv4;
        }
    }
    nl_cache_free(cache);
    return ok;
}

bool
uplink_bridge_answer(struct net *net, const struct uplink *u, const uint32_t *addresses,
                     size_t count, struct err *err)
{
    char leg[IFNAMSIZ];
    struct telling t = {.net = net, .uplink = u};
    AUTO(free) bool *there = xcalloc(count + 1, sizeof *there);
    uplink_leg_name(net, leg);
    if (!links_find(net->outside, leg, &t.index, err) || t.index == 0) {
        return t.index == 0; /* Not made yet. */
    }
    bool ok = drop_others(&t, addresses, count, there, err);
    for (size_t i = 0; ok && i < count; i++) {
        if (!there[i]) {
            ok = answer_change(net->outside, t.index, addresses[i], true, err);
            VEC_PUSH(&t.fresh, addresses[i]);
        }
    }
    ok = ok && (t.fresh.count == 0 || netns_run(net->outside_fd, tell_here, &t, err));
    VEC_FREE(&t.fresh);
    return ok;
}
