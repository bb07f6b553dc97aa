/* conntrack.c - which tracked connections are a port's, as bytes and back: see conntrack.h. */
#include "node/net/conntrack.h"
#include "base/crypto.h"
#include "base/tlv.h"
#include "link/records.h"
#include "node/net/flows.h"
#include "node/net/net_parts.h"
#include <linux/netfilter.h>

#define RESERVED 4 /* A subnet's first addresses are never a guest's. */
#define TCP_SCALE_MAX 14
#define TIMEOUT_MAX_S 432000 /* The kernel's own, of an idle TCP connection... */
#define SHORT_MAX_S 600      /* ...and more than it gives to one without states. */

/* Who is who, as the port's connections see it; addresses as text of their bytes. */
struct view {
    const struct net *net;
    const struct port *port;
    struct map *own, *local; /* The port's private addresses; all other ports' here. */
    VEC(struct flow) found;
    size_t left;
};

static bool
view_open(struct view *v, struct net *net, const char *port_id, struct err *err)
{
    struct port *port = port_id ? map_get(net->ports, port_id) : NULL;
    if (!port) {
        return err_set(err, ERR_NOT_FOUND, "port %s is not here",
                       port_id ? port_id : "");
    }
    *v = (struct view){
        .net = net, .port = port, .own = map_create(NULL), .local = map_create(NULL)};
    port_note_ips(port, v->own, port);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        struct port *other = value;
        if (other != port && other->subnet->network == port->subnet->network) {
            port_note_ips(other, v->local, other);
        }
    }
    return true;
}

static void
view_close(struct view *v)
{
    map_destroy(v->own);
    map_destroy(v->local);
    VEC_FREE(&v->found);
}

/* ---- whose a connection is ------------------------------------------------------------
 */

/* The router, its services, and what is nobody's: connections with these do not move. */
static bool
is_reserved(const struct view *v, const struct in6_addr *ip)
{
    uint32_t ip4;
    bool is4 = flow_is_ipv4(ip, &ip4);
    if (is4 ? ip4 >> 24 == 0 || ip4 >> 24 == 127 || ip4 >> 28 >= 14 ||
                  ip4 >> 16 == 0xa9fe
            : IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_MULTICAST(ip) ||
                  IN6_IS_ADDR_LOOPBACK(ip) || IN6_IS_ADDR_UNSPECIFIED(ip)) {
        return true;
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(v->net->subnets, &it, &id, &value);) {
        const struct subnet *s = value;
        struct addr_block first = s->cidr6;
        first.prefix = 126;
        if (s->network == v->port->subnet->network &&
            (is4 ? ip4 - s->cidr.base < RESERVED
                 : s->cidr6.prefix > 0 && addr_in_block6(ip, &first))) {
            return true;
        }
    }
    return false;
}

static bool
is_pair(const struct port *port, uint32_t private, uint32_t public)
{
    for (size_t i = 0; i < port->public_count; i++) {
        if (port->publics[i].private == private && port->publics[i].public == public) {
            return true;
        }
    }
    return false;
}

/* Translated as this network translates the port's own addresses, or not at all. */
static bool
nat_ok(const struct view *v, const struct flow *f)
{
    bool source = flow_source_changed(f), target = flow_target_changed(f);
    uint32_t inner, outer;
    if (!source && !target) {
        return true;
    }
    if (source && target) {
        return false;
    }
    if (source) { /* The port called. */
        return flow_is_ipv4(&f->from.ip, &inner) &&
               flow_is_ipv4(&f->back_to.ip, &outer) &&
               flow_ip_get(v->own, &f->from.ip) &&
               (is_pair(v->port, inner, outer) ||
                gateway_speaks_as(v->net, v->port->subnet->network, outer));
    }
    return flow_is_ipv4(&f->back_from.ip, &inner) && flow_is_ipv4(&f->to.ip, &outer) &&
           flow_ip_get(v->own, &f->back_from.ip) && f->to.port == f->back_from.port &&
           is_pair(v->port, inner, outer);
}

/* Whether it is between one of the port's own addresses and somebody who is elsewhere, or
 * 'anywhere'. */
static bool
is_own(const struct view *v, const struct flow *f, bool anywhere)
{
    bool called = flow_ip_get(v->own, &f->from.ip);
    const struct in6_addr *other = called ? &f->to.ip : &f->from.ip;
    return (called || flow_ip_get(v->own, &f->back_from.ip)) &&
           !is_reserved(v, other) && !(called && flow_ip_get(v->own, other)) &&
           (anywhere || !flow_ip_get(v->local, other)) && nat_ok(v, f);
}

/* ---- export ---------------------------------------------------------------------------
 */

static void
take_own(void *ctx, const struct flow *flow)
{
    struct view *v = ctx;
    if (!is_own(v, flow, true)) {
        return;
    }
    if (v->found.count == CONNTRACK_FLOWS_MAX) {
        v->left++;
        return;
    }
    VEC_PUSH(&v->found, *flow);
}

static struct blob
ip_bytes(const struct in6_addr *ip)
{
    bool is4 = IN6_IS_ADDR_V4MAPPED(ip);
    return (struct blob){is4 ? &ip->s6_addr[12] : ip->s6_addr, is4 ? 4 : 16};
}

/* Borrows the flow's bytes. */
static struct link_flow
record_of(const struct flow *f, bool passed)
{
    struct link_flow r = {
        .protocol = f->protocol,
        .from = ip_bytes(&f->from.ip),
        .to = ip_bytes(&f->to.ip),
        .from_port = f->from.port,
        .to_port = f->to.port,
        .timeout_s = f->timeout_s,
        .answered = f->answered,
        .assured = f->assured,
        .state = f->state,
        .flags = f->tcp_flags[0],
        .back_flags = f->tcp_flags[1],
        .scale = f->tcp_scales[0],
        .back_scale = f->tcp_scales[1],
        .tag = f->sctp_tags[0],
        .back_tag = f->sctp_tags[1],
        .icmp_id = f->icmp_id,
        .icmp_type = f->icmp_type,
        .icmp_code = f->icmp_code,
        .passed = passed,
    };
    if (flow_target_changed(f)) {
        r.back_from = ip_bytes(&f->back_from.ip);
        r.back_from_port = f->back_from.port;
    }
    if (flow_source_changed(f)) {
        r.back_to = ip_bytes(&f->back_to.ip);
        r.back_to_port = f->back_to.port;
    }
    return r;
}

/* As text, without how long it may stay idle: malloc'ed. */
static char *
standing(const struct link_flow *record)
{
    AUTO(buf) struct buf one = {0};
    struct link_flow r = *record;
    r.timeout_s = 0;
    tlv_encode(&link_flow_desc, &r, &one);
    char *text = xmalloc(2 * one.len + 1);
    hex_encode(one.data, one.len, text);
    return text;
}

/* Its length, in two bytes, and the record; false: it is known. */
static bool
put_record(const struct flow *f, bool passed, const struct map *known, struct buf *out)
{
    AUTO(buf) struct buf one = {0};
    struct link_flow r = record_of(f, passed);
    AUTO(free) char *text = map_count(known) > 0 ? standing(&r) : NULL;
    if (text && map_get(known, text)) {
        return false;
    }
    tlv_encode(&link_flow_desc, &r, &one);
    buf_putc(out, (char)(one.len >> 8));
    buf_putc(out, (char)one.len);
    buf_put(out, one.data, one.len);
    return true;
}

/* Which connections a port without source check has let through: rules.h's 'hops'. */
static struct elem
hop_of(const struct port *port, const struct flow *f)
{
    struct elem e = elem_in(NFPROTO_INET, "hops");
    elem_key_mark(&e, f->id);
    elem_key_mark(&e, port->number);
    return e;
}

/* The kernel's numbers of one port's, as text. */
struct hops {
    const struct port *port;
    struct map *ids;
};

#define HOP_KEY_LEN 9

static void
note_hop(void *ctx, const struct elem *e)
{
    struct hops *hops = ctx;
    char key[HOP_KEY_LEN];
    if (e->key_len == 2 * sizeof(uint32_t) &&
        memcmp(e->key + 4, &hops->port->number, 4) == 0) {
        hex_encode(e->key, 4, key);
        map_put(hops->ids, key, hops);
    }
}

static bool
has_hop(const struct hops *hops, const struct flow *f)
{
    char key[HOP_KEY_LEN];
    hex_encode(&f->id, sizeof f->id, key);
    return map_get(hops->ids, key) != NULL;
}

/* What is 'found' and not known, into 'out'. */
static bool
put_all(const struct view *v, const struct map *known, struct buf *out, size_t *out_put,
        struct err *err)
{
    AUTO(map) struct map *ids = map_create(NULL);
    struct hops hops = {v->port, ids};
    struct elem like = elem_in(NFPROTO_INET, "hops");
    if (v->port->borrow &&
        !elems_each(v->port->subnet->network->elems, &like, note_hop, &hops, err)) {
        return false;
    }
    for (size_t i = 0; i < v->found.count; i++) {
        const struct flow *f = &v->found.items[i];
        *out_put += put_record(f, has_hop(&hops, f), known, out);
    }
    return !out->full ||
           err_set(err, ERR_TOO_LARGE, "%zu of them do not fit", v->found.count);
}

/* An export's records, one after the other, until 'fn' is false. */
typedef bool record_fn(void *ctx, const struct link_flow *record);

static bool
each_record(struct blob in, record_fn *fn, void *ctx, struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    for (size_t at = 0, count = 0; at < in.len; count++) {
        const uint8_t *head = in.data + at;
        size_t size = in.len - at < 2 ? SIZE_MAX : (size_t)(head[0] << 8 | head[1]);
        struct link_flow r;
        if (size > in.len - at - 2 || count == CONNTRACK_FLOWS_MAX) {
            return err_set(err, ERR_CORRUPT, "cut off, or too many, after %zu", count);
        }
        arena_reset(arena);
        if (!tlv_decode(&link_flow_desc, head + 2, size, arena, &r, err)) {
            return false;
        }
        if (!fn(ctx, &r)) {
            return err_set(err, ERR_INVALID, "number %zu cannot be", count);
        }
        at += 2 + size;
    }
    return true;
}

static bool
note_known(void *ctx, const struct link_flow *record)
{
    struct map *known = ctx;
    AUTO(free) char *text = standing(record);
    map_put(known, text, known);
    return true;
}

bool
conntrack_export(struct net *net, const char *port_id, struct blob known,
                 struct buf *out, struct conntrack_count *out_count, struct err *err)
{
    AUTO(map) struct map *told = map_create(NULL);
    struct view v;
    size_t put = 0;
    if (!each_record(known, note_known, told, err) ||
        !view_open(&v, net, port_id, err)) {
        return false;
    }
    bool ok = flows_each(v.port->subnet->network->ns_fd, take_own, &v, err) &&
              put_all(&v, told, out, &put, err);
    if (ok) {
        *out_count = (struct conntrack_count){put, v.left};
    }
    view_close(&v);
    return ok || err_wrap(err, "connections of port %s", port_id);
}

/* ---- import ---------------------------------------------------------------------------
 */

static bool
read_ip(const struct blob *b, struct in6_addr *out)
{
    if (b->len == 4) {
        uint32_t be;
        memcpy(&be, b->data, sizeof be);
        *out = flow_ipv4(ntohl(be));
        return true;
    }
    if (b->len == sizeof *out) {
        memcpy(out, b->data, sizeof *out);
    }
    return b->len == sizeof *out && !IN6_IS_ADDR_V4MAPPED(out);
}

/* An end, and whether it is of the flow's family. */
static bool
read_end(const struct flow *f, const struct blob *ip, int64_t port,
         struct flow_end *out)
{
    out->port = (uint16_t)port;
    return port >= 0 && port <= UINT16_MAX && read_ip(ip, &out->ip) &&
           !IN6_IS_ADDR_V4MAPPED(&out->ip) == f->is6;
}

static bool
read_ends(const struct link_flow *r, struct flow *f)
{
    f->is6 = r->from.len == sizeof(struct in6_addr);
    if (!read_end(f, &r->from, r->from_port, &f->from) ||
        !read_end(f, &r->to, r->to_port, &f->to)) {
        return false;
    }
    f->back_from = f->to;
    f->back_to = f->from;
    return (r->back_from.len == 0 ||
            read_end(f, &r->back_from, r->back_from_port, &f->back_from)) &&
           (r->back_to.len == 0 ||
            read_end(f, &r->back_to, r->back_to_port, &f->back_to));
}

static bool
bytes_ok(const struct link_flow *r)
{
    const int64_t bytes[] = {r->protocol,  r->flags,     r->back_flags,
                             r->icmp_type, r->icmp_code, r->state};
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        if (bytes[i] < 0 || bytes[i] > UINT8_MAX) {
            return false;
        }
    }
    return r->icmp_id >= 0 && r->icmp_id <= UINT16_MAX && r->tag >= 0 &&
           r->tag <= UINT32_MAX && r->back_tag >= 0 && r->back_tag <= UINT32_MAX &&
           r->scale >= 0 && r->scale <= TCP_SCALE_MAX && r->back_scale >= 0 &&
           r->back_scale <= TCP_SCALE_MAX && r->timeout_s >= 0;
}

static bool
state_ok(const struct flow *f)
{
    return f->protocol == IPPROTO_TCP    ? f->state > 0 && f->state < FLOWS_TCP_STATES
           : f->protocol == IPPROTO_SCTP ? f->state > 0 && f->state < FLOWS_SCTP_STATES
                                         : true;
}

static uint32_t
timeout_of(const struct link_flow *r)
{
    bool states = r->protocol == IPPROTO_TCP || r->protocol == IPPROTO_SCTP;
    return (uint32_t)MIN(r->timeout_s, states ? TIMEOUT_MAX_S : SHORT_MAX_S);
}

/* False: no export writes such a thing. */
static bool
read_record(const struct link_flow *r, struct flow *f)
{
    *f = (struct flow){0};
    if (!bytes_ok(r) || !read_ends(r, f)) {
        return false;
    }
    f->protocol = (uint8_t)r->protocol;
    f->timeout_s = timeout_of(r);
    f->answered = r->answered;
    f->assured = r->assured;
    f->state = (uint8_t)r->state;
    f->tcp_flags[0] = (uint8_t)r->flags;
    f->tcp_flags[1] = (uint8_t)r->back_flags;
    f->tcp_scales[0] = (uint8_t)r->scale;
    f->tcp_scales[1] = (uint8_t)r->back_scale;
    f->sctp_tags[0] = (uint32_t)r->tag;
    f->sctp_tags[1] = (uint32_t)r->back_tag;
    f->icmp_id = (uint16_t)r->icmp_id;
    f->icmp_type = (uint8_t)r->icmp_type;
    f->icmp_code = (uint8_t)r->icmp_code;
    return flow_protocol_ok(f->protocol, f->is6) && state_ok(f);
}

#define FLOW_KEY_LEN 80

/* Of who calls whom: two connections of one kernel differ in it. */
static void
flow_key(const struct flow *f, char out[FLOW_KEY_LEN])
{
    uint8_t bytes[39] = {f->protocol,           (uint8_t)(f->from.port >> 8),
                         (uint8_t)f->from.port, (uint8_t)(f->to.port >> 8),
                         (uint8_t)f->to.port,   (uint8_t)(f->icmp_id >> 8),
                         (uint8_t)f->icmp_id};
    memcpy(bytes + 7, &f->from.ip, sizeof f->from.ip);
    memcpy(bytes + 23, &f->to.ip, sizeof f->to.ip);
    hex_encode(bytes, sizeof bytes, out);
}

/* What is the port's own is 'found'; 'passed' says which of those it had let through. */
struct taking {
    struct view *v;
    struct map *passed;
};

static bool
take_record(void *ctx, const struct link_flow *r)
{
    struct view *v = ((struct taking *)ctx)->v;
    struct map *passed = ((struct taking *)ctx)->passed;
    struct flow f;
    char key[FLOW_KEY_LEN];
    if (!read_record(r, &f)) {
        return false;
    }
    if (!is_own(v, &f, false)) {
        v->left++;
        return true;
    }
    if (r->passed) {
        flow_key(&f, key);
        map_put(passed, key, passed);
    }
    VEC_PUSH(&v->found, f);
    return true;
}

struct pass {
    const struct port *port;
    const struct map *passed;
    VEC(struct elem) hops;
};

static void
note_passed(void *ctx, const struct flow *f)
{
    struct pass *p = ctx;
    char key[FLOW_KEY_LEN];
    flow_key(f, key);
    if (map_get(p->passed, key)) {
        struct elem e = hop_of(p->port, f);
        VEC_PUSH(&p->hops, e);
    }
}

/* The kernel has given them numbers of its own. */
static bool
restore_hops(const struct port *port, const struct map *passed, struct err *err)
{
    struct pass p = {.port = port, .passed = passed};
    struct network *network = port->subnet->network;
    if (!port->borrow || map_count(passed) == 0) {
        return true;
    }
    bool ok = flows_each(network->ns_fd, note_passed, &p, err) &&
              elems_add(network->elems, p.hops.items, p.hops.count, err);
    VEC_FREE(&p.hops);
    return ok;
}

bool
conntrack_import(struct net *net, const char *port_id, const void *data, size_t len,
                 struct conntrack_count *out_count, struct err *err)
{
    AUTO(map) struct map *passed = map_create(NULL);
    struct view v;
    size_t left = 0;
    if (!view_open(&v, net, port_id, err)) {
        return false;
    }
    struct taking taking = {&v, passed};
    /* All, before any is put there. */
    bool ok = each_record((struct blob){data, len}, take_record, &taking, err) &&
              flows_put(v.port->subnet->network->ns_fd, v.found.items, v.found.count,
                        &left, err) &&
              restore_hops(v.port, passed, err);
    if (ok) {
        *out_count = (struct conntrack_count){v.found.count - left, v.left + left};
    }
    view_close(&v);
    return ok || err_wrap(err, "connections of port %s", port_id);
}
