#include "core/instance_events.h"

#include "core/id.h"

bool
instance_events_of(struct txn *txn, const char *account, const char *instance_id,
                   struct row_list *out, struct err *err)
{
    const struct row_instance_event prefix = {.account = account,
                                              .instance_id = instance_id};
    const struct row_query query = {.prefix = &prefix, .prefix_fields = 2};
    return row_list(txn, &row_instance_event_type, &query, out, err);
}

bool
instance_event_visible(const struct row_instance_event *event, int64_t now_ns)
{
    return event->ended_at == 0 || now_ns < event->ended_at + INSTANCE_EVENT_VISIBLE_NS;
}

/* The event of 'code' that stands, or NULL. */
static const struct row_instance_event *
standing(const struct row_list *events, const char *code)
{
    for (size_t i = 0; i < events->count; i++) {
        const struct row_instance_event *event = events->rows[i];
        if (event->ended_at == 0 && str_eq(event->code, code)) {
            return event;
        }
    }
    return NULL;
}

bool
instance_event_put(struct txn *txn, const struct rng *rng,
                   const struct row_instance *inst, const struct instance_event *event,
                   struct err *err)
{
    struct row_list events;
    if (!instance_events_of(txn, inst->account, inst->id, &events, err)) {
        return false;
    }
    const struct row_instance_event *old = standing(&events, event->code);
    const struct row_instance_event next = {
        .account = inst->account,
        .instance_id = inst->id,
        .id = old ? old->id : id_new(txn_arena(txn), rng, "instance-event"),
        .code = event->code,
        .description = event->description,
        .not_before = event->not_before,
        .not_after = event->not_after,
        .not_before_deadline = event->not_before_deadline,
    };
    return (old && desc_equal(row_instance_event_type.desc, old, &next)) ||
           row_put(txn, &row_instance_event_type, &next, err);
}

struct instance_event
instance_event_of_drain(const struct row_node *node, int64_t now_ns)
{
    static const char text[] = "The instance is moved to another host while it runs.";
    return (struct instance_event){
        .code = INSTANCE_EVENT_MAINTENANCE,
        .description = text,
        .not_before = node->drain_at ? node->drain_at : now_ns,
        .not_before_deadline = node->drain_deadline,
    };
}

bool
instance_event_standing(struct txn *txn, const struct row_instance *inst,
                        const char *code, const struct row_instance_event **out,
                        struct err *err)
{
    struct row_list events;
    if (!instance_events_of(txn, inst->account, inst->id, &events, err)) {
        return false;
    }
    *out = standing(&events, code);
    return true;
}

bool
instance_event_drain(struct txn *txn, const struct rng *rng,
                     const struct row_instance *inst, const struct row_node *node,
                     int64_t now_ns, struct err *err)
{
    const struct instance_event event = instance_event_of_drain(node, now_ns);
    const struct row_instance_event *old;
    return instance_event_standing(txn, inst, event.code, &old, err) &&
           (old || instance_event_put(txn, rng, inst, &event, err));
}

/* Those that are no longer shown go on the way. */
bool
instance_event_end(struct txn *txn, const char *account, const char *instance_id,
                   const char *code, bool canceled, int64_t now_ns, struct err *err)
{
    struct row_list events;
    if (!instance_events_of(txn, account, instance_id, &events, err)) {
        return false;
    }
    for (size_t i = 0; i < events.count; i++) {
        const struct row_instance_event *event = events.rows[i];
        if (!instance_event_visible(event, now_ns) &&
            !row_delete(txn, &row_instance_event_type, event, err)) {
            return false;
        }
    }
    const struct row_instance_event *stands = standing(&events, code);
    if (!stands) {
        return true;
    }
    struct row_instance_event next = *stands;
    next.ended_at = now_ns;
    next.canceled = canceled;
    return row_put(txn, &row_instance_event_type, &next, err);
}

bool
instance_events_drop(struct txn *txn, const char *account, const char *instance_id,
                     struct err *err)
{
    struct row_list events;
    if (!instance_events_of(txn, account, instance_id, &events, err)) {
        return false;
    }
    for (size_t i = 0; i < events.count; i++) {
        if (!row_delete(txn, &row_instance_event_type, events.rows[i], err)) {
            return false;
        }
    }
    return true;
}
