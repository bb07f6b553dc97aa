/* nat_home.c - see nat_home.h. */
#include "node/net/nat_home.h"

#include "base/buf.h"
#include "node/net/overlay.h"
#include "node/net/routes.h"
#include "node/net/rules.h"
#include "node/net/uplink.h"
#include <linux/netfilter.h>

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
    home.leased = want->leased;
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

/* At home its MAC is the one that all know; elsewhere it is another, each node's own: nothing
 * comes back that way, but what bears the home's MAC is taken for an echo there. */
static bool
device_make(struct net *net, struct network *network, struct nat_home *home,
            struct err *err)
{
    struct links *links = network->links;
    AUTO(free) char *far = xasprintf("%s/%08x", home->link, net->overlay.local);
    uint8_t mac[6];
    addr_router_mac(net->cloud_id, far, mac);
    const struct overlay_link device = {
        .name = home->link,
        .vni = home->vni,
        .mac = nat_home_is_elsewhere(net, home) ? mac : home->mac};
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

/* ---- who speaks for it ----------------------------------------------------------------
 */

static bool
lease_lives(const struct net *net)
{
    return net->lease_until_ns > clock_mono(net->config.clock);
}

struct search {
    const struct elem *elem;
    bool found;
};

static void
look_for(void *ctx, const struct elem *e)
{
    struct search *s = ctx;
    s->found |= elem_same_key(s->elem, e);
}

/* What it was granted once it keeps, whoever drives the network now; but a host that was
 * started anew has forgotten it. */
static bool
look_back(struct network *network, struct nat_home *home, const struct elem *e,
          struct err *err)
{
    struct search s = {.elem = e};
    if (!home->looked && !elems_each(network->elems, e, look_for, &s, err)) {
        return false;
    }
    home->speaks |= s.found;
    home->looked = true;
    return true;
}

static struct elem
elem_of(uint32_t hop)
{
    struct elem e = elem_in(NFPROTO_INET, "homes");
    elem_key_ipv4(&e, hop);
    return e;
}

bool
nat_home_speak(struct net *net, struct network *network, struct nat_home *home,
               uint32_t hop, struct err *err)
{
    struct elem e = elem_of(hop);
    if (!look_back(network, home, &e, err)) {
        return false;
    }
    if (nat_home_is_elsewhere(net, home)) {
        return nat_home_silence(network, home, hop, err);
    }
    bool may = home->speaks || !home->leased || lease_lives(net);
    if (may && !elems_add(network->elems, &e, 1, err)) {
        return false;
    }
    home->speaks = may;
    return true;
}

bool
nat_home_silence(struct network *network, struct nat_home *home, uint32_t hop,
                 struct err *err)
{
    struct elem e = elem_of(hop);
    if (!look_back(network, home, &e, err) ||
        (home->speaks && !elems_del(network->elems, &e, 1, err))) {
        return false;
    }
    home->speaks = false;
    return true;
}

/* ---- who answers for it ---------------------------------------------------------------
 */

struct answers {
    struct net *net;
    size_t count;
    struct buf text;
    struct uplink_publics publics;
};

static void
put_answer(void *ctx, struct network *network UNUSED, const struct nat_pair *pair,
           struct nat_home *home)
{
    struct answers *a = ctx;
    const struct addr_block one = {.ipv4 = pair->public, .prefix = 32};
    char ip[ADDR_IPV4_LEN];
    if (home->leased && home->speaks) {
        addr_ipv4_text(pair->public, ip);
        buf_printf(&a->text, "add element arp moln leased { %s }\n", ip);
        VEC_PUSH(&a->publics.list, one);
        a->count++;
    }
}

/* Whoever says that he has such an address has it: only who has a lease says so, and there is
 * one at a time. So a host that is cut off, and cannot hear otherwise that another has taken its
 * place, answers no more. */
static void
yield_text(const struct net *net, struct buf *out)
{
    char leg[IFNAMSIZ];
    uplink_leg_name(net, leg);
    buf_puts(out, "table arp moln {\n"
                  "    set leased { type ipv4_addr; }\n"
                  "    set yielded { type ipv4_addr; size 65535; flags dynamic; }\n"
                  "    chain input { type filter hook input priority 0; }\n"
                  "    chain output { type filter hook output priority 0; }\n"
                  "}\n"
                  "flush chain arp moln input\n"
                  "flush chain arp moln output\n"
                  "flush set arp moln leased\n");
    if (lease_lives(net)) {
        buf_puts(out, "flush set arp moln yielded\n");
    }
    buf_printf(out,
               "add rule arp moln input iifname \"%s\" arp saddr ip @leased "
               "update @yielded { arp saddr ip }\n"
               "add rule arp moln output oifname \"%s\" arp operation reply "
               "arp saddr ip @yielded drop\n",
               leg, leg);
}

bool
nat_home_answer(struct net *net, struct err *err)
{
    struct answers a = {.net = net};
    const struct uplink *u = uplink_current(net);
    if (!net->outside || !u || u->mode != UPLINK_BRIDGE) {
        return true;
    }
    yield_text(net, &a.text);
    gateway_each_nat(net, put_answer, &a);
    bool ok = (a.count == 0 && !net->answers_leased) ||
              rules_run_in(net->outside_fd, buf_str(&a.text), err);
    net->answers_leased = ok ? a.count > 0 : net->answers_leased;
    ok = ok &&
         (a.count == 0 || !lease_lives(net) || uplink_tell(net, u, &a.publics, err));
    VEC_FREE(&a.publics.list);
    buf_fini(&a.text);
    return ok || err_wrap(err, "NAT gateways' answers");
}

/* ---- the node's lease -------------------------------------------------------------------
 */

struct counting {
    const struct net *net;
    size_t count;
};

static void
count_leased(void *ctx, struct network *network, const struct nat_pair *pair UNUSED,
             struct nat_home *home)
{
    struct counting *c = ctx;
    c->count += network && home->leased && !nat_home_is_elsewhere(c->net, home);
}

size_t
net_leased(const struct net *net)
{
    struct counting c = {.net = net};
    gateway_each_nat(net, count_leased, &c);
    return c.count;
}

struct leasing {
    struct net *net;
    struct err *err;
    bool ok;
};

static void
lease_one(void *ctx, struct network *network, const struct nat_pair *pair,
          struct nat_home *home)
{
    struct leasing *l = ctx;
    if (l->ok && network && home->leased && !home->speaks) {
        l->ok = nat_home_speak(l->net, network, home, pair->private, l->err);
    }
}

bool
net_lease(struct net *net, int64_t until_ns, struct err *err)
{
    struct leasing l = {.net = net, .err = err, .ok = true};
    if (until_ns == net->lease_until_ns) {
        return true;
    }
    net->lease_until_ns = until_ns;
    gateway_each_nat(net, lease_one, &l);
    if (!l.ok || !nat_home_answer(net, err) || !uplink_refresh(net, err)) {
        net->lease_until_ns = 0; /* Once more at the next call. */
        return false;
    }
    return true;
}
