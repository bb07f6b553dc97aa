/* untracked.c - connections that end at once when the rule that let them in goes: see
 * net_parts.h.
 *
 * A group goes on with what it has let in, whatever becomes of its rules; but not with TCP and UDP
 * that a rule for everybody let in, where everything may go back to everybody too. Nobody need
 * remember such a connection, so nobody does, and it is judged packet by packet. The kernel
 * remembers all of them: those are forgotten when their rule goes and no other lets them in, and
 * what comes then is judged as new.
 *
 * What goes through a NAT gateway is remembered in any case. */
#include "link/records.h"
#include "node/net/flows.h"
#include "node/net/net_parts.h"

/* What has changed, as it was: a group's rules, or a port's groups. */
struct cut {
    struct arena *arena;
    const struct link_group *group; /* NULL: it was the port's groups. */
    const char *port_id;
    const char **group_ids;
    size_t group_count;
};

struct cuts {
    VEC(struct cut) list;
};

void
untracked_free(struct cuts *cuts)
{
    if (cuts) {
        for (size_t i = 0; i < cuts->list.count; i++) {
            arena_destroy(cuts->list.items[i].arena);
        }
        VEC_FREE(&cuts->list);
        free(cuts);
    }
}

/* ---- rules -------------------------------------------------------------------------------
 */

/* A connection, as the groups of one of its ends see it. */
struct call {
    bool egress, is6;
    uint8_t protocol;
    uint16_t port;
    struct in6_addr other;
};

static bool
is_open(const struct link_group_rule *r, bool is6)
{
    struct addr_block block;
    return !str_empty(r->cidr) && addr_parse_block(r->cidr, &block) &&
           block.prefix == 0 && block.is6 == is6;
}

static bool
holds(const char *cidr, const struct call *c)
{
    struct addr_block block;
    uint32_t ip4;
    if (!addr_parse_block(cidr, &block) || block.is6 != c->is6) {
        return false;
    }
    if (c->is6) {
        return addr_in_block6(&c->other, &block);
    }
    struct cidr4 cidr4 = {.base = block.ipv4, .prefix = block.prefix};
    return flow_is_ipv4(&c->other, &ip4) && addr_in_cidr4(ip4, &cidr4);
}

static bool
is_of(const struct policy *policy, const struct link_group_rule *r,
      const struct call *c)
{
    if (!str_empty(r->group_id)) {
        return policy_is_member(policy, r->group_id, &c->other);
    }
    if (str_empty(r->prefix_list_id)) {
        return holds(r->cidr, c);
    }
    const struct link_prefix_list *list = policy_list(policy, r->prefix_list_id);
    for (size_t i = 0; list && i < list->cidrs.count; i++) {
        if (holds(list->cidrs.items[i], c)) {
            return true;
        }
    }
    return false;
}

static bool
all_ports(const struct link_group_rule *r)
{
    return r->protocol == -1 || r->from_port < 0 || r->to_port < 0 ||
           (r->from_port == 0 && r->to_port == 65535);
}

static bool
is_for(const struct link_group_rule *r, const struct call *c)
{
    return (r->protocol == -1 || r->protocol == c->protocol) &&
           (all_ports(r) || (c->port >= r->from_port && c->port <= r->to_port));
}

/* Groups as they are, but one of them as it was. */
struct view {
    const struct policy *policy;
    const char *const *group_ids;
    size_t count;
    const struct link_group *was; /* NULL: all as they are. */
};

typedef bool rule_fn(const struct view *v, const struct link_group_rule *r,
                     const struct call *c);

static bool
any_rule(const struct view *v, rule_fn *fn, const struct call *c)
{
    for (size_t i = 0; i < v->count; i++) {
        const struct link_group *g = v->was && str_eq(v->was->id, v->group_ids[i])
                                         ? v->was
                                         : policy_group(v->policy, v->group_ids[i]);
        for (size_t k = 0; g && k < g->rules.count; k++) {
            if (fn(v, &g->rules.items[k], c)) {
                return true;
            }
        }
    }
    return false;
}

static bool
lets(const struct view *v, const struct link_group_rule *r, const struct call *c)
{
    return r->egress == c->egress && is_for(r, c) && is_of(v->policy, r, c);
}

static bool
lets_everybody(const struct view *v UNUSED, const struct link_group_rule *r,
               const struct call *c)
{
    return r->egress == c->egress && is_for(r, c) && is_open(r, c->is6);
}

static bool
lets_everything_back(const struct view *v UNUSED, const struct link_group_rule *r,
                     const struct call *c)
{
    return r->egress != c->egress && all_ports(r) && is_open(r, c->is6) &&
           (r->protocol == -1 || r->protocol == c->protocol);
}

/* ---- connections ------------------------------------------------------------------------
 */

struct search {
    const struct network *network;
    const struct cuts *cuts;
    struct map *ports; /* By address. */
};

static bool
has_group(const struct port *port, const char *id)
{
    for (size_t i = 0; i < port->group_count; i++) {
        if (str_eq(port->group_ids[i], id)) {
            return true;
        }
    }
    return false;
}

static bool
ends(const struct search *s, const struct cut *cut, const struct port *port,
     const struct call *c)
{
    const char *const *ids = (const char *const *)port->group_ids;
    struct view now = {s->network->policy, ids, port->group_count, NULL};
    struct view was = now;
    if (cut->group ? !has_group(port, cut->group->id)
                   : !str_eq(cut->port_id, port->info.id)) {
        return false;
    }
    if (cut->group) {
        was.was = cut->group;
    } else {
        was.group_ids = cut->group_ids;
        was.count = cut->group_count;
    }
    return any_rule(&was, lets_everybody, c) &&
           any_rule(&was, lets_everything_back, c) && !any_rule(&now, lets, c);
}

static bool
ends_by_any(const struct search *s, const struct port *port, const struct call *c)
{
    for (size_t i = 0; i < s->cuts->list.count; i++) {
        if (ends(s, &s->cuts->list.items[i], port, c)) {
            return true;
        }
    }
    return false;
}

static bool
speaks_as(const struct port *port, const struct in6_addr *ip)
{
    for (size_t i = 0; i < port->public_count; i++) {
        struct in6_addr public = flow_ipv4(port->publics[i].public);
        if (memcmp(&public, ip, sizeof public) == 0) {
            return true;
        }
    }
    return false;
}

static bool
is_cut(void *ctx, const struct flow *f)
{
    const struct search *s = ctx;
    const struct port *caller = flow_ip_get(s->ports, &f->from.ip);
    const struct port *called = flow_ip_get(s->ports, &f->back_from.ip);
    struct call c = {.is6 = f->is6, .protocol = f->protocol};
    if (f->protocol != IPPROTO_TCP && f->protocol != IPPROTO_UDP) {
        return false;
    }
    if (called) {
        c.port = f->back_from.port;
        c.other = f->from.ip;
        if (ends_by_any(s, called, &c)) {
            return true;
        }
    }
    c.egress = true;
    c.port = f->to.port;
    c.other = f->to.ip;
    bool by_gateway =
        caller && flow_source_changed(f) && !speaks_as(caller, &f->back_to.ip);
    return caller && !by_gateway && ends_by_any(s, caller, &c);
}

bool
untracked_flush(struct net *net, struct network *network, struct err *err)
{
    AUTO(map) struct map *ports = map_create(NULL);
    struct search s = {network, network->cuts, ports};
    const char *id;
    void *value;
    if (!network->cuts) {
        return true;
    }
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        struct port *port = value;
        if (port->subnet->network == network && !port->standby) {
            port_note_ips(port, ports, port);
        }
    }
    if (!flows_forget(network->ns_fd, is_cut, &s, err)) {
        return err_wrap(err, "tracked connections of network %s", network->id);
    }
    untracked_free(network->cuts);
    network->cuts = NULL;
    return true;
}

/* ---- changes ----------------------------------------------------------------------------
 */

static struct cut *
add_cut(struct network *network)
{
    struct cut cut = {.arena = arena_create()};
    if (!network->cuts) {
        network->cuts = xcalloc(1, sizeof *network->cuts);
    }
    VEC_PUSH(&network->cuts->list, cut);
    return &network->cuts->list.items[network->cuts->list.count - 1];
}

static bool
opens(const struct link_group *group)
{
    for (size_t i = 0; group && i < group->rules.count; i++) {
        if (is_open(&group->rules.items[i], false) ||
            is_open(&group->rules.items[i], true)) {
            return true;
        }
    }
    return false;
}

void
untracked_group(struct network *network, const struct link_group *want)
{
    const struct link_group *old = policy_group(network->policy, want->id);
    if (opens(old) && !desc_equal(&link_group_desc, old, want)) {
        struct cut *cut = add_cut(network);
        cut->group = desc_copy(&link_group_desc, old, cut->arena);
    }
}

void
untracked_port(const struct port *old, const struct port *now)
{
    struct network *network = old->subnet->network;
    bool lost = false;
    for (size_t i = 0; i < old->group_count; i++) {
        lost = lost || (!has_group(now, old->group_ids[i]) &&
                        opens(policy_group(network->policy, old->group_ids[i])));
    }
    if (!lost || now->standby) {
        return;
    }
    struct cut *cut = add_cut(network);
    cut->port_id = arena_strdup(cut->arena, old->info.id);
    cut->group_ids = ARENA_ARRAY(cut->arena, old->group_count, const char *);
    cut->group_count = old->group_count;
    for (size_t i = 0; i < old->group_count; i++) {
        cut->group_ids[i] = arena_strdup(cut->arena, old->group_ids[i]);
    }
}
