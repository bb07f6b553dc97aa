/* gateway6.c - IPv6 on a network's ways out. See net.h and gateway.c.
 *
 * IPv6 is not translated: a guest's address is the same outside. Next hops are link-local
 * names, which the far end's MAC answers to: one for the internet gateway, one for
 * egress-only gateways, one for a peer. What comes in unasked reaches the subnets whose
 * route table leads to an internet gateway; the others only get answers. */
#include "link/link.h"
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include "node/net/routes.h"
#include "node/net/setup.h"
#include <linux/netfilter.h>

enum { HOP_GATEWAY = 1, HOP_EGRESS, HOP_PEER, HOP_NETWORK, HOPS };

static struct in6_addr
hop_address(int hop)
{
    struct in6_addr out = {.s6_addr = {0xfe, 0x80, [15] = (uint8_t)hop}};
    return out;
}

bool
gateway6_hop(const char *target, struct in6_addr *out)
{
    static const char *const targets[] = {
        [HOP_GATEWAY] = "igw", [HOP_EGRESS] = "egress_only", [HOP_PEER] = "peering"};
    for (int hop = HOP_GATEWAY; hop <= HOP_PEER; hop++) {
        if (str_eq(target, targets[hop])) {
            *out = hop_address(hop);
            return true;
        }
    }
    return false;
}

bool
gateway6_link(int ns_fd, struct links *links, const char *name, int index,
              const uint8_t far_mac[6], struct err *err)
{
    if (!setup_ipv6(ns_fd, name, err)) {
        return false;
    }
    for (int hop = HOP_GATEWAY; hop < HOPS; hop++) {
        struct in6_addr at = hop_address(hop);
        if (!links_neighbour6(links, index, &at, far_mac, err)) {
            return false;
        }
    }
    return true;
}

bool
gateway6_lead_in(struct net *net, const struct network *network, int outer_index,
                 struct err *err)
{
    for (size_t i = 0; i < network->cidr_count; i++) {
        struct route_entry entry = {
            .to = network->cidrs[i],
            .kind = ROUTE_VIA,
            .index = outer_index,
            .via = {.ipv6 = hop_address(HOP_NETWORK), .prefix = 128, .is6 = true}};
        if (entry.to.is6 && !routes_put(net->outside, ROUTES_MAIN, &entry, err)) {
            return false;
        }
    }
    return true;
}

bool
gateway6_outside(struct net *net, int lo, struct err *err)
{
    struct in6_addr at;
    return (addr_parse_ipv6(GATEWAY6, &at) ||
            err_set(err, ERR_INVALID, "gateway's address")) &&
           links_address6(net->outside, lo, &at, 128, err);
}

/* ---- who may be reached unasked -------------------------------------------------------
 */

static bool
leads_to_gateway(const struct link_route_table *table)
{
    struct addr_block to;
    for (size_t i = 0; table && i < table->routes.count; i++) {
        const struct link_route *r = &table->routes.items[i];
        if (str_eq(r->target, "igw") && addr_parse_block(r->cidr, &to) && to.is6) {
            return true;
        }
    }
    return false;
}

bool
gateway6_leads_out(const struct link_route_table *table)
{
    struct addr_block to;
    struct in6_addr hop;
    for (size_t i = 0; table && i < table->routes.count; i++) {
        const struct link_route *r = &table->routes.items[i];
        if (gateway6_hop(r->target, &hop) && !str_eq(r->target, "peering") &&
            addr_parse_block(r->cidr, &to) && to.is6) {
            return true;
        }
    }
    return false;
}

static struct elem
open_elem(const struct subnet *s)
{
    struct elem e = elem_in(NFPROTO_INET, "open6");
    elem_key_link(&e, s->bridge);
    return e;
}

bool
gateway6_open(struct net *net, struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        struct subnet *s = value;
        if (s->network != network) {
            continue;
        }
        struct elem e = open_elem(s);
        bool open =
            s->cidr6.prefix > 0 && leads_to_gateway(gateway_table(net, s->route_table));
        if (open == s->open6) {
            continue; /* To remove what is not there costs a grace period of RCU. */
        }
        if (!(open ? elems_add(network->elems, &e, 1, err)
                   : elems_del(network->elems, &e, 1, err))) {
            return false;
        }
        s->open6 = open;
    }
    return true;
}

bool
gateway6_drop_subnet(const struct subnet *s, struct err *err)
{
    struct elem e = open_elem(s);
    return !s->open6 || elems_del(s->network->elems, &e, 1, err);
}

void
gateway6_each_elem(const struct net *net, const struct network *network,
                   policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        const struct subnet *s = value;
        if (s->network == network && s->open6) {
            struct elem e = open_elem(s);
            fn(ctx, &e);
        }
    }
}
