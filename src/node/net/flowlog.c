/* flowlog.c - which interfaces are logged, and what was counted of them: see flowlog.h. */
#include "node/net/flowlog.h"
#include "base/crypto.h"
#include "base/log.h"
#include "link/link.h"
#include "node/net/netns.h"
#include "node/net/rules.h"
#include <linux/netfilter.h>

#define KEEP_NS (INT64_C(190) * NS_PER_S) /* Of the sets: see flowlog_text.c. */
#define BATCH_FLOWS 500
#define LOGS_MAX 64 /* Of one network. */

static const int64_t intervals_ns[] = {60 * NS_PER_S, 600 * NS_PER_S};
#define INTERVALS 2

struct record {
    char id[48], resource_id[48];
    bool accepted, refused;
    int interval; /* Index. */
};

/* What was new in the interval so far. */
struct sum {
    uint64_t packets, bytes;
    int64_t first_ns, last_ns; /* Real time. */
};

struct tally {
    enum flow_way way;
    struct flow_key key;
    char port_id[48], subnet_id[48];
    uint64_t packets, bytes; /* As read last. */
    struct sum sums[INTERVALS];
    bool seen;
};

struct flowlog {
    struct map *records, *tallies;
    bool applied,
        based; /* Rules are there; and what they had counted before is known. */
    int64_t read_ns, started_ns[INTERVALS];
    uint64_t lost, lost_sums[INTERVALS];
};

static struct flowlog *
flowlog_create(void)
{
    struct flowlog *log = xcalloc(1, sizeof *log);
    log->records = map_create(free);
    log->tallies = map_create(free);
    return log;
}

void
flowlog_close(struct flowlog *log)
{
    if (log) {
        map_destroy(log->records);
        map_destroy(log->tallies);
        free(log);
    }
}

/* ---- who is logged --------------------------------------------------------------------
 */

static bool
covers(const struct record *r, const char *network_id, const char *subnet_id,
       const char *port_id)
{
    return str_eq(r->resource_id, network_id) || str_eq(r->resource_id, subnet_id) ||
           str_eq(r->resource_id, port_id);
}

static bool
port_logged(const struct network *network, const struct port *port)
{
    const char *id;
    void *value;
    for (size_t it = 0;
         network->flowlog && map_next(network->flowlog->records, &it, &id, &value);) {
        if (covers(value, network->id, port->subnet->id, port->info.id)) {
            return true;
        }
    }
    return false;
}

static struct elem
logged_elem(const struct port *port)
{
    struct elem e = elem_in(NFPROTO_INET, FLOW_LOGGED);
    elem_key_mark(&e, port->number);
    return e;
}

void
flowlog_each_elem(const struct net *net, const struct network *network,
                  policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (port->subnet->network == network && port_logged(network, port)) {
            struct elem e = logged_elem(port);
            fn(ctx, &e);
        }
    }
}

/* ---- reading --------------------------------------------------------------------------
 */

struct reading {
    const struct network *network;
    struct flowlog *log;
    enum flow_way way;
    int set;   /* Of flow_sets. */
    bool base; /* Only to know what was there. */
    int64_t now_ns;
};

static struct tally *
tally_of(const struct reading *r, const struct elem *e)
{
    char key[2 * ELEM_KEY_MAX + 4], number[16];
    struct flow_key parts;
    (void)snprintf(key, sizeof key, "%d%d", (int)r->way, r->set);
    hex_encode(e->key, e->key_len, key + 2);
    struct tally *t = map_get(r->log->tallies, key);
    if (t || !flow_key_read(e, &flow_sets[r->set], &parts)) {
        return t;
    }
    (void)snprintf(number, sizeof number, "%08x", parts.mark & ~RULES_LENT);
    const struct port *port = map_get(r->network->numbers, number);
    if (!port) {
        return NULL; /* It has gone, and nobody asks any more. */
    }
    t = xcalloc(1, sizeof *t);
    t->way = r->way;
    t->key = parts;
    (void)snprintf(t->port_id, sizeof t->port_id, "%.47s", port->info.id);
    (void)snprintf(t->subnet_id, sizeof t->subnet_id, "%.47s", port->subnet->id);
    map_put(r->log->tallies, key, t);
    return t;
}

/* The kernel tells when it came last; when first, only for one alone. */
static void
sum_add(struct sum *s, uint64_t packets, uint64_t bytes, int64_t since_ns,
        int64_t last_ns)
{
    if (s->packets == 0) {
        s->first_ns = packets == 1 ? last_ns : MIN(since_ns, last_ns);
    }
    s->packets += packets;
    s->bytes += bytes;
    s->last_ns = last_ns;
}

static void
take(void *ctx, const struct elem *e, const struct elem_count *count)
{
    struct reading *r = ctx;
    struct tally *t = tally_of(r, e);
    if (!t) {
        return;
    }
    /* Fewer than before: it went silent, was forgotten, and has come anew. */
    bool anew = count->packets < t->packets;
    uint64_t packets = count->packets - (anew ? 0 : t->packets);
    uint64_t bytes = count->bytes - (anew ? 0 : t->bytes);
    int64_t left_ns = (int64_t)count->left_ms * NS_PER_MS;
    int64_t last_ns = MIN(r->now_ns - MAX(KEEP_NS - left_ns, 0), r->now_ns);
    t->packets = count->packets;
    t->bytes = count->bytes;
    t->seen = true;
    for (int i = 0; packets > 0 && !r->base && i < INTERVALS; i++) {
        sum_add(&t->sums[i], packets, bytes, r->log->read_ns, last_ns);
    }
}

static void
forget_silent(struct flowlog *log)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(log->tallies, &it, &key, &value);) {
        struct tally *t = value;
        bool idle = true;
        for (int i = 0; i < INTERVALS; i++) {
            idle &= t->sums[i].packets == 0;
        }
        if (!t->seen && idle) {
            map_del(log->tallies, key);
        } else if (!t->seen) {
            t->packets = t->bytes = 0;
        }
    }
}

static bool
flowlog_read(struct network *network, bool base, int64_t now_ns, struct err *err)
{
    struct flowlog *log = network->flowlog;
    struct reading r = {.network = network, .log = log, .base = base, .now_ns = now_ns};
    const char *key;
    void *value;
    uint64_t lost = 0;
    for (size_t it = 0; map_next(log->tallies, &it, &key, &value);) {
        ((struct tally *)value)->seen = false;
    }
    for (int w = 0; w < FLOW_WAYS; w++) {
        for (int i = 0; i < FLOW_SETS; i++) {
            struct elem like = elem_in(NFPROTO_INET, "");
            r.way = (enum flow_way)w;
            r.set = i;
            flow_set_name(r.way, &flow_sets[i], like.set);
            if (!elems_counted(network->elems, &like, take, &r, err)) {
                return false;
            }
        }
    }
    if (!elems_counter(network->elems, FLOW_LOST, &lost, err)) {
        return false;
    }
    for (int i = 0; !base && i < INTERVALS; i++) {
        log->lost_sums[i] += lost >= log->lost ? lost - log->lost : lost;
    }
    log->lost = lost;
    log->read_ns = now_ns;
    forget_silent(log);
    return true;
}

/* ---- telling --------------------------------------------------------------------------
 */

struct telling {
    struct net *net;
    struct network *network;
    const struct record *record;
    struct link_flow_batch batch;
    struct link_flow_seen flows[BATCH_FLOWS];
    struct map *told; /* Interfaces that had something. */
    net_flows_fn *fn;
    void *ctx;
};

static void
tell(struct telling *t)
{
    t->batch.flows.items = t->flows;
    if (t->batch.flows.count > 0) {
        t->fn(t->ctx, &t->batch);
        t->batch.part++;
    }
    t->batch.flows.count = 0;
}

static struct link_flow_seen *
next_flow(struct telling *t)
{
    if (t->batch.flows.count == BATCH_FLOWS) {
        tell(t);
    }
    struct link_flow_seen *f = &t->flows[t->batch.flows.count++];
    *f = (struct link_flow_seen){.start = t->batch.start, .end = t->batch.end};
    return f;
}

/* What an ACL refused had been counted as let out before. */
static struct sum
sum_of(const struct flowlog *log, const char *key, const struct tally *t, int interval)
{
    struct sum sum = t->sums[interval];
    if (t->way == FLOW_OUT) {
        char acl[2 * ELEM_KEY_MAX + 4];
        (void)snprintf(acl, sizeof acl, "%d%s", (int)FLOW_ACL, key + 1);
        const struct tally *refused = map_get(log->tallies, acl);
        if (refused) {
            const struct sum *less = &refused->sums[interval];
            sum.packets -= MIN(sum.packets, less->packets);
            sum.bytes -= MIN(sum.bytes, less->bytes);
        }
    }
    return sum;
}

static void
tell_tally(struct telling *t, const char *key, const struct tally *tally)
{
    bool refused = tally->way != FLOW_OUT && tally->way != FLOW_IN;
    struct sum sum = sum_of(t->network->flowlog, key, tally, t->record->interval);
    size_t ip = tally->key.is6 ? sizeof tally->key.from : sizeof(uint32_t);
    if (sum.packets == 0 || (refused ? !t->record->refused : !t->record->accepted) ||
        !covers(t->record, t->network->id, tally->subnet_id, tally->port_id)) {
        return;
    }
    map_put(t->told, tally->port_id, t->told);
    struct link_flow_seen *f = next_flow(t);
    f->port_id = tally->port_id;
    f->from = (struct blob){tally->key.from.s6_addr, ip};
    f->to = (struct blob){tally->key.to.s6_addr, ip};
    f->from_port = tally->key.from_port;
    f->to_port = tally->key.to_port;
    f->protocol = tally->key.protocol;
    f->packets = (int64_t)sum.packets;
    f->bytes = (int64_t)sum.bytes;
    f->start = sum.first_ns;
    f->end = sum.last_ns;
    f->egress = tally->way == FLOW_OUT || tally->way == FLOW_OUT_REFUSED ||
                tally->way == FLOW_ACL;
    f->refused = refused;
}

/* Of each interface that had nothing, that; and of each, where something was lost. */
static void
tell_rest(struct telling *t)
{
    bool lost = t->network->flowlog->lost_sums[t->record->interval] > 0;
    const char *id;
    void *value;
    for (size_t it = 0; map_next(t->net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (port->subnet->network != t->network ||
            !covers(t->record, t->network->id, port->subnet->id, id)) {
            continue;
        }
        if (lost || !map_get(t->told, id)) {
            struct link_flow_seen *f = next_flow(t);
            f->port_id = id;
            f->status = lost ? "skipdata" : "nodata";
        }
    }
}

static void
tell_record(struct telling *t)
{
    AUTO(map) struct map *told = map_create(NULL);
    struct flowlog *log = t->network->flowlog;
    const char *key;
    void *value;
    t->told = told;
    t->batch.log_id = t->record->id;
    t->batch.start = log->started_ns[t->record->interval];
    t->batch.end = log->read_ns;
    for (size_t it = 0; map_next(log->tallies, &it, &key, &value);) {
        tell_tally(t, key, value);
    }
    tell_rest(t);
    tell(t);
}

/* Its logs with this interval; then it begins anew. */
static void
tell_interval(struct net *net, struct network *network, int interval, net_flows_fn *fn,
              void *ctx)
{
    struct flowlog *log = network->flowlog;
    AUTO(free) struct telling *t = xcalloc(1, sizeof *t);
    const char *id;
    void *value;
    for (size_t it = 0; map_next(log->records, &it, &id, &value);) {
        const struct record *record = value;
        if (record->interval == interval) {
            *t = (struct telling){
                .net = net, .network = network, .record = record, .fn = fn, .ctx = ctx};
            tell_record(t);
        }
    }
    for (size_t it = 0; map_next(log->tallies, &it, &id, &value);) {
        ((struct tally *)value)->sums[interval] = (struct sum){0};
    }
    log->lost_sums[interval] = 0;
    log->started_ns[interval] = log->read_ns;
}

static bool
due(const struct flowlog *log, int interval, int64_t now_ns)
{
    return now_ns / intervals_ns[interval] !=
           log->started_ns[interval] / intervals_ns[interval];
}

static void
network_flows(struct net *net, struct network *network, int64_t now_ns,
              net_flows_fn *fn, void *ctx)
{
    struct flowlog *log = network->flowlog;
    struct err err = {0};
    if (!log || !log->based ||
        now_ns / intervals_ns[0] == log->read_ns / intervals_ns[0]) {
        return;
    }
    if (!flowlog_read(network, false, now_ns, &err)) {
        log_warn("network %s: flows: %s", network->id, err.msg);
        log->read_ns = now_ns; /* Again in a minute. */
        return;
    }
    for (int i = 0; i < INTERVALS; i++) {
        if (due(log, i, now_ns)) {
            tell_interval(net, network, i, fn, ctx);
        }
    }
}

int64_t
net_flows(struct net *net, int64_t now_ns, net_flows_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    bool any = false;
    for (size_t it = 0; map_next(net->networks, &it, &id, &value);) {
        any |= ((struct network *)value)->flowlog != NULL;
        network_flows(net, value, now_ns, fn, ctx);
    }
    return any ? intervals_ns[0] - now_ns % intervals_ns[0] : INT64_MAX;
}

/* ---- wants ----------------------------------------------------------------------------
 */

static bool
apply_here(void *ctx, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    flow_rules_text(&text);
    return rules_run(buf_str(&text), err);
}

static bool
remove_here(void *ctx, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    flow_no_rules_text(&text);
    return rules_run(buf_str(&text), err);
}

/* Every port's place in the set of those that are counted. */
static bool
sync_ports(struct net *net, struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (port->subnet->network == network && !flowlog_port(net, port, false, err)) {
            return false;
        }
    }
    return true;
}

void
flowlog_distrust(struct network *network)
{
    if (network->flowlog) {
        network->flowlog->applied = false;
    }
}

bool
flowlog_apply(struct net *net, struct network *network, struct err *err)
{
    struct flowlog *log = network->flowlog;
    if (!log || log->applied) {
        return true;
    }
    if (!netns_run(network->ns_fd, apply_here, NULL, err)) {
        return false;
    }
    log->applied = true;
    network->listed_revision = 0; /* Its rules read otherwise now. */
    int64_t now_ns = clock_real(net->config.clock);
    if (!log->based && !flowlog_read(network, true, now_ns, err)) {
        log->applied = false;
        return false;
    }
    for (int i = 0; !log->based && i < INTERVALS; i++) {
        log->started_ns[i] = now_ns;
    }
    log->based = true;
    return sync_ports(net, network, err);
}

static bool
record_read(const struct link_flow_log *want, struct record *r, struct err *err)
{
    bool all = str_eq(want->traffic, "ALL") || str_empty(want->traffic);
    r->accepted = all || str_eq(want->traffic, "ACCEPT");
    r->refused = all || str_eq(want->traffic, "REJECT");
    r->interval = want->interval_s == 60 ? 0 : 1;
    if (!addr_id_ok(want->id) || strlen(want->id) >= sizeof r->id ||
        !addr_id_ok(want->resource_id) ||
        strlen(want->resource_id) >= sizeof r->resource_id ||
        (!r->accepted && !r->refused) ||
        (want->interval_s != 60 && want->interval_s != 600)) {
        return err_set(err, ERR_INVALID, "flow log: bad id, traffic or interval");
    }
    (void)snprintf(r->id, sizeof r->id, "%s", want->id);
    (void)snprintf(r->resource_id, sizeof r->resource_id, "%s", want->resource_id);
    return true;
}

bool
flowlog_want(struct net *net, const void *record, struct err *err)
{
    const struct link_flow_log *want = record;
    struct network *network =
        want->network_id ? map_get(net->networks, want->network_id) : NULL;
    struct record r = {0};
    if (!network) {
        return err_set(err, ERR_NOT_FOUND, "flow log %s: its network is not here",
                       want->id);
    }
    if (!record_read(want, &r, err)) {
        return false;
    }
    if (network->flowlog && !map_get(network->flowlog->records, r.id) &&
        map_count(network->flowlog->records) >= LOGS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "flow log %s: its network has too many",
                       r.id);
    }
    if (!network->flowlog) {
        network->flowlog = flowlog_create();
    }
    struct record *kept = xmalloc(sizeof *kept);
    *kept = r;
    map_put(network->flowlog->records, r.id, kept);
    return (flowlog_apply(net, network, err) && sync_ports(net, network, err)) ||
           err_wrap(err, "flow log %s", r.id);
}

bool
flowlog_drop(struct net *net, int kind, const char *id, struct err *err)
{
    const char *network_id;
    void *value;
    for (size_t it = 0; map_next(net->networks, &it, &network_id, &value);) {
        struct network *network = value;
        struct flowlog *log = network->flowlog;
        if (!log || !map_get(log->records, id)) {
            continue;
        }
        map_del(log->records, id);
        if (!sync_ports(net, network, err)) {
            return err_wrap(err, "flow log %s", id);
        }
        if (map_count(log->records) == 0) {
            if (!netns_run(network->ns_fd, remove_here, NULL, err)) {
                return err_wrap(err, "flow log %s", id);
            }
            network->listed_revision = 0;
            network->flowlog = NULL;
            flowlog_close(log);
        }
    }
    return true;
}

bool
flowlog_port(struct net *net, const struct port *port, bool gone, struct err *err)
{
    struct network *network = port->subnet->network;
    struct elem e = logged_elem(port);
    if (!network->flowlog || !network->flowlog->applied) {
        return true;
    }
    if (gone && port_logged(network, port) &&
        !flowlog_read(network, false, clock_real(net->config.clock), err)) {
        return false; /* What it did since the last time would be nobody's. */
    }
    return !gone && port_logged(network, port) ? elems_add(network->elems, &e, 1, err)
                                               : elems_del(network->elems, &e, 1, err);
}
