/* migrations.c - instances moved from node to node, while they run or are stopped. */
#include "base/map.h"
#include "core/migration_rows.h"
#include "core/rebalance.h"
#include "service/moln/operators.h"

/* What an operator may have to do something about comes before the row's own state. */
static const char *
state_out(const struct row_migration *m)
{
    bool behind =
        str_eq(m->state, "switching") &&
        (str_eq(m->take_state, "following") || str_eq(m->take_state, "interrupted"));
    return behind ? m->take_state : m->state;
}

static struct moln_migration
migration_out(const struct row_migration *m)
{
    return (struct moln_migration){
        .migration_id = m->id,
        .instance_id = m->instance_id,
        .account_id = m->account,
        .from_node = m->from_node,
        .to_node = m->to_node,
        .state = state_out(m),
        HAS(post_copy, m->post_copy),
        HAS(stopped, m->cold),
        .reason = m->reason,
        .message = str_empty(m->message) ? NULL : m->message,
        HAS_TIME(created_at, m->created_at),
        HAS_TIME(switched_at, m->switched_at),
        HAS_TIME(ended_at, m->ended_at),
        HAS(disk_bytes, m->disk_bytes),
        HAS(disk_done_bytes, m->disk_done_bytes),
        HAS(memory_bytes, m->memory_bytes),
        HAS(memory_left_bytes, m->memory_left_bytes),
        HAS(memory_sent_bytes, m->memory_sent_bytes),
        HAS(dirty_bits_per_second, m->dirty_bps),
        HAS(copy_bits_per_second, m->copy_bps),
        HAS(passes, m->passes),
        HAS(forecast_milliseconds, m->forecast_ms),
        HAS(forecast_downtime_milliseconds, m->forecast_downtime_ms),
        HAS(downtime_milliseconds, m->downtime_ms),
        HAS(elapsed_milliseconds, m->elapsed_ms),
    };
}

static struct moln_migration *
migration_out_one(struct call *call, const struct row_migration *m)
{
    struct moln_migration *out = ARENA_NEW(call->arena, struct moln_migration);
    *out = migration_out(m);
    return out;
}

/* Of any account: operators name an instance by its id alone. */
static bool
instance_any(struct call *call, const char *id, const struct row_instance **out,
             struct err *err)
{
    const struct row_instance prefix = {.id = id};
    const struct row_query query = {
        .index = "by_id", .prefix = &prefix, .prefix_fields = 1};
    struct row_list list;
    if (!row_list(call->txn, &row_instance_type, &query, &list, err)) {
        return false;
    }
    if (list.count == 0) {
        return err_no(err, "instance", id);
    }
    *out = list.rows[0];
    return true;
}

/* As it was asked for, or else as the operator set it for all. */
static int64_t
limit_of(const struct call *call, int64_t asked_bps)
{
    return asked_bps > 0 ? asked_bps : call->config->migration_bps;
}

bool
moln_start_migration(struct call *call, const struct moln_start_migration_request *in,
                     struct moln_start_migration_response *out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_migration *m;
    struct migration_ask ask = {
        .reason = "asked",
        .bandwidth_bps = limit_of(call, in->bits_per_second),
        .downtime_limit_ms = in->downtime_limit_milliseconds,
        .force = in->has_force && in->force,
        .post_copy = in->post_copy,
    };
    if (!instance_any(call, in->instance_id, &inst, err) ||
        !migration_may_begin(call->txn, inst, err) ||
        !migration_choose(call->txn, call->pool, call->config, inst, in->to_node,
                          &ask.to_node, err) ||
        !migration_begin(call->txn, inst, &ask, call->rng, call->now_ns, &m, err)) {
        return false;
    }
    out->migration = migration_out_one(call, m);
    return true;
}

static bool
migration_find(struct call *call, const char *id, const struct row_migration **out,
               struct err *err)
{
    return migration_get(call->txn, id, out, err) &&
           (*out || err_no(err, "migration", id));
}

bool
moln_cancel_migration(struct call *call, const struct moln_cancel_migration_request *in,
                      struct moln_cancel_migration_response *out, struct err *err)
{
    const struct row_migration *m;
    if (!migration_find(call, in->migration_id, &m, err)) {
        return false;
    }
    if (!str_eq(m->state, "preparing") && !str_eq(m->state, "copying")) {
        return err_set(err, ERR_RESOURCE_IN_USE, "%s is %s: too late to cancel it",
                       m->id, m->state);
    }
    struct row_migration next = *m;
    next.cancelled = true;
    out->migration = migration_out_one(call, &next);
    return row_put(call->txn, &row_migration_type, &next, err);
}

bool
moln_describe_migration(struct call *call,
                        const struct moln_describe_migration_request *in,
                        struct moln_describe_migration_response *out, struct err *err)
{
    const struct row_migration *m;
    if (!migration_find(call, in->migration_id, &m, err)) {
        return false;
    }
    out->migration = migration_out_one(call, m);
    return true;
}

bool
moln_list_migrations(struct call *call, const struct moln_list_migrations_request *in,
                     struct moln_list_migrations_response *out, struct err *err)
{
    struct listing listing;
    struct row_list list;
    const char *query = arena_printf(
        call->arena, "%s/%d", in->instance_id ? in->instance_id : "", in->open_only);
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, query,
                      &listing, err) ||
        !row_all(call, &row_migration_type, &list, err)) {
        return false;
    }
    struct moln_migration *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_migration);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_migration *m = list.rows[i];
        if ((in->instance_id && !str_eq(m->instance_id, in->instance_id)) ||
            (in->open_only && !migration_is_open(m)) ||
            !listing_take(&listing, m->id)) {
            continue;
        }
        items[count++] = migration_out(m);
    }
    out->migrations.items = items;
    out->migrations.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}

/* ---- ForecastMigrations ---- */

/* One instance's; that it cannot be moved now is an answer too. */
static bool
forecast_one(struct call *call, const struct row_instance *inst, const char *to_node,
             struct migration_ask *ask, struct moln_forecast *out, struct err *err)
{
    struct migration_way way;
    const struct forecast *f = &way.forecast;
    struct err why = {0};
    *out = (struct moln_forecast){.instance_id = inst->id, .from_node = inst->node_id};
    if (!migration_may_begin(call->txn, inst, &why) ||
        !(to_node ? migration_choose(call->txn, call->pool, call->config, inst, to_node,
                                     &ask->to_node, &why)
                  : migration_choose_for(call->txn, call->pool, call->config, inst, ask,
                                         &why))) {
        out->refusal = arena_strdup(call->arena, why.msg);
        return migration_waits(&why) || (*err = why, false);
    }
    if (!migration_way_of(call->txn, inst, ask, &way, err)) {
        return false;
    }
    *out = (struct moln_forecast){
        .instance_id = inst->id,
        .from_node = inst->node_id,
        .to_node = ask->to_node,
        .refusal = way.refusal.code == ERR_NONE
                       ? NULL
                       : arena_strdup(call->arena, way.refusal.msg),
        .convergence = forecast_end_text(f->end),
        .basis = forecast_text(call->arena, f),
        HAS(total_milliseconds, f->total_ms),
        HAS(downtime_milliseconds, f->downtime_ms),
        HAS(slowed_percent, f->slowed_percent),
        HAS(passes, f->passes),
        HAS(memory_bytes, f->basis.memory_bytes),
        HAS(disk_bytes, f->basis.disk_bytes),
        HAS(way_bits_per_second, f->basis.way_bps),
        .dirty_bits_per_second = f->basis.dirty_bps,
        .has_dirty_bits_per_second = f->basis.dirty_bps > 0,
    };
    return true;
}

/* What is on a node, as a drain finds it. */
static bool
movable_on(struct call *call, const char *node_id, struct row_list *out,
           struct err *err)
{
    const struct row_node *node;
    if (!node_find(call, node_id, &node, err) ||
        !instances_on(call->txn, node_id, out, err)) {
        return false;
    }
    size_t count = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct row_instance *inst = out->rows[i];
        if (!inst->terminated_at && !str_eq(inst->want_state, "terminated")) {
            out->rows[count++] = inst;
        }
    }
    out->count = count;
    return true;
}

bool
moln_forecast_migrations(struct call *call,
                         const struct moln_forecast_migrations_request *in,
                         struct moln_forecast_migrations_response *out, struct err *err)
{
    struct migration_ask ask = {.bandwidth_bps = limit_of(call, in->bits_per_second),
                                .downtime_limit_ms = in->downtime_limit_milliseconds,
                                .may_follow = in->node_id != NULL};
    const struct row_instance *inst;
    const void *one[1];
    int64_t sum_ms = 0;
    struct row_list list = {.rows = one, .count = 1};
    if (!in->instance_id == !in->node_id || (in->node_id && in->to_node)) {
        return err_set(err, ERR_VALIDATION,
                       "Name either InstanceId, and ToNode if you like, or NodeId");
    }
    if (in->instance_id) {
        if (!instance_any(call, in->instance_id, &inst, err)) {
            return false;
        }
        one[0] = inst;
    } else if (!movable_on(call, in->node_id, &list, err)) {
        return false;
    }
    struct moln_forecast *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_forecast);
    ask.at_once = (int64_t)MIN(list.count, migrations_at_once(call->config));
    for (size_t i = 0; i < list.count; i++) {
        if (!forecast_one(call, list.rows[i], in->to_node, &ask, &items[i], err)) {
            return false;
        }
        sum_ms += items[i].refusal ? 0 : items[i].total_milliseconds;
    }
    out->total_milliseconds = sum_ms / MAX(ask.at_once, 1);
    out->has_total_milliseconds = true;
    out->forecasts.items = items;
    out->forecasts.count = list.count;
    return true;
}

/* ---- RebalanceZone ---- */

#define MOVES 4 /* At once, unless more are asked for. */

/* A zone's hosts, and the machines on them that could be moved now. */
struct zone_load {
    struct rebalance_host *hosts;
    size_t host_count;
    VEC(struct rebalance_machine) machines;
    VEC(const struct row_instance *) rows; /* Beside 'machines'. */
};

static bool
machines_load(struct call *call, struct zone_load *zone, size_t host, struct err *err)
{
    struct row_list list;
    if (!instances_on(call->txn, zone->hosts[host].id, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_instance *inst = list.rows[i];
        struct err why = {0};
        if (inst->terminated_at || !migration_may_begin(call->txn, inst, &why)) {
            continue;
        }
        const struct rebalance_machine machine = {
            .host = host,
            .claim = {.vcpus = inst->vcpus,
                      .memory_bytes = inst->claim_memory_bytes,
                      .machines = 1}};
        VEC_PUSH(&zone->machines, machine);
        VEC_PUSH(&zone->rows, inst);
    }
    return true;
}

static bool
zone_load(struct call *call, const char *region, const char *name,
          struct zone_load *zone, struct err *err)
{
    const struct row_node prefix = {.region = region, .zone = name};
    const struct row_query query = {
        .index = "by_zone", .prefix = &prefix, .prefix_fields = 2};
    struct row_list list;
    if (!row_list(call->txn, &row_node_type, &query, &list, err)) {
        return false;
    }
    zone->hosts = ARENA_ARRAY(call->arena, list.count, struct rebalance_host);
    for (size_t i = 0; i < list.count; i++) {
        struct node_view view;
        if (!node_view_load(call, list.rows[i], &view, err)) {
            return false;
        }
        const struct row_node *node = view.rows.node;
        zone->hosts[zone->host_count++] = (struct rebalance_host){
            .id = node->id,
            .kind = view.rows.seen ? view.rows.seen->accel : NULL,
            .open = view.host.closed == PLACEMENT_FITS && !str_empty(node->underlay) &&
                    !node->local,
            .ceiling = view.host.ceiling,
            .claimed = view.host.claimed,
        };
    }
    for (size_t i = 0; i < zone->host_count; i++) {
        if (!machines_load(call, zone, i, err)) {
            return false;
        }
    }
    return true;
}

/* What placement refuses after all is left where it is. */
static bool
rebalance_one(struct call *call, const struct row_instance *inst, const char *to,
              bool dry_run, struct moln_migration *out, size_t *count, struct err *err)
{
    struct migration_ask ask = {.reason = "rebalance",
                                .bandwidth_bps = limit_of(call, 0)};
    const struct row_migration *m;
    struct err why = {0};
    if (!migration_choose(call->txn, call->pool, call->config, inst, to, &ask.to_node,
                          &why)) {
        return migration_waits(&why) || (*err = why, false);
    }
    if (dry_run) {
        struct migration_way way;
        if (!migration_way_of(call->txn, inst, &ask, &way, err)) {
            return false;
        }
        out[(*count)++] = (struct moln_migration){
            .instance_id = inst->id,
            .account_id = inst->account,
            .from_node = inst->node_id,
            .to_node = ask.to_node,
            .reason = ask.reason,
            HAS(forecast_milliseconds, way.forecast.total_ms),
            HAS(forecast_downtime_milliseconds, way.forecast.downtime_ms)};
        return true;
    }
    if (!migration_begin(call->txn, inst, &ask, call->rng, call->now_ns, &m, &why)) {
        return migration_waits(&why) || (*err = why, false);
    }
    out[(*count)++] = migration_out(m);
    return true;
}

static bool
rebalance(struct call *call, struct zone_load *zone, size_t max, bool dry_run,
          struct moln_rebalance_zone_response *out, struct err *err)
{
    struct rebalance_move *moves = ARENA_ARRAY(call->arena, max, struct rebalance_move);
    struct moln_migration *items = ARENA_ARRAY(call->arena, max, struct moln_migration);
    size_t count = 0;
    size_t planned = rebalance_plan(zone->hosts, zone->host_count, zone->machines.items,
                                    zone->machines.count, max, moves);
    for (size_t i = 0; i < planned; i++) {
        if (!rebalance_one(call, zone->rows.items[moves[i].machine],
                           zone->hosts[moves[i].to].id, dry_run, items, &count, err)) {
            return false;
        }
    }
    out->migrations.items = items;
    out->migrations.count = count;
    return true;
}

bool
moln_rebalance_zone(struct call *call, const struct moln_rebalance_zone_request *in,
                    struct moln_rebalance_zone_response *out, struct err *err)
{
    const struct region_config *region = region_of_zone(call->config, in->zone);
    struct zone_load zone = {0};
    if (!region) {
        return err_no(err, "zone", in->zone);
    }
    size_t max = in->has_max_migrations ? (size_t)in->max_migrations : MOVES;
    bool ok = zone_load(call, region->name, in->zone, &zone, err) &&
              rebalance(call, &zone, max, in->dry_run, out, err);
    VEC_FREE(&zone.machines);
    VEC_FREE(&zone.rows);
    return ok;
}
