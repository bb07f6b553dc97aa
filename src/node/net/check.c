/* check.c - is what stands in the kernel what is wanted? Settings, rules, elements: what
 * differs is put right and counted. See net.h. */
#include "base/crypto.h"
#include "base/log.h"
#include "node/net/flowlog.h"
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <errno.h>
#include <linux/netfilter.h>

static const struct {
    uint8_t family;
    const char *name;
} fixed_sets[] = {
    {NFPROTO_BRIDGE, "macs"},
    {NFPROTO_BRIDGE, "from4"},
    {NFPROTO_BRIDGE, "to4"},
    {NFPROTO_BRIDGE, "bind6"},
    {NFPROTO_BRIDGE, "nd6"},
    {NFPROTO_BRIDGE, "borrow"},
    {NFPROTO_BRIDGE, "resolvers"},
    {NFPROTO_BRIDGE, "port_src"},
    {NFPROTO_BRIDGE, "port_dst"},
    {NFPROTO_INET, "resolvers"},
    {NFPROTO_INET, "owns4"},
    {NFPROTO_INET, "owns6"},
    {NFPROTO_INET, "nexthops4"},
    {NFPROTO_INET, "nexthops6"},
    {NFPROTO_INET, "leaving_of"},
    {NFPROTO_INET, "arriving_at"},
    {NFPROTO_INET, "eip_in"},
    {NFPROTO_INET, "eip_out"},
    {NFPROTO_INET, "eip_sources"},
    {NFPROTO_INET, "nats"},
    {NFPROTO_INET, "acl_out"},
    {NFPROTO_INET, "acl_in"},
    {NFPROTO_INET, "open6"},
    {NFPROTO_INET, "endpoints4"},
    {NFPROTO_INET, "here4"},
    {NFPROTO_INET, "here6"},
    {NFPROTO_INET, "endpoint_near"},
    {NFPROTO_INET, "endpoint_acl_in"},
    {NFPROTO_INET, "endpoint_acl_out"},
};

struct wanted {
    VEC(struct elem) elems, sets;
};

static void
add_elem(void *ctx, const struct elem *e)
{
    struct wanted *w = ctx;
    VEC_PUSH(&w->elems, *e);
}

static void
add_set(void *ctx, const struct elem *e)
{
    struct wanted *w = ctx;
    VEC_PUSH(&w->sets, *e);
}

static void
add_subnets(const struct net *net, const struct network *network, struct wanted *w)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        const struct subnet *subnet = value;
        struct elem list[SUBNET_ELEMS];
        if (subnet->network == network) {
            subnet_elems(subnet, list);
            for (size_t i = 0; i < SUBNET_ELEMS; i++) {
                add_elem(w, &list[i]);
            }
        }
    }
}

static void
add_ports(const struct net *net, const struct network *network, struct wanted *w)
{
    AUTO(free) struct elem *list = xcalloc(PORT_ELEMS_MAX, sizeof *list);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        size_t count = port->subnet->network == network ? port_elems(port, list) : 0;
        for (size_t i = 0; i < count; i++) {
            add_elem(w, &list[i]);
        }
    }
}

static bool
check_elems(struct net *net, struct network *network, size_t *drift, struct err *err)
{
    struct wanted w = {0};
    for (size_t i = 0; i < ARRAY_LEN(fixed_sets); i++) {
        struct elem e = elem_in(fixed_sets[i].family, fixed_sets[i].name);
        add_set(&w, &e);
    }
    add_subnets(net, network, &w);
    add_ports(net, network, &w);
    remote_each_elem(net, network, add_elem, &w);
    gateway_each_elem(net, network, add_elem, &w);
    endpoint_each_elem(net, network, add_elem, &w);
    if (network->flowlog) {
        struct elem logged = elem_in(NFPROTO_INET, FLOW_LOGGED);
        add_set(&w, &logged);
        flowlog_each_elem(net, network, add_elem, &w);
    }
    policy_each_set(network->policy, add_set, &w);
    policy_each_member(network->policy, add_elem, &w);
    bool ok = elems_sync(network->elems, w.sets.items, w.sets.count, w.elems.items,
                         w.elems.count, drift, err);
    VEC_FREE(&w.sets);
    VEC_FREE(&w.elems);
    return ok;
}

static bool
list_here(void *ctx, struct err *err)
{
    uint8_t *digest = ctx;
    AUTO(free) char *text = rules_list(err);
    if (text) {
        sha256(text, strlen(text), digest);
    }
    return text != NULL;
}

static bool
apply_here(void *ctx, struct err *err)
{
    return rules_apply(err);
}

/* The rules are compared with how they read when they were written last. */
static bool
check_rules(struct net *net, struct network *network, size_t *drift, struct err *err)
{
    uint8_t digest[SHA256_LEN];
    if (!netns_run(network->ns_fd, list_here, digest, err)) {
        return false;
    }
    bool known = network->listed_revision == policy_revision(network->policy);
    if (known && memcmp(digest, network->listed, sizeof digest) == 0) {
        return true;
    }
    if (known) {
        (*drift)++;
        log_warn("network %s: its packet rules were changed; written anew",
                 network->id);
        policy_distrust(network->policy);
        flowlog_distrust(network);
        if (!netns_run(network->ns_fd, apply_here, NULL, err) ||
            !policy_flush(network->policy, network->ns_fd, network->elems, err) ||
            !flowlog_apply(net, network, err) ||
            !netns_run(network->ns_fd, list_here, digest, err)) {
            return false;
        }
    }
    memcpy(network->listed, digest, sizeof digest);
    network->listed_revision = policy_revision(network->policy);
    return true;
}

static bool
is_tap(void *ctx, const char *name)
{
    return str_starts(name, RULES_TAP);
}

/* Fail closed: no tap, no traffic, until a check finds all in order again. */
static void
cut_off(struct network *network, const struct err *why)
{
    struct err err = {0};
    network->cut_off = true;
    log_error("network %s: %s; its interfaces are cut off", network->id, why->msg);
    if (!links_down_where(network->links, is_tap, NULL, &err)) {
        log_error("network %s: %s", network->id, err.msg);
    }
}

/* Also the taps that an agent before this one has cut off. */
static bool
reconnect(struct network *network, struct err *err)
{
    if ((network->cut_off || !network->checked) &&
        !links_up_where(network->links, is_tap, NULL, err)) {
        return false;
    }
    network->cut_off = false;
    network->checked = true;
    return true;
}

/* New connections that the kernel could not track: their lines in nf_conntrack's
 * statistics, one a processor. */
static bool
untracked_here(void *ctx, struct err *err)
{
    uint64_t *out = ctx;
    char line[512];
    FILE *f = fopen("/proc/thread-self/net/stat/nf_conntrack", "re");
    if (!f) {
        return err_sys(err, errno, "read the statistics of connection tracking");
    }
    while (fgets(line, sizeof line, f)) {
        unsigned long dropped = 0; /* The eleventh. */
        if (sscanf(line, "%*x %*x %*x %*x %*x %*x %*x %*x %*x %*x %lx", &dropped) ==
            1) {
            *out += dropped;
        }
    }
    (void)fclose(f);
    return true;
}

/* NAT gateways that have no port left for one destination: AWS's ErrorPortAllocation. */
static void
check_nats(struct net *net, struct network *network)
{
    uint64_t refused = 0;
    struct err err = {0};
    char text[160];
    if (!gateway_has_nat(net, network)) {
        return;
    }
    if (!netns_run(network->ns_fd, untracked_here, &refused, &err)) {
        log_warn("network %s: %s", network->id, err.msg);
        return;
    }
    if (network->nat_counted && refused > network->nat_refused) {
        (void)snprintf(text, sizeof text,
                       "ErrorPortAllocation: %" PRIu64
                       " packets of new connections found no port or no room",
                       refused - network->nat_refused);
        log_warn("network %s: %s", network->id, text);
        if (net->config.event) {
            net->config.event(net->config.event_ctx, "nat", network->id, "warn", text);
        }
    }
    network->nat_refused = refused;
    network->nat_counted = true;
}

static bool
check_network(struct net *net, struct network *network, size_t *drift, struct err *err)
{
    if (network->elems_held || policy_dirty(network->policy)) {
        return true; /* In the middle of a change. */
    }
    if (!setup_check(network->ns_fd, drift, err) ||
        !check_rules(net, network, drift, err) ||
        !links_bind_where(network->links, is_tap, NULL, drift, err) ||
        !check_elems(net, network, drift, err)) {
        cut_off(network, err);
        return false;
    }
    check_nats(net, network);
    return reconnect(network, err);
}

bool
net_check(struct net *net, size_t *out_drift, struct err *err)
{
    const char *id;
    void *value;
    size_t drift = 0;
    bool ok = true;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct err why = {0};
        if (!check_network(net, value, &drift, &why)) {
            ok = false;
            *err = why;
        }
    }
    struct err why = {0};
    if (!uplink_check(net, &drift, &why)) {
        ok = false;
        *err = why;
    }
    if (!passthrough_check(net, &drift, &why)) {
        ok = false;
        *err = why;
    }
    net->drift += drift;
    *out_drift = drift;
    return ok;
}
