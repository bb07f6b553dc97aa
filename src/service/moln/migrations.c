/* migrations.c - instances moved from node to node while they run. */
#include "core/migration_rows.h"
#include "service/moln/operators.h"

static struct moln_migration
migration_out(const struct row_migration *m)
{
    return (struct moln_migration){
        .migration_id = m->id,
        .instance_id = m->instance_id,
        .account_id = m->account,
        .from_node = m->from_node,
        .to_node = m->to_node,
        .state = m->state,
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

bool
moln_start_migration(struct call *call, const struct moln_start_migration_request *in,
                     struct moln_start_migration_response *out, struct err *err)
{
    const struct row_instance *inst;
    const struct row_migration *m;
    struct migration_ask ask = {
        .reason = "asked",
        .bandwidth_bps = in->bits_per_second,
        .downtime_limit_ms = in->downtime_limit_milliseconds,
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
