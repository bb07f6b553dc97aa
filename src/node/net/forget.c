/* forget.c - connections that would outlive their owner: see net_parts.h.
 *
 * A group lets a tracked connection pass without asking its rules, so one that is left behind
 * would let in whoever gets its address next, or let him in elsewhere.
 *
 * In a peer's namespace an address is known by its number alone. A network that is peered with
 * two others of the same blocks (each reached by some of their addresses) loses what it has
 * with either's; what its groups let begin goes on. */
#include "node/net/flows.h"
#include "node/net/net_parts.h"

#define RESERVED 4 /* A subnet's first addresses are the router's and its services'. */

/* ---- what goes with an address ----------------------------------------------------------
 */

static bool
has_an_end(void *ctx, const struct flow *f)
{
    const struct map *ips = ctx;
    return flow_ip_get(ips, &f->from.ip) || flow_ip_get(ips, &f->to.ip) ||
           flow_ip_get(ips, &f->back_from.ip) || flow_ip_get(ips, &f->back_to.ip);
}

/* To look through all connections takes milliseconds: once for all that goes. */
static bool
note_in(void *ctx, struct network *network, struct err *err UNUSED)
{
    const struct map *ips = ctx;
    const char *key;
    void *value;
    if (!network->gone) {
        network->gone = map_create(NULL);
    }
    for (size_t it = 0; map_next(ips, &it, &key, &value);) {
        map_put(network->gone, key, network);
    }
    return true;
}

static bool
forget_all(struct net *net, struct network *network, struct map *ips, struct err *err)
{
    return map_count(ips) == 0 || (note_in(ips, network, err) &&
                                   gateway_each_peer(net, network, note_in, ips, err));
}

bool
net_settle(struct net *net, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct network *network = value;
        if (!network->gone) {
            continue;
        }
        if (!flows_forget(network->ns_fd, has_an_end, network->gone, err)) {
            return err_wrap(err, "tracked connections of network %s", id);
        }
        map_destroy(network->gone);
        network->gone = NULL;
    }
    return true;
}

static void
note(struct map *ips, const struct map *kept, const struct in6_addr *ip)
{
    if (!kept || !flow_ip_get(kept, ip)) {
        flow_ip_put(ips, ip, ips);
    }
}

/* But not those that are 'kept' (NULL: none). */
static void
note_port(struct map *ips, const struct map *kept, const struct port *port)
{
    for (size_t i = 0; i < port->address_count; i++) {
        struct in6_addr ip = flow_ipv4(port->addresses[i]);
        note(ips, kept, &ip);
    }
    for (size_t i = 0; i < port->address6_count; i++) {
        note(ips, kept, &port->addresses6[i]);
    }
}

static bool
has_public(const struct port *port, const struct nat_pair *pair)
{
    for (size_t i = 0; port && i < port->public_count; i++) {
        if (port->publics[i].private == pair->private &&
            port->publics[i].public == pair->public) {
            return true;
        }
    }
    return false;
}

bool
forget_port(struct net *net, const struct port *old, const struct port *now,
            struct err *err)
{
    AUTO(map) struct map *ips = map_create(NULL);
    AUTO(map) struct map *kept = map_create(NULL);
    bool elsewhere =
        old->standby || (now ? now->standby : remote_has(net, old->info.id));
    if (elsewhere) {
        return true;
    }
    if (now) {
        note_port(kept, NULL, now);
    }
    note_port(ips, kept, old);
    for (size_t i = 0; i < old->public_count; i++) {
        struct in6_addr ip = flow_ipv4(old->publics[i].public);
        if (!has_public(now, &old->publics[i])) {
            note(ips, NULL, &ip);
        }
    }
    return forget_all(net, old->subnet->network, ips, err);
}

bool
forget_before(struct net *net, const struct port *port, struct err *err)
{
    AUTO(map) struct map *ips = map_create(NULL);
    if (port->standby || remote_has(net, port->info.id)) {
        return true; /* It comes from there, and brings its own. */
    }
    note_port(ips, NULL, port);
    return forget_all(net, port->subnet->network, ips, err) && net_settle(net, err);
}

bool
forget_remote(struct net *net, struct network *network, const struct in6_addr *list,
              size_t count, struct err *err)
{
    AUTO(map) struct map *ips = map_create(NULL);
    for (size_t i = 0; i < count; i++) {
        flow_ip_put(ips, &list[i], ips);
    }
    return forget_all(net, network, ips, err);
}

/* ---- what is nobody's -----------------------------------------------------------------
 */

struct strays {
    const struct net *net;
    const struct network *network;
    struct map *owned;
};

static bool
in_subnet(const struct subnet *s, const struct in6_addr *ip)
{
    uint32_t ip4;
    struct addr_block first = s->cidr6;
    first.prefix = 126;
    return flow_is_ipv4(ip, &ip4)
               ? addr_in_cidr4(ip4, &s->cidr) && ip4 - s->cidr.base >= RESERVED
               : s->cidr6.prefix > 0 && addr_in_block6(ip, &s->cidr6) &&
                     !addr_in_block6(ip, &first);
}

static bool
is_stray(const struct strays *s, const struct in6_addr *ip)
{
    const char *id;
    void *value;
    if (flow_ip_get(s->owned, ip)) {
        return false;
    }
    for (size_t it = 0; map_next(s->net->subnets, &it, &id, &value);) {
        const struct subnet *subnet = value;
        if (subnet->network == s->network && in_subnet(subnet, ip)) {
            return true;
        }
    }
    return false;
}

static bool
is_nobodys(void *ctx, const struct flow *f)
{
    return is_stray(ctx, &f->from.ip) || is_stray(ctx, &f->to.ip) ||
           is_stray(ctx, &f->back_from.ip) || is_stray(ctx, &f->back_to.ip);
}

bool
forget_strays(struct net *net, struct network *network, struct err *err)
{
    AUTO(map) struct map *owned = map_create(NULL);
    struct strays s = {net, network, owned};
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (port->subnet->network == network) {
            note_port(owned, NULL, port);
        }
    }
    remote_note(net, network, owned);
    gateway_note(net, network, owned);
    endpoint_note(net, network, owned);
    return flows_forget(network->ns_fd, is_nobodys, &s, err);
}
