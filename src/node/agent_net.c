#include "node/agent_impl.h"

#define RETRY_MIN_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS (30 * NS_PER_S)
#define CHECK_EACH_NS (30 * NS_PER_S)

/* What a record stands on comes before it; it goes after. */
static const enum link_kind order[] = {
    LINK_UNDERLAY, LINK_UPLINK,      LINK_DHCP_OPTIONS, LINK_NETWORK,
    LINK_NAME,     LINK_PREFIX_LIST, LINK_GROUP,        LINK_GROUP_MEMBER,
    LINK_ACL,      LINK_ROUTE_TABLE, LINK_SUBNET,       LINK_NAT_GATEWAY,
    LINK_PEERING,  LINK_NEIGHBOUR,   LINK_FLOW_LOG,     LINK_ENDPOINT,
    LINK_PUBLIC,   LINK_PORT,        LINK_METADATA,
};

/* One pass over the records that net/ and metadata/ carry out at once. */
struct net_pass {
    struct agent *agent;
    int64_t now_ns, *wake_ns;
};

static struct net_item *
item_of(struct agent *a, const struct want *want)
{
    struct net_item *item = map_get(a->net_items[want->kind], want->id);
    if (!item) {
        item = xcalloc(1, sizeof *item);
        map_put(a->net_items[want->kind], want->id, item);
    }
    return item;
}

static bool
make(struct agent *a, const struct want *want, struct err *err)
{
    switch (want->kind) {
    case LINK_NETWORK:
        return net_want_network(a->net, want->record, err);
    case LINK_SUBNET:
        return net_want_subnet(a->net, want->record, err);
    case LINK_PORT:
        return net_want_port(a->net, want->record, err);
    case LINK_METADATA:
        return metadata_want(a->metadata, want->record, err);
    case LINK_ENDPOINT:
        return net_want(a->net, want->kind, want->record, err) &&
               endpoints_want(a->endpoints, want->record, err);
    case LINK_UNDERLAY:
        return agent_underlay_allows(a, want->record, err) &&
               net_want(a->net, want->kind, want->record, err);
    default:
        return net_want(a->net, want->kind, want->record, err);
    }
}

static bool
drop(struct agent *a, enum link_kind kind, const char *id, struct err *err)
{
    switch (kind) {
    case LINK_NETWORK:
        return net_drop_network(a->net, id, err);
    case LINK_SUBNET:
        return net_drop_subnet(a->net, id, err);
    case LINK_PORT:
        if (machines_use_port(a->machines, id)) {
            return err_set(err, ERR_BUSY, "a machine has it still");
        }
        return net_drop_port(a->net, id, err);
    case LINK_METADATA:
        metadata_drop(a->metadata, id);
        return true;
    case LINK_ENDPOINT:
        endpoints_drop(a->endpoints, id);
        return net_drop(a->net, kind, id, err);
    default:
        return net_drop(a->net, kind, id, err);
    }
}

static void
note(struct net_pass *p, const struct want *want, struct net_item *item, bool ok,
     const struct err *err)
{
    item->ok = ok;
    item->revision = ok ? want->revision : 0;
    item->message[0] = '\0';
    item->pause_ns = ok ? 0 : MIN(MAX(item->pause_ns * 2, RETRY_MIN_NS), RETRY_MAX_NS);
    item->retry_at_ns = p->now_ns + item->pause_ns;
    if (!ok) {
        *p->wake_ns = MIN(*p->wake_ns, item->retry_at_ns);
        snprintf(item->message, sizeof item->message, "%.199s", err->msg);
        if (err->code != ERR_NOT_FOUND && err->code != ERR_BUSY) {
            log_warn("%s: %s", want->id, err->msg);
        }
    }
}

static void
make_item(void *ctx, const struct want *want)
{
    struct net_pass *p = ctx;
    struct err err = {0};
    if (want->deleted || !want->record) {
        return;
    }
    struct net_item *item = item_of(p->agent, want);
    if (item->revision == want->revision) {
        return;
    }
    if (p->now_ns < item->retry_at_ns) {
        *p->wake_ns = MIN(*p->wake_ns, item->retry_at_ns);
        return;
    }
    bool ok = make(p->agent, want, &err);
    note(p, want, item, ok, &err);
}

static void
drop_item(void *ctx, const struct want *want)
{
    struct net_pass *p = ctx;
    struct err err = {0};
    if (!want->deleted) {
        return;
    }
    struct net_item *item = item_of(p->agent, want);
    if (item->revision == want->revision) {
        return;
    }
    bool ok = drop(p->agent, want->kind, want->id, &err);
    note(p, want, item, ok, &err);
}

/* What a snapshot no longer named: it goes as if deleted, unreported. */
static void
drop_gone(struct net_pass *p, enum link_kind kind)
{
    struct agent *a = p->agent;
    const char *id;
    void *value;
    for (size_t it = 0; map_next(a->net_gone[kind], &it, &id, &value);) {
        struct err err = {0};
        if (wants_get(a->wants, kind, id) || drop(a, kind, id, &err)) {
            map_del(a->net_gone[kind], id);
        } else {
            *p->wake_ns = MIN(*p->wake_ns, p->now_ns + NS_PER_S);
        }
    }
}

/* What the pass noted is written. Until it could be, no port is ready: its tap would be
 * refused. */
static void
release(struct net_pass *p)
{
    struct err err = {0};
    if (!net_release(p->agent->net, &err)) {
        log_error("network: %s", err.msg);
        *p->wake_ns = MIN(*p->wake_ns, p->now_ns + RETRY_MIN_NS);
    }
}

/* What the pass let go of takes its connections along, before that is reported. */
static void
settle(struct net_pass *p)
{
    struct err err = {0};
    if (!net_settle(p->agent->net, &err)) {
        log_error("network: %s", err.msg);
        *p->wake_ns = MIN(*p->wake_ns, p->now_ns + RETRY_MIN_NS);
    }
}

/* What stands in the kernel is compared with what is wanted now and then. */
static void
check(struct agent *a, int64_t now_ns, int64_t *wake_ns)
{
    struct err err = {0};
    size_t drift = 0;
    if (now_ns >= a->net_check_ns) {
        a->net_check_ns = now_ns + CHECK_EACH_NS;
        if (!net_check(a->net, &drift, &err)) {
            log_error("network: %s", err.msg);
        }
        if (drift > 0) {
            log_warn("network: %zu things in the kernel were not as wanted", drift);
        }
    }
    *wake_ns = MIN(*wake_ns, a->net_check_ns);
}

/* Behind so many unread reports a batch is lost, and that is logged: a control plane that is
 * away for long shall not fill the host's memory. */
#define FLOWS_WAITING_MAX 512

static void
tell_flows(void *ctx, const struct link_flow_batch *batch)
{
    struct agent *a = ctx;
    char id[96];
    struct link_flow_batch told = *batch;
    (void)snprintf(id, sizeof id, "%s/%" PRId64 "/%" PRId64, batch->log_id,
                   batch->end / NS_PER_S, batch->part);
    told.id = id;
    if (!a->link || link_client_reports_waiting(a->link) > FLOWS_WAITING_MAX ||
        !link_client_report(a->link, LINK_FLOWS, 0, &told)) {
        log_warn("%s: %zu records are lost: too much waits to be told", batch->log_id,
                 batch->flows.count);
    }
}

/* Once a minute of the real time. */
static void
flows(struct agent *a, int64_t now_ns, int64_t *wake_ns)
{
    int64_t next_ns = net_flows(a->net, clock_real(a->config.clock), tell_flows, a);
    if (next_ns < INT64_MAX) {
        *wake_ns = MIN(*wake_ns, now_ns + next_ns);
    }
}

void
agent_net_pass(struct agent *a, int64_t now_ns, int64_t *wake_ns)
{
    struct net_pass p = {a, now_ns, wake_ns};
    net_hold(a->net);
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        wants_each(a->wants, order[i], make_item, &p);
    }
    release(&p);
    check(a, now_ns, wake_ns);
    flows(a, now_ns, wake_ns);
    for (size_t i = ARRAY_LEN(order); i-- > 0;) {
        wants_each(a->wants, order[i], drop_item, &p);
        drop_gone(&p, order[i]);
    }
    settle(&p);
    lease_tell_net(a);
}

struct unsettled {
    const struct agent *agent;
    bool found;
};

static void
look_settled(void *ctx, const struct want *want)
{
    struct unsettled *u = ctx;
    const struct net_item *item = map_get(u->agent->net_items[want->kind], want->id);
    if (!want->deleted && want->record && !(item && item->ok)) {
        u->found = true;
    }
}

bool
agent_net_settled(const struct agent *a)
{
    struct unsettled u = {.agent = a};
    wants_each(a->wants, LINK_NETWORK, look_settled, &u);
    wants_each(a->wants, LINK_SUBNET, look_settled, &u);
    wants_each(a->wants, LINK_PORT, look_settled, &u);
    return !u.found;
}

bool
agent_port_ready(const struct agent *a, const char *port_id)
{
    const struct want *want = wants_get(a->wants, LINK_PORT, port_id);
    const struct net_item *item =
        want ? map_get(a->net_items[LINK_PORT], port_id) : NULL;
    return item && item->ok && !want->deleted;
}

/* ---- what is seen ---------------------------------------------------------------------- */

struct net_seeing {
    struct agent *agent;
    struct arena *arena;
};

/* Every kind has a field of that name. */
static int64_t
generation_of(const struct want *want)
{
    const struct desc_field *f = desc_find(link_want_desc(want->kind), "generation");
    return f ? *(const int64_t *)desc_at(f, want->record) : 0;
}

static void
see_item(void *ctx, const struct want *want)
{
    struct net_seeing *s = ctx;
    struct agent *a = s->agent;
    const struct net_item *item = map_get(a->net_items[want->kind], want->id);
    bool done = item && item->revision == want->revision;
    bool absent = want->deleted && done;
    const char *state = absent ? "absent" : done ? "ready" : "error";
    int64_t generation = 0;
    if (!item || (!done && item->message[0] == '\0')) {
        return; /* Not tried yet. */
    }
    if (want->kind == LINK_PORT || want->kind == LINK_METADATA) {
        if (want->record) {
            generation = generation_of(want);
        }
        struct link_port_seen seen = {.id = want->id,
                                      .generation = generation,
                                      .state = state,
                                      .message = item->message};
        agent_report(a, want->kind, want->id, absent, &seen);
        return;
    }
    if (want->record) {
        generation = generation_of(want);
    }
    struct link_network_seen seen = {.id = want->id,
                                     .generation = generation,
                                     .state = state,
                                     .message = item->message};
    if (want->kind == LINK_UPLINK && done && !absent) {
        seen.functions = net_uplink_functions(a->net, want->id);
    }
    agent_report(a, want->kind, want->id, absent, &seen);
}

void
agent_net_seen(struct agent *a, struct arena *arena)
{
    struct net_seeing s = {a, arena};
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        wants_each(a->wants, order[i], see_item, &s);
    }
}
