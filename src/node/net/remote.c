/* remote.c - the other nodes: the underlay, a subnet's VXLAN device, and the interfaces that
 * live elsewhere. See net.h, overlay.h. */
#include "link/link.h"
#include "node/net/flows.h"
#include "node/net/net_parts.h"
#include "node/net/overlay.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <linux/netfilter.h>

#define PEERS_MAX 4096
#define VXLAN_PORT 4789
#define VXLAN_MTU 1500

struct remote {
    char subnet_id[48];
    uint8_t mac[6];
    uint32_t node;
    uint32_t addresses[PORT_ADDRESSES_MAX];
    struct in6_addr addresses6[PORT_ADDRESSES_MAX];
    size_t count, count6;
    bool hidden; /* The interface is here: nothing of this is in the kernel. */
};

/* Another node: named by the underlay's record, or by interfaces that are at home there. */
struct peer {
    uint32_t address;
    bool told;
    size_t homes;
};

void
remote_open(struct net *net)
{
    net->remotes = map_create(free);
    net->peers = map_create(free);
}

void
remote_close(struct net *net)
{
    map_destroy(net->remotes);
    map_destroy(net->peers);
}

/* ---- who may send -----------------------------------------------------------------------
 */

static struct peer *
peer_at(struct net *net, uint32_t address)
{
    char key[ADDR_IPV4_LEN];
    addr_ipv4_text(address, key);
    struct peer *peer = map_get(net->peers, key);
    if (!peer) {
        peer = xcalloc(1, sizeof *peer);
        peer->address = address;
        map_put(net->peers, key, peer);
        net->peers_dirty = true;
    }
    return peer;
}

static void
peer_forget_if_idle(struct net *net, const struct peer *peer)
{
    char key[ADDR_IPV4_LEN];
    if (!peer->told && peer->homes == 0) {
        addr_ipv4_text(peer->address, key);
        map_del(net->peers, key);
        net->peers_dirty = true;
    }
}

void
remote_peer(struct net *net, uint32_t address, int change)
{
    struct peer *peer = peer_at(net, address);
    peer->homes += (size_t)change;
    peer_forget_if_idle(net, peer);
}

static void
peers_tell(struct net *net, const uint32_t *told, size_t count)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(net->peers, &it, &key, &value);) {
        ((struct peer *)value)->told = false;
    }
    for (size_t i = 0; i < count; i++) {
        peer_at(net, told[i])->told = true;
    }
    for (size_t it = 0; map_next(net->peers, &it, &key, &value);) {
        peer_forget_if_idle(net, value);
    }
}

static bool
guard(struct net *net, struct err *err)
{
    AUTO(free) uint32_t *list = xcalloc(map_count(net->peers) + 1, sizeof *list);
    size_t count = 0;
    const char *key;
    void *value;
    for (size_t it = 0; map_next(net->peers, &it, &key, &value);) {
        list[count++] = ((const struct peer *)value)->address;
    }
    if (!overlay_guard(list, count, &net->overlay, net->cloud_id, err)) {
        return err_wrap(err, "underlay");
    }
    net->peers_dirty = false;
    return true;
}

bool
remote_flush(struct net *net, struct err *err)
{
    return net->held || !net->peers_dirty || net->overlay.local == 0 || guard(net, err);
}

/* ---- what a packet is to --------------------------------------------------------------
 */

static size_t
remote_elems(const struct subnet *s, const struct remote *r, struct elem *out)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count + r->count6; i++) {
        bool is6 = i >= r->count;
        out[n] = elem_in(NFPROTO_INET, is6 ? "nexthops6" : "nexthops4");
        elem_key_link(&out[n], s->bridge);
        if (is6) {
            elem_key_ipv6(&out[n], &r->addresses6[i - r->count]);
        } else {
            elem_key_ipv4(&out[n], r->addresses[i]);
        }
        elem_to_mark(&out[n++], RULES_REMOTE);
    }
    return n;
}

static void
device_elems(const struct subnet *s, struct elem out[2])
{
    static const char *const sets[] = {"port_src", "port_dst"};
    for (int i = 0; i < 2; i++) {
        out[i] = elem_in(NFPROTO_BRIDGE, sets[i]);
        elem_key_link(&out[i], s->vxlan);
        elem_to_mark(&out[i], RULES_REMOTE);
    }
}

void
remote_each_elem(const struct net *net, const struct network *network,
                 policy_elem_fn *fn, void *ctx)
{
    AUTO(free) struct elem *list = xcalloc(2 * PORT_ADDRESSES_MAX, sizeof *list);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        const struct subnet *s = value;
        if (s->network == network && s->vxlan_index > 0) {
            device_elems(s, list);
            fn(ctx, &list[0]);
            fn(ctx, &list[1]);
        }
    }
    for (size_t it = 0; map_next(net->remotes, &it, &id, &value);) {
        const struct remote *r = value;
        const struct subnet *s = map_get(net->subnets, r->subnet_id);
        bool shown = s && s->network == network && !r->hidden;
        size_t n = shown ? remote_elems(s, r, list) : 0;
        for (size_t i = 0; i < n; i++) {
            fn(ctx, &list[i]);
        }
    }
}

/* ---- devices --------------------------------------------------------------------------
 */

/* A subnet's device, once both its number and the underlay are known. */
bool
remote_subnet(struct net *net, struct subnet *s, struct err *err)
{
    struct network *network = s->network;
    struct elem elems[2];
    if (s->vni == 0 || net->overlay.local == 0 || s->vxlan_index > 0) {
        return true;
    }
    addr_link_name(net->cloud_id, RULES_VXLAN, s->id, s->vxlan);
    device_elems(s, elems);
    const struct overlay_link device = {.name = s->vxlan, .vni = s->vni};
    int index;
    if (!elems_add(network->elems, elems, 2, err) ||
        !overlay_drop_stale(network->links, &device, &net->overlay, err) ||
        !overlay_device(net->underlay, network->ns_fd, &device, &net->overlay, err) ||
        !links_find(network->links, s->vxlan, &index, err) ||
        !links_enslave(network->links, index, s->bridge_index, VXLAN_MTU, err) ||
        !links_trust(network->links, index, err) ||
        (s->cidr6.prefix > 0 && !setup_ipv6(network->ns_fd, s->vxlan, err))) {
        return err_wrap(err, "subnet %s", s->id);
    }
    s->vxlan_index = index;
    return true;
}

static bool
each_subnet(struct net *net, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        if (!remote_subnet(net, value, err)) {
            return false;
        }
    }
    return true;
}

bool
remote_want_underlay(struct net *net, const void *record, struct err *err)
{
    const struct link_underlay *want = record;
    struct overlay overlay = {.udp_port =
                                  want->udp_port ? (int)want->udp_port : VXLAN_PORT,
                              .mtu = VXLAN_MTU};
    if (!addr_parse_ipv4(want->address, &overlay.local) ||
        want->peers.count > PEERS_MAX || want->udp_port < 0 || want->udp_port > 65535) {
        return err_set(err, ERR_INVALID, "underlay: bad address, port or peers");
    }
    AUTO(free) uint32_t *peers = xcalloc(want->peers.count + 1, sizeof *peers);
    for (size_t i = 0; i < want->peers.count; i++) {
        if (!addr_parse_ipv4(want->peers.items[i], &peers[i])) {
            return err_set(err, ERR_INVALID, "underlay: a peer's address");
        }
    }
    if (net->overlay.local != 0 && (net->overlay.local != overlay.local ||
                                    net->overlay.udp_port != overlay.udp_port)) {
        return err_set(err, ERR_BUSY,
                       "the underlay cannot change while networks use it");
    }
    if (uplink_is_at(net, overlay.local, err)) {
        return err_wrap(err, "underlay");
    }
    if (!net->underlay && !(net->underlay = links_open(err))) {
        return false;
    }
    net->overlay = overlay;
    peers_tell(net, peers, want->peers.count);
    return guard(net, err) && each_subnet(net, err) && gateway_redo(net, err);
}

/* The devices go; so does the guard, since nobody listens any more. */
static bool
remote_drop_underlay(struct net *net, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->subnets, &it, &id, &value);) {
        struct subnet *s = value;
        struct elem elems[2];
        if (s->vxlan_index == 0) {
            continue;
        }
        device_elems(s, elems);
        if (!links_drop(s->network->links, s->vxlan, err) ||
            !elems_del(s->network->elems, elems, 2, err)) {
            return err_wrap(err, "subnet %s", id);
        }
        s->vxlan_index = 0;
    }
    peers_tell(net, NULL, 0);
    net->overlay = (struct overlay){0};
    return gateway_redo(net, err) && overlay_unguard(net->cloud_id, err);
}

/* ---- who has which address ------------------------------------------------------------
 */

bool
remote_has(const struct net *net, const char *id)
{
    return map_get(net->remotes, id) != NULL;
}

static size_t
remote_ips(const struct remote *r, struct in6_addr out[2 * PORT_ADDRESSES_MAX])
{
    for (size_t i = 0; i < r->count; i++) {
        out[i] = flow_ipv4(r->addresses[i]);
    }
    memcpy(out + r->count, r->addresses6, r->count6 * sizeof *out);
    return r->count + r->count6;
}

void
remote_note(const struct net *net, const struct network *network, struct map *ips)
{
    struct in6_addr list[2 * PORT_ADDRESSES_MAX];
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->remotes, &it, &id, &value);) {
        struct remote *r = value;
        const struct subnet *s = map_get(net->subnets, r->subnet_id);
        size_t count = s && s->network == network ? remote_ips(r, list) : 0;
        for (size_t i = 0; i < count; i++) {
            flow_ip_put(ips, &list[i], r);
        }
    }
}

/* What the interface had, less what it has now (NULL: it is no more), unless it has come here:
 * its connections are its port's then. */
static bool
remote_let_go(struct net *net, const char *id, const struct remote *old,
              const struct remote *now, struct err *err)
{
    struct in6_addr had[2 * PORT_ADDRESSES_MAX], has[2 * PORT_ADDRESSES_MAX];
    AUTO(map) struct map *kept = map_create(NULL);
    const struct subnet *s = map_get(net->subnets, old->subnet_id);
    size_t count = remote_ips(old, had), gone = 0;
    if (!s || map_get(net->ports, id)) {
        return true;
    }
    for (size_t i = 0, n = now ? remote_ips(now, has) : 0; i < n; i++) {
        flow_ip_put(kept, &has[i], net);
    }
    for (size_t i = 0; i < count; i++) {
        if (!flow_ip_get(kept, &had[i])) {
            had[gone++] = had[i];
        }
    }
    return forget_remote(net, s->network, had, gone, err);
}

/* ---- interfaces elsewhere -------------------------------------------------------------
 */

static bool
remote_read(const struct link_neighbour *want, const struct subnet *s, struct remote *r,
            struct err *err)
{
    (void)snprintf(r->subnet_id, sizeof r->subnet_id, "%.47s", s->id);
    bool good = addr_parse_mac(want->mac, r->mac) &&
                addr_parse_ipv4(want->node_address, &r->node) &&
                want->addresses.count <= PORT_ADDRESSES_MAX;
    for (size_t i = 0; good && i < want->addresses.count; i++) {
        const char *text = want->addresses.items[i];
        if (addr_parse_ipv4(text, &r->addresses[r->count])) {
            r->count++;
        } else {
            good = addr_parse_ipv6(text, &r->addresses6[r->count6++]);
        }
    }
    return good || err_set(err, ERR_INVALID, "neighbour %s cannot be", want->id);
}

/* Its addresses, on the router's side and for guests that ask by ARP. */
static bool
remote_neighbours(const struct subnet *s, const struct remote *r, struct err *err)
{
    struct links *links = s->network->links;
    int devices[] = {s->bridge_index, s->vxlan_index};
    for (int d = 0; d < 2; d++) {
        for (size_t i = 0; i < r->count; i++) {
            if (!links_neighbour(links, devices[d], r->addresses[i], r->mac, err)) {
                return false;
            }
        }
        for (size_t i = 0; i < r->count6; i++) {
            if (!links_neighbour6(links, devices[d], &r->addresses6[i], r->mac, err)) {
                return false;
            }
        }
    }
    return true;
}

static bool
remote_remove(struct net *net, const struct remote *r, struct err *err)
{
    struct subnet *s = map_get(net->subnets, r->subnet_id);
    AUTO(free) struct elem *list = xcalloc(2 * PORT_ADDRESSES_MAX, sizeof *list);
    if (!s || s->vxlan_index == 0 || r->hidden) {
        return true;
    }
    struct links *links = s->network->links;
    bool ok = elems_del(s->network->elems, list, remote_elems(s, r, list), err) &&
              overlay_drop_forward(links, s->vxlan_index, r->mac, err) &&
              links_drop_forward(links, s->vxlan_index, r->mac, err);
    for (size_t i = 0; ok && i < r->count; i++) {
        ok = links_drop_neighbour(links, s->bridge_index, r->addresses[i], err) &&
             links_drop_neighbour(links, s->vxlan_index, r->addresses[i], err);
    }
    for (size_t i = 0; ok && i < r->count6; i++) {
        ok = links_drop_neighbour6(links, s->bridge_index, &r->addresses6[i], err) &&
             links_drop_neighbour6(links, s->vxlan_index, &r->addresses6[i], err);
    }
    return ok;
}

static void
remote_forget(struct net *net, const char *id)
{
    const struct remote *r = map_get(net->remotes, id);
    if (r) {
        remote_peer(net, r->node, -1);
        map_del(net->remotes, id);
    }
}

static bool
remote_put(const struct subnet *s, const struct remote *r, struct err *err)
{
    struct links *links = s->network->links;
    AUTO(free) struct elem *list = xcalloc(2 * PORT_ADDRESSES_MAX, sizeof *list);
    return elems_add(s->network->elems, list, remote_elems(s, r, list), err) &&
           overlay_forward(links, s->vxlan_index, r->mac, r->node, err) &&
           links_forward(links, s->vxlan_index, r->mac, err) &&
           remote_neighbours(s, r, err);
}

bool
remote_want(struct net *net, const void *record, struct err *err)
{
    const struct link_neighbour *want = record;
    struct subnet *s = want->subnet_id ? map_get(net->subnets, want->subnet_id) : NULL;
    if (!s || s->vxlan_index == 0) {
        return err_set(err, ERR_NOT_FOUND, "neighbour %s: its subnet is not joined yet",
                       want->id);
    }
    struct remote r = {0};
    struct remote *old = map_get(net->remotes, want->id);
    const struct port *here = map_get(net->ports, want->id);
    r.hidden = here && !here->standby;
    if (!remote_read(want, s, &r, err) || (old && !remote_remove(net, old, err))) {
        return false;
    }
    if ((!r.hidden && !remote_put(s, &r, err)) ||
        (old && !remote_let_go(net, want->id, old, &r, err))) {
        return err_wrap(err, "neighbour %s", want->id);
    }
    struct remote *kept = xmalloc(sizeof *kept);
    *kept = r;
    remote_peer(net, r.node, 1);
    remote_forget(net, want->id);
    map_put(net->remotes, want->id, kept);
    return remote_flush(net, err);
}

bool
remote_hide(struct net *net, const char *id, struct err *err)
{
    struct remote *r = map_get(net->remotes, id);
    if (r && !remote_remove(net, r, err)) {
        return false;
    }
    if (r) {
        r->hidden = true;
    }
    return true;
}

bool
remote_show(struct net *net, const char *id, struct err *err)
{
    struct remote *r = map_get(net->remotes, id);
    const struct subnet *s = r ? map_get(net->subnets, r->subnet_id) : NULL;
    if (!s || s->vxlan_index == 0 || !r->hidden) {
        return true;
    }
    if (!remote_put(s, r, err)) {
        return false;
    }
    r->hidden = false;
    return true;
}

bool
remote_drop(struct net *net, int kind, const char *id, struct err *err)
{
    struct remote *r = map_get(net->remotes, id);
    if (kind == LINK_UNDERLAY) {
        return remote_drop_underlay(net, err);
    }
    if (!r) {
        return true;
    }
    if (!remote_remove(net, r, err) || !remote_let_go(net, id, r, NULL, err)) {
        return err_wrap(err, "neighbour %s", id);
    }
    remote_forget(net, id);
    return remote_flush(net, err);
}
