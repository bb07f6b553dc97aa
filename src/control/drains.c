/* drains.c - see drains.h. */
#include "control/drains.h"

#include "base/log.h"
#include "control/reports.h"
#include "core/instance_events.h"
#include "core/migration_rows.h"

#define PAUSE_NS (60 * NS_PER_S)

/* The machines of a node, and what of them is on its way. */
struct drain {
    const struct pass *pass;
    const struct row_node *node;
    struct row_list machines;
    size_t under_way;
};

static bool
load(struct drain *d, const char *id, struct err *err)
{
    const struct row_node key = {.id = id};
    if (!row_get(d->pass->txn, &row_node_type, &key, (const void **)&d->node, err) ||
        !instances_on(d->pass->txn, id, &d->machines, err)) {
        return false;
    }
    for (size_t i = 0; i < d->machines.count; i++) {
        const struct row_instance *inst = d->machines.rows[i];
        d->under_way += !str_empty(inst->migration_id);
    }
    return true;
}

/* Whether its last migration failed just now. */
static bool
rests(const struct drain *d, const struct row_instance *inst, bool *out,
      struct err *err)
{
    const struct row_migration prefix = {.account = inst->account,
                                         .instance_id = inst->id};
    const struct row_query query = {
        .index = "by_instance", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(d->pass->txn, &row_migration_type, &query, &list, err)) {
        return false;
    }
    *out = false;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_migration *m = list.rows[i];
        *out = *out ||
               (str_eq(m->state, "failed") && d->pass->now_ns < m->ended_at + PAUSE_NS);
    }
    return true;
}

/* Where to, and off: migration_waits() says which failures may pass. */
static bool
begin(struct drain *d, const struct row_instance *inst, struct err *err)
{
    const struct pass *pass = d->pass;
    size_t most = MIN(migrations_at_once(pass->config), d->machines.count);
    struct migration_ask ask = {.reason = "drain",
                                .bandwidth_bps = pass->config->migration_bps,
                                .may_follow = true,
                                .at_once = most > 1 ? (int64_t)most : 0};
    const struct row_migration *m;
    return migration_choose_for(pass->txn, pass->pool, pass->config, inst, &ask, err) &&
           migration_begin(pass->txn, inst, &ask, pass->rng, pass->now_ns, &m, err);
}

/* Nowhere to go, or not now, is told and tried again; any other failure ends the pass. */
static bool
move(struct drain *d, const struct row_instance *inst, struct err *err)
{
    const struct pass *pass = d->pass;
    struct err why = {0};
    bool resting;
    if (!rests(d, inst, &resting, err)) {
        return false;
    }
    if (resting || !migration_may_begin(pass->txn, inst, &why)) {
        return true;
    }
    if (!begin(d, inst, &why)) {
        const struct link_event event = {
            .kind = "drain", .object = inst->id, .level = "warn", .message = why.msg};
        return migration_waits(&why)
                   ? event_hourly(pass, d->node->id, &event, inst->id, err)
                   : (*err = why, false);
    }
    d->under_way++;
    return true;
}

/* When it is to be moved: what its owner was told, if that may have been put off. */
static bool
is_due(const struct drain *d, const struct row_instance *inst, bool *out,
       struct err *err)
{
    const struct row_instance_event *event = NULL;
    if (str_eq(inst->want_state, "running") &&
        !instance_event_standing(d->pass->txn, inst, INSTANCE_EVENT_MAINTENANCE, &event,
                                 err)) {
        return false;
    }
    *out = d->pass->now_ns >= (event ? event->not_before : d->node->drain_at);
    return true;
}

/* Of those that are wanted in 'state', as many as may be under way. */
static bool
move_all(struct drain *d, const char *state, struct err *err)
{
    size_t most = migrations_at_once(d->pass->config);
    for (size_t i = 0; i < d->machines.count && d->under_way < most; i++) {
        const struct row_instance *inst = d->machines.rows[i];
        bool due;
        if (inst->terminated_at || !str_eq(inst->want_state, state) ||
            !str_empty(inst->migration_id)) {
            continue;
        }
        if (!is_due(d, inst, &due, err) || (due && !move(d, inst, err))) {
            return false;
        }
    }
    return true;
}

bool
drain_pass(const struct pass *pass, const char *account UNUSED, const char *id,
           struct err *err)
{
    struct drain d = {.pass = pass};
    if (!load(&d, id, err)) {
        return false;
    }
    bool drains = d.node && d.node->draining && str_eq(d.node->state, "active");
    return !drains || (move_all(&d, "running", err) && move_all(&d, "stopped", err));
}

bool
drain_tell(const struct pass *pass, const struct row_instance *inst, struct err *err)
{
    const struct row_node key = {.id = inst->node_id};
    const struct row_node *node = NULL;
    bool runs = !inst->terminated_at && str_eq(inst->want_state, "running");
    if (!str_empty(inst->migration_id)) {
        return true; /* Whose end says that what was scheduled is completed. */
    }
    if (runs && !str_empty(inst->node_id) &&
        !row_get(pass->txn, &row_node_type, &key, (const void **)&node, err)) {
        return false;
    }
    return node && node->draining
               ? instance_event_drain(pass->txn, pass->rng, inst, node, pass->now_ns,
                                      err)
               : instance_event_end(pass->txn, inst->account, inst->id,
                                    INSTANCE_EVENT_MAINTENANCE, runs, pass->now_ns,
                                    err);
}

bool
drains_look(const struct pass *pass, const char *account, const char *id UNUSED,
            struct err *err)
{
    const struct row_node prefix = {.draining = true};
    const struct row_query query = {
        .index = "by_draining", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(pass->txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_node *node = list.rows[i];
        if (!drain_pass(pass, account, node->id, err)) {
            return false;
        }
    }
    return true;
}
