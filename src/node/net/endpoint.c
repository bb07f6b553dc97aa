/* endpoint.c - addresses of a subnet that are this node's own, for a service behind it: see
 * net.h.
 *
 * An endpoint is here on every node that has the network: its address lies on the subnet's
 * bridge, as the router's and the resolver's do, so a guest reaches the one on its own host.
 * What is sent to it is judged by the groups of the guest as it leaves, and by the endpoint's
 * own as it arrives; from one address no more than 64 connections a second come through. */
#include "link/records.h"
#include "node/net/flows.h"
#include "node/net/net_parts.h"
#include "node/net/routes.h"
#include <linux/netfilter.h>

struct endpoint {
    char *id;
    char subnet_id[48];
    uint32_t ipv4;
    uint32_t number; /* Its mark. */
    char chain[ELEM_CHAIN_MAX];
};

static void
endpoint_free(void *value)
{
    struct endpoint *e = value;
    if (e) {
        free(e->id);
        free(e);
    }
}

void
endpoint_open(struct net *net)
{
    net->endpoints = map_create(endpoint_free);
}

void
endpoint_close(struct net *net)
{
    map_destroy(net->endpoints);
}

static struct subnet *
subnet_of(const struct net *net, const struct endpoint *e)
{
    return map_get(net->subnets, e->subnet_id);
}

bool
endpoint_has(const struct net *net, const struct network *network, uint32_t ipv4)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->endpoints, &it, &id, &value);) {
        const struct endpoint *e = value;
        const struct subnet *s = subnet_of(net, e);
        if (e->ipv4 == ipv4 && s && s->network == network) {
            return true;
        }
    }
    return false;
}

void
endpoint_note(const struct net *net, const struct network *network, struct map *ips)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->endpoints, &it, &id, &value);) {
        struct endpoint *e = value;
        const struct subnet *s = subnet_of(net, e);
        struct in6_addr ip = flow_ipv4(e->ipv4);
        if (s && s->network == network) {
            flow_ip_put(ips, &ip, e);
        }
    }
}

/* ---- elements ---------------------------------------------------------------------------
 */

#define ENDPOINT_ELEMS 5

static void
endpoint_elems(const struct endpoint *e, const struct subnet *s,
               struct elem out[ENDPOINT_ELEMS])
{
    static const char *const acls[] = {"endpoint_acl_in", "endpoint_acl_out"};
    out[0] = elem_in(NFPROTO_INET, "endpoints4");
    elem_key_ipv4(&out[0], e->ipv4);
    elem_to_mark(&out[0], e->number);
    out[1] = elem_in(NFPROTO_INET, "arriving_at");
    elem_key_mark(&out[1], e->number);
    elem_to_chain(&out[1], e->chain, false);
    out[2] = elem_in(NFPROTO_INET, "endpoint_near");
    elem_key_link(&out[2], s->bridge);
    elem_key_ipv4(&out[2], e->ipv4);
    for (int i = 0; i < 2; i++) {
        out[3 + i] = elem_in(NFPROTO_INET, acls[i]);
        elem_key_ipv4(&out[3 + i], e->ipv4);
        elem_to_chain(&out[3 + i], s->acl_chains[i], true);
    }
}

void
endpoint_each_elem(const struct net *net, const struct network *network,
                   policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->endpoints, &it, &id, &value);) {
        const struct endpoint *e = value;
        const struct subnet *s = subnet_of(net, e);
        struct elem list[ENDPOINT_ELEMS];
        if (s && s->network == network) {
            endpoint_elems(e, s, list);
            for (size_t i = 0; i < ENDPOINT_ELEMS; i++) {
                fn(ctx, &list[i]);
            }
        }
    }
}

bool
endpoint_acls(const struct net *net, const struct subnet *s, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->endpoints, &it, &id, &value);) {
        struct elem list[ENDPOINT_ELEMS];
        if (subnet_of(net, value) == s) {
            endpoint_elems(value, s, list);
            if (!elems_add(s->network->elems, list, ENDPOINT_ELEMS, err)) {
                return err_wrap(err, "endpoint %s", id);
            }
        }
    }
    return true;
}

bool
endpoint_routes(const struct net *net, const struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->endpoints, &it, &id, &value);) {
        const struct endpoint *e = value;
        const struct subnet *s = subnet_of(net, e);
        bool has_table = s && s->route_table[0] != '\0';
        if (s && s->network == network &&
            !routes_rule_from(network->links, e->ipv4,
                              has_table ? GATEWAY_TABLE(s->route_table) : 0, err)) {
            return err_wrap(err, "endpoint %s", id);
        }
    }
    return true;
}

/* ---- wanted ---------------------------------------------------------------------------
 */

static bool
groups_chain(struct network *network, const struct link_endpoint *want,
             char out[ELEM_CHAIN_MAX])
{
    if (want->group_ids.count > POLICY_GROUPS_MAX) {
        return false;
    }
    for (size_t i = 0; i < want->group_ids.count; i++) {
        if (!addr_id_ok(want->group_ids.items[i]) ||
            strlen(want->group_ids.items[i]) > 40) {
            return false;
        }
    }
    const char *profile =
        policy_profile(network->policy, want->group_ids.items, want->group_ids.count);
    (void)snprintf(out, ELEM_CHAIN_MAX, "%s%s", profile ? profile : "nothing",
                   profile ? "_in" : "");
    return true;
}

static bool
address_ok(const struct subnet *s, uint32_t ip)
{
    return addr_in_cidr4(ip, &s->cidr) && ip > dnsmasq_resolver(&s->cidr) &&
           ip != (s->cidr.base | ~addr_mask4(s->cidr.prefix));
}

static bool
read_endpoint(struct net *net, const struct link_endpoint *want, struct endpoint *e,
              struct err *err)
{
    struct subnet *s = want->subnet_id ? map_get(net->subnets, want->subnet_id) : NULL;
    char key[ADDR_IPV4_LEN];
    if (!addr_id_ok(want->id)) {
        return err_set(err, ERR_INVALID, "endpoint: not an id");
    }
    if (!s || !str_eq(s->network->id, want->network_id)) {
        return err_set(err, ERR_NOT_FOUND, "endpoint %s: its subnet is not here",
                       want->id);
    }
    if (!addr_parse_ipv4(want->ipv4, &e->ipv4) || !address_ok(s, e->ipv4) ||
        !groups_chain(s->network, want, e->chain)) {
        return err_set(err, ERR_INVALID, "endpoint %s: bad address or groups",
                       want->id);
    }
    addr_ipv4_text(e->ipv4, key);
    const char *owner = net_port_caller(net, s->network->id, key);
    if (owner) {
        return err_set(err, ERR_EXISTS, "endpoint %s: port %s has its address",
                       want->id, owner);
    }
    (void)snprintf(e->subnet_id, sizeof e->subnet_id, "%.47s", s->id);
    return true;
}

static bool
endpoint_make(const struct subnet *s, const struct endpoint *e, struct err *err)
{
    struct elem list[ENDPOINT_ELEMS];
    endpoint_elems(e, s, list);
    return elems_add(s->network->elems, list, ENDPOINT_ELEMS, err) &&
           links_address(s->network->links, s->bridge_index, e->ipv4, 32, err);
}

bool
endpoint_want(struct net *net, const void *record, struct err *err)
{
    const struct link_endpoint *want = record;
    struct endpoint e = {0};
    if (!read_endpoint(net, want, &e, err)) {
        return false;
    }
    const struct endpoint *old = map_get(net->endpoints, want->id);
    const struct subnet *s = subnet_of(net, &e);
    if (old && (old->ipv4 != e.ipv4 || !str_eq(old->subnet_id, e.subnet_id))) {
        return err_set(err, ERR_INVALID, "endpoint %s cannot change its address",
                       want->id);
    }
    e.number = old ? old->number : port_free_number(s->network, want->id);
    if (!network_flush(net, s->network, err) || !endpoint_make(s, &e, err)) {
        return err_wrap(err, "endpoint %s", want->id);
    }
    struct endpoint *kept = xmalloc(sizeof *kept);
    *kept = e;
    kept->id = xstrdup(want->id);
    map_put(net->endpoints, want->id, kept);
    port_note_number(s->network, kept->number, kept);
    s->network->routes_dirty = true;
    return network_flush(net, s->network, err);
}

bool
endpoint_drop(struct net *net, int kind UNUSED, const char *id, struct err *err)
{
    const struct endpoint *e = map_get(net->endpoints, id);
    const struct subnet *s = e ? subnet_of(net, e) : NULL;
    if (s) {
        struct elem list[ENDPOINT_ELEMS];
        struct in6_addr ip = flow_ipv4(e->ipv4);
        endpoint_elems(e, s, list);
        if (!elems_del(s->network->elems, list, ENDPOINT_ELEMS, err) ||
            !links_drop_address(s->network->links, s->bridge_index, e->ipv4, 32, err) ||
            !routes_rule_from(s->network->links, e->ipv4, 0, err) ||
            !forget_remote(net, s->network, &ip, 1, err)) {
            return err_wrap(err, "endpoint %s", id);
        }
        port_note_number(s->network, e->number, NULL);
    }
    map_del(net->endpoints, id);
    return true;
}
