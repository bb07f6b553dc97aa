/* migration_way.c - see migration_way.h. */
#include "core/migration_way.h"

static bool
is_allowed(struct txn *txn, const struct row_instance *inst, bool *out, struct err *err)
{
    const struct row_tag key = {.account = inst->account,
                                .region = inst->region,
                                .resource_id = inst->id,
                                .tag_key = MIGRATION_TAG};
    const struct row_tag *tag;
    if (!row_get(txn, &row_tag_type, &key, (const void **)&tag, err)) {
        return false;
    }
    *out = tag && str_eq(tag->value, MIGRATION_TAG_POST_COPY);
    return true;
}

/* The receiver's emulator waits in the kernel for pages that are still on their way. */
static bool
is_able(struct txn *txn, const char *node_id, bool *out, struct err *err)
{
    const struct row_node_seen key = {.id = node_id};
    const struct row_node_seen *seen;
    if (!row_get(txn, &row_node_seen_type, &key, (const void **)&seen, err)) {
        return false;
    }
    *out = seen && seen->post_copy;
    return true;
}

static void
refuse_post_copy(const struct row_instance *inst, const struct migration_ask *ask,
                 bool allowed, bool able, struct err *out)
{
    if (!able) {
        err_set(out, ERR_RESOURCE_IN_USE,
                "no memory may follow a guest to %s, whose emulators are not "
                "allowed userfaultfd: set vm.unprivileged_userfaultfd to 1 there "
                "(moln doctor looks at it), or move it without post-copy",
                ask->to_node);
    } else if (!allowed && !ask->force) {
        err_set(out, ERR_RESOURCE_IN_USE,
                "%s needs two hosts for a while when its memory follows it, which its "
                "owner has not allowed by the tag " MIGRATION_TAG
                "=" MIGRATION_TAG_POST_COPY ": force it, or move it without post-copy",
                inst->id);
    }
}

bool
migration_way_of(struct txn *txn, const struct row_instance *inst,
                 const struct migration_ask *ask, struct migration_way *out,
                 struct err *err)
{
    struct forecast_ask how = {.to_node = ask->to_node,
                               .bandwidth_bps = ask->bandwidth_bps,
                               .downtime_limit_ms = ask->downtime_limit_ms,
                               .at_once = ask->at_once,
                               .post_copy = ask->post_copy};
    struct migration_way way = {.post_copy = ask->post_copy};
    bool allowed, able;
    if (!is_allowed(txn, inst, &allowed, err) ||
        !is_able(txn, ask->to_node, &able, err) ||
        !forecast_of(txn, inst, &how, &way.forecast, err)) {
        return false;
    }
    if (way.post_copy) {
        refuse_post_copy(inst, ask, allowed, able, &way.refusal);
    } else if (way.forecast.end == FORECAST_NEVER && ask->may_follow && allowed &&
               able) {
        way.post_copy = how.post_copy = true;
        if (!forecast_of(txn, inst, &how, &way.forecast, err)) {
            return false;
        }
    } else if (!ask->force) {
        forecast_refuse(inst, &way.forecast, txn_arena(txn), &way.refusal);
    }
    *out = way;
    return true;
}
