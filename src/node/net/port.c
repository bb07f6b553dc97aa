/* port.c - ports, their rights, and their taps: see net.h. */
#include "link/records.h"
#include "node/net/flowlog.h"
#include "node/net/net_parts.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include "node/net/shape.h"
#include "node/net/tap.h"
#include "node/net/uplink.h"
#include <linux/netfilter.h>

#define MTU_MIN 576
#define MTU_MAX 9216

void
port_free(struct port *port)
{
    if (port) {
        for (size_t i = 0; port->info.more && port->info.more[i]; i++) {
            free((char *)(uintptr_t)port->info.more[i]);
        }
        free((void *)(uintptr_t)port->info.more);
        free((char *)(uintptr_t)port->info.id);
        free((char *)(uintptr_t)port->info.machine_id);
        free((char *)(uintptr_t)port->info.mac);
        free((char *)(uintptr_t)port->info.ipv4);
        for (size_t i = 0; i < port->group_count; i++) {
            free(port->group_ids[i]);
        }
        free(port->hostname);
        free(port->card_rules);
        free(port);
    }
}

AUTO_DEFINE(port, struct port *, port_free)

/* ---- a record, checked -------------------------------------------------------------
 */

static bool
add_address(struct port *port, const char *text, struct err *err)
{
    uint32_t ip;
    const struct cidr4 *cidr = &port->subnet->cidr;
    uint32_t last = cidr->base | ~addr_mask4(cidr->prefix);
    if (!addr_parse_ipv4(text, &ip) || !addr_in_cidr4(ip, cidr) ||
        ip <= dnsmasq_resolver(cidr) || ip == last) {
        return err_set(err, ERR_INVALID, "port %s: not an address of its subnet",
                       port->info.id);
    }
    if (port->address_count == PORT_ADDRESSES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "port %s has too many addresses",
                       port->info.id);
    }
    port->addresses[port->address_count++] = ip;
    return true;
}

static bool
add_address6(struct port *port, const char *text, struct err *err)
{
    struct in6_addr ip;
    const struct addr_block *block = &port->subnet->cidr6;
    if (!addr_parse_ipv6(text, &ip) || block->prefix == 0 ||
        !addr_in_block6(&ip, block)) {
        return err_set(err, ERR_INVALID, "port %s: not an IPv6 address of its subnet",
                       port->info.id);
    }
    if (port->address6_count == PORT_ADDRESSES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "port %s has too many addresses",
                       port->info.id);
    }
    port->addresses6[port->address6_count++] = ip;
    return true;
}

static bool
port_publics(struct port *port, const struct link_port *want, struct err *err)
{
    bool none = port->standby || passthrough_is(port);
    for (size_t i = 0; i < want->publics.count && !none; i++) {
        const struct link_port_public *p = &want->publics.items[i];
        struct nat_pair pair;
        bool own = false;
        bool good = addr_parse_ipv4(p->private, &pair.private) &&
                    addr_parse_ipv4(p->public, &pair.public) &&
                    port->public_count < PORT_ADDRESSES_MAX;
        for (size_t k = 0; good && k < port->address_count; k++) {
            own = own || port->addresses[k] == pair.private;
        }
        if (!own) {
            return err_set(err, ERR_INVALID, "port %s: bad public address", want->id);
        }
        port->publics[port->public_count++] = pair;
    }
    return true;
}

static bool
port_groups(struct port *port, const struct link_port *want, struct err *err)
{
    if (want->group_ids.count > POLICY_GROUPS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "port %s is in too many groups", want->id);
    }
    for (size_t i = 0; i < want->group_ids.count; i++) {
        if (!addr_id_ok(want->group_ids.items[i]) ||
            strlen(want->group_ids.items[i]) > 40) {
            return err_set(err, ERR_INVALID, "port %s: not a group's id", want->id);
        }
        port->group_ids[port->group_count++] = xstrdup(want->group_ids.items[i]);
    }
    const char *profile =
        policy_profile(port->subnet->network->policy,
                       (const char *const *)port->group_ids, port->group_count);
    for (int out = 0; out < 2; out++) {
        (void)snprintf(port->chains[out], sizeof port->chains[out], "%s%s",
                       profile ? profile : "nothing",
                       !profile ? ""
                       : out    ? "_out"
                                : "_in");
    }
    return true;
}

static bool
port_addresses(struct port *port, const struct link_port *want, struct err *err)
{
    if (!add_address(port, want->ipv4, err)) {
        return false;
    }
    for (size_t i = 0; i < want->ipv4_more.count; i++) {
        if (!add_address(port, want->ipv4_more.items[i], err)) {
            return false;
        }
    }
    for (size_t i = 0; i < want->ipv6.count; i++) {
        if (!add_address6(port, want->ipv6.items[i], err)) {
            return false;
        }
    }
    const char **more = xcalloc(port->address_count, sizeof *more); /* And the NULL. */
    char text[ADDR_IPV4_LEN];
    for (size_t i = 1; i < port->address_count; i++) {
        addr_ipv4_text(port->addresses[i], text);
        more[i - 1] = xstrdup(text);
    }
    port->info.more = more;
    addr_ipv4_text(port->addresses[0], text);
    port->info.ipv4 = xstrdup(text);
    return true;
}

/* A card on an uplink's interface names that; any other none. */
static bool
port_kind(struct port *port, const struct link_port *want, struct err *err)
{
    port->vfio = str_eq(want->mode, "vfio");
    bool direct = port->vfio || str_eq(want->mode, "macvtap");
    if (!str_empty(want->mode) && !direct && !str_eq(want->mode, "tap")) {
        return err_set(err, ERR_INVALID, "port %s: no such mode", want->id);
    }
    if (direct != !str_empty(want->uplink_id) ||
        (direct && (!addr_id_ok(want->uplink_id) || want->standby ||
                    strlen(want->uplink_id) >= sizeof port->uplink_id))) {
        return err_set(err, ERR_INVALID,
                       "port %s: its mode, its uplink and what it is for disagree",
                       want->id);
    }
    (void)snprintf(port->uplink_id, sizeof port->uplink_id, "%s",
                   direct ? want->uplink_id : "");
    return true;
}

static char *
default_hostname(uint32_t ip)
{
    return xasprintf("ip-%u-%u-%u-%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
                     ip & 255);
}

/* NULL and 'err' when the record cannot be. */
static struct port *
port_read(struct net *net, const struct link_port *want, struct err *err)
{
    struct subnet *subnet =
        want->subnet_id ? map_get(net->subnets, want->subnet_id) : NULL;
    if (!addr_id_ok(want->id) || (want->machine_id && !addr_id_ok(want->machine_id))) {
        (void)err_set(err, ERR_INVALID, "port: not an id");
        return NULL;
    }
    if (!subnet) {
        (void)err_set(err, ERR_NOT_FOUND, "port %s: its subnet is not here", want->id);
        return NULL;
    }
    AUTO(port) struct port *port = xcalloc(1, sizeof *port);
    port->subnet = subnet;
    port->info.id = xstrdup(want->id);
    port->info.machine_id = want->machine_id ? xstrdup(want->machine_id) : NULL;
    port->info.network_id = subnet->network->id;
    port->info.subnet_id = subnet->id;
    port->info.mtu = want->mtu == 0 ? 1500 : (int)MIN(MAX(want->mtu, 0), MTU_MAX + 1);
    port->borrow = !want->check_source;
    port->standby = want->standby;
    addr_link_name(net->cloud_id, RULES_TAP, want->id, port->tap);
    if (!port_kind(port, want, err) || !port_addresses(port, want, err) ||
        !port_groups(port, want, err) || !port_publics(port, want, err)) {
        return NULL;
    }
    port->up_bps = (uint64_t)MAX(want->up_bps, 0);
    port->down_bps = (uint64_t)MAX(want->down_bps, 0);
    bool named = !str_empty(want->hostname);
    port->hostname =
        named ? xstrdup(want->hostname) : default_hostname(port->addresses[0]);
    if (!addr_parse_mac(want->mac, port->mac) || port->info.mtu < MTU_MIN ||
        port->info.mtu > MTU_MAX || !addr_name_ok(port->hostname, 63) ||
        strchr(port->hostname, '.')) {
        (void)err_set(err, ERR_INVALID, "port %s: bad MAC, MTU or host name", want->id);
        return NULL;
    }
    char mac[ADDR_MAC_LEN];
    addr_mac_text(port->mac, mac);
    port->info.mac = xstrdup(mac);
    return take_port(&port);
}

/* ---- who has which address ---------------------------------------------------------
 */

static char *
caller_key(const char *network_id, uint32_t ip)
{
    return xasprintf("%s/%08x", network_id, ip);
}

static bool
addresses_free(struct net *net, const struct port *port, struct err *err)
{
    for (size_t i = 0; i < port->address_count; i++) {
        AUTO(free) char *key = caller_key(port->info.network_id, port->addresses[i]);
        const struct port *owner = map_get(net->callers, key);
        if (owner && !str_eq(owner->info.id, port->info.id)) {
            return err_set(err, ERR_EXISTS, "port %s: port %s has its address",
                           port->info.id, owner->info.id);
        }
        if (endpoint_has(net, port->subnet->network, port->addresses[i])) {
            return err_set(err, ERR_EXISTS, "port %s: an endpoint has its address",
                           port->info.id);
        }
    }
    return true;
}

static void
note_callers(struct net *net, struct port *port, bool add)
{
    for (size_t i = 0; i < port->address_count; i++) {
        AUTO(free) char *key = caller_key(port->info.network_id, port->addresses[i]);
        if (add) {
            map_put(net->callers, key, port);
        } else {
            map_del(net->callers, key);
        }
    }
}

const char *
net_port_caller(const struct net *net, const char *network_id, const char *ipv4)
{
    uint32_t ip;
    if (!addr_parse_ipv4(ipv4, &ip)) {
        return NULL;
    }
    AUTO(free) char *key = caller_key(network_id, ip);
    const struct port *port = map_get(net->callers, key);
    return port ? port->info.id : NULL;
}

const struct net_port_info *
net_port_get(const struct net *net, const char *port_id)
{
    const struct port *port = map_get(net->ports, port_id);
    return port ? &port->info : NULL;
}

/* ---- rights ------------------------------------------------------------------------
 */

/* Whether it has an element of that key, whatever the value: a new value has replaced the
 * old already. */
static bool
has_key(const struct elem *list, size_t count, const struct elem *e)
{
    for (size_t i = 0; i < count; i++) {
        if (elem_same_key(&list[i], e)) {
            return true;
        }
    }
    return false;
}

/* Takes away what 'old' had and 'now' (NULL: nothing) has not. */
static bool
take_rights(const struct port *old, const struct port *now, struct err *err)
{
    struct network *network = old->subnet->network;
    size_t had_count, has_count = 0, gone_count = 0;
    bool leads = now && !now->standby; /* Its neighbours stay. */
    AUTO(free) struct elem *had = port_elems_all(old, &had_count);
    AUTO(free) struct elem *has = now ? port_elems_all(now, &has_count) : NULL;
    for (size_t i = 0; i < had_count; i++) {
        if (!has_key(has, has_count, &had[i])) {
            had[gone_count++] = had[i];
        }
    }
    if (!elems_del(network->elems, had, gone_count, err)) {
        return false;
    }
    if (old->standby || passthrough_is(old)) {
        return true; /* What leads to its addresses is not the router's. */
    }
    struct in6_addr local;
    addr_link_local(old->mac, &local);
    if (old->address6_count > 0 && (!leads || now->address6_count == 0) &&
        !links_drop_neighbour6(network->links, old->subnet->bridge_index, &local,
                               err)) {
        return false;
    }
    for (size_t i = 0; i < old->address6_count; i++) {
        bool kept = false;
        for (size_t k = 0; leads && k < now->address6_count && !kept; k++) {
            kept = memcmp(&old->addresses6[i], &now->addresses6[k],
                          sizeof old->addresses6[i]) == 0;
        }
        if (!kept && !links_drop_neighbour6(network->links, old->subnet->bridge_index,
                                            &old->addresses6[i], err)) {
            return false;
        }
    }
    for (size_t i = 0; i < old->address_count; i++) {
        bool kept = false;
        for (size_t k = 0; leads && k < now->address_count && !kept; k++) {
            kept = old->addresses[i] == now->addresses[k];
        }
        if (!kept && !links_drop_neighbour(network->links, old->subnet->bridge_index,
                                           old->addresses[i], err)) {
            return false;
        }
    }
    return true;
}

/* What leads to it inside the network. */
static bool
lead_to(const struct port *port, struct err *err)
{
    struct links *links = port->subnet->network->links;
    int bridge = port->subnet->bridge_index;
    for (size_t i = 0; i < port->address6_count; i++) {
        if (!links_neighbour6(links, bridge, &port->addresses6[i], port->mac, err)) {
            return false;
        }
    }
    struct in6_addr local; /* DHCPv6 knows a MAC by its neighbour. */
    addr_link_local(port->mac, &local);
    if (port->address6_count > 0 &&
        !links_neighbour6(links, bridge, &local, port->mac, err)) {
        return false;
    }
    for (size_t i = 0; i < port->address_count; i++) {
        if (!links_neighbour(links, bridge, port->addresses[i], port->mac, err)) {
            return false;
        }
    }
    return true;
}

static bool
give_rights(struct net *net, const struct port *port, struct err *err)
{
    struct network *network = port->subnet->network;
    size_t count;
    AUTO(free) struct elem *list = port_elems_all(port, &count);
    if (!network_flush(net, network, err) ||
        !elems_add(network->elems, list, count, err)) {
        return false;
    }
    if (passthrough_is(port)) {
        return true;
    }
    if (!port->standby && !lead_to(port, err)) {
        return false;
    }
    port_announce(port);
    return true;
}

void
port_announce(const struct port *port)
{
    struct dnsmasq_host host = {
        .port_id = port->info.id,
        .mac = port->info.mac,
        .hostname = port->hostname,
        .ipv4 = port->addresses[0],
        .ipv6 = port->address6_count > 0 ? &port->addresses6[0] : NULL,
        .mtu = port->info.mtu,
    };
    dnsmasq_put_host(port->subnet->network->dns, &host);
}

static bool
port_same(const struct port *a, const struct port *b)
{
    return a->subnet == b->subnet && memcmp(a->mac, b->mac, sizeof a->mac) == 0 &&
           a->borrow == b->borrow && a->standby == b->standby &&
           a->info.mtu == b->info.mtu && a->address_count == b->address_count &&
           memcmp(a->addresses, b->addresses,
                  a->address_count * sizeof a->addresses[0]) == 0 &&
           a->number == b->number && a->address6_count == b->address6_count &&
           memcmp(a->addresses6, b->addresses6,
                  a->address6_count * sizeof a->addresses6[0]) == 0 &&
           a->public_count == b->public_count &&
           memcmp(a->publics, b->publics, a->public_count * sizeof a->publics[0]) ==
               0 &&
           str_eq(a->chains[0], b->chains[0]) && a->up_bps == b->up_bps &&
           a->down_bps == b->down_bps && str_eq(a->hostname, b->hostname) &&
           str_eq(a->uplink_id, b->uplink_id) && a->vfio == b->vfio &&
           str_eq(a->info.machine_id, b->info.machine_id);
}

/* The tap's bandwidth. Nothing is made for a port that is not shaped. */
static bool
port_shape(struct net *net, const struct port *port, int index, struct err *err)
{
    char ifb[IFNAMSIZ];
    addr_link_name(net->cloud_id, RULES_IFB, port->info.id, ifb);
    return shape_port(port->subnet->network->links, index, ifb, port->down_bps,
                      port->up_bps, err);
}

/* A change of bandwidth while the tap is there. */
static bool
port_reshape(struct net *net, const struct port *port, const struct port *old,
             struct err *err)
{
    int index;
    if (!old || (old->up_bps == port->up_bps && old->down_bps == port->down_bps)) {
        return true;
    }
    return links_find(port->subnet->network->links, port->tap, &index, err) &&
           (index == 0 || port_shape(net, port, index, err));
}

/* Frames to its MAC go to its tap, where that is, or no more. */
static bool
port_forward(const struct port *port, struct err *err)
{
    struct links *links = port->subnet->network->links;
    int index;
    if (!links_find(links, port->tap, &index, err) || index == 0) {
        return index == 0;
    }
    return port->standby ? links_drop_forward(links, index, port->mac, err)
                         : links_forward(links, index, port->mac, err);
}

/* Its old number, or one from its id, so that the next agent finds the same; and whether its
 * checks are off. */
static void
port_number(struct port *port, const struct port *old)
{
    uint32_t n = old ? old->number & ~RULES_LENT
                     : port_free_number(port->subnet->network, port->info.id);
    port->number = n | (port->borrow ? RULES_LENT : 0);
}

static bool
has_public(const struct port *port, uint32_t public)
{
    for (size_t i = 0; i < port->public_count; i++) {
        if (port->publics[i].public == public) {
            return true;
        }
    }
    return false;
}

/* What 'port' gives up, another may have been given already: from the outside it leads there,
 * however the two came one after the other. */
static bool
hand_over_publics(struct net *net, const struct port *port, struct err *err)
{
    const char *id;
    void *value;
    for (size_t i = 0; i < port->public_count; i++) {
        for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
            const struct port *other = value;
            if (!str_eq(id, port->info.id) &&
                has_public(other, port->publics[i].public)) {
                other->subnet->network->routes_dirty = true;
                if (!network_flush(net, other->subnet->network, err)) {
                    return false;
                }
            }
        }
    }
    return true;
}

bool
net_want_port(struct net *net, const struct link_port *want, struct err *err)
{
    AUTO(port) struct port *port = port_read(net, want, err);
    if (!port) {
        return false;
    }
    struct port *old = map_get(net->ports, want->id);
    port_number(port, old);
    if (old && port_same(old, port)) {
        return true;
    }
    if (old && old->subnet != port->subnet) {
        return err_set(err, ERR_INVALID, "port %s cannot change its subnet", want->id);
    }
    if (old && (!str_eq(old->uplink_id, port->uplink_id) || old->vfio != port->vfio) &&
        !net_drop_port(net, want->id, err)) { /* Another kind of port. */
        return false;
    }
    old = map_get(net->ports, want->id);
    if (!addresses_free(net, port, err)) {
        return false;
    }
    bool lost_public = old && old->public_count > 0;
    bool turned = old && old->standby != port->standby;
    if ((!port->standby && !remote_hide(net, want->id, err)) ||
        !give_rights(net, port, err) || (old && !take_rights(old, port, err)) ||
        !port_reshape(net, port, old, err) || (turned && !port_forward(port, err)) ||
        (port->standby && !remote_show(net, want->id, err))) {
        return err_wrap(err, "port %s", want->id);
    }
    if (old && ((old->number != port->number && !flowlog_port(net, old, true, err)) ||
                !forget_port(net, old, port, err))) {
        return err_wrap(err, "port %s", want->id);
    }
    struct port *kept = take_port(&port);
    if (old) {
        port_note_number(old->subnet->network, old->number, NULL);
        note_callers(net, old, false);
        map_del(net->ports, want->id);
    }
    map_put(net->ports, kept->info.id, kept);
    port_note_number(kept->subnet->network, kept->number, kept);
    note_callers(net, kept, true);
    if (old) {
        untracked_port(old, kept);
    }
    if (kept->public_count > 0 || lost_public) {
        kept->subnet->network->routes_dirty = true;
    }
    bool ok = network_flush(net, kept->subnet->network, err) &&
              (!old || hand_over_publics(net, old, err)) &&
              (!passthrough_is(kept) || passthrough_refresh(net, kept, err)) &&
              flowlog_port(net, kept, false, err);
    port_free(old);
    if (!ok) {
        return err_wrap(err, "port %s", want->id);
    }
    if (net->watcher.port_up) {
        net->watcher.port_up(net->watcher.ctx, &kept->info);
    }
    return true;
}

static bool
elem_of_tap(void *ctx, const struct elem *elem)
{
    return elem_is_of(elem, ctx);
}

/* A port that this agent has not been told of: it may be in any network. */
static bool
drop_unknown(struct net *net, const char *id, struct err *err)
{
    char tap[IFNAMSIZ];
    addr_link_name(net->cloud_id, RULES_TAP, id, tap);
    const char *network_id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &network_id, &value);) {
        struct network *network = value;
        if (!elems_del_where(network->elems, elem_of_tap, tap, err) ||
            !links_drop(network->links, tap, err)) {
            return err_wrap(err, "port %s", id);
        }
        dnsmasq_drop_host(network->dns, id);
    }
    return true;
}

bool
net_drop_port(struct net *net, const char *id, struct err *err)
{
    if (!addr_id_ok(id)) {
        return err_set(err, ERR_INVALID, "port: not an id");
    }
    struct port *port = map_get(net->ports, id);
    if (!port) {
        return drop_unknown(net, id, err);
    }
    struct network *network = port->subnet->network;
    char ifb[IFNAMSIZ];
    addr_link_name(net->cloud_id, RULES_IFB, id, ifb);
    if (passthrough_is(port) && !passthrough_drop(net, port, err)) {
        return err_wrap(err, "port %s", id);
    }
    if (!flowlog_port(net, port, true, err) || !take_rights(port, NULL, err) ||
        !links_drop(network->links, port->tap, err) ||
        !links_drop(network->links, ifb, err) || !forget_port(net, port, NULL, err) ||
        !remote_show(net, id, err)) {
        return err_wrap(err, "port %s", id);
    }
    dnsmasq_drop_host(network->dns, id);
    if (net->watcher.port_down) {
        net->watcher.port_down(net->watcher.ctx, id);
    }
    network->routes_dirty = network->routes_dirty || port->public_count > 0;
    port_note_number(network, port->number, NULL);
    note_callers(net, port, false);
    map_del(net->ports, id);
    bool ok = network_flush(net, network, err) && hand_over_publics(net, port, err) &&
              uplink_refresh(net, err);
    port_free(port);
    return ok;
}

/* The tap becomes a port of its subnet's bridge, for its own MAC alone. */
static bool
port_join(struct net *net, const struct port *port, int index, struct err *err)
{
    struct links *links = port->subnet->network->links;
    return links_enslave(links, index, port->subnet->bridge_index, port->info.mtu,
                         err) &&
           links_bind(links, index, err) &&
           (port->standby || links_forward(links, index, port->mac, err)) &&
           port_shape(net, port, index, err);
}

static void
note_plugged(const struct port *port)
{
    if (port->address6_count > 0) {
        dnsmasq_plugged(port->subnet->network->dns, port->info.id);
    }
}

/* The port, if a link of it may be made now; else NULL. */
static struct port *
pluggable(struct net *net, const char *port_id, struct err *err)
{
    struct port *port = port_id ? map_get(net->ports, port_id) : NULL;
    if (!port) {
        (void)err_set(err, ERR_NOT_FOUND, "port %s is not here",
                      port_id ? port_id : "");
        return NULL;
    }
    if (port->subnet->network->elems_held || port->subnet->network->cut_off) {
        (void)err_set(err, ERR_BUSY, "port %s: its rules are not in place", port_id);
        return NULL;
    }
    return port;
}

bool
net_tap_open(struct net *net, const char *port_id, int *out_fd, struct err *err)
{
    struct port *port = pluggable(net, port_id, err);
    if (!port) {
        return false;
    }
    if (port->vfio) {
        return err_set(err, ERR_INVALID, "port %s is a virtual function", port_id);
    }
    if (passthrough_is(port)) {
        return passthrough_open(net, port, out_fd, err);
    }
    struct network *network = port->subnet->network;
    AUTO(fd) int fd = -1;
    int index;
    if (!forget_before(net, port, err) ||
        !tap_open(network->ns_fd, port->tap, &fd, err) ||
        !links_find(network->links, port->tap, &index, err) ||
        !port_join(net, port, index, err)) {
        return err_wrap(err, "port %s", port_id);
    }
    note_plugged(port);
    *out_fd = take_fd(&fd);
    return true;
}

bool
net_function_open(struct net *net, const char *port_id, struct vfio_function *out,
                  struct err *err)
{
    struct port *port = port_id ? map_get(net->ports, port_id) : NULL;
    if (!port || !port->vfio) {
        return err_set(err, ERR_NOT_FOUND, "port %s is no virtual function here",
                       port_id ? port_id : "");
    }
    return passthrough_function_open(net, port, out, err);
}

bool
net_veth_open(struct net *net, const char *port_id, int guest_ns_fd,
              const char *guest_name, struct err *err)
{
    struct port *port = pluggable(net, port_id, err);
    if (!port) {
        return false;
    }
    if (passthrough_is(port)) {
        return err_set(err, ERR_INVALID, "port %s is a machine's card", port_id);
    }
    struct network *network = port->subnet->network;
    int index;
    if (!forget_before(net, port, err) ||
        !links_veth(network->links, port->tap, NULL, guest_name, guest_ns_fd, port->mac,
                    err) ||
        !links_find(network->links, port->tap, &index, err) ||
        !port_join(net, port, index, err)) {
        return err_wrap(err, "port %s", port_id);
    }
    note_plugged(port);
    return true;
}
