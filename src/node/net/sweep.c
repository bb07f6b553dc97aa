/* sweep.c - taking down what is no longer wanted: see net.h. */
#include "base/file.h"
#include "base/log.h"
#include "node/net/net_parts.h"
#include "node/net/netns.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include "node/net/uplink.h"
#include <dirent.h>
#include <errno.h>

static bool
every_link(void *ctx, const char *name)
{
    return true;
}

/* In the namespace: deleting it alone would leave taps to their holders, and is done
 * later, in the background. */
static bool
clear_here(void *ctx, struct err *err)
{
    AUTO(links) struct links *links = links_open(err);
    return links && links_drop_where(links, every_link, NULL, err);
}

bool
sweep_namespace(struct net *net, const char *ns_name, struct err *err)
{
    AUTO(fd) int ns_fd = -1;
    struct err why = {0};
    if (netns_open(ns_name, &ns_fd, &why)) {
        dnsmasq_kill_in(ns_fd);
        if (!netns_run(ns_fd, clear_here, NULL, err)) {
            return err_wrap(err, "namespace %s", ns_name);
        }
    } else if (why.code != ERR_NOT_FOUND) {
        *err = why;
        return false;
    }
    AUTO(free) char *dir = network_dir(net, ns_name);
    return netns_remove(ns_name, err) && dir_remove(dir, err);
}

/* ---- prune -------------------------------------------------------------------------
 */

struct prune {
    struct net *net;
    struct network *network;
    const struct subnet *subnet;
    struct map *names; /* Of wanted links, or of wanted namespaces. */
    struct map *ports; /* By tap. */
};

static bool
link_unwanted(void *ctx, const char *name)
{
    struct prune *p = ctx;
    return !map_get(p->names, name) && !gateway_keeps(p->net, p->network, name);
}

static bool
elem_unwanted(void *ctx, const struct elem *elem)
{
    struct prune *p = ctx;
    char tap[IFNAMSIZ + 1] = {0};
    memcpy(tap, elem->key, IFNAMSIZ);
    const struct port *port = map_get(p->ports, tap);
    /* Of a link that is no tap, as a subnet's VXLAN: with that. */
    return port ? !port_may(port, elem) : !map_get(p->names, tap);
}

/* An endpoint that went while no agent was here. */
static bool
address_unwanted(void *ctx, uint32_t ipv4)
{
    const struct prune *p = ctx;
    return ipv4 != dnsmasq_resolver(&p->subnet->cidr) &&
           !endpoint_has(p->net, p->network, ipv4);
}

static bool
prune_addresses(struct prune *p, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(p->net->subnets, &it, &id, &value);) {
        p->subnet = value;
        if (p->subnet->network == p->network &&
            !links_drop_address_where(p->network->links, p->subnet->bridge_index,
                                      address_unwanted, p, err)) {
            return false;
        }
    }
    return true;
}

static bool
prune_network(struct net *net, struct network *network, struct err *err)
{
    AUTO(map) struct map *names = map_create(NULL);
    AUTO(map) struct map *ports = map_create(NULL);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        struct port *port = value;
        if (port->subnet->network == network) {
            char ifb[IFNAMSIZ];
            addr_link_name(net->cloud_id, RULES_IFB, port->info.id, ifb);
            map_put(names, ifb, port);
            map_put(names, port->tap, port);
            map_put(ports, port->tap, port);
        }
    }
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        struct subnet *subnet = value;
        if (subnet->network == network) {
            map_put(names, subnet->vxlan_index > 0 ? subnet->vxlan : subnet->bridge,
                    subnet);
            map_put(names, subnet->bridge, subnet);
        }
    }
    struct prune p = {.net = net, .network = network, .names = names, .ports = ports};
    return elems_del_where(network->elems, elem_unwanted, &p, err) &&
           links_drop_where(network->links, link_unwanted, &p, err) &&
           prune_addresses(&p, err) && forget_strays(net, network, err);
}

static bool
sweep_unless_wanted(void *ctx, const char *ns_name, struct err *err)
{
    struct prune *p = ctx;
    const char *hash = ns_name + strlen("moln-") + strlen(p->net->cloud_id) + 1;
    if (strlen(hash) != 12 || strspn(hash, "0123456789abcdef") != 12) {
        return true; /* Of a cloud whose id begins with ours. */
    }
    return map_get(p->names, ns_name) || sweep_namespace(p->net, ns_name, err);
}

static bool
each_namespace(struct prune *p, struct err *err)
{
    AUTO(free) char *prefix = xasprintf("moln-%s-", p->net->cloud_id);
    return netns_each(prefix, sweep_unless_wanted, p, err);
}

bool
net_prune(struct net *net, struct err *err)
{
    AUTO(map) struct map *names = map_create(NULL);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct network *network = value;
        map_put(names, network->ns_name, network);
        if (!prune_network(net, network, err)) {
            return err_wrap(err, "network %s", id);
        }
    }
    struct prune p = {.net = net, .names = names};
    return each_namespace(&p, err) && passthrough_prune(net, err);
}

/* ---- sweep -------------------------------------------------------------------------
 */

static void
forget_all(struct net *net)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        if (net->watcher.port_down) {
            net->watcher.port_down(net->watcher.ctx, id);
        }
        port_free(value);
    }
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        subnet_free(value);
    }
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        if (net->watcher.network_down) {
            net->watcher.network_down(net->watcher.ctx, id);
        }
        network_free(value);
    }
    gateway_close(net);
    gateway_open(net);
    uplink_close(net);
    uplink_open(net);
    remote_close(net);
    remote_open(net);
    endpoint_close(net);
    endpoint_open(net);
    map_destroy(net->options);
    net->options = map_create(free);
    struct map **all[] = {&net->ports, &net->subnets, &net->networks, &net->callers};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        map_destroy(*all[i]);
        *all[i] = map_create(NULL);
    }
}

bool
net_sweep(struct net *net, struct err *err)
{
    forget_all(net);
    AUTO(map) struct map *none = map_create(NULL);
    struct prune p = {.net = net, .names = none};
    char outside[ADDR_NS_LEN];
    gateway_name(net, outside);
    struct err ignored = {0};
    if (net->overlay.local != 0 && !overlay_unguard(net->cloud_id, &ignored)) {
        log_warn("underlay: %s", ignored.msg);
    }
    if (!uplink_sweep(net, &ignored)) {
        log_warn("uplink: %s", ignored.msg);
    }
    return each_namespace(&p, err) && passthrough_sweep(net, err) &&
           netns_remove(outside, err) && dir_remove(net->run_dir, err);
}
