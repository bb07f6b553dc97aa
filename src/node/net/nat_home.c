/* nat_home.c - see nat_home.h. */
#include "node/net/nat_home.h"

#include "node/net/overlay.h"
#include "node/net/routes.h"
#include "node/net/rules.h"

#define VNI_MAX 0xffffff

bool
nat_home_read(const struct net *net, const struct link_nat_gateway *want,
              struct nat_home *out, struct err *err)
{
    struct nat_home home = {.table = GATEWAY_TABLE(want->id)};
    if (want->vni < 0 || want->vni > VNI_MAX ||
        (!str_empty(want->node_address) &&
         !addr_parse_ipv4(want->node_address, &home.node))) {
        return err_set(err, ERR_INVALID, "NAT gateway %s: bad VNI or node", want->id);
    }
    home.vni = (uint32_t)want->vni;
    addr_link_name(net->cloud_id, RULES_NAT, want->id, home.link);
    addr_router_mac(net->cloud_id, want->id, home.mac);
    *out = home;
    return true;
}

static bool
has_home(const struct net *net, const struct nat_home *home)
{
    return home->node != 0 && home->vni != 0 && net->overlay.local != 0;
}

bool
nat_home_is_elsewhere(const struct net *net, const struct nat_home *home)
{
    return has_home(net, home) && home->node != net->overlay.local;
}

/* At home its MAC is the one that all know; elsewhere any will do, since nothing comes back
 * that way. */
static bool
device_make(struct net *net, struct network *network, struct nat_home *home,
            struct err *err)
{
    struct links *links = network->links;
    bool away = nat_home_is_elsewhere(net, home);
    const struct overlay_link device = {
        .name = home->link, .vni = home->vni, .mac = away ? NULL : home->mac};
    return overlay_drop_stale(links, &device, &net->overlay, err) &&
           overlay_device(net->underlay, network->ns_fd, &device, &net->overlay, err) &&
           links_find(links, home->link, &home->index, err) &&
           links_up(links, home->index, err);
}

/* What comes by the device leaves by the gateway, and by nothing else. */
static bool
serve_others(struct network *network, const struct nat_home *home, uint32_t hop,
             int way, struct err *err)
{
    const struct route_entry out = {
        .kind = ROUTE_VIA, .index = way, .via = {.ipv4 = hop, .prefix = 32}};
    return routes_set(network->links, home->table, &out, 1, err) &&
           routes_rule(network->links, home->link, home->table, err);
}

bool
nat_home_make(struct net *net, struct network *network, struct nat_home *home,
              uint32_t hop, int way, struct err *err)
{
    if (!has_home(net, home)) {
        return nat_home_drop(network, home, err);
    }
    if (!device_make(net, network, home, err)) {
        return false;
    }
    if (!nat_home_is_elsewhere(net, home)) {
        return serve_others(network, home, hop, way, err);
    }
    return routes_rule(network->links, home->link, 0, err) &&
           links_neighbour(network->links, home->index, hop, home->mac, err) &&
           overlay_forward(network->links, home->index, home->mac, home->node, err);
}

bool
nat_home_drop(struct network *network, const struct nat_home *home, struct err *err)
{
    return routes_rule(network->links, home->link, 0, err) &&
           links_drop(network->links, home->link, err);
}
