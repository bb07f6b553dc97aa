/* net_sim.c - networks that are only names: node/net/net.h and node/metadata/metadata.h.
 *
 * Purpose:  keeps what the agent made (it stays when the agent goes, and ends with the
 *           host's power), holds to the order that net.h demands, and forgets nothing by
 *           itself: what is never dropped is found at the end of the run.
 * Place:    linked in place of net/ and metadata/. */
#include "base/hostnet.h"
#include "host.h"
#include "node/metadata/metadata.h"
#include "node/net/conntrack.h"
#include "node/net/net.h"
#include "uv_sim.h"

struct net {
    struct host *host;
    struct map *wanted[LINK_KINDS]; /* By this agent, so far. */
};

/* What lies in the kernel. */
struct thing {
    char above[48]; /* The network of a subnet, the subnet of a port. */
    char machine[48], address[48];
};

struct net *
net_open(const struct net_config *config, struct err *err UNUSED)
{
    struct net *net = xcalloc(1, sizeof *net);
    net->host = process_of(config->loop)->host;
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        net->wanted[kind] = map_create(NULL);
    }
    return net;
}

static struct thing *
find(const struct net *net, int kind, const char *id)
{
    return id ? map_get(net->host->kernel[kind], id) : NULL;
}

static bool
put(struct net *net, int kind, const char *id, const struct thing *thing,
    struct err *err)
{
    process_calls();
    if (net->host->bad_kernel) {
        return err_set(err, ERR_SYSTEM, "netlink: no buffer space available");
    }
    struct thing *copy = xcalloc(1, sizeof *copy);
    *copy = *thing;
    map_put(net->host->kernel[kind], id, copy);
    map_put(net->wanted[kind], id, net);
    return true;
}

bool
net_want_network(struct net *net, const struct link_network *want, struct err *err)
{
    return put(net, LINK_NETWORK, want->id, &(struct thing){{0}}, err);
}

bool
net_want_subnet(struct net *net, const struct link_subnet *want, struct err *err)
{
    struct thing thing = {{0}};
    snprintf(thing.above, sizeof thing.above, "%s", want->network_id);
    if (!find(net, LINK_NETWORK, want->network_id)) {
        return err_set(err, ERR_NOT_FOUND, "network %s is not here", want->network_id);
    }
    return put(net, LINK_SUBNET, want->id, &thing, err);
}

bool
net_want_port(struct net *net, const struct link_port *want, struct err *err)
{
    struct thing thing = {{0}};
    snprintf(thing.above, sizeof thing.above, "%s", want->subnet_id);
    snprintf(thing.machine, sizeof thing.machine, "%s", want->machine_id);
    snprintf(thing.address, sizeof thing.address, "%s", want->ipv4);
    if (!find(net, LINK_SUBNET, want->subnet_id)) {
        return err_set(err, ERR_NOT_FOUND, "subnet %s is not here", want->subnet_id);
    }
    return put(net, LINK_PORT, want->id, &thing, err);
}

bool
net_want(struct net *net, int kind, const void *record, struct err *err)
{
    const struct desc *desc = link_want_desc((enum link_kind)kind);
    const char *const *id = desc_at(desc_find(desc, "id"), record);
    return put(net, kind, *id, &(struct thing){{0}}, err);
}

static bool
drop(struct net *net, int kind, const char *id, struct err *err)
{
    process_calls();
    if (net->host->bad_kernel) {
        return err_set(err, ERR_SYSTEM, "netlink: no buffer space available");
    }
    map_del(net->host->kernel[kind], id);
    map_del(net->wanted[kind], id);
    return true;
}

bool
net_drop(struct net *net, int kind, const char *id, struct err *err)
{
    return drop(net, kind, id, err);
}

bool
net_drop_port(struct net *net, const char *id, struct err *err)
{
    return drop(net, LINK_PORT, id, err);
}

/* Whether something of 'kind' lies on 'id'. */
static bool
carries(const struct net *net, int kind, const char *id)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(net->host->kernel[kind], &it, &key, &value);) {
        if (str_eq(((const struct thing *)value)->above, id)) {
            return true;
        }
    }
    return false;
}

bool
net_drop_subnet(struct net *net, const char *id, struct err *err)
{
    if (carries(net, LINK_PORT, id)) {
        return err_set(err, ERR_BUSY, "subnet %s has ports", id);
    }
    return drop(net, LINK_SUBNET, id, err);
}

bool
net_drop_network(struct net *net, const char *id, struct err *err)
{
    if (carries(net, LINK_SUBNET, id)) {
        return err_set(err, ERR_BUSY, "network %s has subnets", id);
    }
    return drop(net, LINK_NETWORK, id, err);
}

void
net_hold(struct net *net UNUSED)
{
}

bool
net_settle(struct net *net UNUSED, struct err *err UNUSED)
{
    return true;
}

bool
net_release(struct net *net UNUSED, struct err *err UNUSED)
{
    return true;
}

int64_t
net_flows(struct net *net UNUSED, int64_t now_ns UNUSED, net_flows_fn *fn UNUSED,
          void *ctx UNUSED)
{
    return INT64_MAX; /* Nothing is logged. */
}

/* No tenant of the simulation has a NAT gateway. */
bool
net_lease(struct net *net UNUSED, int64_t until_ns UNUSED, struct err *err UNUSED)
{
    return true;
}

size_t
net_leased(const struct net *net UNUSED)
{
    return 0;
}

bool
net_check(struct net *net UNUSED, size_t *out_drift, struct err *err UNUSED)
{
    *out_drift = 0;
    return true;
}

bool
net_prune(struct net *net, struct err *err UNUSED)
{
    for (int kind = 0; kind < LINK_KINDS; kind++) {
        const char *id;
        void *value;
        for (size_t it = 0; map_next(net->host->kernel[kind], &it, &id, &value);) {
            if (!map_get(net->wanted[kind], id)) {
                trace("prunes %s", id);
                map_del(net->host->kernel[kind], id);
            }
        }
    }
    return true;
}

bool
net_tap_open(struct net *net, const char *port_id, int *out_fd, struct err *err)
{
    const struct thing *port = find(net, LINK_PORT, port_id);
    if (!port || !map_get(net->wanted[LINK_PORT], port_id)) {
        return err_set(err, ERR_NOT_FOUND, "port %s is not here", port_id);
    }
    AUTO(free) char *place = xasprintf("%s %s", port->above, port->address);
    HISTORY(MOMENT_TAP, .host = net->host->number, .id = port->machine,
            .other = port_id, .place = place);
    *out_fd = uv_sim_fd_open(net);
    return true;
}

int64_t
net_uplink_functions(const struct net *net UNUSED, const char *uplink_id UNUSED)
{
    return 0;
}

/* No host of the simulation has devices to give away. */
bool
net_function_open(struct net *net UNUSED, const char *port_id,
                  struct vfio_function *out UNUSED, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "port %s is no virtual function", port_id);
}

bool
net_connect(struct net *net UNUSED, const char *port_id UNUSED, const char *ipv4 UNUSED,
            int tcp_port UNUSED, uint64_t timeout_ns UNUSED,
            net_connect_fn *done UNUSED, void *ctx UNUSED, struct err *err UNUSED)
{
    sim_abort("tunnels are not simulated");
}

bool
net_listen(struct net *net UNUSED, const char *network_id UNUSED,
           const char *ipv4 UNUSED, int port UNUSED, int type UNUSED, int *out_fd,
           struct err *err UNUSED)
{
    *out_fd = uv_sim_fd_open(net); /* Nobody calls. */
    return true;
}

/* Guests have no connections. */
bool
conntrack_export(struct net *net UNUSED, const char *port_id UNUSED,
                 struct blob known UNUSED, struct buf *out UNUSED,
                 struct conntrack_count *out_count, struct err *err UNUSED)
{
    *out_count = (struct conntrack_count){0};
    return true;
}

bool
conntrack_import(struct net *net UNUSED, const char *port_id UNUSED,
                 const void *data UNUSED, size_t len UNUSED,
                 struct conntrack_count *out_count, struct err *err UNUSED)
{
    *out_count = (struct conntrack_count){0};
    return true;
}

void
net_close(struct net *net UNUSED)
{
    sim_abort("agents are killed, never closed");
}

/* ---- metadata -------------------------------------------------------------------- */

struct metadata {
    struct host *host;
};

struct metadata *
metadata_open(const struct metadata_config *config, struct err *err UNUSED)
{
    struct metadata *m = xcalloc(1, sizeof *m);
    m->host = process_of(config->loop)->host;
    return m;
}

bool
metadata_want(struct metadata *m UNUSED, const struct link_metadata *want UNUSED,
              struct err *err UNUSED)
{
    return true;
}

void
metadata_drop(struct metadata *m UNUSED, const char *port_id UNUSED)
{
}

void
metadata_close(struct metadata *m UNUSED)
{
    sim_abort("agents are killed, never closed");
}

/* ---- base/hostnet.h -------------------------------------------------------------- */

bool
hostnet_find(const char *address, struct hostnet *out, struct err *err UNUSED)
{
    *out = (struct hostnet){0};
    snprintf(out->link, sizeof out->link, "eth0");
    trace("reaches others as %s", address);
    return true;
}

const char *
hostnet_doubt(const struct hostnet *net UNUSED)
{
    return NULL;
}
