/* uplink_answer.c - who answers on the provider's network for public addresses: see uplink.h.
 *
 * The kernel answers for its proxy neighbours on the uplink's link, by ARP and by neighbour
 * discovery. When an address comes here, all neighbours are told at once, since they may
 * think that it is where it was: by a gratuitous ARP, or an unsolicited advertisement that
 * overrides what they know. */
#include "node/net/links_impl.h"
#include "node/net/netns.h"
#include "node/net/uplink.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>

struct telling {
    struct net *net;
    const struct uplink *uplink;
    int index;
    VEC(struct addr_block) fresh; /* Answered for from now on. */
};

/* ---- telling --------------------------------------------------------------------------
 */

/* "I have it", to all who may still think otherwise. Lost, it is found out later: a hint, no
 * more. */
static void
tell4(int fd, const struct telling *t, const uint8_t mac[6], uint32_t ipv4)
{
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
    uint32_t be = htonl(ipv4);
    memcpy(arp.arp_sha, mac, sizeof arp.arp_sha);
    memcpy(arp.arp_spa, &be, sizeof be);
    memcpy(arp.arp_tpa, &be, sizeof be);
    (void)!sendto(fd, &arp, sizeof arp, 0, (struct sockaddr *)&to, sizeof to);
}

static void
tell6(int fd, const struct telling *t, const uint8_t mac[6],
      const struct in6_addr *ipv6)
{
    struct {
        struct nd_neighbor_advert advert;
        struct nd_opt_hdr option;
        uint8_t mac[6];
    } said = {
        .advert = {.nd_na_hdr = {.icmp6_type = ND_NEIGHBOR_ADVERT},
                   .nd_na_target = *ipv6},
        .option = {.nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1},
    };
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_scope_id = (uint32_t)t->index};
    said.advert.nd_na_flags_reserved = ND_NA_FLAG_ROUTER | ND_NA_FLAG_OVERRIDE;
    memcpy(said.mac, mac, sizeof said.mac);
    (void)inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
    (void)!sendto(fd, &said, sizeof said, 0, (struct sockaddr *)&to, sizeof to);
}

/* A socket whose packets carry what neighbours ask of an advertisement; the kernel adds the
 * checksum. */
static int
open_icmp6(struct err *err)
{
    int limit = 255, off = 0;
    AUTO(fd) int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    if (fd < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &limit, sizeof limit) < 0 ||
        setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof off) < 0) {
        (void)err_sys(err, errno, "open a socket for neighbour discovery");
        return -1;
    }
    return take_fd(&fd);
}

static bool
tell_here(void *ctx, struct err *err)
{
    struct telling *t = ctx;
    uint8_t mac[6];
    AUTO(fd) int arp = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ARP));
    if (arp < 0) {
        return err_sys(err, errno, "open a socket for ARP");
    }
    AUTO(fd) int icmp = t->uplink->prefix6 > 0 ? open_icmp6(err) : -1;
    if (icmp < 0 && t->uplink->prefix6 > 0) {
        return false;
    }
    uplink_bridge_mac(t->net, t->uplink, mac);
    for (size_t i = 0; i < t->fresh.count; i++) {
        const struct addr_block *one = &t->fresh.items[i];
        if (one->is6) {
            tell6(icmp, t, mac, &one->ipv6);
        } else {
            tell4(arp, t, mac, one->ipv4);
        }
    }
    return true;
}

/* ---- answering ------------------------------------------------------------------------
 */

static struct nl_addr *
address_of(const struct addr_block *one)
{
    return one->is6 ? links_addr6(&one->ipv6, 128) : links_addr4(one->ipv4, 32);
}

static bool
answer_change(struct links *links, int index, struct nl_addr *dst, bool add,
              struct err *err)
{
    AUTO(rtneigh) struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    if (!neigh || !dst) {
        return err_set(err, ERR_SYSTEM, "answer for an address: out of memory");
    }
    rtnl_neigh_set_ifindex(neigh, index);
    (void)rtnl_neigh_set_dst(neigh, dst);
    rtnl_neigh_set_flags(neigh, NTF_PROXY);
    int rc = add ? rtnl_neigh_add(links->sock, neigh, NLM_F_CREATE | NLM_F_REPLACE)
                 : rtnl_neigh_delete(links->sock, neigh, 0);
    bool gone = !add && rc == -NLE_OBJ_NOTFOUND;
    return rc < 0 && !gone ? links_fail(err, rc, "answer for an address") : true;
}

/* Its place among the wanted; their number: it is none of them. */
static size_t
place_of(struct nl_addr *dst, const struct uplink_publics *p)
{
    size_t i = 0;
    for (bool found = false; i < p->list.count && !found; i += !found) {
        AUTO(nladdr) struct nl_addr *one = address_of(&p->list.items[i]);
        found = one && nl_addr_get_family(one) == nl_addr_get_family(dst) &&
                nl_addr_cmp(one, dst) == 0;
    }
    return i;
}

/* What the kernel answers for now, on all links. libnl's own listing asks for neighbours,
 * whatever flags it is given: the request is ours. */
static bool
list_answers(struct links *links, struct nl_cache **out, struct err *err)
{
    struct ndmsg ask = {.ndm_flags = NTF_PROXY};
    struct nl_cache *cache = NULL;
    int rc = nl_cache_alloc_name("route/neigh", &cache);
    if (rc >= 0) {
        rc = nl_send_simple(links->sock, RTM_GETNEIGH, NLM_F_DUMP, &ask, sizeof ask);
    }
    if (rc >= 0) {
        rc = nl_cache_pickup(links->sock, cache);
    }
    if (rc < 0) {
        nl_cache_free(cache);
        return links_fail(err, rc, "list the addresses that are answered for");
    }
    *out = cache;
    return true;
}

/* Drops what is not wanted, and notes what is there already. */
static bool
drop_others(struct telling *t, const struct uplink_publics *p, bool *there,
            struct err *err)
{
    struct links *links = t->net->outside;
    struct nl_cache *cache = NULL;
    if (!list_answers(links, &cache, err)) {
        return false;
    }
    bool ok = true;
    for (struct nl_object *o = nl_cache_get_first(cache); o && ok;
         o = nl_cache_get_next(o)) {
        struct rtnl_neigh *neigh = (struct rtnl_neigh *)o;
        struct nl_addr *dst = rtnl_neigh_get_dst(neigh);
        if (rtnl_neigh_get_ifindex(neigh) != t->index || !dst) {
            continue;
        }
        size_t place = place_of(dst, p);
        if (place < p->list.count) {
            there[place] = true;
        } else {
            ok = answer_change(links, t->index, dst, false, err);
        }
    }
    nl_cache_free(cache);
    return ok;
}

bool
uplink_answer(struct net *net, const struct uplink *u, const struct uplink_publics *p,
              struct err *err)
{
    char leg[IFNAMSIZ];
    struct telling t = {.net = net, .uplink = u};
    AUTO(free) bool *there = xcalloc(p->list.count + 1, sizeof *there);
    uplink_leg_name(net, leg);
    if (!links_find(net->outside, leg, &t.index, err) || t.index == 0) {
        return t.index == 0; /* Not made yet. */
    }
    bool ok = drop_others(&t, p, there, err);
    for (size_t i = 0; ok && i < p->list.count; i++) {
        AUTO(nladdr) struct nl_addr *dst = address_of(&p->list.items[i]);
        if (!there[i]) {
            ok = answer_change(net->outside, t.index, dst, true, err);
            VEC_PUSH(&t.fresh, p->list.items[i]);
        }
    }
    ok = ok && (t.fresh.count == 0 || netns_run(net->outside_fd, tell_here, &t, err));
    VEC_FREE(&t.fresh);
    return ok;
}

bool
uplink_tell(struct net *net, const struct uplink *u, const struct uplink_publics *p,
            struct err *err)
{
    char leg[IFNAMSIZ];
    struct telling t = {.net = net, .uplink = u};
    uplink_leg_name(net, leg);
    if (!links_find(net->outside, leg, &t.index, err) || t.index == 0) {
        return t.index == 0;
    }
    for (size_t i = 0; i < p->list.count; i++) {
        VEC_PUSH(&t.fresh, p->list.items[i]);
    }
    bool ok = netns_run(net->outside_fd, tell_here, &t, err);
    VEC_FREE(&t.fresh);
    return ok;
}
