/* uplink.c - which uplink a node has, whether it may be, and what may pass: see uplink.h. */
#include "node/net/uplink.h"
#include "base/log.h"
#include "base/vfio.h"
#include "link/records.h"
#include "node/net/nat_home.h"
#include "node/net/netns.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include <ifaddrs.h>

void
uplink_open(struct net *net)
{
    net->uplinks = map_create(free);
    net->far = map_create(free);
    net->publics_dirty = false;
    net->publics_text = NULL;
}

void
uplink_close(struct net *net)
{
    map_destroy(net->uplinks);
    map_destroy(net->far);
    links_close(net->host);
    free(net->publics_text);
    net->host = NULL;
    net->publics_text = NULL;
}

void
uplink_leg_name(const struct net *net, char out[IFNAMSIZ])
{
    addr_link_name(net->cloud_id, UPLINK_LEG, "uplink", out);
}

void
uplink_host_name(const struct net *net, char out[IFNAMSIZ])
{
    addr_link_name(net->cloud_id, UPLINK_HOST, "uplink", out);
}

static bool
is_leg(const struct uplink *u)
{
    return u->mode == UPLINK_NAT || u->mode == UPLINK_BRIDGE ||
           u->mode == UPLINK_OVERLAY;
}

struct uplink *
uplink_current(const struct net *net)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->uplinks, &it, &id, &value);) {
        struct uplink *u = value;
        if (is_leg(u)) {
            return u;
        }
    }
    return NULL;
}

/* ---- may it be? -----------------------------------------------------------------------
 */

/* Whether the host's default route leaves by the interface. */
static bool
carries_default(const char *link)
{
    FILE *f = fopen("/proc/thread-self/net/route", "re");
    char line[256], name[IFNAMSIZ];
    unsigned to, via, flags, mask;
    bool found = false;
    while (f && fgets(line, sizeof line, f)) {
        found |= sscanf(line, "%15s %x %x %x %*d %*d %*d %x", name, &to, &via, &flags,
                        &mask) == 5 &&
                 to == 0 && mask == 0 && str_eq(name, link);
    }
    if (f) {
        (void)fclose(f);
    }
    return found;
}

/* Whether the interface has this address, or any when it is 0. */
static bool
has_address(const char *link, uint32_t ipv4)
{
    struct ifaddrs *list = NULL;
    bool found = false;
    if (getifaddrs(&list) < 0) {
        return false;
    }
    for (const struct ifaddrs *a = list; a; a = a->ifa_next) {
        if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET &&
            str_eq(a->ifa_name, link)) {
            const struct sockaddr_in *in = (const void *)a->ifa_addr;
            found |= ipv4 == 0 || ntohl(in->sin_addr.s_addr) == ipv4;
        }
    }
    freeifaddrs(list);
    return found;
}

static bool
is_ours(const char *name)
{
    static const char *const prefixes[] = {UPLINK_HOST, RULES_VXLAN};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (str_starts(name, prefixes[i]) && strlen(name) == 14) {
            return true;
        }
    }
    return false;
}

/* Whether the host can hand out virtual functions of the interface, free or not. */
static bool
function_any(const char *link, struct err *err)
{
    struct vfio_function first;
    struct err why = {0};
    if (vfio_function_free("/sys", link, &first, &why) || why.code == ERR_BUSY) {
        return true;
    }
    *err = why;
    return false;
}

/* Whether the interface may lead out; fills in its index. */
static bool
link_ok(struct net *net, struct uplink *u, struct err *err)
{
    struct links_view view;
    if (u->mode == UPLINK_OVERLAY) {
        return net->overlay.local != 0 ||
               err_set(err, ERR_INVALID, "this host names no underlay");
    }
    if (!net->host && !(net->host = links_open(err))) {
        return false;
    }
    if (!links_look(net->host, u->link, &view, err)) {
        return false;
    }
    u->index = view.index;
    if (view.index == 0) {
        return err_set(err, ERR_INVALID, "this host has no interface '%s'", u->link);
    }
    if (view.loopback || is_ours(u->link)) {
        return err_set(err, ERR_INVALID, "'%s' leads nowhere: it is this host's own",
                       u->link);
    }
    if (view.master != 0) {
        return err_set(err, ERR_INVALID,
                       "'%s' is in use: it is part of a bridge or a bond; name that",
                       u->link);
    }
    if (net->overlay.local != 0 && has_address(u->link, net->overlay.local)) {
        return err_set(
            err, ERR_INVALID,
            "'%s' is the underlay, by which nodes meet: it leads to no guest", u->link);
    }
    if (!view.up) {
        return err_set(err, ERR_INVALID, "'%s' is down: set it up first", u->link);
    }
    if (!u->default_too && carries_default(u->link)) {
        return err_set(
            err, ERR_INVALID,
            "'%s' carries this host's default route: say --default-route-too "
            "if guests may use it as well",
            u->link);
    }
    if (u->vfio && !function_any(u->link, err)) {
        return false;
    }
    if (u->mode == UPLINK_NAT && !has_address(u->link, 0)) {
        return err_set(err, ERR_INVALID, "'%s' has no IPv4 address to stand for guests",
                       u->link);
    }
    return true;
}

static bool
mode_read(const char *text, enum uplink_mode *out)
{
    static const char *const names[] = {[UPLINK_NONE] = "none",
                                        [UPLINK_NAT] = "nat",
                                        [UPLINK_BRIDGE] = "bridge",
                                        [UPLINK_OVERLAY] = "overlay",
                                        [UPLINK_PASSTHROUGH] = "passthrough"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(names[i], text)) {
            *out = (enum uplink_mode)i;
            return true;
        }
    }
    return false;
}

/* "192.0.2.2/24" and a router in that block. */
static bool
address_read(const struct link_uplink *want, struct uplink *u)
{
    struct addr_block block;
    char ip[ADDR_IPV4_LEN];
    const char *slash = want->address ? strchr(want->address, '/') : NULL;
    size_t len = slash ? (size_t)(slash - want->address) : 0;
    if (!slash || len >= sizeof ip) {
        return false;
    }
    (void)snprintf(ip, sizeof ip, "%.*s", (int)len, want->address);
    if (!addr_parse_ipv4(ip, &u->address) || !addr_parse_block(want->address, &block) ||
        !addr_parse_ipv4(want->router, &u->router)) {
        return false;
    }
    struct cidr4 net4 = {block.ipv4, block.prefix};
    u->prefix = block.prefix;
    return block.prefix >= 8 && block.prefix <= 30 && u->router != u->address &&
           addr_in_cidr4(u->router, &net4);
}

/* "100.88.0.5/13", and a number. */
static bool
overlay_read(const struct link_uplink *want, struct uplink *u)
{
    char ip[ADDR_IPV4_LEN] = "";
    const char *slash = want->address ? strchr(want->address, '/') : NULL;
    if (slash && (size_t)(slash - want->address) < sizeof ip) {
        (void)snprintf(ip, sizeof ip, "%.*s", (int)(slash - want->address),
                       want->address);
    }
    u->vni = want->vni > 0 && want->vni < 1 << 24 ? (uint32_t)want->vni : 0;
    return u->vni != 0 && addr_parse_ipv4(ip, &u->address);
}

/* "2001:db8::2/64", and a router in that block or a link-local one; neither: no IPv6. */
static bool
address6_read(const struct link_uplink *want, struct uplink *u)
{
    struct addr_block block;
    char ip[ADDR_BLOCK_LEN];
    const char *slash = want->address6 ? strchr(want->address6, '/') : NULL;
    size_t len = slash ? (size_t)(slash - want->address6) : 0;
    if (str_empty(want->address6) && str_empty(want->router6)) {
        return true;
    }
    if (!slash || len >= sizeof ip) {
        return false;
    }
    (void)snprintf(ip, sizeof ip, "%.*s", (int)len, want->address6);
    if (!addr_parse_ipv6(ip, &u->address6) ||
        !addr_parse_block(want->address6, &block) || !block.is6 ||
        !addr_parse_ipv6(want->router6, &u->router6)) {
        return false;
    }
    u->prefix6 = block.prefix;
    return block.prefix >= 16 && block.prefix <= 126 &&
           memcmp(&u->router6, &u->address6, sizeof u->router6) != 0 &&
           (addr_in_block6(&u->router6, &block) || IN6_IS_ADDR_LINKLOCAL(&u->router6));
}

static bool
uplink_read(const struct link_uplink *want, struct uplink *u, struct err *err)
{
    size_t len = want->link ? strlen(want->link) : 0;
    if (!addr_id_ok(want->id) || strlen(want->id) >= sizeof u->id ||
        !mode_read(want->mode, &u->mode)) {
        return err_set(err, ERR_INVALID, "uplink: bad id or mode");
    }
    bool linked = u->mode != UPLINK_NONE && u->mode != UPLINK_OVERLAY;
    if (linked && (len == 0 || len >= sizeof u->link)) {
        return err_set(err, ERR_INVALID, "uplink %s: not an interface's name",
                       want->id);
    }
    if (u->mode == UPLINK_OVERLAY && !overlay_read(want, u)) {
        return err_set(err, ERR_INVALID, "uplink %s: bad address or VNI", want->id);
    }
    if (u->mode == UPLINK_BRIDGE && !address6_read(want, u)) {
        return err_set(
            err, ERR_INVALID,
            "uplink %s: an IPv6 address with its prefix, and a router beside "
            "it or a link-local one, must be named together",
            want->id);
    }
    if (u->mode == UPLINK_BRIDGE && !address_read(want, u)) {
        return err_set(err, ERR_INVALID,
                       "uplink %s: an address with its prefix, and a router beside it, "
                       "must be named",
                       want->id);
    }
    (void)snprintf(u->id, sizeof u->id, "%s", want->id);
    (void)snprintf(u->link, sizeof u->link, "%s", want->link ? want->link : "");
    u->default_too = want->default_too;
    u->unfiltered = want->unfiltered;
    u->vfio = str_eq(want->device, "vfio");
    if (u->vfio && !u->unfiltered) {
        return err_set(
            err, ERR_INVALID,
            "uplink %s: nothing here sees what a virtual function sends, so it "
            "is lent unfiltered or not at all",
            want->id);
    }
    return true;
}

int64_t
net_uplink_functions(const struct net *net, const char *uplink_id)
{
    const struct uplink *u = map_get(net->uplinks, uplink_id);
    struct vfio_function f;
    struct err none = {0};
    int64_t count = 0;
    while (u && u->vfio &&
           vfio_function_at("/sys", u->link, (uint32_t)count, &f, &none)) {
        count++;
    }
    return count;
}

/* ---- what may pass --------------------------------------------------------------------
 */

bool
uplink_refresh(struct net *net, struct err *err)
{
    const struct uplink *u = uplink_current(net);
    if (!u || !net->outside || net->held) {
        return true;
    }
    struct uplink_publics p = {0};
    AUTO(buf) struct buf text = {0};
    uplink_publics_of(net, u, &p);
    uplink_rules(net, u, &p, &text);
    bool ok = true;
    if (net->publics_dirty || !net->publics_text ||
        !str_eq(net->publics_text, buf_str(&text))) {
        ok = rules_run_in(net->outside_fd, buf_str(&text), err) &&
             nat_home_answer(net, err) &&
             (u->mode != UPLINK_BRIDGE || uplink_answer(net, u, &p, err));
    }
    VEC_FREE(&p.list);
    if (ok) {
        free(net->publics_text);
        net->publics_text = buf_take(&text);
        net->publics_dirty = false;
    }
    return ok || err_wrap(err, "uplink %s", u->id);
}

/* ---- make, and take down --------------------------------------------------------------
 */

/* Rules first: a leg without them would pass anything. */
static bool
leg_make(struct net *net, struct uplink *u, struct err *err)
{
    net->publics_dirty = true;
    if (!gateway_outside(net, err) || !uplink_refresh(net, err) ||
        !(u->mode == UPLINK_NAT      ? uplink_nat_make(net, u, err)
          : u->mode == UPLINK_BRIDGE ? uplink_bridge_make(net, u, err)
                                     : uplink_overlay_make(net, u, err))) {
        return false;
    }
    net->publics_dirty = true; /* Now there is a link that can answer. */
    return uplink_refresh(net, err);
}

static bool
leg_drop(struct net *net, const struct uplink *u, struct err *err)
{
    char leg[IFNAMSIZ];
    uplink_leg_name(net, leg);
    return (u->mode != UPLINK_NAT || uplink_nat_drop(net, u->link, err)) &&
           (!net->outside || links_drop(net->outside, leg, err));
}

static bool
take_down(struct net *net, const struct uplink *u, struct err *err)
{
    return u->mode == UPLINK_PASSTHROUGH ? passthrough_drop_uplink(net, u->id, err)
                                         : !is_leg(u) || leg_drop(net, u, err);
}

static bool
same(const struct uplink *a, const struct uplink *b)
{
    return a->mode == b->mode && str_eq(a->link, b->link) && a->address == b->address &&
           a->prefix == b->prefix && a->router == b->router && a->index == b->index &&
           a->vni == b->vni && a->unfiltered == b->unfiltered && a->vfio == b->vfio &&
           a->prefix6 == b->prefix6 &&
           memcmp(&a->address6, &b->address6, sizeof a->address6) == 0 &&
           memcmp(&a->router6, &b->router6, sizeof a->router6) == 0;
}

bool
uplink_want(struct net *net, const void *record, struct err *err)
{
    const struct link_uplink *want = record;
    struct uplink u = {0};
    if (!uplink_read(want, &u, err)) {
        return false;
    }
    const struct uplink *old = map_get(net->uplinks, u.id),
                        *other = uplink_current(net);
    if (is_leg(&u) && other && other != old) {
        return err_set(err, ERR_BUSY, "uplink %s: this node has uplink %s still", u.id,
                       other->id);
    }
    bool allowed = u.mode == UPLINK_NONE || link_ok(net, &u, err);
    /* What may no longer be goes, and what changed. */
    if (old && (!allowed || !same(old, &u))) {
        struct err why = {0};
        if (!take_down(net, old, &why)) {
            *err = why;
            return err_wrap(err, "uplink %s", u.id);
        }
        map_del(net->uplinks, u.id);
    }
    if (!allowed) {
        return err_wrap(err, "uplink %s", u.id);
    }
    struct uplink *kept = xmalloc(sizeof *kept);
    *kept = u;
    map_put(net->uplinks, u.id, kept);
    if (is_leg(&u) && !leg_make(net, kept, err)) {
        struct err ignored = {0};
        if (!leg_drop(net, kept, &ignored)) {
            log_warn("uplink %s: %s", u.id, ignored.msg);
        }
        map_del(net->uplinks, want->id);
        return err_wrap(err, "uplink %s", want->id);
    }
    return true;
}

bool
uplink_drop(struct net *net, int kind, const char *id, struct err *err)
{
    struct uplink *u = map_get(net->uplinks, id);
    if (u && !take_down(net, u, err)) {
        return err_wrap(err, "uplink %s", id);
    }
    map_del(net->uplinks, id);
    return true;
}

bool
uplink_is_at(const struct net *net, uint32_t ipv4, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->uplinks, &it, &id, &value);) {
        const struct uplink *u = value;
        if (u->link[0] != '\0' && has_address(u->link, ipv4)) {
            (void)err_set(err, ERR_INVALID,
                          "'%s' is uplink %s: nodes do not meet there", u->link, u->id);
            return true;
        }
    }
    return false;
}

/* ---- check ----------------------------------------------------------------------------
 */

/* How the rules and the leg read; the caller frees. */
static bool
ask_here(void *ctx, struct err *err)
{
    char **out = ctx;
    *out = rules_ask("list table inet moln", err);
    return *out != NULL;
}

static char *
how_it_stands(struct net *net, const struct uplink *u)
{
    AUTO(free) char *outside = NULL;
    AUTO(free) char *host = NULL;
    struct err ignored = {0};
    char leg[IFNAMSIZ];
    int index = 0;
    uplink_leg_name(net, leg);
    (void)!netns_run(net->outside_fd, ask_here, &outside, &ignored);
    (void)!links_find(net->outside, leg, &index, &ignored);
    if (u->mode == UPLINK_NAT) {
        host = uplink_nat_rules(net);
    }
    return xasprintf("%d %s %s", index, outside ? outside : "", host ? host : "");
}

bool
uplink_check(struct net *net, size_t *drift, struct err *err)
{
    struct uplink *u = uplink_current(net);
    if (!u || !net->outside) {
        return true;
    }
    struct uplink now = *u;
    if (!link_ok(net, &now, err)) {
        return err_wrap(err, "uplink %s", u->id);
    }
    u->index = now.index;
    AUTO(free) char *before = how_it_stands(net, u);
    if (!leg_make(net, u, err)) {
        return err_wrap(err, "uplink %s", u->id);
    }
    AUTO(free) char *after = how_it_stands(net, u);
    if (!str_eq(before, after)) {
        (*drift)++;
        log_warn("uplink %s: it was changed; put right", u->id);
    }
    return true;
}

bool
uplink_sweep(struct net *net, struct err *err)
{
    if (!net->host && !(net->host = links_open(err))) {
        return false;
    }
    return uplink_nat_drop(net, NULL, err);
}
