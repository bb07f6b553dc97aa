/* wants.c - the other kinds of records, each to the part that carries it out; see net.h. */
#include "link/link.h"
#include "node/net/flowlog.h"
#include "node/net/net_parts.h"
#include "node/net/passthrough.h"
#include "node/net/uplink.h"

static bool
find_network(struct net *net, const char *id, struct network **out, struct err *err)
{
    *out = id ? map_get(net->networks, id) : NULL;
    return *out || err_set(err, ERR_NOT_FOUND, "network %s is not here", id ? id : "");
}

static bool
want_group(struct net *net, const void *record, struct err *err)
{
    const struct link_group *want = record;
    struct network *network;
    if (!find_network(net, want->network_id, &network, err) ||
        !policy_group_ok(want, err)) {
        return false;
    }
    untracked_group(network, want);
    return policy_want_group(network->policy, want, err) &&
           network_flush(net, network, err);
}

static bool
want_member(struct net *net, const void *record, struct err *err)
{
    const struct link_group_member *want = record;
    struct network *network;
    return find_network(net, want->network_id, &network, err) &&
           policy_want_member(network->policy, network->elems, want, err) &&
           network_flush(net, network, err);
}

static bool
want_list(struct net *net, const void *record, struct err *err)
{
    const struct link_prefix_list *want = record;
    struct network *network;
    return find_network(net, want->network_id, &network, err) &&
           policy_want_list(network->policy, want, err) &&
           network_flush(net, network, err);
}

static bool
want_acl(struct net *net, const void *record, struct err *err)
{
    const struct link_acl *want = record;
    struct network *network;
    return find_network(net, want->network_id, &network, err) &&
           policy_want_acl(network->policy, want, err) &&
           network_flush(net, network, err);
}

/* A record names its network only while it is wanted: when it goes, all are asked. */
typedef bool each_fn(struct network *network, const char *id, struct err *err);

static bool
drop_in_each(struct net *net, const char *id, each_fn *fn, struct err *err)
{
    const char *network_id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &network_id, &value);) {
        if (!fn(value, id, err) || !network_flush(net, value, err)) {
            return false;
        }
    }
    return true;
}

static bool
drop_group(struct network *network, const char *id, struct err *err)
{
    policy_drop_group(network->policy, id);
    return true;
}

static bool
drop_member(struct network *network, const char *id, struct err *err)
{
    return policy_drop_member(network->policy, network->elems, id, err);
}

static bool
drop_list(struct network *network, const char *id, struct err *err)
{
    policy_drop_list(network->policy, id);
    return true;
}

static bool
drop_acl(struct network *network, const char *id, struct err *err)
{
    policy_drop_acl(network->policy, id);
    return true;
}

static const struct kind {
    bool (*want)(struct net *net, const void *record, struct err *err);
    each_fn *drop_each; /* In each network; or... */
    bool (*drop)(struct net *net, int kind, const char *id, struct err *err);
} kinds[LINK_KINDS] = {
    [LINK_GROUP] = {want_group, drop_group, NULL},
    [LINK_GROUP_MEMBER] = {want_member, drop_member, NULL},
    [LINK_PREFIX_LIST] = {want_list, drop_list, NULL},
    [LINK_ACL] = {want_acl, drop_acl, NULL},
    [LINK_FLOW_LOG] = {flowlog_want, NULL, flowlog_drop},
    [LINK_UPLINK] = {uplink_want, NULL, uplink_drop},
    [LINK_UNDERLAY] = {remote_want_underlay, NULL, remote_drop},
    [LINK_NEIGHBOUR] = {remote_want, NULL, remote_drop},
    [LINK_ROUTE_TABLE] = {gateway_want_table, NULL, gateway_drop},
    [LINK_NAT_GATEWAY] = {gateway_want_nat, NULL, gateway_drop},
    [LINK_PEERING] = {gateway_want_peering, NULL, gateway_drop},
    [LINK_NAME] = {names_want, NULL, names_drop},
    [LINK_PUBLIC] = {uplink_want_public, NULL, uplink_drop_public},
    [LINK_ENDPOINT] = {endpoint_want, NULL, endpoint_drop},
    [LINK_DHCP_OPTIONS] = {serve_want_options, NULL, serve_drop_options},
};

bool
net_want(struct net *net, int kind, const void *record, struct err *err)
{
    if (kind < 0 || kind >= LINK_KINDS || !kinds[kind].want) {
        return err_set(err, ERR_INVALID, "records of kind %d are not the network's",
                       kind);
    }
    return kinds[kind].want(net, record, err);
}

bool
net_drop(struct net *net, int kind, const char *id, struct err *err)
{
    if (kind < 0 || kind >= LINK_KINDS || !kinds[kind].want) {
        return err_set(err, ERR_INVALID, "records of kind %d are not the network's",
                       kind);
    }
    return kinds[kind].drop ? kinds[kind].drop(net, kind, id, err)
                            : drop_in_each(net, id, kinds[kind].drop_each, err);
}

void
net_hold(struct net *net)
{
    const char *id;
    void *value;
    net->held = true;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct network *network = value;
        network->elems_held = true;
        elems_hold(network->elems);
    }
}

bool
net_release(struct net *net, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        struct network *network = value;
        if (!policy_flush(network->policy, network->ns_fd, network->elems, err) ||
            !elems_flush(network->elems, err) || !untracked_flush(net, network, err) ||
            !gateway_flush(net, network, err) ||
            !passthrough_refresh_all(net, network, err)) {
            return err_wrap(err, "network %s", id);
        }
        network->elems_held = false;
    }
    net->held = false;
    return remote_flush(net, err) && uplink_refresh(net, err);
}
