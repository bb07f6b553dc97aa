/* gateway.c - routes of a network, and its ways out: the internet gateway, NAT gateways and
 * peers. See net.h.
 *
 * Where no uplink is named, internet gateways of all networks lead to one namespace,
 * moln-CLOUDID-external, which is the operator's: it routes public addresses to their
 * networks and has no other way out. Each network has one pair of links to it. Next hops
 * there are names, not places: 100.64.0.1 is the gateway, others in 100.64.0.0/10 stand for
 * a NAT gateway each, so that packet rules can tell them apart. A peer is a pair of links
 * between two namespaces; what comes by it reaches subnets only, never a way out again. */
#include "link/link.h"
#include "node/net/flows.h"
#include "node/net/leads.h"
#include "node/net/nat_home.h"
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include "node/net/routes.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <linux/netfilter.h>

#define GATEWAY4 0x64400001u /* RULES_GATEWAY4 */
#define PEER4 0x64410001u    /* The other end of a peer's link. */
#define NAT_BASE 0x64420000u
#define NAT_MASK 0x000fffffu
#define ROUTES_MAX 4096

struct table {
    struct arena *arena;
    const struct link_route_table *record;
};

struct nat {
    char network_id[48];
    struct nat_pair pair; /* private: its next hop; public: how it speaks. */
    bool is_public;       /* Not for networks of the operator's own alone. */
    struct nat_home home;
};

struct peering {
    char network_ids[2][48];
    char links[2][IFNAMSIZ];
};

static void
table_free(void *value)
{
    struct table *t = value;
    arena_destroy(t->arena);
    free(t);
}

void
gateway_name(const struct net *net, char out[ADDR_NS_LEN])
{
    (void)snprintf(out, ADDR_NS_LEN, "moln-%s-external", net->cloud_id);
}

void
gateway_open(struct net *net)
{
    net->tables = map_create(table_free);
    net->nats = map_create(free);
    net->peerings = map_create(free);
    net->outside_fd = -1;
    net->outside = NULL;
}

void
gateway_close(struct net *net)
{
    map_destroy(net->tables);
    map_destroy(net->nats);
    map_destroy(net->peerings);
    links_close(net->outside);
    if (net->outside_fd >= 0) {
        close(net->outside_fd);
    }
}

/* ---- the outside ----------------------------------------------------------------------
 */

/* The operator's namespace; once. */
bool
gateway_outside(struct net *net, struct err *err)
{
    char name[ADDR_NS_LEN];
    int lo;
    gateway_name(net, name);
    if (net->outside) {
        return true;
    }
    if ((net->outside_fd < 0 && !netns_make(name, &net->outside_fd, err)) ||
        !setup_router(net->outside_fd, err)) {
        return false;
    }
    net->outside = links_open_in(net->outside_fd, err);
    if (!net->outside) {
        return false;
    }
    return links_find(net->outside, "lo", &lo, err) &&
           links_up(net->outside, lo, err) &&
           links_address(net->outside, lo, GATEWAY4, 32, err) &&
           gateway6_outside(net, lo, err);
}

struct way {
    char inner[IFNAMSIZ], outer[IFNAMSIZ];
    uint8_t inner_mac[6], outer_mac[6];
    int inner_index, outer_index;
};

/* The network's pair of links to the outside. */
static bool
way_make(struct net *net, struct network *network, struct way *w, struct err *err)
{
    AUTO(free) char *far = xasprintf("%s/outside", network->id);
    addr_link_name(net->cloud_id, RULES_OUTSIDE, network->id, w->inner);
    addr_link_name(net->cloud_id, "mx", network->id, w->outer);
    addr_router_mac(net->cloud_id, network->id, w->inner_mac);
    addr_router_mac(net->cloud_id, far, w->outer_mac);
    return gateway_outside(net, err) &&
           links_veth(network->links, w->inner, w->inner_mac, w->outer, net->outside_fd,
                      w->outer_mac, err) &&
           links_find(network->links, w->inner, &w->inner_index, err) &&
           links_find(net->outside, w->outer, &w->outer_index, err) &&
           links_up(network->links, w->inner_index, err) &&
           links_up(net->outside, w->outer_index, err) &&
           links_neighbour(network->links, w->inner_index, GATEWAY4, w->outer_mac,
                           err) &&
           gateway6_link(network->ns_fd, network->links, w->inner, w->inner_index,
                         w->outer_mac, err) &&
           gateway6_link(net->outside_fd, net->outside, w->outer, w->outer_index,
                         w->inner_mac, err) &&
           gateway6_lead_in(net, network, w->outer_index, err);
}

static struct route_entry
entry_link(const struct addr_block *to, int index)
{
    return (struct route_entry){.to = *to, .kind = ROUTE_LINK, .index = index};
}

static struct route_entry
entry_via6(const struct addr_block *to, int index, const char *target)
{
    struct route_entry out = {.to = *to, .kind = ROUTE_VIA, .index = index};
    out.via.prefix = 128;
    out.via.is6 = true;
    if (!gateway6_hop(target, &out.via.ipv6)) {
        out.kind = ROUTE_BLACKHOLE;
    }
    return out;
}

static struct route_entry
entry_via(const struct addr_block *to, int index, uint32_t via)
{
    return (struct route_entry){.to = *to,
                                .kind = ROUTE_VIA,
                                .index = index,
                                .via = {.ipv4 = via, .prefix = 32}};
}

/* ---- what a table says ----------------------------------------------------------------
 */

struct plan {
    struct net *net;
    struct network *network;
    struct way way;
    bool has_way;
    VEC(struct route_entry) list;
};

/* A later entry takes the place of an earlier one for the same block. */
static void
plan_put(struct plan *p, struct route_entry entry)
{
    for (size_t i = 0; i < p->list.count; i++) {
        if (memcmp(&p->list.items[i].to, &entry.to, sizeof entry.to) == 0) {
            p->list.items[i] = entry;
            return;
        }
    }
    VEC_PUSH(&p->list, entry);
}

static void
plan_local(struct plan *p)
{
    for (size_t i = 0; i < p->network->cidr_count; i++) {
        struct route_entry none = {.to = p->network->cidrs[i], .kind = ROUTE_BLACKHOLE};
        plan_put(p, none);
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(p->net->subnets, &it, &id, &value);) {
        const struct subnet *s = value;
        if (s->network != p->network) {
            continue;
        }
        struct addr_block to = {.ipv4 = s->cidr.base, .prefix = s->cidr.prefix};
        plan_put(p, entry_link(&to, s->bridge_index));
        if (s->cidr6.prefix > 0) {
            plan_put(p, entry_link(&s->cidr6, s->bridge_index));
        }
    }
}

/* The peering's link in this network; 0: none. */
static int
peer_index(struct plan *p, const char *id)
{
    const struct peering *peering = id ? map_get(p->net->peerings, id) : NULL;
    struct err ignored = {0};
    int index = 0;
    for (int side = 0; peering && side < 2; side++) {
        if (str_eq(peering->network_ids[side], p->network->id) &&
            !links_find(p->network->links, peering->links[side], &index, &ignored)) {
            index = 0;
        }
    }
    return index;
}

/* A route whose target is not there drops what it matches, as AWS's blackholes do. */
static struct route_entry
plan_route(struct plan *p, const struct link_route *r, const struct addr_block *to)
{
    const struct nat *nat = r->target_id ? map_get(p->net->nats, r->target_id) : NULL;
    const struct subnet *s =
        r->subnet_id ? map_get(p->net->subnets, r->subnet_id) : NULL;
    struct route_entry none = {.to = *to, .kind = ROUTE_BLACKHOLE};
    int index;
    if (str_eq(r->target, "eni") && s && s->network == p->network) {
        struct route_entry via = {
            .to = *to, .kind = ROUTE_VIA, .index = s->bridge_index};
        via.via.prefix = to->is6 ? 128 : 32;
        via.via.is6 = to->is6;
        bool good = to->is6 ? addr_parse_ipv6(r->address, &via.via.ipv6)
                            : addr_parse_ipv4(r->address, &via.via.ipv4);
        return good ? via : none;
    }
    bool out =
        str_eq(r->target, "igw") || (to->is6 && str_eq(r->target, "egress_only"));
    if (out && p->has_way) {
        return to->is6 ? entry_via6(to, p->way.inner_index, r->target)
                       : entry_via(to, p->way.inner_index, GATEWAY4);
    }
    if (str_eq(r->target, "nat") && !to->is6 && nat && p->has_way) {
        bool away = nat_home_is_elsewhere(p->net, &nat->home);
        return entry_via(to, away ? nat->home.index : p->way.inner_index,
                         nat->pair.private);
    }
    if (str_eq(r->target, "peering") && (index = peer_index(p, r->target_id)) > 0) {
        return to->is6 ? entry_via6(to, index, r->target) : entry_via(to, index, PEER4);
    }
    return none;
}

static bool
table_apply(struct plan *p, const struct link_route_table *table, struct err *err)
{
    VEC_FREE(&p->list);
    plan_local(p);
    for (size_t i = 0; i < table->routes.count; i++) {
        const struct link_route *r = &table->routes.items[i];
        struct addr_block to;
        if (addr_parse_block(r->cidr, &to) && !str_eq(r->target, "local")) {
            plan_put(p, plan_route(p, r, &to));
        }
    }
    return routes_set(p->network->links, GATEWAY_TABLE(table->id), p->list.items,
                      p->list.count, err);
}

static bool
rules_set(struct net *net, struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        const struct subnet *s = value;
        uint32_t number = s->route_table[0] == '\0' ? 0 : GATEWAY_TABLE(s->route_table);
        if (s->network == network &&
            !routes_rule(network->links, s->bridge, number, err)) {
            return false;
        }
    }
    return endpoint_routes(net, network, err);
}

/* ---- flush ----------------------------------------------------------------------------
 */

static bool
wants_way(const struct net *net, const struct network *network)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->tables, &it, &id, &value);) {
        const struct link_route_table *t = ((struct table *)value)->record;
        for (size_t i = 0; str_eq(t->network_id, network->id) && i < t->routes.count;
             i++) {
            const char *target = t->routes.items[i].target;
            if (str_eq(target, "igw") || str_eq(target, "nat") ||
                str_eq(target, "egress_only")) {
                return true;
            }
        }
    }
    return false;
}

bool
gateway_keeps(const struct net *net, const struct network *network, const char *link)
{
    char inner[IFNAMSIZ];
    addr_link_name(net->cloud_id, RULES_OUTSIDE, network->id, inner);
    if (str_eq(link, inner)) {
        return wants_way(net, network);
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->peerings, &it, &id, &value);) {
        const struct peering *p = value;
        for (int i = 0; i < 2; i++) {
            if (str_eq(p->network_ids[i], network->id) && str_eq(p->links[i], link)) {
                return true;
            }
        }
    }
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (str_eq(nat->network_id, network->id) && str_eq(nat->home.link, link)) {
            return nat->home.index > 0;
        }
    }
    return false;
}

/* The network's NAT gateways stand where they are to. */
static bool
nats_make(struct net *net, struct network *network, const struct way *w,
          struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        struct nat *nat = value;
        if (str_eq(nat->network_id, network->id) &&
            (!nat_home_make(net, network, &nat->home, nat->pair.private, w->inner_index,
                            err) ||
             !links_neighbour(network->links, w->inner_index, nat->pair.private,
                              w->outer_mac, err))) {
            return false;
        }
    }
    return true;
}

/* Public addresses that this network has: from the outside they lead here, and no others. */
static bool
lead_all_in(struct net *net, struct network *network, const struct way *w,
            struct err *err)
{
    VEC(struct lead) leads = {0};
    struct lead lead;
    const char *id;
    void *value;
    memcpy(lead.mac, w->inner_mac, sizeof lead.mac);
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        for (size_t i = 0; port->subnet->network == network && i < port->public_count;
             i++) {
            lead.public = port->publics[i].public;
            VEC_PUSH(&leads, lead);
        }
    }
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (str_eq(nat->network_id, network->id) &&
            !nat_home_is_elsewhere(net, &nat->home)) {
            lead.public = nat->pair.public;
            VEC_PUSH(&leads, lead);
        }
    }
    bool ok = leads_set(net->outside, w->outer_index, leads.items, leads.count, err);
    VEC_FREE(&leads);
    return ok;
}

static bool
nats_apply(struct net *net, struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        struct nat *nat = value;
        struct elem e = elem_in(NFPROTO_INET, "nats");
        elem_key_ipv4(&e, nat->pair.private);
        elem_to_ipv4(&e, nat->pair.public);
        if (str_eq(nat->network_id, network->id) &&
            (!elems_add(network->elems, &e, 1, err) ||
             !nat_home_speak(net, network, &nat->home, nat->pair.private, err))) {
            return false;
        }
    }
    return nat_home_answer(net, err);
}

bool
gateway_flush(struct net *net, struct network *network, struct err *err)
{
    if (!network->routes_dirty) {
        return true;
    }
    struct plan p = {.net = net, .network = network};
    p.has_way = wants_way(net, network);
    bool ok =
        !p.has_way ||
        (way_make(net, network, &p.way, err) && nats_make(net, network, &p.way, err) &&
         lead_all_in(net, network, &p.way, err) && nats_apply(net, network, err));
    const char *id;
    void *value;
    for (size_t it = 0; ok && map_next(net->tables, &it, &id, &value);) {
        const struct link_route_table *table = ((struct table *)value)->record;
        ok = !str_eq(table->network_id, network->id) || table_apply(&p, table, err);
    }
    VEC_FREE(&p.list);
    ok = ok && rules_set(net, network, err) && gateway6_open(net, network, err);
    network->routes_dirty = !ok;
    ok = ok && uplink_refresh(net, err);
    return ok || err_wrap(err, "routes of %s", network->id);
}

bool
gateway_has_nat(const struct net *net, const struct network *network)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (str_eq(nat->network_id, network->id) &&
            !nat_home_is_elsewhere(net, &nat->home)) {
            return true;
        }
    }
    return false;
}

void
gateway_each_nat(const struct net *net, gateway_nat_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        struct nat *nat = value;
        fn(ctx, map_get(net->networks, nat->network_id), &nat->pair, &nat->home);
    }
}

void
gateway_each_public(const struct net *net, void (*fn)(void *ctx, uint32_t ipv4),
                    void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (nat->is_public && nat->home.speaks) {
            fn(ctx, nat->pair.public);
        }
    }
}

void
gateway_note(const struct net *net, const struct network *network, struct map *ips)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        struct nat *nat = value;
        struct in6_addr ip = flow_ipv4(nat->pair.public);
        if (str_eq(nat->network_id, network->id)) {
            flow_ip_put(ips, &ip, nat);
        }
    }
}

bool
gateway_speaks_as(const struct net *net, const struct network *network, uint32_t public)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (str_eq(nat->network_id, network->id) && nat->pair.public == public &&
            !nat_home_is_elsewhere(net, &nat->home)) {
            return true;
        }
    }
    return false;
}

void
gateway_each_elem(const struct net *net, const struct network *network,
                  policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->nats, &it, &id, &value);) {
        const struct nat *nat = value;
        if (str_eq(nat->network_id, network->id)) {
            struct elem e = elem_in(NFPROTO_INET, "nats");
            elem_key_ipv4(&e, nat->pair.private);
            elem_to_ipv4(&e, nat->pair.public);
            fn(ctx, &e);
        }
    }
    gateway6_each_elem(net, network, fn, ctx);
}

/* ---- wants ----------------------------------------------------------------------------
 */

static struct network *
network_named(struct net *net, const char *id, struct err *err)
{
    struct network *network = id ? map_get(net->networks, id) : NULL;
    if (!network) {
        (void)err_set(err, ERR_NOT_FOUND, "network %s is not here", id ? id : "");
    }
    return network;
}

bool
gateway_want_table(struct net *net, const void *record, struct err *err)
{
    const struct link_route_table *want = record;
    struct network *network = network_named(net, want->network_id, err);
    if (!network || !addr_id_ok(want->id) || want->routes.count > ROUTES_MAX) {
        return network ? err_set(err, ERR_INVALID, "route table: bad id or size")
                       : false;
    }
    struct table *t = xcalloc(1, sizeof *t);
    t->arena = arena_create();
    t->record = desc_copy(&link_route_table_desc, want, t->arena);
    map_put(net->tables, want->id, t);
    network->routes_dirty = true;
    return network_flush(net, network, err);
}

const struct link_route_table *
gateway_table(const struct net *net, const char *id)
{
    const struct table *t = map_get(net->tables, id);
    return t ? t->record : NULL;
}

bool
gateway_want_nat(struct net *net, const void *record, struct err *err)
{
    const struct link_nat_gateway *want = record;
    struct network *network = network_named(net, want->network_id, err);
    struct nat_pair pair = {.private = NAT_BASE + (addr_number(want->id) & NAT_MASK)};
    const char *speaks =
        str_empty(want->public_ipv4) ? want->private_ipv4 : want->public_ipv4;
    if (!network) {
        return false;
    }
    struct nat_home home;
    if (!addr_id_ok(want->id) || !addr_parse_ipv4(speaks, &pair.public)) {
        return err_set(err, ERR_INVALID, "NAT gateway: bad id or address");
    }
    if (!nat_home_read(net, want, &home, err)) {
        return false;
    }
    struct nat *nat = xcalloc(1, sizeof *nat);
    nat->pair = pair;
    nat->is_public = !str_empty(want->public_ipv4);
    nat->home = home;
    (void)snprintf(nat->network_id, sizeof nat->network_id, "%.47s", want->network_id);
    map_put(net->nats, want->id, nat);
    network->routes_dirty = true;
    return network_flush(net, network, err);
}

static bool
peering_make(struct net *net, const char *id, const struct peering *p,
             struct network *const sides[2], struct err *err)
{
    uint8_t macs[2][6];
    int index;
    for (int i = 0; i < 2; i++) {
        AUTO(free) char *side = xasprintf("%s/%d", id, i);
        addr_router_mac(net->cloud_id, side, macs[i]);
    }
    if (!links_veth(sides[0]->links, p->links[0], macs[0], p->links[1], sides[1]->ns_fd,
                    macs[1], err)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (!links_find(sides[i]->links, p->links[i], &index, err) ||
            !links_up(sides[i]->links, index, err) ||
            !links_neighbour(sides[i]->links, index, PEER4, macs[1 - i], err) ||
            !gateway6_link(sides[i]->ns_fd, sides[i]->links, p->links[i], index,
                           macs[1 - i], err)) {
            return false;
        }
    }
    return true;
}

bool
gateway_want_peering(struct net *net, const void *record, struct err *err)
{
    const struct link_peering *want = record;
    const char *ids[] = {want->network_a, want->network_b};
    struct network *sides[2];
    struct peering p = {0};
    if (!addr_id_ok(want->id) || str_eq(ids[0], ids[1])) {
        return err_set(err, ERR_INVALID, "peering: bad id or networks");
    }
    for (int i = 0; i < 2; i++) {
        AUTO(free) char *side = xasprintf("%s/%d", want->id, i);
        sides[i] = network_named(net, ids[i], err);
        if (!sides[i]) {
            return false;
        }
        (void)snprintf(p.network_ids[i], sizeof p.network_ids[i], "%.47s", ids[i]);
        addr_link_name(net->cloud_id, RULES_PEER, side, p.links[i]);
    }
    if (!peering_make(net, want->id, &p, sides, err)) {
        return err_wrap(err, "peering %s", want->id);
    }
    struct peering *kept = xmalloc(sizeof *kept);
    *kept = p;
    map_put(net->peerings, want->id, kept);
    sides[0]->routes_dirty = sides[1]->routes_dirty = true;
    return network_flush(net, sides[0], err) && network_flush(net, sides[1], err);
}

bool
gateway_each_peer(const struct net *net, const struct network *network,
                  gateway_peer_fn *fn, void *ctx, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->peerings, &it, &id, &value);) {
        const struct peering *p = value;
        for (int i = 0; i < 2; i++) {
            struct network *peer = map_get(net->networks, p->network_ids[1 - i]);
            if (str_eq(p->network_ids[i], network->id) && peer && !fn(ctx, peer, err)) {
                return false;
            }
        }
    }
    return true;
}

bool
gateway_redo(struct net *net, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        ((struct network *)value)->routes_dirty = true;
        if (!network_flush(net, value, err)) {
            return false;
        }
    }
    return true;
}

bool
gateway_drop(struct net *net, int kind, const char *id, struct err *err)
{
    struct peering *p = kind == LINK_PEERING ? map_get(net->peerings, id) : NULL;
    struct nat *nat = kind == LINK_NAT_GATEWAY ? map_get(net->nats, id) : NULL;
    struct network *network = p     ? map_get(net->networks, p->network_ids[0])
                              : nat ? map_get(net->networks, nat->network_id)
                                    : NULL;
    if (p && network && !links_drop(network->links, p->links[0], err)) {
        return err_wrap(err, "peering %s", id);
    }
    struct elem e = elem_in(NFPROTO_INET, "nats");
    elem_key_ipv4(&e, nat ? nat->pair.private : 0);
    struct in6_addr spoke = flow_ipv4(nat ? nat->pair.public : 0);
    if (nat && network &&
        (!elems_del(network->elems, &e, 1, err) ||
         !nat_home_silence(network, &nat->home, nat->pair.private, err) ||
         !nat_home_drop(network, &nat->home, err) ||
         !forget_remote(net, network, &spoke, 1, err))) {
        return err_wrap(err, "NAT gateway %s", id);
    }
    map_del(kind == LINK_PEERING       ? net->peerings
            : kind == LINK_NAT_GATEWAY ? net->nats
                                       : net->tables,
            id);
    return gateway_redo(net, err);
}
