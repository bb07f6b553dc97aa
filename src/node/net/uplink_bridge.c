/* uplink_bridge.c - an uplink on the provider's own network: see uplink.h.
 *
 * A macvlan on the interface stands in the external namespace with an address of its own,
 * and one of IPv6 if the operator names it. It answers for each public address that leads to
 * a network of this node (uplink_answer.c). The host itself cannot speak with a
 * macvlan on its own interface: that is the kernel's way. */
#include "node/net/routes.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"

void
uplink_bridge_mac(const struct net *net, const struct uplink *u, uint8_t out[6])
{
    AUTO(free)
    char *id = xasprintf("uplink/%08x", u->address); /* Each node's another. */
    addr_router_mac(net->cloud_id, id, out);
}

/* A link of that name that is not this uplink's is of a former time. */
static bool
drop_other(struct net *net, const struct uplink *u, const char *leg,
           const uint8_t mac[6], struct err *err)
{
    struct links_view view;
    return links_look(net->outside, leg, &view, err) &&
           (view.index == 0 ||
            (str_eq(view.type, "macvlan") && view.lower == u->index &&
             memcmp(view.mac, mac, sizeof view.mac) == 0) ||
            links_drop(net->outside, leg, err));
}

/* Its IPv6 address, and the way out; what routers advertise there is not heeded. */
static bool
speak6(struct net *net, const struct uplink *u, const char *leg, int index,
       struct err *err)
{
    const struct route_entry out = {
        .to = {.is6 = true},
        .kind = ROUTE_VIA,
        .index = index,
        .via = {.ipv6 = u->router6, .prefix = 128, .is6 = true}};
    return setup_put(net->outside_fd, "0", err, "ipv6/conf/%s/accept_ra", leg) &&
           setup_put(net->outside_fd, "0", err, "ipv6/conf/%s/accept_redirects", leg) &&
           /* Its MAC is the cloud's own: nobody else has its link-local address. */
           setup_put(net->outside_fd, "0", err, "ipv6/conf/%s/accept_dad", leg) &&
           setup_put(net->outside_fd, "0", err, "ipv6/conf/%s/disable_ipv6", leg) &&
           setup_put(net->outside_fd, "1", err, "ipv6/conf/%s/proxy_ndp", leg) &&
           setup_put(net->outside_fd, "0", err, "ipv6/neigh/%s/proxy_delay", leg) &&
           links_address6(net->outside, index, &u->address6, u->prefix6, err) &&
           links_up(net->outside, index, err) &&
           routes_put(net->outside, ROUTES_MAIN, &out, err);
}

bool
uplink_bridge_make(struct net *net, const struct uplink *u, struct err *err)
{
    char leg[IFNAMSIZ];
    uint8_t mac[6];
    int index;
    struct route_entry entry = {.kind = ROUTE_VIA,
                                .via = {.ipv4 = u->router, .prefix = 32}};
    uplink_leg_name(net, leg);
    uplink_bridge_mac(net, u, mac);
    if (!drop_other(net, u, leg, mac, err) ||
        !links_macvlan(net->host, u->index, leg, net->outside_fd, mac, err) ||
        !links_find(net->outside, leg, &index, err) ||
        (u->prefix6 == 0 &&
         !setup_put(net->outside_fd, "1", err, "ipv6/conf/%s/disable_ipv6", leg)) ||
        /* Else the kernel waits up to 0.8 s with an answer for others. */
        !setup_put(net->outside_fd, "0", err, "ipv4/neigh/%s/proxy_delay", leg) ||
        !links_address(net->outside, index, u->address, u->prefix, err) ||
        !links_up(net->outside, index, err)) {
        return false;
    }
    entry.index = index;
    return routes_put(net->outside, ROUTES_MAIN, &entry, err) &&
           (u->prefix6 == 0 || speak6(net, u, leg, index, err));
}
