/* uplink_overlay.c - hosts without a provider's network are each other's outside: see uplink.h.
 *
 * The external namespaces of the nodes that have this uplink meet over the underlay: its leg is
 * a VXLAN device, with a number that is no subnet's and the node's own address there. It learns
 * nothing and floods nowhere: what leads to another node follows from records, one for each
 * interface or gateway with public addresses that is at home there, and one for the node's own
 * address. MACs follow from the nodes' underlay addresses. */
#include "link/link.h"
#include "node/net/leads.h"
#include "node/net/overlay.h"
#include "node/net/setup.h"
#include "node/net/uplink.h"
#include <arpa/inet.h>

#define FAR_ADDRESSES_MAX (PORT_ADDRESSES_MAX + 1)

/* Public addresses on another node. */
struct far {
    uint32_t node;
    uint32_t addresses[FAR_ADDRESSES_MAX];
    size_t count;
};

/* Of a node's leg: local, unicast, and not the 02 of guests. */
static void
mac_of(uint32_t node, uint8_t out[6])
{
    uint32_t be = htonl(node);
    out[0] = 0x0e;
    out[1] = 0;
    memcpy(out + 2, &be, sizeof be);
}

/* ---- what leads to others -------------------------------------------------------------
 */

static bool
lead_out(struct net *net, int index, struct err *err)
{
    VEC(struct lead) leads = {0};
    const char *id;
    void *value;
    bool ok = true;
    for (size_t it = 0; ok && map_next(net->far, &it, &id, &value);) {
        const struct far *f = value;
        struct lead lead;
        mac_of(f->node, lead.mac);
        ok = overlay_forward(net->outside, index, lead.mac, f->node, err);
        for (size_t i = 0; i < f->count; i++) {
            lead.public = f->addresses[i];
            VEC_PUSH(&leads, lead);
        }
    }
    ok = ok && leads_set(net->outside, index, leads.items, leads.count, err);
    VEC_FREE(&leads);
    return ok;
}

/* The leg, if this node has such an uplink; 0: it has none. */
static bool
find_leg(struct net *net, int *out, struct err *err)
{
    struct links_view view = {0};
    char leg[IFNAMSIZ];
    uplink_leg_name(net, leg);
    const struct uplink *u = uplink_current(net);
    if (net->outside && u && u->mode == UPLINK_OVERLAY &&
        !links_look(net->outside, leg, &view, err)) {
        return false;
    }
    *out = view.index;
    return true;
}

static bool
lead_again(struct net *net, struct err *err)
{
    int index;
    return find_leg(net, &index, err) && (index == 0 || lead_out(net, index, err));
}

bool
uplink_overlay_make(struct net *net, const struct uplink *u, struct err *err)
{
    char leg[IFNAMSIZ];
    uint8_t mac[6];
    int index;
    uplink_leg_name(net, leg);
    mac_of(net->overlay.local, mac);
    const struct overlay_link device = {.name = leg, .vni = u->vni, .mac = mac};
    return overlay_drop_stale(net->outside, &device, &net->overlay, err) &&
           overlay_device(net->underlay, net->outside_fd, &device, &net->overlay,
                          err) &&
           setup_put(net->outside_fd, "1", err, "ipv6/conf/%s/disable_ipv6", leg) &&
           links_find(net->outside, leg, &index, err) &&
           links_address(net->outside, index, u->address, 32, err) &&
           links_up(net->outside, index, err) && lead_out(net, index, err);
}

/* ---- records --------------------------------------------------------------------------
 */

static bool
far_read(const struct link_public *want, struct far *out, struct err *err)
{
    bool good = addr_id_ok(want->id) &&
                addr_parse_ipv4(want->node_address, &out->node) &&
                want->addresses.count <= FAR_ADDRESSES_MAX;
    for (size_t i = 0; good && i < want->addresses.count; i++) {
        good = addr_parse_ipv4(want->addresses.items[i], &out->addresses[out->count++]);
    }
    return good || err_set(err, ERR_INVALID, "public addresses of %s cannot be",
                           want->id ? want->id : "");
}

static void
far_forget(struct net *net, const char *id)
{
    const struct far *f = map_get(net->far, id);
    if (f) {
        remote_peer(net, f->node, -1);
        map_del(net->far, id);
    }
}

bool
uplink_want_public(struct net *net, const void *record, struct err *err)
{
    const struct link_public *want = record;
    struct far f = {0};
    if (!far_read(want, &f, err)) {
        return false;
    }
    struct far *kept = xmalloc(sizeof *kept);
    *kept = f;
    remote_peer(net, f.node, 1);
    far_forget(net, want->id);
    map_put(net->far, want->id, kept);
    return remote_flush(net, err) && lead_again(net, err);
}

bool
uplink_drop_public(struct net *net, int kind UNUSED, const char *id, struct err *err)
{
    far_forget(net, id);
    return remote_flush(net, err) && lead_again(net, err);
}
